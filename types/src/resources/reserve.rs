//! What reservations, volumes and revocation make of resources.

use std::sync::Arc;

use super::{Entry, Name, Reservation, Resources, Terms};
use crate::Role;

impl Resources {
    /// The entries that are wanted.
    #[must_use]
    pub fn only(&self, mut wanted: impl FnMut(&Entry) -> bool) -> Resources {
        Resources { entries: self.entries.iter().filter(|entry| wanted(entry)).cloned().collect() }
    }

    /// What is kept for nobody.
    #[must_use]
    pub fn unreserved(&self) -> Resources {
        self.only(|entry| entry.role().is_none())
    }

    /// What is kept for the role or for one above it: that which only it and its likes may be offered.
    #[must_use]
    pub fn reserved_for(&self, role: &Role) -> Resources {
        self.only(|entry| entry.role().is_some_and(|kept| kept == role || role.is_below(kept)))
    }

    /// What somebody of this role may be offered: what is kept for nobody, for the role, or for one above it.
    #[must_use]
    pub fn open_to(&self, role: &Role) -> Resources {
        if self.entries.iter().all(|entry| entry.terms.is_none()) {
            return self.clone();
        }
        self.only(|entry| entry.role().is_none_or(|kept| kept == role || role.is_below(kept)))
    }

    /// What is only lent.
    #[must_use]
    pub fn revocable(&self) -> Resources {
        self.only(Entry::is_revocable)
    }

    /// Shared volumes.
    #[must_use]
    pub fn shared(&self) -> Resources {
        self.only(Entry::is_shared)
    }

    /// All but shared volumes: what one holds and no other can.
    #[must_use]
    pub fn exclusive(&self) -> Resources {
        match self.entries.iter().any(Entry::is_shared) {
            true => self.only(|entry| !entry.is_shared()),
            false => self.clone(),
        }
    }

    /// What one holds alone and for good: neither shared volumes nor what is only lent.
    #[must_use]
    pub fn firm(&self) -> Resources {
        match self.has_terms() {
            true => self.only(|entry| !entry.is_shared() && !entry.is_revocable()),
            false => self.clone(),
        }
    }

    /// True when some of it is on terms: reserved, a volume, revocable.
    pub fn has_terms(&self) -> bool {
        self.entries.iter().any(|entry| entry.terms.is_some())
    }

    /// The same amounts on no terms; volumes become the disk that they are.
    #[must_use]
    pub fn plain(&self) -> Resources {
        self.on(|_| Some(Terms::default())).expect("it is on no terms")
    }

    /// The same amounts on other terms; none when `change` has none for one of them.
    fn on(&self, mut change: impl FnMut(&Terms) -> Option<Terms>) -> Option<Resources> {
        let mut changed = Resources::new();
        for Entry { name, terms, value } in self.entries.iter() {
            let terms = change(terms.as_deref().unwrap_or(&Terms::default()))?;
            changed.insert_on(name.clone(), Some(Arc::new(terms)), value.clone());
        }
        Some(changed)
    }

    /// The same, kept by one reservation more.
    #[must_use]
    pub fn reserve(&self, reservation: &Reservation) -> Resources {
        let push = |terms: &Terms| {
            let mut terms = terms.clone();
            terms.reservations.push(reservation.clone());
            Some(terms)
        };
        self.on(push).expect("every entry can be reserved")
    }

    /// The same without the last reservation of each; none when one has no dynamic reservation to end.
    #[must_use]
    pub fn unreserve(&self) -> Option<Resources> {
        self.on(|terms| {
            let mut terms = terms.clone();
            terms.reservations.pop().filter(|last| last.dynamic.is_some())?;
            Some(terms)
        })
    }

    /// The same disk without volumes.
    #[must_use]
    pub fn without_volumes(&self) -> Resources {
        self.on(|terms| Some(Terms { volume: None, ..terms.clone() }))
            .expect("every entry can lose its volume")
    }

    /// Amounts here that make up `wanted`, which is on no terms: first those kept for the role most closely, then those kept for
    /// nobody, never volumes, never what is only lent. None when there is not enough.
    ///
    /// It is how a task that asks for plain `cpus:1` comes to use what is reserved for it.
    pub fn pick(&self, wanted: &Resources) -> Option<Resources> {
        if !self.has_terms() || wanted.has_terms() {
            return self.contains(wanted).then(|| wanted.clone());
        }
        let mut candidates: Vec<&Entry> =
            self.entries.iter().filter(|entry| entry.volume().is_none() && !entry.is_revocable()).collect();
        let depth = |entry: &Entry| entry.terms().map_or(0, |terms| terms.reservations.len());
        candidates.sort_by_key(|entry| std::cmp::Reverse(depth(entry)));
        let mut left = wanted.clone();
        let mut picked = Resources::new();
        for Entry { name, terms, value } in candidates {
            let here = Resources::of(name.clone(), value.clone());
            let rest = here.missing(&left);
            let part = rest.missing(&left);
            left = rest;
            for (name, value) in part.iter() {
                picked.insert_on(name.clone(), terms.clone(), value.clone());
            }
        }
        left.is_empty().then_some(picked)
    }

    /// Thousandths of a scalar that is kept for nobody and not lent.
    pub fn unreserved_milli(&self, name: &Name) -> i64 {
        let free = self.entries.iter().filter(|entry| entry.role().is_none() && !entry.is_revocable());
        let only = free.filter_map(|entry| match entry.value {
            super::Value::Scalar(milli) if entry.name == *name => Some(milli),
            _ => None,
        });
        only.fold(0, i64::saturating_add)
    }
}
