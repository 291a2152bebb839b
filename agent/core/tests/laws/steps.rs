//! What can happen, and how it happens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apportion_agent_core::{CheckpointId, ContainerId, Event, LaunchFailure, LaunchFailureKind, TaskKey};
use apportion_types::{
    AgentId, Command, Drain, Execution, FrameworkId, FrameworkInfo, GroupId, GroupInfo, Network, OperationId,
    Part, Reason, Resources, Role, TaskId, TaskInfo, UpdateId,
    container::{Exit, Limitation},
    probe::CheckResult,
    protocol::agent::MasterMessage,
    resources::{Name, Terms, Value},
};
use proptest::prelude::*;

use crate::{
    executors::{Deed, deed, executed},
    wishes::{self, USES, resources},
    world::{Container, OperationKey, World, volumes_of},
};

const FRAMEWORKS: u8 = 2;
const TASKS: u8 = 4;
const OPERATIONS: u8 = 3;

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Connect,
    Disconnect,
    Registered {
        missing: Vec<(u8, u8)>,
    },
    Ping,
    /// The agent is drained, and perhaps gone then; or is not any more.
    Drain {
        gone: Option<bool>,
        grace: Option<u16>,
    },
    Run {
        framework: u8,
        tasks: Vec<(u8, usize)>,
    },
    /// A task group of these, by what they use and their parts; perhaps of tasks or a name that are there already.
    RunGroup {
        framework: u8,
        group: u8,
        members: Vec<(u8, usize, Part)>,
    },
    /// Some tasks by an executor, which is launched before them or is not.
    RunByExecutor {
        framework: u8,
        executor: Option<u8>,
        tasks: Vec<(u8, usize)>,
        by: u8,
    },
    Executor {
        pick: u8,
        deed: Deed,
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
    /// Answers a probe, perhaps one that is not waited for any more.
    Probed {
        pick: u8,
        result: CheckResult,
    },
    /// A launch tells what it does.
    Progress {
        pick: u8,
        how_far: u8,
    },
    /// A container that may have ended holds more than it may.
    Over {
        pick: u8,
    },
    /// The end of a container is told at once, or only once what it used is free.
    End {
        pick: u8,
        code: i32,
        slow: bool,
    },
    Released {
        pick: u8,
    },
    /// An operation of a framework or, for none, of an operator; named or not.
    Apply {
        framework: Option<u8>,
        operation: Option<u8>,
        what: u8,
    },
    /// Acknowledges an outcome that was sent.
    AcknowledgeOperation {
        pick: u8,
    },
    Lend {
        cpus: u8,
    },
    Wait {
        millis: u16,
    },
    /// With some records on disk of which the process was not told.
    Crash {
        unheard: u8,
    },
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let key = || (0..FRAMEWORKS, 0..TASKS);
    prop_oneof![
        3 => Just(Step::Connect),
        1 => Just(Step::Disconnect),
        4 => proptest::collection::vec(key(), 0..2).prop_map(|missing| Step::Registered { missing }),
        1 => Just(Step::Ping),
        2 => (proptest::option::weighted(0.3, any::<bool>()), proptest::option::of(0..5000u16))
            .prop_map(|(gone, grace)| Step::Drain { gone, grace }),
        6 => (0..FRAMEWORKS, proptest::collection::vec((0..TASKS, 0..USES.len()), 1..4))
            .prop_map(|(framework, tasks)| Step::Run { framework, tasks }),
        6 => (0..FRAMEWORKS, 0..2u8, members())
            .prop_map(|(framework, group, members)| Step::RunGroup { framework, group, members }),
        6 => (0..FRAMEWORKS, proptest::option::of(0..TASKS), proptest::collection::vec((0..TASKS, 0..5usize), 1..3), 0..TASKS)
            .prop_map(|(framework, executor, tasks, by)| Step::RunByExecutor { framework, executor, tasks, by }),
        12 => (any::<u8>(), deed()).prop_map(|(pick, deed)| Step::Executor { pick, deed }),
        4 => (key(), proptest::option::of(0..5000u16))
            .prop_map(|((framework, task), grace)| Step::Kill { framework, task, grace }),
        8 => (any::<u8>(), proptest::bool::weighted(0.2)).prop_map(|(pick, stale)| Step::Acknowledge { pick, stale }),
        1 => (0..FRAMEWORKS).prop_map(|framework| Step::Remove { framework }),
        10 => (1..4u8).prop_map(|some| Step::Written { some }),
        8 => (any::<u8>(), 0..6u8).prop_map(|(pick, outcome)| Step::Answer { pick, outcome }),
        5 => (any::<u8>(), 0..3i32, any::<bool>()).prop_map(|(pick, code, slow)| Step::End { pick, code, slow }),
        3 => any::<u8>().prop_map(|pick| Step::Released { pick }),
        8 => (any::<u8>(), result()).prop_map(|(pick, result)| Step::Probed { pick, result }),
        2 => (any::<u8>(), 0..3u8).prop_map(|(pick, how_far)| Step::Progress { pick, how_far }),
        1 => any::<u8>().prop_map(|pick| Step::Over { pick }),
        8 => (proptest::option::weighted(0.8, 0..FRAMEWORKS), proptest::option::weighted(0.7, 0..OPERATIONS), any::<u8>())
            .prop_map(|(framework, operation, what)| Step::Apply { framework, operation, what }),
        3 => any::<u8>().prop_map(|pick| Step::AcknowledgeOperation { pick }),
        1 => (0..4u8).prop_map(|cpus| Step::Lend { cpus }),
        4 => (0..30_000u16).prop_map(|millis| Step::Wait { millis }),
        1 => (0..4u8).prop_map(|unheard| Step::Crash { unheard }),
    ]
}

/// Different tasks, the last one mostly a main task.
fn members() -> impl Strategy<Value = Vec<(u8, usize, Part)>> {
    let part = || proptest::sample::select(&Part::ALL[..]);
    let before = proptest::collection::vec((0..2usize, part()), 0..3);
    let last = prop_oneof![9 => Just(Part::Main), 1 => part()];
    (before, 0..USES.len(), last).prop_map(|(mut members, uses, part)| {
        members.push((uses, part));
        (0..TASKS).zip(members).map(|(task, (uses, part))| (task, uses, part)).collect()
    })
}

fn result() -> impl Strategy<Value = CheckResult> {
    prop_oneof![Just(CheckResult::Exit(0)), Just(CheckResult::HttpStatus(503)), Just(CheckResult::Unanswered),]
}

/// One whose name says so has cores of its own, where it asks for whole ones that are not lent.
fn task_info(task_id: TaskId, task: u8, uses: usize) -> TaskInfo {
    let mut info = TaskInfo {
        task_id,
        name: String::new(),
        resources: resources(USES[uses]),
        limits: Resources::new(),
        pids_max: None,
        volumes: Vec::new(),
        command: Command { argv: vec!["work".to_owned()], env: BTreeMap::new() },
        kill_grace: None,
        labels: BTreeMap::new(),
        container: Default::default(),
        supervision: wishes::supervision(task),
        group: None,
        execution: Default::default(),
    };
    info.container.exclusive_cpus = task == TASKS - 1 && info.resources.exclusive_cores().is_ok();
    info
}

pub(crate) fn key(framework: u8, task: u8) -> TaskKey {
    (FrameworkId::new(format!("f{framework}")).unwrap(), TaskId::new(format!("t{task}")).unwrap())
}

impl World {
    fn pick<T: Clone>(of: Vec<T>, pick: u8) -> Option<T> {
        (!of.is_empty()).then(|| of[usize::from(pick) % of.len()].clone())
    }

    pub(crate) fn step(&mut self, step: Step) {
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
            Step::Drain { gone, grace } => {
                let grace_max = grace.map(|millis| Duration::from_millis(millis.into()));
                self.told_drain = gone.map(|mark_gone| Drain { grace_max, mark_gone });
                self.message(MasterMessage::Drain(self.told_drain));
            }
            Step::Ping => self.message(MasterMessage::Ping { sequence: 1 }),
            Step::Run { framework, tasks } => {
                let tasks =
                    tasks.into_iter().map(|(task, uses)| task_info(key(framework, task).1, task, uses));
                self.run(framework, tasks.collect());
            }
            Step::RunGroup { framework, group, members } => {
                let group_id = GroupId::new(format!("g{group}")).unwrap();
                let count = members.len() as u32;
                let of = |(place, (task, uses, part)): (u32, (u8, usize, Part))| {
                    let network = (group % 2 == 0).then(|| Box::new(Network::new("blue")));
                    let group =
                        GroupInfo { group_id: group_id.clone(), part, place, members: count, network };
                    let info = task_info(key(framework, task).1, task, uses);
                    TaskInfo { group: Some(Box::new(group)), ..info }
                };
                self.run(framework, (0..).zip(members).map(of).collect());
            }
            Step::RunByExecutor { framework, executor, tasks, by } => {
                let by = executor.unwrap_or(by);
                let launched = executor.map(|task| (task, 0, Execution::Executor));
                let run = tasks.into_iter().filter(|(task, _)| *task != by);
                let run = run.map(|(task, uses)| (task, uses, Execution::By(key(framework, by).1)));
                let tasks = launched.into_iter().chain(run).map(|(task, uses, execution)| {
                    executed(task_info(key(framework, task).1, task, uses), execution)
                });
                self.run(framework, tasks.collect());
            }
            Step::Executor { pick, deed } => self.does(pick, deed),
            Step::Kill { framework, task, grace } => {
                let (framework_id, task_id) = key(framework, task);
                if self.removed.contains(&framework_id) {
                    return;
                }
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
                // One that the agent would not hear is repeated by a master; here it is simply said later.
                if self.core.view().master_id.is_some() {
                    self.removed.insert(framework_id.clone());
                    self.message(MasterMessage::RemoveFramework { framework_id });
                }
            }
            Step::Written { some } => self.write(usize::from(some)),
            Step::Answer { pick, outcome } => self.answer(pick, outcome),
            Step::Probed { pick, result } => {
                if let Some((container_id, kind, number)) = Self::pick(self.probes.clone(), pick) {
                    self.feed(Event::Probed { container_id, kind, number, result, message: String::new() });
                }
            }
            Step::Progress { pick, how_far } => {
                let launching = |container: &Container| matches!(container, Container::Launching(_));
                if let Some(container_id) = self.pick_container(launching, pick) {
                    self.feed(Event::LaunchProgress { container_id, message: how_far.to_string() });
                }
            }
            Step::Over { pick } => {
                let running = |container: &Container| {
                    matches!(container, Container::Running(false) | Container::Ended(false))
                };
                if let Some(container_id) = self.pick_container(running, pick) {
                    let limitation = Limitation::Disk { limit_bytes: 1 };
                    self.feed(Event::LimitExceeded { container_id, limitation });
                }
            }
            Step::End { pick, code, slow } => self.end(pick, Exit::Code(code), slow),
            Step::Released { pick } => self.released(pick),
            Step::Apply { framework, operation, what } => {
                let framework_id = framework.map(|framework| key(framework, 0).0);
                if framework_id.as_ref().is_some_and(|framework_id| self.removed.contains(framework_id)) {
                    return;
                }
                let operation_id = operation.map(|number| OperationId::new(format!("o{number}")).unwrap());
                let operation = wishes::operation(what);
                self.message(MasterMessage::Apply { framework_id, operation_id, operation });
            }
            Step::AcknowledgeOperation { pick } => {
                if let Some((key, update_id)) = Self::pick(self.outcomes_sent.clone(), pick) {
                    self.acknowledge_operation(key, update_id);
                }
            }
            Step::Lend { cpus } => {
                let lent = Terms { revocable: true, ..Terms::default() };
                let mut revocable = Resources::new();
                revocable.insert_on(Name::Cpus, Some(lent.into()), Value::Scalar(1000 * i64::from(cpus)));
                self.feed(Event::Oversubscribed { revocable });
            }
            Step::Wait { millis } => self.wait(Duration::from_millis(millis.into())),
            Step::Crash { unheard } => self.crash(usize::from(unheard)),
        }
    }

    fn pick_container(&self, fits: impl Fn(&Container) -> bool, pick: u8) -> Option<ContainerId> {
        let fitting = self.containers.iter().filter(|(_, (_, container))| fits(container));
        Self::pick(fitting.map(|(id, _)| id.clone()).collect(), pick)
    }

    fn acknowledge_operation(&mut self, (framework_id, operation_id): OperationKey, update_id: UpdateId) {
        self.message(MasterMessage::AcknowledgeOperation { framework_id, operation_id, update_id });
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
            drain: self.told_drain,
        }));
    }

    fn run(&mut self, framework: u8, tasks: Vec<TaskInfo>) {
        let framework_id = key(framework, 0).0;
        if self.removed.contains(&framework_id) {
            return;
        }
        self.message(MasterMessage::RunTasks {
            framework_id,
            framework_info: Arc::new(FrameworkInfo {
                name: String::new(),
                principal: String::new(),
                roles: vec![Role::default()],
                failover_timeout: Duration::ZERO,
                labels: BTreeMap::new(),
            }),
            role: Role::default(),
            tasks: tasks.into_iter().map(Arc::new).collect(),
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
        // The end of one that has ended meanwhile may be all that is told of it.
        let end_alone = container == Container::Ended(true) && outcome.is_multiple_of(2);
        let told = match event {
            Some(kind) => Event::LaunchFailed {
                container_id: container_id.clone(),
                failure: LaunchFailure { kind, message: String::new() },
            },
            None => Event::Launched { container_id: container_id.clone(), addresses: Vec::new() },
        };
        if !end_alone {
            self.feed(told);
        }
        if container == Container::Ended(true) {
            self.feed(self.terminated(container_id, Exit::Code(0)));
        }
    }

    fn end(&mut self, pick: u8, exit: Exit, slow: bool) {
        let running = self.containers.iter().filter(|(_, (_, c))| matches!(c, Container::Running(_)));
        let running: Vec<_> = running.map(|(id, (_, c))| (id.clone(), *c)).collect();
        let Some((container_id, container)) = Self::pick(running, pick) else { return };
        let owed = container == Container::Running(true);
        self.containers.get_mut(&container_id).unwrap().1 = Container::Ended(owed);
        if !owed && slow {
            self.feed(Event::Ending { container_id: container_id.clone() });
            let made = self.updates_made(&container_id);
            self.ending.insert(container_id, (exit, made));
        } else if !owed {
            self.feed(self.terminated(container_id, exit));
        }
    }

    /// What a container that is over used is free: its end is told, and nothing was told of it meanwhile.
    fn released(&mut self, pick: u8) {
        let Some(container_id) = Self::pick(self.ending.keys().cloned().collect(), pick) else { return };
        let (exit, made) = self.ending.remove(&container_id).unwrap();
        assert_eq!(self.updates_made(&container_id), made, "{container_id} was over");
        self.feed(self.terminated(container_id, exit));
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

    /// Begins with a volume of each kind, so that what happens to volumes happens often.
    pub(crate) fn with_volumes(&mut self) {
        self.step(Step::Connect);
        self.register(Vec::new());
        for what in wishes::VOLUMES {
            self.step(Step::Apply { framework: None, operation: None, what });
        }
        self.step(Step::Written { some: 100 });
    }

    /// Everything goes well from here: in the end nothing is left, and nothing was lost.
    pub(crate) fn settle(&mut self) {
        self.step(Step::Disconnect);
        self.step(Step::Connect);
        self.register(Vec::new());
        for framework in 0..FRAMEWORKS {
            for task in 0..TASKS {
                if self.core.view().tasks.contains_key(&key(framework, task)) {
                    self.step(Step::Kill { framework, task, grace: Some(0) });
                }
            }
            if self.forgotten.contains(&key(framework, 0).0) {
                self.message(MasterMessage::RemoveFramework { framework_id: key(framework, 0).0 });
            }
        }
        for _ in 0..400 {
            if self.streams.is_empty()
                && self.outcomes.is_empty()
                && self.core.view().tasks.is_empty()
                && self.written == self.asked.len()
            {
                break;
            }
            self.step(Step::Written { some: 100 });
            self.step(Step::Answer { pick: 0, outcome: 5 });
            self.step(Step::End { pick: 0, code: 1, slow: false });
            self.step(Step::Released { pick: 0 });
            self.step(Step::Ping);
            for (key, update_id) in std::mem::take(&mut self.outcomes_sent) {
                self.acknowledge_operation(key, update_id);
            }
            for ((framework_id, task_id), update_id) in std::mem::take(&mut self.sent) {
                // Of a removed framework nobody is there to acknowledge.
                if !self.removed.contains(&framework_id) {
                    self.message(MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id });
                }
            }
        }
        assert!(self.outcomes.is_empty(), "outcomes that nobody was told: {:?}", self.outcomes);
        assert_eq!(
            self.volumes,
            volumes_of(&self.core.view().resources),
            "volumes have folders, and no others"
        );
        assert!(self.streams.is_empty(), "updates that nobody was told: {:?}", self.streams);
        let view = self.core.view();
        assert!(view.tasks.is_empty() && view.free == view.resources, "{view:?}");
        for (id, (_, container)) in &self.containers {
            assert_eq!(*container, Container::Removed, "{id} is left");
        }
        self.wait(Duration::from_secs(60));
    }
}
