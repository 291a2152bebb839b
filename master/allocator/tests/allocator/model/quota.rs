//! What roles are sure of, what they may have at most, and what they have.

use std::collections::BTreeMap;

use apportion_allocator::Quota;
use apportion_types::{
    Resources, Role,
    resources::{Entry, Name},
};

use super::{Model, order::is_within};

/// The scalars of the entries that are wanted, on no terms.
fn scalars(resources: &Resources, wanted: impl Fn(&Entry) -> bool) -> Resources {
    resources.only(wanted).plain().summable()
}

/// What quotas are about: unreserved, and not only lent.
fn is_quotable(entry: &Entry) -> bool {
    entry.role().is_none() && !entry.is_revocable()
}

impl Model {
    /// What a role consumes: what is allocated in its subtree of what quotas are about, and all that is reserved for it.
    pub(super) fn consumed(&self, role: &Role) -> Resources {
        let allocated = self.allocated.iter().filter(|((_, known, _), _)| is_within(known, role));
        let allocated = allocated.map(|(_, resources)| scalars(resources, is_quotable));
        let kept = |entry: &Entry| entry.role().is_some_and(|kept| is_within(kept, role));
        let reserved = self.agents.values().map(|agent| scalars(&agent.total, kept));
        let mut consumed = Resources::new();
        allocated.chain(reserved).for_each(|part| consumed += &part);
        consumed
    }

    /// What agents that are expected have of a scalar.
    fn expected_milli(&self, name: &Name) -> i64 {
        self.expected.values().map(|total| scalars(total, |_| true).milli(name)).sum()
    }

    /// What a role at the top of the tree lacks of its guarantee.
    pub(super) fn lacks(&self, top: &Role) -> Resources {
        match self.config.quotas.get(top).filter(|_| top.parent().is_none()) {
            Some(quota) => self.consumed(top).missing(&quota.guarantee),
            None => Resources::new(),
        }
    }

    /// What is free, of what quotas are about, on all active agents.
    fn free_quotable(&self) -> Resources {
        let active = self.agents.iter().filter(|(_, agent)| agent.active);
        let mut free = Resources::new();
        active.for_each(|(id, _)| free += &scalars(&self.free_on(id), is_quotable));
        free
    }

    fn all_lack(&self, of: impl Fn(&Role) -> bool) -> Resources {
        let mut all = Resources::new();
        self.config.quotas.keys().filter(|role| of(role)).for_each(|role| all += &self.lacks(role));
        all
    }

    /// The most of a scalar that quotas let a role be given now.
    pub(super) fn allowed(&self, role: &Role, name: &Name) -> i64 {
        let headroom = (self.free_quotable().milli(name) - self.all_lack(|_| true).milli(name)).max(0);
        let mut most = self.lacks(&role.top()).milli(name).saturating_add(headroom);
        let mut at = Some(role.clone());
        while let Some(role) = at {
            let quota = self.config.quotas.get(&role);
            let limits = quota.and_then(|quota| quota.limit.as_ref());
            for (_, limit) in limits.iter().flat_map(|limit| limit.iter()).filter(|(of, _)| *of == name) {
                most =
                    most.min((limit - self.consumed(&role).milli(name) - self.expected_milli(name)).max(0));
            }
            at = role.parent();
        }
        most
    }

    /// A part of what is open to a role, as quotas let it have it.
    pub(super) fn within_quotas(&self, role: &Role, open: &Resources) -> Resources {
        let mut part = open.clone();
        for (name, milli) in scalars(open, is_quotable).scalars() {
            let excess = milli - self.allowed(role, name).min(milli);
            part.saturating_sub(&Resources::scalar(name.clone(), excess));
        }
        part
    }

    /// Something of what is free is of use for the guarantee of the role's top.
    pub(super) fn helps(&self, role: &Role, free: &Resources) -> bool {
        let lacks = self.lacks(&role.top());
        lacks.scalars().any(|(name, _)| free.unreserved_milli(name) > 0)
    }

    pub(super) fn above_limit(&self, role: &Role) -> Resources {
        let mut above = Resources::new();
        let limit = self.config.quotas.get(role).and_then(|quota| quota.limit.as_ref());
        for (name, most) in limit.iter().flat_map(|limit| limit.iter()) {
            above += &Resources::scalar(name.clone(), self.consumed(role).milli(name) - most);
        }
        above
    }

    pub(super) fn short(&self) -> Resources {
        let somebody =
            |top: &Role| self.clients().iter().any(|(role, f)| is_within(role, top) && self.wants(f, role));
        self.free_quotable().missing(&self.all_lack(somebody))
    }

    pub(super) fn judge(
        &self,
        quotas: &BTreeMap<Role, Quota>,
        offered: &BTreeMap<Role, Resources>,
    ) -> Result<(), String> {
        let mut all = self.config.quotas.clone();
        all.extend(quotas.clone());
        let mut then = self.clone();
        then.config.quotas.clone_from(&all);
        for (role, quota) in quotas {
            for (name, most) in quota.limit.iter().flat_map(|limit| limit.iter()) {
                if most < quota.guarantee.milli(name) {
                    return Err(format!("{role}: less than its guarantee"));
                }
            }
            if role.parent().is_some() && !quota.guarantee.is_empty() {
                return Err(format!("{role}: not at the top"));
            }
            let mut above = then.above_limit(role);
            for (of, offered) in offered {
                if of == role || of.is_below(role) {
                    above.saturating_sub(&offered.unreserved());
                }
            }
            if !above.is_empty() {
                return Err(format!("{role}: it has more"));
            }
        }
        let mut capacity = Resources::new();
        self.agents.values().for_each(|agent| capacity += &agent.total.plain());
        let sum: Resources = all.values().map(|quota| &quota.guarantee).sum();
        if !capacity.contains(&sum) {
            return Err("more than there is".to_owned());
        }
        Ok(())
    }
}
