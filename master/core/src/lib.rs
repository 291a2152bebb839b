//! The master's state machine: events in, actions out. No clock, no I/O, no randomness.
//!
//! [`Event`] is the closed list of what can happen, [`Action`] of what can be wanted; the shell (crate `apportion-master`) turns one
//! into the other's consequences, the simulator does the same under a seed.
//!
//! ```text
//!                        handle/ decides            state/ knows
//!  schedulers ─┐        ┌──────────────┐         ┌───────────────┐
//!  agents     ─┼─Event─►│ one file for │─doors──►│ offers, tasks │──► Allocator
//!  operators  ─┤        │ each family  │         │ agents, …     │──► View
//!  time       ─┘        └──────┬───────┘         └───────┬───────┘
//!                              └────────► Action ◄───────┘
//! ```
//!
//! A door is the one function by which a fact changes, whatever the cause: it alone moves resources in the books and tells who must
//! know. The laws that follow from that are in `check.rs`, and are checked after each event in builds with debug assertions.

mod action;
#[cfg(debug_assertions)]
mod check;
mod config;
mod event;
mod handle;
mod limits;
mod maintenance;
mod recovered;
mod state;
mod turn;
pub mod view;

pub use action::{Action, Actions, OperatorError, OperatorReply, RegistryOp};
pub use config::{Config, RateLimit};
pub use event::{CommitId, ConnId, Event, OperatorCall, RequestId, RoleChange};
pub use maintenance::Maintenance;
pub use recovered::{Cause, Recovered, RecoveredAgent, RemovedAgent};
pub use view::View;

use apportion_allocator::{Allocator, Hierarchical, Share};
use apportion_types::Time;

use self::{state::State, turn::Turn};

/// The master: knows every agent's resources, decides who is offered what, and keeps what follows.
///
/// Call [`Master::handle`] for each event, run its actions in order, and call it with [`Event::Tick`] when the time of
/// [`Master::next_deadline`] is reached. Time may stand still but never goes back.
pub struct Master {
    state: State,
    now: Time,
    #[cfg(debug_assertions)]
    checker: check::Checker,
}

impl Master {
    /// A master that knows nobody yet, and shares out by dominant-resource fairness.
    pub fn new(config: Config, now: Time) -> Self {
        Self::with_allocator(config, Box::new(Hierarchical::default()), now)
    }

    /// A master that knows nobody yet, with an allocator of the caller's choice that knows nobody either.
    pub fn with_allocator(config: Config, allocator: Box<dyn Allocator>, now: Time) -> Self {
        Self::recover(config, Recovered::default(), allocator, now)
    }

    /// A master that knows whom earlier ones knew, none of them connected; with an allocator that knows nobody.
    ///
    /// Agents that took part may take [`Config::agent_reregister_timeout`] to return, frameworks their own failover time-out.
    ///
    /// # Panics
    ///
    /// When `recovered` is not what [`Recovered::judge`] finds good.
    pub fn recover(config: Config, recovered: Recovered, allocator: Box<dyn Allocator>, now: Time) -> Self {
        Self {
            state: State::new(config, recovered, allocator, now),
            now,
            #[cfg(debug_assertions)]
            checker: check::Checker::default(),
        }
    }

    /// Takes in one event and appends what is to be done, in order.
    pub fn handle(&mut self, now: Time, event: Event, actions: &mut Actions) {
        assert!(now >= self.now, "time went back from {} to {now}", self.now);
        self.now = now;
        self.state.handle(&mut Turn { now, actions }, event);
        #[cfg(debug_assertions)]
        self.checker.after_event(&self.state);
    }

    /// When the next [`Event::Tick`] is due, if nothing happens before. May be in the past: then it is due at once.
    pub fn next_deadline(&self) -> Option<Time> {
        let state = &self.state;
        if state.shut_down {
            return None;
        }
        [state.timers.next(), state.allocate_at, state.free_at, state.allocator.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// A snapshot for readers, at the cost of a few reference counts.
    pub fn view(&self) -> View {
        self.state.view.clone()
    }

    /// How many allocation cycles have run.
    pub fn allocation_cycles(&self) -> u64 {
        self.state.view.counters.allocation_cycles
    }

    /// The share of every role and framework, in order of fairness; costs a pass over them.
    pub fn shares(&self) -> Vec<Share> {
        self.state.allocator.shares()
    }
}
