//! Executors: tasks that run others in their container, over restarts of their agent, and that end with them.

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use apportion_sdk::{
    Context, Driver, Handle, Offer, Reason, Scheduler, Stop, Task, TaskId, TaskInfo, TaskState, TaskStatus,
    async_trait,
    executor::{End, Executor, ExecutorError, Launched, Runner},
};
use rustix::process::Signal;

use super::{Cluster, is_root};
use crate::support::until;

const AGENT: (&str, &str) = ("a", "cpus:4;mem:2GiB");

/// The newest of each task that was told.
type Told = Arc<Mutex<BTreeMap<String, (TaskState, Option<Reason>)>>>;

/// Launches and kills what the test says.
struct Pool {
    waiting: VecDeque<TaskInfo>,
    told: Told,
}

#[derive(Debug)]
enum Wish {
    Launch(Box<TaskInfo>),
    Kill(TaskId),
}

#[async_trait]
impl Scheduler for Pool {
    type Message = Wish;

    async fn offers(&mut self, _: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            while let Some(task) = self.waiting.pop_front() {
                offer.launch(task).expect("it fits in");
            }
        }
    }

    async fn update(&mut self, _: &mut Context<'_>, status: TaskStatus) {
        self.told.lock().unwrap().insert(status.task_id.to_string(), (status.state, status.reason));
    }

    async fn message(&mut self, cx: &mut Context<'_>, wish: Wish) {
        match wish {
            Wish::Launch(task) => {
                self.waiting.push_back(*task);
                cx.revive();
            }
            Wish::Kill(task_id) => cx.kill(&task_id, None),
        }
    }

    fn wants_offers(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// A framework that runs beside the test; it ends with it.
struct Framework {
    handle: Handle<Wish>,
    told: Told,
    running: Option<JoinHandle<()>>,
}

impl Framework {
    fn start(cluster: &Cluster, tasks: Vec<TaskInfo>) -> Framework {
        let told = Told::default();
        let driver = Driver::builder("pools").master(&cluster.url).build().unwrap();
        let (handle, pool) = (driver.handle(), Pool { waiting: tasks.into(), told: told.clone() });
        let running = thread::spawn(move || {
            runtime().block_on(driver.run(pool)).unwrap();
        });
        Framework { handle, told, running: Some(running) }
    }

    fn wish(&self, wish: Wish) {
        runtime().block_on(self.handle.send(wish)).unwrap();
    }

    fn launch(&self, task: TaskInfo) {
        self.wish(Wish::Launch(Box::new(task)));
    }

    fn told(&self, task: &str) -> Option<(TaskState, Option<Reason>)> {
        self.told.lock().unwrap().get(task).copied()
    }

    /// How many tasks are in this state.
    fn count(&self, state: TaskState) -> usize {
        self.told.lock().unwrap().values().filter(|(told, _)| *told == state).count()
    }

    fn until_told(&self, task: &str, state: TaskState, reason: Option<Reason>) {
        until(&format!("{task} is {state}"), || {
            let told = self.told(task).filter(|(told, _)| *told == state || told.is_terminal())?;
            assert_eq!(told, (state, reason), "{task}");
            Some(())
        });
    }
}

impl Drop for Framework {
    fn drop(&mut self) {
        let _ = runtime().block_on(self.handle.stop(Stop::Teardown));
        if let Some(running) = self.running.take() {
            let ended = running.join();
            assert!(ended.is_ok() || thread::panicking(), "the framework runs until it is stopped");
        }
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The bundled executor.
fn pool(id: &str) -> Task {
    let command = [env!("CARGO_BIN_EXE_apportion"), "executor"];
    Task::new(id).command(command).cpus(0.2).mem_mib(64).executor()
}

/// A task that notes that it begins, waits for a file in its executor's sandbox, and notes that it ends.
fn waits(pool: &TaskId, id: &str, file: &str) -> TaskInfo {
    let script = format!(
        "echo began >>notes; until [ -e \"$APPORTION_SANDBOX/{file}\" ]; do sleep 0.05; done; echo ended >>notes"
    );
    Task::new(id).shell(script).cpus(0.05).mem_mib(8).run_by(pool).build().unwrap()
}

fn sandbox(cluster: &Cluster) -> PathBuf {
    let sandboxes = cluster.sandboxes(AGENT.0);
    assert_eq!(sandboxes.len(), 1, "of the executor alone: {sandboxes:?}");
    sandboxes[0].clone()
}

/// The folder that the executor shares with its agent.
fn shared(cluster: &Cluster) -> Option<PathBuf> {
    let folder = cluster.work_dir(AGENT.0).join("executors");
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()).collect();
    assert!(entries.len() <= 1, "{entries:?}");
    entries.pop()
}

/// The memory that the container of the executor may have.
fn memory_limit(cluster: &Cluster) -> u64 {
    let container = shared(cluster).unwrap();
    let group = Path::new(&cluster.group(AGENT.0)).join(container.file_name().unwrap());
    let files = [
        Path::new("/sys/fs/cgroup/memory").join(&group).join("memory.limit_in_bytes"),
        Path::new("/sys/fs/cgroup").join(&group).join("memory.max"),
    ];
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok()).expect("there is a group");
    text.trim().parse().unwrap()
}

#[test]
fn an_executor_runs_its_tasks_once_whatever_becomes_of_its_agent() {
    if !is_root("an_executor_runs_its_tasks_once_whatever_becomes_of_its_agent") {
        return;
    }
    let mut cluster = Cluster::start(&[AGENT]);
    let executor = pool("pool").build().unwrap();
    let pool = executor.task_id.clone();
    let names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    let tasks = names.iter().enumerate();
    let tasks = tasks.map(|(at, name)| waits(&pool, name, if at < 10 { "first" } else { "second" }));
    let framework = Framework::start(&cluster, [executor].into_iter().chain(tasks).collect());
    until("all run", || (framework.count(TaskState::Running) == 21).then_some(()));
    // Held to what all of them ask for together.
    assert_eq!(memory_limit(&cluster), (64 + 20 * 8) << 20);

    let agent = cluster.agents.remove(AGENT.0).unwrap();
    agent.signal(Signal::KILL);
    agent.end();
    let sandbox = sandbox(&cluster);
    let notes = |name: &str| fs::read_to_string(sandbox.join("tasks").join(name).join("notes")).unwrap();
    // Half end while there is no agent, half under the next.
    fs::write(sandbox.join("first"), "").unwrap();
    until("half end without their agent", || {
        names[..10].iter().all(|name| notes(name).ends_with("ended\n")).then_some(())
    });
    cluster.start_agent(AGENT.0, AGENT.1);
    until("ends that no agent saw are told", || (framework.count(TaskState::Finished) == 10).then_some(()));
    fs::write(sandbox.join("second"), "").unwrap();
    until("all are told", || (framework.count(TaskState::Finished) == 20).then_some(()));
    for name in &names {
        assert_eq!(framework.told(name), Some((TaskState::Finished, Some(Reason::CommandExited))));
        assert_eq!(notes(name), "began\nended\n", "{name} ran once");
    }
    until("it is held to its own again", || (memory_limit(&cluster) == 64 << 20).then_some(()));

    // One that is to end ends, and nothing else does.
    framework.launch(waits(&pool, "victim", "never"));
    framework.until_told("victim", TaskState::Running, None);
    framework.wish(Wish::Kill(TaskId::new("victim").unwrap()));
    framework.until_told("victim", TaskState::Killed, Some(Reason::KilledByFramework));
    assert_eq!(notes("victim"), "began\n");
    assert_eq!(framework.told("pool"), Some((TaskState::Running, None)));

    // With the executor, whatever it runs.
    framework.launch(waits(&pool, "left", "never"));
    framework.until_told("left", TaskState::Running, None);
    let murder = Task::new("murder").shell("kill -KILL $PPID").cpus(0.05).mem_mib(8).run_by(&pool);
    framework.launch(murder.build().unwrap());
    framework.until_told("pool", TaskState::Failed, Some(Reason::CommandExited));
    framework.until_told("left", TaskState::Failed, Some(Reason::ExecutorTerminated));
    framework.until_told("murder", TaskState::Failed, Some(Reason::ExecutorTerminated));
    until("nothing of it is left", || shared(&cluster).is_none().then_some(()));
}

/// Runs nothing.
struct Nobody;

#[async_trait]
impl Executor for Nobody {
    async fn run(&self, _: &Launched) -> End {
        End::Failed("nobody runs it".to_owned())
    }
}

#[test]
fn only_who_has_the_token_is_the_executor() {
    if !is_root("only_who_has_the_token_is_the_executor") {
        return;
    }
    let cluster = Cluster::start(&[AGENT]);
    // Of another user than the agent's, who reads the token in the container, and in nobody else's.
    let executor =
        pool("pool").user("nobody").kill_grace(std::time::Duration::from_secs(60)).build().unwrap();
    let pool = executor.task_id.clone();
    let framework = Framework::start(&cluster, vec![executor, waits(&pool, "t", "never")]);
    framework.until_told("t", TaskState::Running, None);
    let place = shared(&cluster).unwrap();
    let guess = cluster.place.file("guess", &"0".repeat(64));
    let run =
        |token: &Path| runtime().block_on(Runner::new(place.join("socket"), token).unwrap().run(Nobody));
    let error = run(&guess).unwrap_err();
    assert!(
        matches!(&error, ExecutorError::Refused { message } if message.contains("not the token")),
        "{error}"
    );
    assert_eq!(framework.told("t"), Some((TaskState::Running, None)));

    // An executor that is to end lets its tasks end first.
    framework.wish(Wish::Kill(pool));
    framework.until_told("t", TaskState::Killed, Some(Reason::KilledByFramework));
    framework.until_told("pool", TaskState::Killed, Some(Reason::KilledByFramework));
}
