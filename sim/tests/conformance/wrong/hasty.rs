//! Launches anew after a restart, before it has heard what became of the first.

use std::collections::BTreeSet;

use apportion_sdk::{AgentId, Context, Offer, Scheduler, TaskId, TaskState, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::{Right, parts};

pub(crate) struct Hasty {
    right: Right,
    earlier: BTreeSet<TaskId>,
}

impl Hasty {
    pub(crate) fn new(store: &Store) -> Self {
        let mut right = Right::new(store);
        let earlier: BTreeSet<TaskId> = std::mem::take(&mut right.alive).into_keys().collect();
        for task_id in &earlier {
            let (number, attempt) = parts(task_id);
            right.waiting.push((number, attempt + 1)); // wrong: it may still run
        }
        Self { right, earlier }
    }
}

#[async_trait]
impl Scheduler for Hasty {
    type Message = ();

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.right.offers(cx, offers).await;
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.right.hear(&status);
        if status.state.is_terminal() || status.state == TaskState::Unknown {
            self.earlier.remove(&status.task_id);
        }
    }

    fn wants_offers(&self) -> bool {
        self.right.wants_offers()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        let earlier = self.earlier.iter().map(|task_id| (task_id.clone(), None));
        self.right.tasks().into_iter().chain(earlier).collect()
    }
}
