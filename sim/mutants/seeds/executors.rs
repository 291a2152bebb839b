//! Executors that come and go, that hear nobody or end nothing they are asked to end, and tasks that are run by them; and what has to
//! have come of it in the end.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{
    AgentId, Context, Offer, Scheduler, Subscription, Task, TaskId, TaskInfo, TaskState, TaskStatus,
    async_trait,
};
use apportion_sim::{Answers, Behaviour, Chaos, Cluster, Failure, Framework, Handle, OnTerm, Rng, Sim};
use apportion_types::Execution;

const SECOND: Duration = Duration::from_secs(1);

/// Tasks of each framework.
const TASKS: usize = 12;

/// Runs each of its tasks to its end by some executor, and launches an executor wherever there is none; in the end it ends them.
pub(crate) struct Runner {
    /// Those that are alive, with their agents.
    executors: BTreeMap<TaskId, AgentId>,
    launched: usize,
    waiting: Vec<(usize, u32)>,
    alive: BTreeMap<TaskId, Alive>,
    done: usize,
    /// Wishes that a task or an executor ends.
    kills: u64,
}

struct Alive {
    number: usize,
    attempt: u32,
    killed: bool,
}

impl Runner {
    fn new() -> Self {
        let waiting = (0..TASKS).map(|number| (number, 0)).collect();
        let (executors, alive) = (BTreeMap::new(), BTreeMap::new());
        Self { executors, launched: 0, waiting, alive, done: 0, kills: 0 }
    }

    fn place(&mut self, mut offer: Offer) {
        let here = self.executors.iter().find(|(_, agent_id)| *agent_id == offer.agent_id());
        let executor = match here.map(|(executor, _)| executor.clone()) {
            Some(executor) => executor,
            None if self.waiting.is_empty() => return,
            None => {
                self.launched += 1;
                let kind = ["good", "good", "deaf", "mute"][self.launched % 4];
                let mut task = describe(&format!("e-{}", self.launched), kind);
                task.execution = Execution::Executor;
                let (task_id, agent_id) = (task.task_id.clone(), offer.agent_id().clone());
                if offer.launch(task).is_err() {
                    return;
                }
                self.executors.insert(task_id.clone(), agent_id);
                task_id
            }
        };
        while let Some((number, attempt)) = self.waiting.pop() {
            let kind = ["good", "fails", "killed", "killed-deaf"][number % 4];
            let kind = if attempt > 0 && kind == "fails" { "good" } else { kind };
            let mut task = describe(&format!("t-{number}-{attempt}"), kind);
            task.execution = Execution::By(executor.clone());
            let task_id = task.task_id.clone();
            if offer.launch(task).is_err() {
                return self.waiting.push((number, attempt));
            }
            self.alive.insert(task_id, Alive { number, attempt, killed: false });
        }
    }
}

fn describe(name: &str, kind: &str) -> TaskInfo {
    let task = Task::new(name).command(["work"]).cpus(0.5).mem_mib(64).label("kind", kind);
    task.kill_grace(2 * SECOND).build().expect("it is written here")
}

#[async_trait]
impl Scheduler for Runner {
    type Message = ();

    async fn subscribed(&mut self, cx: &mut Context<'_>, _subscription: Subscription) {
        cx.wake_after(SECOND);
    }

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        offers.into_iter().for_each(|offer| self.place(offer));
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        cx.wake_after(3 * SECOND);
        if self.done == TASKS {
            self.executors.keys().for_each(|executor| cx.kill(executor, None));
        }
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let over = status.state.is_terminal() || status.state == TaskState::Unknown;
        if over && self.executors.remove(&status.task_id).is_some() {
            return;
        }
        let Some(alive) = self.alive.get_mut(&status.task_id) else { return };
        let to_kill = alive.number % 4 >= 2;
        if status.state == TaskState::Running && to_kill {
            alive.killed = true;
            self.kills += 1;
            cx.kill(&status.task_id, None);
            // Now and then with all that an executor runs.
            if let Some(executor) = self.executors.keys().next().filter(|_| self.kills.is_multiple_of(5)) {
                cx.kill(executor, None);
            }
        }
        if over {
            let Alive { number, attempt, killed } = self.alive.remove(&status.task_id).expect("it is alive");
            match status.state == TaskState::Finished || killed && status.state == TaskState::Killed {
                true => self.done += 1,
                false => self.waiting.push((number, attempt + 1)),
            }
        }
    }

    fn wants_offers(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let executors =
            self.executors.iter().map(|(task_id, agent_id)| (task_id.clone(), Some(agent_id.clone())));
        executors.chain(self.alive.keys().map(|task_id| (task_id.clone(), None))).collect()
    }
}

/// Some executors never subscribe, some end nothing that they are asked to end; some tasks end when that is asked for, or not.
fn behaviour(task: &TaskInfo, rng: &mut Rng) -> Behaviour {
    let time = Duration::from_millis(rng.u64(100..15_000));
    match task.labels["kind"].as_str() {
        "good" if task.is_executor() => Behaviour::runs(),
        "deaf" => Behaviour { on_term: OnTerm::Hangs, ..Behaviour::runs() },
        "mute" => Behaviour { answers: Answers::Never, ..Behaviour::runs() },
        "killed" => Behaviour::runs(),
        "killed-deaf" => Behaviour { on_term: OnTerm::Hangs, ..Behaviour::runs() },
        "fails" => Behaviour::exits(time, 1),
        _ => Behaviour {
            starts_after: Duration::from_millis(rng.u64(0..500)),
            ..Behaviour::succeeds_after(time)
        },
    }
}

pub(crate) type Frameworks = [Handle<Runner>; 2];

/// Three agents, and two frameworks that never die.
pub(crate) fn cluster(chaos: Chaos) -> (Cluster, Frameworks) {
    let mut cluster = Cluster::new()
        .agents(3, "cpus:6;mem:4096")
        .master(|config| {
            config.agent_ping_interval = 2 * SECOND;
            config.agent_pings_missed_max = 3;
            config.agent_reregister_timeout = 20 * SECOND;
            config.offer_timeout = 10 * SECOND;
        })
        .workload(behaviour)
        .clock_skew(5 * SECOND)
        .launches_fail(20_000)
        .signals_fail(50_000)
        .chaos(Chaos { framework_crashes: 0.0, ..chaos });
    let frameworks = ["left", "right"].map(|name| {
        let framework = Framework::new(name, Runner::new);
        cluster.add(framework.role(name).failover_timeout(600 * SECOND))
    });
    (cluster, frameworks)
}

/// Every task has come to its end.
pub(crate) fn all_done(sim: &mut Sim, frameworks: &Frameworks) -> Result<(), Failure> {
    sim.run_until_idle(7200 * SECOND)?;
    for framework in *frameworks {
        let done = sim.scheduler(framework).map(|runner| runner.done);
        if done != Some(TASKS) {
            return Err(sim.failure(format!("{done:?} of {TASKS} tasks of {framework:?} are done")));
        }
    }
    Ok(())
}
