//! Names every task that it has ever launched.

use std::collections::BTreeSet;

use apportion_sdk::{AgentId, Context, Offer, Scheduler, TaskId, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::Right;

pub(crate) struct Archivist {
    right: Right,
    archive: BTreeSet<TaskId>,
}

impl Archivist {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store), archive: BTreeSet::new() }
    }
}

#[async_trait]
impl Scheduler for Archivist {
    type Message = ();

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.right.offers(cx, offers).await;
        self.archive.extend(self.right.alive.keys().cloned());
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.right.hear(&status); // wrong: the archive keeps what has ended
    }

    fn wants_offers(&self) -> bool {
        self.right.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let alive = self.right.alive.keys().chain(&self.archive);
        alive.map(|task_id| (task_id.clone(), None)).collect()
    }
}
