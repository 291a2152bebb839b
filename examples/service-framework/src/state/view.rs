//! A service as it is shown.

use apportion_sdk::TaskId;
use serde::{Deserialize, Serialize};

use super::{Phase, Services};

/// A service as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// `host:port` for each of its ports.
    pub addresses: Vec<String>,
    /// Whether it runs, is healthy and can be reached.
    pub ready: bool,
    /// Whether its end was decided.
    pub ending: bool,
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
                addresses: placed.addresses(),
                ready: self.instances[task_id].ready_since.is_some(),
                ending: placed.doomed,
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
                tasks,
            }
        };
        self.table.apps.iter().map(app).collect()
    }
}
