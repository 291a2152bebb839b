//! An operator sets weights, quotas and priorities of roles.

use std::collections::BTreeMap;

use apportion_allocator::Quota;
use apportion_types::{OfferId, Resources, Role};

use crate::{
    action::{OperatorError, RegistryOp},
    event::{RequestId, RoleChange},
    state::{
        State,
        commits::{RolesUpdate, Then},
        offers::Close,
    },
    turn::Turn,
    view::RoleSettings,
};

/// Roles that may have something set for them at once: each is written to the registry and shown in every listing.
const ROLES_SET_MAX: usize = 100_000;

impl State {
    /// Judges the changes together, and makes all of them when the last is written.
    pub(super) fn update_roles(
        &mut self,
        turn: &mut Turn<'_>,
        request: RequestId,
        changes: BTreeMap<Role, RoleChange>,
        force: bool,
    ) {
        let settings: BTreeMap<Role, RoleSettings> = changes
            .into_iter()
            .map(|(role, change)| {
                let before = self.view.roles.get(&role).cloned().unwrap_or_default();
                let settings = RoleSettings {
                    weight: change.weight.unwrap_or(before.weight),
                    quota: change.quota.unwrap_or(before.quota),
                    priority: change.priority.unwrap_or(before.priority),
                };
                (role, settings)
            })
            .collect();
        if let Err(error) = self.judge_roles(&settings, force) {
            return turn.reply(request, Err(error));
        }
        let update = Box::new(RolesUpdate { request, settings });
        let mut ops: Vec<RegistryOp> = update
            .settings
            .iter()
            .map(|(role, settings)| RegistryOp::SetRole { role: role.clone(), settings: settings.clone() })
            .collect();
        let Some(last) = ops.pop() else { return self.roles_committed(turn, *update) };
        for op in ops {
            self.commits.ask(turn, op, Then::Nothing);
        }
        self.commits.ask(turn, last, Then::UpdateRoles(update));
    }

    fn judge_roles(&self, settings: &BTreeMap<Role, RoleSettings>, force: bool) -> Result<(), OperatorError> {
        if self.view.roles.len() + settings.len() > ROLES_SET_MAX {
            let why = format!(
                "something is set for {} roles; at most {ROLES_SET_MAX} are allowed",
                self.view.roles.len()
            );
            return Err(OperatorError::Conflict { why });
        }
        let quotas: BTreeMap<Role, Quota> =
            settings.iter().map(|(role, settings)| (role.clone(), settings.quota.clone())).collect();
        for (role, quota) in &quotas {
            let scalar = |(_, value): (_, &_)| matches!(value, apportion_types::resources::Value::Scalar(_));
            if quota.guarantee.has_terms() || !quota.guarantee.iter().all(scalar) {
                let why = format!(
                    "role {role}: the guarantee `{}` is not plain scalars, such as `cpus:4;mem:1024`",
                    quota.guarantee
                );
                return Err(OperatorError::Invalid { why });
            }
        }
        let mut offered: BTreeMap<Role, Resources> = BTreeMap::new();
        for view in self.view.offers.values() {
            *offered.entry(view.offer.role.clone()).or_default() += &view.offer.resources.summable();
        }
        match self.allocator.judge_quotas(&quotas, &offered) {
            Err(why) if !force => Err(OperatorError::Conflict {
                why: format!("{why}; nothing is changed, unless it is forced"),
            }),
            _ => Ok(()),
        }
    }

    /// The changes are written.
    pub(super) fn roles_committed(&mut self, turn: &mut Turn<'_>, update: RolesUpdate) {
        let RolesUpdate { request, settings } = update;
        let mut quotas = Vec::new();
        for (role, settings) in settings {
            let before = self.view.roles.get(&role).cloned().unwrap_or_default();
            if before.quota != settings.quota {
                quotas.push(role.clone());
            }
            self.set_role(role, settings);
        }
        for role in quotas {
            self.rescind_above_limit(turn, &role);
        }
        self.rescind_for_guarantees(turn);
        self.plan_preemptions_soon(turn.now);
        turn.reply(request, Ok(crate::action::OperatorReply::RolesUpdated));
    }

    /// Has a role's settings known to readers and to the allocator. The one door by which they change.
    pub(crate) fn set_role(&mut self, role: Role, settings: RoleSettings) {
        self.allocator.set_weight(&role, settings.weight);
        self.allocator.set_quota(&role, settings.quota.clone());
        match settings == RoleSettings::default() {
            true => self.view.roles.remove(&role),
            false => self.view.roles.insert(role, settings),
        };
    }

    /// Takes back offers of a role and those below it while it has more than its limit.
    fn rescind_above_limit(&mut self, turn: &mut Turn<'_>, role: &Role) {
        if self.allocator.over_limit(role).is_empty() {
            return;
        }
        let of_role = |offer: &Role| offer == role || offer.is_below(role);
        for offer in self.offers_newest_first(|view| of_role(&view.offer.role)) {
            let over = self.allocator.over_limit(role);
            if over.is_empty() {
                break;
            }
            if self.has_some_of(&offer, &over) {
                self.close_offer(turn, &offer, Close::Quota);
            }
        }
    }

    /// Takes back offers of roles without a guarantee while a guarantee is not met from what is free.
    fn rescind_for_guarantees(&mut self, turn: &mut Turn<'_>) {
        if self.allocator.short_of_guarantees().is_empty() {
            return;
        }
        let sure = |role: &Role| {
            self.view.roles.get(&role.top()).is_some_and(|settings| !settings.quota.guarantee.is_empty())
        };
        for offer in self.offers_newest_first(|view| !sure(&view.offer.role)) {
            let short = self.allocator.short_of_guarantees();
            if short.is_empty() {
                break;
            }
            if self.has_some_of(&offer, &short) {
                self.close_offer(turn, &offer, Close::Quota);
            }
        }
    }

    fn offers_newest_first(&self, wanted: impl Fn(&crate::view::OfferView) -> bool) -> Vec<OfferId> {
        let offers = self.view.offers.iter().filter(|(_, view)| wanted(view));
        let mut ids: Vec<OfferId> = offers.map(|(id, _)| id.clone()).collect();
        ids.reverse();
        ids
    }

    fn has_some_of(&self, offer: &OfferId, wanted: &Resources) -> bool {
        let offered = self.view.offers[offer].offer.resources.unreserved();
        wanted.scalars().any(|(name, _)| offered.milli(name) > 0)
    }
}
