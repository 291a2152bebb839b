//! The agent's own end.

use std::time::Duration;

use apportion_types::{Reason, Time, protocol::agent::AgentMessage};

use crate::{
    AgentCore,
    action::{Action, Actions},
    config::OnShutdown,
    event::TaskKey,
    state::{
        link::{Link, Shutdown},
        task::{Phase, Task},
        timers::Timer,
    },
};

/// How long the master may take to end the stream after Unregister.
const UNREGISTER_TIMEOUT: Duration = Duration::from_secs(2);

impl AgentCore {
    pub(super) fn shut_down(&mut self, now: Time, actions: &mut Actions) {
        if self.shutdown.is_some() {
            return self.done(actions);
        }
        match self.config.on_shutdown {
            OnShutdown::Keep => self.shutdown = Some(Shutdown::Settling),
            OnShutdown::Kill { grace_max } => {
                self.shutdown = Some(Shutdown::Ending);
                self.kill_all(now, grace_max, actions);
            }
        }
    }

    fn kill_all(&mut self, now: Time, grace_max: Duration, actions: &mut Actions) {
        let keys: Vec<TaskKey> = self.tasks.keys().cloned().collect();
        for key in keys {
            let own = self.tasks[&key].own_grace();
            self.kill(now, &key, Some(own.min(grace_max)), Reason::KilledByOperator, None, actions);
        }
    }

    /// The machine is down for maintenance, and the master has removed this agent: it ends with its tasks, each with its own grace.
    pub(super) fn end_for_maintenance(&mut self, now: Time, message: String, actions: &mut Actions) {
        actions.push(Action::Note { message: format!("this agent ends with its tasks: {message}") });
        self.close_link(Link::Closing);
        self.shutdown = Some(Shutdown::Leaving);
        let grace_max = match self.config.on_shutdown {
            OnShutdown::Keep => Duration::MAX,
            OnShutdown::Kill { grace_max } => grace_max,
        };
        self.kill_all(now, grace_max, actions);
    }

    /// Goes on with a shutdown once every launch has an outcome, or every task has ended and that is on disk.
    pub(super) fn shut_down_further(&mut self, now: Time, actions: &mut Actions) {
        self.gone_further(actions);
        if self.shutdown == Some(Shutdown::Settling) {
            let under_way = |task: &Task| match task.phase {
                Phase::Checkpointing | Phase::Turning => true,
                // What its executor was told of it tells the next process too.
                Phase::Launching => task.executor().is_none(),
                _ => false,
            };
            if !self.tasks.values().any(under_way) {
                self.done(actions);
            }
            return;
        }
        let ending = matches!(self.shutdown, Some(Shutdown::Ending | Shutdown::Leaving));
        if !ending || !self.fences.is_empty() {
            return;
        }
        if self.tasks.values().any(|task| !task.state.is_terminal()) {
            return;
        }
        if self.link != Link::Registered {
            return self.done(actions);
        }
        self.shutdown = Some(Shutdown::Unregistering);
        let message = "the agent was shut down and has ended its tasks".to_owned();
        actions.push(Action::Send(AgentMessage::Unregister { message }));
        self.timers.set(Timer::Shutdown, now + UNREGISTER_TIMEOUT);
    }

    pub(super) fn done(&mut self, actions: &mut Actions) {
        let unregistered = match self.shutdown {
            Some(Shutdown::Unregistering) => true,
            // One that is cut short finds its tasks again when it is started.
            Some(Shutdown::Leaving) => self.tasks.values().all(|task| task.state.is_terminal()),
            Some(Shutdown::Settling | Shutdown::Gone | Shutdown::Ending | Shutdown::Done) | None => false,
        };
        self.shutdown = Some(Shutdown::Done);
        actions.push(Action::Done { unregistered });
    }
}
