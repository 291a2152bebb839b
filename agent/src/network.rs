//! The network that a task or its group asks for, from the plan to the container.

use std::{fs, io, net::IpAddr, path::Path, sync::Arc, time::Duration};

use apportion_agent_core::{
    ContainerId, ContainerPlan, GroupPlan, LaunchFailure, LaunchFailureKind, RecoveredTask,
};
use apportion_containerizer::{NativeConfig, NetworkNamespaces, NetworkSpec};
use apportion_network::{AttachError, Attached, Networks, NetworksConfig, Wanted};
use apportion_types::{Network, text::chain};

use crate::{config::Config, paths::Paths};

/// What the owner of a task group's network is called by, before the name of the run.
const OF_RUN: &str = "group-";

/// The network that a container is in.
pub(crate) enum Joined {
    Host,
    Alone,
    Attached {
        attached: Attached,
        /// What it calls itself there.
        hostname: String,
    },
}

/// Whose network a container is in: its own, or that of this run of its task group. No container is named as a run's is.
pub(crate) fn owner(container_id: &ContainerId, group_network: Option<&ContainerId>) -> String {
    match group_network {
        Some(run) => format!("{OF_RUN}{run}"),
        None => container_id.0.clone(),
    }
}

/// Whose networks task groups of earlier processes are in: of those that are not over, as far as the log knows.
pub(crate) fn of_groups(tasks: &[RecoveredTask]) -> impl Iterator<Item = String> {
    let live = tasks.iter().filter(|task| !task.has_ended()).map(|task| &task.task);
    live.filter_map(|task| {
        let run = GroupPlan::network_of(&task.container_id, &task.info)?;
        Some(owner(&task.container_id, Some(&run)))
    })
}

/// The networks of task groups that are kept here and that one of these containers may be in, of which nobody knows more than the name.
pub(crate) fn of_strangers(dir: &Path, strangers: &[ContainerId]) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut owners = Vec::new();
    for entry in entries {
        let owner = entry?.file_name().to_string_lossy().into_owned();
        let run = owner.strip_prefix(OF_RUN).map(|run| ContainerId(run.to_owned()));
        if run.is_some_and(|run| strangers.iter().any(|id| GroupPlan::may_hold(&run, id))) {
            owners.push(owner);
        }
    }
    Ok(owners)
}

/// Has a container be in the network that its task or its group asks for. After a failure something may be left, until it is detached.
pub(crate) async fn join(networks: &Arc<Networks>, plan: &ContainerPlan) -> Result<Joined, LaunchFailure> {
    let unavailable = |name: &str, error: &AttachError| LaunchFailure {
        kind: LaunchFailureKind::Network,
        message: format!("network `{name}` is not available: {}", chain(error)),
    };
    let network = match plan.container.network.as_deref() {
        Some(network) if network.is_none() => return Ok(Joined::Alone),
        Some(network) if !network.is_host() => network.clone(),
        _ => {
            let free = networks.lead_nowhere(&plan.ports, networks.timeout()).await;
            return free.map(|()| Joined::Host).map_err(|error| unavailable(Network::HOST, &error));
        }
    };
    let name = network.name.clone();
    let shared = plan.group.as_ref().and_then(GroupPlan::network);
    let hostname = owner(&plan.container_id, shared);
    let (owner, role) = (hostname.clone(), plan.role.clone());
    let wanted = Wanted { owner, role, network, hostname: hostname.clone() };
    let attached = match shared {
        Some(_) => networks.share(wanted).await,
        None => networks.attach(wanted).await,
    };
    let joined = attached.map(|attached| Joined::Attached { attached, hostname });
    joined.map_err(|error| unavailable(&name, &error))
}

/// Takes the network of an owner away, which nothing is in any more. Waits for that no longer than one plugin may take: an end is not to be told late because many
/// networks hang. What takes longer, or fails, goes on by itself, and the ports of the host that lead there are nobody's until it is done.
pub(crate) async fn leave(networks: &Arc<Networks>, owner: &str) {
    let detaching = tokio::spawn({
        let (networks, owner) = (networks.clone(), owner.to_owned());
        async move {
            if let Err(error) = networks.detach(&owner).await {
                tracing::warn!(
                    owner,
                    error = chain(&error),
                    "its network is not detached yet; that is tried again"
                );
            }
        }
    });
    if tokio::time::timeout(networks.timeout(), detaching).await.is_err() {
        tracing::warn!(owner, "its network is still being detached; that is not waited for");
    }
}

impl Joined {
    /// The container's own addresses.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        match self {
            Joined::Host | Joined::Alone => &[],
            Joined::Attached { attached, .. } => &attached.addresses,
        }
    }

    /// What the containerizer is to do for it.
    pub(crate) fn spec(self) -> Option<NetworkSpec> {
        match self {
            Joined::Host => None,
            Joined::Alone => Some(NetworkSpec::default()),
            Joined::Attached { attached: Attached { namespace, etc, filtered, .. }, hostname } => {
                Some(NetworkSpec { namespace: Some(namespace), etc, filtered, hostname: Some(hostname) })
            }
        }
    }
}

/// The networks of an agent with these settings.
pub(crate) fn config(config: &Config, paths: &Paths) -> NetworksConfig {
    NetworksConfig {
        dir: paths.networks(),
        config_dir: config.cni_config_dir.clone(),
        plugin_dirs: config.cni_plugin_dirs.clone(),
        timeout: Duration::from_millis(config.cni_timeout_ms),
        namespaces: NetworkNamespaces::new(NativeConfig::new(paths.containers(), String::new()).runner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_container_that_nobody_knows_may_be_in_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (run, other) = (ContainerId::new(7, 10), ContainerId::new(7, 11));
        for run in [&run, &other] {
            fs::create_dir(dir.path().join(owner(run, Some(run)))).unwrap();
        }
        fs::create_dir(dir.path().join(owner(&run, None))).unwrap();
        let kept = |stranger| of_strangers(dir.path(), &[stranger]).unwrap();
        assert_eq!(kept(run.clone()), [owner(&run, Some(&run))]);
        assert_eq!(kept(ContainerId::new(7, 12)).len(), 2);
        assert_eq!(kept(ContainerId::new(8, 12)).len() + kept(ContainerId::new(7, 9)).len(), 0);
        assert!(of_strangers(&dir.path().join("none"), &[run]).unwrap().is_empty());
    }
}
