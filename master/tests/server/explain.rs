//! Why a framework is, or is not, offered something.

use apportion_master::Config;
use apportion_proto::v1::{self, Verdict};
use apportion_types::protocol::scheduler::{Call, DeclineCode, DeclineReason};
use serde_json::json;
use tonic::Code;

use crate::harness::{Master, config, framework, refused};

fn about(framework: &str) -> v1::ExplainRequest {
    v1::ExplainRequest { framework: framework.to_owned(), ..Default::default() }
}

#[tokio::test]
async fn a_refusal_shows_with_the_frameworks_own_reason() {
    let rate_limits = [("tester".to_owned(), "100:500".parse().unwrap())].into();
    let master = Master::start(Config { rate_limits, ..config() }).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    let id = scheduler.subscribe(framework("batch")).await;
    let agent_id = agent.register("cpus:4;mem:4096").await;
    let mut operator = master.operator().await;
    let offer = scheduler.offer().await;
    let held = operator.explain(about("batch")).await.unwrap().into_inner();
    assert_eq!((held.framework_id.as_str(), held.offers), (id.as_str(), 1));
    assert_eq!(held.summary[0], "it holds 1 offers that it has not answered");

    let reason = DeclineReason { code: DeclineCode::TooSmall, detail: "8 cpus are needed".to_owned() };
    let refuse = Some(std::time::Duration::from_secs(3600));
    scheduler.call(Call::Decline { offers: vec![offer.offer_id], refuse, reason }).await;
    master.metric_reaches("apportion_master_offers_declined_total", 1.0).await;
    let explained = operator.explain(about(id.as_str())).await.unwrap().into_inner();
    let role = &explained.roles[0];
    assert_eq!((role.role.as_str(), role.weight_milli), ("*", 1000));
    let verdict = &role.verdicts[0];
    assert_eq!((verdict.code(), verdict.agents), (Verdict::Filtered, 1));
    assert_eq!(verdict.examples[0].agent_id, agent_id.as_str());
    assert!(verdict.examples[0].message.starts_with("the framework refused as much"), "{verdict:?}");
    assert_eq!(explained.declined["too small"], 1);
    assert_eq!(explained.decline_samples[0].detail, "8 cpus are needed");
    let limit = v1::RateLimit { calls_per_second_milli: 100_000, capacity: 500 };
    assert_eq!(explained.rate_limit, Some(limit));
    assert_eq!(master.metric("apportion_master_declines_total{reason=\"too small\"}").await, Some(1.0));
    assert_eq!(
        master.metric("apportion_master_explain_verdicts_total{verdict=\"filtered\"}").await,
        Some(1.0)
    );

    let needs = format!("framework=batch&agent_id={agent_id}&needs=cpus:8");
    let document = master.json(&format!("/api/v1/explain?{needs}")).await;
    assert_eq!((&document["name"], &document["state"]), (&json!("batch"), &json!("active")));
    assert_eq!(document["roles"][0]["verdicts"][0]["agents"], 1);
    let lines = document["summary"].as_array().unwrap();
    assert!(
        lines.iter().any(|line| line.as_str().unwrap() == "it declined 1 offers: too small"),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_framework_is_found_by_a_name_that_is_its_own() {
    let master = Master::start(config()).await;
    let (mut one, mut two) = (master.scheduler().await, master.scheduler().await);
    let first = one.subscribe(framework("twin")).await;
    let second = two.subscribe(framework("twin")).await;
    let mut operator = master.operator().await;
    let (code, message) = refused(operator.explain(about("twin")).await);
    assert_eq!(code, Code::FailedPrecondition);
    assert!(message.contains(first.as_str()) && message.contains("give the id of one"), "{message}");
    let teardown = v1::TeardownFrameworkRequest { framework_id: first.to_string() };
    operator.teardown_framework(teardown).await.unwrap();
    let explained = operator.explain(about("twin")).await.unwrap().into_inner();
    assert_eq!(explained.framework_id, second.as_str());
    let gone = operator.explain(about(first.as_str())).await.unwrap().into_inner();
    assert_eq!(gone.state(), v1::FrameworkState::Removed);
    assert!(gone.roles.is_empty() && gone.summary[0].contains("was removed"), "{gone:?}");
}

#[tokio::test]
async fn questions_about_nothing_are_refused() {
    let master = Master::start(config()).await;
    let mut scheduler = master.scheduler().await;
    scheduler.subscribe(framework("f")).await;
    let mut operator = master.operator().await;
    let long = "x".repeat(100_000);
    for name in ["nobody", "", long.as_str()] {
        let (code, message) = refused(operator.explain(about(name)).await);
        assert!(code == Code::NotFound && message.len() < 200, "{message}");
    }
    let agent = v1::ExplainRequest { agent_id: Some("nobody".to_owned()), ..about("f") };
    let (code, message) = refused(operator.explain(agent).await);
    assert_eq!((code, message.as_str()), (Code::NotFound, "agent `nobody` does not exist"));
    let needs = crate::harness::resources("cpus(eng):1");
    let (code, message) =
        refused(operator.explain(v1::ExplainRequest { needs: Some(needs.into()), ..about("f") }).await);
    assert!(code == Code::InvalidArgument && message.contains("is on terms"), "{message}");
    for (query, status) in [("", 400), ("framework=nobody", 404), ("framework=f&needs=cpus:-1", 400)] {
        let page = master.page(&format!("/api/v1/explain?{query}"), "*/*").await;
        assert_eq!(page.status, status, "{query}: {}", page.body);
    }
}
