//! The network of replicas.

use apportion_sdk::{
    Network,
    network::{PortMapping, Protocol, is_network_name},
};
use serde::{Deserialize, Serialize};

use super::fault::{Fault, Way};

/// `[network]`: a network that the agents' operators have configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Where a replica listens in it (TCP): the first port that it gets of the agent leads to the first of these, and so on.
    #[serde(default)]
    pub ports: Vec<u16>,
}

impl NetworkSpec {
    /// The network of a replica that got these ports of its agent, and of what runs with it.
    pub(super) fn network(&self, ports: &[u16]) -> Network {
        let pairs = ports.iter().zip(&self.ports);
        let mapping = |(host_port, container_port): (&u16, &u16)| PortMapping {
            host_port: *host_port,
            container_port: *container_port,
            protocol: Protocol::Tcp,
        };
        Network { ports: pairs.map(mapping).collect(), ..Network::new(&self.name) }
    }

    /// Where a replica listens that got these ports of its agent, by their places.
    pub(super) fn own_ports<'a>(&'a self, ports: &'a [u16]) -> &'a [u16] {
        if self.ports.is_empty() { ports } else { &self.ports }
    }

    /// Says what is wrong, for a replica of so many ports.
    pub(super) fn fault(&self, ports: usize) -> Option<Fault> {
        if !is_network_name(&self.name) {
            let what = format!("network: `{}` names no network", self.name.escape_default());
            return Some(Fault::new(Way::to("network.name"), what));
        }
        if self.ports.contains(&0) {
            return Some(Fault::new(Way::to("network.ports"), "network: 0 is no port"));
        }
        (!self.ports.is_empty() && self.ports.len() != ports).then(|| {
            let what = format!(
                "network: names {} ports of its own, and a replica gets {ports} of its agent; each leads to one: say `ports = {}`",
                self.ports.len(),
                self.ports.len()
            );
            Fault::new(Way::to("network.ports"), what)
        })
    }
}
