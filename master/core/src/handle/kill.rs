//! A framework asks for a task to end.

use std::time::Duration;

use apportion_types::{Reason, TaskId, protocol::agent::MasterMessage};

use super::scheduler_stream::Caller;
use crate::{
    state::{
        State,
        tasks::{Kill, TaskKey},
    },
    turn::Turn,
};

impl State {
    pub(super) fn kill(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        task_id: TaskId,
        grace: Option<Duration>,
    ) {
        let key = (caller.framework_id.clone(), task_id);
        match self.view.tasks.get(&key) {
            Some(task) if !task.state.is_terminal() => {
                self.wish_kill(turn, &key, grace, Reason::KilledByFramework)
            }
            Some(task) if task.status.as_ref().is_some_and(|status| status.state.is_terminal()) => {
                self.answer_known(turn, &key);
            }
            // It has ended, and the agent has yet to say so to the framework. An answer could only be an older state, upon which a
            // driver repeats the kill.
            Some(_) => {}
            None => self.answer_unknown(turn, &key, None),
        }
    }

    /// Records the wish that a task ends, and with it each other of its task group, and tells its agent, now or when it returns: of every one,
    /// since the one that is named may have finished there meanwhile, whose kill ends nothing.
    pub(super) fn wish_kill(
        &mut self,
        turn: &mut Turn<'_>,
        key: &TaskKey,
        grace: Option<Duration>,
        reason: Reason,
    ) {
        let kill = self.record_kill(key, grace, reason);
        self.send_kill(turn, key, &kill);
        for other in self.members_of(key) {
            if other != *key && !self.view.tasks[&other].state.is_terminal() {
                let kill = self.record_kill(&other, None, reason);
                self.send_kill(turn, &other, &kill);
            }
        }
    }

    /// Tells the agent of a task, if it is connected, that the task is to end.
    pub(super) fn send_kill(&mut self, turn: &mut Turn<'_>, key: &TaskKey, kill: &Kill) {
        if let Some(conn) = self.agent_conn(&self.view.tasks[key].agent_id) {
            let (framework_id, task_id) = key.clone();
            turn.tell_agent(
                conn,
                MasterMessage::KillTask { framework_id, task_id, grace: kill.grace, reason: kill.reason },
            );
        }
    }
}
