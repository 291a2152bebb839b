//! A service as it is shown.

use apportion_sdk::TaskId;
use serde::{Deserialize, Serialize};

use super::{Phase, Services, Trouble, drain::Drain};
use crate::{balancer::Listener, scale::Decision};

/// A service as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppView {
    /// Its name.
    pub name: String,
    /// How many replicas are wanted.
    pub replicas: u32,
    /// How many are ready.
    pub ready: u32,
    /// The revision that it has, or is on the way to.
    pub revision: u64,
    /// How far that has come.
    pub phase: Phase,
    /// Revisions that were complete, the last one at the end.
    pub good: Vec<u64>,
    /// The revision that was given up.
    pub rejected: Option<u64>,
    /// What it comes after, while it was never started.
    pub waits_for: Vec<String>,
    /// Whether it is on its way out.
    pub removed: bool,
    /// What holds it back.
    #[serde(default)]
    pub trouble: Trouble,
    /// What was decided last of how many there are to be, and why; none when it is not scaled, or nothing was measured yet.
    #[serde(default)]
    pub scaling: Option<Decision>,
    /// Where clients are to reach it; none when it has no balancer, or is on its way out.
    pub balancer: Option<Listener>,
    /// Why clients do not reach it, or not all of its replicas, as [the front](crate::front) has it; none of what only the scheduler says.
    #[serde(default)]
    pub unserved: Option<String>,
    /// Its tasks, in the order of their replicas.
    pub tasks: Vec<TaskView>,
}

/// One task of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// Its id.
    pub task_id: TaskId,
    /// Which replica it is.
    pub replica: u32,
    /// What it was made from.
    pub revision: u64,
    /// Where it is.
    pub hostname: String,
    /// `host:port` of its agent, for its logs.
    pub agent: String,
    /// `host:port` for each of its ports.
    pub addresses: Vec<String>,
    /// Whether it runs, is healthy and can be reached.
    pub ready: bool,
    /// Whether its end was decided.
    pub ending: bool,
    /// Whether it is killed only when clients have finished with it: it gets nothing new.
    pub draining: bool,
    /// Where it takes what is balanced, or else its first port; none when it has no such port, or its address is not known yet.
    pub endpoint: Option<Endpoint>,
}

/// Where a task listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// An address, or a name.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl AppView {
    /// Whether replicas are missing, or are not what they are to be, so that some may wait for an offer.
    pub fn lacks_replicas(&self) -> bool {
        let begun = !self.removed && self.waits_for.is_empty();
        begun && (self.phase != Phase::Steady || self.tasks.len() < self.replicas as usize)
    }
}

impl Services {
    /// The services as they are, by name.
    pub fn view(&self) -> Vec<AppView> {
        let app = |(name, app): (&String, &super::App)| {
            let task = |(task_id, placed): (&TaskId, &super::Placed)| TaskView {
                task_id: task_id.clone(),
                replica: placed.replica,
                revision: placed.revision,
                hostname: placed.hostname.clone(),
                agent: placed.place.address.clone(),
                addresses: placed.addresses(),
                ready: self.instances[task_id].ready_since.is_some(),
                ending: placed.doomed,
                draining: matches!(self.instances[task_id].drain, Drain::Until(_)),
                endpoint: self.endpoint(task_id, placed),
            };
            let mut tasks: Vec<_> = self.table.tasks_of(name).map(task).collect();
            tasks.sort_by_key(|task| task.replica);
            AppView {
                name: name.clone(),
                replicas: app.replicas(),
                ready: self.runtimes[name].ready,
                revision: app.target,
                phase: app.phase,
                good: app.good.clone(),
                rejected: app.rejected,
                waits_for: if app.started { Vec::new() } else { app.described.after.clone() },
                removed: app.removed,
                trouble: app.trouble.clone(),
                scaling: self.last_decision(name),
                balancer: app.described.balancer.clone().filter(|_| !app.removed),
                unserved: None,
                tasks,
            }
        };
        self.table.apps.iter().map(app).collect()
    }

    /// Where a task takes what is balanced, by what it was made from: on its agent's host, or at an address of its own when no port of the
    /// host leads there.
    pub(super) fn endpoint(&self, task_id: &TaskId, placed: &super::Placed) -> Option<Endpoint> {
        let spec = self.table.apps[&placed.app].revision(placed.revision);
        let port = *placed.ports.get(spec.balanced_port())?;
        let own = spec.network.as_ref().is_some_and(|network| network.ports.is_empty());
        let host = match own {
            true => self.instances[task_id].addresses.first()?.to_string(),
            false => placed.host().to_owned(),
        };
        Some(Endpoint { host, port })
    }
}
