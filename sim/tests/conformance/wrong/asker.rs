//! Asks how everybody is every ten seconds, for ever.

use std::time::Duration;

use apportion_sdk::{AgentId, Context, Offer, Scheduler, Subscription, TaskId, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::Right;

const OFTEN: Duration = Duration::from_secs(10);

pub(crate) struct Asker {
    right: Right,
}

impl Asker {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store) }
    }
}

#[async_trait]
impl Scheduler for Asker {
    type Message = ();

    async fn subscribed(&mut self, cx: &mut Context<'_>, _subscription: Subscription) {
        cx.wake_after(OFTEN);
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        cx.reconcile_all(); // wrong: the driver asks for all that has to be asked for
        cx.wake_after(OFTEN);
    }

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.right.offers(cx, offers).await;
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
