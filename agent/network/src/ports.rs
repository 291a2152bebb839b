//! Ports of the host that lead to an owner, from before it is attached until all of it is detached.

use std::collections::BTreeMap;

use apportion_types::{
    network::{PortMapping, Protocol},
    resources::Ranges,
};

/// Who holds which ports, and what is known of holders that are to let go.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    holders: BTreeMap<(u16, Protocol), String>,
    leaving: BTreeMap<String, Leaving>,
}

/// How far the detaching of an owner is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Nobody has tried to the end.
    UnderWay,
    /// It has failed, and is tried again.
    Failed {
        /// Why.
        why: String,
    },
}

/// A port is another's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) port: u16,
    pub(crate) protocol: Protocol,
    pub(crate) owner: String,
    /// None while nobody wants its holder to let go.
    pub(crate) leaving: Option<Leaving>,
}

impl Ports {
    /// Has an owner hold these, all or none.
    pub(crate) fn hold(&mut self, owner: &str, mappings: &[PortMapping]) -> Result<(), Held> {
        let keys = || mappings.iter().map(|mapping| (mapping.host_port, mapping.protocol));
        let of_another = |key| self.holders.get(&key).filter(|holder| *holder != owner).map(|_| key);
        if let Some(key) = keys().find_map(of_another) {
            return Err(self.held(key));
        }
        self.holders.extend(keys().map(|key| (key, owner.to_owned())));
        Ok(())
    }

    /// One of these that an owner holds.
    pub(crate) fn held_of(&self, ports: &Ranges) -> Option<Held> {
        let meant = |port: u16| ports.contains(&Ranges::single(port.into(), port.into()));
        self.holders.keys().find(|(port, _)| meant(*port)).map(|key| self.held(*key))
    }

    fn held(&self, (port, protocol): (u16, Protocol)) -> Held {
        let owner = &self.holders[&(port, protocol)];
        Held { port, protocol, owner: owner.clone(), leaving: self.leaving.get(owner).cloned() }
    }

    /// True while an owner holds a port and nobody wants it to let go.
    pub(crate) fn keeps(&self, key: (u16, Protocol), owner: &str) -> bool {
        self.holders.get(&key).is_some_and(|holder| holder == owner) && !self.leaving.contains_key(owner)
    }

    /// True while an owner is to be detached, or what is left of it.
    pub(crate) fn is_leaving(&self, owner: &str) -> bool {
        self.leaving.contains_key(owner)
    }

    /// An owner is to be detached.
    pub(crate) fn leaves(&mut self, owner: &str) {
        self.leaving.entry(owner.to_owned()).or_insert(Leaving::UnderWay);
    }

    /// That has failed.
    pub(crate) fn stays(&mut self, owner: &str, why: String) {
        self.leaving.insert(owner.to_owned(), Leaving::Failed { why });
    }

    /// Nothing of an owner is left.
    pub(crate) fn release(&mut self, owner: &str) {
        self.holders.retain(|_, holder| holder != owner);
        self.leaving.remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(host_port: u16, protocol: Protocol) -> PortMapping {
        PortMapping { host_port, container_port: 80, protocol }
    }

    #[test]
    fn a_port_is_held_until_all_of_its_holder_is_gone() {
        let mut ports = Ports::default();
        let (one, other) = (mapping(1, Protocol::Tcp), mapping(2, Protocol::Tcp));
        ports.hold("a", &[one]).unwrap();
        let held = |leaving| Held { port: 1, protocol: Protocol::Tcp, owner: "a".to_owned(), leaving };
        assert_eq!(ports.hold("b", &[other, one]), Err(held(None)));
        ports.hold("c", &[other, mapping(1, Protocol::Udp)]).unwrap();
        let keeps = |ports: &Ports| ports.keeps((1, Protocol::Tcp), "a");
        assert!(keeps(&ports) && !ports.keeps((1, Protocol::Tcp), "b"));
        ports.leaves("a");
        assert!(!keeps(&ports));
        assert_eq!(ports.hold("b", &[one]), Err(held(Some(Leaving::UnderWay))));
        assert_eq!(ports.held_of(&Ranges::single(1, 1)), Some(held(Some(Leaving::UnderWay))));
        assert_eq!(ports.held_of(&Ranges::single(3, 9)), None);
        ports.stays("a", "no".to_owned());
        ports.leaves("a");
        assert_eq!(ports.hold("b", &[one]), Err(held(Some(Leaving::Failed { why: "no".to_owned() }))));
        ports.release("a");
        ports.hold("b", &[one]).unwrap();
    }
}
