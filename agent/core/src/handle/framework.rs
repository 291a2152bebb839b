//! RemoveFramework: a framework is gone for ever.

use apportion_types::{FrameworkId, Reason, Time};

use crate::{
    AgentCore,
    action::Actions,
    event::TaskKey,
    state::{outcome::OperationKey, task::Waiting},
};

impl AgentCore {
    /// Kills what runs of it; nobody acknowledges its updates any more, so each of its streams is dropped once it has ended.
    pub(super) fn remove_framework(&mut self, now: Time, framework_id: &FrameworkId, actions: &mut Actions) {
        let of_it = |key: &&TaskKey| key.0 == *framework_id;
        for (_, waiting) in self.waiting.iter_mut().filter(|(key, _)| of_it(key)) {
            waiting.push(Waiting::FrameworkRemoved);
        }
        let tasks: Vec<TaskKey> = self.tasks.keys().filter(of_it).cloned().collect();
        for key in tasks {
            self.kill(now, &key, None, Reason::FrameworkRemoved, None, actions);
            self.tasks.get_mut(&key).expect("a kill removes nothing").framework_removed = true;
        }
        let streams: Vec<TaskKey> = self.streams.keys().filter(of_it).cloned().collect();
        for key in streams {
            let stream = self.streams.get_mut(&key).expect("listed above");
            stream.dropped = true;
            if stream.has_ended() {
                self.drop_stream(&key, actions);
            }
        }
        let outcomes: Vec<OperationKey> =
            self.outcomes.keys().filter(|key| key.0 == *framework_id).cloned().collect();
        for key in outcomes {
            self.forget_outcome(key, actions);
        }
    }
}
