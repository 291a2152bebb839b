//! Waits in a callback for better times.

use apportion_sdk::{AgentId, Context, Offer, Scheduler, TaskId, TaskState, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::Right;

pub(crate) struct Waiter {
    right: Right,
}

impl Waiter {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store) }
    }
}

#[async_trait]
impl Scheduler for Waiter {
    type Message = ();

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.right.offers(cx, offers).await;
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.right.hear(&status);
        if status.state == TaskState::Failed {
            std::future::pending::<()>().await; // wrong: `Context::wake_after` is for this
        }
    }

    fn wants_offers(&self) -> bool {
        self.right.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.right.tasks()
    }
}
