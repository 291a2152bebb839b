//! Launches everything twice, to be on the safe side, under the same id.

use apportion_sdk::{AgentId, Context, Offer, Scheduler, TaskId, TaskStatus, async_trait};
use apportion_sim::Store;

use crate::right::{Right, parts, task};

pub(crate) struct Twins {
    right: Right,
}

impl Twins {
    pub(crate) fn new(store: &Store) -> Self {
        Self { right: Right::new(store) }
    }
}

#[async_trait]
impl Scheduler for Twins {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            self.right.place(&mut offer);
            let placed: Vec<TaskId> = offer.placed().map(|task| task.task_id.clone()).collect();
            for task_id in placed {
                let (number, attempt) = parts(&task_id);
                _ = offer.launch(task(number, attempt)); // wrong: an id is that of one task
            }
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
