//! Random events against the core's laws: a master, a disk and containers that do whatever is allowed, in any order.
//!
//! `AgentCore::check` holds after every event; here are the laws that are seen from outside only.

// All of this is test code.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_agent_core::{
    Action, AgentCore, CheckpointId, Config, ContainerId, Event, LaunchFailure, LaunchFailureKind, Record,
    Recovered, RecoveredTask, Signal, TaskKey,
};
use apportion_types::{
    AgentId, AgentInfo, Command, FrameworkId, FrameworkInfo, Reason, Resources, Role, TaskId, TaskInfo,
    TaskState, TaskStatus, Time, UpdateId,
    container::{Exit, Termination, Usage},
    protocol::agent::{AgentMessage, MasterMessage, RefuseCode},
};
use proptest::prelude::*;

const FRAMEWORKS: u8 = 2;
const TASKS: u8 = 4;

#[derive(Debug, Clone)]
enum Step {
    Connect,
    Disconnect,
    Registered {
        missing: Vec<(u8, u8)>,
    },
    Ping,
    Run {
        framework: u8,
        tasks: Vec<(u8, u8)>,
    },
    Kill {
        framework: u8,
        task: u8,
        grace: Option<u16>,
    },
    /// Acknowledges what was sent last of a task, or, if it is stale, something older.
    Acknowledge {
        pick: u8,
        stale: bool,
    },
    Remove {
        framework: u8,
    },
    Written {
        some: u8,
    },
    Answer {
        pick: u8,
        outcome: u8,
    },
    End {
        pick: u8,
        code: i32,
    },
    Wait {
        millis: u16,
    },
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || (0..FRAMEWORKS, 0..TASKS);
    prop_oneof![
        3 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        4 => proptest::collection::vec(key(), 0..2).prop_map(|missing| Step::Registered { missing }),
        1 => Just(Step::Ping),
        6 => (0..FRAMEWORKS, proptest::collection::vec((0..TASKS, 1..5u8), 1..4))
            .prop_map(|(framework, tasks)| Step::Run { framework, tasks }),
        4 => (key(), proptest::option::of(0..5000u16))
            .prop_map(|((framework, task), grace)| Step::Kill { framework, task, grace }),
        8 => (any::<u8>(), proptest::bool::weighted(0.2)).prop_map(|(pick, stale)| Step::Acknowledge { pick, stale }),
        1 => (0..FRAMEWORKS).prop_map(|framework| Step::Remove { framework }),
        10 => (1..4u8).prop_map(|some| Step::Written { some }),
        8 => (any::<u8>(), 0..6u8).prop_map(|(pick, outcome)| Step::Answer { pick, outcome }),
        5 => (any::<u8>(), 0..3i32).prop_map(|(pick, code)| Step::End { pick, code }),
        4 => (0..30_000u16).prop_map(|millis| Step::Wait { millis }),
        1 => Just(Step::Crash),
    ]
}

fn key(framework: u8, task: u8) -> TaskKey {
    (FrameworkId::new(format!("f{framework}")).unwrap(), TaskId::new(format!("t{task}")).unwrap())
}

/// What is true of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
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
struct Told {
    /// Updates in the order made, by what the disk was asked for.
    made: Vec<TaskStatus>,
    /// How many of them the disk has the acknowledgement of, or was asked for it.
    acknowledged: usize,
}

struct World {
    now: Time,
    incarnation: u64,
    core: AgentCore,
    connected: bool,
    registered: bool,
    /// Every record asked for, and how many of them are on disk.
    asked: Vec<Record>,
    written: usize,
    /// On disk when the process started; the core's numbers count from here.
    before: usize,
    containers: BTreeMap<ContainerId, (TaskKey, Container)>,
    streams: BTreeMap<TaskKey, Told>,
    removed: BTreeSet<FrameworkId>,
    sent: Vec<(TaskKey, UpdateId)>,
    queue: Vec<Event>,
}

fn total() -> Resources {
    "cpus:6".parse().unwrap()
}

fn config() -> Config {
    Config::new(AgentInfo {
        hostname: String::new(),
        address: String::new(),
        resources: total(),
        attributes: BTreeMap::new(),
        unenforced: Vec::new(),
        version: String::new(),
    })
}

impl World {
    fn new() -> Self {
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
            streams: BTreeMap::new(),
            removed: BTreeSet::new(),
            sent: Vec::new(),
            queue: Vec::new(),
        }
    }

    fn feed(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.core.handle(self.now, event, &mut actions);
        self.core.check();
        for action in actions {
            self.act(action);
        }
        let live = self.core.view().tasks.iter().map(|(_, task)| task.clone()).collect::<Vec<_>>();
        let held: Resources =
            live.iter().filter(|task| !task.state.is_terminal()).map(|task| &task.info.resources).sum();
        assert!(total().contains(&held), "{held} is more than there is");
    }

    fn message(&mut self, message: MasterMessage) {
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
                let on_disk = self.asked[..self.written].iter().any(
                    |record| matches!(record, Record::Task(task) if task.container_id == plan.container_id),
                );
                assert!(on_disk, "{} is launched before its task is on disk", plan.container_id);
                let key = (plan.framework_id, plan.task_id);
                let before = self.containers.insert(plan.container_id, (key, Container::Launching(false)));
                assert_eq!(before, None, "a container is launched once");
            }
            Action::CancelLaunch { container_id } => {
                let (_, container) = self.containers.get_mut(&container_id).unwrap();
                if let Container::Launching(cancelled) = container {
                    *cancelled = true;
                }
            }
            Action::Attach { container_id } => self.attach(container_id),
            Action::Signal { container_id, signal } => self.signal(container_id, signal),
            Action::Remove { container_id } => {
                if let Some((_, container)) = self.containers.get_mut(&container_id) {
                    // A launch that left nothing before a crash is removed too: the disk does not know that it failed.
                    let over = matches!(container, Container::Ended(_) | Container::Removed);
                    assert!(over, "{container_id} is removed, but {container:?}");
                    *container = Container::Removed;
                }
            }
            Action::Note { .. } => {}
            Action::Fail { reason } => panic!("{reason}"),
            Action::Done { .. } => panic!("nobody asked for an end"),
        }
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

    fn terminated(&self, container_id: ContainerId, exit: Exit) -> Event {
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
    fn asked_for(&mut self, record: Record) {
        match record {
            Record::Agent { .. } => {}
            Record::Task(task) => {
                let key = (task.framework_id, task.info.task_id);
                assert!(!self.streams.contains_key(&key), "{key:?} is taken on while it is not over");
                self.streams.insert(key, Told::default());
            }
            Record::Update { framework_id, status } => {
                let key = (framework_id, status.task_id.clone());
                let told = self.streams.entry(key.clone()).or_default();
                let last = told.made.last().map(|status| status.state).unwrap_or(TaskState::Staging);
                assert!(last.may_become(status.state), "{key:?}: {last} to {}", status.state);
                assert!(told.made.iter().all(|before| before.update_id != status.update_id));
                told.made.push(status);
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
        }
    }

    /// The laws of what is said.
    fn said(&mut self, message: AgentMessage) {
        assert!(self.connected);
        match message {
            AgentMessage::Register { tasks, .. } => {
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
            AgentMessage::Pong { .. } => {}
            AgentMessage::Unregister { .. } => panic!("nobody asked for an end"),
        }
    }

    fn must_be_on_disk(&self, key: &TaskKey, status: &TaskStatus) {
        let on_disk = self.asked[..self.written].iter().any(
            |record| matches!(record, Record::Update { framework_id, status: written } if *framework_id == key.0 && written == status),
        );
        assert!(on_disk, "{key:?}: {status:?} is told before it is on disk");
    }

    fn pick<T: Clone>(of: Vec<T>, pick: u8) -> Option<T> {
        (!of.is_empty()).then(|| of[usize::from(pick) % of.len()].clone())
    }

    fn step(&mut self, step: Step) {
        for event in std::mem::take(&mut self.queue) {
            self.feed(event);
        }
        match step {
            Step::Connect if !self.connected => {
                self.connected = true;
                self.feed(Event::Connected);
            }
            Step::Disconnect if self.connected => {
                (self.connected, self.registered) = (false, false);
                self.feed(Event::Disconnected { reason: String::new() });
            }
            Step::Connect | Step::Disconnect => {}
            Step::Registered { missing } => self.register(missing),
            Step::Ping => self.message(MasterMessage::Ping { sequence: 1 }),
            Step::Run { framework, tasks } => self.run(framework, &tasks),
            Step::Kill { framework, task, grace } => {
                let (framework_id, task_id) = key(framework, task);
                let grace = grace.map(|millis| Duration::from_millis(millis.into()));
                let reason = Reason::KilledByFramework;
                self.message(MasterMessage::KillTask { framework_id, task_id, grace, reason });
            }
            Step::Acknowledge { pick, stale } => {
                let from = if stale { 0 } else { self.sent.len().saturating_sub(8) };
                if let Some(((framework_id, task_id), update_id)) =
                    Self::pick(self.sent[from..].to_vec(), pick)
                {
                    self.message(MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id });
                }
            }
            Step::Remove { framework } => {
                let framework_id = key(framework, 0).0;
                if self.registered {
                    self.removed.insert(framework_id.clone());
                    self.message(MasterMessage::RemoveFramework { framework_id });
                }
            }
            Step::Written { some } => self.write(usize::from(some)),
            Step::Answer { pick, outcome } => self.answer(pick, outcome),
            Step::End { pick, code } => self.end(pick, Exit::Code(code)),
            Step::Wait { millis } => self.wait(Duration::from_millis(millis.into())),
            Step::Crash => self.crash(),
        }
    }

    fn register(&mut self, missing: Vec<(u8, u8)>) {
        if !self.connected {
            return;
        }
        // The core ignores it when it did not ask, or has left; what it sends tells which.
        self.registered = true;
        let missing: Vec<TaskKey> =
            missing.into_iter().map(|(f, t)| key(f, t)).filter(|k| !self.removed.contains(&k.0)).collect();
        self.feed(Event::MasterMessage(MasterMessage::Registered {
            agent_id: AgentId::new("a1").unwrap(),
            master_id: "m1".to_owned(),
            ping_timeout: Duration::from_secs(75),
            missing_tasks: missing,
        }));
    }

    fn run(&mut self, framework: u8, tasks: &[(u8, u8)]) {
        let framework_id = key(framework, 0).0;
        if self.removed.contains(&framework_id) {
            return;
        }
        let info = |(task, cpus): &(u8, u8)| TaskInfo {
            task_id: key(framework, *task).1,
            name: String::new(),
            resources: format!("cpus:{cpus}").parse().unwrap(),
            limits: Resources::new(),
            pids_max: None,
            command: Command { argv: vec!["work".to_owned()], env: BTreeMap::new() },
            kill_grace: None,
            labels: BTreeMap::new(),
        };
        self.message(MasterMessage::RunTasks {
            framework_id,
            framework_info: FrameworkInfo {
                name: String::new(),
                principal: String::new(),
                roles: vec![Role::default()],
                failover_timeout: Duration::ZERO,
                labels: BTreeMap::new(),
            },
            role: Role::default(),
            tasks: tasks.iter().map(info).collect(),
        });
    }

    fn write(&mut self, some: usize) {
        let written = (self.written + some).min(self.asked.len());
        if written > self.written {
            self.written = written;
            self.feed(Event::Checkpointed { checkpoint: CheckpointId((written - self.before) as u64) });
        }
    }

    /// An answer that is owed for a launch or an attachment.
    fn answer(&mut self, pick: u8, outcome: u8) {
        let owed = |container: &Container| {
            matches!(container, Container::Launching(_) | Container::Running(true) | Container::Ended(true))
        };
        let waiting: Vec<_> =
            self.containers.iter().filter(|(_, (_, c))| owed(c)).map(|(id, _)| id.clone()).collect();
        let Some(container_id) = Self::pick(waiting, pick) else { return };
        let container = self.containers[&container_id].1;
        let (next, event) = match (container, outcome) {
            (Container::Launching(true), 0..=2) => (Container::Removed, Some(LaunchFailureKind::Cancelled)),
            (Container::Launching(_), 3) => (Container::Removed, Some(LaunchFailureKind::Command)),
            (Container::Launching(_), 4) => (Container::Removed, Some(LaunchFailureKind::Container)),
            (Container::Launching(_) | Container::Running(_), _) => (Container::Running(false), None),
            (Container::Ended(_), _) => (Container::Ended(false), None),
            (Container::Removed, _) => unreachable!(),
        };
        self.containers.get_mut(&container_id).unwrap().1 = next;
        self.feed(match event {
            Some(kind) => Event::LaunchFailed {
                container_id: container_id.clone(),
                failure: LaunchFailure { kind, message: String::new() },
            },
            None => Event::Launched { container_id: container_id.clone() },
        });
        if container == Container::Ended(true) {
            self.feed(self.terminated(container_id, Exit::Code(0)));
        }
    }

    fn end(&mut self, pick: u8, exit: Exit) {
        let running = self.containers.iter().filter(|(_, (_, c))| matches!(c, Container::Running(_)));
        let running: Vec<_> = running.map(|(id, (_, c))| (id.clone(), *c)).collect();
        let Some((container_id, container)) = Self::pick(running, pick) else { return };
        let owed = container == Container::Running(true);
        self.containers.get_mut(&container_id).unwrap().1 = Container::Ended(owed);
        if !owed {
            self.feed(self.terminated(container_id, exit));
        }
    }

    fn wait(&mut self, pause: Duration) {
        let end = self.now + pause;
        while let Some(due) = self.core.next_deadline().filter(|due| *due <= end) {
            self.now = due.max(self.now);
            let before = self.core.next_deadline();
            self.feed(Event::Tick);
            assert!(
                self.core.next_deadline() != before || before > Some(self.now),
                "a deadline that does not pass"
            );
        }
        self.now = end;
    }

    /// The process dies: what is not on disk never happened, containers live on.
    fn crash(&mut self) {
        self.queue.clear();
        (self.connected, self.registered) = (false, false);
        self.sent.clear();
        self.asked.truncate(self.written);
        self.before = self.written;
        self.streams.clear();
        for record in self.asked.clone() {
            self.asked_for(record);
        }
        for (_, container) in self.containers.values_mut() {
            match container {
                // A launch that was cut off leaves nothing, or a container that runs.
                Container::Launching(cancelled) if *cancelled => *container = Container::Removed,
                Container::Launching(_) => *container = Container::Running(false),
                Container::Running(owed) | Container::Ended(owed) => *owed = false,
                Container::Removed => {}
            }
        }
        let recovered = self.replay();
        // Of containers that the disk knows nothing of the core will say nothing.
        let known: BTreeSet<_> = recovered.tasks.iter().map(|task| task.task.container_id.clone()).collect();
        self.containers.retain(|id, _| known.contains(id));
        self.incarnation += 1;
        self.core = AgentCore::new(config(), self.incarnation, self.now);
        self.feed(Event::Recovered(recovered));
    }

    fn replay(&self) -> Recovered {
        let mut recovered = Recovered::default();
        for record in &self.asked {
            match record.clone() {
                Record::Agent { agent_id } => recovered.agent_id = Some(agent_id),
                Record::Task(task) => {
                    recovered.tasks.push(RecoveredTask {
                        task: *task,
                        acknowledged: None,
                        updates: Vec::new(),
                    });
                }
                Record::Update { framework_id, status } => {
                    match recovered.tasks.iter_mut().find(|t| is(t, &framework_id, &status.task_id)) {
                        Some(task) => task.updates.push(status),
                        None => recovered.strays.push((framework_id, status)),
                    }
                }
                Record::Acknowledgement { framework_id, task_id, .. } => {
                    recovered.strays.retain(|(f, status)| (f, &status.task_id) != (&framework_id, &task_id));
                    if let Some(task) = recovered.tasks.iter_mut().find(|t| is(t, &framework_id, &task_id)) {
                        task.acknowledged = Some(task.updates.remove(0));
                    }
                    let over = |status: &TaskStatus| status.state.is_terminal();
                    recovered.tasks.retain(|task| !task.acknowledged.as_ref().is_some_and(over));
                }
            }
        }
        recovered
    }

    /// Everything goes well from here: in the end nothing is left, and nothing was lost.
    fn settle(&mut self) {
        self.step(Step::Disconnect);
        self.step(Step::Connect);
        self.register(Vec::new());
        for framework in 0..FRAMEWORKS {
            for task in 0..TASKS {
                if self.core.view().tasks.contains_key(&key(framework, task)) {
                    self.step(Step::Kill { framework, task, grace: Some(0) });
                }
            }
            if self.removed.contains(&key(framework, 0).0) {
                self.message(MasterMessage::RemoveFramework { framework_id: key(framework, 0).0 });
            }
        }
        for _ in 0..400 {
            if self.streams.is_empty()
                && self.core.view().tasks.is_empty()
                && self.written == self.asked.len()
            {
                break;
            }
            self.step(Step::Written { some: 100 });
            self.step(Step::Answer { pick: 0, outcome: 5 });
            self.step(Step::End { pick: 0, code: 1 });
            self.step(Step::Ping);
            for ((framework_id, task_id), update_id) in std::mem::take(&mut self.sent) {
                self.message(MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id });
            }
        }
        assert!(self.streams.is_empty(), "updates that nobody was told: {:?}", self.streams);
        let view = self.core.view();
        assert!(view.tasks.is_empty() && view.free == total(), "{view:?}");
        for (id, (_, container)) in &self.containers {
            assert_eq!(*container, Container::Removed, "{id} is left");
        }
        self.wait(Duration::from_secs(60));
    }
}

fn is(task: &RecoveredTask, framework_id: &FrameworkId, task_id: &TaskId) -> bool {
    task.task.framework_id == *framework_id && task.task.info.task_id == *task_id
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laws_hold_whatever_happens(steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}

#[test]
fn a_refusal_ends_everything() {
    let mut core = AgentCore::new(config(), 1, Time::ZERO);
    let mut actions = Vec::new();
    core.handle(Time::ZERO, Event::Connected, &mut actions);
    let refuse = MasterMessage::Refuse { code: RefuseCode::Invalid, message: "no".to_owned() };
    core.handle(Time::ZERO, Event::MasterMessage(refuse), &mut actions);
    assert!(matches!(actions.last(), Some(Action::Fail { .. })));
    actions.clear();
    core.handle(Time::ZERO, Event::Shutdown, &mut actions);
    assert!(actions.is_empty() && core.next_deadline().is_none());
}
