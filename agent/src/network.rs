//! The network that a task asks for, from its plan to its container.

use std::{net::IpAddr, sync::Arc, time::Duration};

use apportion_agent_core::{ContainerPlan, LaunchFailure, LaunchFailureKind};
use apportion_containerizer::{NativeConfig, NetworkNamespaces, NetworkSpec};
use apportion_network::{AttachError, Attached, Networks, NetworksConfig, Wanted};
use apportion_types::{Network, text::chain};

use crate::{config::Config, paths::Paths};

/// The network that a container is in.
pub(crate) enum Joined {
    Host,
    Alone,
    Attached(Attached),
}

/// Has a container be in the network that its task asks for. After a failure something may be left, until it is detached.
pub(crate) async fn join(networks: &Arc<Networks>, plan: &ContainerPlan) -> Result<Joined, LaunchFailure> {
    let unavailable = |name: &str, error: &AttachError| LaunchFailure {
        kind: LaunchFailureKind::Network,
        message: format!("network `{name}` is not available: {}", chain(error)),
    };
    let network = match plan.container.network.as_deref() {
        Some(network) if network.is_none() => return Ok(Joined::Alone),
        Some(network) if !network.is_host() => network.clone(),
        _ => {
            let free = networks.lead_nowhere(&plan.ports).await;
            return free.map(|()| Joined::Host).map_err(|error| unavailable(Network::HOST, &error));
        }
    };
    let name = network.name.clone();
    let id = &plan.container_id.0;
    let wanted = Wanted { owner: id.clone(), role: plan.role.clone(), network, hostname: id.clone() };
    networks.attach(wanted).await.map(Joined::Attached).map_err(|error| unavailable(&name, &error))
}

/// Has a container be in its network no more. Waits for that no longer than one plugin may take: an end is not to be told late because many
/// networks hang. What takes longer, or fails, goes on by itself, and the ports of the host that lead there are nobody's until it is done.
pub(crate) async fn leave(networks: &Arc<Networks>, container_id: &str) {
    let detaching = tokio::spawn({
        let (networks, owner) = (networks.clone(), container_id.to_owned());
        async move {
            if let Err(error) = networks.detach(&owner).await {
                tracing::warn!(
                    container = owner,
                    error = chain(&error),
                    "its network is not detached yet; that is tried again"
                );
            }
        }
    });
    if tokio::time::timeout(networks.timeout(), detaching).await.is_err() {
        tracing::warn!(
            container = container_id,
            "its network is still being detached; that is not waited for"
        );
    }
}

impl Joined {
    /// The container's own addresses.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        match self {
            Joined::Host | Joined::Alone => &[],
            Joined::Attached(attached) => &attached.addresses,
        }
    }

    /// What the containerizer is to do for it.
    pub(crate) fn spec(self) -> Option<NetworkSpec> {
        match self {
            Joined::Host => None,
            Joined::Alone => Some(NetworkSpec::default()),
            Joined::Attached(Attached { namespace, etc, filtered, .. }) => {
                Some(NetworkSpec { namespace: Some(namespace), etc, filtered })
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
