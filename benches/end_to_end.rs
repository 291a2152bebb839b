//! The whole path: a scheduler on the SDK, a real master and one real agent on loopback, real containers.
//!
//! - submit → running: one task at a time, from the scheduler having work (it was suppressed) to the update that it runs;
//! - no-op tasks per second: all submitted at once, until the last terminal update was acknowledged.
//!
//! `cargo bench -p apportion-benches --bench end_to_end -- [--quick]`

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::{
    collections::{BTreeMap, VecDeque},
    process::ExitCode,
    time::{Duration, Instant},
};

use apportion_benches::{Table, median, ms, percentile};
use apportion_sdk::{
    Context, Driver, Offer, Resources, Scheduler, Stop, Task, TaskId, TaskState, TaskStatus, async_trait,
};

/// So small that the agent, and not the offer, says how many run at once.
const CPUS: f64 = 0.05;
const MEM_MIB: u64 = 16;

/// Runs no-op tasks as it is told to and notes when each was submitted, ran and ended.
#[derive(Default)]
struct NoOps {
    /// Numbers tasks over all requests.
    made: u64,
    waiting: VecDeque<TaskId>,
    live: BTreeMap<TaskId, Instant>,
    /// Submit → running, of each task that came to run.
    latencies: Vec<Duration>,
    done: Option<tokio::sync::oneshot::Sender<Result<(), String>>>,
}

/// So many tasks, and who is told when the last has ended.
struct Request {
    tasks: u64,
    done: tokio::sync::oneshot::Sender<Result<(), String>>,
}

#[async_trait]
impl Scheduler for NoOps {
    type Message = Request;

    async fn message(&mut self, _cx: &mut Context<'_>, request: Request) {
        let now = Instant::now();
        for _ in 0..request.tasks {
            self.made += 1;
            let task_id = TaskId::new(format!("no-op-{}", self.made)).expect("a number makes an id");
            self.live.insert(task_id.clone(), now);
            self.waiting.push_back(task_id);
        }
        self.done = Some(request.done);
    }

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            while let Some(task_id) = self.waiting.front() {
                let task = Task::new(task_id.as_str()).command(["/bin/true"]).cpus(CPUS).mem_mib(MEM_MIB);
                if offer.launch(task.build().expect("a good task")).is_err() {
                    break;
                }
                self.waiting.pop_front();
            }
        }
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let Some(&submitted) = self.live.get(&status.task_id) else { return };
        if status.state == TaskState::Running {
            self.latencies.push(submitted.elapsed());
        }
        if !status.state.is_terminal() {
            return;
        }
        self.live.remove(&status.task_id);
        let failed = status.state != TaskState::Finished;
        if failed || self.live.is_empty() {
            let result = if failed { Err(format!("{}: {}", status.state, status.message)) } else { Ok(()) };
            if let Some(done) = self.done.take() {
                let _ = done.send(result);
            }
        }
        if failed {
            cx.stop(Stop::Teardown);
        }
    }

    fn wants_offers(&self) -> bool {
        !self.waiting.is_empty()
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "runner") {
        return apportion_containerizer::runner_main(args);
    }
    let quick = std::env::args().any(|arg| arg == "--quick");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    match runtime.block_on(run(quick)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("end_to_end: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

async fn run(quick: bool) -> Result<(), Failed> {
    // Not in /tmp, which a container has for itself.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let any_port = ([127, 0, 0, 1], 0).into();
    let master =
        apportion_master::Server::bind(apportion_master::Config { listen: any_port, ..Default::default() })
            .await?;
    let address = master.local_addr().to_string();
    let agent = apportion_agent::Agent::native(apportion_agent::Config {
        master: vec![address.clone()],
        listen: any_port,
        resources: Some("cpus:4;mem:4GiB".parse::<Resources>()?),
        kill_tasks_on_exit: true,
        tethered: true,
        cgroup_parent: format!("apportion-bench-{}", std::process::id()),
        ..apportion_agent::Config::new(folder.path())
    })
    .await?;
    let (stop_agent, agent_stopped) = tokio::sync::oneshot::channel::<()>();
    let (stop_master, master_stopped) = tokio::sync::oneshot::channel::<()>();
    let master = tokio::spawn(master.run(async { drop(master_stopped.await) }));
    let agent = tokio::spawn(agent.run(async { drop(agent_stopped.await) }));

    let driver = Driver::builder("no-ops").master(address).build()?;
    let handle = driver.handle();
    let driver = tokio::spawn(driver.run(NoOps::default()));
    let submit = async |tasks| -> Result<Duration, Failed> {
        let (done, ended) = tokio::sync::oneshot::channel();
        let start = Instant::now();
        handle.send(Request { tasks, done }).await.map_err(|_| "the driver has ended")?;
        ended.await??;
        Ok(start.elapsed())
    };
    submit(20).await?; // warms up what is done once

    let (singles, many) = if quick { (50, 200) } else { (500, 2000) };
    for _ in 0..singles {
        submit(1).await?;
    }
    let mut rounds = Vec::new();
    for _ in 0..3 {
        rounds.push(submit(many).await?);
    }
    handle.stop(Stop::Teardown).await.map_err(|_| "the driver has ended")?;
    let outcome = driver.await??;
    drop(stop_agent);
    agent.await??;
    drop(stop_master);
    master.await??;

    // The warm-up comes first, then the single tasks.
    let latencies = outcome.scheduler.latencies[20..20 + singles].to_vec();
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
    print!("{table}");
    Ok(())
}
