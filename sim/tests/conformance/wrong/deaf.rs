//! Says that it takes inverse offers, and answers none.

use apportion_sdk::{AgentId, Context, Offer, Scheduler, TaskId, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::Right;

pub(crate) struct Deaf(Right);

impl Deaf {
    pub(crate) fn new(store: &Store) -> Self {
        Self(Right::new(store))
    }
}

#[async_trait]
impl Scheduler for Deaf {
    type Message = ();

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.0.offers(cx, offers).await;
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        self.0.update(cx, status).await;
    }

    fn wants_offers(&self) -> bool {
        self.0.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.0.tasks()
    }
}
