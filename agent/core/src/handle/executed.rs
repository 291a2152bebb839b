//! Tasks that executors run: what their executors say of them, and how they end.

use std::time::Duration;

use apportion_types::{
    Reason, TaskState, Time, limits,
    protocol::executor::{ExecutorEvent, ExecutorUpdate},
};

use crate::{
    AgentCore,
    action::Actions,
    event::TaskKey,
    handle::{
        container::{failing, over_meanwhile},
        update::Draft,
    },
    state::{
        executor::{Said, container_id},
        task::Phase,
        timers::Timer,
    },
};

impl AgentCore {
    /// Why a task cannot be run by the executor that it names, if it cannot.
    pub(super) fn judge_executor(&self, executor: &TaskKey) -> Result<(), Draft> {
        let name = &executor.1;
        let dropped = |what: &str| {
            let message = format!("its executor `{name}` {what}; launch it with another executor");
            Draft::new(TaskState::Dropped, message).because(Reason::ExecutorTerminated)
        };
        let invalid = |message| Draft::new(TaskState::Error, message).because(Reason::TaskInvalid);
        let Some(task) = self.tasks.get(executor) else { return Err(dropped("is not here")) };
        if !task.record.info.is_executor() {
            return Err(invalid(format!(
                "task `{name}` is no executor; describe it as one when it is launched"
            )));
        }
        if matches!(task.phase, Phase::Ended { .. }) {
            return Err(dropped("has ended"));
        }
        if task.is_to_end() {
            return Err(dropped("is to end"));
        }
        let most = limits::EXECUTOR_TASKS_MAX;
        match self.executors[executor].tasks.len() >= most {
            true => {
                Err(invalid(format!("its executor `{name}` runs {most} tasks, the most that is allowed")))
            }
            false => Ok(()),
        }
    }

    /// Tells a task that was not handed over, or has just been, for what it waits.
    pub(super) fn tell_waiting(&mut self, now: Time, key: &TaskKey, awaited: String, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        task.known.progress.clone_from(&awaited);
        if task.state == TaskState::Staging {
            task.told.progress.clone_from(&awaited);
            self.update(now, key, Draft::new(TaskState::Starting, awaited), actions);
        } else {
            self.tell_more(now, key, actions);
        }
    }

    /// The executor that has subscribed knows it.
    pub(super) fn found_running(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        if matches!(task.phase, Phase::Waiting | Phase::Attaching) {
            let runs = task.was_running();
            task.phase = if runs { Phase::Running } else { Phase::Launching };
            match runs {
                true => self.supervise(now, key, true, actions),
                false => self.tell_waiting(now, key, String::new(), actions),
            }
        }
        if self.tasks[key].kill.is_some() {
            self.ask_executor(now, key, actions);
        }
    }

    /// The executor that has subscribed does not know it: it is told of it again, unless the task may have run.
    pub(super) fn not_found_running(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        if task.phase == Phase::Waiting {
            return;
        }
        if task.was_running() {
            return self.end_with_executor(now, key, "has subscribed anew and does not know it", actions);
        }
        task.phase = Phase::Waiting;
        let executor = task.executor().expect("only asked of what an executor runs");
        let of = self.executors.get_mut(&executor).expect("it has just spoken");
        // Whether its container was ever held to what this one brings may not be known; where it is, it is held to that until this one ends.
        if !of.has_room_for(key) {
            of.tasks.insert(key.clone(), None);
            self.tasks.get_mut(&executor).expect("it has just spoken").held = None;
        }
    }

    /// What an executor says of a task. What says nothing new, or comes too late, is acknowledged all the same.
    pub(super) fn executor_update(
        &mut self,
        now: Time,
        executor: &TaskKey,
        update: ExecutorUpdate,
        actions: &mut Actions,
    ) {
        let key = self.containers.get(&container_id(&update.run_id)).cloned();
        let live = |key: &TaskKey| {
            let known = self.executors[executor].tasks.contains_key(key);
            known && self.tasks[key].phase != Phase::Checkpointing
        };
        let (run_id, update_id) = (update.run_id.clone(), update.update_id);
        if let Some(key) = key.filter(live) {
            match update.state.is_terminal() {
                true => self.executed_ended(now, &key, update, actions),
                false if !self.executed_runs(now, executor, &key, update, actions) => return,
                false => {}
            }
        }
        self.acknowledge_when_written(executor, &run_id, update_id, actions);
    }

    /// It runs, or runs on. False when what is said of it waits to be told.
    fn executed_runs(
        &mut self,
        now: Time,
        executor: &TaskKey,
        key: &TaskKey,
        update: ExecutorUpdate,
        actions: &mut Actions,
    ) -> bool {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        let before = std::mem::replace(&mut task.phase, Phase::Running);
        task.known.progress.clone_from(&update.message);
        task.known.findings.healthy = update.healthy.or(task.known.findings.healthy);
        let state = task.state;
        if let Some(kill) = &mut task.kill {
            kill.during_launch = false;
        }
        if before != Phase::Running {
            self.supervise(now, key, before == Phase::Attaching, actions);
        }
        if before == Phase::Attaching && self.tasks[key].kill.is_some() {
            self.ask_executor(now, key, actions);
        }
        match state {
            TaskState::Killing => return true,
            TaskState::Running => self.tell_more(now, key, actions),
            _ => {
                self.tasks
                    .get_mut(key)
                    .expect("the caller has looked")
                    .told
                    .progress
                    .clone_from(&update.message);
                self.update(now, key, Draft::new(TaskState::Running, update.message), actions);
            }
        }
        let task = &self.tasks[key];
        let as_told = task.known == task.told;
        let unwritten = &mut self.executors.get_mut(executor).expect("it has just spoken").unwritten;
        let mut said = unwritten.remove(key).unwrap_or_default();
        // What was said before is not going to be told any more; but the health that it spoke of is, where this says nothing of it.
        let superseded = |before: &mut Said| as_told || update.healthy.is_some() || !before.of_health;
        let over: Vec<Said> = said.extract_if(.., superseded).collect();
        if !as_told {
            said.push(Said { update_id: update.update_id, of_health: update.healthy.is_some() });
            unwritten.insert(key.clone(), said);
        }
        for Said { update_id, .. } in over {
            self.tell_executor(executor, ExecutorEvent::Acknowledge { update_id }, actions);
        }
        as_told
    }

    fn executed_ended(&mut self, now: Time, key: &TaskKey, update: ExecutorUpdate, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        over_meanwhile(task);
        task.known.findings.healthy = update.healthy.or(task.known.findings.healthy);
        task.phase = Phase::Ended { kept: false };
        let said = match update.message.is_empty() {
            true => format!("its executor says that it has ended as {}", update.state),
            false => update.message,
        };
        let draft = match (task.kill, update.state) {
            (Some(kill), _) if kill.is_failure() => {
                let message = format!("{}: {said}", failing(kill.reason));
                Draft::new(TaskState::Failed, message).because(kill.reason)
            }
            (Some(kill), _) => Draft::new(TaskState::Killed, said).because(kill.told_reason()),
            (None, TaskState::Finished) => {
                Draft::new(TaskState::Finished, said).because(Reason::CommandExited)
            }
            (None, TaskState::Killed) => {
                Draft::new(TaskState::Killed, said).because(Reason::KilledByFramework)
            }
            (None, _) => Draft::new(TaskState::Failed, said).because(Reason::CommandExited),
        };
        self.update(now, key, draft, actions);
    }

    /// Its executor has ended, or does not know it any more.
    pub(super) fn end_with_executor(&mut self, now: Time, key: &TaskKey, how: &str, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        over_meanwhile(task);
        let began = task.phase != Phase::Waiting;
        task.phase = Phase::Ended { kept: false };
        let executor = task.record.info.executor().expect("only asked of what an executor runs");
        let message = format!("its executor `{executor}` {how}");
        let draft = match task.kill {
            Some(kill) if kill.is_failure() => {
                let of_executor =
                    matches!(kill.reason, Reason::ExecutorTerminated | Reason::ExecutorSubscribeTimeout);
                let message = match of_executor {
                    true => message,
                    false => format!("{}; {message}", failing(kill.reason)),
                };
                Draft::new(TaskState::Failed, message).because(kill.reason)
            }
            Some(kill) => Draft::new(TaskState::Killed, message).because(kill.told_reason()),
            None => {
                let state = if began { TaskState::Failed } else { TaskState::Dropped };
                Draft::new(state, message).because(Reason::ExecutorTerminated)
            }
        };
        self.update(now, key, draft, actions);
    }

    /// Asks the executor of a task, which was told of it, to end it. One that does not listen is asked when it does.
    pub(super) fn ask_executor(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        let run_id = task.run_id();
        let executor = task.executor().expect("only asked of what an executor runs");
        let kill = task.kill.as_mut().expect("only asked of what is to end");
        let (grace, reason) = (kill.kill_at.since(now), kill.reason);
        let listens = self.executors.get(&executor).is_some_and(|executor| executor.subscribed);
        if kill.forced {
            return self.tell_executor(&executor, ExecutorEvent::Kill { run_id, grace, reason }, actions);
        }
        kill.forced = listens && grace.is_zero();
        let due = match (listens, grace.is_zero()) {
            (true, true) => now + limits::EXECUTOR_KILL_WAIT,
            (false, true) => now + self.config.kill_repeat,
            (_, false) => kill.kill_at,
        };
        self.timers.set(Timer::Kill(key.clone()), due);
        self.tell_executor(&executor, ExecutorEvent::Kill { run_id, grace, reason }, actions);
    }

    /// Its grace is over, or its executor had its time to end it without one: then that ends.
    pub(super) fn executed_kill_due(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let task = &self.tasks[key];
        if !task.is_handed_over() {
            return;
        }
        let kill = task.kill.expect("only what is to end has such a timer");
        if !kill.forced {
            return self.ask_executor(now, key, actions);
        }
        let executor = task.executor().expect("only asked of what an executor runs");
        self.timers.set(Timer::Kill(key.clone()), now + self.config.kill_repeat);
        // Whoever has been sent KILL is sent it again by itself.
        if self.tasks[&executor].kill.is_some_and(|kill| kill.kill_at <= now) {
            return;
        }
        let why = format!("its task `{}` did not end when it was to", key.1);
        self.kill(now, &executor, Some(Duration::ZERO), Reason::ExecutorTerminated, Some(why), actions);
    }
}
