//! What the agent has, what of it tasks hold, and what it lends.

use std::sync::Arc;

use apportion_types::{
    Resources,
    operation::Conversion,
    resources::{Entry, Terms},
};

/// What the agent has, and how much of it is taken.
#[derive(Debug)]
pub(crate) struct Pool {
    /// The settings, as operations have changed them. Nothing of it is lent.
    pub(crate) total: Resources,
    /// What of it tasks that have not ended do not hold. Shared volumes are always in here: nobody holds one alone.
    pub(crate) free: Resources,
    /// What can be lent, by the last estimate; none before the first.
    pub(crate) lent: Option<Resources>,
    /// What tasks that have not ended hold of what is lent.
    pub(crate) borrowed: Resources,
}

/// Why a task cannot have what it is to use.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// The agent has not got this, whoever holds the rest.
    Unknown(Resources),
    /// Other tasks hold this.
    Taken(Resources),
    /// So much less can be lent than was thought.
    Lent(Resources),
}

/// Why a conversion cannot be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It was made for other resources than are there, or than are free.
    Stale(String),
    /// Nobody could be told what it makes.
    TooMuch(String),
}

impl Pool {
    /// All of it free, nothing lent.
    pub(crate) fn new(total: Resources) -> Self {
        Self { free: total.clone(), total, lent: None, borrowed: Resources::new() }
    }

    /// Takes what a task is to use, all or nothing.
    pub(crate) fn take(&mut self, wanted: &Resources) -> Result<(), Lack> {
        let lent = wanted.revocable();
        let unknown = self.total.missing(&wanted.only(|entry| !entry.is_revocable()));
        if !unknown.is_empty() {
            return Err(Lack::Unknown(unknown));
        }
        let mut left = self.lent.clone().unwrap_or_default();
        left.saturating_sub(&self.borrowed);
        let lacking = left.missing(&lent);
        if !lacking.is_empty() {
            return Err(Lack::Lent(lacking));
        }
        self.take_firm(wanted)?;
        self.borrowed += &lent;
        Ok(())
    }

    /// Takes what a task of an earlier process holds; what it was lent was lent to it.
    pub(crate) fn take_back(&mut self, held: &Resources) -> Result<(), Lack> {
        let unknown = self.total.missing(&held.shared());
        if !unknown.is_empty() {
            return Err(Lack::Unknown(unknown));
        }
        self.take_firm(held)?;
        self.borrowed += &held.revocable();
        Ok(())
    }

    fn take_firm(&mut self, wanted: &Resources) -> Result<(), Lack> {
        let firm = wanted.firm();
        self.free = self.free.checked_sub(&firm).ok_or_else(|| Lack::Taken(self.free.missing(&firm)))?;
        Ok(())
    }

    /// Frees what a task held.
    pub(crate) fn give_back(&mut self, held: &Resources) {
        self.free += &held.firm();
        self.borrowed = self
            .borrowed
            .checked_sub(&held.revocable())
            .expect("what was lent was counted when it was taken");
    }

    /// Changes the total, or nothing.
    pub(crate) fn convert(&mut self, conversion: &Conversion) -> Result<(), Unfit> {
        let consumed = &conversion.consumed;
        let total = conversion.apply(&self.total).ok_or_else(|| {
            let missing = self.total.missing(consumed);
            Unfit::Stale(match missing.is_empty() {
                true => "a volume of that id and role is there already".to_owned(),
                false => format!("the agent has not {missing} of what it was to change"),
            })
        })?;
        let free = conversion.apply(&self.free).ok_or_else(|| {
            Unfit::Stale(format!("tasks hold {} of what it was to change", self.free.missing(consumed)))
        })?;
        if let Some(error) = total.too_much() {
            return Err(Unfit::TooMuch(format!("the agent's resources would be in too many parts: {error}")));
        }
        (self.total, self.free) = (total, free);
        Ok(())
    }
}

/// True for what only an operation makes: volumes, and what is reserved but in the settings.
pub(crate) fn is_made(entry: &Entry) -> bool {
    let dynamic = |terms: &Terms| terms.reservations.iter().any(|reservation| reservation.dynamic.is_some());
    entry.volume().is_some() || entry.terms().is_some_and(dynamic)
}

/// What the settings must hold for these to be made of it: the same without volumes and without what operations have reserved.
pub(crate) fn unmade(resources: &Resources) -> Resources {
    let mut unmade = Resources::new();
    for entry in resources.entries() {
        let terms = entry.terms().map(|terms| {
            let fixed = terms.reservations.iter().filter(|reservation| reservation.dynamic.is_none());
            Arc::new(Terms { reservations: fixed.cloned().collect(), volume: None, ..terms.clone() })
        });
        unmade.insert_on(entry.name().clone(), terms, entry.value().clone());
    }
    unmade
}

#[cfg(test)]
mod tests {
    use apportion_types::limits;

    use super::*;

    fn resources(text: &str) -> Resources {
        text.parse().unwrap()
    }

    #[test]
    fn what_operations_made_goes_back_to_the_settings_it_was_made_of() {
        let total = resources(
            "cpus:1;cpus(+eng):2;cpus(eng,+eng/ads@ann):3;disk(+eng)[data=data]:5;disk(eng)[logs=logs shared]:7",
        );
        assert_eq!(unmade(&total), resources("cpus:3;cpus(eng):3;disk:5;disk(eng):7"));
        assert_eq!(total.only(|entry| !is_made(entry)), resources("cpus:1"));
        let ports = resources("ports(+eng):[1-2];ports:[3-4]");
        assert_eq!(unmade(&ports), resources("ports:[1-4]"));
    }

    #[test]
    fn a_task_takes_all_or_nothing() {
        let mut pool = Pool::new(resources("cpus:2;disk(eng)[data=data shared]:5"));
        let shared = resources("cpus:1;disk(eng)[data=data shared]:5");
        pool.take(&shared).unwrap();
        pool.take(&shared).unwrap();
        assert_eq!(pool.take(&shared), Err(Lack::Taken(resources("cpus:1"))));
        assert_eq!(pool.take(&resources("mem:1")), Err(Lack::Unknown(resources("mem:1"))));
        let lent = resources("cpus{revocable}:1");
        assert_eq!(pool.take(&lent), Err(Lack::Lent(lent.clone())));
        pool.lent = Some(lent.clone());
        assert_eq!(pool.take(&(resources("cpus:1") + &lent)), Err(Lack::Taken(resources("cpus:1"))));
        pool.take(&lent).unwrap();
        assert_eq!(pool.take(&lent), Err(Lack::Lent(lent.clone())));
        for held in [&shared, &shared, &lent] {
            pool.give_back(held);
        }
        assert_eq!((&pool.free, pool.borrowed.is_empty()), (&pool.total, true));
    }

    #[test]
    fn nothing_is_made_that_nobody_could_be_told() {
        let mut pool = Pool::new(resources("cpus:4;mem:1024;disk(eng):1000"));
        let create = |number: usize| {
            let volumes = resources(&format!("disk(eng)[v{number}=data]:1"));
            Conversion { consumed: volumes.without_volumes(), produced: volumes }
        };
        let mut number = 0;
        let refusal = loop {
            let before = pool.total.clone();
            match pool.convert(&create(number)) {
                Ok(()) => number += 1,
                Err(refusal) => {
                    assert_eq!(pool.total, before);
                    break refusal;
                }
            }
        };
        assert!(
            matches!(&refusal, Unfit::TooMuch(message) if message.contains("too many parts")),
            "{refusal:?}"
        );
        assert_eq!(pool.total.entries().len(), limits::RESOURCE_NAMES_MAX);
        assert_eq!(pool.free, pool.total);
    }
}
