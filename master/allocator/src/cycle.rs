//! One allocation cycle.

use std::sync::Arc;

use apportion_types::{Resources, Time};

use crate::{
    Allocation, SorterKind,
    amount::Amount,
    hierarchical::Hierarchical,
    judge::{Memo, Part},
    slab::{AgentKey, ClientKey, Key, RoleKey},
    sorter::random::Random,
    tree::Posting,
};

/// Who is asked in one round over the agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Round {
    /// Those whose role at the top lacks something of its guarantee that the agent has.
    Guarantees,
    /// Everybody.
    Fair,
}

/// How the clients are asked about one agent.
pub(crate) struct Asking {
    round: Round,
    agent: AgentKey,
    random: Option<Random>,
    /// Roles are passed over unasked whose limit leaves none of them anything of use.
    skip_spent: bool,
}

/// What a cycle has made so far.
struct Made {
    allocations: Vec<Allocation>,
    most: usize,
    first: Option<usize>,
    last: Option<usize>,
}

impl Hierarchical {
    pub(crate) fn cycle(&mut self, now: Time, allocations_max: usize) -> Vec<Allocation> {
        while let Some(&(time, agent)) = self.deadlines.first() {
            if time > now {
                break;
            }
            self.deadlines.pop_first();
            self.agents[agent].deadline = None;
            self.candidates.insert(agent);
        }
        if self.eligible.is_empty() {
            return Vec::new();
        }
        let allocations = Vec::with_capacity(self.candidates.len().min(allocations_max));
        let mut made = Made { allocations, most: allocations_max, first: None, last: None };
        if !self.headroom.wanting.is_empty() {
            self.round(Round::Guarantees, now, &mut made);
        }
        self.round(Round::Fair, now, &mut made);
        // At the bound, those who were not reached come next; else a different one begins.
        let stopped = made.allocations.len() >= allocations_max;
        self.cursor = if stopped { made.last } else { made.first }.unwrap_or(self.cursor);
        self.check_small();
        made.allocations
    }

    fn round(&mut self, round: Round, now: Time, made: &mut Made) {
        let (mut at, mut wrapped) = (self.cursor, false);
        // Once nobody may be given more, the rest stay candidates: they need not be looked at to find nobody.
        while made.allocations.len() < made.most && !self.candidates.is_empty() && !self.eligible.is_empty() {
            let agent = match self.candidates.next_from(at) {
                Some(agent) if !wrapped || agent.index() < self.cursor => agent,
                None if !wrapped => {
                    (at, wrapped) = (0, true);
                    continue;
                }
                _ => break,
            };
            // It comes again when a part of it was given and the rest may be offered.
            at = agent.index();
            match self.choose(round, agent, now) {
                Some((client, part)) => {
                    let given = self.give(agent, client, part);
                    self.visited(agent);
                    made.allocations.push(self.allocation(agent, client, &given));
                    made.first.get_or_insert(at + 1);
                    made.last = Some(at + 1);
                }
                None if round == Round::Fair => self.pass_over(agent),
                None if self.headroom.wanting.is_empty() => break,
                None => at += 1,
            }
        }
    }

    /// Who is to have what is free on the agent, or which part of it: the first in order who takes something.
    pub(crate) fn choose(&mut self, round: Round, agent: AgentKey, now: Time) -> Option<(ClientKey, Part)> {
        if !self.is_wanted(agent, Some(now)) {
            return None;
        }
        let mut memo = Memo::default();
        let mut asking = self.asking(round, agent);
        let plain = self.agents[agent].free.as_ref().is_some_and(|free| !free.has_terms());
        asking.skip_spent = plain && self.own_minimums == 0;
        let chosen = self.ask(&mut asking, None, &mut |this, client| {
            Some((client, this.takes(client, agent, &mut memo).ok()?))
        });
        self.remember_kept(memo);
        chosen
    }

    /// Brings the filters of an agent up to date, and says whether somebody may want what is free there.
    pub(crate) fn is_wanted(&mut self, key: AgentKey, now: Option<Time>) -> bool {
        let agent = &mut self.agents[key];
        let Some(free) = agent.free.as_ref() else { return false };
        if let Some(filters) = agent.filters.as_mut().filter(|filters| !filters.is_empty())
            && !filters.is_current(free, now)
        {
            let filters = Arc::make_mut(filters);
            if let Some(now) = now {
                filters.expire(now);
            }
            filters.learn(free);
        }
        // Who refuses all of it refuses every part of it.
        !self.eligible.is_within(agent.blocked(), agent.barred.as_deref())
    }

    pub(crate) fn asking(&self, round: Round, agent: AgentKey) -> Asking {
        let random = match self.sorter {
            SorterKind::Drf => None,
            // Not by what was drawn before: agents that nobody wants leave no trace, however often they are looked at.
            SorterKind::Random { seed } => Some(Random::of([seed, self.allocations, agent.index() as u64])),
        };
        Asking { round, agent, random, skip_spent: false }
    }

    /// Asks those who may be given something, below a role or everywhere, in order, until there is an answer.
    pub(crate) fn ask<R>(
        &mut self,
        asking: &mut Asking,
        above: Option<RoleKey>,
        answer: &mut impl FnMut(&Hierarchical, ClientKey) -> Option<R>,
    ) -> Option<R> {
        let random = asking.random.as_mut().map(Random::fork);
        let level = match above {
            Some(role) => &mut self.roles[role].below,
            None => &mut self.top,
        };
        level.refresh(&self.capacity);
        let mut turns = level.turns(random);
        while let Some(role) = turns.next(self.level(above).order()) {
            let found = if above == Some(role) {
                self.ask_own(asking, role, answer)
            } else if asking.skip_spent && self.is_spent(role, asking.agent) {
                self.roles[role].short = true;
                None
            } else if above.is_none()
                && asking.round == Round::Guarantees
                && !self.lacks_of(role, asking.agent)
            {
                None
            } else {
                self.ask(asking, Some(role), answer)
            };
            if found.is_some() {
                return found;
            }
        }
        None
    }

    fn ask_own<R>(
        &mut self,
        asking: &mut Asking,
        role: RoleKey,
        answer: &mut impl FnMut(&Hierarchical, ClientKey) -> Option<R>,
    ) -> Option<R> {
        let frameworks = &mut self.roles[role].frameworks;
        frameworks.refresh(&self.capacity);
        let mut turns = frameworks.turns(asking.random.as_mut().map(Random::fork));
        let order = self.roles[role].frameworks.order();
        while let Some(client) = turns.next(order) {
            let found = answer(self, client);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The role's limit leaves less than a minimum that the agent's free resources, all plain, hold.
    fn is_spent(&self, role: RoleKey, agent: AgentKey) -> bool {
        let (Some(limit), Some(free)) = (&self.roles[role].limit, &self.agents[agent].free) else {
            return false;
        };
        self.measure.floors.iter().any(|&(kind, floor)| {
            free.plain().of(kind) >= floor
                && limit.iter().any(|bound| bound.0 == kind && self.room(role, bound) < floor)
        })
    }

    /// A role at the top lacks something of its guarantee that is free on the agent.
    pub(crate) fn lacks_of(&self, top: RoleKey, agent: AgentKey) -> bool {
        let free = self.agents[agent].free.as_ref();
        free.is_some_and(|free| self.roles[top].unmet.iter().any(|(kind, _)| free.plain().of(kind) > 0))
    }

    /// Notes who was kept from something by quotas: when they leave room for more, it is looked at again.
    pub(crate) fn remember_kept(&mut self, memo: Memo) {
        for role in memo.kept {
            let mut at = Some(role);
            while let Some(key) = at {
                let role = &mut self.roles[key];
                role.short |= role.limit.is_some();
                at = role.parent;
            }
        }
        self.headroom.short |= memo.kept_by_headroom;
    }

    /// Gives the client a part of what is free on the agent, all of it when none is named, as an offer.
    pub(crate) fn give(&mut self, agent: AgentKey, client: ClientKey, part: Part) -> Amount {
        let given = match part {
            None => self.give_free(client, agent),
            Some(part) => {
                self.give_part(client, agent, part.clone());
                part
            }
        };
        self.post(client, Posting::Count);
        self.allocations += 1;
        self.open_offer(client);
        given
    }

    /// The agent was looked at, and some of it was given.
    pub(crate) fn visited(&mut self, agent: AgentKey) {
        if let Some(filters) = &mut self.agents[agent].filters {
            Arc::make_mut(filters).visit();
        }
        if self.offerable(agent).is_none() {
            self.withdraw(agent);
        }
        self.check_agent(agent);
    }

    pub(crate) fn allocation(&self, agent: AgentKey, client: ClientKey, given: &Amount) -> Allocation {
        let client = &self.clients[client];
        Allocation {
            framework: client.framework_id.clone(),
            role: client.role_name.clone(),
            agent: self.agents[agent].id.clone(),
            resources: Resources::clone(given),
        }
    }
}
