//! The program around the scheduler: begins the service from the table that an earlier one kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use apportion_sdk::{
    TaskInfo, TaskState,
    store::{Memory, Store},
};
use apportion_service::{
    scheduler::{Order, ServiceScheduler},
    spec::{Restart, Spec},
    state::Table,
};
use apportion_sim::{Behaviour, Cluster, Failure, Framework, Handle, Sim};
use tokio::sync::mpsc;

/// No story lasts longer.
pub(crate) const LONG: Duration = Duration::from_secs(4 * 3600);

/// The service of every story. Of each agent of [`three_agents`] it could have all ports.
pub(crate) fn web(replicas: u32) -> Spec {
    Spec {
        replicas,
        ports: 1,
        failover_timeout: Duration::from_secs(120),
        replace_after: Duration::from_secs(10),
        restart: Restart { max: Duration::from_secs(8), ..Restart::default() },
        ..Spec::new("web", ["serve", "${port0}"])
    }
}

/// The master misses an agent after some 10 s, and gives it up after 20 s more.
pub(crate) fn three_agents() -> Cluster {
    let cluster = Cluster::new().agents(3, "cpus:4;mem:4096;ports:[31000-31009]");
    cluster.clock_skew(Duration::from_secs(2)).workload(|_, _| Behaviour::runs()).master(|config| {
        config.agent_ping_interval = Duration::from_secs(3);
        config.agent_pings_missed_max = 3;
        config.agent_reregister_timeout = Duration::from_secs(20);
    })
}

/// How many tasks machines have begun: the truth that a scheduler knows by hearsay only.
#[derive(Debug, Clone, Default)]
pub(crate) struct Begun(Arc<AtomicUsize>);

impl Begun {
    /// A workload of tasks that run until they are asked to end.
    pub(crate) fn counting(&self) -> impl FnMut(&TaskInfo, &mut apportion_sim::Rng) -> Behaviour + 'static {
        let begun = self.clone();
        move |_, _| {
            begun.0.fetch_add(1, Ordering::Relaxed);
            Behaviour::runs()
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A service of a simulated cluster.
pub(crate) struct Program {
    pub(crate) scheduler: Handle<ServiceScheduler<Memory>>,
    /// Outlives the scheduler, as a file does.
    pub(crate) kept: Memory,
}

impl Program {
    /// Adds the service to a cluster.
    pub(crate) fn of(cluster: &mut Cluster, spec: Spec) -> Self {
        let kept = Memory::default();
        let (spec, memory) = (Arc::new(spec.checked().unwrap()), kept.clone());
        let failover_timeout = spec.failover_timeout;
        let framework = Framework::stored("web", move |_| {
            let table = Table::load(memory.load().unwrap()).unwrap();
            // Nobody listens to the events: a story looks at what is so.
            let (events, _) = mpsc::unbounded_channel();
            ServiceScheduler::new("web", vec![Arc::clone(&spec)], memory.clone(), table, events)
        });
        Self { scheduler: cluster.add(framework.failover_timeout(failover_timeout)), kept }
    }

    pub(crate) fn scale(&self, sim: &mut Sim, replicas: u32) {
        self.order(sim, Order::Scale { service: None, replicas });
    }

    pub(crate) fn order(&self, sim: &mut Sim, order: Order) {
        sim.tell(self.scheduler, order.into());
    }

    /// Has the service be as it is described anew.
    pub(crate) fn apply(&self, sim: &mut Sim, spec: Spec) {
        let specs = vec![Arc::new(spec.checked().unwrap())];
        self.order(sim, Order::Apply { specs, again: false, dry_run: false });
    }

    /// What the scheduler has written down.
    pub(crate) fn table(&self) -> Table {
        Table::load(self.kept.load().unwrap()).unwrap()
    }

    /// Keeps what is to be run alone, as the program does when its framework was removed.
    pub(crate) fn begin_anew(&self) {
        let table = self.table();
        let changes = table.clone().without_framework().changes_since(&table);
        self.kept.clone().save(changes).unwrap();
    }

    /// Waits until the scheduler knows that so many replicas run.
    pub(crate) fn until_running(&self, sim: &mut Sim, replicas: u32) -> Result<(), Failure> {
        sim.run_until(LONG, &format!("{replicas} replicas run"), |sim| {
            sim.scheduler(self.scheduler).is_some_and(|scheduler| scheduler.state().running() == replicas)
                && sim.running().count() == replicas as usize
        })
    }

    /// Lets everybody come to rest. Whatever the story: as many replicas run then as are wanted, they are the ones that the table
    /// names, where it says, and none shares a port of an agent with another.
    pub(crate) fn at_rest(&self, sim: &mut Sim, replicas: u32) -> Result<(), Failure> {
        sim.run_until_idle(LONG)?;
        let table = self.table();
        let running: BTreeSet<_> = sim.running().map(|(_, (_, task_id))| task_id.clone()).collect();
        same(sim, "replicas that run", sim.running().count(), replicas as usize)?;
        let named = table.placed.keys().cloned().collect();
        same(sim, "tasks that run, and those of the table", running, named)?;
        same(sim, "tasks that may still run somewhere", table.strays.len(), 0)?;
        same(
            sim,
            "replicas of the table",
            table.placed.values().map(|placed| placed.replica).collect::<BTreeSet<_>>().into_iter().collect(),
            (0..replicas).collect::<Vec<_>>(),
        )?;
        ports_are_used_once(sim)
    }
}

/// On each agent every port is used by one task at most.
pub(crate) fn ports_are_used_once(sim: &Sim) -> Result<(), Failure> {
    let mut users = BTreeMap::new();
    for task in sim.master().tasks.values().filter(|task| task.state == TaskState::Running) {
        let ports = task.info.resources.ports().map(|ports| ports.values().collect::<Vec<_>>());
        for port in ports.unwrap_or_default() {
            if let Some(other) = users.insert((&task.agent_id, port), &task.info.task_id) {
                let both =
                    format!("{other} and {} both use port {port} of {}", task.info.task_id, task.agent_id);
                return Err(sim.failure(both));
            }
        }
    }
    Ok(())
}

/// How many run on each agent.
pub(crate) fn by_agent(sim: &Sim) -> Vec<usize> {
    let mut running = vec![0; 3];
    sim.running().for_each(|(agent, _)| running[agent] += 1);
    running
}

/// Fails the story when something is not as expected.
pub(crate) fn same<T: PartialEq + Debug>(sim: &Sim, what: &str, seen: T, expected: T) -> Result<(), Failure> {
    if seen == expected {
        return Ok(());
    }
    Err(sim.failure(format!("{what}: {seen:?}, expected {expected:?}")))
}
