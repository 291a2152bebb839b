//! The master's state machine: events in, actions out. No clock, no I/O, no randomness.
//!
//! [`Event`] is the closed list of what can happen, [`Action`] of what can be wanted; the shell (crate `apportion-master`) turns one
//! into the other's consequences, the simulator does the same under a seed.

mod action;
mod config;
mod event;
pub mod view;

pub use action::{Action, Actions, OperatorError, OperatorReply, RegistryOp};
pub use config::Config;
pub use event::{CommitId, ConnId, Event, OperatorCall, RequestId};
pub use view::View;

use apportion_types::Time;

/// The master: knows every agent's resources, decides who is offered what, and keeps what follows.
///
/// Call [`Master::handle`] for each event, run its actions in order, and call it with [`Event::Tick`] when the time of
/// [`Master::next_deadline`] is reached. Time may stand still but never goes back.
pub struct Master {
    config: Config,
    view: View,
}

impl Master {
    /// A master that knows nobody yet.
    pub fn new(config: Config, now: Time) -> Self {
        let view = View { master_id: config.master_id.clone(), started_at: now, ..View::default() };
        Self { config, view }
    }

    /// Takes in one event and appends what is to be done, in order.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Actions) {
        let _ = (now, event, actions, &self.config);
    }

    /// When the next [`Event::Tick`] is due, if nothing happens before.
    pub fn next_deadline(&self) -> Option<Time> {
        None
    }

    /// A snapshot for readers, at the cost of a few reference counts.
    pub fn view(&self) -> View {
        self.view.clone()
    }
}
