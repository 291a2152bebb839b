//! Offers that cannot leak and cannot be overspent.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use apportion_types::{
    AgentId, OfferId, Resources, Role, TaskInfo, limits,
    resources::{Name, Ranges, Value},
};

use crate::{
    DeclineReason,
    answers::{Answer, Answers},
    task::text_bytes,
};

/// Resources of one agent for one role, to be used or given back.
///
/// It answers itself when it is dropped, wherever that happens: with an accept of the tasks [launched](Offer::launch) on it,
/// or with a decline when there are none. So no offer is held by accident, and none is answered twice. What is left over is
/// not offered again for a while (about 5 s; see [`refuse_for`](Offer::refuse_for)) unless the agent comes to have more.
///
/// An offer dropped after its driver has ended, or while a panic unwinds, does nothing: the master takes it back with the
/// connection.
#[must_use = "an offer that is dropped is declined"]
pub struct Offer {
    ids: Vec<OfferId>,
    agent_id: AgentId,
    role: Role,
    hostname: String,
    address: String,
    attributes: BTreeMap<String, String>,
    /// Neither placed nor taken.
    left: Resources,
    /// Handed out by `take_ports`, not yet placed.
    taken: Ranges,
    placed: Vec<TaskInfo>,
    placed_bytes: usize,
    refuse: Option<Duration>,
    reason: Option<DeclineReason>,
    /// What tasks were too large for, for the reason of a decline.
    lacking: BTreeSet<Name>,
    answers: Arc<Answers>,
}

/// A task was not launched because the offer has not enough left; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task `{}` does not fit in what is left of agent `{agent_id}`: {}", task.task_id, Missing(missing))]
pub struct DoesNotFit {
    /// The task, given back.
    pub task: Box<TaskInfo>,
    /// Whose offer.
    pub agent_id: AgentId,
    /// What it wants beyond what is left. Empty when the resources would do, but the accept can carry no further task: it
    /// takes 2,000 tasks and about 3.5 MiB of descriptions. Drop the offer then; its leftover is offered again at once.
    pub missing: Box<Resources>,
}

struct Missing<'a>(&'a Resources);

impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("one accept can carry no more tasks")
        } else {
            write!(f, "`{}` is missing", self.0)
        }
    }
}

/// Bytes of descriptions in one accept: what a message takes, with room for the resources' and the framing's own.
const ACCEPT_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX - (512 << 10);

impl Offer {
    pub(crate) fn new(offer: apportion_types::Offer, answers: Arc<Answers>) -> Offer {
        Offer {
            ids: vec![offer.offer_id],
            agent_id: offer.agent_id,
            role: offer.role,
            hostname: offer.hostname,
            address: offer.address,
            attributes: offer.attributes,
            left: offer.resources,
            taken: Ranges::default(),
            placed: Vec::new(),
            placed_bytes: 0,
            refuse: None,
            reason: None,
            lacking: BTreeSet::new(),
            answers,
        }
    }

    /// Its id; of the first, when several were [merged](Offer::merge).
    pub fn id(&self) -> &OfferId {
        &self.ids[0]
    }

    /// The ids of all offers in it.
    pub fn ids(&self) -> &[OfferId] {
        &self.ids
    }

    /// Whose resources.
    pub fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// For which role.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The agent's host.
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// `host:port` of the agent's own services, such as [`sandbox`](crate::sandbox).
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The agent's attributes.
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.attributes
    }

    /// One of the agent's attributes.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).map(String::as_str)
    }

    /// What is left: what was offered, less the tasks placed and the ports taken.
    pub fn resources(&self) -> &Resources {
        &self.left
    }

    /// The tasks placed so far, in order.
    pub fn placed(&self) -> &[TaskInfo] {
        &self.placed
    }

    /// Places a task: it is sent for launch when the offer is dropped. Fails without any change when it does not fit.
    ///
    /// That a task is placed promises nothing: what became of it is told to [`update`](crate::Scheduler::update), be it
    /// running, dropped because the offer was no longer valid, or refused as it stands. Its id must not be that of another
    /// living task of the framework.
    pub fn launch(&mut self, task: TaskInfo) -> Result<(), DoesNotFit> {
        let mut there = self.left.clone();
        if !self.taken.is_empty() {
            there.insert(Name::Ports, Value::Ranges(self.taken.clone()));
        }
        let missing = there.missing(&task.resources);
        if !missing.is_empty() {
            self.lacking.extend(missing.iter().map(|(name, _)| name.clone()));
            return Err(self.does_not_fit(task, missing));
        }
        let bytes = message_bytes(&task);
        if self.placed.len() >= limits::TASKS_PER_ACCEPT_MAX || self.placed_bytes + bytes > ACCEPT_BYTES_MAX {
            // What is left was not refused for being of no use.
            self.refuse.get_or_insert(Duration::ZERO);
            return Err(self.does_not_fit(task, Resources::new()));
        }
        self.left.saturating_sub(&task.resources);
        if let Some(ports) = task.resources.ports() {
            self.taken.subtract(&ports);
        }
        self.placed_bytes += bytes;
        self.placed.push(task);
        Ok(())
    }

    fn does_not_fit(&self, task: TaskInfo, missing: Resources) -> DoesNotFit {
        DoesNotFit { task: Box::new(task), agent_id: self.agent_id.clone(), missing: Box::new(missing) }
    }

    /// Takes `count` ports, the lowest first, for a task about to be described; none when fewer are left.
    ///
    /// They are no longer in [`resources`](Offer::resources), and a task that asks for them can be launched on this offer. Ports
    /// taken and not used go back with the leftover.
    pub fn take_ports(&mut self, count: usize) -> Option<Vec<u16>> {
        let ports: Vec<u16> = match self.left.ports() {
            Some(ranges) => ranges.values().map_while(|port| u16::try_from(port).ok()).take(count).collect(),
            None => Vec::new(),
        };
        if ports.len() < count {
            self.lacking.insert(Name::Ports);
            return None;
        }
        let ranges: Ranges = ports.iter().map(|&port| (u64::from(port), u64::from(port))).collect();
        self.left.saturating_sub(&Resources::of(Name::Ports, Value::Ranges(ranges.clone())));
        self.taken.add(&ranges);
        Some(ports)
    }

    /// Decides for how long the leftover is not offered again, instead of the driver: zero for "at once", at most 365 days.
    pub fn refuse_for(&mut self, refuse: Duration) {
        self.refuse = Some(refuse.min(limits::REFUSE_MAX));
    }

    /// Gives it back, saying why. Tasks already placed on it are launched all the same.
    pub fn decline(mut self, reason: impl Into<DeclineReason>) {
        self.reason = Some(reason.into());
    }

    /// Gives it back, saying why and for how long it is not to be offered again: zero for "at once", at most 365 days.
    pub fn decline_for(mut self, refuse: Duration, reason: impl Into<DeclineReason>) {
        self.refuse_for(refuse);
        self.decline(reason);
    }

    /// Takes another offer of the same agent and role into this one, so that a task may use both; gives it back when it is of
    /// another agent or role.
    ///
    /// The whole is valid only as long as each part is.
    pub fn merge(&mut self, mut other: Offer) -> Result<(), Box<Offer>> {
        let room = self.placed.len() + other.placed.len() <= limits::TASKS_PER_ACCEPT_MAX
            && self.placed_bytes + other.placed_bytes <= ACCEPT_BYTES_MAX;
        let same = self.agent_id == other.agent_id && self.role == other.role;
        if !same || !room || !Arc::ptr_eq(&self.answers, &other.answers) {
            return Err(Box::new(other));
        }
        self.ids.append(&mut other.ids);
        self.left += &other.left;
        self.taken.add(&other.taken);
        self.placed.append(&mut other.placed);
        self.placed_bytes += other.placed_bytes;
        self.refuse = self.refuse.or(other.refuse);
        self.lacking.append(&mut other.lacking);
        Ok(())
    }

    /// Merges offers of the same agent and role, in the order in which each pair is met first.
    ///
    /// ```no_run
    /// # use apportion_sdk::Offer;
    /// # fn place(kept: Vec<Offer>, new: Vec<Offer>) {
    /// let offers = Offer::by_agent(kept.into_iter().chain(new));
    /// # }
    /// ```
    pub fn by_agent(offers: impl IntoIterator<Item = Offer>) -> Vec<Offer> {
        let mut merged: Vec<Offer> = Vec::new();
        let mut places: BTreeMap<(AgentId, Role), usize> = BTreeMap::new();
        for offer in offers {
            let key = (offer.agent_id.clone(), offer.role.clone());
            match places.get(&key) {
                Some(&place) => {
                    if let Err(apart) = merged[place].merge(offer) {
                        merged.push(*apart);
                    }
                }
                None => {
                    places.insert(key, merged.len());
                    merged.push(offer);
                }
            }
        }
        merged
    }

    /// The reason of a decline: the one given, or what tasks were too large for.
    fn declined_because(&mut self) -> DeclineReason {
        match self.reason.take() {
            Some(reason) => reason,
            None if self.lacking.is_empty() => DeclineReason::NOT_SAID,
            None => DeclineReason::too_little_of(&self.lacking),
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        // A merged offer is answered by the one that took it in.
        if self.ids.is_empty() {
            return;
        }
        let reason = self.declined_because();
        self.answers.push(Answer {
            offers: std::mem::take(&mut self.ids),
            agent_id: self.agent_id.clone(),
            tasks: std::mem::take(&mut self.placed),
            refuse: self.refuse,
            reason,
        });
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("ids", &self.ids)
            .field("agent_id", &self.agent_id)
            .field("role", &self.role)
            .field("left", &self.left)
            .field("placed", &self.placed.len())
            .finish_non_exhaustive()
    }
}

/// At least the bytes of a task on the wire, but for a few of framing.
fn message_bytes(task: &TaskInfo) -> usize {
    let parts = task.command.argv.len() + task.command.env.len() + task.labels.len();
    let amounts: usize = [&task.resources, &task.limits]
        .into_iter()
        .flat_map(Resources::iter)
        .map(|(name, value)| {
            32 + name.as_str().len()
                + match value {
                    Value::Scalar(_) => 10,
                    Value::Ranges(ranges) => ranges.iter().len() * 24,
                    Value::Set(set) => set.iter().map(|member| member.len() + 4).sum(),
                }
        })
        .sum();
    128 + task.task_id.as_str().len() + text_bytes(task) + parts * 12 + amounts
}
