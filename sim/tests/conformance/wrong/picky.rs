//! Refuses what it cannot use for no time at all.

use std::time::Duration;

use apportion_sdk::{AgentId, Context, Offer, Scheduler, TaskId, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::Right;

pub(crate) struct Picky {
    right: Right,
}

impl Picky {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store) }
    }
}

#[async_trait]
impl Scheduler for Picky {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            self.right.place(&mut offer);
            offer.decline_for(Duration::ZERO, "perhaps the next one"); // wrong: the next one is the same
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.right.hear(&status);
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.right.tasks()
    }
}
