//! What a master records is what it did.

use std::{path::Path, time::Duration};

use apportion_master::{
    Config, ServeError, Server,
    journal::Journal,
    replay::{Ending, Replay},
};
use apportion_proto::v1;
use apportion_types::{
    Source, TaskState, TaskStatus, Time, UpdateId,
    protocol::{
        agent::{AgentMessage, MasterMessage},
        scheduler::{Accept, Call, DeclineCode, DeclineReason},
    },
};

use crate::harness::{Agent, Master, Scheduler, config, framework, task};

fn journaled(path: &Path) -> Config {
    Config { journal: Some(path.to_owned()), ..config() }
}

/// The scheduler launches a task on its next offer, and keeps the rest from being offered again.
async fn launch(scheduler: &mut Scheduler, agent: &mut Agent, id: &str) -> TaskStatus {
    let offer = scheduler.offer().await;
    let invalid = task("invalid", "cpus:1;mem:1");
    let mut wire: v1::SchedulerServiceConnectRequest = apportion_types::convert::scheduler_request(
        7,
        Call::Accept(Accept::launch(
            vec![offer.offer_id],
            vec![task(id, "cpus:1;mem:64"), invalid],
            Some(Duration::from_secs(3600)),
        )),
    );
    // The second task is one that cannot be taken.
    let Some(v1::scheduler_service_connect_request::Call::Accept(accept)) = &mut wire.call else {
        panic!("{wire:?}")
    };
    let Some(v1::operation::Operation::Launch(launch)) = &mut accept.operations[0].operation else {
        panic!("{accept:?}")
    };
    launch.tasks[1].pids_max = Some(0);
    scheduler.send(wire).await;
    let refused = scheduler.update(TaskState::Error).await;
    assert!(refused.message.contains("pids_max"), "{}", refused.message);
    let MasterMessage::RunTasks { framework_id, .. } = agent.expect().await else { panic!("it is to run") };
    let status = TaskStatus {
        task_id: apportion_types::TaskId::new(id).unwrap(),
        agent_id: None,
        state: TaskState::Running,
        reason: None,
        source: Source::Agent,
        message: "as it was".to_owned(),
        at: Time::from_micros(1),
        update_id: Some(UpdateId::new(7, 1)),
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    };
    let latest_state = status.state;
    let message = AgentMessage::StatusUpdate { framework_id, status, latest_state };
    agent.send(message).await;
    scheduler.update(TaskState::Running).await
}

#[tokio::test]
async fn a_replay_comes_to_know_what_the_master_knew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.journal");
    let mut master = Master::start(journaled(&path)).await;
    let (mut one, mut agent) = (master.scheduler().await, master.agent().await);
    let framework_id = one.subscribe(framework("one")).await;
    agent.register("cpus:4;mem:4096;ports:[31000-31009]").await;
    assert_eq!(master.metric("apportion_master_journal_recording").await, Some(1.0));
    launch(&mut one, &mut agent, "t1").await;
    let mut two = master.scheduler().await;
    two.subscribe(framework("two")).await;
    let offer = two.offer().await;
    let refuse = Some(Duration::from_secs(3600));
    two.call(Call::Decline {
        offers: vec![offer.offer_id],
        refuse,
        reason: DeclineReason::new(DeclineCode::TooSmall),
    })
    .await;
    let mut operator = master.operator().await;
    let kill = v1::KillTaskRequest { task_id: "t1".into(), ..Default::default() };
    operator.kill_task(kill).await.unwrap();
    let MasterMessage::KillTask { .. } = agent.expect().await else { panic!("it is to be killed") };
    let teardown = v1::TeardownFrameworkRequest { framework_id: framework_id.to_string() };
    operator.teardown_framework(teardown).await.unwrap();
    master.metric_reaches("apportion_master_offers_declined_total", 1.0).await;
    let state = master.json("/api/v1/state").await;
    assert_eq!(state["tasks"].as_array().unwrap().len(), 1, "{state:#}");
    master.stop();
    master.ended().await.unwrap();

    let mut journal = Journal::open(&path).unwrap();
    let mut replay = Replay::new(journal.header());
    // The digest at the end is checked by this.
    assert_eq!(replay.run(&mut journal, None).unwrap(), Ending::Complete);
    assert_eq!(serde_json::to_value(replay.document()).unwrap(), state);
    let counters = replay.view().counters;
    assert_eq!((counters.tasks_launched, counters.offers_declined), (1, 1), "{counters:?}");
}

#[tokio::test]
async fn a_replay_begins_with_what_the_registry_had() {
    let folder = tempfile::tempdir().unwrap();
    let config = |journal: &str| Config {
        work_dir: Some(folder.path().join("master")),
        ..journaled(&folder.path().join(journal))
    };
    let mut first = Master::start(config("first")).await;
    let (mut scheduler, mut agent) = (first.scheduler().await, first.agent().await);
    let framework_id = scheduler.subscribe(framework("one")).await;
    let agent_id = agent.register("cpus:4").await;
    first.stop();
    first.ended().await.unwrap();

    let mut second = Master::start(config("second")).await;
    let state = second.json("/api/v1/state").await;
    let known = |what: &str, id: &str| (state[what][0][id].clone(), state[what][0]["state"].clone());
    assert_eq!(known("agents", "agent_id"), (agent_id.as_str().into(), "recovered".into()));
    assert_eq!(known("frameworks", "framework_id"), (framework_id.as_str().into(), "disconnected".into()));
    second.agent().await.register("cpus:2").await;
    let state = second.json("/api/v1/state").await;
    assert_eq!(state["agents"].as_array().unwrap().len(), 2, "{state:#}");
    second.stop();
    second.ended().await.unwrap();

    let mut journal = Journal::open(folder.path().join("second")).unwrap();
    let mut replay = Replay::new(journal.header());
    assert_eq!(replay.run(&mut journal, None).unwrap(), Ending::Complete);
    let agents = |document: &serde_json::Value| -> Vec<serde_json::Value> {
        document["agents"].as_array().unwrap().iter().map(|agent| agent["agent_id"].clone()).collect()
    };
    let replayed = serde_json::to_value(replay.document()).unwrap();
    assert_eq!(agents(&replayed), agents(&state));
    assert_eq!(replayed["frameworks"], state["frameworks"]);
}

#[tokio::test]
async fn a_journal_that_cannot_be_begun_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes");
    std::fs::write(&path, "notes").unwrap();
    let error = Server::bind(journaled(&path)).await.unwrap_err();
    assert!(matches!(error, ServeError::Journal { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("notes: it is there already and is not a journal"), "{text}");
}
