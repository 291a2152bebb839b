use apportion_proto::v1::{
    self, agent_service_connect_request::Message, scheduler_service_connect_request::Call as WireCall,
};
use apportion_types::protocol::{
    agent::{AgentMessage, MasterMessage, RefuseCode},
    scheduler::{Call, ErrorCode, Event, Refusal},
};
use tonic::Code;

use crate::harness::{Master, agent_info, config, framework, refused};

#[tokio::test]
async fn a_malformed_call_is_refused_by_its_number_and_path_and_the_stream_goes_on() {
    let master = Master::start(config()).await;
    let mut scheduler = master.scheduler().await;
    scheduler.subscribe(framework("f")).await;
    let kill = v1::Kill { task_id: "a/b".to_owned(), grace_ms: None };
    scheduler
        .send(v1::SchedulerServiceConnectRequest { call_id: 77, call: Some(WireCall::Kill(kill)) })
        .await;
    let Event::Refused { call_id, code, message } = scheduler.expect().await else { panic!("it is refused") };
    assert_eq!((call_id, code), (77, Refusal::Invalid));
    assert!(message.starts_with("kill.task_id: task id `a/b` holds '/'"), "{message}");
    scheduler.send(v1::SchedulerServiceConnectRequest { call_id: 78, call: None }).await;
    let Event::Refused { call_id, message, .. } = scheduler.expect().await else { panic!("it is refused") };
    assert!(call_id == 78 && message.starts_with("call: is missing"), "{message}");
    // The stream goes on.
    let call_id = scheduler
        .call(Call::Subscribe {
            info: framework("f"),
            framework_id: None,
            suppressed: vec![],
            options: Box::default(),
        })
        .await;
    let Event::Refused { call_id: refused, code, .. } = scheduler.expect().await else {
        panic!("it is refused")
    };
    assert_eq!((refused, code), (call_id, Refusal::OutOfOrder));
    assert_eq!(
        master.metric("apportion_master_messages_total{peer=\"scheduler\",kind=\"invalid\"}").await,
        Some(2.0)
    );
}

#[tokio::test]
async fn a_subscription_that_cannot_stand_ends_its_stream() {
    let master = Master::start(config()).await;
    let mut scheduler = master.scheduler().await;
    let info = apportion_types::FrameworkInfo { roles: Vec::new(), ..framework("f") };
    scheduler
        .call(Call::Subscribe { info, framework_id: None, suppressed: Vec::new(), options: Box::default() })
        .await;
    let Event::Error { code, message } = scheduler.expect().await else { panic!("it is refused") };
    assert_eq!(code, ErrorCode::Refused);
    assert!(message.starts_with("subscribe.framework_info.roles: is empty"), "{message}");
    assert_eq!(scheduler.event().await.unwrap(), None);
}

#[tokio::test]
async fn a_malformed_message_ends_an_agents_stream() {
    let master = Master::start(config()).await;
    let mut agent = master.agent().await;
    let mut info = v1::AgentInfo::from(agent_info("cpus:2"));
    info.hostname.clear();
    let register = v1::Register { agent_info: Some(info), ..Default::default() };
    agent.send_wire(v1::AgentServiceConnectRequest { message: Some(Message::Register(register)) }).await;
    let MasterMessage::Refuse { code, message } = agent.expect().await else { panic!("it is refused") };
    assert_eq!(code, RefuseCode::Invalid);
    assert_eq!(message, "register.agent_info.hostname: is empty");
    assert_eq!(agent.message().await.unwrap(), None);
}

#[tokio::test]
async fn operators_are_refused_with_the_code_of_the_matter() {
    let master = Master::start(config()).await;
    let mut operator = master.operator().await;
    let kill = |task_id: &str, grace_ms| v1::KillTaskRequest {
        framework_id: None,
        task_id: task_id.to_owned(),
        grace_ms,
    };
    let (code, message) = refused(operator.kill_task(kill("", None)).await);
    assert!(code == Code::InvalidArgument && message.contains("task_id: task id is empty"), "{message}");
    let (code, message) = refused(operator.kill_task(kill("t", Some(u64::MAX))).await);
    assert!(code == Code::InvalidArgument && message.contains("grace_ms"), "{message}");
    let (code, message) = refused(operator.kill_task(kill("nobody", None)).await);
    assert!(code == Code::NotFound && message.contains("nobody"), "{message}");
    let teardown = v1::TeardownFrameworkRequest { framework_id: "nobody".to_owned() };
    let (code, message) = refused(operator.teardown_framework(teardown).await);
    assert!(code == Code::NotFound && message.contains("nobody"), "{message}");
    let tasks = v1::ListTasksRequest { framework_id: Some("nobody".to_owned()), ..Default::default() };
    let (code, message) = refused(operator.list_tasks(tasks).await);
    assert!(code == Code::NotFound && message.contains("nobody"), "{message}");
    let cluster = operator.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!((cluster.agents, cluster.tasks), (0, 0));
}

#[tokio::test]
async fn a_stream_that_never_said_anything_ends_quietly() {
    let master = Master::start(config()).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    master.metric_reaches("apportion_master_streams{peer=\"agent\"}", 1.0).await;
    scheduler.hang_up();
    agent.hang_up();
    assert_eq!(scheduler.event().await.unwrap(), None);
    assert_eq!(agent.message().await.unwrap(), None);
    assert_eq!(master.metric("apportion_master_streams{peer=\"scheduler\"}").await, Some(0.0));
    let mut agent = master.agent().await;
    agent.send(AgentMessage::Pong { sequence: 1 }).await;
    let MasterMessage::Refuse { code, .. } = agent.expect().await else { panic!("Register comes first") };
    assert_eq!(code, RefuseCode::Invalid);
}
