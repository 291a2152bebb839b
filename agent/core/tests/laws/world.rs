//! A master, a disk and containers, as far as the agent sees them, and the laws of what it writes and says.

use std::collections::{BTreeMap, BTreeSet};

use apportion_agent_core::{
    Action, AgentCore, Config, ContainerId, Event, ProbeKind, Record, Signal, TaskKey, TaskRecord, VolumeKey,
};
use apportion_types::{
    AgentCapability, AgentInfo, CpuSet, Drain, FrameworkId, OperationId, OperationStatus, Part, Reason,
    Resources, TaskId, TaskState, TaskStatus, Time, UpdateId,
    container::{Exit, Termination, Usage},
    protocol::agent::{AgentMessage, AgentOperation, MasterMessage},
    resources::Entry,
};

use crate::executors::Executor;

/// What is true of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    /// Its launch has no answer; true when it was cancelled.
    Launching(bool),
    /// It runs; true when its answer to an attachment is owed.
    Running(bool),
    /// It has ended, and the core was told so, or is to be told after an attachment.
    Ended(bool),
    Removed,
}

/// One run of a task: from the record that takes it on to the acknowledgement of its end.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Updates in the order made, by what the disk was asked for.
    made: Vec<TaskStatus>,
    /// How many of them the disk has the acknowledgement of, or was asked for it.
    acknowledged: usize,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) incarnation: u64,
    pub(crate) core: AgentCore,
    pub(crate) connected: bool,
    pub(crate) registered: bool,
    /// Every record asked for, and how many of them are on disk.
    pub(crate) asked: Vec<Record>,
    pub(crate) written: usize,
    /// On disk when the process started; the core's numbers count from here.
    pub(crate) before: usize,
    pub(crate) containers: BTreeMap<ContainerId, (TaskKey, Container)>,
    /// How those ended that are over but not free of what they used, and how many updates their tasks had then.
    pub(crate) ending: BTreeMap<ContainerId, (Exit, usize)>,
    /// The processes of executors, whether their containers live or not.
    pub(crate) executors: BTreeMap<ContainerId, Executor>,
    /// The volumes that containers were launched with.
    pub(crate) mounted: BTreeMap<ContainerId, BTreeSet<VolumeKey>>,
    /// The cores that containers are held to.
    pub(crate) cores: BTreeMap<ContainerId, CpuSet>,
    /// Probes that were asked for, answered or not.
    pub(crate) probes: Vec<(ContainerId, ProbeKind, u64)>,
    /// How the agent is drained, by what it has written.
    pub(crate) drain: Option<Drain>,
    /// The same, by what the master said last.
    pub(crate) told_drain: Option<Drain>,
    pub(crate) streams: BTreeMap<TaskKey, Told>,
    pub(crate) removed: BTreeSet<FrameworkId>,
    /// Removed ones that a crashed process took with it: the master says so again when it sees their tasks.
    pub(crate) forgotten: BTreeSet<FrameworkId>,
    pub(crate) sent: Vec<(TaskKey, UpdateId)>,
    pub(crate) queue: Vec<Event>,
    /// Operations whose outcome was written and is not acknowledged in writing.
    pub(crate) outcomes: BTreeMap<OperationKey, OperationStatus>,
    pub(crate) outcomes_sent: Vec<(OperationKey, UpdateId)>,
    /// Volumes that have a folder.
    pub(crate) volumes: BTreeSet<VolumeKey>,
    /// Runs of task groups the networks of which this process has left.
    pub(crate) left: BTreeSet<ContainerId>,
}

pub(crate) type OperationKey = (FrameworkId, OperationId);

/// What the agent ends a task for as a failure of its own, among what happens here.
const FAILURES: [Reason; 3] = [Reason::ContainerLimitationDisk, Reason::MaxCompletionTime, Reason::Unhealthy];

pub(crate) fn total() -> Resources {
    "cpus:6;disk:10".parse().unwrap()
}

pub(crate) fn volumes_of(resources: &Resources) -> BTreeSet<VolumeKey> {
    let key = |entry: &Entry| Some((entry.role()?.clone(), entry.volume()?.id.clone()));
    resources.entries().filter_map(key).collect()
}

pub(crate) fn config() -> Config {
    let config = Config::new(AgentInfo {
        hostname: String::new(),
        address: String::new(),
        resources: total(),
        attributes: BTreeMap::new(),
        domain: None,
        unenforced: Vec::new(),
        version: String::new(),
        capabilities: AgentCapability::ALL.into(),
        work_dir_id: String::new(),
    });
    Config { cores: Some("0-5".parse().unwrap()), ..config }
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            now: Time::ZERO,
            incarnation: 1,
            core: AgentCore::new(config(), 1, Time::ZERO),
            connected: false,
            registered: false,
            asked: Vec::new(),
            written: 0,
            before: 0,
            containers: BTreeMap::new(),
            ending: BTreeMap::new(),
            executors: BTreeMap::new(),
            mounted: BTreeMap::new(),
            cores: BTreeMap::new(),
            probes: Vec::new(),
            drain: None,
            told_drain: None,
            streams: BTreeMap::new(),
            removed: BTreeSet::new(),
            forgotten: BTreeSet::new(),
            sent: Vec::new(),
            queue: Vec::new(),
            outcomes: BTreeMap::new(),
            outcomes_sent: Vec::new(),
            volumes: BTreeSet::new(),
            left: BTreeSet::new(),
        }
    }

    pub(crate) fn feed(&mut self, event: Event) {
        let (mut actions, before) = (Vec::new(), self.asked.len());
        self.core.handle(self.now, event, &mut actions);
        self.core.check();
        for action in actions {
            self.act(action);
        }
        self.check_networks(before);
        let view = self.core.view();
        assert_eq!(view.resources.plain(), total(), "operations make nothing out of nothing");
        let firm = self.live().try_fold(view.resources.clone(), |rest, held| rest.checked_sub(&held.firm()));
        assert_eq!(firm.as_ref(), Some(&view.free), "no two tasks hold the same");
        self.check_executors();
        self.check_cores();
    }

    /// What a task has for itself, no other container runs on that the core knows to run.
    fn check_cores(&self) {
        let runs = |id: &ContainerId| {
            matches!(self.containers.get(id), Some((_, Container::Running(false))))
                && !self.ending.contains_key(id)
        };
        let tasks = self.asked.iter().flat_map(Record::taken_on);
        for own in tasks.filter(|task| task.cores.is_some() && runs(&task.container_id)) {
            let cores = own.cores.as_ref().unwrap();
            for (other, held) in self.cores.iter().filter(|(id, _)| runs(id)) {
                let apart = held.without(cores).as_ref() == Some(held);
                assert!(apart || *other == own.container_id, "{other} runs on {held}, {cores} are another's");
            }
        }
    }

    pub(crate) fn message(&mut self, message: MasterMessage) {
        if self.connected {
            self.feed(Event::MasterMessage(message));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Checkpoint { checkpoint, record } => {
                self.asked.push(record.clone());
                assert_eq!(checkpoint.0 as usize, self.asked.len() - self.before, "numbered in order");
                self.asked_for(record);
            }
            Action::Send(message) => self.said(message),
            Action::Reconnect { .. } => self.registered = false,
            Action::Launch(plan) => {
                self.may_be_launched(&plan.container_id);
                for persistent in &plan.persistent {
                    let there = self.volumes.contains(&persistent.volume);
                    assert!(there, "{:?} is used before it is made", persistent.volume);
                }
                let mounted = plan.persistent.iter().map(|persistent| persistent.volume.clone()).collect();
                self.mounted.insert(plan.container_id.clone(), mounted);
                self.cores.insert(plan.container_id.clone(), plan.cores.expect("there are some"));
                let key = (plan.framework_id, plan.task_id);
                if plan.executor {
                    self.executors.insert(plan.container_id.clone(), Executor::default());
                }
                let before = self.containers.insert(plan.container_id, (key, Container::Launching(false)));
                assert_eq!(before, None, "a container is launched once");
            }
            Action::Probe { container_id, kind, number, .. } => {
                let (key, container) = &self.containers[&container_id];
                assert!(
                    !matches!(container, Container::Launching(_)),
                    "{container_id} is asked before it runs"
                );
                let newest = self.streams[key].made.last().map(|status| status.state);
                assert_eq!(newest, Some(TaskState::Running), "{container_id} is asked");
                assert!(!self.ending.contains_key(&container_id), "{container_id} is asked when it is over");
                self.probes.push((container_id, kind, number));
            }
            Action::CancelLaunch { container_id } => {
                let (_, container) = self.containers.get_mut(&container_id).unwrap();
                if let Container::Launching(cancelled) = container {
                    *cancelled = true;
                }
            }
            Action::SendExecutor { container_id, event } => self.executor_told(container_id, event),
            Action::DisconnectExecutor { message, .. } => panic!("{message}"),
            Action::Limit { container_id, number, cores, .. } => {
                self.limit(&container_id, number);
                self.cores.insert(container_id, cores.expect("there are some"));
            }
            Action::Attach { container_id, .. } => self.attach(container_id),
            Action::LeaveNetwork { run } => {
                let of_run =
                    |record: &&Record| matches!(record, Record::Group(of) if of[0].container_id == run);
                let group = self.asked.iter().rev().find(of_run).expect("only a group's network is left");
                for TaskRecord { container_id, .. } in group.taken_on() {
                    let container = self.containers.get(container_id).map(|(_, container)| *container);
                    let over = matches!(container, None | Some(Container::Ended(_) | Container::Removed));
                    assert!(over, "the network of {run} is left, but {container_id} is {container:?}");
                }
                self.left.insert(run);
            }
            Action::Signal { container_id, signal } => self.signal(container_id, signal),
            Action::Remove { container_id } => {
                if let Some((_, container)) = self.containers.get_mut(&container_id) {
                    // A launch that left nothing before a crash is removed too: the disk does not know that it failed.
                    let over = matches!(container, Container::Ended(_) | Container::Removed);
                    assert!(over, "{container_id} is removed, but {container:?}");
                    *container = Container::Removed;
                }
            }
            Action::MakeVolume(volume) => {
                assert!(self.has_volume(&volume), "{volume:?} is made before that is on disk");
                self.volumes.insert(volume);
            }
            Action::DeleteVolume(volume) => {
                // A task that waits for one of that name to be made again has not got it yet.
                let runs =
                    |id| matches!(self.containers[id].1, Container::Launching(_) | Container::Running(_));
                let user = self.mounted.iter().find(|(id, mounted)| mounted.contains(&volume) && runs(id));
                assert_eq!(user, None, "{volume:?} is deleted while it is used");
                self.volumes.remove(&volume);
            }
            Action::KeepVolumes(volumes) => {
                assert_eq!(volumes, volumes_of(&self.total_on_disk()), "what is on disk is kept");
                self.volumes = volumes;
            }
            Action::Note { .. } => {}
            Action::Fail { reason } => panic!("{reason}"),
            Action::Done { .. } => panic!("nobody asked for an end"),
        }
    }

    /// The network of a task group is left by whichever process writes the end of its last member, which is among the records from here on.
    fn check_networks(&self, from: usize) {
        let ends = |record: &Record, of: &FrameworkId, task: &TaskId| match record {
            Record::Update { framework_id, status } => {
                framework_id == of && status.task_id == *task && status.state.is_terminal()
            }
            _ => false,
        };
        for (at, record) in self.asked.iter().enumerate().skip(from) {
            let Record::Update { framework_id, status } = record else { continue };
            let is_it =
                |task: &TaskRecord| task.framework_id == *framework_id && task.info.task_id == status.task_id;
            let taken_on = self.asked[..at].iter().rposition(|record| record.taken_on().iter().any(is_it));
            let Some(taken_on) = taken_on.filter(|_| status.state.is_terminal()) else { continue };
            let members = self.asked[taken_on].taken_on();
            let shares = members[0].info.group.as_ref().is_some_and(|group| group.network.is_some());
            let said = &self.asked[taken_on..];
            let has_ended = |task: &TaskRecord| {
                said.iter().any(|record| ends(record, &task.framework_id, &task.info.task_id))
            };
            // What is told of a task of its name that was never taken on ends nothing.
            let before = &self.asked[taken_on..at];
            let again = before.iter().any(|record| ends(record, framework_id, &status.task_id));
            if shares && !again && members.iter().all(has_ended) {
                let run = &members[0].container_id;
                assert!(self.left.contains(run), "all of {run} have ended, and its network is not left");
            }
        }
    }

    /// What is launched is on disk; of a task group, its turn is too, every init task before it has finished, and no other has failed.
    fn may_be_launched(&self, container_id: &ContainerId) {
        let on_disk = &self.asked[..self.written];
        let is_it = |task: &&TaskRecord| task.container_id == *container_id;
        let taken_on = on_disk.iter().rposition(|record| record.taken_on().iter().any(|task| is_it(&task)));
        let at = taken_on.unwrap_or_else(|| panic!("{container_id} is launched before its task is on disk"));
        let Record::Group(members) = &on_disk[at] else { return };
        let task = members.iter().find(is_it).unwrap();
        let part = |task: &TaskRecord| task.info.group.as_ref().unwrap().part;
        let is_turn = |record: &Record| matches!(record, Record::Turn { framework_id, task_id } if *framework_id == task.framework_id && *task_id == task.info.task_id);
        assert!(on_disk[at..].iter().any(is_turn), "{container_id} is launched before its turn is on disk");
        for other in
            members.iter().take_while(|other| other.container_id != *container_id || part(task) != Part::Init)
        {
            let told: Vec<TaskState> = self.asked[at..]
                .iter()
                .filter_map(|record| match record {
                    Record::Update { framework_id, status }
                        if *framework_id == other.framework_id && status.task_id == other.info.task_id =>
                    {
                        Some(status.state)
                    }
                    _ => None,
                })
                .collect();
            let name = &other.info.task_id;
            if part(other) == Part::Init && other.container_id != *container_id {
                // What comes behind may be told of another task of its name.
                let end = told.iter().find(|state| state.is_terminal());
                assert_eq!(end, Some(&TaskState::Finished), "{container_id} is launched before {name}");
            } else if part(other) == Part::Sidecar && part(task) == Part::Main {
                assert_eq!(
                    told.last(),
                    Some(&TaskState::Running),
                    "{container_id} is launched before {name}"
                );
            }
        }
    }

    /// True when another of a task's group has failed, is being ended for a failure, or was a sidecar that ended before its time.
    fn has_failed(&self, (framework_id, task_id): &TaskKey) -> bool {
        let is_it = |task: &TaskRecord| task.framework_id == *framework_id && task.info.task_id == *task_id;
        let at = self.asked.iter().rposition(|record| record.taken_on().iter().any(is_it)).unwrap();
        let others = self.asked[at].taken_on();
        self.asked[at..].iter().any(|record| {
            let Record::Update { framework_id: of, status } = record else { return false };
            let is_other = |task: &&TaskRecord| of == framework_id && task.info.task_id == status.task_id;
            let Some(other) = others.iter().find(is_other).filter(|other| !is_it(other)) else {
                return false;
            };
            let serves = other.info.group.as_ref().is_some_and(|group| group.part == Part::Sidecar);
            match (status.state, status.reason) {
                (TaskState::Failed, _) => true,
                (TaskState::Finished, _) => serves,
                (TaskState::Killing, Some(reason)) => FAILURES.contains(&reason),
                _ => false,
            }
        })
    }

    fn attach(&mut self, container_id: ContainerId) {
        match self.containers.get_mut(&container_id) {
            Some((_, container @ (Container::Running(_) | Container::Ended(_)))) => match container {
                Container::Running(owed) | Container::Ended(owed) => *owed = true,
                _ => unreachable!(),
            },
            _ => self.queue.push(Event::ContainerLost { container_id, message: String::new() }),
        }
    }

    fn signal(&mut self, container_id: ContainerId, signal: Signal) {
        assert!(
            !self.ending.contains_key(&container_id),
            "{container_id} is sent {signal:?} when it is over"
        );
        // One that was never launched may be signalled too: it was lost.
        if let Some((_, container)) = self.containers.get_mut(&container_id)
            && signal == Signal::Kill
            && matches!(container, Container::Running(_))
            && self.incarnation % 2 == 1
        {
            // Every second process's signals get through to its containers at once; the others' only by later steps.
            let (_, Container::Running(owed)) = self.containers[&container_id].clone() else {
                unreachable!()
            };
            self.containers.get_mut(&container_id).unwrap().1 = Container::Ended(owed);
            if !owed {
                self.queue.push(self.terminated(container_id, Exit::Signal(9)));
            }
        }
    }

    pub(crate) fn updates_made(&self, container_id: &ContainerId) -> usize {
        self.streams[&self.containers[container_id].0].made.len()
    }

    pub(crate) fn terminated(&self, container_id: ContainerId, exit: Exit) -> Event {
        let termination = Termination {
            exit: Some(exit),
            limitation: None,
            usage: Usage::default(),
            started_at: self.now,
            finished_at: self.now,
        };
        Event::Terminated { container_id, termination }
    }

    /// The laws of what is written.
    pub(crate) fn asked_for(&mut self, record: Record) {
        match record {
            Record::Agent { .. } | Record::Process(_) | Record::Times { .. } | Record::Turn { .. } => {}
            Record::Drain(drain) => self.drain = drain,
            Record::Task(_) | Record::Group(_) => {
                assert_eq!(self.drain, None, "an agent that is drained takes no task on");
                for task in record.taken_on() {
                    let key = (task.framework_id.clone(), task.info.task_id.clone());
                    assert!(!self.streams.contains_key(&key), "{key:?} is taken on while it is not over");
                    self.streams.insert(key, Told::default());
                }
            }
            Record::Update { framework_id, status } => {
                let killed = status.state == TaskState::Killed;
                let why = (self.drain.map(|drain| drain.mark_gone), status.reason);
                let told = matches!(why, (None, _) | (Some(false), Some(Reason::AgentDraining)));
                assert!(!killed || told, "{why:?}: a drain is the reason, and whoever will be gone is");
                let key = (framework_id, status.task_id.clone());
                let told = self.streams.entry(key.clone()).or_default();
                let last = told.made.last().map(|status| status.state).unwrap_or(TaskState::Staging);
                assert!(last.may_become(status.state), "{key:?}: {last} to {}", status.state);
                assert!(told.made.iter().all(|before| before.update_id != status.update_id));
                let news = |status: &TaskStatus| {
                    matches!(status.reason, Some(Reason::HealthChanged | Reason::CheckChanged))
                };
                let waiting = &told.made[told.acknowledged..];
                assert!(!news(&status) || waiting.is_empty(), "{key:?}: news waits for what was told before");
                assert!(!news(&status) || last == TaskState::Running, "{key:?}: {last}");
                let fell = status.reason == Some(Reason::TaskGroupFailed);
                told.made.push(status);
                assert!(!fell || self.has_failed(&key), "{key:?}: no other of its task group has failed");
            }
            Record::Acknowledgement { framework_id, task_id, update_id } => {
                let key = (framework_id, task_id);
                let told = self.streams.get_mut(&key).unwrap();
                assert_eq!(
                    told.made[told.acknowledged].update_id,
                    Some(update_id),
                    "{key:?}: the head, and in order"
                );
                told.acknowledged += 1;
                if told.made[told.acknowledged - 1].state.is_terminal() {
                    assert_eq!(told.acknowledged, told.made.len(), "{key:?}: nothing after the end");
                    self.streams.remove(&key);
                }
            }
            Record::Operation { outcome, .. } => {
                if let Some(AgentOperation { framework_id, status }) = outcome {
                    let key = (framework_id, status.operation_id.clone());
                    let before = self.outcomes.insert(key.clone(), status);
                    assert_eq!(before, None, "{key:?}: its name is not free");
                }
            }
            Record::OperationAcknowledgement { framework_id, operation_id, update_id } => {
                let over = self.outcomes.remove(&(framework_id, operation_id)).unwrap();
                assert_eq!(over.update_id, Some(update_id));
            }
        }
    }

    /// What tasks that have not ended hold.
    fn live(&self) -> impl Iterator<Item = Resources> {
        let tasks = self.core.view().tasks;
        let live = tasks.values().filter(|task| !task.state.is_terminal());
        live.map(|task| task.info.resources.clone()).collect::<Vec<_>>().into_iter()
    }

    pub(crate) fn total_on_disk(&self) -> Resources {
        let totals = self.asked[..self.written].iter().rev().find_map(|record| match record {
            Record::Operation { total, .. } => total.clone(),
            _ => None,
        });
        totals.unwrap_or_else(total)
    }

    fn has_volume(&self, volume: &VolumeKey) -> bool {
        self.asked[..self.written].iter().any(|record| match record {
            Record::Operation { total: Some(total), .. } => volumes_of(total).contains(volume),
            _ => false,
        })
    }

    /// The laws of what is said.
    fn said(&mut self, message: AgentMessage) {
        assert!(self.connected);
        match message {
            AgentMessage::Register { tasks, operations, .. } => {
                for operation in &operations {
                    self.outcome_must_be_on_disk(operation);
                }
                for task in tasks {
                    let key = (task.framework_id, task.info.task_id);
                    if let Some(head) = task.unacknowledged {
                        self.must_be_on_disk(&key, &head);
                    }
                }
            }
            AgentMessage::StatusUpdate { framework_id, status, latest_state } => {
                assert!(self.registered, "an update while there is no registration");
                let key = (framework_id, status.task_id.clone());
                self.must_be_on_disk(&key, &status);
                let on_disk = self.asked[..self.written].iter().any(|record| {
                    matches!(record, Record::Update { framework_id, status }
                        if *framework_id == key.0 && status.task_id == key.1 && status.state == latest_state)
                });
                assert!(on_disk, "{key:?}: {latest_state} is told before it is on disk");
                let update_id = status.update_id.unwrap();
                match self.streams.get(&key) {
                    Some(told) if !self.removed.contains(&key.0) => {
                        assert_eq!(
                            told.made[told.acknowledged].update_id,
                            Some(update_id),
                            "{key:?}: only the head"
                        );
                    }
                    _ => {
                        assert!(self.removed.contains(&key.0), "{key:?}: an update of a stream that is over")
                    }
                }
                self.sent.push((key, update_id));
            }
            AgentMessage::OperationUpdate(operation) => {
                assert!(self.registered, "an update while there is no registration");
                self.outcome_must_be_on_disk(&operation);
                let AgentOperation { framework_id, status } = operation;
                let key = (framework_id, status.operation_id.clone());
                assert_eq!(self.outcomes.get(&key), Some(&status), "{key:?}: an update of what is over");
                self.outcomes_sent.push((key, status.update_id.unwrap()));
            }
            AgentMessage::Total { total, .. } => assert_eq!(total, self.core.view().resources),
            AgentMessage::Oversubscribed { revocable } => {
                assert!(self.registered);
                assert_eq!(revocable, self.core.view().lent);
            }
            AgentMessage::Pong { .. } => {}
            AgentMessage::Unregister { .. } => panic!("nobody asked for an end"),
        }
    }

    fn outcome_must_be_on_disk(&self, told: &AgentOperation) {
        let on_disk = self.asked[..self.written].iter().any(
            |record| matches!(record, Record::Operation { outcome: Some(outcome), .. } if outcome == told),
        );
        assert!(on_disk, "{told:?} is told before it is on disk");
    }

    fn must_be_on_disk(&self, key: &TaskKey, status: &TaskStatus) {
        let on_disk = self.asked[..self.written].iter().any(
            |record| matches!(record, Record::Update { framework_id, status: written } if *framework_id == key.0 && written == status),
        );
        assert!(on_disk, "{key:?}: {status:?} is told before it is on disk");
    }
}
