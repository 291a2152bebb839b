//! The stream to the master: registration, pings, refusals.

use std::time::Duration;

use apportion_types::{
    AgentId, Drain, FrameworkId, Reason, TaskId, TaskState, Time,
    protocol::agent::{AgentMessage, AgentOperation, AgentTask, RefuseCode},
};

use crate::{
    AgentCore, Fence,
    action::{Action, Actions, Record},
    event::TaskKey,
    handle::{note, update::Draft},
    state::{
        link::{Link, Shutdown},
        outcome::OperationKey,
        task::{Task, Waiting},
        timers::Timer,
    },
};

impl AgentCore {
    pub(super) fn connected(&mut self, now: Time, actions: &mut Actions) {
        assert_eq!(self.link, Link::Down, "a stream is opened after the one before has ended");
        self.link = Link::Opened;
        self.say_register(now, actions);
    }

    /// Says Register where that is to be said and can be.
    pub(super) fn say_register(&mut self, now: Time, actions: &mut Actions) {
        let unwritten = |(key, task): (&TaskKey, &Task)| {
            let durable = self.streams.get(key).and_then(|stream| stream.durable_state);
            !task.holds && !durable.is_some_and(TaskState::is_terminal)
        };
        let leaving = matches!(self.shutdown, Some(Shutdown::Gone | Shutdown::Leaving));
        if self.link != Link::Opened || leaving || self.tasks.iter().any(unwritten) {
            return;
        }
        self.link = Link::Registering;
        self.timers.set(Timer::Link, now + self.config.register_timeout);
        actions.push(Action::Send(AgentMessage::Register {
            info: self.config.info.clone(),
            agent_id: self.agent_id.clone(),
            total: self.pool.total.clone(),
            tasks: self.tasks.keys().map(|key| self.agent_task(key)).collect(),
            operations: self.open_outcomes(),
        }));
    }

    /// A task as the master is told of it: only what is on disk.
    fn agent_task(&self, key: &TaskKey) -> AgentTask {
        let record = &self.tasks[key].record;
        let stream = self.streams.get(key);
        AgentTask {
            framework_id: record.framework_id.clone(),
            framework_info: record.framework_info.clone(),
            role: record.role.clone(),
            info: record.info.clone(),
            // A task that nothing was told of yet is about to be started.
            state: stream.and_then(|stream| stream.durable_state).unwrap_or(TaskState::Starting),
            unacknowledged: stream
                .and_then(|stream| stream.durable_head())
                .map(|update| update.status.clone()),
        }
    }

    pub(super) fn disconnected(&mut self, reason: String, actions: &mut Actions) {
        if self.link == Link::Down {
            return;
        }
        note(actions, format!("the stream to the master ended: {reason}"));
        self.close_link(Link::Down);
        if self.shutdown == Some(Shutdown::Unregistering) {
            self.done(actions);
        }
    }

    /// The one way out of a registration.
    pub(super) fn close_link(&mut self, link: Link) {
        self.link = link;
        self.view.master_id = None;
        // What was not taken on the master will miss when the agent registers again.
        self.waiting.clear();
        self.timers.cancel(&Timer::Link);
        for key in self.streams.keys() {
            self.timers.cancel(&Timer::Retry(key.clone()));
        }
        for key in self.outcomes.keys() {
            self.timers.cancel(&Timer::RetryOperation(key.clone()));
        }
        self.total_told = false;
        self.applied = 0;
    }

    fn reconnect(&mut self, reason: String, actions: &mut Actions) {
        self.close_link(Link::Closing);
        actions.push(Action::Reconnect { reason });
    }

    pub(super) fn registered(
        &mut self,
        now: Time,
        agent_id: AgentId,
        master_id: String,
        ping_timeout: Duration,
        (missing_tasks, drain): (Vec<TaskKey>, Option<Drain>),
        actions: &mut Actions,
    ) {
        if self.link != Link::Registering {
            return note(actions, "the master said Registered without being asked; ignored".to_owned());
        }
        if self.agent_id.as_ref() != Some(&agent_id) {
            if let Some(old) = &self.agent_id {
                note(actions, format!("the master knows this agent as {agent_id}; it was {old} before"));
            }
            self.agent_id = Some(agent_id.clone());
            self.checkpoint(Record::Agent { agent_id }, Fence::Nothing, actions);
        }
        self.link = Link::Registered;
        self.view.master_id = Some(master_id);
        self.view.counters.registrations += 1;
        self.ping_timeout = ping_timeout;
        self.timers.set(Timer::Link, now + ping_timeout);
        let keys: Vec<TaskKey> = self.streams.keys().cloned().collect();
        for key in keys {
            self.send_head_afresh(now, &key, actions);
        }
        let keys: Vec<OperationKey> = self.outcomes.keys().cloned().collect();
        for key in keys {
            self.send_outcome_afresh(now, &key, actions);
        }
        if let Some(revocable) = self.pool.lent.clone().filter(|lent| !lent.is_empty()) {
            self.tell_lent(revocable, actions);
        }
        for key in missing_tasks {
            self.answer_missing(now, key, actions);
        }
        self.drain(now, drain, actions);
    }

    /// What became of operations, as far as it may be told and is not acknowledged.
    fn open_outcomes(&self) -> Vec<AgentOperation> {
        let open = self.outcomes.iter().filter(|(_, outcome)| outcome.is_open());
        open.map(|((framework_id, _), outcome)| AgentOperation {
            framework_id: framework_id.clone(),
            status: outcome.status.clone(),
        })
        .collect()
    }

    /// A task that the master believes here. A task whose end was acknowledged is missed by nobody, since acknowledgements come through
    /// the master; so what a whole log does not know was never received.
    pub(super) fn answer_missing(&mut self, now: Time, key: (FrameworkId, TaskId), actions: &mut Actions) {
        if self.is_over(&key) {
            return self.wait(key, Waiting::Missing);
        }
        if self.tasks.contains_key(&key) || self.streams.contains_key(&key) {
            return;
        }
        let draft = if self.log_damaged {
            let message = "the agent does not know the task, and the log of its earlier processes is damaged";
            Draft::new(TaskState::Gone, message).because(Reason::AgentForgot)
        } else {
            let message = "the agent never received the task";
            Draft::new(TaskState::Dropped, message).because(Reason::AgentDisconnected)
        };
        self.update(now, &key, draft, actions);
    }

    pub(super) fn pinged(&mut self, now: Time, sequence: u64, actions: &mut Actions) {
        self.timers.set(Timer::Link, now + self.ping_timeout);
        actions.push(Action::Send(AgentMessage::Pong { sequence }));
    }

    pub(super) fn refused(&mut self, now: Time, code: RefuseCode, message: String, actions: &mut Actions) {
        match code {
            RefuseCode::TooSlow | RefuseCode::ShuttingDown => {
                if self.link != Link::Closing {
                    self.reconnect(format!("the master ended the stream: {message}"), actions);
                }
            }
            RefuseCode::Invalid => self.fail(format!("the master refuses this agent: {message}"), actions),
            RefuseCode::Removed => {
                let id = self.agent_id.as_ref().map_or("of this agent".to_owned(), ToString::to_string);
                let remedy = "end what still runs of it and start with an empty work directory";
                self.fail(
                    format!("agent id {id} was removed from the cluster: {message}; {remedy}"),
                    actions,
                );
            }
            RefuseCode::Gone => self.gone(now, message, actions),
            RefuseCode::Maintenance => self.end_for_maintenance(now, message, actions),
            RefuseCode::Replaced => {
                let remedy = "give each agent a work directory of its own";
                self.fail(
                    format!("another agent has registered with this agent's id: {message}; {remedy}"),
                    actions,
                );
            }
        }
    }

    /// The master ends the stream.
    pub(super) fn close_refused(&mut self) {
        self.close_link(Link::Closing);
    }

    pub(super) fn fail(&mut self, reason: String, actions: &mut Actions) {
        self.close_link(Link::Closing);
        self.shutdown = Some(Shutdown::Done);
        actions.push(Action::Fail { reason });
    }

    pub(super) fn link_timed_out(&mut self, actions: &mut Actions) {
        let reason = match self.link {
            Link::Registering => format!(
                "the master did not answer the registration within {:?}",
                self.config.register_timeout
            ),
            Link::Registered => format!("no ping from the master for {:?}", self.ping_timeout),
            Link::Down | Link::Opened | Link::Closing => return,
        };
        self.reconnect(reason, actions);
    }
}
