//! A cluster in which everything that can happen to tasks happens to some.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{
    AgentId, Context, Offer, Scheduler, Subscription, Task, TaskId, TaskInfo, TaskState, TaskStatus,
    async_trait,
};
use apportion_sim::{
    Behaviour, Chaos, Cluster, Delays, Ending, Failure, Framework, Handle, OnTerm, Rng, Sim, Store,
};

const SECOND: Duration = Duration::from_secs(1);

/// What becomes of a task, by its number: some end by themselves, well or badly at the first attempt; some run until they are killed,
/// and hear TERM or not; some run for ever; some have ports.
const KINDS: [&str; 8] = ["short", "port", "fails", "oom", "deaf", "service", "missing", "killed"];

/// Runs tasks of every kind until all that can end have, each as it should; then still wants offers, or not, as it was made.
/// Stores what it launches before it does.
pub(crate) struct Mixed {
    store: Store,
    greedy: bool,
    alive: BTreeMap<usize, Alive>,
    waiting: Vec<(usize, u32)>,
    kept: Vec<Offer>,
    done: usize,
}

struct Alive {
    task_id: TaskId,
    agent_id: AgentId,
    /// Times that it was seen running at a wake-up.
    seen: u32,
    runs: bool,
    /// Times that it was seen unreachable in a row.
    lost: u32,
    unreachable: bool,
}

impl Alive {
    fn new(task_id: TaskId, agent_id: AgentId) -> Self {
        Alive { task_id, agent_id, seen: 0, runs: false, lost: 0, unreachable: false }
    }
}

/// Times that a task is seen unreachable before another is launched in its place: its agent may never return.
const LOST_MAX: u32 = 30;

fn kind(number: usize) -> &'static str {
    KINDS[number % KINDS.len()]
}

/// The number and the attempt in a task's name.
fn parts(task_id: &TaskId) -> (usize, u32) {
    let mut parts = task_id.as_str().split('-').skip(1);
    (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap())
}

impl Mixed {
    /// One that gives back what it has no use for, and does not want more when it has nothing left to do.
    fn new(store: &Store, tasks: usize) -> Self {
        let mut mixed = Mixed {
            store: store.clone(),
            greedy: false,
            alive: BTreeMap::new(),
            waiting: Vec::new(),
            kept: Vec::new(),
            done: 0,
        };
        for number in (0..tasks).rev() {
            let text = store.load(&number.to_string()).map(|text| String::from_utf8(text).unwrap());
            match text.as_deref().map(|text| text.split(' ').collect::<Vec<_>>()).as_deref() {
                None => mixed.waiting.push((number, 0)),
                Some(["done"]) => mixed.done += 1,
                Some(["again", attempt]) => mixed.waiting.push((number, attempt.parse().unwrap())),
                Some([task_id, agent_id]) => {
                    let (task_id, agent_id) =
                        (TaskId::new(*task_id).unwrap(), AgentId::new(*agent_id).unwrap());
                    mixed.alive.insert(number, Alive::new(task_id, agent_id));
                }
                Some(other) => panic!("{other:?}"),
            }
        }
        mixed
    }

    /// One that always wants offers, and keeps some for a while.
    fn greedy(store: &Store, tasks: usize) -> Self {
        Self { greedy: true, ..Self::new(store, tasks) }
    }

    /// The next attempt at a task.
    fn again(&mut self, number: usize, attempt: u32) {
        self.alive.remove(&number);
        self.store.save(&number.to_string(), format!("again {}", attempt + 1));
        self.waiting.push((number, attempt + 1));
    }

    fn place(&mut self, offer: &mut Offer) {
        while let Some((number, attempt)) = self.waiting.pop() {
            let mut task =
                Task::new(format!("t-{number}-{attempt}")).command(["work"]).cpus(1.0).mem_mib(128);
            task =
                task.label("kind", kind(number)).label("attempt", attempt.to_string()).kill_grace(2 * SECOND);
            if kind(number) == "port" {
                let Some(ports) = offer.take_ports(1) else {
                    self.waiting.push((number, attempt));
                    break;
                };
                task = task.ports(ports);
            }
            let task = task.build().unwrap();
            let (task_id, agent_id) = (task.task_id.clone(), offer.agent_id().clone());
            self.store.save(&number.to_string(), format!("{task_id} {agent_id}"));
            if offer.launch(task).is_err() {
                self.store.save(&number.to_string(), format!("again {attempt}"));
                self.waiting.push((number, attempt));
                break;
            }
            self.alive.insert(number, Alive::new(task_id, agent_id));
        }
    }
}

#[async_trait]
impl Scheduler for Mixed {
    type Message = ();

    async fn subscribed(&mut self, cx: &mut Context<'_>, _subscription: Subscription) {
        cx.wake_after(SECOND);
    }

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            self.place(&mut offer);
            if self.greedy && offer.is_untouched() && self.kept.len() < 2 {
                self.kept.push(offer);
            } else if self.waiting.len().is_multiple_of(2) {
                offer.refuse_for(SECOND);
            }
        }
    }

    async fn disconnected(&mut self, _cx: &mut Context<'_>, _why: String) {
        self.kept.clear();
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        cx.wake_after(3 * SECOND);
        if !self.kept.is_empty() {
            let mut offer = self.kept.remove(0);
            self.place(&mut offer);
        }
        let mut given_up = Vec::new();
        for (number, alive) in &mut self.alive {
            alive.seen += u32::from(alive.runs);
            alive.lost = if alive.unreachable { alive.lost + 1 } else { 0 };
            if ["deaf", "killed"].contains(&kind(*number)) && alive.seen == 2 {
                cx.kill(&alive.task_id, None);
            }
            if alive.lost == LOST_MAX {
                given_up.push((*number, parts(&alive.task_id).1));
            }
        }
        for (number, attempt) in given_up {
            self.again(number, attempt);
        }
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let (number, attempt) = parts(&status.task_id);
        let Some(alive) = self.alive.get_mut(&number).filter(|alive| alive.task_id == status.task_id) else {
            if status.state.holds_resources() {
                cx.kill(&status.task_id, None); // it was given up, and has returned
            }
            return;
        };
        alive.runs |= status.state == TaskState::Running;
        alive.unreachable = status.state == TaskState::Unreachable;
        let killed = ["deaf", "killed"].contains(&kind(number)) && status.state == TaskState::Killed;
        if status.state == TaskState::Finished || killed {
            self.alive.remove(&number);
            self.store.save(&number.to_string(), "done");
            self.done += 1;
        } else if status.state.is_terminal() || status.state == TaskState::Unknown {
            self.again(number, attempt);
        }
    }

    fn wants_offers(&self) -> bool {
        self.greedy || !self.waiting.is_empty()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.alive.values().map(|alive| (alive.task_id.clone(), Some(alive.agent_id.clone()))).collect()
    }
}

fn behaviour(task: &TaskInfo, rng: &mut Rng) -> Behaviour {
    let first = task.labels["attempt"] == "0";
    let time = Duration::from_millis(rng.u64(100..15_000));
    match task.labels["kind"].as_str() {
        "fails" if first => Behaviour::exits(time, 1),
        "oom" if first => Behaviour { ends: Ending::OutOfMemory, ..Behaviour::succeeds_after(time) },
        "deaf" => Behaviour { on_term: OnTerm::Hangs, ..Behaviour::runs() },
        "service" => Behaviour::runs(),
        "killed" => {
            Behaviour { on_term: OnTerm::Ends(Duration::from_millis(rng.u64(0..4_000))), ..Behaviour::runs() }
        }
        "missing" if first => Behaviour::not_found(),
        _ => Behaviour {
            starts_after: Duration::from_millis(rng.u64(0..500)),
            ..Behaviour::succeeds_after(time)
        },
    }
}

/// The frameworks of the mixed cluster.
pub(crate) struct Frameworks {
    /// Those that remember; the last of them always wants offers.
    steady: [Handle<Mixed>; 3],
    /// One that remembers nothing: after a crash it is another.
    fleeting: Handle<Mixed>,
}

/// Tasks of each steady framework.
const TASKS: usize = 16;

/// Four agents with less room than is wanted, four frameworks in three roles, one of them with a quota limit and one with a weight, and
/// two bad minutes.
pub(crate) fn mixed() -> (Cluster, Frameworks) {
    let mut cluster = Cluster::new()
        .agents(3, "cpus:6;mem:4096;ports:[31000-31001]")
        .agents(1, "cpus:8;mem:1024;ports:[31000-31000]")
        .master(|config| {
            config.agent_ping_interval = 2 * SECOND;
            config.agent_pings_missed_max = 3;
            config.agent_reregister_timeout = 20 * SECOND;
            config.scheduler_heartbeat = 3 * SECOND;
            config.offer_timeout = 10 * SECOND;
        })
        .allocator(|config| {
            config.weights.insert("right".parse().unwrap(), "2".parse().unwrap());
            let limited = config.quotas.entry("limited".parse().unwrap()).or_default();
            limited.limit = Some("cpus:7;mem:2048".parse().unwrap());
        })
        .workload(behaviour)
        .clock_skew(5 * SECOND)
        .launches_fail(20_000)
        .signals_fail(50_000)
        .chaos(Chaos::bad_day(120 * SECOND));
    let [left, right] = ["left", "right"].map(|name| {
        let framework = Framework::stored(name, |store| Mixed::new(store, TASKS));
        cluster.add(framework.role(name).failover_timeout(60 * SECOND))
    });
    let greedy = Framework::stored("greedy", |store| Mixed::greedy(store, TASKS));
    let greedy = cluster.add(greedy.role("right").role("limited").failover_timeout(60 * SECOND));
    let fleeting = Framework::new("fleeting", || Mixed::new(&Store::default(), 4));
    let fleeting = cluster.add(fleeting.role("limited").failover_timeout(15 * SECOND));
    (cluster, Frameworks { steady: [left, right, greedy], fleeting })
}

/// The same on a network so slow that what was said on a connection that was given up may come after the next has spoken.
pub(crate) fn overtaken() -> (Cluster, Frameworks) {
    let (cluster, frameworks) = mixed();
    let millis = Duration::from_millis;
    let (least, most, straggler_most) = (millis(1), millis(400), millis(6_000));
    (cluster.delays(Delays { least, most, stragglers_ppm: 20_000, straggler_most }), frameworks)
}

/// The same for five minutes in which everything dies all the time, and some are cut off for longer than anybody waits.
pub(crate) fn wild() -> (Cluster, Frameworks) {
    let (cluster, frameworks) = mixed();
    let chaos = Chaos {
        longest: 150 * SECOND,
        cuts: 8.0,
        breaks: 10.0,
        slow: 4.0,
        master_crashes: 3.0,
        agent_crashes: 8.0,
        reboots: 1.0,
        disk_failures: 2.0,
        framework_crashes: 4.0,
        out_of_memory: 3.0,
        ..Chaos::bad_day(300 * SECOND)
    };
    (cluster.chaos(chaos), frameworks)
}

/// An operator kills a task and tears a framework down; in the end all work is done that ends.
pub(crate) fn to_the_end(sim: &mut Sim, frameworks: &Frameworks) -> Result<(), Failure> {
    sim.run_for(20 * SECOND)?;
    let first = sim.running().next().map(|(_, key)| key.clone());
    if let Some((framework_id, task_id)) = first {
        sim.kill(Some(framework_id), task_id, None);
    }
    sim.run_for(25 * SECOND)?;
    if let Some(id) = sim.framework_id(frameworks.fleeting).cloned() {
        sim.teardown(id);
    }
    sim.run_until_idle(7200 * SECOND)?;
    let ends = (0..TASKS).filter(|number| kind(*number) != "service").count();
    for framework in frameworks.steady {
        let done = sim.scheduler(framework).map(|mixed| mixed.done);
        if done != Some(ends) {
            return Err(sim.failure(format!("{done:?} of {ends} tasks of {framework:?} are done")));
        }
    }
    Ok(())
}

#[test]
fn whatever_happens_to_tasks_the_properties_hold() {
    apportion_sim::check(0..50, mixed, to_the_end);
}

#[test]
fn whatever_overtakes_what_the_properties_hold() {
    apportion_sim::check(0..25, overtaken, to_the_end);
}

#[test]
fn whatever_dies_the_properties_hold() {
    apportion_sim::check(0..25, wild, to_the_end);
}
