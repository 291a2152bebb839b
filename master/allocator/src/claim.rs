//! Free resources taken by a framework that chooses for itself.

use apportion_types::{
    FrameworkId, Resources, Role, Time, protocol::scheduler::ClaimRefusal, resources::Entry,
};

use crate::{
    amount::Amount,
    cycle::Round,
    hierarchical::Hierarchical,
    judge::Memo,
    slab::{AgentKey, ClientKey},
    tree::Posting,
};

/// Why a claim is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimDenied {
    /// For programs.
    pub code: ClaimRefusal,
    /// For people: what is in the way.
    pub message: String,
    /// Who goes before the claimant, where that is the reason.
    pub winner: Option<FrameworkId>,
}

fn denied(code: ClaimRefusal, message: String) -> ClaimDenied {
    ClaimDenied { code, message, winner: None }
}

impl Hierarchical {
    pub(crate) fn commit(
        &mut self,
        now: Time,
        framework: &FrameworkId,
        role: &Role,
        agent: AgentKey,
        resources: &Resources,
    ) -> Result<(), ClaimDenied> {
        let state = &self.frameworks[self.framework_key(framework)];
        let client = state.find(role).ok().map(|index| state.clients[index].1);
        let Some(client) = client.filter(|&client| self.clients[client].subscribed) else {
            let message =
                format!("role {role} is not among the roles of framework {framework}; subscribe to it");
            return Err(denied(ClaimRefusal::NotAllowed, message));
        };
        self.judge_claim(client, agent, resources)?;
        if resources.is_empty() {
            return Ok(());
        }
        let claimed = self.measure.amount(resources.clone());
        self.judge_claim_quota(client, &claimed)?;
        if let Some(winner) = self.rival(now, client, agent, resources) {
            let winner = self.clients[winner].framework_id.clone();
            let agent = &self.agents[agent].id;
            let message =
                format!("framework {winner} stands before it and takes some of that on agent {agent}");
            return Err(ClaimDenied { winner: Some(winner), ..denied(ClaimRefusal::Fairness, message) });
        }
        self.give_part(client, agent, claimed);
        self.post(client, Posting::Count);
        self.allocations += 1;
        self.look_again(agent);
        Ok(())
    }

    /// Whether the framework may have this of the agent at all, and whether it is free.
    fn judge_claim(
        &self,
        client: ClientKey,
        agent_key: AgentKey,
        resources: &Resources,
    ) -> Result<(), ClaimDenied> {
        let (agent, name) = (&self.agents[agent_key], &self.agents[agent_key].id);
        let not_allowed = |message| Err(denied(ClaimRefusal::NotAllowed, message));
        let not_free = |message| Err(denied(ClaimRefusal::NotFree, message));
        let state = &self.clients[client];
        if !self.frameworks[state.framework].active {
            return not_allowed("the framework is disconnected; it must subscribe".to_owned());
        }
        if agent.barred.as_ref().is_some_and(|barred| barred.contains(client)) {
            return not_allowed(self.exclusion_obstacle(client, agent_key).to_string());
        }
        let unable =
            |entry: &Entry| entry.is_revocable() && !state.borrows || entry.is_shared() && !state.shares;
        let foreign = {
            let mut foreign = resources.clone();
            foreign.saturating_sub(&resources.open_to(&state.role_name));
            foreign
        };
        if !foreign.is_empty() {
            let role = &state.role_name;
            return not_allowed(format!("`{foreign}` is reserved, and not for role {role} or one above it"));
        }
        let strange = resources.only(unable);
        if !strange.is_empty() {
            return not_allowed(format!("the framework lacks the capability to use `{strange}`"));
        }
        if let Some(why) = agent.inactive {
            return not_free(format!("agent {name} {why}"));
        }
        let missing = match &agent.free {
            Some(free) => free.missing(resources),
            None => resources.clone(),
        };
        if !missing.is_empty() || !agent.free.as_ref().is_some_and(|free| free.contains(resources)) {
            return not_free(format!("`{missing}` is not free on agent {name}"));
        }
        Ok(())
    }

    fn judge_claim_quota(&self, client: ClientKey, claimed: &Amount) -> Result<(), ClaimDenied> {
        let role = self.clients[client].role;
        let over = self.over_limits(role, claimed.plain());
        if !over.is_zero() {
            let (over, role) = (self.measure.kinds.resources(&over), &self.clients[client].role_name);
            let message = format!("the quota limits of role {role} leave no room for `{over}` of it");
            return Err(denied(ClaimRefusal::Quota, message));
        }
        let over = self.over_headroom(role, claimed.plain());
        if !over.is_zero() {
            let over = self.measure.kinds.resources(&over);
            let message = format!("`{over}` of it must stay free for the quota guarantees of other roles");
            return Err(denied(ClaimRefusal::Quota, message));
        }
        Ok(())
    }

    /// Who stands before the client and would take some of this now.
    fn rival(
        &mut self,
        now: Time,
        client: ClientKey,
        agent: AgentKey,
        resources: &Resources,
    ) -> Option<ClientKey> {
        if !self.is_wanted(agent, Some(now)) {
            return None;
        }
        let role = self.clients[client].role;
        let is_wanting = self.lacks_of(self.top_of(role), agent);
        let rounds = match is_wanting {
            true => &[Round::Guarantees][..],
            false => &[Round::Guarantees, Round::Fair][..],
        };
        // It stands where it would, did it take offers.
        let listed = self.eligible.contains(client);
        if !listed {
            self.enroll(client);
        }
        let free = self.agents[agent].free.clone().expect("what is claimed is free");
        let mut memo = Memo::default();
        let takes_some = |this: &Hierarchical, other: ClientKey, memo: &mut Memo| {
            let Ok(part) = this.takes(other, agent, memo) else { return false };
            let mut rest = Resources::clone(&free);
            rest.saturating_sub(&part.as_ref().unwrap_or(&free).exclusive());
            !rest.contains(resources)
        };
        let found = rounds.iter().find_map(|&round| {
            if round == Round::Guarantees && self.headroom.wanting.is_empty() {
                return None;
            }
            let mut asking = self.asking(round, agent);
            self.ask(&mut asking, None, &mut |this, other| match other == client {
                true => Some(None),
                false => takes_some(this, other, &mut memo).then_some(Some(other)),
            })
        });
        if !listed {
            self.dismiss(client);
        }
        found.flatten()
    }
}
