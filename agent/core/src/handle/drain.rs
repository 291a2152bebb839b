//! An operator takes the agent out of use: it is drained, or gone.

use apportion_types::{Drain, Reason, TaskState, Time, limits};

use crate::{
    AgentCore, Fence,
    action::{Actions, Record},
    event::TaskKey,
    handle::{note, update::Draft},
    state::{link::Shutdown, task::Phase},
};

impl AgentCore {
    /// The master says how the agent is drained, or that it is not.
    pub(super) fn drain(&mut self, now: Time, drain: Option<Drain>, actions: &mut Actions) {
        if self.drain == drain {
            return;
        }
        note(
            actions,
            match drain {
                Some(Drain { mark_gone: true, .. }) => "the agent is drained, and gone after that".to_owned(),
                Some(_) => "the agent is drained: its tasks are killed, and it takes none on".to_owned(),
                None => "the agent is not drained any more".to_owned(),
            },
        );
        self.drain = drain;
        self.checkpoint(Record::Drain(drain), Fence::Nothing, actions);
        self.drain_tasks(now, actions);
    }

    /// Kills what runs of an agent that is drained.
    pub(super) fn drain_tasks(&mut self, now: Time, actions: &mut Actions) {
        let Some(drain) = self.drain else { return };
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        for key in keys {
            let grace = drain.grace(self.tasks[&key].record.info.kill_grace);
            self.kill(now, &key, grace, Reason::AgentDraining, None, actions);
        }
    }

    /// The answer to a task that comes too late to be launched, if it does.
    pub(super) fn too_late(&self) -> Option<Draft> {
        let dropped = |why, reason| Some(Draft::new(TaskState::Dropped, why).because(reason));
        if self.shutdown.is_some() {
            return dropped("the agent is shutting down", Reason::AgentRemoved);
        }
        self.drain.and_then(|_| dropped("the agent is being drained", Reason::AgentDraining))
    }

    /// An operator has declared the agent gone: all that runs is killed, of which nobody wants to hear, then the agent ends.
    pub(super) fn gone(&mut self, now: Time, message: String, actions: &mut Actions) {
        self.close_refused();
        if self.shutdown == Some(Shutdown::Gone) {
            return;
        }
        note(actions, format!("{message}; its tasks are killed"));
        self.shutdown = Some(Shutdown::Gone);
        self.gone = message;
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        for key in keys {
            // What it did may be done elsewhere already.
            let grace = self.tasks[&key].own_grace().min(limits::KILL_GRACE_DEFAULT);
            self.kill(now, &key, Some(grace), Reason::KilledByOperator, None, actions);
        }
    }

    /// Ends an agent that is gone, once all its tasks have ended and that is on disk.
    pub(super) fn gone_further(&mut self, actions: &mut Actions) {
        let live = self.tasks.values().any(|task| !matches!(task.phase, Phase::Ended { .. }));
        if self.shutdown == Some(Shutdown::Gone) && !live && self.fences.is_empty() {
            let reason = std::mem::take(&mut self.gone);
            self.fail(reason, actions);
        }
    }
}
