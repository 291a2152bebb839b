//! The cluster as it is: every process, every disk, every wire, and what is going to happen to them.
//!
//! One file for each kind of process holds its shell: what an actor loop does with threads and sockets is done here with a queue of
//! happenings in virtual time.

mod agent;
mod executor;
mod faults;
mod framework;
mod master;
mod operator;
mod wire;

use std::{cell::OnceCell, fmt, time::Duration};

use apportion_agent_core::ContainerId;
use apportion_master_core::{CommitId, Master, View};
use apportion_types::{AgentId, FrameworkId, TaskInfo, Time};

pub(crate) use self::{
    agent::Agent,
    framework::{Death, FrameworkProcess},
    master::MasterProcess,
};
use crate::{
    check::{Check, Happening},
    clock::{Clock, START},
    fault::{Process, Timed, Ways},
    history::History,
    machine::Behaviour,
    network::{Network, Peer, Way},
    queue::Queue,
    random::{self, Chance},
    write::Writes,
};

/// So many happenings at one instant mean that somebody spins.
const AT_ONCE_MAX: u32 = 1_000_000;

/// What is going to happen. `life` is the number of the process that it is meant for; it concerns no later one.
#[derive(Debug)]
pub(crate) enum What {
    /// The head of a lane comes out.
    Deliver { conn: usize, way: Way },
    /// A core's deadline.
    Tick(Process),
    /// A process begins.
    Start(Process),
    /// An agent opens a stream.
    AgentConnects { agent: usize, life: u64 },
    /// An attempt to connect has its answer.
    Answered { peer: Peer, life: u64, attempt: u64 },
    /// The master's side of a stream that it has ended is gone.
    ServerEnds { conn: usize },
    /// One end of a connection has heard nothing since its link was cut.
    Silent { conn: usize, cuts: u64, server: bool },
    /// The registry has written.
    Committed { life: u64, commits: Vec<CommitId> },
    /// An agent's disk has written.
    Written { agent: usize, life: u64 },
    /// A container moves on.
    Step { agent: usize, container: ContainerId, step: u64 },
    /// A container answers a probe.
    Probed { agent: usize, life: u64, container: ContainerId, heard: agent::Heard },
    /// An executor opens a stream to its agent.
    ExecutorConnects { agent: usize, life: u64, container: ContainerId },
    /// An agent's estimator has looked what could be lent.
    Estimated { agent: usize, life: u64 },
    /// The next fault of the script.
    Fault { number: usize },
    /// A link is whole again.
    Heals { peer: Peer, ways: Ways },
    /// An operator looks whether his wish is done.
    OperatorLooks { number: usize },
    /// A link is as fast as before.
    Quickens { peer: Peer, times: u32 },
}

/// How slow disks are.
pub(crate) const DISK_LEAST: Duration = Duration::from_micros(100);
pub(crate) const DISK_MOST: Duration = Duration::from_millis(5);

/// Why a run ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Violation {
    /// Which property is broken.
    pub(crate) check: &'static str,
    pub(crate) message: String,
    pub(crate) at: Time,
}

/// Decides what a task does.
pub(crate) type Workload = Box<dyn FnMut(&TaskInfo, &mut fastrand::Rng) -> Behaviour>;

/// What goes wrong by itself, beside the script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Odds {
    /// Launches in a million that fail.
    pub(crate) launch_fails_ppm: u32,
    /// Signals in a million that do not get through.
    pub(crate) signal_fails_ppm: u32,
}

/// The cluster.
pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) seed: u64,
    pub(crate) queue: Queue<What>,
    pub(crate) chance: Chance,
    pub(crate) network: Network,
    pub(crate) master: MasterProcess,
    pub(crate) agents: Vec<Agent>,
    pub(crate) frameworks: Vec<FrameworkProcess>,
    operators: Vec<operator::Operator>,
    pub(crate) workload: Workload,
    pub(crate) odds: Odds,
    /// The master has a work directory: agents and frameworks are in a registry that outlives it. One run in four is without.
    pub(crate) keeps_registry: bool,
    pub(crate) skew_max: Duration,
    pub(crate) script: Vec<Timed>,
    /// Faults of the script that have begun.
    pub(crate) faults_begun: usize,
    /// When the last fault is over.
    pub(crate) faults_over_at: Time,
    /// What the master saw before its last event; kept only for the checks.
    view_before: View,
    /// What the master shows; taken when somebody looks, or for the checks after each event.
    view: OnceCell<View>,
    checks: Vec<Box<dyn Check>>,
    /// There are checks; they are not there while they look.
    is_checked: bool,
    pub(crate) history: History,
    pub(crate) violation: Option<Violation>,
    /// When something other than a sign of life, or an offer that comes and goes, happened last.
    pub(crate) progress_at: Time,
    /// Happenings so far.
    pub(crate) steps: u64,
    pub(crate) writes: Writes,
    at_once: u32,
}

/// All that a world is made of.
pub(crate) struct Parts {
    pub(crate) seed: u64,
    pub(crate) master: MasterProcess,
    pub(crate) agents: Vec<Agent>,
    pub(crate) frameworks: Vec<FrameworkProcess>,
    pub(crate) network: Network,
    pub(crate) workload: Workload,
    pub(crate) odds: Odds,
    pub(crate) skew_max: Duration,
    pub(crate) script: Vec<Timed>,
    pub(crate) checks: Vec<Box<dyn Check>>,
    pub(crate) history: History,
    /// Agents and frameworks begin within so long.
    pub(crate) starts_within: Duration,
    pub(crate) writes: Writes,
}

impl World {
    pub(crate) fn new(parts: Parts) -> Self {
        let faults_over_at = START + parts.script.iter().map(Timed::over).max().unwrap_or_default();
        let mut world = Self {
            now: START,
            seed: parts.seed,
            queue: Queue::default(),
            chance: Chance::new(parts.seed),
            network: parts.network,
            master: parts.master,
            agents: parts.agents,
            frameworks: parts.frameworks,
            operators: Vec::new(),
            workload: parts.workload,
            odds: parts.odds,
            keeps_registry: random::stream(parts.seed, 9).u32(0..4) != 0,
            skew_max: parts.skew_max,
            script: parts.script,
            faults_begun: 0,
            faults_over_at,
            view_before: View::default(),
            view: OnceCell::new(),
            is_checked: !parts.checks.is_empty(),
            checks: parts.checks,
            history: parts.history,
            violation: None,
            progress_at: START,
            steps: 0,
            writes: parts.writes,
            at_once: 0,
        };
        world.queue.push(START, What::Start(Process::Master));
        for agent in 0..world.agents.len() {
            let at = world.soon(parts.starts_within);
            world.queue.push(at, What::Start(Process::Agent(agent)));
        }
        for framework in 0..world.frameworks.len() {
            let at = world.soon(parts.starts_within);
            world.queue.push(at, What::Start(Process::Framework(framework)));
        }
        if let Some(first) = world.script.first() {
            world.queue.push(START + first.at, What::Fault { number: 0 });
        }
        world
    }

    fn soon(&mut self, within: Duration) -> Time {
        self.now + random::between(&mut self.chance.processes, Duration::ZERO, within)
    }

    /// How long the run has lasted.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now.since(START)
    }

    /// Lets the next thing happen, unless it is after `until`; false when there is none, or the run is over.
    pub(crate) fn step(&mut self, until: Time) -> bool {
        if self.violation.is_some() {
            return false;
        }
        if self.queue.next().is_none_or(|next| next > until) {
            self.now = self.now.max(until);
            return false;
        }
        let Some((at, what)) = self.queue.pop() else { return false };
        self.at_once = if at == self.now { self.at_once + 1 } else { 0 };
        self.now = at;
        self.steps += 1;
        if self.at_once > AT_ONCE_MAX {
            self.violate(
                "time",
                format!("{AT_ONCE_MAX} things have happened at one instant, the last: {what:?}"),
            );
            return false;
        }
        match what {
            What::Deliver { conn, way } => self.deliver(conn, way),
            What::Tick(process) => self.tick(process),
            What::Start(process) => self.start(process),
            What::AgentConnects { agent, life } => self.agent_connects(agent, life),
            What::Answered { peer, life, attempt } => self.answered(peer, life, attempt),
            What::ServerEnds { conn } => self.server_ends(conn),
            What::Silent { conn, cuts, server } => self.silent(conn, cuts, server),
            What::Committed { life, commits } => self.committed(life, commits),
            What::Written { agent, life } => self.written(agent, life),
            What::Step { agent, container, step } => self.container_steps(agent, &container, step),
            What::Probed { agent, life, container, heard } => self.probed(agent, life, container, heard),
            What::ExecutorConnects { agent, life, container } => {
                self.executor_connects(agent, life, &container);
            }
            What::Estimated { agent, life } => self.estimated(agent, life),
            What::Fault { number } => self.fault(number),
            What::Heals { peer, ways } => self.heals(peer, ways),
            What::OperatorLooks { number } => self.operator_looks(number),
            What::Quickens { peer, times } => self.network.link_mut(peer).slowness /= times,
        }
        self.violation.is_none()
    }

    fn tick(&mut self, process: Process) {
        match process {
            Process::Master => self.master_ticks(),
            Process::Agent(agent) => self.agent_ticks(agent),
            Process::Framework(framework) => self.framework_ticks(framework),
        }
    }

    fn start(&mut self, process: Process) {
        self.progress();
        self.observe(&Happening::Started(process));
        match process {
            Process::Master => self.start_master(),
            Process::Agent(agent) => self.start_agent(agent),
            Process::Framework(framework) => self.start_framework(framework),
        }
    }

    /// A new process's clock.
    fn new_clock(&mut self) -> Clock {
        Clock::skewed(&mut self.chance.processes, self.skew_max)
    }

    /// Something has happened that is more than a sign of life.
    pub(crate) fn progress(&mut self) {
        self.progress_at = self.now;
    }

    /// Shows the checks what happens.
    pub(crate) fn observe(&mut self, happening: &Happening<'_>) {
        self.history.note(self.now, happening);
        let mut checks = std::mem::take(&mut self.checks);
        for check in &mut checks {
            if let Err(message) = check.observe(self, happening) {
                self.violate(check.name(), message);
            }
        }
        self.checks = checks;
    }

    /// Shows the checks the end.
    pub(crate) fn check_at_rest(&mut self) {
        let mut checks = std::mem::take(&mut self.checks);
        for check in &mut checks {
            if let Err(message) = check.at_rest(self) {
                self.violate(check.name(), message);
            }
        }
        self.checks = checks;
    }

    /// Ends the run; only the first violation counts.
    pub(crate) fn violate(&mut self, check: &'static str, message: String) {
        if self.violation.is_none() {
            self.history.violated(self.now, check, &message);
            self.violation = Some(Violation { check, message, at: self.now });
        }
    }

    /// What the master shows, after its last event; of one that is down, what it showed last.
    pub(crate) fn view(&self) -> &View {
        self.view.get_or_init(|| self.master.core.as_ref().map(Master::view).unwrap_or_default())
    }

    /// What the master showed before its last event.
    pub(crate) fn view_before(&self) -> &View {
        &self.view_before
    }

    /// The id of a framework's process, if it is up and has one.
    pub(crate) fn framework_id(&self, number: usize) -> Option<&FrameworkId> {
        self.frameworks[number].process.as_ref()?.framework_id()
    }

    /// The id of an agent's process, if it is up and has one.
    pub(crate) fn agent_id(&self, number: usize) -> Option<AgentId> {
        self.agents[number].core.as_ref()?.view().agent_id
    }

    /// True when what the registry has outlives a master.
    pub(crate) fn keeps_registry(&self) -> bool {
        self.keeps_registry
    }

    /// True when no fault is to come or holds, and every process that should be up is, and has a connection.
    pub(crate) fn is_calm(&self) -> bool {
        self.faults_begun == self.script.len()
            && self.now >= self.faults_over_at
            && self.master.core.is_some()
            && self.agents.iter().all(|agent| agent.conn().is_some())
            && self.frameworks.iter().all(|framework| framework.conn().is_some() || framework.ended.is_some())
    }

    /// True when some container is going to end, or to start, by itself.
    pub(crate) fn tasks_move(&self) -> bool {
        self.agents.iter().any(Agent::has_moving_tasks)
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("seed", &self.seed).field("now", &self.now).finish_non_exhaustive()
    }
}
