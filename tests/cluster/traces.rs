//! What a cluster could leave on a machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::Cluster;
use crate::support::until;

/// Ends a cluster whose tasks have ended; fails if anything of them is left.
pub(super) fn expect_none(cluster: Cluster) {
    let folders = |name: &str| {
        cluster
            .agents
            .keys()
            .flat_map(|agent| {
                fs::read_dir(cluster.work_dir(agent).join(name)).into_iter().flatten().flatten()
            })
            .count()
    };
    until("nothing is kept of containers", || containers(&cluster).is_empty().then_some(()));
    for folder in ["scratch", "images/leases", "images/tmp"] {
        until(&format!("nothing is in {folder:?} of any agent"), || (folders(folder) == 0).then_some(()));
    }
    let place = cluster.place.path().to_owned();
    for name in cluster.agents.keys() {
        let left = cgroups(&cluster.group(name), "*");
        assert_eq!(left, Vec::<PathBuf>::new(), "cgroups are left");
    }
    drop(cluster);
    let mounts = fs::read_to_string("/proc/mounts").unwrap();
    assert!(!mounts.contains(&*place.to_string_lossy()), "mounts are left:\n{mounts}");
    assert_eq!(processes_of(&place), Vec::<String>::new(), "processes are left");
}

/// The folders of all containers that agents keep.
pub(super) fn containers(cluster: &Cluster) -> Vec<PathBuf> {
    let folders = cluster.agents.keys().filter_map(|name| {
        let folder = cluster.work_dir(name).join("containers");
        Some(fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path()))
    });
    let mut folders: Vec<PathBuf> = folders.flatten().filter(|folder| folder.is_dir()).collect();
    folders.sort();
    folders
}

/// The cgroups below this path in one hierarchy, or in any of them.
pub(super) fn cgroups(path: &str, hierarchy: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|entry| entry.path());
    let places = hierarchies
        .filter(|place| hierarchy == "*" || place.ends_with(hierarchy))
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .map(|hierarchy| hierarchy.join(path));
    let below = places.filter_map(|place| fs::read_dir(place).ok()).flat_map(|entries| entries.flatten());
    below.filter(|entry| entry.path().is_dir()).map(|entry| entry.path()).collect()
}

/// The commands of processes that name a folder.
pub(super) fn processes_of(place: &Path) -> Vec<String> {
    let place = place.to_string_lossy().into_owned();
    let commands = fs::read_dir("/proc").unwrap().flatten();
    let commands = commands.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    commands
        .map(|command| String::from_utf8_lossy(&command).replace('\0', " "))
        .filter(|command| command.contains(&place))
        .collect()
}
