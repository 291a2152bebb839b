//! What befalls a task while its network is being detached is no cause of its end.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, time::Duration};

use apportion_types::{
    Network, Reason, TaskInfo, TaskState,
    network::{PortMapping, Protocol},
    protocol::agent::{AgentMessage, MasterMessage},
};

use super::{PATIENCE, Process, folder, kill, support::*};

/// Makes a plugin of a script the network of that name.
pub(crate) fn plugin(folder: &Path, name: &str, script: &str) {
    let plugins = folder.join("plugins");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(plugins.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(plugins.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    let plugin = format!(r#"{{"type":"{name}","capabilities":{{"portMappings":true}}}}"#);
    let list = format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{plugin}]}}"#);
    fs::write(folder.join(format!("net.d/{name}.conflist")), list).unwrap();
}

pub(crate) async fn appears(path: &Path) {
    let there = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, there).await.unwrap_or_else(|_| panic!("{path:?} never came"));
}

/// Its plugin detaches once it is told to; meanwhile the task is killed.
pub(crate) async fn ends() {
    let folder = folder();
    let (here, go) = (folder.path().join("here"), folder.path().join("go"));
    let script = format!(
        "cat >/dev/null; echo '{{}}'
        [ $CNI_COMMAND = DEL ] || exit 0
        >{here:?}; until [ -e {go:?} ]; do sleep 0.01; done"
    );
    plugin(folder.path(), "slow", &script);
    let mut master = Master::start().await;
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    let mut brief = task("brief", &["true"]);
    brief.container.network = Some(Box::new(Network::new("slow")));
    stream.run(vec![brief]).await;
    stream.until("brief", TaskState::Running).await;
    appears(&here).await;
    stream.say(kill("brief")).await;
    stream.say(MasterMessage::Ping { sequence: 7 }).await;
    loop {
        match stream.hear().await {
            AgentMessage::Pong { .. } => break,
            AgentMessage::StatusUpdate { status, .. } => panic!("{status:?}"),
            _ => {}
        }
    }
    fs::write(go, "").unwrap();
    let end = stream.until("brief", TaskState::Finished).await;
    assert_eq!(end.reason, Some(Reason::CommandExited), "{end:?}");
    drop(process);
}

/// Its plugin never detaches, and is asked several times, each for as long as a plugin may take. The end is told after the first.
pub(crate) async fn told_in_time() {
    let folder = folder();
    let (asked, go) = (folder.path().join("asked"), folder.path().join("go"));
    let script = format!(
        "cat >/dev/null; echo '{{}}'
        [ $CNI_COMMAND = DEL ] || exit 0
        echo >>{asked:?}; until [ -e {go:?} ]; do sleep 0.01; done"
    );
    plugin(folder.path(), "stuck", &script);
    fs::write(folder.path().join(PATIENCE), "3000").unwrap();
    let mut master = Master::start().await;
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    let mut brief = task("brief", &["true"]);
    brief.container.network = Some(Box::new(Network::new("stuck")));
    stream.run(vec![brief]).await;
    let end = stream.until("brief", TaskState::Finished).await;
    let times = fs::read_to_string(asked).unwrap().lines().count();
    assert!(times < 3, "its end was told when all tries had failed");
    assert_eq!(end.reason, Some(Reason::CommandExited), "{end:?}");
    fs::write(go, "").unwrap();
    gone(folder.path()).await;
    drop(process);
}

/// Makes the network `moody`, whose plugin fails to detach while there is a file `broken`; there is.
fn moody(folder: &Path) {
    let broken = folder.join("broken");
    fs::write(&broken, "").unwrap();
    let script = format!("cat >/dev/null; echo '{{}}'; [ $CNI_COMMAND = ADD ] || [ ! -e {broken:?} ]");
    plugin(folder, "moody", &script);
}

fn records(folder: &Path) -> usize {
    fs::read_dir(folder.join("work/networks")).unwrap().count()
}

async fn gone(folder: &Path) {
    let gone = async {
        while records(folder) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("it is detached");
}

/// Its plugin cannot detach until an agent that was started again asks it; nobody acknowledges the task's end.
pub(crate) async fn waits_for_nobody() {
    let folder = folder();
    moody(folder.path());
    let mut master = Master::start().await;
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    let mut brief = task("brief", &["true"]);
    brief.container.network = Some(Box::new(Network::new("moody")));
    stream.run(vec![brief]).await;
    stream.until("brief", TaskState::Running).await;
    while !stream.unacknowledged().await.1.state.is_terminal() {}
    assert_eq!(records(folder.path()), 1);
    drop(process);
    fs::remove_file(folder.path().join("broken")).unwrap();
    let process = Process::start(folder.path(), &master);
    gone(folder.path()).await;
    drop(process);
}

/// Its plugin cannot take the mapping of a port away, so the port is nobody's, on whatever network.
pub(crate) async fn port_held() {
    let folder = folder();
    moody(folder.path());
    let mut master = Master::start().await;
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    let with_port = |id: &str, port: u16| TaskInfo {
        resources: format!("cpus:0.1;mem:32;ports:[{port}-{port}]").parse().unwrap(),
        ..task(id, &["true"])
    };
    let mut old = with_port("old", 31_000);
    let mapping = PortMapping { host_port: 31_000, container_port: 80, protocol: Protocol::Tcp };
    old.container.network = Some(Box::new(Network { ports: vec![mapping], ..Network::new("moody") }));
    stream.run(vec![old]).await;
    stream.until("old", TaskState::Finished).await;
    stream.run(vec![with_port("elsewhere", 31_001)]).await;
    stream.until("elsewhere", TaskState::Finished).await;
    stream.run(vec![with_port("refused", 31_000)]).await;
    let end = stream.until("refused", TaskState::Failed).await;
    assert_eq!(end.reason, Some(Reason::NetworkNotAvailable));
    assert!(end.message.contains("port 31000 (tcp) of the host still leads to"), "{}", end.message);
    fs::remove_file(folder.path().join("broken")).unwrap();
    gone(folder.path()).await;
    drop(process);
}
