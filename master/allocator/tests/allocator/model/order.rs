//! Who is before whom.

use std::collections::BTreeSet;

use apportion_allocator::Share;
use apportion_types::{FrameworkId, Resources, Role};

use super::{Model, fraction::Fraction};

/// A role or one below it.
pub(super) fn is_within(role: &Role, above: &Role) -> bool {
    role == above || role.is_below(above)
}

impl Model {
    /// What the chosen hold; shared volumes count for nobody.
    fn held(&self, chosen: impl Fn(&FrameworkId, &Role) -> bool) -> Resources {
        let mut held = Resources::new();
        for ((framework, role, _), resources) in &self.allocated {
            if chosen(framework, role) {
                for (name, milli) in resources.exclusive().scalars() {
                    held += &Resources::scalar(name.clone(), milli);
                }
            }
        }
        held
    }

    /// Their dominant share.
    fn share(&self, chosen: impl Fn(&FrameworkId, &Role) -> bool) -> Fraction {
        let held = self.held(chosen);
        let mut capacity = Resources::new();
        for agent in self.agents.values() {
            capacity += &agent.total.plain();
            capacity += &agent.lent.plain();
        }
        let counts = held.scalars().filter(|(name, _)| !self.config.fairness_excluded.contains(name));
        let of_whole = |(name, part)| match capacity.milli(name) {
            // All that was lent was taken back.
            0 => Fraction::NONE,
            whole => Fraction::new(part, whole),
        };
        counts.map(of_whole).max().unwrap_or(Fraction::NONE)
    }

    fn role_share(&self, role: &Role) -> Fraction {
        self.share(|_, known| is_within(known, role))
    }

    fn client_share(&self, role: &Role, framework: &FrameworkId) -> Fraction {
        self.share(|f, r| f == framework && r == role)
    }

    pub(super) fn allocations_of(&self, role: &Role, framework: &FrameworkId) -> u64 {
        self.client_allocations.get(&(role.clone(), framework.clone())).copied().unwrap_or(0)
    }

    /// Notes one more allocation, for a client and all roles above it.
    pub(super) fn count(&mut self, framework: &FrameworkId, role: &Role) {
        *self.client_allocations.entry((role.clone(), framework.clone())).or_default() += 1;
        *self.own_allocations.entry(role.clone()).or_default() += 1;
        let mut above = Some(role.clone());
        while let Some(role) = above {
            above = role.parent();
            *self.role_allocations.entry(role).or_default() += 1;
        }
    }

    /// The roles directly below one, or at the top of the tree, in order.
    fn roles_below(&self, above: Option<&Role>) -> Vec<Role> {
        let mut known = BTreeSet::new();
        for (role, _) in self.clients() {
            let mut at = Some(role);
            while let Some(role) = at {
                at = role.parent();
                if at.as_ref() == above {
                    known.insert(role);
                }
            }
        }
        let mut roles: Vec<Role> = known.into_iter().collect();
        roles.sort_by_cached_key(|role| self.rank(role.clone()));
        roles
    }

    /// The frameworks of a role itself, in order.
    fn frameworks_of(&self, role: &Role) -> Vec<FrameworkId> {
        let clients = self.clients().into_iter().filter(|(known, _)| known == role);
        let mut frameworks: Vec<FrameworkId> = clients.map(|(_, framework)| framework).collect();
        frameworks.sort_by_cached_key(|id| {
            (self.client_share(role, id), self.allocations_of(role, id), id.clone())
        });
        frameworks
    }

    /// Every client, in the order in which they are asked.
    pub(super) fn order(&self) -> Vec<(Role, FrameworkId)> {
        let mut order = Vec::new();
        self.append(None, &mut order);
        order
    }

    fn append(&self, above: Option<&Role>, order: &mut Vec<(Role, FrameworkId)>) {
        let mut entries: Vec<_> = self.roles_below(above).into_iter().map(|role| self.rank(role)).collect();
        if let Some(above) = above {
            // Its own frameworks stand among the roles below it as one more, of weight 1.
            entries.push((
                self.share(|_, known| known == above),
                self.own_allocations.get(above).copied().unwrap_or(0),
                above.clone(),
            ));
        }
        entries.sort();
        for (_, _, role) in entries {
            if above == Some(&role) {
                order.extend(self.frameworks_of(&role).into_iter().map(|id| (role.clone(), id)));
            } else {
                self.append(Some(&role), order);
            }
        }
    }

    fn rank(&self, role: Role) -> (Fraction, u64, Role) {
        let weight = self.config.weights.get(&role).copied().unwrap_or_default();
        let allocations = self.role_allocations.get(&role).copied().unwrap_or(0);
        (self.role_share(&role).divided_by(weight), allocations, role)
    }

    pub(super) fn all_shares(&self) -> Vec<Share> {
        let mut shares = Vec::new();
        self.append_shares(None, &mut shares);
        shares
    }

    fn append_shares(&self, above: Option<&Role>, shares: &mut Vec<Share>) {
        for role in self.roles_below(above) {
            shares.push(Share {
                framework: None,
                allocated: self.held(|_, known| is_within(known, &role)),
                dominant_share_ppm: self.role_share(&role).ppm(),
                allocations: self.role_allocations.get(&role).copied().unwrap_or(0),
                role: role.clone(),
            });
            for framework in self.frameworks_of(&role) {
                shares.push(Share {
                    allocated: self.held(|f, r| *f == framework && *r == role),
                    dominant_share_ppm: self.client_share(&role, &framework).ppm(),
                    allocations: self.allocations_of(&role, &framework),
                    framework: Some(framework),
                    role: role.clone(),
                });
            }
            self.append_shares(Some(&role), shares);
        }
    }
}
