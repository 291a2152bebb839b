//! A scheduler that does everything right: it stores what it does before it does it.

use std::collections::BTreeMap;

use apportion_sdk::{
    AgentId, Context, InverseOffer, Offer, Scheduler, Task, TaskId, TaskInfo, TaskState, TaskStatus,
    async_trait,
};
use apportion_sim::Store;

/// How many tasks each of these schedulers runs.
pub(crate) const TASKS: usize = 4;

/// Runs a few tasks, each until one attempt at it has come to its end. Where a wrong scheduler does the same but for one thing, it
/// wraps this one.
pub(crate) struct Right {
    store: Store,
    pub(crate) waiting: Vec<(usize, u32)>,
    /// The attempts that may be alive.
    pub(crate) alive: BTreeMap<TaskId, AgentId>,
}

impl Right {
    pub(crate) fn new(store: &Store) -> Self {
        let mut right = Right { store: store.clone(), waiting: Vec::new(), alive: BTreeMap::new() };
        for number in 0..TASKS {
            let text = store.load(&number.to_string()).map(|text| String::from_utf8(text).unwrap());
            match text.as_deref().map(|text| text.split(' ').collect::<Vec<_>>()).as_deref() {
                None => right.waiting.push((number, 0)),
                Some(["again", attempt]) => right.waiting.push((number, attempt.parse().unwrap())),
                Some([task_id, agent_id]) => {
                    right.alive.insert(TaskId::new(*task_id).unwrap(), AgentId::new(*agent_id).unwrap());
                }
                Some(_done) => {}
            }
        }
        right
    }

    fn save(&self, number: usize, text: &str) {
        self.store.save(&number.to_string(), text);
    }

    /// Places what waits, as far as it fits.
    pub(crate) fn place(&mut self, offer: &mut Offer) {
        while let Some((number, attempt)) = self.waiting.pop() {
            let task = task(number, attempt);
            let (task_id, agent_id) = (task.task_id.clone(), offer.agent_id().clone());
            self.save(number, &format!("{task_id} {agent_id}"));
            if offer.launch(task).is_err() {
                self.save(number, &format!("again {attempt}"));
                self.waiting.push((number, attempt));
                return;
            }
            self.alive.insert(task_id, agent_id);
        }
    }

    /// Takes news; true when it is that of a task which is alive as far as this scheduler knew.
    pub(crate) fn hear(&mut self, status: &TaskStatus) -> bool {
        let ended = status.state.is_terminal() || status.state == TaskState::Unknown;
        if !ended || self.alive.remove(&status.task_id).is_none() {
            return false;
        }
        let (number, attempt) = parts(&status.task_id);
        if status.state == TaskState::Finished {
            self.save(number, "done");
        } else {
            self.save(number, &format!("again {}", attempt + 1));
            self.waiting.push((number, attempt + 1));
        }
        true
    }

    pub(crate) fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.alive.iter().map(|(task_id, agent_id)| (task_id.clone(), Some(agent_id.clone()))).collect()
    }
}

/// An attempt at a piece of work.
pub(crate) fn task(number: usize, attempt: u32) -> TaskInfo {
    let task = Task::new(format!("work-{number}-{attempt}")).name(format!("work-{number}"));
    task.command(["work"]).cpus(1.0).mem_mib(64).build().unwrap()
}

/// The number of the work, and of the attempt.
pub(crate) fn parts(task_id: &TaskId) -> (usize, u32) {
    let mut parts = task_id.as_str().split('-').skip(1);
    (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap())
}

#[async_trait]
impl Scheduler for Right {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            self.place(&mut offer);
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.hear(&status);
    }

    /// Its tasks end soon.
    async fn inverse_offers(&mut self, cx: &mut Context<'_>, offers: Vec<InverseOffer>) {
        cx.accept_inverse_offers(offers.into_iter().map(|offer| offer.inverse_offer_id), None);
    }

    fn wants_offers(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        Right::tasks(self)
    }
}
