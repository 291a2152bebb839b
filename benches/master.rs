//! The master's state machine alone, without the wire: what it costs to know a cluster, and to pass tasks through it.
//!
//! Everything that peers would say is said here by the bench itself, in order, and its own cost is left out of the figures.
//! `--quick` takes a tenth of everything.

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use apportion_benches::{Table, cpu_timed, ms, percentile, resident_bytes};
use apportion_master_core::{Action, Config, ConnId, Event, Master};
use apportion_types::{
    AgentCapability, AgentId, AgentInfo, Command, FrameworkId, FrameworkInfo, Offer, Resources, Role, Source,
    TaskId, TaskInfo, TaskState, TaskStatus, Time, UpdateId,
    protocol::{
        agent::{AgentMessage, AgentTask, MasterMessage},
        scheduler::{Accept, Call, Event as SchedulerEvent},
    },
};

fn main() {
    let quick = std::env::args().any(|arg| arg == "--quick");
    let scale = if quick { 10 } else { 1 };
    println!("The master's core, alone on one core. Figures are its own processor time.\n");
    let mut table = Table::new(&["what", "how many", "each", "in all, ms", "memory each, bytes"]);
    know_agents(&mut table, 50_000 / scale);
    know_tasks(&mut table, 20_000 / scale, 20);
    println!("{table}");
    let mut table = Table::new(&[
        "agents",
        "frameworks",
        "tasks",
        "at once",
        "µs a task, from offer to acknowledged end",
        "tasks a second",
        "freed to offered, p50 ms",
        "p99 ms",
    ]);
    for (agents, frameworks) in [(1_000, 200), (10_000, 200), (50_000, 200)] {
        pass_tasks(&mut table, agents / scale, frameworks, 200_000 / scale, 500);
    }
    // What 10,000 tasks a second begin and end within the time that changes are gathered.
    pass_tasks(&mut table, 10_000 / scale, 200, 40_000 / scale, 20);
    pass_tasks(&mut table, 50_000 / scale, 200, 40_000 / scale, 20);
    println!("{table}");
    println!(
        "Freed to offered is the processor time of the events in between and of one cycle, with the 2 ms that changes are gathered."
    );
}

/// A master, and the time that it took of the processor.
struct Bench {
    master: Master,
    now: Time,
    spent: Duration,
    conns: u64,
}

impl Bench {
    fn new() -> Self {
        Self {
            master: Master::new(Config::new("m1"), Time::ZERO),
            now: Time::ZERO,
            spent: Duration::ZERO,
            conns: 0,
        }
    }

    fn conn(&mut self) -> ConnId {
        self.conns += 1;
        ConnId(self.conns)
    }

    /// Has events handled, and what is written done at once.
    fn handle(&mut self, events: Vec<Event>) -> Vec<Action> {
        let (master, now) = (&mut self.master, self.now);
        // The shell's is as large as it ever had to be.
        let mut actions = Vec::with_capacity(4 * events.len());
        let (spent, actions) = cpu_timed(|| {
            let mut seen = 0;
            for event in events {
                master.handle(now, event, &mut actions);
                while seen < actions.len() {
                    if let Action::Commit { commit, .. } = actions[seen] {
                        master.handle(now, Event::Committed { commit }, &mut actions);
                    }
                    seen += 1;
                }
            }
            actions
        });
        self.spent += spent;
        actions
    }

    fn register(&mut self, agents: usize, resources: &str, tasks: usize) -> Vec<Action> {
        let events = (0..agents).map(|number| {
            let conn = self.conn();
            Event::AgentMessage { conn, message: registration(number, resources, tasks) }
        });
        let events = events.collect();
        self.handle(events)
    }

    fn subscribe(&mut self, frameworks: usize) -> Vec<ConnId> {
        let conns: Vec<ConnId> = (0..frameworks).map(|_| self.conn()).collect();
        let subscribe = |(number, conn): (usize, &ConnId)| Event::SchedulerCall {
            conn: *conn,
            call_id: 1,
            call: Call::Subscribe {
                info: framework_info(number),
                framework_id: None,
                suppressed: Vec::new(),
                options: Box::default(),
            },
        };
        let events = conns.iter().enumerate().map(subscribe).collect();
        self.handle(events);
        conns
    }

    fn tick(&mut self) -> Vec<Action> {
        let at = self.master.next_deadline().expect("there is always a deadline");
        self.now = self.now.max(at);
        self.handle(vec![Event::Tick])
    }
}

fn framework_info(number: usize) -> FrameworkInfo {
    FrameworkInfo {
        name: format!("framework {number}"),
        principal: "bench".to_owned(),
        roles: vec![Role::default()],
        failover_timeout: Duration::from_secs(3600),
        labels: BTreeMap::new(),
    }
}

fn task(id: &str) -> TaskInfo {
    TaskInfo {
        task_id: TaskId::new(id).expect("a good id"),
        name: "a task".to_owned(),
        resources: "cpus:1;mem:64".parse().expect("good resources"),
        limits: Resources::new(),
        pids_max: None,
        command: Command { argv: vec!["/bin/sleep".to_owned(), "30".to_owned()], env: BTreeMap::new() },
        kill_grace: None,
        labels: BTreeMap::new(),
        volumes: Vec::new(),
        container: Default::default(),
        supervision: Default::default(),
        group: None,
        execution: Default::default(),
    }
}

/// An agent as it registers; with tasks, as one that an earlier master knew.
fn registration(number: usize, resources: &str, tasks: usize) -> AgentMessage {
    let info = AgentInfo {
        hostname: format!("host-{number}.cluster.example"),
        address: format!("host-{number}.cluster.example:5051"),
        resources: resources.parse().expect("good resources"),
        attributes: [("rack".to_owned(), format!("r{}", number % 40))].into(),
        domain: None,
        unenforced: Vec::new(),
        version: "0.1.0".to_owned(),
        capabilities: AgentCapability::ALL.into(),
        work_dir_id: String::new(),
    };
    let task = |index: usize| AgentTask {
        framework_id: FrameworkId::new(format!("m0-F{:04}", (number + index) % 200)).expect("a good id"),
        framework_info: framework_info(0),
        role: Role::default(),
        info: task(&format!("task-{number}-{index}")),
        state: TaskState::Running,
        unacknowledged: None,
    };
    AgentMessage::Register {
        total: info.resources.clone(),
        info,
        agent_id: (tasks > 0).then(|| AgentId::new(format!("m0-A{number:05}")).expect("a good id")),
        tasks: (0..tasks).map(task).collect(),
        operations: Vec::new(),
    }
}

const AGENT: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";

fn know_agents(table: &mut Table, agents: usize) {
    let mut bench = Bench::new();
    let before = resident_bytes();
    drop(bench.register(agents, AGENT, 0));
    let memory = resident_bytes().saturating_sub(before) / agents;
    let each = format!("{:.1} µs", bench.spent.as_secs_f64() * 1e6 / agents as f64);
    table.row(vec![
        "agents registered".to_owned(),
        agents.to_string(),
        each,
        ms(bench.spent),
        memory.to_string(),
    ]);
}

fn know_tasks(table: &mut Table, agents: usize, tasks_each: usize) {
    let mut bench = Bench::new();
    drop(bench.register(agents, AGENT, 0));
    let mut bench = Bench::new();
    let before = resident_bytes();
    drop(bench.register(agents, AGENT, tasks_each));
    let tasks = agents * tasks_each;
    let memory = resident_bytes().saturating_sub(before) / tasks;
    let each = format!("{:.1} µs", bench.spent.as_secs_f64() * 1e6 / tasks as f64);
    let what = format!("tasks brought by {agents} agents, their agents' memory included");
    table.row(vec![what, tasks.to_string(), each, ms(bench.spent), memory.to_string()]);
    let (read, held) = cpu_timed(|| {
        let view = bench.master.view();
        view.tasks.values().filter(|task| task.state.holds_resources()).count()
    });
    let each = format!("{:.3} µs", read.as_secs_f64() * 1e6 / tasks as f64);
    table.row(vec![
        "tasks of a view looked through".to_owned(),
        held.to_string(),
        each,
        ms(read),
        "0".to_owned(),
    ]);
}

/// Frameworks that launch one task on each offer, agents that run it and tell its end: so many at once, as fast as it goes.
fn pass_tasks(table: &mut Table, agents: usize, frameworks: usize, tasks: usize, at_once: usize) {
    let mut bench = Bench::new();
    let registered = bench.register(agents, "cpus:1;mem:64", 0);
    let mut agent_conns: BTreeMap<AgentId, ConnId> = BTreeMap::new();
    for action in registered {
        if let Action::ToAgent { conn, message: MasterMessage::Registered { agent_id, .. } } = action {
            agent_conns.insert(agent_id, conn);
        }
    }
    bench.subscribe(frameworks);
    bench.spent = Duration::ZERO;
    let (mut launched, mut updates, mut ended) = (0, 0, 0);
    let mut offers: VecDeque<(ConnId, Offer)> = VecDeque::new();
    let mut freed: BTreeMap<AgentId, Duration> = BTreeMap::new();
    let mut waits: Vec<Duration> = Vec::new();
    while ended < tasks {
        for action in bench.tick() {
            if let Action::ToScheduler { conn, event: SchedulerEvent::Offers(made) } = action {
                for offer in made {
                    if let Some(at) = freed.remove(&offer.agent_id) {
                        waits.push(bench.spent - at + Duration::from_millis(2));
                    }
                    offers.push_back((conn, offer));
                }
            }
        }
        let burst: Vec<(ConnId, Offer)> = offers.drain(..offers.len().min(at_once)).collect();
        let accepts = burst.into_iter().map(|(conn, offer)| {
            launched += 1;
            let call =
                Call::Accept(Accept::launch(vec![offer.offer_id], vec![task(&format!("t{launched}"))], None));
            Event::SchedulerCall { conn, call_id: launched, call }
        });
        let accepts = accepts.collect();
        let mut said = bench.handle(accepts);
        for state in [TaskState::Running, TaskState::Finished] {
            let mut told = Vec::new();
            for action in &said {
                if let Action::ToAgent {
                    conn,
                    message: MasterMessage::RunTasks { framework_id, tasks, .. },
                } = action
                {
                    for info in tasks {
                        updates += 1;
                        told.push(update(*conn, framework_id, &info.task_id, state, updates));
                    }
                }
            }
            let at = bench.spent;
            let heard = bench.handle(told);
            let mut acknowledged = Vec::new();
            for action in heard {
                if let Action::ToScheduler { conn, event: SchedulerEvent::Update(status) } = action {
                    let (agent_id, update_id) =
                        (status.agent_id.expect("by an agent"), status.update_id.expect("by an agent"));
                    if state == TaskState::Finished {
                        freed.insert(agent_id.clone(), at);
                        ended += 1;
                    }
                    let call = Call::Acknowledge { agent_id, task_id: status.task_id, update_id };
                    acknowledged.push(Event::SchedulerCall { conn, call_id: 1, call });
                }
            }
            bench.handle(acknowledged);
        }
        said.clear();
    }
    let each = bench.spent.as_secs_f64() * 1e6 / ended as f64;
    table.row(vec![
        agents.to_string(),
        frameworks.to_string(),
        ended.to_string(),
        at_once.to_string(),
        format!("{each:.1}"),
        format!("{:.0}", 1e6 / each),
        ms(percentile(waits.clone(), 50)),
        ms(percentile(waits, 99)),
    ]);
}

fn update(
    conn: ConnId,
    framework_id: &FrameworkId,
    task_id: &TaskId,
    state: TaskState,
    number: u64,
) -> Event {
    let status = TaskStatus {
        task_id: task_id.clone(),
        agent_id: None,
        state,
        reason: None,
        source: Source::Agent,
        message: String::new(),
        at: Time::ZERO,
        update_id: Some(UpdateId::new(1, number)),
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    };
    let message =
        AgentMessage::StatusUpdate { framework_id: framework_id.clone(), status, latest_state: state };
    Event::AgentMessage { conn, message }
}
