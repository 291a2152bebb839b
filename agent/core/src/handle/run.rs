//! RunTasks: a task is taken on, written, and started.

use apportion_types::{CpuSet, FrameworkId, FrameworkInfo, Reason, Role, TaskInfo, TaskState, Time};

use crate::{
    AgentCore, Fence,
    action::{Action, Actions, Record},
    container::{ContainerId, ContainerPlan},
    event::{TaskKey, TaskRecord},
    handle::{note, update::Draft},
    state::{
        executor::Executor,
        held::Held,
        pool::Lack,
        stream::Stream,
        task::{Phase, Task, Waiting},
    },
};

/// Whose a task is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) framework_id: &'a FrameworkId,
    pub(super) framework_info: &'a FrameworkInfo,
    pub(super) role: &'a Role,
}

impl AgentCore {
    pub(super) fn run_tasks(
        &mut self,
        now: Time,
        framework_id: &FrameworkId,
        framework_info: &FrameworkInfo,
        role: &Role,
        tasks: Vec<TaskInfo>,
        actions: &mut Actions,
    ) {
        let of = Origin { framework_id, framework_info, role };
        let group_id = |info: &TaskInfo| info.group.as_ref().map(|group| group.group_id.clone());
        let mut tasks = tasks.into_iter().peekable();
        while let Some(info) = tasks.next() {
            match group_id(&info) {
                None => self.run_task(now, of, info, actions),
                Some(group) => {
                    let mut members = vec![info];
                    while let Some(next) = tasks.next_if(|next| group_id(next).as_ref() == Some(&group)) {
                        members.push(next);
                    }
                    self.run_group(now, of, group, members, actions);
                }
            }
        }
    }

    fn run_task(&mut self, now: Time, of: Origin<'_>, info: TaskInfo, actions: &mut Actions) {
        let key = (of.framework_id.clone(), info.task_id.clone());
        if self.is_over(&key) {
            let (framework_info, role) = (of.framework_info.clone(), of.role.clone());
            return self.wait(key, Waiting::Run { framework_info, role, info: Box::new(info) });
        }
        if self.is_known(&key) {
            let message =
                "is known here already and its end is not acknowledged; the second description is ignored";
            return note(actions, format!("task {} of framework {}: {message}", key.1, key.0));
        }
        if let Some(draft) = self.too_late() {
            return self.update(now, &key, draft, actions);
        }
        if let Some(executor) = info.executor().map(|executor| (key.0.clone(), executor.clone())) {
            if self.is_over(&executor) {
                let (framework_info, role) = (of.framework_info.clone(), of.role.clone());
                return self.wait(executor, Waiting::Run { framework_info, role, info: Box::new(info) });
            }
            if let Err(draft) = self.judge_executor(&executor) {
                return self.update(now, &key, draft, actions);
            }
        }
        let cores = match self.take(&info) {
            Ok(cores) => cores,
            Err(draft) => return self.update(now, &key, draft, actions),
        };
        let record = self.take_on(of, info, cores);
        self.checkpoint(Record::Task(Box::new(record)), Fence::Task(key), actions);
    }

    /// Takes what a task is to use, all or nothing, and the cores that are to be its own; or says what is lacking.
    pub(super) fn take(&mut self, info: &TaskInfo) -> Result<Option<CpuSet>, Draft> {
        self.pool.take(&info.resources).map_err(lacking)?;
        let cores = info.exclusive_cores().map(|count| self.cores.take(count)).transpose();
        cores.map_err(|why| {
            self.pool.give_back(&info.resources);
            Draft::new(TaskState::Dropped, why).because(Reason::NotEnforceable)
        })
    }

    /// Makes a task, whose resources are taken, known here; it is on disk when its record is.
    pub(super) fn take_on(&mut self, of: Origin<'_>, info: TaskInfo, cores: Option<CpuSet>) -> TaskRecord {
        let key = (of.framework_id.clone(), info.task_id.clone());
        self.containers_named += 1;
        let record = TaskRecord {
            framework_id: of.framework_id.clone(),
            framework_info: of.framework_info.clone(),
            role: of.role.clone(),
            info,
            container_id: ContainerId::new(self.incarnation, self.containers_named),
            cores,
        };
        self.containers.insert(record.container_id.clone(), key.clone());
        let task = Task::new(record.clone(), Phase::Checkpointing, TaskState::Staging);
        if let Some(executor) = task.executor() {
            self.executors.entry(executor).or_default().tasks.insert(key.clone(), None);
        } else if record.info.is_executor() {
            self.executors.insert(key.clone(), Executor::default());
        }
        self.tasks.insert(key.clone(), task);
        self.show(&key);
        record
    }

    /// True when the name of a task is taken, by it or by what is still to be told of it.
    pub(super) fn is_known(&self, key: &TaskKey) -> bool {
        self.tasks.contains_key(key) || self.streams.contains_key(key)
    }

    /// True while nothing is left of a task but to write that its end is acknowledged. Its framework may use the name again.
    pub(super) fn is_over(&self, key: &TaskKey) -> bool {
        self.streams.get(key).is_some_and(Stream::is_over)
    }

    /// Keeps what the master said of a task until its name is free.
    pub(super) fn wait(&mut self, key: TaskKey, waiting: Waiting) {
        self.waiting.entry(key).or_default().push(waiting);
    }

    /// Does what the master has said meanwhile of a task whose name is now free.
    pub(super) fn name_is_free(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        for waiting in self.waiting.remove(key).unwrap_or_default() {
            match waiting {
                Waiting::Run { framework_info, role, info } => {
                    self.run_tasks(now, &key.0, &framework_info, &role, vec![*info], actions);
                }
                Waiting::RunGroup { framework_info, role, members } => {
                    self.run_tasks(now, &key.0, &framework_info, &role, members, actions);
                }
                Waiting::Kill { task_id, grace, reason } => {
                    self.kill_task(now, (key.0.clone(), task_id), grace, reason, actions);
                }
                Waiting::Missing => self.answer_missing(now, key.clone(), actions),
                Waiting::FrameworkRemoved => self.remove_framework(now, &key.0, actions),
            }
        }
    }

    /// The task is on disk: it is started, or waits for its executor, unless it was asked to end meanwhile.
    pub(super) fn taken_on(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("a task stays until its end is acknowledged");
        assert_eq!(task.phase, Phase::Checkpointing, "{key:?} is taken on once");
        if let Some(kill) = task.kill {
            task.phase = Phase::Ended { kept: false };
            let draft = Draft::new(TaskState::Killed, "killed before it was started");
            return self.update(now, key, draft.because(kill.told_reason()), actions);
        }
        if task.record.info.executor().is_some() {
            task.phase = Phase::Waiting;
            return self.task_changed(key);
        }
        self.launch(now, key, actions);
    }

    /// Starts the container of a task, which is on disk.
    pub(super) fn launch(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        if self.tasks[key].record.cores.is_some() {
            self.hold_all(actions);
        }
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        task.phase = Phase::Launching;
        task.known.progress.clear();
        task.told.progress.clear();
        let held = Held::of(task, self.config.pids_default, self.cores.shared());
        task.held = Some(held.clone());
        let plan = ContainerPlan::new(
            task.record.container_id.clone(),
            (&key.0, &task.record.role),
            self.agent_id.as_ref(),
            &task.record.info,
            held,
        );
        self.view.counters.launches += 1;
        self.update(now, key, Draft::new(TaskState::Starting, ""), actions);
        actions.push(Action::Launch(Box::new(plan)));
    }
}

/// The answer to a task that cannot have what it is to use.
fn lacking(lack: Lack) -> Draft {
    let (message, reason) = match lack {
        Lack::Unknown(missing) => {
            (format!("the agent has not {missing} of what it is to use"), Reason::ResourcesUnknown)
        }
        Lack::Taken(missing) => (
            format!("the agent has not enough free for it: {missing} more would be needed"),
            Reason::InvalidOffers,
        ),
        Lack::Lent(missing) => {
            (format!("{missing} of what it is to use is not lent any more"), Reason::Preempted)
        }
    };
    Draft::new(TaskState::Dropped, message).because(reason)
}
