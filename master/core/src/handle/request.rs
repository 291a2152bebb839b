//! A framework says what it waits to place.

use apportion_types::{
    Role, limits,
    protocol::scheduler::{Refusal, ResourceRequest},
};

use super::scheduler_stream::Caller;
use crate::{state::State, turn::Turn};

impl State {
    pub(super) fn request(
        &mut self,
        turn: &mut Turn<'_>,
        caller: &Caller,
        role: Role,
        requests: Vec<ResourceRequest>,
    ) {
        let id = &caller.framework_id;
        let own = &self.view.frameworks[id].info.roles;
        let problem = if !own.contains(&role) {
            let names: Vec<&str> = own.iter().map(Role::as_str).collect();
            Some((
                Refusal::NotFound,
                format!("role `{role}` is not among the framework's roles ({})", names.join(", ")),
            ))
        } else if requests.len() > limits::REQUESTS_MAX {
            let (count, most) = (requests.len(), limits::REQUESTS_MAX);
            Some((Refusal::Limit, format!("{count} requests are more than are allowed, {most}")))
        } else {
            let bad =
                requests.iter().find(|request| request.resources.has_terms() || request.resources.is_empty());
            bad.map(|request| {
                let what = format!(
                    "`{}` is not an amount that a task can wait for; name plain resources",
                    request.resources
                );
                (Refusal::Invalid, what)
            })
        };
        if let Some((code, message)) = problem {
            return self.refuse(turn, caller.conn, caller.call_id, code, message);
        }
        self.cancel_unrequested(id, &role, &requests);
        let view = self.framework_view(id);
        match requests.is_empty() {
            true => view.requests.remove(&role),
            false => view.requests.insert(role, requests),
        };
        self.plan_preemptions_soon(turn.now);
    }
}
