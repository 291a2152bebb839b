//! An agent's process, and the machine under it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use apportion_agent_core::{
    Action, AgentCore, Backoff, Config, ContainerId, ContainerPlan, Event, LaunchFailure, LaunchFailureKind,
    ProbeKind, Signal,
};
use apportion_types::{
    Resources, Time,
    container::{Exit, Limitation},
    limits,
    probe::{CheckResult, Probe},
    protocol::agent::MasterMessage,
    resources::{Terms, Value},
};

use super::{DISK_LEAST, DISK_MOST, What, World};
use crate::{
    check::Happening,
    clock::Clock,
    fault::Process,
    machine::{Container, KILL, Machine, OnTerm, Stage, TERM},
    network::{Peer, Up},
    random,
    write::DOWN,
};

/// From the end of an agent's process by an error of its own to the next one.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// From the wish to start a container to its runner's life of its own.
const MAKING_MOST: Duration = Duration::from_millis(3);

/// How long a KILL takes to be felt.
const KILL_TAKES: Duration = Duration::from_millis(1);

/// The longest that a task takes to answer a probe, if it does.
const ANSWER_MOST: Duration = Duration::from_millis(5);

/// The answer to a probe.
#[derive(Debug)]
pub(crate) struct Heard {
    kind: ProbeKind,
    number: u64,
    result: CheckResult,
}

/// What is answered to this question by a task that does its work, or does not.
fn said(probe: &Probe, well: bool) -> CheckResult {
    match probe {
        Probe::Command(_) => CheckResult::Exit(i32::from(!well)),
        Probe::Http { .. } => CheckResult::HttpStatus(if well { 200 } else { 503 }),
        Probe::Tcp { .. } => CheckResult::Connected(well),
        Probe::Grpc { .. } => CheckResult::Serving(well),
    }
}

/// An agent.
pub(crate) struct Agent {
    pub(crate) config: Config,
    pub(crate) core: Option<AgentCore>,
    pub(crate) machine: Machine,
    pub(crate) life: u64,
    clock: Clock,
    wake: Option<Time>,
    conn: Option<usize>,
    backoff: Backoff,
    registered_at: Option<Time>,
    attempts: u64,
    /// The most that it lends; how much of it is drawn at each estimate.
    pub(crate) lends: Resources,
    /// The next write fails; how long there is no process then.
    pub(crate) disk_fails: Option<Duration>,
}

impl Agent {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            core: None,
            machine: Machine::default(),
            life: 0,
            clock: Clock::TRUE,
            wake: None,
            conn: None,
            backoff: Backoff::default(),
            registered_at: None,
            attempts: 0,
            lends: Resources::new(),
            disk_fails: None,
        }
    }

    /// The connection that its process has open.
    pub(crate) fn conn(&self) -> Option<usize> {
        self.conn
    }

    pub(super) fn has_moving_tasks(&self) -> bool {
        self.machine.containers.values().any(Container::moves)
    }
}

impl World {
    pub(super) fn start_agent(&mut self, number: usize) {
        let clock = self.new_clock();
        let agent = &mut self.agents[number];
        agent.life += 1;
        agent.clock = clock;
        agent.wake = None;
        agent.conn = None;
        agent.backoff = Backoff::default();
        // Unlike that of any other process of any agent: ids begin with it.
        let incarnation = ((number as u64 + 1) << 32) | agent.life;
        let config = Config { boot_id: Some(agent.machine.boots.to_string()), ..agent.config.clone() };
        agent.core = Some(AgentCore::new(config, incarnation, clock.shows(self.now)));
        let recovered = agent.machine.log.recovered();
        let life = agent.life;
        self.agent_handles(number, Event::Recovered(recovered));
        if !self.agents[number].lends.is_empty() {
            self.queue
                .push(self.now + limits::OVERSUBSCRIPTION_INTERVAL, What::Estimated { agent: number, life });
        }
        self.agent_connects(number, life);
        self.executors_connect(number);
    }

    pub(super) fn crash_agent(&mut self, number: usize, down: Duration) {
        if self.agents[number].core.is_none() {
            return;
        }
        let pending = self.agents[number].machine.pending.len();
        let kept = self.chance.disks.usize(0..=pending);
        self.agent_dies(number, down, kept);
    }

    /// The process dies; of what is on its way to the disk, the first `kept` records are there all the same.
    fn agent_dies(&mut self, number: usize, down: Duration, kept: usize) {
        self.agents[number].core = None;
        self.progress();
        self.observe(&Happening::Crashed(Process::Agent(number)));
        self.persists(number, kept);
        let agent = &mut self.agents[number];
        agent.machine.process_died(kept);
        agent.life += 1; // what was meant for the old one is not for the next
        if let Some(conn) = agent.conn.take() {
            self.leave(conn, true);
        }
        self.queue.push(self.now + down, What::Start(Process::Agent(number)));
    }

    pub(super) fn reboot(&mut self, number: usize, down: Duration) {
        self.crash_agent(number, down);
        self.agents[number].machine.rebooted();
        self.observe(&Happening::Rebooted { agent: number });
    }

    /// Feeds the core one event, and runs what it wants, and what comes of that at once.
    pub(super) fn agent_handles(&mut self, number: usize, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let mut actions = Vec::new();
            let agent = &mut self.agents[number];
            let now = agent.clock.shows(self.now);
            let Some(core) = &mut agent.core else { return };
            core.handle(now, event, &mut actions);
            for action in actions {
                self.agent_acts(number, action, &mut events);
            }
        }
        self.arm_agent(number);
    }

    fn agent_acts(&mut self, number: usize, action: Action, events: &mut VecDeque<Event>) {
        if self.agents[number].core.is_none() {
            return; // it has failed over an earlier action
        }
        match action {
            Action::Send(message) => {
                self.observe(&Happening::AgentSays { agent: number, message: &message });
                if let Some(conn) = self.agents[number].conn {
                    self.send_up(conn, Up::Agent(message));
                }
            }
            Action::Reconnect { reason } => {
                if let Some(conn) = self.agents[number].conn.take() {
                    self.progress();
                    self.leave(conn, false);
                    events.push_back(Event::Disconnected { reason });
                    self.agent_pauses(number);
                }
            }
            Action::Checkpoint { checkpoint, record } => {
                let machine = &mut self.agents[number].machine;
                machine.pending.push((checkpoint, record));
                self.write(number);
            }
            Action::Launch(plan) => self.launch(number, *plan),
            Action::CancelLaunch { container_id } => {
                if let Some(container) = self.agents[number].machine.containers.get_mut(&container_id) {
                    container.cancelled |= container.stage == Stage::Made;
                }
            }
            Action::SendExecutor { container_id, event } => {
                self.executor_hears(number, container_id, event, events);
            }
            Action::DisconnectExecutor { message, .. } => {
                self.violate("executors", format!("an executor is sent away: {message}"));
            }
            Action::Limit { container_id, number: limit, ceilings, .. } => {
                let fails = random::hits(&mut self.chance.tasks, self.odds.launch_fails_ppm);
                let container = self.agents[number].machine.containers.get_mut(&container_id);
                if let Some(container) = container.filter(|_| !fails) {
                    container.memory_limit_bytes = ceilings.memory_limit_bytes;
                }
                let result = if fails { Err("the cgroup says no".to_owned()) } else { Ok(()) };
                events.push_back(Event::Limited { container_id, number: limit, result });
            }
            Action::Attach { container_id, .. } => self.attach(number, container_id, events),
            // Its machines have no networks.
            Action::LeaveNetwork { .. } => {}
            Action::Signal { container_id, signal } => self.signal(number, &container_id, signal, events),
            Action::Probe { container_id, kind, number: asked, probe, timeout } => {
                self.asked(number, (container_id, kind, asked), &probe, timeout);
            }
            Action::Remove { container_id } => {
                self.agents[number].machine.containers.remove(&container_id);
            }
            Action::MakeVolume(volume) => {
                self.agents[number].machine.volumes.insert(volume);
            }
            Action::DeleteVolume(volume) => {
                self.agents[number].machine.volumes.remove(&volume);
            }
            Action::KeepVolumes(volumes) => self.agents[number].machine.volumes = volumes,
            Action::Note { .. } => {}
            Action::Fail { reason } => self.agent_fails(number, &reason),
            Action::Done { unregistered: true } => self.agent_left(number),
            Action::Done { unregistered: false } => {}
        }
    }

    /// Its machine is down for maintenance, and it has ended with its tasks. Its supervisor starts it again and again, until it is let in.
    fn agent_left(&mut self, number: usize) {
        self.agent_fails(number, "the machine is down");
    }

    /// The master will not have it as it is. Its operator does what the agent says is to be done: ends what runs of it, and begins
    /// with an empty disk.
    fn agent_fails(&mut self, number: usize, _reason: &str) {
        self.crash_agent(number, RESTART_PAUSE);
        let boots = self.agents[number].machine.boots;
        self.agents[number].machine = Machine { boots, ..Machine::default() };
        self.observe(&Happening::Wiped { agent: number });
    }

    fn arm_agent(&mut self, number: usize) {
        let agent = &mut self.agents[number];
        let Some(deadline) = agent.core.as_ref().and_then(AgentCore::next_deadline) else { return };
        let at = agent.clock.when_it_shows(deadline).max(self.now);
        if agent.wake.is_none_or(|wake| at < wake) {
            agent.wake = Some(at);
            self.queue.push(at, What::Tick(Process::Agent(number)));
        }
    }

    pub(super) fn agent_ticks(&mut self, number: usize) {
        let agent = &mut self.agents[number];
        if agent.wake.is_some_and(|wake| wake <= self.now) {
            agent.wake = None;
        }
        let shown = agent.clock.shows(self.now);
        let due =
            agent.core.as_ref().and_then(AgentCore::next_deadline).is_some_and(|deadline| deadline <= shown);
        if due {
            self.agent_handles(number, Event::Tick);
        } else {
            self.arm_agent(number);
        }
    }

    // The link.

    pub(super) fn agent_connects(&mut self, number: usize, life: u64) {
        let agent = &mut self.agents[number];
        if agent.life != life || agent.core.is_none() {
            return;
        }
        agent.attempts += 1;
        let attempt = agent.attempts;
        self.connect(Peer::Agent(number), life, attempt);
    }

    pub(super) fn agent_answered(&mut self, number: usize, life: u64, attempt: u64, reached: bool) {
        let agent = &self.agents[number];
        if agent.life != life || agent.attempts != attempt || agent.conn.is_some() {
            return;
        }
        if reached {
            let conn = self.network.open(Peer::Agent(number));
            self.agents[number].conn = Some(conn);
            self.agent_handles(number, Event::Connected);
        } else {
            self.agent_pauses(number);
        }
    }

    /// Waits before the next attempt, the longer the more have failed.
    fn agent_pauses(&mut self, number: usize) {
        let random = self.chance.processes.u64(..);
        let agent = &mut self.agents[number];
        let stood = agent.registered_at.take().map_or(Duration::ZERO, |at| self.now.since(at));
        let pause = agent.backoff.pause(stood, random);
        let life = agent.life;
        self.queue.push(self.now + pause, What::AgentConnects { agent: number, life });
    }

    pub(super) fn agent_hears(&mut self, number: usize, message: MasterMessage) {
        if !matches!(message, MasterMessage::Ping { .. }) {
            self.progress();
        }
        if matches!(message, MasterMessage::Registered { .. }) {
            self.agents[number].registered_at.get_or_insert(self.now);
        }
        self.observe(&Happening::AgentHears { agent: number, message: &message });
        self.agent_handles(number, Event::MasterMessage(message));
    }

    pub(super) fn agent_disconnected(&mut self, number: usize, why: &'static str) {
        self.progress();
        self.agents[number].conn = None;
        self.agent_handles(number, Event::Disconnected { reason: why.to_owned() });
        if self.agents[number].core.is_some() {
            self.agent_pauses(number);
        }
    }

    /// What could be lent is estimated anew: a part of the most, in tenths.
    pub(super) fn estimated(&mut self, number: usize, life: u64) {
        if self.agents[number].life != life {
            return;
        }
        // Once nothing goes wrong any more it stays as it is, or the cluster would never come to rest.
        let tenths = if self.now < self.faults_over_at { self.chance.tasks.i64(0..=10) } else { 10 };
        let mut revocable = Resources::new();
        for (name, milli) in self.agents[number].lends.scalars() {
            let terms = Terms { revocable: true, ..Terms::default() };
            revocable.insert_on(name.clone(), Some(Arc::new(terms)), Value::Scalar(milli / 10 * tenths));
        }
        let core = self.agents[number].core.as_ref().expect("the life is its process's");
        if core.view().lent != revocable {
            self.progress();
        }
        self.agent_handles(number, Event::Oversubscribed { revocable });
        self.queue
            .push(self.now + limits::OVERSUBSCRIPTION_INTERVAL, What::Estimated { agent: number, life });
    }

    // The disk.

    /// Begins a write of all that is pending, unless one is under way: then it waits for the next.
    fn write(&mut self, number: usize) {
        let takes = random::between(&mut self.chance.disks, DISK_LEAST, DISK_MOST);
        let agent = &mut self.agents[number];
        if agent.machine.writing == 0 && !agent.machine.pending.is_empty() {
            agent.machine.writing = agent.machine.pending.len();
            let life = agent.life;
            self.queue.push(self.now + takes, What::Written { agent: number, life });
        }
    }

    pub(super) fn written(&mut self, number: usize, life: u64) {
        if self.agents[number].life != life {
            return;
        }
        self.progress();
        if let Some(down) = self.agents[number].disk_fails.take() {
            self.crash_agent(number, down);
            return;
        }
        let count = self.agents[number].machine.writing;
        let lasting = self.writes.next(count);
        if lasting.killed {
            self.killed_at_write(Process::Agent(number));
            self.agent_dies(number, DOWN, lasting.count);
            return;
        }
        self.persists(number, count);
        let newest = self.agents[number].machine.written();
        self.write(number);
        if let Some(checkpoint) = newest {
            self.agent_handles(number, Event::Checkpointed { checkpoint });
        }
    }

    /// Shows the checks the records that are on disk from now on.
    fn persists(&mut self, number: usize, count: usize) {
        let pending = std::mem::take(&mut self.agents[number].machine.pending);
        for (_, record) in &pending[..count] {
            self.observe(&Happening::Durable { agent: number, record });
        }
        self.agents[number].machine.pending = pending;
    }

    // Containers.

    fn launch(&mut self, number: usize, plan: ContainerPlan) {
        let ContainerPlan { container_id, framework_id, task_id, ceilings, .. } = plan;
        let task = (framework_id, task_id);
        let core = self.agents[number].core.as_ref().expect("only a running agent launches");
        let view = core.view();
        let info = &view.tasks.get(&task).expect("only a task that it knows is launched").info;
        let mut behaviour = (self.workload)(info, &mut self.chance.tasks);
        if random::hits(&mut self.chance.tasks, self.odds.launch_fails_ppm) {
            behaviour.fails_to_start = Some(LaunchFailureKind::Container);
        }
        let making = random::between(&mut self.chance.tasks, Duration::ZERO, MAKING_MOST);
        let container = Container::new(task.clone(), info, behaviour, ceilings.memory_limit_bytes);
        self.agents[number].machine.containers.insert(container_id.clone(), container);
        self.observe(&Happening::Launching { agent: number, container: &container_id, task: &task });
        self.queue.push(self.now + making, What::Step { agent: number, container: container_id, step: 0 });
    }

    pub(super) fn container_steps(&mut self, number: usize, id: &ContainerId, step: u64) {
        let machine = &mut self.agents[number].machine;
        let Some(container) = machine.containers.get_mut(id).filter(|container| container.step == step)
        else {
            return;
        };
        self.progress_at = self.now;
        match container.stage {
            Stage::Made => self.container_made(number, id),
            Stage::Starting if container.inside.is_some() => self.executed_starts(number, id),
            Stage::Starting => self.container_runs(number, id),
            Stage::Running { .. } => {
                let (exit, limitation) = container.ending();
                self.container_ends(number, id, exit, limitation);
            }
            Stage::Ended(_) => {}
        }
    }

    fn container_made(&mut self, number: usize, id: &ContainerId) {
        let machine = &mut self.agents[number].machine;
        let Some(container) = machine.containers.get_mut(id) else { return };
        let failure = if container.cancelled {
            Some((LaunchFailureKind::Cancelled, "the launch was cancelled"))
        } else {
            let message = match container.behaviour.fails_to_start {
                Some(LaunchFailureKind::Command) => "the command was not found",
                Some(LaunchFailureKind::Image) => "the image is not in its registry",
                Some(LaunchFailureKind::Artifact) => "an artifact cannot be fetched",
                Some(LaunchFailureKind::Unenforceable) => "this machine cannot hold it to what it asks for",
                _ => "the container could not be made",
            };
            container.behaviour.fails_to_start.map(|kind| (kind, message))
        };
        if let Some((kind, message)) = failure {
            machine.containers.remove(id);
            let failure = LaunchFailure { kind, message: message.to_owned() };
            self.agent_handles(number, Event::LaunchFailed { container_id: id.clone(), failure });
            return;
        }
        container.stage = Stage::Starting;
        let after = container.behaviour.starts_after;
        self.next_step(number, id, after);
    }

    fn container_runs(&mut self, number: usize, id: &ContainerId) {
        let Some(container) = self.agents[number].machine.containers.get_mut(id) else { return };
        container.stage = Stage::Running { since: self.now };
        let (task, runs_for) = (container.task.clone(), container.behaviour.runs_for);
        self.observe(&Happening::Running { agent: number, container: id, task: &task });
        if let Some(runs_for) = runs_for {
            self.next_step(number, id, runs_for);
        }
        self.executor_connects_soon(number, id);
        self.agent_handles(number, Event::Launched { container_id: id.clone(), addresses: Vec::new() });
    }

    /// The one door through which a container ends.
    pub(super) fn container_ends(
        &mut self,
        number: usize,
        id: &ContainerId,
        exit: Exit,
        limitation: Option<Limitation>,
    ) {
        self.progress();
        self.ends_inside(number, id);
        let agent = &mut self.agents[number];
        let Some(container) = agent.machine.containers.get_mut(id) else { return };
        let (inside, by_itself) = (container.inside.is_some(), !container.is_signalled());
        let termination = container.end(self.now, exit, limitation);
        let task = container.task.clone();
        self.observe(&Happening::Ended {
            agent: number,
            container: id,
            task: &task,
            termination: &termination,
        });
        if inside {
            return self.executed_ended(number, id, exit, by_itself);
        }
        self.agent_handles(number, Event::Terminated { container_id: id.clone(), termination });
    }

    pub(super) fn next_step(&mut self, number: usize, id: &ContainerId, after: Duration) {
        let Some(container) = self.agents[number].machine.containers.get_mut(id) else { return };
        container.step += 1;
        let step = container.step;
        self.queue.push(self.now + after, What::Step { agent: number, container: id.clone(), step });
    }

    /// A new process finds a container of an earlier one; or not.
    fn attach(&mut self, number: usize, container_id: ContainerId, events: &mut VecDeque<Event>) {
        match self.agents[number].machine.containers.get(&container_id).map(|container| &container.stage) {
            None | Some(Stage::Made) => {
                let message = "its folder is not there".to_owned();
                events.push_back(Event::ContainerLost { container_id, message });
            }
            // Told when it runs.
            Some(Stage::Starting) => {}
            Some(Stage::Running { .. }) => {
                events.push_back(Event::Launched { container_id, addresses: Vec::new() })
            }
            Some(Stage::Ended(termination)) => {
                let termination = termination.clone();
                events
                    .push_back(Event::Launched { container_id: container_id.clone(), addresses: Vec::new() });
                events.push_back(Event::Terminated { container_id, termination });
            }
        }
    }

    /// A container is asked how it is. One that has ended does not answer: its end is told.
    fn asked(
        &mut self,
        number: usize,
        (container, kind, asked): (ContainerId, ProbeKind, u64),
        probe: &Probe,
        timeout: Duration,
    ) {
        let calm = self.now >= self.faults_over_at;
        let Some(there) = self.agents[number].machine.containers.get(&container) else { return };
        let Stage::Running { since } = there.stage else { return };
        let answer = there.behaviour.answers.after(self.now.since(since), calm);
        let takes = answer.map_or(timeout, |_| {
            random::between(&mut self.chance.tasks, Duration::ZERO, ANSWER_MOST).min(timeout)
        });
        let result = answer.map_or(CheckResult::Unanswered, |well| said(probe, well));
        let life = self.agents[number].life;
        let heard = Heard { kind, number: asked, result };
        self.queue.push(self.now + takes, What::Probed { agent: number, life, container, heard });
    }

    /// An answer comes; none of a container that has ended meanwhile, or to a process that has.
    pub(super) fn probed(&mut self, agent: usize, life: u64, container_id: ContainerId, heard: Heard) {
        let there = self.agents[agent].machine.containers.get(&container_id);
        if self.agents[agent].life == life && there.is_some_and(Container::is_running) {
            let Heard { kind, number, result } = heard;
            let message = result.to_string();
            self.agent_handles(agent, Event::Probed { container_id, kind, number, result, message });
        }
    }

    fn signal(&mut self, number: usize, id: &ContainerId, signal: Signal, events: &mut VecDeque<Event>) {
        if random::hits(&mut self.chance.tasks, self.odds.signal_fails_ppm) {
            let message = "the runner does not answer".to_owned();
            events.push_back(Event::SignalFailed { container_id: id.clone(), message });
            return;
        }
        let Some(container) = self.agents[number].machine.containers.get_mut(id) else { return };
        let takes = match (signal, container.behaviour.on_term) {
            (Signal::Kill, _) => KILL_TAKES,
            (Signal::Term, OnTerm::Ends(after)) => after,
            (Signal::Term, OnTerm::Hangs) => return,
        };
        if !container.is_running() {
            return;
        }
        let exit = Exit::Signal(if signal == Signal::Kill { KILL } else { TERM });
        container.signalled(exit);
        self.next_step(number, id, takes);
    }
}
