use std::time::Duration;

use apportion_master::Config;
use apportion_proto::v1;
use apportion_types::{
    Reason, Source, TaskState, TaskStatus, Time, UpdateId,
    protocol::{
        agent::{AgentMessage, AgentTask, MasterMessage},
        scheduler::{Accept, Call, Event},
    },
};

use crate::harness::{Agent, Master, Scheduler, agent_info, config, framework, resources, task};

pub(crate) fn status(
    agent_id: &apportion_types::AgentId,
    id: &str,
    state: TaskState,
    sequence: u64,
) -> TaskStatus {
    TaskStatus {
        task_id: apportion_types::TaskId::new(id).unwrap(),
        agent_id: Some(agent_id.clone()),
        state,
        reason: None,
        source: Source::Agent,
        message: "as it was".to_owned(),
        at: Time::from_micros(sequence),
        update_id: Some(UpdateId::new(7, sequence)),
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    }
}

/// The agent says a state, the scheduler hears it and acknowledges, the agent hears that.
async fn advance(
    scheduler: &mut Scheduler,
    agent: &mut Agent,
    framework_id: &apportion_types::FrameworkId,
    said: TaskStatus,
) {
    let framework_id = framework_id.clone();
    let latest_state = said.state;
    let message =
        AgentMessage::StatusUpdate { framework_id: framework_id.clone(), status: said.clone(), latest_state };
    agent.send(message).await;
    let heard = scheduler.update(said.state).await;
    assert_eq!(heard, said);
    let (agent_id, update_id) = (said.agent_id.unwrap(), said.update_id.unwrap());
    scheduler.call(Call::Acknowledge { agent_id, task_id: said.task_id.clone(), update_id }).await;
    let acknowledged = MasterMessage::AcknowledgeUpdate { framework_id, task_id: said.task_id, update_id };
    assert_eq!(agent.expect().await, acknowledged);
}

#[tokio::test]
async fn from_registration_to_the_last_acknowledgement() {
    let master = Master::start(config()).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    let framework_id = scheduler.subscribe(framework("f")).await;
    let agent_id = agent.register("cpus:4;mem:4096;ports:[31000-31009]").await;
    let offer = scheduler.offer().await;
    assert_eq!((&offer.framework_id, &offer.agent_id), (&framework_id, &agent_id));
    assert_eq!(offer.resources, resources("cpus:4;mem:4096;ports:[31000-31009]"));
    assert_eq!(offer.place.attributes["rack"], "r1");

    let info = task("t", "cpus:1;mem:512");
    let refuse = Some(Duration::from_secs(3600));
    scheduler.call(Call::Accept(Accept::launch(vec![offer.offer_id], vec![info.clone()], refuse))).await;
    let MasterMessage::RunTasks { framework_id: of, tasks, .. } = agent.expect().await else {
        panic!("it is to run")
    };
    assert_eq!((of, tasks), (framework_id.clone(), vec![info.into()]));

    advance(&mut scheduler, &mut agent, &framework_id, status(&agent_id, "t", TaskState::Starting, 1)).await;
    advance(&mut scheduler, &mut agent, &framework_id, status(&agent_id, "t", TaskState::Running, 2)).await;

    // Operators see it, over gRPC and as JSON.
    let mut operator = master.operator().await;
    let agents = operator.list_agents(v1::ListAgentsRequest::default()).await.unwrap().into_inner().agents;
    assert_eq!((agents[0].agent_id.as_str(), agents[0].tasks), (agent_id.as_str(), 1));
    let tasks = operator.list_tasks(v1::ListTasksRequest::default()).await.unwrap().into_inner().tasks;
    assert_eq!(tasks[0].state(), v1::TaskState::Running);
    assert_eq!(tasks[0].agent_address, "127.0.0.1:5051");
    let frameworks =
        operator.list_frameworks(v1::ListFrameworksRequest::default()).await.unwrap().into_inner().frameworks;
    assert_eq!((frameworks[0].framework_id.as_str(), frameworks[0].tasks), (framework_id.as_str(), 1));
    let cluster = operator.get_cluster(v1::GetClusterRequest {}).await.unwrap().into_inner();
    assert_eq!((cluster.agents, cluster.frameworks, cluster.tasks), (1, 1, 1));
    let listed = master.json("/api/v1/tasks?task_id=t").await;
    assert_eq!(listed["tasks"][0]["state"], "running");
    assert_eq!(listed["tasks"][0]["env"], serde_json::json!(["TOKEN"]), "values may be secrets");
    assert_eq!(listed["tasks"][0]["resources"]["text"], "cpus:1;mem:512");
    assert_eq!(listed["tasks"][0]["resources"]["scalars"]["cpus"], 1.0);
    let cluster = master.json("/api/v1/cluster").await;
    assert_eq!(cluster["allocated"]["text"], "cpus:1;mem:512");
    assert_eq!(master.metric("apportion_master_tasks{state=\"running\"}").await, Some(1.0));
    assert_eq!(master.metric("apportion_master_memory_bytes{kind=\"allocated\"}").await, Some(536870912.0));
    assert!(master.metric("apportion_master_allocation_cycle_duration_seconds_count").await.unwrap() >= 1.0);

    // An operator's kill reaches the agent with its reason.
    let kill = v1::KillTaskRequest { framework_id: None, task_id: "t".to_owned(), grace_ms: Some(5) };
    let answer = operator.kill_task(kill).await.unwrap().into_inner();
    assert_eq!(answer.framework_id, framework_id.as_str());
    let MasterMessage::KillTask { grace, reason, .. } = agent.expect().await else {
        panic!("it is to be killed")
    };
    assert_eq!((grace, reason), (Some(Duration::from_millis(5)), Reason::KilledByOperator));
    advance(&mut scheduler, &mut agent, &framework_id, status(&agent_id, "t", TaskState::Killed, 3)).await;

    // What it held is offered again, without the filter: there is more than what was refused.
    let offer = scheduler.offer().await;
    assert_eq!(offer.resources, resources("cpus:4;mem:4096;ports:[31000-31009]"));
    master.metric_reaches("apportion_master_tasks_ended_total{state=\"killed\"}", 1.0).await;
    assert_eq!(master.json("/api/v1/tasks").await["tasks"], serde_json::json!([]));
    assert_eq!(master.json("/api/v1/tasks?completed=true").await["tasks"][0]["state"], "killed");
    assert_eq!(master.json("/api/v1/offers").await["offers"][0]["offer_id"], offer.offer_id.as_str());

    // A torn-down framework is told, and its stream ends.
    let teardown = v1::TeardownFrameworkRequest { framework_id: framework_id.to_string() };
    operator.teardown_framework(teardown).await.unwrap();
    let Event::Error { code, .. } = scheduler.expect().await else { panic!("its stream ends") };
    assert_eq!(code, apportion_types::protocol::scheduler::ErrorCode::Removed);
    assert_eq!(scheduler.event().await.unwrap(), None);
}

#[tokio::test]
async fn a_bad_task_of_an_accept_is_answered_alone() {
    let master = Master::start(config()).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    scheduler.subscribe(framework("f")).await;
    agent.register("cpus:4;mem:4096").await;
    let offer = scheduler.offer().await;
    let mut bad = task("bad", "cpus:1;mem:512");
    bad.command.argv = vec!["a\0b".to_owned()];
    let tasks = vec![bad, task("good", "cpus:1;mem:512")];
    scheduler.call(Call::Accept(Accept::launch(vec![offer.offer_id], tasks, None))).await;
    let error = scheduler.update(TaskState::Error).await;
    assert_eq!((error.task_id.as_str(), error.reason), ("bad", Some(Reason::TaskInvalid)));
    assert!(error.message.contains("accept.tasks[0].command.argv[0]: holds a NUL"), "{}", error.message);
    let MasterMessage::RunTasks { tasks, .. } = agent.expect().await else { panic!("the other is to run") };
    assert_eq!(tasks.iter().map(|task| task.task_id.as_str()).collect::<Vec<_>>(), ["good"]);
}

#[tokio::test]
async fn an_offer_held_too_long_is_rescinded() {
    let master = Master::start(Config { offer_timeout: Duration::from_millis(50), ..config() }).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    scheduler.subscribe(framework("f")).await;
    agent.register("cpus:4;mem:4096").await;
    let offer = scheduler.offer().await;
    assert_eq!(scheduler.expect().await, Event::Rescind(offer.offer_id));
    master.metric_reaches("apportion_master_offers_timed_out_total", 1.0).await;
}

#[tokio::test]
async fn an_agent_that_returns_brings_its_tasks() {
    let master = Master::start(config()).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    let framework_id = scheduler.subscribe(framework("f")).await;
    let agent_id = agent.register("cpus:4;mem:4096").await;
    let offer = scheduler.offer().await;
    let tasks = vec![task("kept", "cpus:1;mem:512"), task("lost", "cpus:1;mem:512")];
    scheduler.call(Call::Accept(Accept::launch(vec![offer.offer_id], tasks, None))).await;
    assert!(matches!(agent.expect().await, MasterMessage::RunTasks { .. }));
    advance(&mut scheduler, &mut agent, &framework_id, status(&agent_id, "kept", TaskState::Running, 1))
        .await;
    // The connection is lost, not ended.
    drop(agent);
    master.metric_reaches("apportion_master_agents{state=\"disconnected\"}", 1.0).await;

    let mut agent = master.agent().await;
    let kept = AgentTask {
        framework_id: framework_id.clone(),
        framework_info: framework("f"),
        role: apportion_types::Role::default(),
        info: task("kept", "cpus:1;mem:512"),
        state: TaskState::Running,
        unacknowledged: None,
    };
    let info = agent_info("cpus:4;mem:4096");
    let (total, id) = (info.resources.clone(), Some(agent_id.clone()));
    let (tasks, operations) = (vec![kept], Vec::new());
    agent.send(AgentMessage::Register { info, agent_id: id, total, tasks, operations }).await;
    let MasterMessage::Registered { agent_id: same, missing_tasks, .. } = agent.expect().await else {
        panic!("it is registered again")
    };
    assert_eq!(same, agent_id);
    let missing: Vec<&str> = missing_tasks.iter().map(|(_, task)| task.as_str()).collect();
    assert_eq!(missing, ["lost"]);
    advance(&mut scheduler, &mut agent, &framework_id, status(&agent_id, "lost", TaskState::Dropped, 1))
        .await;
    assert_eq!(master.json("/api/v1/tasks").await["tasks"][0]["task_id"], "kept");
}

#[tokio::test]
async fn a_framework_that_returns_ends_its_older_stream() {
    let master = Master::start(config()).await;
    let mut first = master.scheduler().await;
    let framework_id = first.subscribe(framework("f")).await;
    let mut second = master.scheduler().await;
    let call = Call::Subscribe {
        info: framework("f"),
        framework_id: Some(framework_id.clone()),
        suppressed: Vec::new(),
        options: Box::default(),
    };
    second.call(call).await;
    let Event::Subscribed { framework_id: same, .. } = second.expect().await else {
        panic!("it is subscribed")
    };
    assert_eq!(same, framework_id);
    let Event::Error { code, .. } = first.expect().await else { panic!("the older stream ends") };
    assert_eq!(code, apportion_types::protocol::scheduler::ErrorCode::FailedOver);
    assert_eq!(first.event().await.unwrap(), None);
    master.metric_reaches("apportion_master_frameworks{state=\"active\"}", 1.0).await;
}
