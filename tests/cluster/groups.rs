//! Task groups: in order, with what they share, and ended together.

use std::{collections::BTreeMap, fs};

use apportion_sdk::{
    Context, Driver, Offer, Reason, Scheduler, Stop, Task, TaskGroup, TaskGroupInfo, TaskState, TaskStatus,
    async_trait,
};

use super::{Cluster, is_root};

/// Launches one group, and ends when all of its tasks have.
struct One {
    group: Option<TaskGroupInfo>,
    ends: BTreeMap<String, (TaskState, Option<Reason>)>,
    tasks: usize,
}

#[async_trait]
impl Scheduler for One {
    type Message = ();

    async fn offers(&mut self, _: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            if let Some(group) = self.group.take() {
                offer.launch_group(group).expect("it fits in");
            }
        }
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        if status.state.is_terminal() {
            self.ends.insert(status.task_id.to_string(), (status.state, status.reason));
        }
        if self.ends.len() == self.tasks {
            cx.stop(Stop::Disconnect);
        }
    }

    fn wants_offers(&self) -> bool {
        self.group.is_some()
    }
}

/// How each task of a group ends.
fn ends_of(cluster: &Cluster, group: TaskGroup) -> BTreeMap<String, (TaskState, Option<Reason>)> {
    let group = group.build().unwrap();
    let tasks = group.tasks().len();
    let driver = Driver::builder("groups").master(&cluster.url).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = driver.run(One { group: Some(group), ends: BTreeMap::new(), tasks });
    runtime.block_on(run).unwrap().scheduler.ends
}

fn task(id: &str, script: &str) -> Task {
    Task::new(id).shell(script).cpus(0.1).mem_mib(64).share("a/b", "shared")
}

#[test]
fn a_task_group_runs_in_order_over_what_it_shares() {
    if !is_root("a_task_group_runs_in_order_over_what_it_shares") {
        return;
    }
    let cluster = Cluster::start(&[("pods", "cpus:2;mem:1GiB")]);
    let wait = |file: &str| format!("while [ ! -e shared/{file} ]; do sleep 0.02; done");
    let ends = ends_of(
        &cluster,
        TaskGroup::new("site")
            .init(task("fetch", "echo page >shared/page"))
            .init(task("check", "cat shared/page && echo checked >>shared/page"))
            .sidecar(task("log", "cat shared/page; touch shared/ready; exec sleep 1000"))
            .main(task("web", &format!("{}; cat shared/page; id -u >shared/web", wait("ready"))))
            .main(task("other", &wait("web")).user("nobody")),
    );
    let exited = |state| (state, Some(Reason::CommandExited));
    for finished in ["fetch", "check", "web", "other"] {
        assert_eq!(ends[finished], exited(TaskState::Finished), "{ends:?}");
    }
    assert_eq!(ends["log"], (TaskState::Killed, Some(Reason::TaskGroupFinished)), "{ends:?}");
    assert_eq!(cluster.stdout("check"), "page\n");
    assert_eq!(cluster.stdout("log"), "page\nchecked\n");
    assert_eq!(cluster.stdout("web"), "page\nchecked\n");

    // One that fails takes the others with it, those that never ran too; the new group shares a folder of its own.
    let ends = ends_of(
        &cluster,
        TaskGroup::new("site").init(task("fails", "ls shared; exit 3")).main(task("never", "echo ran")),
    );
    assert_eq!(ends["fails"], exited(TaskState::Failed), "{ends:?}");
    assert_eq!(ends["never"], (TaskState::Killed, Some(Reason::TaskGroupFailed)), "{ends:?}");
    assert_eq!(cluster.stdout("fails"), "");

    // What was shared lies beside the sandboxes, by runs of groups.
    let frameworks = fs::read_dir(cluster.work_dir("pods").join("sandboxes")).unwrap().flatten();
    let groups =
        frameworks.flat_map(|framework| fs::read_dir(framework.path().join("-")).into_iter().flatten());
    let pages = groups.flatten().filter(|run| run.path().join("a/b/page").exists());
    assert_eq!(pages.count(), 1);
}
