//! What the scheduler is held to while a history is played, a promise in each file.

mod answers;
mod crashes;
mod ignores_rescind;
mod launches_twice;
mod ledger;
mod overspends;
mod reconciles;
mod remembers;
mod spins;

use std::{cell::RefCell, rc::Rc, time::Duration};

use self::answers::{Answers, Asked};
use crate::check::Check;

pub(super) use self::ledger::{Ledger, Work};

/// The only framework of a history.
const FRAMEWORK: usize = 0;

/// What a scheduler is given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// How long an offer may be held, and an inverse offer be left unanswered.
    pub(super) hold: Duration,
    /// How many times a second it may refuse, suppress and revive while nothing else happens.
    pub(super) refusals_per_second: f64,
    /// How long after the last fault it may go on calling.
    pub(super) settle: Duration,
}

/// The ledger, shared by those who look things up in it.
pub(super) type Shared = Rc<RefCell<Ledger>>;

/// Every check; `expected` is how much work is to come to its end, where that is known.
pub(super) fn all(ledger: &Shared, bounds: Bounds, expected: Option<usize>) -> Vec<Box<dyn Check>> {
    let shared = || Rc::clone(ledger);
    vec![
        // Before the ledger, which has the launch in it afterwards.
        Box::new(launches_twice::LaunchesTwice::new(shared())),
        Box::new(ledger::Keeper(shared())),
        Box::new(Answers::new(Asked::Offers, bounds.hold)),
        Box::new(Answers::new(Asked::InverseOffers, bounds.hold)),
        Box::new(overspends::Overspends),
        Box::new(ignores_rescind::IgnoresRescind::default()),
        Box::new(spins::Spins::new(bounds.refusals_per_second)),
        Box::new(reconciles::Reconciles::new(shared(), bounds.settle)),
        Box::new(remembers::Remembers::new(shared())),
        Box::new(crashes::Crashes::new(shared(), expected)),
    ]
}
