//! A framework asks for offers for some of its roles, or for none.

use apportion_types::{Role, protocol::scheduler::Refusal};

use super::scheduler_stream::Caller;
use crate::{state::State, turn::Turn};

impl State {
    pub(super) fn suppress(&mut self, turn: &mut Turn<'_>, caller: &Caller, roles: Vec<Role>) {
        let Some(roles) = self.own_roles(turn, caller, roles) else { return };
        self.allocator.suppress(&caller.framework_id, &roles);
        self.cancel_preemptions(|one| one.framework_id == caller.framework_id && roles.contains(&one.role));
        let view = self.framework_view(&caller.framework_id);
        for role in roles {
            if !view.suppressed.contains(&role) {
                view.suppressed.push(role);
            }
        }
    }

    pub(super) fn revive(&mut self, turn: &mut Turn<'_>, caller: &Caller, roles: Vec<Role>) {
        let Some(roles) = self.own_roles(turn, caller, roles) else { return };
        self.allocator.revive(&caller.framework_id, &roles);
        self.framework_view(&caller.framework_id).suppressed.retain(|role| !roles.contains(role));
    }

    /// The roles that a call means: all when it names none. Refuses one that names a role that the framework has not.
    fn own_roles(&mut self, turn: &mut Turn<'_>, caller: &Caller, roles: Vec<Role>) -> Option<Vec<Role>> {
        let own = self.view.frameworks[&caller.framework_id].info.roles.clone();
        if let Some(unknown) = roles.iter().find(|role| !own.contains(role)) {
            let names: Vec<&str> = own.iter().map(Role::as_str).collect();
            let message =
                format!("role `{unknown}` is not among the framework's roles ({})", names.join(", "));
            self.refuse(turn, caller.conn, caller.call_id, Refusal::NotFound, message);
            return None;
        }
        Some(if roles.is_empty() { own } else { roles })
    }
}
