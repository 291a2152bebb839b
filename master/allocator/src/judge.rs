//! Whether a client takes something of an agent: the one place that decides, for a cycle, a claim, and an explanation.

use apportion_types::resources::Entry;

use crate::{
    amount::{Amount, holds_any},
    explain::{Inactive, Obstacle},
    hierarchical::Hierarchical,
    room::{Bounds, Fit, Kept},
    slab::{AgentKey, ClientKey, RoleKey},
    state::{Agent, Client},
};

/// Why a client takes nothing of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bar {
    Inactive(Inactive),
    /// Nothing of it is open to the client.
    NothingOpen,
    /// It is not to be offered the agent.
    Excluded,
    Filtered,
    UnderMinimum,
    Quota(Kept),
}

/// What a client takes; the whole of what is free when none is named.
pub(crate) type Part = Option<Amount>;

/// What the clients of one role have in common on one agent, worked out once, by what they can deal with; and which quotas have kept
/// something from anybody.
#[derive(Debug, Default)]
pub(crate) struct Memo {
    role: Option<RoleKey>,
    takes: [Option<Result<Part, Bar>>; 4],
    pub(crate) kept: Vec<RoleKey>,
    pub(crate) kept_by_headroom: bool,
}

impl Hierarchical {
    /// What the client would take of the agent now, were nobody before it. The agent's filters know what is free.
    pub(crate) fn takes(&self, key: ClientKey, agent: AgentKey, memo: &mut Memo) -> Result<Part, Bar> {
        let agent = &self.agents[agent];
        let free = match (agent.inactive, agent.free.as_ref()) {
            (Some(why), _) => return Err(Bar::Inactive(why)),
            (None, None) => return Err(Bar::NothingOpen),
            (None, Some(free)) => free,
        };
        if agent.barred.as_ref().is_some_and(|barred| barred.contains(key)) {
            return Err(Bar::Excluded);
        }
        let filters = agent.filters.as_deref().filter(|filters| !filters.is_empty());
        if filters.is_some_and(|filters| filters.blocked().contains(key)) {
            return Err(Bar::Filtered);
        }
        let client = &self.clients[key];
        let common = client.minimums.is_none() && !(free.shares() && client.shares);
        let taken = if common {
            if memo.role != Some(client.role) {
                (memo.role, memo.takes) = (Some(client.role), [None, None, None, None]);
            }
            let index = usize::from(client.borrows) + 2 * usize::from(client.shares);
            match &memo.takes[index] {
                Some(taken) => taken.clone()?,
                None => {
                    let taken = self.takes_unfiltered(key, client, agent, free, memo);
                    memo.takes[index] = Some(taken.clone());
                    taken?
                }
            }
        } else {
            self.takes_unfiltered(key, client, agent, free, memo)?
        };
        match (&taken, filters) {
            (Some(part), Some(filters)) if filters.refuses(key, part) => Err(Bar::Filtered),
            _ => Ok(taken),
        }
    }

    fn takes_unfiltered(
        &self,
        key: ClientKey,
        client: &Client,
        agent: &Agent,
        free: &Amount,
        memo: &mut Memo,
    ) -> Result<Part, Bar> {
        let open = self.open(key, client, agent, free)?;
        let whole = open.as_ref().unwrap_or(free);
        let enough = match &client.minimums {
            None => whole.is_allocatable(),
            Some(minimums) => holds_any(whole, minimums),
        };
        if !enough {
            return Err(Bar::UnderMinimum);
        }
        let minimums = client.minimums.as_deref().unwrap_or(&self.measure.allocatable_min);
        let Fit { part, useful, kept } = self.fit(client.role, whole, minimums);
        if kept.by_limit {
            memo.kept.push(client.role);
        }
        memo.kept_by_headroom |= kept.by_headroom;
        match useful {
            true => Ok(part.or(open)),
            false => Err(Bar::Quota(kept)),
        }
    }

    /// What of the free is open to the client's role, and of a kind that it can deal with.
    fn open(&self, key: ClientKey, client: &Client, agent: &Agent, free: &Amount) -> Result<Part, Bar> {
        if !free.has_terms() {
            return Ok(None);
        }
        let role = &client.role_name;
        let has_copy = |entry: &Entry| {
            agent.copies.iter().any(|(holder, held, _)| *holder == key && held.entries().any(|e| e == entry))
        };
        let is_open = |entry: &Entry| {
            entry.role().is_none_or(|kept| kept == role || role.is_below(kept))
                && (client.borrows || !entry.is_revocable())
                && (!entry.is_shared() || client.shares && !has_copy(entry))
        };
        if free.entries().all(is_open) {
            return Ok(None);
        }
        let open = free.only(is_open);
        if open.is_empty() { Err(Bar::NothingOpen) } else { Ok(Some(self.measure.amount(open))) }
    }

    /// What keeps a client from every offer, whatever the agent; in the order in which it is asked about.
    pub(crate) fn standing(&self, key: ClientKey) -> impl Iterator<Item = Obstacle> {
        let client = &self.clients[key];
        let framework = &self.frameworks[client.framework];
        let (outstanding, most) = (framework.outstanding, framework.offers_max);
        let obstacles = [
            (!framework.active).then_some(Obstacle::Disconnected),
            (client.suppressed || !client.subscribed).then_some(Obstacle::Suppressed),
            framework.is_full().then_some(Obstacle::OffersMax { outstanding, most }),
        ];
        obstacles.into_iter().flatten()
    }

    /// What a bar is, with its figures.
    pub(crate) fn obstacle(&self, key: ClientKey, agent_key: AgentKey, bar: Bar) -> Obstacle {
        let (client, agent) = (&self.clients[key], &self.agents[agent_key]);
        let open = || {
            let free = agent.free.as_ref().expect("something is free");
            let open = self.open(key, client, agent, free).expect("something is open");
            open.unwrap_or_else(|| free.clone())
        };
        match bar {
            Bar::Inactive(why) => Obstacle::AgentInactive { why },
            Bar::Excluded => self.exclusion_obstacle(key, agent_key),
            Bar::NothingOpen => {
                let reserved = agent.free.as_ref().map(|free| free.only(|entry| entry.role().is_some()));
                let mut reserved = reserved.unwrap_or_default();
                reserved.saturating_sub(&reserved.clone().reserved_for(&client.role_name));
                Obstacle::NothingFree { reserved }
            }
            Bar::UnderMinimum => Obstacle::UnderMinimum { free: apportion_types::Resources::clone(&open()) },
            Bar::Filtered => {
                let filters = agent.filters.as_ref().expect("somebody refused something");
                let free = agent.free.as_ref().expect("something is free");
                let until = filters.until(key, free).or_else(|| {
                    let part = self.takes_unfiltered(key, client, agent, free, &mut Memo::default()).ok()?;
                    part.and_then(|part| filters.until(key, &part))
                });
                Obstacle::Filtered { until: until.expect("a filter keeps it from what it would take") }
            }
            Bar::Quota(kept) => self.quota_obstacle(client, &open(), kept),
        }
    }

    fn quota_obstacle(&self, client: &Client, whole: &Amount, kept: Kept) -> Obstacle {
        let minimums = client.minimums.as_deref().unwrap_or(&self.measure.allocatable_min);
        let over = self.over_limits(client.role, whole.plain());
        let limited = !kept.by_headroom || !self.measure.is_useful(whole, &over, minimums);
        if !(kept.by_limit && limited) {
            let kept = self.over_headroom(client.role, whole.plain());
            return Obstacle::Headroom { kept: self.measure.kinds.resources(&kept) };
        }
        let strains = |bound: (usize, i64), room| whole.plain().of(bound.0) - over.of(bound.0) == room;
        let strained = self.path(client.role).find(|(key, role)| {
            let mut bounds = role.limit.iter().flat_map(Bounds::iter);
            bounds.any(|bound| over.of(bound.0) > 0 && strains(bound, self.room(*key, bound)))
        });
        let (key, role) = strained.expect("a limit keeps something");
        let mut room = apportion_types::Resources::new();
        for bound in role.limit.iter().flat_map(Bounds::iter) {
            room += &self.measure.kinds.one(bound.0, self.room(key, bound));
        }
        Obstacle::QuotaLimit { role: role.name.clone(), room, expected: self.expected_of(key) }
    }
}
