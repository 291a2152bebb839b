//! Roles: what is set for them, and what they have.

use std::{collections::BTreeMap, sync::Arc};

use apportion_allocator::Share;
use apportion_master_core::{View, view::RoleSettings};
use apportion_types::{Resources, Role, limits};

/// A role, what is set for it, and what it has.
#[derive(Debug, Default)]
pub(crate) struct RoleRow {
    pub(crate) settings: RoleSettings,
    /// Offered to and used by its frameworks and those below it.
    pub(crate) allocated: Resources,
    /// Reserved for it and for roles below it, on no terms.
    pub(crate) reserved: Resources,
    pub(crate) dominant_share_ppm: u64,
    /// Of its own frameworks, in order of fairness; not all of many.
    pub(crate) frameworks: Vec<Share>,
    pub(crate) framework_count: u64,
}

/// Every role that something is set for or that somebody takes offers for, and those above them. The shares are the allocator's.
pub(crate) fn roles(view: &View, shares: Vec<Share>) -> BTreeMap<Role, RoleRow> {
    let mut roles: BTreeMap<Role, RoleRow> = BTreeMap::new();
    for (role, settings) in &view.roles {
        roles.entry(role.clone()).or_default().settings = settings.clone();
    }
    for share in shares {
        let row = roles.entry(share.role.clone()).or_default();
        if share.framework.is_none() {
            row.dominant_share_ppm = share.dominant_share_ppm;
            row.allocated = share.allocated;
        } else {
            row.framework_count += 1;
            if row.frameworks.len() < limits::ROLE_FRAMEWORKS_LISTED {
                row.frameworks.push(share);
            }
        }
    }
    for agent in view.agents.values().map(Arc::as_ref).filter(|agent| agent.total.has_terms()) {
        for entry in agent.total.entries() {
            let Some(role) = entry.role() else { continue };
            let amount = Resources::of(entry.name().clone(), entry.value().clone()).summable();
            roles.entry(role.clone()).or_default().reserved += &amount;
        }
    }
    let known: Vec<Role> = roles.keys().cloned().collect();
    for role in known {
        let mut above = role.parent();
        while let Some(role) = above {
            above = role.parent();
            roles.entry(role).or_default();
        }
    }
    // What is reserved for a role is among what is reserved for each above it.
    let own = roles.iter().filter(|(_, row)| !row.reserved.is_empty());
    let own: Vec<(Role, Resources)> = own.map(|(role, row)| (role.clone(), row.reserved.clone())).collect();
    for (role, reserved) in own {
        let mut above = role.parent();
        while let Some(role) = above {
            above = role.parent();
            roles.entry(role).or_default().reserved += &reserved;
        }
    }
    roles
}
