//! The answer to why a framework is offered what: by the code that decides, on a copy.

use std::collections::BTreeMap;

use apportion_types::{AgentId, Resources, Time};

use crate::{
    Explanation, Obstacle, Question, RoleExplanation, SorterKind, Verdict,
    amount::Amount,
    cycle::Round,
    hierarchical::Hierarchical,
    judge::{Bar, Memo, Part},
    slab::{AgentKey, ClientKey},
    tree::Posting,
};

/// Of those before a framework, so many are named.
const AHEAD_MAX: usize = 10;

impl Hierarchical {
    pub(crate) fn answer(&self, now: Time, question: &Question) -> Explanation {
        let Some(framework) = self.framework_keys.find(&question.framework) else {
            return Explanation { roles: Vec::new() };
        };
        let mut copy = self.clone();
        copy.changes = None;
        let mut agents: Vec<(AgentId, AgentKey)> = match &question.agent {
            Some(agent) => self.agent_keys.find(agent).map(|key| (agent.clone(), key)).into_iter().collect(),
            None => self.agents.iter().map(|(key, agent)| (agent.id.clone(), key)).collect(),
        };
        agents.sort();
        let clients: Vec<ClientKey> = copy
            .clients_of(framework)
            .into_iter()
            .filter(|&client| copy.clients[client].subscribed)
            .collect();
        let mut roles: Vec<RoleExplanation> = clients.iter().map(|&client| copy.place(client)).collect();
        for (id, key) in agents {
            let verdicts = copy.verdicts(now, &clients, key, &question.needs);
            for (role, verdict) in roles.iter_mut().zip(verdicts) {
                *role.counts.entry(verdict.code()).or_default() += 1;
                role.agents.push((id.clone(), verdict));
            }
        }
        Explanation { roles }
    }

    /// Where a client stands; of no agent.
    fn place(&mut self, key: ClientKey) -> RoleExplanation {
        let order = match self.sorter {
            SorterKind::Drf => self.order(),
            SorterKind::Random { .. } => Vec::new(),
        };
        let place = order.iter().position(|&client| client == key);
        let client = &self.clients[key];
        let role = &self.roles[client.role];
        let node = role.node.expect("it has clients");
        let level = self.level(role.parent);
        let before = &order[..place.unwrap_or(0)];
        let named = before[before.len().saturating_sub(AHEAD_MAX)..].iter().map(|&other| {
            let other = &self.clients[other];
            (other.role_name.clone(), other.framework_id.clone())
        });
        RoleExplanation {
            role: client.role_name.clone(),
            dominant_share_ppm: self.capacity.dominant_share(level.allocated(node), level.weight(node)).ppm(),
            weight: level.weight(node),
            place: place.map(|place| place + 1),
            ahead: named.collect(),
            obstacles: self.standing(key).collect(),
            agents: Vec::new(),
            counts: BTreeMap::new(),
        }
    }

    /// Everybody who may be given something, in order.
    fn order(&mut self) -> Vec<ClientKey> {
        let mut order = Vec::with_capacity(self.eligible.len());
        let mut asking = self.asking(Round::Fair, crate::slab::Key::at(0));
        let none: Option<()> = self.ask(&mut asking, None, &mut |_, client| {
            order.push(client);
            None
        });
        debug_assert!(none.is_none(), "everybody was asked");
        order
    }

    /// What each of a framework's clients may expect of one agent.
    fn verdicts(
        &mut self,
        now: Time,
        clients: &[ClientKey],
        agent: AgentKey,
        needs: &Resources,
    ) -> Vec<Verdict> {
        self.is_wanted(agent, Some(now));
        let judged: Vec<Result<Resources, Obstacle>> =
            clients.iter().map(|&client| self.judged(client, agent, needs)).collect();
        let given = self.rehearse(now, agent);
        let first = given.first().map(|&(client, _)| self.clients[client].framework_id.clone());
        let verdict = |(&client, judged): (&ClientKey, Result<Resources, Obstacle>)| {
            let got = given.iter().find(|(other, _)| *other == client);
            match (got, judged) {
                (Some((_, amount)), _) => match too_small(amount, needs) {
                    Some(obstacle) => Verdict::Blocked(obstacle),
                    None => Verdict::Offered(Resources::clone(amount)),
                },
                (None, Err(obstacle)) => Verdict::Blocked(obstacle),
                (None, Ok(_)) => Verdict::Behind(first.clone().expect("what one would take is given")),
            }
        };
        clients.iter().zip(judged).map(verdict).collect()
    }

    /// What a client would take of an agent, as things stand.
    fn judged(&self, client: ClientKey, agent: AgentKey, needs: &Resources) -> Result<Resources, Obstacle> {
        if let Some(obstacle) = self.standing(client).next() {
            return Err(obstacle);
        }
        let taken: Result<Part, Bar> = self.takes(client, agent, &mut Memo::default());
        let part = taken.map_err(|bar| self.obstacle(client, agent, bar))?;
        let free = self.agents[agent].free.as_ref();
        let part = part.as_ref().or(free).expect("what is taken is free");
        match too_small(part, needs) {
            Some(obstacle) => Err(obstacle),
            None => Ok(Resources::clone(part)),
        }
    }

    /// What a cycle for this agent alone would give, in order; then all is as it was, but for filters whose time is over.
    fn rehearse(&mut self, now: Time, agent: AgentKey) -> Vec<(ClientKey, Amount)> {
        let mut given = Vec::new();
        if self.offerable(agent).is_none() {
            return given;
        }
        let (before, allocations) = (self.agents[agent].free.clone(), self.allocations);
        for round in [Round::Guarantees, Round::Fair] {
            if round == Round::Guarantees && self.headroom.wanting.is_empty() {
                continue;
            }
            while self.offerable(agent).is_some()
                && let Some((client, part)) = self.choose(round, agent, now)
            {
                let amount = self.give(agent, client, part);
                given.push((client, amount));
                if self.offerable(agent).is_some() {
                    self.visited(agent); // for what is left, as in a cycle
                }
            }
        }
        for (client, amount) in given.iter().rev() {
            self.post(*client, Posting::Uncount);
            self.release(*client, agent, amount);
            self.close_offers(self.clients[*client].framework, 1);
        }
        self.allocations = allocations;
        self.set_free(agent, before);
        given
    }
}

/// What a task needs and is not there, as far as tasks can use it on no terms.
fn too_small(part: &Resources, needs: &Resources) -> Option<Obstacle> {
    if needs.is_empty() || part.pick(needs).is_some() {
        return None;
    }
    let usable = part.only(|entry| entry.volume().is_none() && !entry.is_revocable());
    Some(Obstacle::TooSmall { missing: usable.plain().missing(needs) })
}
