//! What an operator may decide about allocation.

use std::collections::BTreeMap;

use apportion_types::{Resources, Role, limits, resources::Name};

use crate::{Quota, Weight};

/// Settings of a [`Hierarchical`](crate::Hierarchical).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HierarchicalConfig {
    /// What is free on an agent is offered when it contains one of these whole; always when there are none.
    pub allocatable_min: Vec<Resources>,
    /// Scalars that do not count for fairness, though they are shared out (say `gpus`, which few want).
    pub fairness_excluded: Vec<Name>,
    /// Of roles, known already or not; all others have [`Weight::default`].
    pub weights: BTreeMap<Role, Weight>,
    /// Of roles, known already or not; all others are sure of nothing, and may have whatever there is.
    pub quotas: BTreeMap<Role, Quota>,
    /// In which order those who want something are asked.
    pub sorter: SorterKind,
    /// Agents with gpus are offered only to frameworks that say that they can use some.
    pub filter_gpus: bool,
    /// The master's own region: agents of others are offered only to frameworks that are aware of regions. None when it does not
    /// matter.
    pub region: Option<String>,
    /// The most offers that one framework may hold; a framework may ask for fewer.
    pub offers_max: u32,
}

impl Default for HierarchicalConfig {
    fn default() -> Self {
        Self {
            allocatable_min: vec![
                Resources::scalar(Name::Cpus, limits::ALLOCATABLE_CPUS_MILLI_MIN),
                Resources::scalar(Name::Mem, limits::ALLOCATABLE_MEM_MILLI_MIN),
            ],
            fairness_excluded: Vec::new(),
            weights: BTreeMap::new(),
            quotas: BTreeMap::new(),
            sorter: SorterKind::default(),
            filter_gpus: false,
            region: None,
            offers_max: limits::OFFERS_PER_FRAMEWORK_MAX,
        }
    }
}

/// In which order roles, and in each its frameworks, are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SorterKind {
    /// By dominant share divided by weight, then fewer allocations, then name.
    #[default]
    Drf,
    /// Drawn anew for each allocation, whatever they have; weights are the odds. Equal seeds and calls give equal results.
    Random {
        /// Where chance begins.
        seed: u64,
    },
}
