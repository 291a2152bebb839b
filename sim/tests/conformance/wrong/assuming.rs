//! Is sure that a task ends once.

use apportion_sdk::{AgentId, Context, Offer, Scheduler, TaskId, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::Right;

pub(crate) struct Assuming {
    right: Right,
}

impl Assuming {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store) }
    }
}

#[async_trait]
impl Scheduler for Assuming {
    type Message = ();

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.right.offers(cx, offers).await;
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        let known = self.right.hear(&status);
        assert!(known || !status.state.is_terminal(), "{} ends a second time", status.task_id); // wrong: it is told twice
    }

    fn wants_offers(&self) -> bool {
        self.right.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.right.tasks()
    }
}
