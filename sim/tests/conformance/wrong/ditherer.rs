//! Wants offers, does not, wants them.

use std::time::Duration;

use apportion_sdk::{AgentId, Context, Offer, Scheduler, Subscription, TaskId, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::Right;

const MOMENT: Duration = Duration::from_millis(50);

pub(crate) struct Ditherer {
    right: Right,
    wants: bool,
}

impl Ditherer {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store), wants: true }
    }
}

#[async_trait]
impl Scheduler for Ditherer {
    type Message = ();

    async fn subscribed(&mut self, cx: &mut Context<'_>, _subscription: Subscription) {
        cx.wake_after(MOMENT);
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        self.wants = !self.wants; // wrong: nothing has changed
        cx.wake_after(MOMENT);
    }

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.right.offers(cx, offers).await;
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.right.hear(&status);
    }

    fn wants_offers(&self) -> bool {
        self.wants
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.right.tasks()
    }
}
