//! The master's process: its core, and what runs its actions.

use std::collections::VecDeque;

use apportion_allocator::{Allocator, Hierarchical, HierarchicalConfig};
use apportion_master_core::{
    Action, CommitId, Config, ConnId, Event, Master, OperatorCall, OperatorError, OperatorReply, Recovered,
    RegistryOp, RequestId,
};
use apportion_types::{
    AgentId, Time,
    protocol::{agent::MasterMessage, scheduler::Event as SchedulerEvent},
};

use super::{DISK_LEAST, DISK_MOST, What, World};
use crate::{
    check::{Changes, Happening},
    clock::Clock,
    fault::Process,
    network::{Down, Peer},
    random,
    write::DOWN,
};

/// The master, or the gap where one was.
pub(crate) struct MasterProcess {
    pub(crate) core: Option<Master>,
    /// Every process is named anew. What the registry has of roles is among the settings.
    pub(crate) config: Config,
    /// What the registry has of agents and frameworks.
    registry: Recovered,
    pub(crate) allocator: HierarchicalConfig,
    pub(crate) life: u64,
    clock: Clock,
    wake: Option<Time>,
    /// Writes come back in the order in which they were asked for.
    written_at: Time,
    requests: u64,
    replies: Vec<(RequestId, Result<OperatorReply, OperatorError>)>,
    /// What is on its way to the registry, in order.
    writing: VecDeque<(CommitId, RegistryOp)>,
}

impl MasterProcess {
    pub(crate) fn new(config: Config, allocator: HierarchicalConfig) -> Self {
        Self {
            core: None,
            config,
            registry: Recovered::default(),
            allocator,
            life: 0,
            clock: Clock::TRUE,
            wake: None,
            written_at: Time::ZERO,
            requests: 0,
            replies: Vec::new(),
            writing: VecDeque::new(),
        }
    }

    /// The oldest of what is on its way is in the registry.
    fn written(&mut self) -> Option<CommitId> {
        let (commit, op) = self.writing.pop_front()?;
        if let RegistryOp::SetRole { role, settings } = op.clone() {
            self.config.roles.insert(role, settings);
        }
        self.registry.apply(op);
        Some(commit)
    }

    /// What the registry has, and nothing that is on its way to it.
    pub(crate) fn registry(&self) -> &Recovered {
        &self.registry
    }

    /// True while a change of what is planned of maintenance is on its way to the registry.
    pub(crate) fn writes_maintenance(&self) -> bool {
        self.writing.iter().any(|(_, op)| matches!(op, RegistryOp::SetMaintenance { .. }))
    }

    /// True while the removal of an agent is on its way to the registry.
    pub(crate) fn removes_agent(&self, id: &AgentId) -> bool {
        let removes =
            |op: &RegistryOp| matches!(op, RegistryOp::RemoveAgent { agent_id, .. } if agent_id == id);
        self.writing.iter().any(|(_, op)| removes(op))
    }

    /// The answer to an operator, once there is one; told once.
    pub(super) fn reply(&mut self, request: RequestId) -> Option<Result<OperatorReply, OperatorError>> {
        let index = self.replies.iter().position(|(answered, _)| *answered == request)?;
        Some(self.replies.swap_remove(index).1)
    }

    /// What its process takes for the time.
    pub(crate) fn shows(&self, now: Time) -> Time {
        self.clock.shows(now)
    }
}

impl World {
    pub(super) fn start_master(&mut self) {
        let clock = self.new_clock();
        self.view_is_old();
        let master = &mut self.master;
        master.life += 1;
        master.clock = clock;
        master.wake = None;
        let config = Config { master_id: format!("m{}", master.life), ..master.config.clone() };
        let allocator: Box<dyn Allocator> = Box::new(Hierarchical::new(master.allocator.clone()));
        let recovered = master.registry.clone();
        master.core = Some(Master::recover(config, recovered, allocator, clock.shows(self.now)));
        self.arm_master();
    }

    pub(super) fn crash_master(&mut self) {
        if self.master.core.is_none() {
            return;
        }
        // Some of it was written all the same, and nobody was told.
        let writing = self.master.writing.len();
        let written = if writing == 0 { 0 } else { self.chance.disks.usize(0..=writing) };
        self.master_dies(written);
    }

    /// The master dies; of what is on its way to the registry, the first so many are there all the same.
    fn master_dies(&mut self, written: usize) {
        self.view(); // what is shown last stays
        self.master.core = None;
        for _ in 0..written {
            self.master.written();
        }
        self.master.writing.clear();
        if !self.keeps_registry {
            self.master.registry = Recovered::default();
        }
        self.progress();
        self.observe(&Happening::Crashed(Process::Master));
        self.master_left();
    }

    /// Feeds the core one event, and runs what it wants.
    pub(super) fn master_handles(&mut self, event: Event) {
        let mut actions = Vec::new();
        let now = self.master.clock.shows(self.now);
        if self.master.core.is_none() {
            return;
        }
        self.view_is_old();
        let Some(core) = &mut self.master.core else { return };
        core.handle(now, event, &mut actions);
        let mut commits = Vec::new();
        for action in actions {
            match action {
                Action::ToScheduler { conn, event } => self.tell_scheduler(conn, event),
                Action::ToAgent { conn, message } => self.tell_agent(conn, message),
                Action::CloseScheduler { conn } | Action::CloseAgent { conn } => {
                    self.end_by_master(conn.0 as usize);
                }
                Action::Commit { commit, op } => {
                    self.master.writing.push_back((commit, op));
                    commits.push(commit);
                }
                Action::Reply { request, result } => self.master.replies.push((request, result)),
            }
        }
        if !commits.is_empty() {
            let takes = random::between(&mut self.chance.disks, DISK_LEAST, DISK_MOST);
            self.master.written_at = self.master.written_at.max(self.now + takes);
            let life = self.master.life;
            self.queue.push(self.master.written_at, What::Committed { life, commits });
        }
        if self.is_checked {
            let changes = Changes::between(self.view_before(), self.view());
            self.observe(&Happening::MasterDecided(&changes));
        }
        self.arm_master();
    }

    /// The master is about to know something new. Its old view is kept for the checks only: whoever keeps one has the core copy what
    /// it changes.
    fn view_is_old(&mut self) {
        if self.is_checked {
            self.view();
            self.view_before = self.view.take().unwrap_or_default();
        } else {
            self.view.take();
        }
    }

    fn tell_scheduler(&mut self, conn: ConnId, event: SchedulerEvent) {
        let number = conn.0 as usize;
        let Some(Peer::Framework(framework)) = self.network.conn_ref(number).map(|conn| conn.peer) else {
            return;
        };
        if !matches!(
            event,
            SchedulerEvent::Heartbeat | SchedulerEvent::Offers(_) | SchedulerEvent::Rescind(_)
        ) {
            self.progress();
        }
        self.observe(&Happening::MasterTellsScheduler { framework, conn, event: &event });
        self.send_down(number, Down::Scheduler(event));
    }

    fn tell_agent(&mut self, conn: ConnId, message: MasterMessage) {
        let number = conn.0 as usize;
        let Some(Peer::Agent(agent)) = self.network.conn_ref(number).map(|conn| conn.peer) else { return };
        if !matches!(message, MasterMessage::Ping { .. }) {
            self.progress();
        }
        self.observe(&Happening::MasterTellsAgent { agent, conn, message: &message });
        self.send_down(number, Down::Agent(message));
    }

    pub(super) fn committed(&mut self, life: u64, commits: Vec<CommitId>) {
        if life != self.master.life || self.master.core.is_none() {
            return;
        }
        for commit in commits {
            let lasting = self.writes.next(1);
            if lasting.killed {
                self.killed_at_write(Process::Master);
                self.master_dies(lasting.count);
                self.until(DOWN, What::Start(Process::Master));
                return;
            }
            let written = self.master.written();
            assert_eq!(written, Some(commit), "writes come back in the order in which they were asked for");
            self.master_handles(Event::Committed { commit });
        }
    }

    /// Has the core woken at its deadline. An earlier wake-up that is under way already serves as well.
    fn arm_master(&mut self) {
        let master = &mut self.master;
        let Some(deadline) = master.core.as_ref().and_then(Master::next_deadline) else { return };
        let at = master.clock.when_it_shows(deadline).max(self.now);
        if master.wake.is_none_or(|wake| at < wake) {
            master.wake = Some(at);
            self.queue.push(at, What::Tick(Process::Master));
        }
    }

    pub(super) fn master_ticks(&mut self) {
        let master = &mut self.master;
        if master.wake.is_some_and(|wake| wake <= self.now) {
            master.wake = None;
        }
        let shown = master.clock.shows(self.now);
        let due =
            master.core.as_ref().and_then(Master::next_deadline).is_some_and(|deadline| deadline <= shown);
        if due {
            self.master_handles(Event::Tick);
        } else {
            self.arm_master();
        }
    }

    /// Asks as an operator does; answered at once, or not at all while there is no master.
    pub(crate) fn operate(&mut self, call: OperatorCall) -> Option<Result<OperatorReply, OperatorError>> {
        let request = self.asks(call);
        self.master.reply(request)
    }

    /// Asks as an operator does.
    pub(super) fn asks(&mut self, call: OperatorCall) -> RequestId {
        self.progress();
        self.master.requests += 1;
        let request = RequestId(self.master.requests);
        if self.master.core.is_some() {
            self.observe(&Happening::OperatorCalls { call: &call });
        }
        self.master_handles(Event::Operator { request, call });
        request
    }
}
