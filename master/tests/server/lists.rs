//! Lists in pages.

use apportion_proto::v1;
use apportion_types::protocol::scheduler::{Accept, Call};
use tonic::Code;

use crate::harness::{Agent, Master, config, framework, refused, task};

/// Agents that stay connected as long as they are kept.
async fn agents(master: &Master, count: usize) -> Vec<Agent> {
    let mut agents = Vec::new();
    for _ in 0..count {
        let mut agent = master.agent().await;
        agent.register("cpus:1;mem:1024").await;
        agents.push(agent);
    }
    agents
}

#[tokio::test]
async fn every_agent_is_on_one_page_over_either_way() {
    let master = Master::start(config()).await;
    let _agents = agents(&master, 5).await;
    let mut operator = master.operator().await;
    let (mut ids, mut token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = v1::ListAgentsRequest { page_size: 2, page_token: token, ..Default::default() };
        let page = operator.list_agents(request).await.unwrap().into_inner();
        ids.extend(page.agents.into_iter().map(|agent| agent.agent_id));
        pages += 1;
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((ids.len(), pages), (5, 3));
    assert!(ids.is_sorted_by(|one, next| one < next), "{ids:?}");

    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let page = master.json(&format!("/api/v1/agents?page_size=3&page_token={token}")).await;
        let ids = page["agents"].as_array().unwrap().iter();
        listed.extend(ids.map(|agent| agent["agent_id"].as_str().unwrap().to_owned()));
        token = page["next_page_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ids);
    let one = master.json(&format!("/api/v1/agents?agent_id={}", ids[3])).await;
    assert_eq!(one["agents"][0]["agent_id"], ids[3].as_str());
}

#[tokio::test]
async fn a_page_goes_on_behind_an_agent_that_is_gone() {
    let master = Master::start(config()).await;
    let mut agents = agents(&master, 3).await;
    let mut operator = master.operator().await;
    let first = v1::ListAgentsRequest { page_size: 1, ..Default::default() };
    let first = operator.list_agents(first).await.unwrap().into_inner();
    let message = "done".to_owned();
    agents[0].send(apportion_types::protocol::agent::AgentMessage::Unregister { message }).await;
    assert_eq!(agents[0].message().await.unwrap(), None);
    let rest = v1::ListAgentsRequest { page_token: first.next_page_token, ..Default::default() };
    let rest = operator.list_agents(rest).await.unwrap().into_inner();
    assert_eq!((rest.agents.len(), rest.next_page_token.as_str()), (2, ""));
    assert!(rest.agents.iter().all(|agent| agent.agent_id != first.agents[0].agent_id));
}

#[tokio::test]
async fn tasks_of_a_framework_are_listed_in_pages_the_ended_ones_last() {
    let master = Master::start(config()).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    let framework_id = scheduler.subscribe(framework("f")).await;
    agent.register("cpus:8;mem:8192").await;
    let offer = scheduler.offer().await;
    let tasks = (0..5).map(|number| task(&format!("t{number}"), "cpus:1;mem:64")).collect();
    scheduler.call(Call::Accept(Accept::launch(vec![offer.offer_id], tasks, None))).await;
    agent.expect().await;
    let mut operator = master.operator().await;
    let (mut names, mut token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListTasksRequest {
            framework_id: Some(framework_id.to_string()),
            completed: true,
            page_size: 2,
            page_token: token,
            ..Default::default()
        };
        let page = operator.list_tasks(request).await.unwrap().into_inner();
        names.extend(page.tasks.into_iter().map(|task| task.info.unwrap().task_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["t0", "t1", "t2", "t3", "t4"]);
    let teardown = v1::TeardownFrameworkRequest { framework_id: framework_id.to_string() };
    operator.teardown_framework(teardown).await.unwrap();
    let other =
        v1::ListTasksRequest { task_id: Some("t3".to_owned()), completed: true, ..Default::default() };
    let found = operator.list_tasks(other).await.unwrap().into_inner();
    assert_eq!(found.tasks.len(), 1);
}

#[tokio::test]
async fn a_token_that_is_none_and_an_agent_that_is_not_there_are_refused() {
    let master = Master::start(config()).await;
    let _agents = agents(&master, 2).await;
    let mut operator = master.operator().await;
    let page = v1::ListAgentsRequest { page_size: 1, ..Default::default() };
    let token = operator.list_agents(page).await.unwrap().into_inner().next_page_token;
    for page_token in ["x".to_owned(), format!("{token}0"), "6".repeat(1000)] {
        let request = v1::ListAgentsRequest { page_token: page_token.clone(), ..Default::default() };
        let (code, message) = refused(operator.list_agents(request).await);
        assert_eq!(code, Code::InvalidArgument);
        assert!(message.starts_with("page_token: it is not one of this list"), "{message}");
        let page = master.page(&format!("/api/v1/agents?page_token={page_token}"), "*/*").await;
        assert!(page.status == 400 && page.body.contains("page_token: it is not one"), "{}", page.body);
    }
    let other_list = v1::ListOffersRequest { page_token: token, ..Default::default() };
    assert_eq!(refused(operator.list_offers(other_list).await).0, Code::InvalidArgument);
    let nobody = v1::ListAgentsRequest { agent_id: Some("nobody".to_owned()), ..Default::default() };
    let (code, message) = refused(operator.list_agents(nobody).await);
    assert_eq!((code, message.as_str()), (Code::NotFound, "agent `nobody` does not exist"));
    assert_eq!(master.page("/api/v1/agents?agent_id=nobody", "*/*").await.status, 404);
    let page = master.page("/api/v1/agents?page_size=-1", "*/*").await;
    assert!(page.status == 400 && page.body.contains("page_size"), "{}", page.body);
    let many = master.json("/api/v1/agents?page_size=4294967295").await;
    assert_eq!(many["agents"].as_array().unwrap().len(), 2);
}
