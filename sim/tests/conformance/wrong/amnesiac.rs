//! Forgets a task as soon as it runs: what can go wrong now?

use apportion_sdk::{AgentId, Context, Offer, Scheduler, TaskId, TaskState, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::{Right, parts};

pub(crate) struct Amnesiac {
    right: Right,
    store: Store,
}

impl Amnesiac {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store), store: store.clone() }
    }
}

#[async_trait]
impl Scheduler for Amnesiac {
    type Message = ();

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.right.offers(cx, offers).await;
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.right.hear(&status);
        if status.state == TaskState::Running {
            self.right.alive.remove(&status.task_id); // wrong: it is alive
            self.store.save(&parts(&status.task_id).0.to_string(), "done");
        }
    }

    fn wants_offers(&self) -> bool {
        self.right.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.right.tasks()
    }
}
