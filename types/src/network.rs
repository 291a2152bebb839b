//! The network of a task, or of the tasks of a group: which one it is in, the ports of its host that lead to it, and who may talk to it and with whom.

use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::{ids::Role, limits, probe::Probe, resources::Ranges, task::TaskInfo};

/// The network of a task that has said something of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Which: [`Network::HOST`], [`Network::NONE`], or one that the agent's operator has configured.
    pub name: String,
    /// Ports of the host that lead to the task; each must be among the ports that the task holds.
    pub ports: Vec<PortMapping>,
    /// Who may talk to whom: the first rule that fits a new connection decides, and what no rule fits is allowed. What answers is part
    /// of its connection.
    pub policy: Vec<Rule>,
}

/// A port of the host that leads to one of the task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortMapping {
    /// The host's.
    pub host_port: u16,
    /// The task's.
    pub container_port: u16,
    /// Of what.
    pub protocol: Protocol,
}

/// What has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What is done with some connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What.
    pub verdict: Verdict,
    /// Seen from the task.
    pub direction: Direction,
    /// With whom; anybody when none.
    pub peer: Option<Peer>,
    /// To which ports: the task's own for what comes in, the peer's for what goes out. All when none.
    pub ports: Option<PortRange>,
    /// Of what; with ports of both, without ports of everything when none.
    pub protocol: Option<Protocol>,
}

/// What is done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is let through.
    Allow,
    /// It is dropped without a word.
    Deny,
}

/// Who has begun a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The peer.
    In,
    /// The task.
    Out,
}

/// The other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Peer {
    /// Addresses.
    Cidr(Cidr),
    /// Tasks of this role or of one below it, on the same agent and with an address of their own.
    Role(Role),
}

/// Ports from the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The first.
    pub begin: u16,
    /// The last, not below the first.
    pub end: u16,
}

/// Addresses that begin alike: `10.0.0.0/8`, `fd00::/8`, or one address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// The name of the host's network, which is every task's that does not say.
    pub const HOST: &'static str = "host";

    /// The name of a network with nobody else in it, and nothing but a loopback.
    pub const NONE: &'static str = "none";

    /// A network by its name, without ports and rules.
    pub fn new(name: impl Into<String>) -> Network {
        Network { name: name.into(), ports: Vec::new(), policy: Vec::new() }
    }

    /// True for the host's, in which nothing of the task's is its own.
    pub fn is_host(&self) -> bool {
        self.name == Network::HOST
    }

    /// True for the one with nobody in it.
    pub fn is_none(&self) -> bool {
        self.name == Network::NONE
    }

    /// True for one that an operator has configured.
    pub fn is_configured(&self) -> bool {
        !self.is_host() && !self.is_none()
    }

    /// Says why who holds these ports of the host cannot have this network, on whatever agent.
    pub fn refusal(&self, held: &Ranges) -> Option<String> {
        self.refusal_among(held, "the task asks for; add it to its `ports`")
    }

    /// As [`Network::refusal`]; `whose` are the ports that are held, and what is to be done about another.
    fn refusal_among(&self, held: &Ranges, whose: &str) -> Option<String> {
        let name = &self.name;
        let asks = !self.ports.is_empty() || !self.policy.is_empty();
        if asks && !self.is_configured() {
            return Some(format!(
                "network `{name}` has no mapped ports and no policy; name a network that the agent's operator has configured"
            ));
        }
        let mut taken = BTreeSet::new();
        for mapping in &self.ports {
            let port = mapping.host_port;
            if !held.contains(&Ranges::single(u64::from(port), u64::from(port))) {
                return Some(format!(
                    "port {port} of the host is mapped, but is not among the ports that {whose}"
                ));
            }
            if !taken.insert((port, mapping.protocol)) {
                return Some(format!("port {port} of the host is mapped twice for {}", mapping.protocol));
            }
        }
        None
    }

    /// Says why the tasks of a group cannot share this network, on whatever agent; its sidecars and main tasks hold these ports of the host.
    pub(crate) fn shared_refusal(&self, held: &Ranges) -> Option<String> {
        if !self.is_configured() {
            return Some(format!(
                "network `{}` cannot be shared by its tasks; name one that the agent's operator has configured, or have each task name its own",
                self.name
            ));
        }
        let whose = "a sidecar or main task of the group asks for; add it to the `ports` of one";
        self.refusal_among(held, whose)
    }
}

impl TaskInfo {
    /// What is said of its network, by its task group where that has one.
    pub fn network(&self) -> Option<&Network> {
        let shared = self.group.as_deref().and_then(|group| group.network.as_deref());
        shared.or(self.container.network.as_deref())
    }

    /// Its network, unless that is its host's.
    pub fn own_network(&self) -> Option<&Network> {
        self.network().filter(|network| !network.is_host())
    }

    /// Says why no agent can give it its network, if none can. That of its task group is judged with the whole group.
    pub fn network_refusal(&self) -> Option<String> {
        let network = self.container.network.as_deref()?;
        if let Some(shared) = self.group.as_deref().and_then(|group| group.network.as_deref()) {
            return Some(format!(
                "it names network `{}` of its own, and its task group shares `{}`; leave one of them out",
                network.name, shared.name
            ));
        }
        let supervision = &self.supervision;
        let health = supervision.health_check.as_ref().map(|check| &check.probe);
        let check = supervision.check.as_ref().map(|check| &check.probe);
        let connects = |probe: &&Probe| !matches!(probe, Probe::Command(_));
        if network.is_none() && health.into_iter().chain(check).any(|probe| connects(&probe)) {
            return Some(format!(
                "network `{}` has nobody else in it, so nobody can connect to ask how the task is; let a command ask",
                Network::NONE
            ));
        }
        network.refusal(&self.resources.ports().unwrap_or_default())
    }
}

impl Protocol {
    /// The name shown to people.
    pub fn name(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Cidr {
    /// The addresses that share the first `prefix` bits of this one; none when it has not as many.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Cidr> {
        let address = match address {
            IpAddr::V4(address) if prefix <= 32 => {
                let kept = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & kept))
            }
            IpAddr::V6(address) if prefix <= 128 => {
                let kept = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & kept))
            }
            _ => return None,
        };
        Some(Cidr { address, prefix })
    }

    /// True for addresses of version 4.
    pub fn is_ipv4(&self) -> bool {
        self.address.is_ipv4()
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> String {
        cidr.to_string()
    }
}

/// A text names no addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{start}` names no addresses; give an address, or one with a prefix such as 10.1.0.0/16 or fd00::/8"
)]
pub struct CidrError {
    /// Its first characters.
    pub start: String,
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, prefix.parse().ok()),
            None => (text, Some(if text.contains(':') { 128 } else { 32 })),
        };
        let parsed =
            address.parse().ok().zip(prefix).and_then(|(address, prefix)| Cidr::new(address, prefix));
        parsed.ok_or_else(|| CidrError {
            start: text.chars().take(64).flat_map(char::escape_default).collect(),
        })
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

/// True for what may name a network: letters, digits, `_.-`, not first one of the last two (as the Container Network Interface has it).
pub fn is_network_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    name.len() <= limits::NETWORK_NAME_BYTES_MAX
        && name.bytes().all(plain)
        && name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Resources;

    fn cidr(text: &str) -> Result<String, CidrError> {
        text.parse().map(|cidr: Cidr| cidr.to_string())
    }

    #[test]
    fn addresses_are_read_and_what_is_behind_the_prefix_does_not_count() {
        for (text, read) in [
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::1/8", "fd00::/8"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
        ] {
            assert_eq!(cidr(text).as_deref(), Ok(read), "{text}");
        }
        for text in ["", "10.1.2.3/33", "::/129", "10.1.2", "10.1.2.3/", "host", "10.1.2.3/-1", "1.2.3.4/8/8"]
        {
            assert!(cidr(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_is_one_that_plugins_take() {
        for name in ["host", "none", "a", "net_1.2-x"] {
            assert!(is_network_name(name), "{name}");
        }
        for name in ["", ".a", "-a", "_a", "a/b", "a b", "ü", &"x".repeat(65)] {
            assert!(!is_network_name(name), "{name:?}");
        }
    }

    #[test]
    fn only_ports_that_are_held_are_mapped_and_each_once() {
        let held: Resources = "cpus:1;ports:[8000-8001]".parse().unwrap();
        let mapped = |name: &str, ports: &[(u16, Protocol)]| {
            let ports = ports.iter().map(|(host_port, protocol)| PortMapping {
                host_port: *host_port,
                container_port: 80,
                protocol: *protocol,
            });
            Network { ports: ports.collect(), ..Network::new(name) }.refusal(&held.ports().unwrap())
        };
        let (tcp, udp) = (Protocol::Tcp, Protocol::Udp);
        assert_eq!(mapped("net", &[(8000, tcp), (8000, udp), (8001, tcp)]), None);
        assert_eq!(mapped("host", &[]), None);
        for (name, ports, word) in [
            ("net", vec![(8002, tcp)], "8002"),
            ("net", vec![(8000, tcp), (8000, tcp)], "twice"),
            ("host", vec![(8000, tcp)], "host"),
            ("none", vec![(8000, tcp)], "none"),
        ] {
            assert!(mapped(name, &ports).is_some_and(|why| why.contains(word)), "{name} {ports:?}");
        }
        let without = Network {
            ports: vec![PortMapping { host_port: 1, container_port: 1, protocol: tcp }],
            ..Network::new("net")
        };
        assert!(without.refusal(&Ranges::default()).is_some());
    }
}
