//! What quota limits and the guarantees of others leave of what is free on an agent.

use apportion_types::Resources;
use smallvec::SmallVec;

use crate::{
    amount::{Amount, Measure, holds},
    hierarchical::Hierarchical,
    quantities::{Kinds, Quantities},
    quota_limit::QuotaLimit,
    slab::RoleKey,
    state::RoleState,
};

/// Amounts of some kinds in thousandths, zero among them: what a quota says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bounds(SmallVec<[(usize, i64); 4]>);

impl Bounds {
    pub(crate) fn limit(kinds: &mut Kinds, limit: &QuotaLimit) -> Self {
        Self(limit.iter().map(|(name, milli)| (kinds.number(name), milli)).collect())
    }

    /// None of nothing.
    pub(crate) fn guarantee(kinds: &mut Kinds, guarantee: &Resources) -> Option<Self> {
        let bounds: SmallVec<_> =
            guarantee.scalars().map(|(name, milli)| (kinds.number(name), milli)).collect();
        (!bounds.is_empty()).then_some(Self(bounds))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, i64)> + '_ {
        self.0.iter().copied()
    }
}

/// What keeps part of an amount from a role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    /// A limit on its path.
    pub(crate) by_limit: bool,
    /// The guarantees of others.
    pub(crate) by_headroom: bool,
}

/// What quotas leave of an amount.
#[derive(Debug, Clone)]
pub(crate) struct Fit {
    /// None when it is the whole, or when nothing of use is left.
    pub(crate) part: Option<Amount>,
    /// What is left is of use.
    pub(crate) useful: bool,
    pub(crate) kept: Kept,
}

impl Fit {
    const WHOLE: Fit = Fit { part: None, useful: true, kept: Kept { by_limit: false, by_headroom: false } };
}

impl Hierarchical {
    /// The role and those above it, upwards.
    pub(crate) fn path(&self, role: RoleKey) -> impl Iterator<Item = (RoleKey, &RoleState)> {
        std::iter::successors(Some(role), |key| self.roles[*key].parent).map(|key| (key, &self.roles[key]))
    }

    pub(crate) fn top_of(&self, role: RoleKey) -> RoleKey {
        self.path(role).last().expect("a path begins with its role").0
    }

    /// What of `plain` the limits leave no room for in the role.
    pub(crate) fn over_limits(&self, role: RoleKey, plain: &Quantities) -> Quantities {
        let mut excess = Quantities::default();
        for (key, role) in self.path(role) {
            for bound in role.limit.iter().flat_map(Bounds::iter) {
                let over = plain.of(bound.0) - self.room(key, bound);
                if over > excess.of(bound.0) {
                    excess.put(bound.0, over);
                }
            }
        }
        excess
    }

    /// What of `plain` the role may not have for the guarantees of others.
    pub(crate) fn over_headroom(&self, role: RoleKey, plain: &Quantities) -> Quantities {
        let mut excess = Quantities::default();
        if !self.headroom.required.is_zero() {
            let top = &self.roles[self.top_of(role)];
            for (kind, milli) in plain.iter() {
                if self.headroom.required.of(kind) > 0 {
                    let over = milli - top.unmet.of(kind).saturating_add(self.headroom.spare(kind));
                    if over > 0 {
                        excess.put(kind, over);
                    }
                }
            }
        }
        excess
    }

    /// What quotas leave the role of an amount that holds one of the minimums.
    ///
    /// What is left must hold each minimum that the whole holds: a role with no cpus left would else hold, and refuse, the
    /// memory of every agent again and again.
    pub(crate) fn fit(&self, role: RoleKey, whole: &Amount, minimums: &[Resources]) -> Fit {
        if !self.roles[role].limited && self.headroom.required.is_zero() {
            return Fit::WHOLE;
        }
        let mut excess = self.over_limits(role, whole.plain());
        let guarded = self.over_headroom(role, whole.plain());
        let kept = Kept { by_limit: !excess.is_zero(), by_headroom: !guarded.is_zero() };
        if kept == Kept::default() {
            return Fit::WHOLE;
        }
        excess.raise(&guarded);
        let useful = self.measure.is_useful(whole, &excess, minimums);
        let part = useful.then(|| self.measure.without(whole, &excess));
        Fit { part, useful, kept }
    }
}

impl Measure {
    /// What is left of an amount without some of its plain scalars.
    pub(crate) fn without(&self, whole: &Amount, excess: &Quantities) -> Amount {
        let mut part = Resources::clone(whole);
        part.saturating_sub(&self.kinds.resources(excess));
        self.amount(part)
    }

    /// True when what is left without some of its plain scalars holds each minimum that the whole holds, and is something.
    pub(crate) fn is_useful(&self, whole: &Amount, excess: &Quantities, minimums: &[Resources]) -> bool {
        let falls_short = |min: &Resources| {
            let short = |(name, milli)| {
                let kept = self.kinds.find(name).map_or(0, |kind| excess.of(kind));
                kept > 0 && whole.milli(name) - kept < milli
            };
            min.scalars().any(short) && holds(whole, min)
        };
        let is_nothing = || {
            let all_plain = whole.entries().all(|entry| entry.terms().is_none());
            let scalars = whole.scalars().count() == whole.entries().len();
            all_plain && scalars && whole.plain().iter().all(|(kind, milli)| excess.of(kind) >= milli)
        };
        !minimums.iter().any(falls_short) && !is_nothing()
    }
}
