//! The shell from the outside: a scripted master on one side, containers that start nothing on the other.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, time::Duration};

use apportion_agent::{Agent, Config, RunError, StartError};
use apportion_containerizer::{Fake, Signal};
use apportion_proto::v1::{AgentServiceConnectResponse, RunTasks, agent_service_connect_response::Message};
use apportion_types::{
    AgentId, Reason, TaskId, TaskState,
    container::Exit,
    protocol::agent::{AgentMessage, MasterMessage, RefuseCode},
};
use support::*;

#[tokio::test]
async fn a_task_from_its_launch_to_the_acknowledgement_of_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let agent = start(config(folder.path(), &master.address), fake.clone()).await;
    let mut stream = master.stream().await;
    let AgentMessage::Register { info, agent_id, total, tasks, operations } = stream.hear().await else {
        panic!("not Register")
    };
    assert_eq!((agent_id, tasks.len(), operations.len()), (None, 0, 0));
    assert_eq!(total, info.resources);
    assert_eq!(info.address, agent.address);
    assert_eq!(info.resources.to_string(), "cpus:4;mem:1024;disk:1024;ports:[31000-31009]");
    stream.say(registered("a1")).await;

    let mut info = task("t1", &["serve"]);
    info.resources = "cpus:1;mem:64;ports:[31001-31001]".parse().unwrap();
    info.command.env.insert("HOME".to_owned(), "/home/me".to_owned());
    stream.run(vec![info]).await;
    assert_eq!(stream.update().await.state, TaskState::Starting);
    assert_eq!(stream.update().await.state, TaskState::Running);

    let launched = fake.launched();
    let spec = &launched[0];
    let sandbox = fs::canonicalize(folder.path().join("sandboxes/f1/t1").join(&spec.id.0)).unwrap();
    assert_eq!(spec.sandbox, sandbox);
    assert_eq!(
        fs::read_link(folder.path().join("sandboxes/f1/t1/latest")).unwrap().to_str(),
        Some(&*spec.id.0)
    );
    let place = sandbox.to_str().unwrap();
    for (name, value) in [
        ("APPORTION_TASK_ID", "t1"),
        ("APPORTION_FRAMEWORK_ID", "f1"),
        ("APPORTION_AGENT_ID", "a1"),
        ("APPORTION_SANDBOX", place),
        ("APPORTION_PORT0", "31001"),
        ("APPORTION_PORTS", "31001"),
        ("HOME", "/home/me"),
        ("TMPDIR", &format!("{place}/tmp")),
    ] {
        assert_eq!(spec.env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(spec.env["PATH"].contains("/usr/bin"));
    assert_eq!(spec.limits.memory_limit_bytes, Some(64 << 20));

    fake.end(&spec.id, Exit::Code(0));
    let end = stream.until("t1", TaskState::Finished).await;
    assert_eq!(end.reason, Some(Reason::CommandExited));
    assert_eq!(end.agent_id.unwrap().as_str(), "a1");
    assert!(end.container.unwrap().exit.unwrap().success());
    agent.end().await.unwrap();
    assert!(fake.closed());
    assert_eq!(fs::read_to_string(folder.path().join("agent_id")).unwrap(), "a1\n");
}

#[tokio::test]
async fn a_master_that_stands_by_is_left_for_the_one_that_leads() {
    let (nothing, mut master) = (stand_by(None).await, Master::start().await);
    // By its name, though it is not among those that were given; as the next of them; and as the one after a leader that is gone.
    let named = vec![nothing.clone(), stand_by(Some(&master.address)).await];
    let gone = Master::start().await.address.clone();
    let after = vec![stand_by_for(Some(&gone), Some(&master.address)).await];
    let next = vec![nothing.clone(), nothing, master.address.clone()];
    for masters in [named, after, next] {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { master: masters, ..config(folder.path(), "") };
        let agent = start(config, Fake::default()).await;
        let (_stream, agent_id, _) = master.registered().await;
        assert_eq!(agent_id, None);
        agent.end().await.unwrap();
    }
}

#[tokio::test]
async fn launches_that_fail_and_containers_that_are_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let agent = start(config(folder.path(), &master.address), fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    stream.run(vec![task("missing", &["missing"])]).await;
    let end = stream.until("missing", TaskState::Failed).await;
    assert_eq!(end.reason, Some(Reason::CommandNotExecuted));
    assert!(end.message.contains("not found"), "{}", end.message);

    stream.run(vec![task("hog", &["exceed-memory"])]).await;
    let end = stream.until("hog", TaskState::Failed).await;
    assert_eq!(end.reason, Some(Reason::ContainerLimitationMemory));
    assert_eq!(end.message, "over its memory limit of 32 MiB; the most that it held was 1 MiB");

    stream.run(vec![task("polite", &["exit-on-term", "0"]), task("rude", &["ignore-term"])]).await;
    let kill = |id: &str, grace| MasterMessage::KillTask {
        framework_id: framework_id(),
        task_id: TaskId::new(id).unwrap(),
        grace: Some(grace),
        reason: Reason::KilledByFramework,
    };
    stream.all_until(&["polite", "rude"], TaskState::Running).await;
    stream.say(kill("polite", Duration::from_secs(60))).await;
    let end = stream.until("polite", TaskState::Killed).await;
    assert_eq!((end.reason, &*end.message), (Some(Reason::KilledByFramework), "killed: exit code 0"));
    let rude = fake.launched().iter().find(|spec| spec.argv == ["ignore-term"]).unwrap().id.clone();
    stream.say(kill("rude", Duration::from_millis(1))).await;
    let (framework, end) = loop {
        let (framework, status) = stream.unacknowledged().await;
        if status.state == TaskState::Killed {
            break (framework, status);
        }
        let update_id = status.update_id.unwrap();
        let task_id = status.task_id;
        stream.say(MasterMessage::AcknowledgeUpdate { framework_id: framework, task_id, update_id }).await;
    };
    assert_eq!((framework, &*end.message), (framework_id(), "killed: signal 9"));
    assert_eq!(fake.signals(&rude), [Signal::Term, Signal::Kill]);
    agent.end().await.unwrap();
}

#[tokio::test]
async fn what_is_not_acknowledged_is_sent_again_after_a_reconnect_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let agent = start(config(folder.path(), &master.address), fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    stream.run(vec![task("t1", &["serve"])]).await;
    let (_, first) = stream.unacknowledged().await;
    drop(stream);

    let (mut stream, agent_id, tasks) = master.registered().await;
    assert_eq!(agent_id, Some(AgentId::new("a1").unwrap()));
    assert_eq!(tasks[0].unacknowledged.as_ref(), Some(&first));
    assert_eq!(stream.update().await, first);
    assert_eq!(stream.update().await.state, TaskState::Running);
    stream.run(vec![task("t2", &["exit", "3"])]).await;
    stream.until("t2", TaskState::Running).await;
    // What was sent before the end was known may come again.
    let end = loop {
        let (_, status) = stream.unacknowledged().await;
        if status.state.is_terminal() {
            break status;
        }
    };
    assert_eq!(end.state, TaskState::Failed);
    agent.end().await.unwrap();

    // A new process: one task is found again, the end of the other is told again.
    let next = fake.next_agent();
    let agent = start(config(folder.path(), &master.address), next.clone()).await;
    let (mut stream, agent_id, tasks) = master.registered().await;
    assert_eq!(agent_id, Some(AgentId::new("a1").unwrap()));
    let known: Vec<_> = tasks.iter().map(|task| (task.info.task_id.as_str(), task.state)).collect();
    assert_eq!(known, [("t1", TaskState::Running), ("t2", TaskState::Failed)]);
    assert_eq!(stream.update().await, end);
    let id = next.launched()[0].id.clone();
    next.end(&id, Exit::Code(0));
    stream.until("t1", TaskState::Finished).await;
    agent.end().await.unwrap();
}

#[tokio::test]
async fn a_task_that_ended_in_time_has_finished_whenever_an_agent_finds_that() {
    let most = Duration::from_secs(3);
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let agent = start(config(folder.path(), &master.address), fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    let mut timed = task("t1", &["serve"]);
    timed.supervision.max_completion = Some(most);
    stream.run(vec![timed]).await;
    stream.until("t1", TaskState::Running).await;
    let running = tokio::time::Instant::now();
    agent.end().await.unwrap();
    let next = fake.next_agent();
    next.end(&next.launched()[0].id, Exit::Code(0));
    tokio::time::sleep_until(running + most).await;
    let agent = start(config(folder.path(), &master.address), next).await;
    let (mut stream, ..) = master.registered().await;
    stream.until("t1", TaskState::Finished).await;
    agent.end().await.unwrap();
}

#[tokio::test]
async fn a_container_that_did_not_outlive_the_agent_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let agent = start(config(folder.path(), &master.address), Fake::default()).await;
    let (mut stream, ..) = master.registered().await;
    stream.run(vec![task("t1", &["serve"])]).await;
    stream.until("t1", TaskState::Running).await;
    agent.end().await.unwrap();
    let agent = start(config(folder.path(), &master.address), Fake::default()).await;
    let (mut stream, ..) = master.registered().await;
    let end = stream.until("t1", TaskState::Failed).await;
    assert_eq!(end.reason, Some(Reason::ContainerLost));
    agent.end().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_ends_for_good_kills_its_tasks_and_unregisters() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let mut settings = config(folder.path(), &master.address);
    settings.kill_tasks_on_exit = true;
    settings.exit_grace_max_ms = 1;
    let mut agent = start(settings.clone(), fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    stream.run(vec![task("t1", &["ignore-term"])]).await;
    stream.until("t1", TaskState::Running).await;
    agent.ask_to_end();
    let message = loop {
        match stream.hear().await {
            AgentMessage::Unregister { message } => break message,
            AgentMessage::StatusUpdate { .. } => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(message.contains("shut down"), "{message}");
    drop(stream);
    agent.ended().await.unwrap();
    assert!(!folder.path().join("log").exists());
    // It comes back as another agent.
    let agent = start(settings, fake).await;
    let (_stream, agent_id, tasks) = master.registered().await;
    assert_eq!((agent_id, tasks.len()), (None, 0));
    agent.end().await.unwrap();
}

#[tokio::test]
async fn a_refused_agent_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let agent = start(config(folder.path(), &master.address), Fake::default()).await;
    let mut stream = master.stream().await;
    stream.hear().await;
    let message = "agent id a1 registered from 10.0.0.7:5051".to_owned();
    stream.say(MasterMessage::Refuse { code: RefuseCode::Replaced, message }).await;
    let error = agent.ended().await.unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, RunError::Refused { .. }) && text.contains("10.0.0.7:5051"), "{text}");
    assert!(text.contains("work directory of its own"), "{text}");
}

#[tokio::test]
async fn the_agent_waits_for_its_master_and_tries_each() {
    let folder = tempfile::tempdir().unwrap();
    // Taken addresses on which nobody listens.
    let silent = || {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        socket
    };
    let (never, later) = (silent(), silent());
    let mut settings = config(folder.path(), &never.local_addr().unwrap().to_string());
    settings.master.push(later.local_addr().unwrap().to_string());
    let agent = start(settings, Fake::default()).await;
    let mut master = Master::on(later.listen(16).unwrap());
    let (_stream, ..) = master.registered().await;
    agent.end().await.unwrap();
}

#[tokio::test]
async fn a_message_that_breaks_the_protocol_ends_the_stream_and_not_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let agent = start(config(folder.path(), &master.address), Fake::default()).await;
    let (mut stream, ..) = master.registered().await;
    let run = RunTasks { framework_id: "not/an/id".to_owned(), ..RunTasks::default() };
    stream.say_wire(AgentServiceConnectResponse { message: Some(Message::RunTasks(run)) }).await;
    assert_eq!(stream.next().await, None);
    let (stream, ..) = master.registered().await;
    // A message of a kind that is not known here.
    stream.say_wire(AgentServiceConnectResponse { message: None }).await;
    let (_stream, ..) = master.registered().await;
    agent.end().await.unwrap();
}

#[tokio::test]
async fn pings_are_answered_and_silence_is_not_borne() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let agent = start(config(folder.path(), &master.address), Fake::default()).await;
    let mut stream = master.stream().await;
    stream.hear().await;
    let MasterMessage::Registered { agent_id, master_id, missing_tasks, drain, .. } = registered("a1") else {
        panic!()
    };
    let ping_timeout = Duration::from_millis(300);
    stream.say(MasterMessage::Registered { agent_id, master_id, ping_timeout, missing_tasks, drain }).await;
    stream.say(MasterMessage::Ping { sequence: 7 }).await;
    assert_eq!(stream.hear().await, AgentMessage::Pong { sequence: 7 });
    assert_eq!(stream.next().await, None);
    let (_stream, ..) = master.registered().await;
    agent.end().await.unwrap();
}

#[tokio::test]
async fn starting_says_what_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let settings = config(folder.path(), "127.0.0.1:1");
    let first = Agent::start(settings.clone(), std::sync::Arc::new(Fake::default())).await.unwrap();
    let error = Agent::start(settings.clone(), std::sync::Arc::new(Fake::default())).await.unwrap_err();
    assert!(matches!(error, StartError::WorkDir(_)), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    let other = tempfile::tempdir().unwrap();
    let mut taken = config(other.path(), "127.0.0.1:1");
    taken.listen = first.local_addr();
    let error = Agent::start(taken, std::sync::Arc::new(Fake::default())).await.unwrap_err();
    assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
}
