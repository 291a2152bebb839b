//! What follows from each event: one file for each family.

mod container;
mod drain;
mod executed;
mod executor;
mod framework;
mod group;
mod hold;
mod kill;
mod lend;
mod link;
mod operation;
mod recover;
mod run;
mod shutdown;
mod supervise;
mod update;

use std::sync::Arc;

use apportion_types::{Time, protocol::agent::MasterMessage};

use crate::{
    AgentCore, Fence,
    action::{Action, Actions, Record},
    event::{CheckpointId, Event},
    state::{
        link::{Link, Shutdown},
        timers::Timer,
    },
};

/// Up to how many tasks the laws are checked after each event in debug builds; with more it would be felt.
const CHECKED_TASKS_MAX: usize = 64;

impl AgentCore {
    /// Takes in one event and appends what is to be done, in order.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Actions) {
        if self.shutdown == Some(Shutdown::Done) {
            return;
        }
        match event {
            Event::Recovered(recovered) => self.recovered(now, recovered, actions),
            Event::Connected => self.connected(now, actions),
            Event::Disconnected { reason } => self.disconnected(reason, actions),
            Event::MasterMessage(message) => self.master_message(now, message, actions),
            Event::Checkpointed { checkpoint } => self.checkpointed(now, checkpoint, actions),
            Event::Launched { container_id, addresses } => {
                self.launched(now, container_id, addresses, actions);
            }
            Event::LaunchProgress { container_id, message } => {
                self.launch_progress(now, container_id, message, actions);
            }
            Event::LaunchFailed { container_id, failure } => {
                self.launch_failed(now, container_id, failure, actions)
            }
            Event::Ending { container_id } => self.ending(container_id, actions),
            Event::Terminated { container_id, termination } => {
                self.terminated(now, container_id, termination, actions)
            }
            Event::ContainerLost { container_id, message } => {
                self.container_lost(now, container_id, message, actions)
            }
            Event::LimitExceeded { container_id, limitation } => {
                self.limit_exceeded(now, container_id, limitation, actions);
            }
            Event::Probed { container_id, kind, number, result, message } => {
                self.probed(now, (container_id, kind, number), result, message, actions);
            }
            Event::SignalFailed { container_id, message } => {
                note(actions, format!("container {container_id}: a signal did not get through: {message}"));
            }
            Event::Executor { container_id, call } => self.executor(now, container_id, call, actions),
            Event::ExecutorDisconnected { container_id, reason } => {
                self.executor_disconnected(&container_id, reason, actions);
            }
            Event::Limited { container_id, number, result } => {
                self.limited(now, container_id, number, result, actions);
            }
            Event::Oversubscribed { revocable } => self.oversubscribed(now, revocable, actions),
            Event::Tick => {}
            Event::Shutdown => self.shut_down(now, actions),
        }
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Link => self.link_timed_out(actions),
                Timer::Kill(key) => self.kill_due(now, key, actions),
                Timer::Completion(key) => self.completion_due(now, &key, actions),
                Timer::Probe(key, kind) => self.probe_due(&key, kind, actions),
                Timer::Subscribe(key) => self.subscribe_due(now, &key, actions),
                Timer::Retry(key) => self.send_head(now, &key, actions),
                Timer::RetryOperation(key) => self.send_outcome(now, &key, actions),
                Timer::Shutdown => self.done(actions),
            }
        }
        self.settle_groups(now, actions);
        self.settle_executors(now, actions);
        if self.cores.were_freed() {
            self.hold_all(actions);
        }
        self.shut_down_further(now, actions);
        if cfg!(debug_assertions) && self.tasks.len() <= CHECKED_TASKS_MAX {
            self.check();
        }
    }

    fn master_message(&mut self, now: Time, message: MasterMessage, actions: &mut Actions) {
        match message {
            MasterMessage::Registered { agent_id, master_id, ping_timeout, missing_tasks, drain } => {
                self.registered(now, agent_id, master_id, ping_timeout, (missing_tasks, drain), actions);
            }
            MasterMessage::Refuse { code, message } => self.refused(now, code, message, actions),
            _ if self.link == Link::Registering => {
                note(actions, "the master spoke before it answered the registration; ignored".to_owned());
            }
            _ if self.link != Link::Registered => {}
            MasterMessage::Drain(drain) => self.drain(now, drain, actions),
            MasterMessage::Ping { sequence } => self.pinged(now, sequence, actions),
            MasterMessage::RunTasks { framework_id, framework_info, role, tasks } => {
                let tasks = tasks.into_iter().map(Arc::unwrap_or_clone).collect();
                self.run_tasks(now, &framework_id, &framework_info, &role, tasks, actions);
            }
            MasterMessage::KillTask { framework_id, task_id, grace, reason } => {
                self.kill_task(now, (framework_id, task_id), grace, reason, actions);
            }
            MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id } => {
                self.acknowledged((framework_id, task_id), update_id, actions);
            }
            MasterMessage::Apply { framework_id, operation_id, operation } => {
                self.apply(now, framework_id, operation_id, &operation, actions);
            }
            MasterMessage::AcknowledgeOperation { framework_id, operation_id, update_id } => {
                self.operation_acknowledged((framework_id, operation_id), update_id, actions);
            }
            MasterMessage::RemoveFramework { framework_id } => {
                self.remove_framework(now, &framework_id, actions)
            }
        }
    }

    /// Asks for a record to be written; `fence` follows when it is on disk.
    fn checkpoint(&mut self, record: Record, fence: Fence, actions: &mut Actions) {
        self.checkpoints_asked += 1;
        let checkpoint = CheckpointId(self.checkpoints_asked);
        self.fences.push_back((checkpoint, fence));
        actions.push(Action::Checkpoint { checkpoint, record });
    }

    fn checkpointed(&mut self, now: Time, up_to: CheckpointId, actions: &mut Actions) {
        assert!(up_to.0 <= self.checkpoints_asked, "record {} is on disk before it was asked for", up_to.0);
        // One record may be the head and another the end of a stream: the head is sent once, when all are known to be on disk.
        let mut written = Vec::new();
        while self.fences.front().is_some_and(|(checkpoint, _)| *checkpoint <= up_to) {
            let Some((_, fence)) = self.fences.pop_front() else { break };
            match fence {
                Fence::Nothing => {}
                Fence::Task(key) => self.taken_on(now, &key, actions),
                Fence::Group(group) => self.group_taken_on(now, &group, actions),
                Fence::Turn(key) => self.turn_durable(now, &key, actions),
                Fence::Update(key, update_id) => {
                    self.update_durable(&key, update_id);
                    self.acknowledge_written(&key, update_id, actions);
                    written.push(key);
                }
                Fence::Acknowledgement(key, update_id) => {
                    self.acknowledgement_durable(now, &key, update_id, actions)
                }
                Fence::Operation(done) => self.operation_durable(now, *done, actions),
                Fence::OperationAcknowledgement(key, update_id) => self.outcome_over(&key, update_id),
            }
        }
        for key in written {
            self.tell_news(now, &key, actions);
        }
        self.say_register(now, actions);
    }
}

/// Writes into the journal.
fn note(actions: &mut Actions, message: String) {
    actions.push(Action::Note { message });
}
