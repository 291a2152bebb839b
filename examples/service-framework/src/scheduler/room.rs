//! Where replicas go: which of the offers at hand takes the next one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use apportion_sdk::{
    AgentId, DeclineReason, Offer, Resources, Time,
    placement::{self, Machine, Packing, Running, WorstFit},
};

use crate::{
    spec::Spec,
    state::{Services, Spot},
};

/// How long before its machine is taken away nothing is placed on an agent any more.
const WINDOW_NEAR: Duration = Duration::from_secs(3600);

/// Offers while replicas are planned on them: nothing is launched yet, so what is left is counted here.
pub(super) struct Room<'a> {
    offers: &'a mut [Offer],
    left: Vec<Resources>,
    /// Replicas of a service on an agent.
    loads: BTreeMap<(String, AgentId), usize>,
    /// What runs where, for services that have rules about it.
    neighbours: Running,
    now: Time,
}

impl<'a> Room<'a> {
    /// The room that offers have beside what runs.
    pub(super) fn new(offers: &'a mut [Offer], services: &Services, now: Time) -> Self {
        let left = offers.iter().map(Offer::usable).collect();
        Self { offers, left, loads: services.loads(), neighbours: services.neighbours(), now }
    }

    /// Where a task is that is launched on an offer.
    pub(super) fn spot(&self, index: usize, ports: Vec<u16>) -> Spot {
        let offer = &self.offers[index];
        Spot { agent_id: offer.agent_id().clone(), place: Arc::clone(offer.place()), ports }
    }

    /// The offer for the next replica: of those in which it fits, on the agent with the fewest of its service, so that losing
    /// one agent costs the least. Of equals the one with the most left, and then the first.
    ///
    /// An agent whose machine is to be taken away is the last choice, and none at all when that is near.
    fn choose(
        &self,
        spec: &Spec,
        needs: &Resources,
        services: &Services,
        without: &BTreeSet<usize>,
    ) -> Option<usize> {
        let usable = |index: &usize| {
            let offer = &self.offers[*index];
            offer.role().as_str() == spec.role
                && !without.contains(index)
                && self.left[*index].contains(needs)
                && !services.leaves(offer.agent_id())
                && placement::ends_in_time(offer, self.now, Some(WINDOW_NEAR))
        };
        let usable: Vec<usize> = (0..self.offers.len()).filter(usable).collect();
        if !spec.placement.is_empty() {
            return self.choose_by_rules(spec, &usable);
        }
        usable.into_iter().min_by_key(|&index| {
            let offer = &self.offers[index];
            let load =
                self.loads.get(&(spec.name.clone(), offer.agent_id().clone())).copied().unwrap_or_default();
            let leaves = offer.unavailability().is_some();
            (leaves, load, std::cmp::Reverse((self.left[index].cpus_milli(), self.left[index].mem_milli())))
        })
    }

    /// The same for a service that has rules, by which the SDK chooses. Places that only agents have that are of no use now count all the same,
    /// lest a spread forget them.
    fn choose_by_rules(&self, spec: &Spec, usable: &[usize]) -> Option<usize> {
        let machine =
            |(offer, left): (&Offer, &Resources)| Machine { free: left.clone(), ..Machine::from(offer) };
        let machines = self.offers.iter().zip(&self.left).map(machine);
        let mut packing = Packing::new(machines).beside(self.neighbours.clone());
        let unusable = (0..self.offers.len()).filter(|index| !usable.contains(index));
        unusable.for_each(|index| packing.close(index));
        let demand = spec.demand();
        let mut stays = packing.clone();
        let leaving = usable.iter().filter(|index| self.offers[**index].unavailability().is_some());
        leaving.for_each(|index| stays.close(*index));
        stays.choose(&demand, &WorstFit).or_else(|| packing.choose(&demand, &WorstFit))
    }

    /// Takes the room for one replica, if there is any: on which offer, with which ports.
    pub(super) fn take(
        &mut self,
        spec: &Spec,
        needs: &Resources,
        services: &Services,
    ) -> Option<(usize, Vec<u16>)> {
        let mut without = BTreeSet::new();
        loop {
            let index = self.choose(spec, needs, services, &without)?;
            let Some(ports) = self.offers[index].take_ports(spec.ports) else {
                // It has no more ports.
                without.insert(index);
                continue;
            };
            self.left[index].saturating_sub(needs);
            let offer = &self.offers[index];
            self.neighbours.add([spec.name.as_str()], offer.agent_id(), offer.place());
            *self.loads.entry((spec.name.clone(), self.offers[index].agent_id().clone())).or_default() += 1;
            return Some((index, ports));
        }
    }
}

/// Why nothing that waits goes on what is left of an offer.
pub(super) fn refusal(offer: &Offer, waiting: &[Arc<Spec>]) -> DeclineReason {
    let mut reason = DeclineReason::NO_WORK;
    for spec in waiting.iter().filter(|spec| offer.role().as_str() == spec.role) {
        if let Some(rule) = spec.shut_out(offer.place()) {
            reason = DeclineReason::CONSTRAINT.with(rule.to_string());
        } else if !offer.missing(&spec.needs()).is_empty() {
            // Of several reasons the one that may pass by itself.
            return DeclineReason::TOO_SMALL;
        } else if !spec.placement.is_empty() {
            return DeclineReason::SPREAD;
        } else {
            return DeclineReason::TOO_SMALL.with("ports");
        }
    }
    reason
}
