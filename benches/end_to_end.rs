//! The whole path: a scheduler on the SDK, a real master and one real agent on loopback, real containers.
//!
//! - submit → running: one task at a time, from the scheduler having work (it was suppressed) to the update that it runs;
//! - no-op tasks per second: all submitted at once, until the last terminal update was acknowledged;
//! - a job of ten thousand no-ops on the batch framework, from its command's start to its end;
//! - a thousand tasks that sleep, on an agent that is a process of its own: their start, what they cost meanwhile, the agent killed and
//!   started again, their end.
//!
//! `cargo bench -p apportion-benches --bench end_to_end -- [--quick] [--folder FOLDER]`: where the agent of the no-ops works, which else is
//! below the target folder. What its file system costs is a good part of a launch.

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

#[path = "end_to_end/agent.rs"]
mod agent;
#[path = "end_to_end/batch.rs"]
mod batch;
#[path = "end_to_end/sleepers.rs"]
mod sleepers;

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use apportion_benches::{Table, median, ms, percentile};
use apportion_sdk::{
    Context, Driver, Handle, Offer, Resources, Scheduler, Stop, Task, TaskId, TaskState, TaskStatus,
    async_trait,
};
use tokio::sync::oneshot;

/// So small that the agent, and not the offer, says how many run at once.
const CPUS: f64 = 0.05;
const MEM_MIB: u64 = 16;

const NO_OP: [&str; 1] = ["/bin/true"];

type Failed = Box<dyn std::error::Error + Send + Sync>;

/// Runs tasks as it is told to and notes when each was submitted and ran.
#[derive(Default)]
struct Tasks {
    /// Numbers tasks over all requests.
    made: u64,
    waiting: VecDeque<TaskId>,
    live: BTreeMap<TaskId, Instant>,
    /// Submit → running, of each task that came to run.
    latencies: Vec<Duration>,
    wanted: Option<Request>,
    /// How many tasks are not as they are wanted yet.
    missing: u64,
}

/// What is wanted, and who is told when it is so.
struct Request {
    tasks: u64,
    argv: &'static [&'static str],
    until: Until,
    done: oneshot::Sender<Result<(), String>>,
}

/// What tasks are to come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// New tasks run.
    Running,
    /// New tasks have ended.
    Ended,
    /// Those that run were killed.
    Killed,
}

#[async_trait]
impl Scheduler for Tasks {
    type Message = Request;

    async fn message(&mut self, cx: &mut Context<'_>, request: Request) {
        let now = Instant::now();
        for _ in 0..request.tasks {
            self.made += 1;
            let task_id = TaskId::new(format!("task-{}", self.made)).expect("a number makes an id");
            self.live.insert(task_id.clone(), now);
            self.waiting.push_back(task_id);
        }
        self.missing = request.tasks;
        if request.until == Until::Killed {
            self.live.keys().for_each(|task_id| cx.kill(task_id, None));
            self.missing = self.live.len() as u64;
        }
        self.wanted = Some(request);
    }

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        let Some(request) = &self.wanted else { return };
        for mut offer in offers {
            while let Some(task_id) = self.waiting.front() {
                let argv = request.argv.iter().copied();
                let task = Task::new(task_id.as_str()).command(argv).cpus(CPUS).mem_mib(MEM_MIB);
                if offer.launch(task.build().expect("a good task")).is_err() {
                    break;
                }
                self.waiting.pop_front();
            }
        }
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let Some(&submitted) = self.live.get(&status.task_id) else { return };
        let Some(until) = self.wanted.as_ref().map(|request| request.until) else { return };
        let runs = status.state == TaskState::Running;
        if runs {
            self.latencies.push(submitted.elapsed());
        }
        let ended = status.state.is_terminal();
        if ended {
            self.live.remove(&status.task_id);
        }
        let failed = match until {
            Until::Running => ended,
            Until::Ended => ended && status.state != TaskState::Finished,
            Until::Killed => ended && status.state != TaskState::Killed,
        };
        if if until == Until::Running { runs } else { ended } {
            self.missing -= 1;
        }
        if (failed || self.missing == 0)
            && let Some(request) = self.wanted.take()
        {
            let result = if failed { Err(format!("{}: {}", status.state, status.message)) } else { Ok(()) };
            let _ = request.done.send(result);
        }
        if failed {
            cx.stop(Stop::Teardown);
        }
    }

    fn wants_offers(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// The scheduler, from outside.
struct Framework {
    handle: Handle<Request>,
}

impl Framework {
    /// Submits so many tasks at once; returns how long they took to come to what is wanted.
    async fn run(&self, tasks: u64, argv: &'static [&'static str], until: Until) -> Result<Duration, Failed> {
        let (done, told) = oneshot::channel();
        let start = Instant::now();
        let sent = self.handle.send(Request { tasks, argv, until, done }).await;
        sent.map_err(|_| "the driver has ended")?;
        told.await??;
        Ok(start.elapsed())
    }

    /// Kills what runs; returns how long it took until all had ended.
    async fn kill_all(&self) -> Result<Duration, Failed> {
        self.run(0, &[], Until::Killed).await
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let first = args.next().unwrap_or_default();
    if first == "runner" {
        return apportion_containerizer::runner_main(args);
    }
    let args: Vec<String> = std::env::args().collect();
    let quick = args.iter().any(|arg| arg == "--quick");
    let folder = args.iter().position(|arg| arg == "--folder").and_then(|at| args.get(at + 1));
    let folder = PathBuf::from(folder.map_or(env!("CARGO_TARGET_TMPDIR"), String::as_str));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let rest = std::env::args().skip(2).collect();
    let done = match first.to_str() {
        Some(agent::ARGUMENT) => runtime.block_on(agent::main(rest)),
        Some(batch::ARGUMENT) => runtime.block_on(batch::main(rest)),
        _ => runtime.block_on(run(quick, &folder)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("end_to_end: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(quick: bool, folder: &Path) -> Result<(), Failed> {
    let any_port = ([127, 0, 0, 1], 0).into();
    let master =
        apportion_master::Server::bind(apportion_master::Config { listen: any_port, ..Default::default() })
            .await?;
    let address = master.local_addr().to_string();
    let (stop_master, master_stopped) = oneshot::channel::<()>();
    let master = tokio::spawn(master.run(async { drop(master_stopped.await) }));
    let driver = Driver::builder("tasks").master(&address).build()?;
    let framework = Framework { handle: driver.handle() };
    let driver = tokio::spawn(driver.run(Tasks::default()));

    let (singles, many, of_job, sleepers) =
        if quick { (50, 200, 400, 40) } else { (500, 2000, 10_000, 1000) };
    let (rounds, job) = no_ops(&address, &framework, folder, singles, many, of_job).await?;
    let sleepers = sleepers::measure(&address, &framework, sleepers).await?;

    framework.handle.stop(Stop::Teardown).await.map_err(|_| "the driver has ended")?;
    let outcome = driver.await??;
    drop(stop_master);
    master.await??;

    // The warm-up comes first, then the single tasks.
    let latencies = outcome.scheduler.latencies[WARM_UP..WARM_UP + singles].to_vec();
    let mut table = Table::new(&["what", "tasks", "p50 ms", "p99 ms", "tasks/s"]);
    let (p50, p99) = (percentile(latencies.clone(), 50), percentile(latencies, 99));
    table.row(vec!["submit → running".into(), singles.to_string(), ms(p50), ms(p99), "-".into()]);
    let rate = many as f64 / median(rounds).as_secs_f64();
    table.row(vec![
        "no-ops, all at once".into(),
        many.to_string(),
        "-".into(),
        "-".into(),
        format!("{rate:.0}"),
    ]);
    let rate = of_job as f64 / job.as_secs_f64();
    table.row(vec![
        "no-ops, a job of the batch framework".into(),
        of_job.to_string(),
        "-".into(),
        "-".into(),
        format!("{rate:.0}"),
    ]);
    print!("{table}\n{sleepers}");
    Ok(())
}

/// Tasks before anything is measured, for what is done once.
const WARM_UP: usize = 20;

/// One after the other, then rounds of many at once, then a job, on an agent of this process; returns how long each round took, and the job.
async fn no_ops(
    master: &str,
    framework: &Framework,
    folder: &Path,
    singles: usize,
    many: u64,
    of_job: u64,
) -> Result<(Vec<Duration>, Duration), Failed> {
    // Not in /tmp, which a container has for itself.
    let folder = tempfile::tempdir_in(folder)?;
    let agent = apportion_agent::Agent::native(apportion_agent::Config {
        master: vec![master.to_owned()],
        listen: ([127, 0, 0, 1], 0).into(),
        resources: Some("cpus:4;mem:4GiB".parse::<Resources>()?),
        kill_tasks_on_exit: true,
        tethered: true,
        cgroup_parent: format!("apportion-bench-{}", std::process::id()),
        ..apportion_agent::Config::new(folder.path())
    })
    .await?;
    let (stop, stopped) = oneshot::channel::<()>();
    let agent = tokio::spawn(agent.run(async { drop(stopped.await) }));
    framework.run(WARM_UP as u64, &NO_OP, Until::Ended).await?;
    for _ in 0..singles {
        framework.run(1, &NO_OP, Until::Ended).await?;
    }
    let mut rounds = Vec::new();
    for _ in 0..3 {
        rounds.push(framework.run(many, &NO_OP, Until::Ended).await?);
    }
    let job = batch::job(folder.path(), master, of_job).await?;
    drop(stop);
    agent.await??;
    Ok((rounds, job))
}
