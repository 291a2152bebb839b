//! A cluster at work, for the tests of checks: two agents, one framework, two tasks that run for ever.

use std::time::Duration;

use apportion_agent_core::{ContainerId, TaskKey};
use apportion_sdk::{AgentId, Context, Offer, Scheduler, Task, TaskId, TaskStatus, async_trait};

use super::all;
use crate::{Behaviour, Cluster, Framework, Sim, history::History};

/// Launches two tasks, each with a port, keeps wanting offers, and gives them back for five seconds.
struct Two {
    launched: Vec<TaskId>,
}

#[async_trait]
impl Scheduler for Two {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            if self.launched.len() < 2 {
                let ports = offer.take_ports(1).expect("there are enough ports");
                let task = Task::new(format!("task-{}", self.launched.len()))
                    .command(["work"])
                    .cpus(1.0)
                    .mem_mib(64);
                let task = task.ports(ports).build().expect("the task is well described");
                self.launched.push(task.task_id.clone());
                offer.launch(task).expect("it fits");
            }
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, _status: TaskStatus) {}

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.launched.iter().map(|task_id| (task_id.clone(), None)).collect()
    }
}

/// The cluster at rest: every check held.
pub(crate) fn running() -> Sim {
    let mut cluster =
        Cluster::new().agents(2, "cpus:4;mem:1024;ports:[1-9]").workload(|_, _| Behaviour::runs());
    cluster.add(Framework::new("two", || Two { launched: Vec::new() }));
    let mut sim = cluster.start_as(7, Vec::new(), History::default(), all());
    sim.run_until_idle(Duration::from_secs(600)).expect("no check is broken");
    assert_eq!(sim.running().count(), 2);
    sim
}

/// A running container, with its agent and its task.
pub(crate) fn container(sim: &Sim) -> (usize, ContainerId, TaskKey) {
    let agents = sim.world().agents.iter().enumerate();
    let containers = agents.flat_map(|(number, agent)| {
        agent
            .machine
            .containers
            .iter()
            .map(move |(id, container)| (number, id.clone(), container.task.clone()))
    });
    containers.into_iter().next().expect("a container runs")
}

/// What a check found; fails when it found nothing, or another did.
pub(crate) fn broken(sim: &Sim, check: &str) -> String {
    let violation = sim.world().violation.as_ref().expect("a property is broken");
    assert_eq!(violation.check, check, "{}", violation.message);
    violation.message.clone()
}
