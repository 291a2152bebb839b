//! Several masters on a real etcd: one leads, the others say so.

use std::time::Duration;

use apportion_master::{Config, ServeError};
use apportion_proto::v1::{
    self, SchedulerServiceConnectRequest, scheduler_service_client::SchedulerServiceClient,
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::sleep,
};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    etcd::Etcd,
    harness::{Master, config, patiently},
};

fn elected(etcd: &Etcd) -> Config {
    Config {
        etcd: Some(etcd.endpoints().parse().unwrap()),
        leader_lease: Duration::from_secs(10),
        ..config()
    }
}

/// What a master says of itself; connections are cut when it begins to lead.
async fn healthz(master: &Master) -> std::io::Result<String> {
    get(master, "/healthz").await
}

async fn get(master: &Master, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(master.address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn says(master: &Master, what: &str) {
    patiently(what, async {
        while !healthz(master).await.is_ok_and(|answer| answer.contains(what)) {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn health(channel: Channel) -> i32 {
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(channel).check(request).await.unwrap().into_inner().status
}

fn leader(status: &Status) -> Option<&str> {
    status.metadata().get("apportion-leader").map(|value| value.to_str().unwrap())
}

#[tokio::test]
async fn a_stand_by_names_the_leader_and_leads_when_that_one_ends() {
    let Some(etcd) = Etcd::start("a stand-by", 1, &[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    let (journal, old) = (folder.path().join("journal"), folder.path().join("journal.old"));
    let recording = || Config { journal: Some(journal.clone()), ..elected(&etcd) };
    let mut first = Master::start(recording()).await;
    says(&first, "200 OK").await;
    let address = first.address.to_string();
    let changes = json!({ "changes": [{ "role": "eng", "weight": "3" }] });
    let page = first.post("/api/v1/roles", &changes).await;
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(health(first.channel().await).await, 1);

    let mut second = Master::start(recording()).await;
    let sentence = format!("this master stands by; {address} leads");
    says(&second, &sentence).await;
    let page = second.page("/api/v1/registry", "*/*").await;
    let read: serde_json::Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!((page.status, &read["leader"]), (200, &json!(address)), "{read}");
    assert_eq!(read["registry"]["roles"][0]["role"], "eng", "{read}");
    assert!(read["age_ms"].is_u64(), "{read}");
    let page = second.page("/api/v1/agents?page_size=1", "*/*").await;
    assert_eq!(page.status, 307);
    assert!(
        page.head.contains(&format!("location: http://{address}/api/v1/agents?page_size=1\r\n")),
        "{}",
        page.head
    );
    let page = second.post("/api/v1/roles", &changes).await;
    assert!(page.status == 503 && page.body.contains(&sentence), "{} {}", page.status, page.body);
    assert!(page.head.contains(&format!("apportion-leader: {address}")), "{}", page.head);
    assert!(journal.exists() && !old.exists(), "what the leader records is its own");
    assert_eq!(second.page("/metrics", "*/*").await.status, 503);
    let channel = second.channel().await;
    assert_eq!(health(channel.clone()).await, 2);
    let refused = second.operator().await.list_agents(v1::ListAgentsRequest::default()).await.unwrap_err();
    let stream = tokio_stream::pending::<SchedulerServiceConnectRequest>();
    let ended = SchedulerServiceClient::new(channel.clone()).connect(stream).await.unwrap_err();
    for status in [refused, ended] {
        assert_eq!((status.code(), status.message()), (Code::Unavailable, sentence.as_str()));
        assert_eq!(leader(&status), Some(address.as_str()));
    }

    // The one resigns, the other serves on its port with what was kept; who was connected to the stand-by connects anew.
    first.stop();
    first.ended().await.unwrap();
    says(&second, "200 OK").await;
    assert!(journal.exists() && old.exists());
    let roles = second.json("/api/v1/roles").await;
    let eng = roles["roles"].as_array().unwrap().iter().find(|role| role["role"] == "eng");
    assert_eq!(eng.unwrap()["weight_milli"], 3000, "{roles:#}");
    let mut operator = second.operator().await;
    operator.list_agents(v1::ListAgentsRequest::default()).await.unwrap();
    let third = Master::start(elected(&etcd)).await;
    says(&third, &format!("{} leads", second.address)).await;
    // Another cluster in the same etcd has a leader of its own.
    let other = Config { cluster: "other".parse().unwrap(), ..elected(&etcd) };
    says(&Master::start(other).await, "200 OK").await;
    second.stop();
    second.ended().await.unwrap();
}

#[tokio::test]
async fn a_master_that_is_back_before_its_lease_has_ended_sends_nobody_to_itself() {
    let Some(etcd) = Etcd::start("a master that is back at once", 1, &[]) else { return };
    let first = Master::start(elected(&etcd)).await;
    says(&first, "200 OK").await;
    let listen = first.address;
    first.abandon().await;
    let mut second = Master::start(Config { listen, ..elected(&etcd) }).await;
    // The leader that etcd still names is at its own address.
    patiently("it to lead", async {
        while !healthz(&second).await.is_ok_and(|answer| answer.contains("200 OK")) {
            let answer = get(&second, "/api/v1/agents").await.unwrap_or_default();
            assert!(!answer.starts_with("HTTP/1.1 307"), "{answer}");
        }
    })
    .await;
    second.stop();
    second.ended().await.unwrap();
}

#[tokio::test]
async fn a_leader_that_etcd_does_not_answer_ends_and_a_stand_by_waits() {
    let Some(mut etcd) = Etcd::start("a leader without etcd", 1, &[]) else { return };
    let first = Master::start(elected(&etcd)).await;
    says(&first, "200 OK").await;
    let mut second = Master::start(elected(&etcd)).await;
    says(&second, "stands by").await;
    let read = second.page("/api/v1/registry", "*/*").await;
    assert_eq!(read.status, 200, "{}", read.body);
    etcd.kill(0);
    let error = first.ended().await.unwrap_err();
    assert!(matches!(&error, ServeError::Deposed { .. }), "{error:?}");
    assert!(error.to_string().contains("leads no longer"), "{error}");
    says(&second, "etcd does not answer").await;
    let old: serde_json::Value =
        serde_json::from_str(&second.page("/api/v1/registry", "*/*").await.body).unwrap();
    assert!(old["leader"].is_null() && old["age_ms"].as_u64() >= Some(1000), "{old}");
    second.stop();
    second.ended().await.unwrap();
}

#[tokio::test]
async fn a_leader_whose_key_somebody_removed_ends() {
    let Some(etcd) = Etcd::start("a leader without its key", 1, &[]) else { return };
    let first = Master::start(elected(&etcd)).await;
    says(&first, "200 OK").await;
    // Its lease goes on, so nothing else would tell it that another one may lead.
    etcd.remove_leader();
    let error = first.ended().await.unwrap_err();
    assert!(
        matches!(&error, ServeError::Deposed { why } if why.contains("its key in etcd is gone")),
        "{error}"
    );
}
