//! Kills: TERM, the grace, KILL, and KILL again until the task has ended.

use std::time::Duration;

use apportion_types::{Reason, TaskState, Time, limits};

use crate::{
    AgentCore,
    action::{Action, Actions},
    container::Signal,
    event::{TaskKey, Times},
    handle::update::Draft,
    state::{
        task::{Kill, Phase, Waiting},
        timers::Timer,
    },
};

impl AgentCore {
    pub(super) fn kill_task(
        &mut self,
        now: Time,
        key: TaskKey,
        grace: Option<Duration>,
        reason: Reason,
        actions: &mut Actions,
    ) {
        if self.waiting.contains_key(&key) {
            let task_id = key.1.clone();
            self.wait(key, Waiting::Kill { task_id, grace, reason });
        } else if let Some(at) = self.waits_elsewhere(&key) {
            // A group may wait for a name that is not among its own, and a task for that of its executor.
            self.wait(at, Waiting::Kill { task_id: key.1, grace, reason });
        } else if self.tasks.contains_key(&key) {
            self.kill(now, &key, grace, reason, None, actions);
        } else if !self.streams.contains_key(&key) {
            let draft =
                Draft::new(TaskState::Gone, "the agent was asked to kill the task and does not know it");
            self.update(now, &key, draft.because(Reason::AgentForgot), actions);
        }
    }

    /// Asks a task to end, and with it the others of its task group or those that it runs: the one door by which that is done, whatever
    /// the cause.
    pub(super) fn kill(
        &mut self,
        now: Time,
        key: &TaskKey,
        grace: Option<Duration>,
        reason: Reason,
        why: Option<String>,
        actions: &mut Actions,
    ) {
        self.kill_alone(now, key, grace, reason, why, actions);
        self.group_changed(key);
        self.task_changed(key);
    }

    /// Asks one task to end; `why` is for people, where the reason does not say all. Every grace counts from the first wish, so that another
    /// wish can only shorten what is left of it; one that finds KILL sent sends it again.
    pub(super) fn kill_alone(
        &mut self,
        now: Time,
        key: &TaskKey,
        grace: Option<Duration>,
        reason: Reason,
        why: Option<String>,
        actions: &mut Actions,
    ) {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        if matches!(task.phase, Phase::Ending | Phase::Ended { .. }) {
            return;
        }
        let own = task.own_grace();
        let grace = grace.unwrap_or(own).min(limits::KILL_GRACE_MAX);
        let first = task.kill.is_none();
        let during_launch =
            matches!(task.phase, Phase::Checkpointing | Phase::Waiting | Phase::Turning | Phase::Launching);
        let while_attaching = task.phase == Phase::Attaching;
        let kill = Kill {
            reason,
            first_at: now,
            kill_at: now + grace,
            during_launch,
            while_attaching,
            forced: false,
        };
        let kill = task.kill.get_or_insert(kill);
        // What was asked to end because its work is done is now wished to.
        if kill.reason == Reason::TaskGroupFinished {
            kill.reason = reason;
        }
        let before = kill.kill_at;
        kill.kill_at = kill.kill_at.min(kill.first_at + grace);
        let kill_at = kill.kill_at;
        let news = if first { kill_at != now + own } else { kill_at != before };
        let container_id = task.record.container_id.clone();
        let phase = task.phase;
        if news && phase != Phase::Waiting {
            self.write_times(key, Times { started_at: None, kill_at: Some(kill_at) }, actions);
        }
        if first {
            self.end_probes(key);
        }
        if first && !matches!(phase, Phase::Checkpointing | Phase::Waiting) {
            let mut message = match grace {
                Duration::ZERO => "asked to end at once".to_owned(),
                grace => format!("asked to end within {grace:?}"),
            };
            message.extend(why.iter().map(|why| format!("; {why}")));
            self.update(now, key, Draft::new(TaskState::Killing, message).because(reason), actions);
        }
        let by_executor = self.tasks[key].record.info.executor().is_some();
        match phase {
            Phase::Launching | Phase::Running if by_executor => self.ask_executor(now, key, actions),
            Phase::Launching if first => actions.push(Action::CancelLaunch { container_id }),
            Phase::Running if first => self.signal(now, key, actions),
            Phase::Running if kill_at <= now => self.send_kill(now, key, actions),
            Phase::Running => self.timers.set(Timer::Kill(key.clone()), kill_at),
            Phase::Waiting => _ = self.end_if_killed(now, key, why, actions),
            Phase::Checkpointing
            | Phase::Turning
            | Phase::Launching
            | Phase::Attaching
            | Phase::Ending
            | Phase::Ended { .. } => {}
        }
    }

    /// The first signal to a container that is to end: TERM, or KILL when no grace is left.
    pub(super) fn signal(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let task = &self.tasks[key];
        let kill_at = task.kill.map_or(now, |kill| kill.kill_at);
        if kill_at <= now {
            return self.send_kill(now, key, actions);
        }
        actions.push(Action::Signal { container_id: task.record.container_id.clone(), signal: Signal::Term });
        self.timers.set(Timer::Kill(key.clone()), kill_at);
    }

    /// The grace is over, or KILL had no effect yet.
    pub(super) fn kill_due(&mut self, now: Time, key: TaskKey, actions: &mut Actions) {
        let Some(task) = self.tasks.get(&key) else { return };
        match task.phase {
            _ if task.record.info.executor().is_some() => self.executed_kill_due(now, &key, actions),
            Phase::Running => self.send_kill(now, &key, actions),
            _ => {}
        }
    }

    pub(super) fn send_kill(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let container_id = self.tasks[key].record.container_id.clone();
        actions.push(Action::Signal { container_id, signal: Signal::Kill });
        self.timers.set(Timer::Kill(key.clone()), now + self.config.kill_repeat);
    }
}
