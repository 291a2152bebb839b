//! An agent that does what agent.proto asks of one.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use apportion_master_core::{ConnId, Event};
use apportion_types::{
    AgentCapability, AgentId, AgentInfo, Drain, FrameworkId, FrameworkInfo, GroupInfo, OperationId,
    OperationState, OperationStatus, Resources, Role, Source, TaskId, TaskInfo, TaskState, TaskStatus, Time,
    UpdateId,
    protocol::agent::{AgentMessage, AgentOperation, AgentTask, MasterMessage, RefuseCode},
};

use super::{Cluster, scheduler};

type Key = (FrameworkId, TaskId);

const SETTINGS: &str = "cpus:4;mem:1024;disk:40;ports:[31000-31009]";

struct Task {
    framework_info: FrameworkInfo,
    role: Role,
    info: TaskInfo,
    state: TaskState,
    /// Updates that are not acknowledged; the first is told.
    updates: VecDeque<TaskStatus>,
}

pub(crate) struct Agent {
    number: usize,
    pub(super) conn: Option<ConnId>,
    pub(super) agent_id: Option<AgentId>,
    pub(super) inbox: VecDeque<MasterMessage>,
    outbox: VecDeque<AgentMessage>,
    /// By its settings.
    settings: Resources,
    /// As operations have changed them.
    total: Resources,
    /// Operations that came on this stream.
    applied: u64,
    /// What became of operations that is not acknowledged.
    operations: BTreeMap<(FrameworkId, OperationId), OperationStatus>,
    tasks: BTreeMap<Key, Task>,
    /// It has said what is not so; what follows of that is its own doing.
    lies: bool,
}

impl Agent {
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            conn: None,
            agent_id: None,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            settings: SETTINGS.parse().unwrap(),
            total: SETTINGS.parse().unwrap(),
            applied: 0,
            operations: BTreeMap::new(),
            tasks: BTreeMap::new(),
            lies: false,
        }
    }

    pub(super) fn stream_ended(&mut self) {
        self.conn = None;
        self.applied = 0;
        self.inbox.clear();
        self.outbox.clear();
    }

    /// The agent starts anew, as another one.
    fn forget(&mut self) {
        self.agent_id = None;
        self.total = self.settings.clone();
        self.operations.clear();
        self.tasks.clear();
        self.outbox.clear();
    }

    /// An agent that has lied, and has lost its name by that, starts anew.
    pub(super) fn repent(&mut self) {
        if self.lies {
            self.forget();
        }
    }

    fn info(&self) -> AgentInfo {
        AgentInfo {
            hostname: format!("host{}", self.number),
            address: format!("host{}:1", self.number),
            resources: self.settings.clone(),
            attributes: BTreeMap::new(),
            domain: None,
            unenforced: Vec::new(),
            version: String::new(),
            capabilities: AgentCapability::ALL.into(),
            work_dir_id: format!("host{}", self.number),
        }
    }

    fn told_operations(&self) -> Vec<AgentOperation> {
        let each = |(key, status): (&(FrameworkId, OperationId), &OperationStatus)| AgentOperation {
            framework_id: key.0.clone(),
            status: status.clone(),
        };
        self.operations.iter().map(each).collect()
    }

    /// Adds an update to a task's stream, and tells it when it is the first.
    fn update(&mut self, key: &Key, state: TaskState, update: u64) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.state = state;
        task.updates.push_back(TaskStatus {
            task_id: key.1.clone(),
            agent_id: None,
            state,
            reason: None,
            source: Source::Agent,
            message: String::new(),
            at: Time::ZERO,
            update_id: Some(UpdateId::new(7, update)),
            container: None,
            findings: Default::default(),
            addresses: Vec::new(),
        });
        if task.updates.len() == 1 {
            self.tell(key);
        }
    }

    /// Tells the head of a task's stream.
    fn tell(&mut self, key: &Key) {
        let Some(task) = self.tasks.get(key) else { return };
        if let Some(status) = task.updates.front().cloned() {
            let latest_state = task.state;
            self.outbox.push_back(AgentMessage::StatusUpdate {
                framework_id: key.0.clone(),
                status,
                latest_state,
            });
        }
    }

    /// A task that is asked for and not there: all there is to it is its end.
    fn never_had(&mut self, key: &Key, state: TaskState, update: u64) {
        let info = scheduler::task_info(0, 0);
        let info = TaskInfo { task_id: key.1.clone(), resources: Resources::new(), ..info };
        let framework_info = scheduler::framework_info(0);
        let task = Task { framework_info, role: Role::default(), info, state, updates: VecDeque::new() };
        self.tasks.insert(key.clone(), task);
        self.update(key, state, update);
    }

    /// It is drained: all that runs is killed.
    fn end_all(&mut self, drain: Drain, next: &mut impl FnMut() -> u64) {
        let state = if drain.mark_gone { TaskState::GoneByOperator } else { TaskState::Killed };
        let live = self.tasks.iter().filter(|(_, task)| !task.state.is_terminal());
        let keys: Vec<Key> = live.map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| self.update(key, state, next()));
    }

    fn hear(&mut self, message: MasterMessage, updates: &mut u64) {
        *updates += 1;
        let mut number = *updates * 1000;
        let mut next = || {
            number += 1;
            number
        };
        match message {
            MasterMessage::Registered { agent_id, missing_tasks, drain, .. } => {
                self.agent_id = Some(agent_id);
                let keys: Vec<Key> = self.tasks.keys().cloned().collect();
                keys.iter().for_each(|key| self.tell(key));
                for key in missing_tasks {
                    if !self.tasks.contains_key(&key) {
                        self.never_had(&key, TaskState::Dropped, next());
                    }
                }
                drain.into_iter().for_each(|drain| self.end_all(drain, &mut next));
            }
            MasterMessage::Ping { sequence } => self.outbox.push_back(AgentMessage::Pong { sequence }),
            MasterMessage::RunTasks { framework_id, framework_info, role, tasks } => {
                if tasks.iter().any(|info| info.group.is_some()) {
                    let whole = GroupInfo::of(tasks.iter().map(|info| &**info));
                    assert!(whole.is_ok(), "agent {} gets a part of a group: {whole:?}", self.number);
                }
                for info in tasks {
                    let key = (framework_id.clone(), info.task_id.clone());
                    assert!(self.lies || !self.tasks.contains_key(&key), "{key:?} is run twice at once");
                    let task = Task {
                        framework_info: FrameworkInfo::clone(&framework_info),
                        role: role.clone(),
                        info: Arc::unwrap_or_clone(info),
                        state: TaskState::Starting,
                        updates: VecDeque::new(),
                    };
                    self.tasks.insert(key.clone(), task);
                    self.update(&key, TaskState::Running, next());
                }
                let mut rest = self.total.clone();
                for task in self.tasks.values().filter(|task| task.state.holds_resources()) {
                    let left = rest.checked_sub(&task.info.resources.exclusive());
                    assert!(
                        self.lies || left.is_some(),
                        "agent {} has {rest} left for {:?}",
                        self.number,
                        task.info
                    );
                    rest = left.unwrap_or_default();
                }
            }
            MasterMessage::KillTask { framework_id, task_id, .. } => {
                let key = (framework_id, task_id);
                match self.tasks.get(&key).map(|task| task.state) {
                    Some(state) if !state.is_terminal() => self.update(&key, TaskState::Killed, next()),
                    Some(_) => {}
                    None => self.never_had(&key, TaskState::Gone, next()),
                }
            }
            MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id } => {
                let key = (framework_id, task_id);
                let Some(task) = self.tasks.get_mut(&key) else { return };
                if task.updates.front().is_some_and(|head| head.update_id == Some(update_id)) {
                    let head = task.updates.pop_front();
                    if head.is_some_and(|head| head.state.is_terminal()) {
                        self.tasks.remove(&key);
                    } else {
                        self.tell(&key);
                    }
                }
            }
            MasterMessage::RemoveFramework { framework_id } => {
                let keys: Vec<Key> = self.tasks.keys().filter(|key| key.0 == framework_id).cloned().collect();
                for key in keys {
                    if self.tasks[&key].state.is_terminal() {
                        self.tasks.remove(&key);
                    } else {
                        // Only its end is still of interest.
                        self.tasks.get_mut(&key).unwrap().updates.clear();
                        self.update(&key, TaskState::Killed, next());
                    }
                }
            }
            MasterMessage::Apply { framework_id, operation_id, operation } => {
                self.applied += 1;
                let conversion = operation.conversion().expect("the master passes on only what makes sense");
                let done = conversion.apply(&self.total);
                assert!(
                    self.lies || done.is_some(),
                    "agent {} has {} for {operation}",
                    self.number,
                    self.total
                );
                let state = if done.is_some() { OperationState::Finished } else { OperationState::Dropped };
                match done {
                    Some(total) => self.total = total,
                    None => self
                        .outbox
                        .push_back(AgentMessage::Total { total: self.total.clone(), applied: self.applied }),
                }
                if let (Some(framework_id), Some(operation_id)) = (framework_id, operation_id) {
                    let status = OperationStatus {
                        operation_id: operation_id.clone(),
                        agent_id: None,
                        state,
                        reason: None,
                        message: String::new(),
                        at: Time::ZERO,
                        update_id: Some(UpdateId::new(8, next())),
                    };
                    self.operations.insert((framework_id, operation_id), status);
                    let told = self.told_operations();
                    self.outbox.extend(told.into_iter().map(AgentMessage::OperationUpdate));
                }
            }
            MasterMessage::AcknowledgeOperation { framework_id, operation_id, update_id } => {
                let key = (framework_id, operation_id);
                if self.operations.get(&key).is_some_and(|status| status.update_id == Some(update_id)) {
                    self.operations.remove(&key);
                }
            }
            MasterMessage::Refuse {
                code: RefuseCode::Removed | RefuseCode::Gone | RefuseCode::Invalid,
                ..
            } => self.forget(),
            MasterMessage::Drain(Some(drain)) => self.end_all(drain, &mut next),
            MasterMessage::Drain(None) => {}
            MasterMessage::Refuse { .. } => {}
        }
    }
}

impl Cluster {
    pub(super) fn register(&mut self, number: usize, stale: u8) {
        if stale == 3 {
            // What it says of itself over the same stream is after what it has heard there.
            self.agent_hears(number);
        }
        let conn = self.conn();
        let agent = &mut self.agents[number];
        // The inbox of the old stream is lost; the master may not know yet that it has ended.
        let same = agent.conn.filter(|_| stale == 3);
        if same.is_none() {
            agent.stream_ended();
        }
        let conn = same.unwrap_or(conn);
        agent.applied = 0;
        agent.conn = Some(conn);
        match stale {
            1 => agent.forget(),
            // As one of an earlier master, with a task that others of it may have too.
            4 if agent.agent_id.is_none() => {
                agent.agent_id = AgentId::new(format!("m0-A000{number}")).ok();
                let key = (FrameworkId::new("m0-F0001").unwrap(), scheduler::task_id(0));
                let task = Task {
                    framework_info: scheduler::framework_info(0),
                    role: Role::default(),
                    info: scheduler::task_info(0, 1),
                    state: TaskState::Running,
                    updates: VecDeque::new(),
                };
                agent.tasks.insert(key, task);
            }
            2 => {
                agent.settings = "cpus:3;mem:2048;disk:40;ports:[31000-31004]".parse().unwrap();
                agent.total = agent.settings.clone();
            }
            _ => {}
        }
        let tasks = agent.tasks.iter().map(|(key, task)| AgentTask {
            framework_id: key.0.clone(),
            framework_info: task.framework_info.clone(),
            role: task.role.clone(),
            info: task.info.clone(),
            state: task.state,
            unacknowledged: task.updates.front().cloned(),
        });
        let tasks = tasks.collect();
        let message = AgentMessage::Register {
            info: agent.info(),
            agent_id: agent.agent_id.clone(),
            total: agent.total.clone(),
            tasks,
            operations: agent.told_operations(),
        };
        self.happen(Event::AgentMessage { conn, message });
    }

    pub(super) fn agent_breaks(&mut self, number: usize) {
        if let Some(conn) = self.agents[number].conn {
            self.agents[number].stream_ended();
            self.happen(Event::AgentClosed { conn });
        }
    }

    pub(super) fn agent_hears(&mut self, number: usize) {
        while let Some(message) = self.agents[number].inbox.pop_front() {
            self.agents[number].hear(message, &mut self.updates);
        }
    }

    pub(super) fn agent_speaks(&mut self, number: usize) {
        while let (Some(conn), Some(message)) =
            (self.agents[number].conn, self.agents[number].outbox.pop_front())
        {
            self.happen(Event::AgentMessage { conn, message });
        }
    }

    pub(super) fn task_ends(&mut self, number: usize, task: usize, failed: bool) {
        let agent = &mut self.agents[number];
        let live: Vec<Key> =
            agent.tasks.iter().filter(|(_, t)| !t.state.is_terminal()).map(|(key, _)| key.clone()).collect();
        if let Some(key) = live.get(task % live.len().max(1)) {
            self.updates += 1;
            let state = if failed { TaskState::Failed } else { TaskState::Finished };
            agent.update(key, state, self.updates * 1000);
        }
    }

    pub(super) fn task_ends_all(&mut self, number: usize) {
        while self.agents[number].tasks.values().any(|task| !task.state.is_terminal()) {
            self.task_ends(number, 0, false);
        }
    }

    pub(super) fn unregister(&mut self, number: usize) {
        let Some(agent) = self.agents.get_mut(number) else { return };
        let Some(conn) = agent.conn else { return };
        agent.forget();
        agent.inbox.clear();
        self.happen(Event::AgentMessage {
            conn,
            message: AgentMessage::Unregister { message: String::new() },
        });
    }

    pub(super) fn agent_garbage(&mut self, number: usize, kind: u8, task: usize) {
        let fresh = self.conn();
        let agent = &mut self.agents[number];
        let conn = agent.conn.unwrap_or(fresh);
        let keys: Vec<Key> = agent.tasks.keys().cloned().collect();
        let key = keys.get(task % keys.len().max(1)).cloned();
        let key = key.unwrap_or_else(|| (FrameworkId::new("m0-F0009").unwrap(), scheduler::task_id(0)));
        self.updates += 1;
        let status = |state, update_id| TaskStatus {
            task_id: key.1.clone(),
            agent_id: AgentId::new("somebody-else").ok(),
            state,
            reason: None,
            source: Source::Master,
            message: String::new(),
            at: Time::ZERO,
            update_id,
            container: None,
            findings: Default::default(),
            addresses: Vec::new(),
        };
        let said = |state, update_id| AgentMessage::StatusUpdate {
            framework_id: key.0.clone(),
            status: status(state, update_id),
            latest_state: state,
        };
        let id = Some(UpdateId::new(9, self.updates));
        let message = match kind {
            0 => AgentMessage::Pong { sequence: 77 },
            1 => said(TaskState::Unknown, id),
            2 => said(TaskState::Staging, id),
            3 => said(TaskState::Running, id),
            4 => said(TaskState::Starting, None),
            5 => {
                agent.lies = true; // the end of a task that runs on
                said(TaskState::Failed, None)
            }
            6 => AgentMessage::Register {
                info: agent.info(),
                total: agent.total.clone(),
                operations: Vec::new(),
                agent_id: AgentId::new("m1-A0001").ok(),
                tasks: vec![AgentTask {
                    framework_id: FrameworkId::new("m0-F0001").unwrap(),
                    framework_info: scheduler::framework_info(0),
                    role: Role::default(),
                    info: scheduler::task_info(1, 2),
                    state: TaskState::Running,
                    unacknowledged: None,
                }],
            },
            _ => AgentMessage::Register {
                info: agent.info(),
                total: agent.total.clone(),
                operations: Vec::new(),
                agent_id: AgentId::new("m1-A0099").ok(),
                tasks: Vec::new(),
            },
        };
        if kind == 6 {
            self.agents.iter_mut().for_each(|agent| agent.lies = true); // it takes another's place
        }
        self.happen(Event::AgentMessage { conn, message });
    }
}
