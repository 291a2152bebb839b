//! Thinks about an offer for three seconds, and then takes it, whether it is still there or not.

use std::time::Duration;

use apportion_sdk::{AgentId, Context, Offer, Scheduler, TaskId, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::Right;

pub(crate) struct Stubborn {
    right: Right,
    kept: Vec<Offer>,
}

impl Stubborn {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store), kept: Vec::new() }
    }
}

#[async_trait]
impl Scheduler for Stubborn {
    type Message = ();

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.kept.extend(offers);
        cx.wake_after(Duration::from_secs(3));
    }

    // Wrong: there is no `rescinded`, and no `disconnected`.
    async fn woken(&mut self, _cx: &mut Context<'_>) {
        for mut offer in std::mem::take(&mut self.kept) {
            self.right.place(&mut offer);
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.right.hear(&status);
    }

    fn wants_offers(&self) -> bool {
        self.right.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.right.tasks()
    }
}
