//! Launching several together.

use std::{mem, time::Duration};

use apportion_sdk::{AgentId, Context, Gang, Offer, Resources};

use super::Jobs;

/// How long offers are held until enough are there; then others have them for a while.
const PATIENCE: Duration = Duration::from_secs(8);

impl Jobs {
    /// Holds offers, and launches when enough are there.
    pub(super) fn gather(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            offer.hold_for(2 * PATIENCE);
            self.gang.add(offer);
        }
        if self.gang_until.is_none() {
            self.gang_until = Some(cx.now() + PATIENCE);
            cx.wake_after(PATIENCE);
        }
        while self.launch_gang() {}
    }

    /// Launches as many tasks as go together, or the last that are left; false when there is no room for them, or nothing to launch.
    fn launch_gang(&mut self) -> bool {
        let numbers: Vec<usize> = self.waiting.iter().take(self.work.gang).copied().collect();
        let mut left: Vec<Resources> = self.gang.offers().iter().map(Offer::usable).collect();
        let mut places = Vec::with_capacity(numbers.len());
        for number in numbers {
            let fits = left.iter().position(|left| left.contains(&self.work.needs));
            let Some(index) = fits else { return false };
            left[index].saturating_sub(&self.work.needs);
            places.push((number, index));
        }
        if places.is_empty() {
            (self.gang, self.gang_until) = (Gang::new(), None);
            return false;
        }
        // What is left over goes back with it: a gang is one call.
        let mut gang = mem::take(&mut self.gang);
        self.gang_until = None;
        let mut launched: Vec<(usize, AgentId)> = Vec::with_capacity(places.len());
        for (number, index) in places {
            let task = self.described(number, Vec::new());
            let offer = &mut gang.offers_mut()[index];
            if offer.launch(task).is_err() {
                return false;
            }
            launched.push((number, offer.agent_id().clone()));
        }
        for (number, agent_id) in launched {
            self.launched(number, agent_id);
        }
        gang.commit().is_ok()
    }
}
