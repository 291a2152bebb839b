//! What containers use: counted by their cgroups, which are read in one pass; where these do not count it, asked of their runners.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use apportion_types::container::{Reading, Usage};
use tokio::task::{JoinError, JoinSet};

use super::{Shared, read, runner};
use crate::{
    cgroup::{CgroupDriver, Layout},
    error::ContainerError,
    folder::{self, Order},
    spec::ContainerId,
};

/// Runners asked at once: enough to hide the way to them, too few to be felt by the agent's other work.
const ASKED_MAX: usize = 32;

/// Where a container's use is counted.
#[derive(Debug)]
struct Meter {
    driver: Arc<dyn CgroupDriver>,
    group: PathBuf,
}

/// The meters of containers that were looked at, so that each order is read once. Their files are not kept open: a kept one is read
/// three times as fast, but takes one of the agent's descriptors and a page of the kernel's memory.
#[derive(Debug, Default)]
pub(super) struct Meters {
    /// Mostly one: containers of an agent that had other cgroups have another.
    drivers: Vec<(Layout, Arc<dyn CgroupDriver>)>,
    meters: BTreeMap<ContainerId, Arc<Meter>>,
}

impl Meters {
    fn add(&mut self, id: ContainerId, layout: Layout, group: PathBuf) -> Arc<Meter> {
        let known = self.drivers.iter().find(|(of, _)| *of == layout);
        let driver = known.map(|(_, driver)| driver.clone()).unwrap_or_else(|| {
            let driver: Arc<dyn CgroupDriver> = layout.driver().into();
            self.drivers.push((layout, driver.clone()));
            driver
        });
        let meter = Arc::new(Meter { driver, group });
        self.meters.insert(id, meter.clone());
        meter
    }

    pub(super) fn forget(&mut self, id: &ContainerId) {
        self.meters.remove(id);
    }
}

/// What they use, in their order.
pub(super) async fn usage(shared: &Arc<Shared>, ids: &[ContainerId]) -> Vec<Result<Reading, ContainerError>> {
    let (reader, read) = (shared.clone(), ids.to_vec());
    let counted = tokio::task::spawn_blocking(move || {
        read.iter().map(|id| counted(&reader, id)).collect::<Vec<Option<Reading>>>()
    });
    let mut readings: Vec<Option<Result<Reading, ContainerError>>> =
        joined(counted.await).into_iter().map(|reading| reading.map(Ok)).collect();

    let missing: Vec<usize> = (0..ids.len()).filter(|at| readings[*at].is_none()).collect();
    let mut asked = JoinSet::new();
    for at in missing {
        if asked.len() == ASKED_MAX
            && let Some(answer) = asked.join_next().await
        {
            let (at, answer) = joined(answer);
            readings[at] = Some(answer);
        }
        let (shared, id) = (shared.clone(), ids[at].clone());
        asked.spawn(async move { (at, runner::usage(&shared, &id).await) });
    }
    while let Some(answer) = asked.join_next().await {
        let (at, answer) = joined(answer);
        readings[at] = Some(answer);
    }
    readings.into_iter().map(|reading| reading.expect("counted or asked for")).collect()
}

/// What the cgroups of a container count, when that is all; none of one that has ended. Blocks.
fn counted(shared: &Shared, id: &ContainerId) -> Option<Reading> {
    let known = shared.with_own(|own| own.meters.meters.get(id).cloned());
    let meter = match known {
        Some(meter) => meter,
        None => {
            let order: Order = read(&shared.known(id).ok()?, folder::SPEC).ok()??;
            added(shared, id, order.layout, order.group)
        }
    };
    let measured = meter.driver.measured(&meter.group);
    let (cpu_us, memory_peak_bytes) = (measured.cpu_us?, measured.memory_peak_bytes);
    Some(Reading {
        usage: Usage { cpu_us, memory_peak_bytes: Some(memory_peak_bytes?) },
        memory_bytes: measured.memory_bytes,
        pids: measured.pids,
        pressure: meter.driver.pressure(&meter.group),
    })
}

/// The meter of a container, kept for as long as that is.
fn added(shared: &Shared, id: &ContainerId, layout: Layout, group: PathBuf) -> Arc<Meter> {
    let meter = shared.with_own(|own| own.meters.add(id.clone(), layout, group));
    // Whoever removes a container forgets its meter once its folder is gone: one that was removed meanwhile is forgotten here.
    if !shared.folder(id).is_dir() {
        shared.with_own(|own| own.meters.forget(id));
    }
    meter
}

fn joined<T>(result: Result<T, JoinError>) -> T {
    result.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::{
        super::{NativeConfig, Plan, Program},
        *,
    };
    use crate::folder::Isolation;

    #[test]
    fn a_container_that_was_removed_meanwhile_leaves_no_meter() {
        let dir = tempfile::tempdir().unwrap();
        let (isolation, layout) = (Isolation::Namespaces, Layout::default());
        let plan = Plan { isolation, layout: layout.clone(), runtime: None, users: None };
        let config = NativeConfig::new(dir.path().to_owned(), String::new());
        let shared = Shared { config, program: Program::of(&[]), plan, own: Mutex::default() };
        let [here, gone] = ["here", "gone"].map(|id| ContainerId(id.to_owned()));
        std::fs::create_dir(shared.folder(&here)).unwrap();
        for id in [&here, &gone] {
            added(&shared, id, layout.clone(), PathBuf::new());
        }
        let kept = shared.with_own(|own| own.meters.meters.keys().cloned().collect::<Vec<_>>());
        assert_eq!(kept, [here]);
    }
}
