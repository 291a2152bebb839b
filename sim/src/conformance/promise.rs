//! What a scheduler promises the cluster, and its author.

use std::fmt;

/// Something that a scheduler is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// An offer is used or given back soon: as long as it is held, nobody else can have it.
    HoldsOffers,
    /// Who says that it takes inverse offers accepts or declines each soon: an operator waits to know whether a machine will be empty.
    IgnoresInverseOffers,
    /// No task is launched that the master must refuse as it stands: over a limit, or under the id of one that is alive.
    Overspends,
    /// One piece of work is not run twice at once, unless the first was told to have ended, to be unknown, or out of reach.
    LaunchesTwice,
    /// What was rescinded, or lost with the connection, is not used any more.
    IgnoresRescind,
    /// A task that runs is known to the scheduler that launched it, over all its restarts.
    ForgetsTask,
    /// Once nothing happens any more, what the scheduler believes is so, and it does not go on calling.
    DoesNotReconcile,
    /// Who wants offers and refuses them all does so at a bearable rate.
    SpinsOnDecline,
    /// However it is crashed, the work comes to its end.
    BreaksWhenCrashed,
    /// No callback panics.
    Panics,
    /// No callback awaits what only another thread, a timer or a socket could bring about.
    Awaits,
}

impl Promise {
    /// Every promise.
    pub const ALL: [Promise; 11] = [
        Promise::HoldsOffers,
        Promise::IgnoresInverseOffers,
        Promise::Overspends,
        Promise::LaunchesTwice,
        Promise::IgnoresRescind,
        Promise::ForgetsTask,
        Promise::DoesNotReconcile,
        Promise::SpinsOnDecline,
        Promise::BreaksWhenCrashed,
        Promise::Panics,
        Promise::Awaits,
    ];

    /// What it is called in reports, by how it is broken.
    pub const fn name(self) -> &'static str {
        match self {
            Promise::HoldsOffers => "holds-offers",
            Promise::IgnoresInverseOffers => "ignores-inverse-offers",
            Promise::Overspends => "overspends",
            Promise::LaunchesTwice => "launches-twice",
            Promise::IgnoresRescind => "ignores-rescind",
            Promise::ForgetsTask => "forgets-task",
            Promise::DoesNotReconcile => "does-not-reconcile",
            Promise::SpinsOnDecline => "spins-on-decline",
            Promise::BreaksWhenCrashed => "breaks-when-crashed",
            Promise::Panics => "panics",
            Promise::Awaits => "awaits",
        }
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Promise::HoldsOffers => {
                "let an offer go out of scope when nothing is placed on it; what is given back comes again"
            }
            Promise::IgnoresInverseOffers => {
                "answer each in `inverse_offers`, or do not say `Capability::InverseOffers`"
            }
            Promise::Overspends => {
                "give every task an id that no living task has, and describe it within the limits that the message names"
            }
            Promise::LaunchesTwice => {
                "store a task before it is launched, name it in `tasks`, and launch its work again only when its end was told; if the \
                 two are different work, say what work a task is with `work`"
            }
            Promise::IgnoresRescind => "drop kept offers in `rescinded`, and all of them in `disconnected`",
            Promise::ForgetsTask => {
                "store a task before it is launched and name it in `tasks` until its end is told; kill what is told and not known"
            }
            Promise::DoesNotReconcile => {
                "forget a task that was told to have ended, or to be unknown, and leave it to the driver to ask again; if its work \
                 never ends and begins again for ever by itself, give it a `workload` that lasts"
            }
            Promise::SpinsOnDecline => {
                "refuse for seconds, as a dropped offer does, and answer `wants_offers` with false while there is nothing to place"
            }
            Promise::BreaksWhenCrashed => {
                "store what is to be launched before it is, and its end before `update` returns; launch again what is told as dropped, \
                 gone or unknown"
            }
            Promise::Panics => {
                "take every status of every task at any time, those of an earlier process included"
            }
            Promise::Awaits => {
                "await in a callback only what is ready; let the program do the rest, and tell it as a message"
            }
        }
    }

    /// The promise that a property of the simulator stands for.
    pub(super) fn of(check: &str) -> Option<Promise> {
        match check {
            "callback" => Some(Promise::Awaits),
            // So much happens at one instant only where somebody spins.
            "time" => Some(Promise::SpinsOnDecline),
            _ => Promise::ALL.into_iter().find(|promise| promise.name() == check),
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
