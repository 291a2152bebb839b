//! Executors: what they say, what they are told, what their containers are held to.
//!
//! What is to happen to an executor and its tasks follows from how they are. It is decided in one place, [`AgentCore::settle_executors`],
//! after each event that changed one of them.

use std::collections::BTreeSet;

use apportion_types::{
    Reason, RunId, Time, UpdateId, limits,
    protocol::executor::{ExecutorCall, ExecutorEvent, ExecutorRefuseCode, ExecutorUpdate},
};

use crate::{
    AgentCore,
    action::{Action, Actions},
    container::ContainerId,
    event::TaskKey,
    handle::{note, update::Draft},
    state::{
        executor::container_id,
        task::{Kill, Phase},
        timers::Timer,
    },
};

impl AgentCore {
    pub(super) fn executor(
        &mut self,
        now: Time,
        container_id: ContainerId,
        call: ExecutorCall,
        actions: &mut Actions,
    ) {
        let Some(key) = self.listening(&container_id, actions) else { return };
        match call {
            ExecutorCall::Subscribe { runs, unacknowledged } => {
                self.executor_subscribed(now, &key, runs, unacknowledged, actions);
                self.task_changed(&key);
            }
            // Of these only the end of a task changes what is to follow; whatever ends a task has that looked at.
            ExecutorCall::Update(update) if self.executors[&key].subscribed => {
                self.executor_update(now, &key, update, actions);
            }
            ExecutorCall::Update(_) => {
                let message = "an update without a subscription; subscribe first".to_owned();
                let code = ExecutorRefuseCode::Invalid;
                actions.push(Action::DisconnectExecutor { container_id, code, message });
            }
        }
    }

    /// The executor in a container, if it is one to listen to; else it is sent away.
    fn listening(&self, container_id: &ContainerId, actions: &mut Actions) -> Option<TaskKey> {
        let key = self.containers.get(container_id);
        let task = key.and_then(|key| self.tasks.get(key));
        let message = match task {
            None => "its agent does not know the container",
            Some(task) if !task.record.info.is_executor() => {
                "its task is not described as an executor; launch it as one"
            }
            Some(task) if matches!(task.phase, Phase::Ended { .. }) => "its task is over",
            Some(_) => return key.cloned(),
        };
        actions.push(Action::DisconnectExecutor {
            container_id: container_id.clone(),
            code: ExecutorRefuseCode::Ended,
            message: message.to_owned(),
        });
        None
    }

    fn executor_subscribed(
        &mut self,
        now: Time,
        key: &TaskKey,
        runs: Vec<RunId>,
        unacknowledged: Vec<ExecutorUpdate>,
        actions: &mut Actions,
    ) {
        let executor = self.executors.get_mut(key).expect("each executor is known as one");
        executor.subscribed = true;
        // What an older stream was owed is said again on this one.
        executor.owed.clear();
        executor.unwritten.clear();
        let agent_id = self.agent_id.clone();
        let (framework_id, executor) = key.clone();
        self.tell_executor(key, ExecutorEvent::Subscribed { framework_id, executor, agent_id }, actions);
        let over = unacknowledged.iter().filter(|update| update.state.is_terminal());
        let mut strange: BTreeSet<RunId> = runs.iter().cloned().collect();
        over.for_each(|update| _ = strange.remove(&update.run_id));
        for update in unacknowledged {
            self.executor_update(now, key, update, actions);
        }
        let runs: BTreeSet<RunId> = runs.into_iter().collect();
        for task in self.tasks_of(key) {
            let run_id = self.tasks[&task].run_id();
            strange.remove(&run_id);
            match runs.contains(&run_id) {
                true => self.found_running(now, &task, actions),
                false => self.not_found_running(now, &task, actions),
            }
        }
        for run_id in strange {
            let grace = std::time::Duration::ZERO;
            self.tell_executor(
                key,
                ExecutorEvent::Kill { run_id, grace, reason: Reason::AgentForgot },
                actions,
            );
        }
    }

    pub(super) fn executor_disconnected(
        &mut self,
        container_id: &ContainerId,
        reason: String,
        actions: &mut Actions,
    ) {
        let Some(key) = self.containers.get(container_id).cloned() else { return };
        let Some(executor) = self.executors.get_mut(&key).filter(|executor| executor.subscribed) else {
            return;
        };
        executor.subscribed = false;
        note(actions, format!("the stream of executor {} of framework {} ended: {reason}", key.1, key.0));
        self.task_changed(&key);
    }

    /// Tells an executor something, if it listens.
    pub(super) fn tell_executor(&self, key: &TaskKey, event: ExecutorEvent, actions: &mut Actions) {
        if self.executors.get(key).is_some_and(|executor| executor.subscribed) {
            let container_id = self.tasks[key].record.container_id.clone();
            actions.push(Action::SendExecutor { container_id, event });
        }
    }

    /// Acknowledges what an executor said of a run, once all that was made of the run is on disk.
    pub(super) fn acknowledge_when_written(
        &mut self,
        key: &TaskKey,
        run_id: &RunId,
        update_id: UpdateId,
        actions: &mut Actions,
    ) {
        let task = self.containers.get(&container_id(run_id));
        let newest = task.and_then(|task| self.streams.get(task)?.pending.back());
        match newest.filter(|newest| !newest.durable).map(|newest| newest.id()) {
            Some(newest) => {
                let executor = self.executors.get_mut(key).expect("it has just spoken");
                executor.owed.entry(newest).or_default().push(update_id);
            }
            None => self.tell_executor(key, ExecutorEvent::Acknowledge { update_id }, actions),
        }
    }

    /// An update of a task is on disk: its executor may forget what it was made of.
    pub(super) fn acknowledge_written(&mut self, task: &TaskKey, update_id: UpdateId, actions: &mut Actions) {
        let Some(key) = self.tasks.get(task).and_then(|task| task.executor()) else { return };
        let owed = self.executors.get_mut(&key).and_then(|executor| executor.owed.remove(&update_id));
        for update_id in owed.unwrap_or_default() {
            self.tell_executor(&key, ExecutorEvent::Acknowledge { update_id }, actions);
        }
    }

    /// An update of a task was made: what its executor said of it last is in it, and one that has ended is its executor's no more.
    pub(super) fn made_of_executor(&mut self, task: &TaskKey, update_id: UpdateId, ended: bool) {
        let Some(key) = self.tasks.get(task).and_then(|task| task.executor()) else { return };
        let Some(executor) = self.executors.get_mut(&key) else { return };
        if let Some(said) = executor.unwritten.remove(task) {
            executor.owed.entry(update_id).or_default().extend(said.iter().map(|said| said.update_id));
        }
        if ended {
            executor.tasks.remove(task);
        }
    }

    /// What came of new limits, and so of those before them: where they cannot be had, what they were raised for has failed.
    pub(super) fn limited(
        &mut self,
        now: Time,
        container_id: ContainerId,
        number: u64,
        result: Result<(), String>,
        actions: &mut Actions,
    ) {
        let Some(key) = self.containers.get(&container_id).cloned() else { return };
        assert!(
            number <= self.tasks[&key].limits_asked,
            "container {container_id} is held to what was asked for"
        );
        match result {
            Ok(()) => {
                if let Some(executor) = self.executors.get_mut(&key) {
                    executor.confirmed = executor.confirmed.max(number);
                }
            }
            Err(message) => {
                note(actions, format!("container {container_id} is not held to new limits: {message}"));
                let message =
                    format!("its executor `{}` cannot be given what it is to use: {message}", key.1);
                for task in self.tasks_of(&key) {
                    let executor = self.executors.get_mut(&key).expect("known above");
                    let confirmed = executor.confirmed;
                    let asked = executor.tasks.get_mut(&task).expect("listed above");
                    // What it was held to once it may run by; that this does not hold any more is tried again.
                    let raised = *asked == Some(number) && number > confirmed;
                    // Those before them may be had alone.
                    asked.take_if(|asked| *asked > confirmed && *asked < number);
                    if raised && self.tasks[&task].phase == Phase::Waiting {
                        self.tasks.get_mut(&task).expect("listed above").phase = Phase::Ended { kept: false };
                        let draft = Draft::new(apportion_types::TaskState::Failed, message.clone());
                        self.update(now, &task, draft.because(Reason::ContainerLaunchFailed), actions);
                    }
                }
            }
        }
        self.task_changed(&key);
    }

    /// It has tasks and has not subscribed for too long.
    pub(super) fn subscribe_due(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let why = format!(
            "it has tasks, and has not subscribed for {:?}; see its log",
            limits::EXECUTOR_SUBSCRIBE_TIMEOUT
        );
        self.kill(now, key, None, Reason::ExecutorSubscribeTimeout, Some(why), actions);
    }

    /// Has it looked at again, before the event is over, what is to follow for an executor, if the task is one or is run by one.
    pub(super) fn task_changed(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get(key) else { return };
        if task.record.info.is_executor() {
            self.unsettled_executors.insert(key.clone());
        } else if let Some(executor) = task.executor() {
            self.unsettled_executors.insert(executor);
        }
    }

    /// Does what is to follow for each executor that has changed, until there is nothing: the one place where that is decided.
    pub(super) fn settle_executors(&mut self, now: Time, actions: &mut Actions) {
        while let Some(key) = self.unsettled_executors.pop_first() {
            self.settle_executor(now, &key, actions);
        }
    }

    fn settle_executor(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let task = self.tasks.get(key).filter(|task| task.record.info.is_executor());
        let phase = task.map(|task| task.phase);
        let kill = task.and_then(|task| task.kill);
        if matches!(phase, None | Some(Phase::Ended { .. })) {
            let how = self.how_executor_ended(key);
            for task in self.tasks_of(key) {
                self.end_with_executor(now, &task, &how, actions);
            }
            self.timers.cancel(&Timer::Subscribe(key.clone()));
            match self.executors.get_mut(key) {
                Some(executor) if phase.is_some() => executor.subscribed = false,
                Some(executor) if executor.tasks.is_empty() => _ = self.executors.remove(key),
                _ => {}
            }
            return;
        }
        if let Some(kill) = kill {
            self.kill_with_executor(now, key, kill, actions);
        } else if phase == Some(Phase::Running) {
            self.hold_with_tasks(key, actions);
            self.hand_over(now, key, actions);
        }
        self.await_subscription(now, key);
        self.tell_executor_awaited(now, key, actions);
    }

    /// The tasks of an executor that are on disk and have not ended, as they were taken on.
    fn tasks_of(&self, key: &TaskKey) -> Vec<TaskKey> {
        self.tasks_that(key, |phase| phase != Phase::Checkpointing)
    }

    /// Those of them that it was not told of. They are few in most events, however many it runs.
    fn waiting_for(&self, key: &TaskKey) -> Vec<TaskKey> {
        self.tasks_that(key, |phase| phase == Phase::Waiting)
    }

    fn tasks_that(&self, key: &TaskKey, are: impl Fn(Phase) -> bool) -> Vec<TaskKey> {
        let Some(executor) = self.executors.get(key) else { return Vec::new() };
        let mut tasks: Vec<TaskKey> =
            executor.tasks.keys().filter(|task| are(self.tasks[*task].phase)).cloned().collect();
        tasks.sort_by_cached_key(|task| self.tasks[task].record.container_id.age());
        tasks
    }

    fn how_executor_ended(&self, key: &TaskKey) -> String {
        let Some(task) = self.tasks.get(key) else { return "is not here any more".to_owned() };
        let newest = self.streams.get(key).and_then(|stream| stream.pending.back());
        match newest.map(|newest| newest.status.message.as_str()).filter(|message| !message.is_empty()) {
            Some(message) => format!("ended as {}: {message}", task.state),
            None => format!("ended as {}", task.state),
        }
    }

    /// Asks those to end that it runs, for the reason that it is to end for, and within what is left of its grace.
    fn kill_with_executor(&mut self, now: Time, key: &TaskKey, kill: Kill, actions: &mut Actions) {
        let reason = match kill.reason {
            Reason::ExecutorSubscribeTimeout => kill.reason,
            _ if kill.is_failure() => Reason::ExecutorTerminated,
            reason => reason,
        };
        let why = format!("its executor `{}` is to end", key.1);
        for task in self.tasks_of(key) {
            if !self.tasks[&task].is_to_end() {
                let grace = kill.kill_at.since(now);
                self.kill_alone(now, &task, Some(grace), reason, Some(why.clone()), actions);
            }
        }
    }

    /// Has its container held to what it and its tasks ask for together.
    fn hold_with_tasks(&mut self, key: &TaskKey, actions: &mut Actions) {
        self.hold(key, actions);
        let asked = self.tasks[key].limits_asked;
        let executor = self.executors.get_mut(key).expect("the caller has looked");
        for (task, number) in &mut executor.tasks {
            if number.is_none() && self.tasks[task].phase != Phase::Checkpointing {
                *number = Some(asked);
            }
        }
    }

    /// Tells it of those that its container is held to, as they were taken on.
    fn hand_over(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        // What is handed over now would keep a shutdown waiting for what comes of it.
        if !self.executors[key].subscribed || self.shutdown.is_some() {
            return;
        }
        for task in self.waiting_for(key) {
            let executor = &self.executors[key];
            let held = executor.has_room_for(&task);
            let inner = self.tasks.get_mut(&task).expect("listed above");
            if held {
                inner.phase = Phase::Launching;
                let (run_id, info) = (inner.run_id(), inner.record.info.clone());
                self.tell_waiting(now, &task, String::new(), actions);
                self.tell_executor(key, ExecutorEvent::Launch { run_id, info }, actions);
            }
        }
    }

    /// An executor that runs, has tasks and does not listen is not waited for without end.
    fn await_subscription(&mut self, now: Time, key: &TaskKey) {
        let task = &self.tasks[key];
        let executor = &self.executors[key];
        let begun = |task| self.tasks[task].phase != Phase::Checkpointing;
        let idle = executor.subscribed || !executor.tasks.keys().any(begun);
        let timer = Timer::Subscribe(key.clone());
        if idle || task.phase != Phase::Running || task.kill.is_some() {
            self.timers.cancel(&timer);
        } else if !self.timers.is_set(&timer) {
            self.timers.set(timer, now + limits::EXECUTOR_SUBSCRIBE_TIMEOUT);
        }
    }

    /// Tells those that wait for their executor for what that is.
    fn tell_executor_awaited(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let awaited = self.tasks[key].awaited(self.executors[key].subscribed);
        for task in self.waiting_for(key) {
            self.tell_waiting(now, &task, awaited.clone(), actions);
        }
    }
}
