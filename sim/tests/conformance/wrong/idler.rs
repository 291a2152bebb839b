//! Does nothing at all, and so nothing wrong.

use apportion_sdk::{Context, Offer, Scheduler, TaskStatus, async_trait};
use apportion_sim::Store;

pub(crate) struct Idler;

impl Idler {
    pub(crate) fn new(_store: &Store) -> Self {
        Self
    }
}

#[async_trait]
impl Scheduler for Idler {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, _offers: Vec<Offer>) {}

    async fn update(&mut self, _cx: &mut Context<'_>, _status: TaskStatus) {}
}
