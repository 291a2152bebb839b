//! What an earlier process has left: its tasks are attached to again, its un-acknowledged updates go on.

use apportion_types::{Reason, Resources, TaskState, TaskStatus, Time, limits};

use crate::{
    AgentCore,
    action::{Action, Actions},
    event::{Recovered, RecoveredTask, TaskKey},
    handle::note,
    state::{
        stream::{Stream, Update},
        task::{Kill, Phase, Task},
    },
};

impl AgentCore {
    pub(super) fn recovered(&mut self, now: Time, recovered: Recovered, actions: &mut Actions) {
        assert!(self.tasks.is_empty() && self.checkpoints_asked == 0, "the log is replayed first and once");
        self.agent_id = recovered.agent_id;
        self.log_damaged = recovered.damaged;
        for task in recovered.tasks {
            self.recover_task(now, task, actions);
        }
        for (framework_id, status) in recovered.strays {
            let key = (framework_id, status.task_id.clone());
            self.recover_stream(&key, Some(status.state), vec![status]);
        }
    }

    fn recover_task(&mut self, now: Time, recovered: RecoveredTask, actions: &mut Actions) {
        let RecoveredTask { task: record, acknowledged, updates } = recovered;
        let key = (record.framework_id.clone(), record.info.task_id.clone());
        let container_id = record.container_id.clone();
        let newest = updates.last().or(acknowledged.as_ref());
        let state = newest.map(|status| status.state);
        let ended = state.is_some_and(TaskState::is_terminal);
        let grace = record.info.kill_grace.unwrap_or(limits::KILL_GRACE_DEFAULT);
        let kill = newest.filter(|status| status.state == TaskState::Killing).map(|status| Kill {
            reason: status.reason.unwrap_or(Reason::KilledByFramework),
            first_at: status.at.min(now),
            kill_at: status.at.min(now) + grace,
            during_launch: false,
        });
        self.containers.insert(container_id.clone(), key.clone());
        if state.is_some() {
            self.recover_stream(&key, state, updates);
        }
        if !ended {
            self.hold(&record.info.resources, actions);
            actions.push(Action::Attach { container_id });
        }
        let phase = if ended { Phase::Ended { kept: true } } else { Phase::Attaching };
        let state = state.unwrap_or(TaskState::Staging);
        self.tasks.insert(key.clone(), Task { record, phase, state, kill, framework_removed: false });
        self.show(&key);
    }

    fn recover_stream(&mut self, key: &TaskKey, state: Option<TaskState>, updates: Vec<TaskStatus>) {
        let mut stream = Stream::new(self.config.update_retry_min);
        stream.durable_state = state;
        stream.pending = updates
            .into_iter()
            .map(|status| Update { status, durable: true, sent: false, acknowledged: false })
            .collect();
        self.streams.insert(key.clone(), stream);
    }

    /// Takes what a running task holds. An agent that was started with less than its tasks hold goes on offering all that they hold:
    /// a total below it would be a lie to the master.
    fn hold(&mut self, resources: &Resources, actions: &mut Actions) {
        let missing = self.free.missing(resources);
        if !missing.is_empty() {
            note(
                actions,
                format!(
                    "running tasks hold {missing} more than this agent is set to; it is added to its totals"
                ),
            );
            self.config.info.resources += &missing;
            self.view.resources += &missing;
            self.free += &missing;
        }
        self.free = self.free.checked_sub(resources).expect("what was missing was added");
    }
}
