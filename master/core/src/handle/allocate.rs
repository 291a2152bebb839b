//! An allocation cycle: what the allocator gives becomes offers.

use std::collections::BTreeMap;

use apportion_types::{FrameworkId, Offer, protocol::scheduler::Event as SchedulerEvent};

use crate::{state::State, turn::Turn};

impl State {
    /// Runs one cycle; one message for each framework.
    pub(super) fn allocate(&mut self, turn: &mut Turn<'_>) {
        self.allocate_at = None;
        self.view.counters.allocation_cycles += 1;
        let given = self.allocator.allocate(turn.now, self.config.offers_per_cycle_max);
        if !given.is_empty() && self.allocator.is_dirty() {
            self.allocate_at = Some(turn.now); // it has stopped at the bound
        }
        let mut offers: BTreeMap<FrameworkId, Vec<Offer>> = BTreeMap::new();
        for allocation in given {
            let offer = self.open_offer(turn.now, allocation);
            offers.entry(offer.framework_id.clone()).or_default().push(offer);
        }
        if !self.free_watchers.is_empty() {
            self.free_at = Some(turn.now);
        }
        for (framework_id, offers) in offers {
            let conn =
                self.scheduler_conn(&framework_id).expect("only a connected framework is given anything");
            turn.tell_scheduler(conn, SchedulerEvent::Offers(offers));
        }
    }
}
