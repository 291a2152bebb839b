//! Holds tasks to the disk that they hold, by looking from time to time.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use apportion_agent_core::{ContainerId, Event, GroupPlan, View, disk_limit_bytes};
use apportion_types::{TaskState, VolumeSource, container::Limitation};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use super::measure::{ENTRIES_MAX, Measure, Measured};
use crate::{
    executors::{is_within, tasks_in},
    paths::Paths,
};

/// A container with a limit.
struct Limited {
    container_id: ContainerId,
    folders: Vec<PathBuf>,
    limit_bytes: u64,
}

/// Measures by turns, for as long as somebody listens. A container that is over is told of in each turn until it has ended.
pub(crate) async fn run(
    interval: Duration,
    paths: Paths,
    view: watch::Receiver<Arc<View>>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut ticks = tokio::time::interval(interval);
    // A disk that is busy is not to be asked twice at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut partial = BTreeSet::new();
    loop {
        ticks.tick().await;
        let limited = limited(&view.borrow(), &paths);
        partial.retain(|known| limited.iter().any(|container| container.container_id == *known));
        for container in limited {
            let Limited { container_id, folders, limit_bytes } = container;
            let measured = tokio::task::spawn_blocking(move || measure(&folders, limit_bytes)).await;
            // A panic of it was told already; the other containers are measured all the same.
            let Ok(measured) = measured else { continue };
            if measured.partial && partial.insert(container_id.clone()) {
                tracing::warn!(container = %container_id, "what its sandbox holds is only counted in part: it holds too many files, or some that the agent may not read");
            }
            if measured.bytes > limit_bytes {
                let limitation = Limitation::Disk { limit_bytes };
                if events.send(Event::LimitExceeded { container_id, limitation }).is_err() {
                    return;
                }
            }
        }
        if events.is_closed() {
            return;
        }
    }
}

/// Containers that run and have a limit: also those of earlier processes, of which the view knows as much.
fn limited(view: &View, paths: &Paths) -> Vec<Limited> {
    let running = |state| matches!(state, TaskState::Running | TaskState::Killing);
    let tasks = view.tasks.iter().filter(|(_, task)| running(task.state) && !is_within(task));
    let limited = tasks.filter_map(|(key @ (framework_id, task_id), task)| {
        let container_id = task.container_id.clone();
        let sandbox = paths.sandbox(framework_id, task_id, &container_id.0);
        let mut folders = vec![sandbox, paths.scratch().join(&container_id.0)];
        // What several write to is counted for each that sees it: who wrote it cannot be known.
        let shares =
            task.info.volumes.iter().any(|volume| matches!(volume.source, VolumeSource::Group { .. }));
        let group = GroupPlan::of(&container_id, &task.info).filter(|_| shares);
        folders.extend(group.map(|group| paths.group(framework_id, &group.run.0)));
        let own = disk_limit_bytes(&task.info)?;
        // What an executor runs writes to the executor's sandbox.
        let all = tasks_in(view, key, task).skip(1).filter_map(|run| disk_limit_bytes(&run.info));
        Some(Limited { container_id, folders, limit_bytes: all.fold(own, u64::saturating_add) })
    });
    limited.collect()
}

fn measure(folders: &[PathBuf], limit_bytes: u64) -> Measured {
    let mut measure = Measure::new(limit_bytes, ENTRIES_MAX);
    for folder in folders {
        measure.add(folder);
    }
    measure.found()
}
