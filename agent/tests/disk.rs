//! What tasks write: held to their disk while they run, removed some time after their end.

// All of this is test code.
#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::Path};

use apportion_agent::Config;
use apportion_containerizer::Fake;
use apportion_types::{
    Reason, TaskInfo, TaskState,
    container::{Control, Limitation},
    protocol::agent::AgentMessage,
};
use support::*;

const MIB: usize = 1 << 20;

fn with_disk(id: &str, argv: &[&str], mib: u64) -> TaskInfo {
    TaskInfo { resources: format!("cpus:0.1;mem:32;disk:{mib}").parse().unwrap(), ..task(id, argv) }
}

fn often(work_dir: &Path, master: &str) -> Config {
    Config { disk_check_interval_ms: 5, sandbox_collect_interval_ms: 5, ..config(work_dir, master) }
}

#[tokio::test]
async fn a_task_over_its_disk_is_killed_also_by_a_later_agent_and_no_other_is() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let agent = start(often(folder.path(), &master.address), fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    let unbounded = task("unbounded", &["serve"]);
    stream.run(vec![with_disk("over", &["serve"], 1), with_disk("later", &["serve"], 1), unbounded]).await;
    stream.all_until(&["over", "later", "unbounded"], TaskState::Running).await;
    let latest = |task: &str| folder.path().join("sandboxes/f1").join(task).join("latest");
    fs::write(latest("unbounded").join("file"), vec![7; 2 * MIB]).unwrap();
    // What lies in its scratch folder counts, too.
    fs::write(latest("over").join("tmp/file"), vec![7; MIB / 2]).unwrap();
    let container = fs::read_link(latest("over")).unwrap();
    let scratch = folder.path().join("scratch").join(container).join("root");
    fs::create_dir_all(&scratch).unwrap();
    fs::write(scratch.join("file"), vec![7; MIB]).unwrap();
    let end = stream.until("over", TaskState::Failed).await;
    assert_eq!(end.reason, Some(Reason::ContainerLimitationDisk));
    assert_eq!(end.message, "over its disk limit of 1 MiB");
    let limitation = end.container.unwrap().limitation;
    assert_eq!(limitation, Some(Limitation::Disk { limit_bytes: MIB as u64 }));
    agent.end().await.unwrap();

    fs::write(latest("later").join("file"), vec![7; 2 * MIB]).unwrap();
    let agent = start(often(folder.path(), &master.address), fake.next_agent()).await;
    let (mut stream, ..) = master.registered().await;
    let end = stream.until("later", TaskState::Failed).await;
    assert_eq!(end.reason, Some(Reason::ContainerLimitationDisk));
    let view = fake.launched();
    let unbounded = view.iter().find(|spec| spec.env["APPORTION_TASK_ID"] == "unbounded").unwrap();
    assert_eq!(fake.signals(&unbounded.id), []);
    agent.end().await.unwrap();
}

#[tokio::test]
async fn an_agent_that_holds_nobody_to_the_disk_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut master = Master::start().await;
    let config = Config { enforce_disk: false, ..often(folder.path(), &master.address) };
    let agent = start(config, Fake::default()).await;
    let AgentMessage::Register { info, .. } = master.stream().await.hear().await else {
        panic!("not Register")
    };
    let disk = info.unenforced.iter().find(|unenforced| unenforced.control == Control::Disk).unwrap();
    assert!(disk.reason.contains("`enforce_disk`"), "{}", disk.reason);
    agent.end().await.unwrap();
}

#[tokio::test]
async fn a_sandbox_goes_when_its_end_is_acknowledged_and_its_time_has_come() {
    let folder = tempfile::tempdir().unwrap();
    let (mut master, fake) = (Master::start().await, Fake::default());
    let config = Config { sandbox_keep_ms: 0, ..often(folder.path(), &master.address) };
    let agent = start(config, fake.clone()).await;
    let (mut stream, ..) = master.registered().await;
    stream.run(vec![task("runs", &["serve"]), task("ends", &["serve"]), task("waits", &["serve"])]).await;
    stream.all_until(&["runs", "ends", "waits"], TaskState::Running).await;
    let here = |task: &str| folder.path().join("sandboxes/f1").join(task).exists();
    let launched = fake.launched();
    let id = |task: &str| &launched.iter().find(|spec| spec.env["APPORTION_TASK_ID"] == task).unwrap().id;
    fake.end(id("waits"), apportion_types::container::Exit::Code(0));
    // What was acknowledged may come again before its acknowledgement got there.
    let mut waits = None;
    while waits != Some(TaskState::Finished) {
        let (_, status) = stream.unacknowledged().await;
        waits = (status.task_id.as_str() == "waits").then_some(status.state);
    }
    fake.end(id("ends"), apportion_types::container::Exit::Code(0));
    loop {
        let (framework_id, status) = stream.unacknowledged().await;
        if status.task_id.as_str() == "ends" {
            let (task_id, update_id) = (status.task_id, status.update_id.unwrap());
            stream
                .say(apportion_types::protocol::agent::MasterMessage::AcknowledgeUpdate {
                    framework_id,
                    task_id,
                    update_id,
                })
                .await;
            break;
        }
    }
    let gone = async {
        while here("ends") {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, gone).await.expect("it is removed");
    assert!(here("runs") && here("waits"));
    agent.end().await.unwrap();
}
