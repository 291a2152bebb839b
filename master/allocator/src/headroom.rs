//! What must stay free for guarantees, and what quotas may be set.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{
    Resources, Role,
    resources::{Name, Value},
};

use crate::{
    hierarchical::Hierarchical,
    quantities::Quantities,
    quota::Quota,
    room::Bounds,
    slab::{AgentKey, RoleKey},
    state::RoleState,
};

/// What is free, and what guarantees lack.
#[derive(Debug, Clone, Default)]
pub(crate) struct Headroom {
    /// How many roles have guarantees; while none has, nothing of this is kept.
    pub(crate) guarantees: usize,
    /// Unreserved scalars, lent ones apart, that are free on active agents.
    pub(crate) available: Quantities,
    /// What all guarantees lack.
    pub(crate) required: Quantities,
    /// The roles that lack something of theirs.
    pub(crate) wanting: BTreeSet<RoleKey>,
    /// It has kept free resources from somebody since it last grew.
    pub(crate) short: bool,
}

impl Headroom {
    /// What anybody may have of a kind.
    pub(crate) fn spare(&self, kind: usize) -> i64 {
        (self.available.of(kind) - self.required.of(kind)).max(0)
    }
}

impl Hierarchical {
    /// Reckons anew what a role at the top lacks of its guarantee.
    pub(crate) fn reckon(&mut self, top: RoleKey) {
        let role = &mut self.roles[top];
        if role.guarantee.is_none() && role.unmet.is_zero() {
            return;
        }
        let unmet = role.lacks();
        self.headroom.required.subtract(&role.unmet);
        self.headroom.required.add(&unmet);
        match unmet.is_zero() {
            true => self.headroom.wanting.remove(&top),
            false => self.headroom.wanting.insert(top),
        };
        role.unmet = unmet;
    }

    /// What of an agent is available to whoever has room for it.
    pub(crate) fn available_on(&self, key: AgentKey) -> Quantities {
        let agent = &self.agents[key];
        let free = agent.free.as_ref().filter(|_| agent.is_active());
        free.map_or_else(Quantities::default, |free| free.plain().clone())
    }

    /// More may be left to those whom the guarantees of others kept from something: every agent with something to offer becomes a
    /// candidate.
    pub(crate) fn headroom_grew(&mut self) {
        if std::mem::take(&mut self.headroom.short) {
            self.candidates.extend_from(&self.allocatable);
        }
    }

    /// A role, and those above it, may have room for more: when that was what kept resources from somebody, every agent with
    /// something to offer becomes a candidate.
    pub(crate) fn room_grew(&mut self, role: RoleKey) {
        if !self.roles[role].limited {
            return;
        }
        let mut at = Some(role);
        while let Some(key) = at {
            if std::mem::take(&mut self.roles[key].short) {
                self.candidates.extend_from(&self.allocatable);
            }
            at = self.roles[key].parent;
        }
    }

    pub(crate) fn change_quota(&mut self, name: &Role, quota: Quota) {
        let key = self.role_or_new(name);
        let kinds = &mut self.measure.kinds;
        let guarantee = Bounds::guarantee(kinds, &quota.guarantee).filter(|_| name.parent().is_none());
        self.roles[key].limit = quota.limit.as_ref().map(|limit| Bounds::limit(kinds, limit));
        match quota == Quota::default() {
            true => self.quotas.remove(name),
            false => self.quotas.insert(name.clone(), quota),
        };
        let before = self.headroom.guarantees;
        self.headroom.guarantees -= usize::from(self.roles[key].guarantee.is_some());
        self.headroom.guarantees += usize::from(guarantee.is_some());
        self.roles[key].guarantee = guarantee;
        if before == 0 && self.headroom.guarantees > 0 {
            self.headroom.available = self.count_available();
        }
        self.reckon(key);
        self.mark_limited(key);
        // What it had kept from others, or others from it.
        if self.roles.iter().any(|(_, role)| role.short) {
            for (_, role) in self.roles.iter_mut() {
                role.short = false;
            }
            self.candidates.extend_from(&self.allocatable);
        }
        self.headroom_grew();
        self.prune_role(key);
    }

    pub(crate) fn count_available(&self) -> Quantities {
        let mut available = Quantities::default();
        for (key, _) in self.agents.iter() {
            available.add(&self.available_on(key));
        }
        available
    }

    /// Has a role and those below it know whether a limit is on their path.
    fn mark_limited(&mut self, key: RoleKey) {
        let below = self.roles[key].name.clone();
        let keys: Vec<RoleKey> = match self.roles[key].children {
            0 => vec![key],
            _ => {
                let within = |role: &RoleState| role.name == below || role.name.is_below(&below);
                self.roles.iter().filter(|(_, role)| within(role)).map(|(key, _)| key).collect()
            }
        };
        for key in keys {
            let limited = self.path(key).any(|(_, role)| role.limit.is_some());
            self.roles[key].limited = limited;
        }
    }

    pub(crate) fn judge(
        &self,
        quotas: &BTreeMap<Role, Quota>,
        offered: &BTreeMap<Role, Resources>,
    ) -> Result<(), String> {
        for (role, quota) in quotas {
            let below = offered.iter().filter(|(of, _)| *of == role || of.is_below(role));
            let offered: Resources = below.map(|(_, offered)| offered).sum();
            self.judge_one(role, quota, &offered)?;
        }
        let mut together = self.quotas.clone();
        together.extend(quotas.iter().map(|(role, quota)| (role.clone(), quota.clone())));
        let sum: Resources = together.values().map(|quota| &quota.guarantee).sum();
        let capacity: Resources = self.agents.iter().map(|(_, agent)| agent.total.summable()).fold(
            Resources::new(),
            |mut sum, total| {
                sum += &total;
                sum
            },
        );
        let lacks = sum.scalars().find(|(name, milli)| capacity.milli(name) < *milli);
        if let Some((name, milli)) = lacks {
            return Err(format!(
                "the guarantees of all roles together are {} of {name}, and the cluster has {}; lower one, or add agents",
                Value::Scalar(milli),
                Value::Scalar(capacity.milli(name)),
            ));
        }
        Ok(())
    }

    fn judge_one(
        &self,
        role: &Role,
        Quota { guarantee, limit }: &Quota,
        offered: &Resources,
    ) -> Result<(), String> {
        if guarantee.has_terms() || guarantee.scalars().count() != guarantee.entries().len() {
            return Err(format!(
                "role {role} cannot be guaranteed `{guarantee}`: name scalars on no terms, such as `cpus:4;mem:1024`"
            ));
        }
        if !guarantee.is_empty() && role.parent().is_some() {
            let top = role.top();
            return Err(format!(
                "role {role} cannot be guaranteed anything, for it is not at the top of the tree; guarantee it to role {top}"
            ));
        }
        for (name, most) in limit.iter().flat_map(|limit| limit.iter()) {
            let (least, has) =
                (guarantee.milli(name), self.consumes(role, name) - offered.unreserved_milli(name));
            let show = Value::Scalar;
            if most < least {
                return Err(format!(
                    "the limit of role {role}, {name}:{}, is below its guarantee, {name}:{}; raise the limit or lower the guarantee",
                    show(most),
                    show(least),
                ));
            }
            if most < has {
                return Err(format!(
                    "role {role} consumes {name}:{} already, more than the limit {name}:{}; raise the limit, or force it",
                    show(has),
                    show(most),
                ));
            }
        }
        Ok(())
    }

    /// What a role consumes of a scalar.
    fn consumes(&self, role: &Role, name: &Name) -> i64 {
        let role = self.role_keys.find(role).map(|key| &self.roles[key]);
        role.zip(self.measure.kinds.find(name)).map_or(0, |(role, kind)| role.consumed(kind))
    }

    /// What a role consumes above its limit.
    pub(crate) fn excess_of(&self, role: &Role) -> Resources {
        let limit = self.quotas.get(role).and_then(|quota| quota.limit.as_ref());
        let mut excess = Resources::new();
        for (name, most) in limit.iter().flat_map(|limit| limit.iter()) {
            excess += &Resources::scalar(name.clone(), self.consumes(role, name).saturating_sub(most));
        }
        excess
    }

    /// What is not free, and lacks to guarantees of roles with somebody who may be given something.
    pub(crate) fn shortage(&self) -> Resources {
        let mut lacks = Quantities::default();
        for &key in &self.headroom.wanting {
            if self.roles[key].eligible > 0 {
                lacks.add(&self.roles[key].unmet);
            }
        }
        let kinds = lacks.clone();
        for (kind, milli) in kinds.iter() {
            lacks.put(kind, (milli - self.headroom.available.of(kind)).max(0));
        }
        self.measure.kinds.resources(&lacks)
    }
}

impl RoleState {
    /// What it lacks of its guarantee.
    pub(crate) fn lacks(&self) -> Quantities {
        let mut lacks = Quantities::default();
        for (kind, least) in self.guarantee.iter().flat_map(Bounds::iter) {
            lacks.put(kind, least.saturating_sub(self.consumed(kind)).max(0));
        }
        lacks
    }
}
