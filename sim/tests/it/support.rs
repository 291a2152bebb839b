//! A scheduler for tests, and a small cluster for it.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{AgentId, Context, Offer, Scheduler, Task, TaskId, TaskState, TaskStatus, async_trait};
use apportion_sim::{Behaviour, Chaos, Cluster, Framework, Handle, Store};

/// Runs so many tasks, each until it has succeeded once. Stores what it launches before it does, and ends before they are
/// acknowledged.
pub(crate) struct Jobs {
    store: Store,
    /// By number: the agent once it is launched.
    pub(crate) launched: BTreeMap<usize, (TaskId, AgentId)>,
    pub(crate) waiting: Vec<(usize, u32)>,
    pub(crate) finished: usize,
}

impl Jobs {
    pub(crate) fn new(store: &Store, tasks: usize) -> Self {
        let mut jobs =
            Jobs { store: store.clone(), launched: BTreeMap::new(), waiting: Vec::new(), finished: 0 };
        for number in 0..tasks {
            let text = store.load(&number.to_string()).map(|text| String::from_utf8(text).unwrap());
            match text.as_deref().map(|text| text.split(' ').collect::<Vec<_>>()).as_deref() {
                None => jobs.waiting.push((number, 0)),
                Some(["done"]) => jobs.finished += 1,
                Some(["again", attempt]) => jobs.waiting.push((number, attempt.parse().unwrap())),
                Some([task_id, agent_id]) => {
                    let ids = (TaskId::new(*task_id).unwrap(), AgentId::new(*agent_id).unwrap());
                    jobs.launched.insert(number, ids);
                }
                Some(other) => panic!("{other:?}"),
            }
        }
        jobs
    }

    fn number(task_id: &TaskId) -> (usize, u32) {
        let mut parts = task_id.as_str().split('-').skip(1);
        (parts.next().unwrap().parse().unwrap(), parts.next().unwrap().parse().unwrap())
    }
}

#[async_trait]
impl Scheduler for Jobs {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            while let Some((number, attempt)) = self.waiting.pop() {
                let task =
                    Task::new(format!("job-{number}-{attempt}")).command(["job"]).cpus(1.0).mem_mib(128);
                let task = task.build().unwrap();
                let task_id = task.task_id.clone();
                let agent_id = offer.agent_id().clone();
                self.store.save(&number.to_string(), format!("{task_id} {agent_id}"));
                if offer.launch(task).is_err() {
                    self.store.save(&number.to_string(), format!("again {attempt}"));
                    self.waiting.push((number, attempt));
                    break;
                }
                self.launched.insert(number, (task_id, agent_id));
            }
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        let (number, attempt) = Self::number(&status.task_id);
        if self.launched.get(&number).is_none_or(|(task_id, _)| *task_id != status.task_id) {
            return;
        }
        if status.state == TaskState::Finished {
            self.launched.remove(&number);
            self.store.save(&number.to_string(), "done");
            self.finished += 1;
        } else if status.state.is_terminal() || status.state == TaskState::Unknown {
            self.launched.remove(&number);
            self.store.save(&number.to_string(), format!("again {}", attempt + 1));
            self.waiting.push((number, attempt + 1));
        }
    }

    fn wants_offers(&self) -> bool {
        !self.waiting.is_empty()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.launched.values().map(|(task_id, agent_id)| (task_id.clone(), Some(agent_id.clone()))).collect()
    }
}

/// Jobs of each framework of the small cluster.
pub(crate) const JOBS: usize = 10;

/// Three agents, two frameworks of ten tasks each, and a bad minute.
pub(crate) fn small() -> (Cluster, Vec<Handle<Jobs>>) {
    let mut cluster = Cluster::new()
        .agents(3, "cpus:4;mem:4096;ports:[31000-31009]")
        .master(|config| {
            config.agent_ping_interval = Duration::from_secs(2);
            config.agent_pings_missed_max = 3;
            config.agent_reregister_timeout = Duration::from_secs(20);
            config.scheduler_heartbeat = Duration::from_secs(3);
            config.offer_timeout = Duration::from_secs(10);
        })
        .workload(|_, rng| Behaviour::succeeds_after(Duration::from_millis(rng.u64(100..20_000))))
        .clock_skew(Duration::from_secs(5))
        .launches_fail(10_000)
        .signals_fail(10_000)
        .chaos(Chaos::bad_day(Duration::from_secs(60)));
    let handles = ["left", "right"].map(|name| {
        cluster.add(
            Framework::stored(name, |store| Jobs::new(store, JOBS))
                .role(name)
                .failover_timeout(Duration::from_secs(60)),
        )
    });
    (cluster, handles.to_vec())
}
