//! Keeps what it cannot use, for later.

use apportion_sdk::{AgentId, Context, Offer, OfferId, Scheduler, TaskId, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::Right;

pub(crate) struct Hoarder {
    right: Right,
    kept: Vec<Offer>,
}

impl Hoarder {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store), kept: Vec::new() }
    }
}

#[async_trait]
impl Scheduler for Hoarder {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            self.right.place(&mut offer);
            if offer.is_untouched() {
                self.kept.push(offer); // wrong: who knows when it will be of use
            }
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.right.hear(&status);
    }

    async fn rescinded(&mut self, _cx: &mut Context<'_>, offer: OfferId) {
        self.kept.retain(|kept| *kept.id() != offer);
    }

    async fn disconnected(&mut self, _cx: &mut Context<'_>, _why: String) {
        self.kept.clear();
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.right.tasks()
    }
}
