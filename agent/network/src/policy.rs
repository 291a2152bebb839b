//! Rules of a network as tables of the kernel, within the owner's own namespace: they end with it, and the owner, which has not the
//! capabilities for that, cannot change them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::IpAddr,
    path::Path,
    time::Duration,
};

use apportion_containerizer::NetworkNamespaces;
use apportion_types::{
    Role,
    network::{Direction, Peer, Protocol, Rule, Verdict},
};
use tokio::time::timeout;

/// How long the kernel may take to have a policy put in force.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The addresses of the tasks of each role that a policy speaks of, in the order of [`roles`].
pub(crate) type Sets = Vec<BTreeSet<IpAddr>>;

/// The roles that a policy speaks of, each once.
pub(crate) fn roles(policy: &[Rule]) -> Vec<&Role> {
    let mut roles = Vec::new();
    for rule in policy {
        if let Some(Peer::Role(role)) = &rule.peer
            && !roles.contains(&role)
        {
            roles.push(role);
        }
    }
    roles
}

/// The sets of a policy, from the addresses of everybody on this agent.
pub(crate) fn sets(policy: &[Rule], everybody: &BTreeMap<&Role, BTreeSet<IpAddr>>) -> Sets {
    let of = |above: &Role| {
        let members = everybody.iter().filter(|(role, _)| **role == above || role.is_below(above));
        members.flat_map(|(_, addresses)| addresses.iter().copied()).collect()
    };
    roles(policy).into_iter().map(of).collect()
}

/// What makes the tables of a policy, as `nft` reads it; with empty sets.
pub(crate) fn tables(policy: &[Rule]) -> String {
    let mut text = "table inet apportion {\n".to_owned();
    for number in 0..roles(policy).len() {
        for (family, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
            let _ = writeln!(text, "set role{number}_{family} {{ type {kind}; }}");
        }
    }
    for (chain, direction, device) in [("input", Direction::In, "iif"), ("output", Direction::Out, "oif")] {
        let _ = writeln!(text, "chain {chain} {{");
        let _ = writeln!(text, "type filter hook {chain} priority filter; policy accept;");
        let _ = writeln!(text, "{device} \"lo\" accept");
        let _ = writeln!(text, "ct state established,related accept");
        // Without these there is no neighbour to talk to, over version 6 of the protocol.
        let _ = writeln!(
            text,
            "icmpv6 type {{ nd-router-solicit, nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert }} accept"
        );
        for rule in policy.iter().filter(|rule| rule.direction == direction) {
            for peer in peers(rule, policy) {
                let _ = writeln!(text, "{peer}{}{}", ports(rule), verdict(rule.verdict));
            }
        }
        text.push_str("}\n");
    }
    text.push_str("}\n");
    text
}

/// What fills the sets of a policy, in one step.
pub(crate) fn fill(sets: &Sets) -> String {
    let mut text = String::new();
    for (number, addresses) in sets.iter().enumerate() {
        for family in [4, 6] {
            let of = |address: &&IpAddr| address.is_ipv4() == (family == 4);
            let members: Vec<String> = addresses.iter().filter(of).map(ToString::to_string).collect();
            let set = format!("set inet apportion role{number}_{family}");
            let _ = writeln!(text, "flush {set}");
            if !members.is_empty() {
                let element = set.replacen("set", "element", 1);
                let _ = writeln!(text, "add {element} {{ {} }}", members.join(", "));
            }
        }
    }
    text
}

/// Has tables or sets be as this says in a namespace, in one step; or says why not.
pub(crate) async fn apply(
    namespaces: &NetworkNamespaces,
    namespace: &Path,
    script: &str,
) -> Result<(), String> {
    match timeout(APPLY_TIMEOUT, namespaces.run_in(namespace, &["nft", "-f", "-"], script)).await {
        Err(_) => Err(format!("`nft` did not end within {APPLY_TIMEOUT:?} and was killed")),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.lines().next().map_or_else(|| output.status.to_string(), str::to_owned))
        }
    }
}

/// The peer of a rule, in each family that it may be of; with a space behind.
fn peers(rule: &Rule, policy: &[Rule]) -> Vec<String> {
    let side = match rule.direction {
        Direction::In => "saddr",
        Direction::Out => "daddr",
    };
    match &rule.peer {
        None => vec![String::new()],
        Some(Peer::Cidr(cidr)) => {
            vec![format!("{} {side} {cidr} ", if cidr.is_ipv4() { "ip" } else { "ip6" })]
        }
        Some(Peer::Role(role)) => {
            let number = roles(policy).iter().position(|known| *known == role).expect("it is one of them");
            [("ip", 4), ("ip6", 6)]
                .map(|(ip, family)| format!("{ip} {side} @role{number}_{family} "))
                .to_vec()
        }
    }
}

/// The ports and protocols of a rule; with a space behind.
fn ports(rule: &Rule) -> String {
    let protocol = match (rule.protocol, rule.ports) {
        (Some(protocol), _) => format!("meta l4proto {} ", protocol.name()),
        (None, Some(_)) => format!("meta l4proto {{ {}, {} }} ", Protocol::Tcp, Protocol::Udp),
        (None, None) => String::new(),
    };
    match rule.ports {
        Some(ports) => format!("{protocol}th dport {}-{} ", ports.begin, ports.end),
        None => protocol,
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "accept",
        Verdict::Deny => "drop",
    }
}

#[cfg(test)]
mod tests {
    use apportion_types::network::PortRange;

    use super::*;

    fn rule(verdict: Verdict, direction: Direction, peer: Option<Peer>) -> Rule {
        Rule { verdict, direction, peer, ports: None, protocol: None }
    }

    fn role(text: &str) -> Role {
        text.parse().unwrap()
    }

    #[test]
    fn rules_are_written_in_their_order() {
        let cidr = |text: &str| Some(Peer::Cidr(text.parse().unwrap()));
        let policy = [
            Rule {
                ports: Some(PortRange { begin: 80, end: 90 }),
                ..rule(Verdict::Allow, Direction::In, cidr("10.1.0.0/16"))
            },
            Rule { protocol: Some(Protocol::Udp), ..rule(Verdict::Deny, Direction::Out, cidr("fd00::/8")) },
            rule(Verdict::Allow, Direction::In, Some(Peer::Role(role("eng")))),
            rule(Verdict::Allow, Direction::Out, Some(Peer::Role(role("eng")))),
            rule(Verdict::Deny, Direction::In, None),
        ];
        let text = tables(&policy);
        let lines: Vec<&str> =
            text.lines().filter(|line| line.ends_with("accept") || line.ends_with("drop")).collect();
        let own =
            |line: &&str| !line.contains("lo\"") && !line.contains("ct state") && !line.contains("icmpv6");
        let own: Vec<&str> = lines.into_iter().filter(own).collect();
        assert_eq!(
            own,
            [
                "ip saddr 10.1.0.0/16 meta l4proto { tcp, udp } th dport 80-90 accept",
                "ip saddr @role0_4 accept",
                "ip6 saddr @role0_6 accept",
                "drop",
                "ip6 daddr fd00::/8 meta l4proto udp drop",
                "ip daddr @role0_4 accept",
                "ip6 daddr @role0_6 accept",
            ]
        );
    }

    #[test]
    fn sets_hold_a_role_and_those_below_it() {
        let policy = [
            rule(Verdict::Allow, Direction::In, Some(Peer::Role(role("eng")))),
            rule(Verdict::Deny, Direction::In, Some(Peer::Role(role("ops")))),
        ];
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let everybody = [
            (&role("eng"), [address("10.0.0.1")].into()),
            (&role("eng/ads"), [address("10.0.0.2"), address("fd00::2")].into()),
            (&role("engine"), [address("10.0.0.3")].into()),
        ];
        let sets = sets(&policy, &everybody.into());
        assert_eq!(
            fill(&sets),
            "flush set inet apportion role0_4\n\
             add element inet apportion role0_4 { 10.0.0.1, 10.0.0.2 }\n\
             flush set inet apportion role0_6\n\
             add element inet apportion role0_6 { fd00::2 }\n\
             flush set inet apportion role1_4\n\
             flush set inet apportion role1_6\n"
        );
    }
}
