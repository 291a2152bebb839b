use apportion_proto::v1;
use tonic_reflection::pb::v1 as reflection;

use crate::harness::{Master, config};

#[tokio::test]
async fn health_and_the_index_answer() {
    let master = Master::start(config()).await;
    let page = master.page("/healthz", "*/*").await;
    assert_eq!((page.status, page.body.as_str()), (200, "ok\n"));
    let page = master.page("/", "*/*").await;
    assert!(page.status == 200 && page.body.contains("/api/v1/state"), "{}", page.body);
}

#[tokio::test]
async fn a_page_that_is_not_there_says_what_is() {
    let master = Master::start(config()).await;
    let page = master.page("/api/v1/agent", "*/*").await;
    assert_eq!(page.status, 404);
    let document: serde_json::Value = serde_json::from_str(&page.body).unwrap();
    assert_eq!(document["error"], "there is no `/api/v1/agent`");
    assert!(document["pages"].as_array().unwrap().iter().any(|page| page == "/api/v1/agents"));
    let page = master.page("/a&b", "text/html").await;
    assert!(page.status == 404 && page.head.contains("content-type: text/html"), "{}", page.head);
    assert!(page.body.contains("There is no /a&amp;b") && page.body.contains("href=\"/metrics\""));
    let page = master.page("/nothing", "text/plain").await;
    assert!(
        page.status == 404 && page.body.starts_with("There is no /nothing. Served here:"),
        "{}",
        page.body
    );
}

#[tokio::test]
async fn the_state_of_an_empty_cluster_is_empty_but_whole() {
    let master = Master::start(config()).await;
    let state = master.json("/api/v1/state").await;
    assert!(state["cluster"]["master_id"].as_str().unwrap().starts_with('m'));
    assert_eq!(state["cluster"]["total"]["text"], "");
    for list in ["agents", "frameworks", "tasks", "offers"] {
        assert_eq!(state[list], serde_json::json!([]), "{list}");
        let page = master.json(&format!("/api/v1/{list}")).await;
        assert_eq!(page, serde_json::json!({ list: [], "next_page_token": "" }));
    }
    assert_eq!(master.json("/api/v1/cluster").await["agents"], 0);
}

#[tokio::test]
async fn a_query_that_breaks_a_rule_is_refused_by_name() {
    let master = Master::start(config()).await;
    for (query, expected) in [("task_id=a%2Fb", "task id `a/b`"), ("task=x", "unknown field `task`")] {
        let page = master.page(&format!("/api/v1/tasks?{query}"), "*/*").await;
        assert!(page.status == 400 && page.body.contains(expected), "{}", page.body);
    }
}

#[tokio::test]
async fn metrics_are_open_metrics() {
    let master = Master::start(config()).await;
    let page = master.page("/metrics", "*/*").await;
    assert!(page.head.contains("content-type: application/openmetrics-text"), "{}", page.head);
    assert!(page.body.ends_with("# EOF\n"));
    assert_eq!(master.metric("apportion_master_offers_made_total").await, Some(0.0));
    assert_eq!(master.metric("apportion_master_agents{state=\"active\"}").await, Some(0.0));
}

#[tokio::test]
async fn every_service_is_healthy_and_reflected() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };

    let master = Master::start(config()).await;
    let names =
        ["apportion.v1.SchedulerService", "apportion.v1.AgentService", "apportion.v1.OperatorService"];
    let mut health = HealthClient::new(master.channel().await);
    for service in [""].into_iter().chain(names) {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }

    let mut client =
        reflection::server_reflection_client::ServerReflectionClient::new(master.channel().await);
    let request = reflection::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(reflection::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let reflection::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}")
    };
    let listed: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in names.into_iter().chain(["grpc.health.v1.Health"]) {
        assert!(listed.contains(&name), "{name} in {listed:?}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_unimplemented() {
    let master = Master::start(config()).await;
    let mut client =
        apportion_proto::v1::sandbox_service_client::SandboxServiceClient::new(master.channel().await);
    let status = client.read_file(v1::ReadFileRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert!(
        status.message().contains("there is no service for `/apportion.v1.SandboxService/ReadFile`"),
        "{status}"
    );
}
