//! Making reservations and volumes of what is offered.

use std::{collections::BTreeMap, sync::Arc};

use apportion_types::{
    AgentId, Operation, OperationId, Resources,
    ids::VolumeId,
    limits,
    protocol::scheduler::OfferOperation,
    resources::{Dynamic, Entry, Name, PersistentVolume, Reservation, Terms, Value},
};

use super::{Offer, bytes, fit};

/// Resources were not converted; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CannotConvert {
    /// What is to be converted is not left in the offer.
    #[error("cannot {operation} on agent `{agent_id}`: `{missing}` is missing")]
    Missing {
        /// What was asked for.
        operation: Box<Operation>,
        /// Whose offer.
        agent_id: AgentId,
        /// What is not there, on the terms asked for.
        missing: Box<Resources>,
    },
    /// It makes no sense, whatever is offered.
    #[error("cannot {operation} on agent `{agent_id}`: {why}")]
    Invalid {
        /// What was asked for.
        operation: &'static str,
        /// Whose offer.
        agent_id: AgentId,
        /// What is wrong with it, and the remedy.
        why: String,
    },
    /// No piece of reserved disk is large enough for a volume.
    #[error(
        "volume `{volume_id}` of {mib} MiB does not fit in what is left of agent `{agent_id}`: the largest piece of reserved disk is \
         {largest_mib} MiB; reserve some first"
    )]
    NoDisk {
        /// The volume.
        volume_id: VolumeId,
        /// Whose offer.
        agent_id: AgentId,
        /// How much it needs.
        mib: u64,
        /// How much the largest piece is, rounded down.
        largest_mib: u64,
    },
    /// The offer does not hold the volume, or it was resized in it already.
    #[error("volume `{volume_id}` is not in what is left of agent `{agent_id}`")]
    NoVolume {
        /// The volume.
        volume_id: VolumeId,
        /// Whose offer.
        agent_id: AgentId,
    },
    /// A volume of this id is there already.
    #[error("volume `{volume_id}` is on agent `{agent_id}` already; give the new one another id")]
    VolumeExists {
        /// The volume.
        volume_id: VolumeId,
        /// Whose offer.
        agent_id: AgentId,
    },
    /// The accept can carry no further step.
    #[error(
        "the accept on agent `{agent_id}` can carry no more operations; drop the offer, what is left of it is offered again"
    )]
    Full {
        /// Whose offer.
        agent_id: AgentId,
    },
}

/// What an operation will make. It is placed on the offer already; to drop this changes nothing.
#[derive(Debug)]
pub struct Made<'a> {
    id: &'a mut Option<OperationId>,
    produced: Resources,
}

impl Made<'_> {
    /// Has what becomes of it told to [`operation`](crate::Scheduler::operation), by this id: unique among the framework's operations
    /// that are not acknowledged.
    pub fn named(self, id: OperationId) -> Self {
        *self.id = Some(id);
        self
    }

    /// What it makes, on its terms: may be used at once by what is placed on the offer after it, unless a volume was resized.
    pub fn produced(self) -> Resources {
        self.produced
    }
}

/// Operations are done in the order in which they are placed, tasks among them. Each is judged at once against what is left, and
/// again by the master; where the agent cannot do one, it says so ([`Made::named`]) and the master's books follow.
impl Offer {
    /// Keeps resources for the offer's role and those below it: from now on nobody else is offered them, over restarts of everybody.
    ///
    /// They are named as they are now. Those that are reserved already, for a role above, become reserved further. Reservations that
    /// differ in their labels do not mix.
    ///
    /// ```
    /// # use apportion_sdk::{Offer, OperationId, Task, resources::PersistentVolume, ids::VolumeId, testing};
    /// # let mut offer: Offer = testing::offer("eng", "agent-1", "cpus:2;mem:64;disk:500");
    /// offer.reserve(&"cpus:1;disk:200".parse()?, [("for", "db")])?.named(OperationId::new("keep-db")?);
    /// let volume = PersistentVolume { id: VolumeId::new("db")?, path: "data".to_owned(), shared: false };
    /// let volume = offer.create_volume(volume, 100)?.produced();
    /// offer.launch(Task::new("db").command(["db"]).cpus(1.0).resources(&volume).build()?)?;
    /// let needs = &offer.placed().next().expect("one is placed").resources;
    /// assert_eq!(needs.to_string(), "cpus(+eng@test?for=db):1;disk(+eng@test?for=db)[db=data]:100");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reserve<K: Into<String>, V: Into<String>>(
        &mut self,
        resources: &Resources,
        labels: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Made<'_>, CannotConvert> {
        let labels: BTreeMap<String, String> =
            labels.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let dynamic = Dynamic { principal: self.answers.principal().to_owned(), labels };
        let reservation = Reservation { role: self.role.clone(), dynamic: Some(dynamic) };
        self.apply(Operation::Reserve { resources: resources.reserve(&reservation) })
    }

    /// Ends the last reservation of resources, which are named as they are now.
    pub fn unreserve(&mut self, resources: &Resources) -> Result<Made<'_>, CannotConvert> {
        self.apply(Operation::Unreserve { resources: resources.clone() })
    }

    /// Makes a volume of reserved disk, of the closest reservation that has so much: it outlives the tasks that use it, and is offered
    /// with its agent.
    pub fn create_volume(&mut self, volume: PersistentVolume, mib: u64) -> Result<Made<'_>, CannotConvert> {
        let milli = self.milli("create", mib)?;
        let Some(entry) = fit::reserved(&self.left, &Name::Disk, milli) else {
            let mut largest = 0;
            while let Some(entry) = fit::reserved(&self.left, &Name::Disk, largest + 1) {
                let Value::Scalar(milli) = entry.value() else { break };
                largest = *milli;
            }
            let largest_mib = u64::try_from(largest / 1000).unwrap_or(0);
            let (volume_id, agent_id) = (volume.id, self.agent_id.clone());
            return Err(CannotConvert::NoDisk { volume_id, agent_id, mib, largest_mib });
        };
        let terms = entry.terms().cloned().unwrap_or_default();
        let volumes = disk(Terms { volume: Some(volume), ..terms }, milli);
        self.apply(Operation::Create { volumes })
    }

    /// Ends a volume; what is stored in it is deleted. Its disk stays reserved.
    pub fn destroy(&mut self, volume: &VolumeId) -> Result<Made<'_>, CannotConvert> {
        let volumes = self.volume(volume)?.1;
        self.apply(Operation::Destroy { volumes })
    }

    /// Adds disk of its own reservation to a volume, which cannot be used by what follows on this offer.
    pub fn grow(&mut self, volume: &VolumeId, mib: u64) -> Result<Made<'_>, CannotConvert> {
        let milli = self.milli("grow", mib)?;
        let (terms, volume) = self.volume(volume)?;
        let addition = disk(Terms { volume: None, ..terms }, milli);
        self.apply(Operation::Grow { volume, addition })
    }

    /// Takes disk from a volume. Neither the volume nor the disk can be used by what follows on this offer.
    pub fn shrink(&mut self, volume: &VolumeId, mib: u64) -> Result<Made<'_>, CannotConvert> {
        let subtract_milli = self.milli("shrink", mib)?;
        let (_, volume) = self.volume(volume)?;
        self.apply(Operation::Shrink { volume, subtract_milli })
    }

    /// Places any operation.
    pub fn apply(&mut self, operation: Operation) -> Result<Made<'_>, CannotConvert> {
        let agent_id = self.agent_id.clone();
        let conversion = match operation.conversion() {
            Ok(conversion) => conversion,
            Err(why) => return Err(CannotConvert::Invalid { operation: operation.name(), agent_id, why }),
        };
        let missing = self.left.missing(&conversion.consumed);
        if !missing.is_empty() {
            let (operation, missing) = (Box::new(operation), Box::new(missing));
            return Err(CannotConvert::Missing { operation, agent_id, missing });
        }
        let bytes = 128 + bytes::of_terms(&conversion.consumed) + bytes::of_terms(&conversion.produced);
        if !self.has_room(bytes) {
            self.refuse.get_or_insert(std::time::Duration::ZERO);
            return Err(CannotConvert::Full { agent_id });
        }
        let Some(left) = conversion.apply(&self.left) else {
            let volume = conversion.produced.entries().find_map(Entry::volume);
            let volume_id = volume.expect("only volumes are there twice").id.clone();
            return Err(CannotConvert::VolumeExists { volume_id, agent_id });
        };
        if operation.is_usable_at_once() {
            self.left = left;
        } else {
            self.left.saturating_sub(&conversion.consumed);
        }
        self.bytes += bytes;
        self.steps.push(OfferOperation::Convert { id: None, operation });
        match self.steps.last_mut() {
            Some(OfferOperation::Convert { id, .. }) => Ok(Made { id, produced: conversion.produced }),
            _ => unreachable!("it was pushed just now"),
        }
    }

    /// A volume that is left, with its terms.
    fn volume(&self, id: &VolumeId) -> Result<(Terms, Resources), CannotConvert> {
        let found = self.left.entries().find(|entry| entry.volume().is_some_and(|volume| volume.id == *id));
        let terms = found.and_then(Entry::terms).cloned();
        let terms = terms.ok_or_else(|| CannotConvert::NoVolume {
            volume_id: id.clone(),
            agent_id: self.agent_id.clone(),
        })?;
        let volume = self.left.only(|entry| entry.terms() == Some(&terms));
        Ok((terms, volume))
    }

    fn milli(&self, operation: &'static str, mib: u64) -> Result<i64, CannotConvert> {
        let milli = i64::try_from(mib).ok().and_then(|mib| mib.checked_mul(1000));
        milli.filter(|milli| (1..=limits::SCALAR_MILLI_MAX).contains(milli)).ok_or_else(|| {
            let most = limits::SCALAR_MILLI_MAX / 1000;
            let why = format!("{mib} MiB is not an amount of disk; use a number from 1 to {most}");
            CannotConvert::Invalid { operation, agent_id: self.agent_id.clone(), why }
        })
    }
}

fn disk(terms: Terms, milli: i64) -> Resources {
    let mut disk = Resources::new();
    disk.insert_on(Name::Disk, Some(Arc::new(terms)), Value::Scalar(milli));
    disk
}
