//! What may be ordered of services. An order is taken as a whole or refused with the reason, and then nothing has changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use apportion_sdk::Time;

use super::{App, Change, Effect, Scaled, Services, scaling};
use crate::{
    event::{Event, Told},
    spec::{REPLICAS_MAX, Spec},
};

/// What a description changed, or would change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Applied {
    /// What becomes of the replicas.
    pub change: Change,
    /// How many replicas are wanted.
    pub replicas: u32,
    /// How many were.
    pub replicas_before: u32,
}

/// Why an order is not obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such service.
    #[error("there is no service `{service}`; `apportion service ls` lists them")]
    Unknown {
        /// The name.
        service: String,
    },
    /// No service is named, and there is not one alone.
    #[error("no service is named; `apportion service ls` lists them")]
    Unnamed,
    /// One name, two descriptions.
    #[error("service `{service}` is described twice; keep one of the descriptions")]
    Twice {
        /// The name.
        service: String,
    },
    /// Two names that are one in DNS.
    #[error(
        "name: service `{service}` and `{other}` differ only by case, which is one name in DNS; give it another"
    )]
    Alike {
        /// Which.
        service: String,
        /// Which is there.
        other: String,
    },
    /// It waits for something that is not there.
    #[error(
        "after: service `{service}` comes after `{after}`, which is not there; apply that one first, or both together"
    )]
    AfterNothing {
        /// Which.
        service: String,
        /// What it waits for.
        after: String,
    },
    /// Services wait for each other.
    #[error(
        "after: {} wait for each other, so that none would ever start; take one `after` out",
        names(services)
    )]
    Cycle {
        /// Which.
        services: Vec<String>,
    },
    /// Two services for one address.
    #[error(
        "balancer.address: service `{service}` is to listen on {address}, and `{other}` does; give one of them another port, or remove \
         `{other}`"
    )]
    Address {
        /// Which.
        service: String,
        /// Where.
        address: SocketAddr,
        /// Who has it.
        other: String,
    },
    /// Another one waits for it.
    #[error("service `{by}` comes after `{service}`; remove that one first, or both together")]
    Needed {
        /// Which was to be removed.
        service: String,
        /// Which waits for it.
        by: String,
    },
    /// It has fewer.
    #[error("service `{service}` has no replica {replica}; it has {replicas}, counted from 0")]
    NoReplica {
        /// Which.
        service: String,
        /// What was asked for.
        replica: u32,
        /// How many it has.
        replicas: u32,
    },
    /// No service can have so many.
    #[error("{replicas} replicas are more than a service can have, {REPLICAS_MAX}")]
    TooMany {
        /// How many.
        replicas: u32,
    },
    /// What is measured would undo it at once.
    #[error("{replicas} is {}; change that first", beyond(*replicas, *min, *max))]
    Bounds {
        /// How many.
        replicas: u32,
        /// The fewest.
        min: u32,
        /// The most.
        max: u32,
    },
    /// There is no earlier revision.
    #[error(
        "service `{service}` has no earlier revision that was complete; `apportion service show {service}` lists what it has"
    )]
    NothingBefore {
        /// Which.
        service: String,
    },
    /// It never had such a revision, or has forgotten it.
    #[error("service `{service}` has no revision {revision}; it has {}", numbers(known))]
    NoRevision {
        /// Which.
        service: String,
        /// What was asked for.
        revision: u64,
        /// What there is.
        known: Vec<u64>,
    },
    /// There is nothing to go back to.
    #[error("service `{service}` has revision {revision} already, or is on the way to it")]
    HasRevision {
        /// Which.
        service: String,
        /// What was asked for.
        revision: u64,
    },
    /// It is not that far.
    #[error("service `{service}` tries no canaries; there is nothing to promote")]
    NoCanaries {
        /// Which.
        service: String,
    },
    /// It is on its way out.
    #[error("service `{service}` is being removed; apply it anew once it is gone")]
    Removed {
        /// Which.
        service: String,
    },
    /// Nobody offers for it.
    #[error(
        "role: service `{service}` is for role `{role}`, and offers are taken for {}; begin `service serve` with --role {role}",
        names(roles)
    )]
    Role {
        /// Which.
        service: String,
        /// Its role.
        role: String,
        /// Those of the framework.
        roles: Vec<String>,
    },
}

fn beyond(replicas: u32, min: u32, max: u32) -> String {
    match replicas < min {
        true => format!("less than scale.min, {min}"),
        false => format!("more than scale.max, {max}"),
    }
}

fn names(all: &[String]) -> String {
    all.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn numbers(all: &[u64]) -> String {
    all.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether nobody can listen on one address while somebody does on the other.
pub(crate) fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let same_host = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    // Of port 0 each gets a free one.
    one.port() == other.port() && one.port() != 0 && same_host
}

/// Fails when these contradict each other, whatever else there is.
pub fn agree(specs: &[Arc<Spec>]) -> Result<(), Refused> {
    let mut described = BTreeMap::new();
    for spec in specs {
        if described.insert(spec.name.as_str(), &**spec).is_some() {
            return Err(Refused::Twice { service: spec.name.clone() });
        }
    }
    addresses(specs, &described)
}

/// Fails when one of these would listen where another one of those that are described does.
fn addresses(specs: &[Arc<Spec>], described: &BTreeMap<&str, &Spec>) -> Result<(), Refused> {
    let address = |spec: &Spec| spec.balancer.as_ref().map(|balancer| balancer.address);
    for spec in specs {
        let Some(wanted) = address(spec) else { continue };
        let mut others = described.iter().filter(|(name, _)| **name != spec.name);
        let has = |other: &Spec| address(other).is_some_and(|has| collide(wanted, has));
        if let Some((other, _)) = others.find(|(_, other)| has(other)) {
            let (service, other) = (spec.name.clone(), (*other).to_owned());
            return Err(Refused::Address { service, address: wanted, other });
        }
    }
    Ok(())
}

impl Services {
    /// Has these services be as they are described: all of them, or none when something is wrong. Others stay as they are. `again` tries
    /// revisions that were given up once more.
    pub fn apply(
        &mut self,
        specs: Vec<Arc<Spec>>,
        again: bool,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<BTreeMap<String, Applied>, Refused> {
        let applied = self.would_apply(&specs, again)?;
        for spec in specs {
            let name = spec.name.clone();
            let tell = |event| Effect::Tell(Told::of(&name, event));
            let before = applied[&name];
            let app = match before.change {
                Change::New => self.table.apps.entry(name.clone()).or_insert(App::new(spec)),
                _ => {
                    let app = self.table.apps.get_mut(&name).expect("it was just compared");
                    app.describe(spec, again);
                    app
                }
            };
            let (revision, replicas) = (app.target, app.replicas());
            match before.change {
                Change::New | Change::Update(_) => {
                    self.begin_update(&name, now);
                    effects.push(tell(Event::Updating { revision, replicas }));
                }
                Change::Rejected(revision) => effects.push(tell(Event::NotUpdated { revision })),
                Change::Settings | Change::None => {}
            }
        }
        // Those that wait for others are settled once these are known.
        self.settle_all(now, effects);
        Ok(applied)
    }

    /// What [`apply`](Services::apply) would change.
    pub fn would_apply(
        &self,
        specs: &[Arc<Spec>],
        again: bool,
    ) -> Result<BTreeMap<String, Applied>, Refused> {
        agree(specs)?;
        let mut applied = BTreeMap::new();
        let mut after: BTreeMap<&str, &[String]> = BTreeMap::new();
        // One that is on its way out never becomes complete.
        for (name, app) in self.table.apps.iter().filter(|(_, app)| !app.removed) {
            after.insert(name, &app.described.after);
        }
        for spec in specs {
            let app = self.table.apps.get(&spec.name);
            let change = Applied {
                change: app.map_or(Change::New, |app| app.compare(spec, again)),
                replicas: scaling::ordered(app, spec).map_or(spec.replicas, |ordered| ordered.replicas),
                replicas_before: app.map_or(0, App::replicas),
            };
            applied.insert(spec.name.clone(), change);
            let alike = |other: &&str| spec.name.eq_ignore_ascii_case(other) && spec.name != *other;
            let known = || self.table.apps.keys().map(String::as_str).chain(after.keys().copied());
            if let (None, Some(other)) = (app, known().find(alike)) {
                return Err(Refused::Alike { service: spec.name.clone(), other: other.to_owned() });
            }
            after.insert(&spec.name, &spec.after);
        }
        for spec in specs {
            if let Some(missing) = spec.after.iter().find(|name| !after.contains_key(name.as_str())) {
                return Err(Refused::AfterNothing { service: spec.name.clone(), after: missing.clone() });
            }
        }
        self.check_addresses(specs)?;
        // What comes after nothing is taken away, and what nothing comes after: cycles are left.
        let comes_after = |names: &[String], other: &str| names.iter().any(|name| name == other);
        while let Some(free) = after.iter().find_map(|(name, names)| {
            let follows = after.keys().any(|other| comes_after(names, other));
            let leads = after.values().any(|names| comes_after(names, name));
            (!follows || !leads).then_some(*name)
        }) {
            after.remove(free);
        }
        match after.is_empty() {
            true => Ok(applied),
            false => Err(Refused::Cycle { services: after.keys().map(|name| (*name).to_owned()).collect() }),
        }
    }

    /// Fails when two services would listen on one address.
    fn check_addresses(&self, specs: &[Arc<Spec>]) -> Result<(), Refused> {
        let known = self.table.apps.iter().filter(|(_, app)| !app.removed);
        let mut described: BTreeMap<&str, &Spec> =
            known.map(|(name, app)| (name.as_str(), &*app.described)).collect();
        described.extend(specs.iter().map(|spec| (spec.name.as_str(), &**spec)));
        addresses(specs, &described)
    }

    /// Wants another number of replicas, which may be none: those with the highest numbers are killed, or missing ones launched.
    pub fn scale(
        &mut self,
        service: &str,
        replicas: u32,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        if replicas > REPLICAS_MAX {
            return Err(Refused::TooMany { replicas });
        }
        let app = self.ordered(service)?;
        // None at all stays so until somebody wants it otherwise.
        let bounds = app.described.scale.as_ref().map(|scale| scale.bounds()).filter(|_| replicas > 0);
        if let Some(bounds) = bounds.filter(|bounds| !bounds.contains(&replicas)) {
            return Err(Refused::Bounds { replicas, min: *bounds.start(), max: *bounds.end() });
        }
        let described = app.described.replicas;
        app.scaled = (replicas != described).then_some(Scaled { described, replicas });
        let runtime = self.runtimes.entry(service.to_owned()).or_default();
        runtime.complete = false;
        effects.push(Effect::Tell(Told::of(service, Event::Scaled { replicas })));
        self.settle(service, now, effects);
        Ok(())
    }

    /// Replaces all replicas by others of the same kind.
    pub fn restart(&mut self, service: &str, now: Time, effects: &mut Vec<Effect>) -> Result<u64, Refused> {
        let app = self.ordered(service)?;
        let (revision, replicas) = (app.restart(), app.replicas());
        self.begin_update(service, now);
        effects.push(Effect::Tell(Told::of(service, Event::Updating { revision, replicas })));
        self.settle(service, now, effects);
        Ok(revision)
    }

    /// Goes back to a revision, or to the one before; gives its number.
    pub fn roll_back(
        &mut self,
        service: &str,
        to: Option<u64>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<u64, Refused> {
        let app = self.ordered(service)?;
        let from = app.target;
        match to {
            Some(revision) if revision == from => {
                return Err(Refused::HasRevision { service: service.to_owned(), revision });
            }
            Some(revision) if !app.revisions.contains_key(&revision) => {
                let known = app.revisions.keys().copied().collect();
                return Err(Refused::NoRevision { service: service.to_owned(), revision, known });
            }
            _ => {}
        }
        let to = app.roll_back(to).ok_or(Refused::NothingBefore { service: service.to_owned() })?;
        self.begin_update(service, now);
        effects.push(Effect::Tell(Told::of(service, Event::RolledBack { from, to })));
        self.settle(service, now, effects);
        Ok(to)
    }

    /// Has the revision of the canaries take the place of the old one; gives its number.
    pub fn promote(&mut self, service: &str, now: Time, effects: &mut Vec<Effect>) -> Result<u64, Refused> {
        let app = self.ordered(service)?;
        let revision = app.target;
        if !app.promote() {
            return Err(Refused::NoCanaries { service: service.to_owned() });
        }
        self.begin_update(service, now);
        effects.push(Effect::Tell(Told::of(service, Event::Promoted { revision })));
        self.settle(service, now, effects);
        Ok(revision)
    }

    /// Ends services for good: nothing of them is launched any more, and what runs is killed.
    pub fn remove(
        &mut self,
        services: &[String],
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> Result<(), Refused> {
        let all: BTreeSet<&String> = services.iter().collect();
        for service in &all {
            if !self.table.apps.contains_key(*service) {
                return Err(Refused::Unknown { service: (*service).clone() });
            }
            let needs = |(name, app): &(&String, &App)| {
                !app.removed && !all.contains(name) && app.described.after.contains(service)
            };
            if let Some((by, _)) = self.table.apps.iter().find(needs) {
                return Err(Refused::Needed { service: (*service).clone(), by: by.clone() });
            }
        }
        for service in all {
            self.table.apps.get_mut(service).expect("it was just found").removed = true;
            effects.push(Effect::Tell(Told::of(service, Event::Removing)));
            self.settle(service, now, effects);
        }
        Ok(())
    }

    fn ordered(&mut self, service: &str) -> Result<&mut App, Refused> {
        let name = || service.to_owned();
        match self.table.apps.get_mut(service) {
            None => Err(Refused::Unknown { service: name() }),
            Some(app) if app.removed => Err(Refused::Removed { service: name() }),
            Some(app) => Ok(app),
        }
    }
}
