//! Several agents at once, or none.

use std::{fmt, mem, time::Duration};

use crate::{
    DeclineReason, Offer,
    answers::{Answer, Said},
    offer::ACCEPT_BYTES_MAX,
};

/// Offers of several agents that are used together: what is placed on them is launched all or nothing.
///
/// When it is committed the master takes every part, or none: then each task is told to [`update`](crate::Scheduler::update), as
/// invalid where it is itself at fault, else as dropped. What becomes of the tasks after they were taken is up to each. A gang that
/// is dropped instead gives everything back, also what was placed.
///
/// ```
/// use apportion_sdk::{Gang, Offer, Task};
///
/// fn place(gang: &mut Gang, offers: Vec<Offer>, wanted: usize) -> Result<(), Box<dyn std::error::Error>> {
///     for mut offer in offers {
///         offer.hold_for(std::time::Duration::from_secs(60)); // until enough are there
///         gang.add(offer);
///     }
///     if gang.offers().len() >= wanted {
///         let mut gang = std::mem::take(gang);
///         for (rank, offer) in gang.offers_mut().iter_mut().take(wanted).enumerate() {
///             offer.launch(Task::new(format!("rank-{rank}")).command(["rank"]).cpus(1.0).build()?)?;
///         }
///         gang.commit()?; // had a launch failed, this would not be reached, and nothing would run
///     }
///     Ok(())
/// }
/// # use apportion_sdk::testing;
/// # let offers = vec![testing::offer("eng", "agent-1", "cpus:2"), testing::offer("eng", "agent-2", "cpus:2")];
/// # place(&mut Gang::default(), offers, 2).unwrap();
/// ```
///
/// Offers that a gang holds may be rescinded while it waits: [`forget`](Gang::forget) them.
#[must_use = "a gang that is dropped gives everything back"]
#[derive(Default)]
pub struct Gang {
    offers: Vec<Offer>,
}

/// A gang is too large for one call; it is given back.
#[derive(Debug, thiserror::Error)]
#[error("what is placed on the gang's {} offers takes {bytes} bytes; one call can carry {}; make it smaller", .gang.offers.len(), ACCEPT_BYTES_MAX)]
pub struct GangTooLarge {
    /// The gang.
    pub gang: Gang,
    /// What its call would take, about.
    pub bytes: usize,
}

impl Gang {
    /// One that holds nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an offer in; as one with that of the same agent and role, if there is one.
    pub fn add(&mut self, offer: Offer) {
        let same = |held: &&mut Offer| held.agent_id() == offer.agent_id() && held.role() == offer.role();
        match self.offers.iter_mut().find(same) {
            Some(held) => {
                if let Err(apart) = held.merge(offer) {
                    self.offers.push(*apart);
                }
            }
            None => self.offers.push(offer),
        }
    }

    /// What it holds.
    pub fn offers(&self) -> &[Offer] {
        &self.offers
    }

    /// What it holds, to place something on it.
    pub fn offers_mut(&mut self) -> &mut [Offer] {
        &mut self.offers
    }

    /// Asks to hold all of it for so long from now on, at most 10 minutes.
    pub fn hold_for(&mut self, hold: Duration) {
        self.offers.iter_mut().for_each(|offer| offer.hold_for(hold));
    }

    /// Lets go of an offer that was rescinded, with all that was placed on it and its agent's others; false when it does not hold it.
    pub fn forget(&mut self, offer: &apportion_types::OfferId) -> bool {
        match self.offers.iter().position(|held| held.ids().contains(offer)) {
            Some(index) => {
                self.offers.remove(index).clear();
                true
            }
            None => false,
        }
    }

    /// Sends what is placed on it as one call, when the callback returns. Offers on which nothing was placed are given back.
    pub fn commit(mut self) -> Result<(), GangTooLarge> {
        let bytes = self.offers.iter().map(Offer::bytes).sum();
        if bytes > ACCEPT_BYTES_MAX {
            return Err(GangTooLarge { gang: self, bytes });
        }
        let (mut used, unused): (Vec<Offer>, Vec<Offer>) =
            mem::take(&mut self.offers).into_iter().partition(|offer| !offer.is_untouched());
        drop(unused);
        let Some(answers) = used.first().map(|offer| std::sync::Arc::clone(offer.answers())) else {
            return Ok(());
        };
        let parts: Vec<Answer> = used.iter_mut().filter_map(Offer::take_answer).collect();
        answers.push(Said::Gang(parts));
        Ok(())
    }
}

impl Drop for Gang {
    fn drop(&mut self) {
        for mut offer in mem::take(&mut self.offers) {
            offer.clear();
            offer.decline(DeclineReason::WAITING);
        }
    }
}

impl fmt::Debug for Gang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gang").field("offers", &self.offers).finish()
    }
}
