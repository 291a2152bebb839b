//! Offers that cannot leak and cannot be overspent.

mod bytes;
mod convert;
mod fit;
mod merge;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, mem,
    sync::Arc,
    time::Duration,
};

use apportion_types::{
    AgentId, FaultDomain, OfferId, Place, Resources, Role, TaskInfo, Unavailability, limits,
    protocol::scheduler::OfferOperation,
    resources::{Name, Ranges, Value},
};

pub(crate) use self::bytes::{ACCEPT_BYTES_MAX, of_task};
pub use self::convert::{CannotConvert, Made};
pub(crate) use self::fit::{pick, usable};
use crate::{
    DeclineReason, TaskGroupInfo,
    answers::{Answer, Answers, Said},
};

/// Resources of one agent for one role, to be used or given back.
///
/// It answers itself when it is dropped, wherever that happens: with an accept of the tasks [launched](Offer::launch) on it and of
/// what was made of its resources, in the order of the calls, or with a decline when there is nothing of both. So no offer is held by accident, and none is answered twice. What is left over is
/// not offered again for a while (about 5 s; see [`refuse_for`](Offer::refuse_for)) unless the agent comes to have more.
///
/// An offer dropped after its driver has ended, or while a panic unwinds, does nothing: the master takes it back with the
/// connection.
#[must_use = "an offer that is dropped is declined"]
pub struct Offer {
    ids: Vec<OfferId>,
    agent_id: AgentId,
    role: Role,
    place: Arc<Place>,
    unavailability: Option<Unavailability>,
    /// Neither placed nor taken.
    left: Resources,
    /// Ports handed out by `take_ports`, not yet placed.
    taken: Resources,
    /// What is to be done, in order.
    steps: Vec<OfferOperation>,
    /// How many tasks that launches.
    tasks: usize,
    /// What it takes on the wire.
    bytes: usize,
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

/// A task group was not launched because the offer has not enough left for one of its tasks; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its task group is not launched: {source}")]
pub struct GroupDoesNotFit {
    /// The group, given back.
    pub group: TaskGroupInfo,
    /// The first of its tasks that does not fit, and what is missing beside those before it.
    pub source: DoesNotFit,
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

impl Offer {
    pub(crate) fn new(offer: apportion_types::Offer, answers: Arc<Answers>) -> Offer {
        Offer {
            ids: vec![offer.offer_id],
            agent_id: offer.agent_id,
            role: offer.role,
            place: offer.place,
            unavailability: offer.unavailability,
            left: offer.resources,
            taken: Resources::new(),
            steps: Vec::new(),
            tasks: 0,
            bytes: 0,
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
        &self.place.hostname
    }

    /// `host:port` of the agent's own services, such as [`sandbox`](crate::sandbox).
    pub fn address(&self) -> &str {
        &self.place.address
    }

    /// The agent's attributes.
    pub fn attributes(&self) -> &BTreeMap<String, String> {
        &self.place.attributes
    }

    /// One of the agent's attributes.
    pub fn attribute(&self, name: &str) -> Option<&str> {
        self.place.attributes.get(name).map(String::as_str)
    }

    /// Where the agent stands, if that is known.
    pub fn domain(&self) -> Option<&FaultDomain> {
        self.place.domain.as_ref()
    }

    /// Where the agent is, as far as rules of [placement](crate::placement) ask for it.
    pub fn place(&self) -> &Arc<Place> {
        &self.place
    }

    /// When the agent's machine is to be taken away for maintenance, if that is planned; see [`ends_in_time`](crate::placement::ends_in_time).
    pub fn unavailability(&self) -> Option<Unavailability> {
        self.unavailability
    }

    /// What is left, on its terms: what was offered, less the tasks placed and the ports taken, as conversions have changed it.
    pub fn resources(&self) -> &Resources {
        &self.left
    }

    /// What is left for a task that asks for no terms, on none: what is reserved and what is not, without volumes and what is only
    /// lent.
    pub fn usable(&self) -> Resources {
        fit::usable(&self.left)
    }

    /// What a task that needs this lacks here; nothing when it fits.
    pub fn missing(&self, wanted: &Resources) -> Resources {
        fit::pick(&self.left, wanted).err().map(|missing| *missing).unwrap_or_default()
    }

    /// The tasks placed so far, in order.
    pub fn placed(&self) -> impl Iterator<Item = &TaskInfo> {
        self.steps
            .iter()
            .flat_map(|step| match step {
                OfferOperation::Launch(tasks) | OfferOperation::LaunchGroup(tasks) => tasks.as_slice(),
                OfferOperation::Convert { .. } => &[],
            })
            .flatten()
    }

    /// True when nothing was placed on it and nothing made of it.
    pub fn is_untouched(&self) -> bool {
        self.steps.is_empty()
    }

    /// Places a task: it is sent for launch when the offer is dropped. Fails without any change when it does not fit.
    ///
    /// What it asks for on no terms, plain `cpus:1`, it gets of what is reserved first, the closest reservation before others, and then
    /// of what is not; the task that is sent says which. Volumes, and what is only lent, it gets only when it asks for them, such as
    /// `disk(+eng@ann)[data=data]:100` or `cpus{revocable}:1`. A shared volume is not used up.
    ///
    /// That a task is placed promises nothing: what became of it is told to [`update`](crate::Scheduler::update), be it
    /// running, dropped because the offer was no longer valid, or refused as it stands. Its id must not be that of another
    /// living task of the framework.
    ///
    /// ```
    /// # use apportion_sdk::{Offer, Task, testing};
    /// # let mut offer: Offer = testing::offer("eng", "agent-1", "cpus:2;cpus(eng):1;mem(eng):64");
    /// offer.launch(Task::new("t").command(["true"]).cpus(2.0).mem_mib(64).build()?)?;
    /// let sent = offer.placed().next().expect("one is placed");
    /// assert_eq!(sent.resources.to_string(), "cpus:1;cpus(eng):1;mem(eng):64");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn launch(&mut self, task: TaskInfo) -> Result<(), DoesNotFit> {
        let task = Ok(self.put(task)?);
        match self.steps.last_mut() {
            Some(OfferOperation::Launch(tasks)) => tasks.push(task),
            _ => self.steps.push(OfferOperation::Launch(vec![task])),
        }
        Ok(())
    }

    /// Places a task group: it is sent for launch when the offer is dropped, as [`launch`](Offer::launch) does with one task. Fails
    /// without any change when it does not fit as a whole.
    ///
    /// The master takes each of its tasks or none: then each is told to [`update`](crate::Scheduler::update) as an error with
    /// [`TaskGroupInvalid`](crate::Reason::TaskGroupInvalid), or with [`NotEnforceable`](crate::Reason::NotEnforceable) where it is this
    /// agent that cannot do what one of them asks for. A [kill](crate::Context::kill) of one of its tasks ends all of them.
    pub fn launch_group(&mut self, group: TaskGroupInfo) -> Result<(), GroupDoesNotFit> {
        let before = (self.left.clone(), self.taken.clone(), self.bytes, self.tasks);
        let mut placed = Vec::with_capacity(group.tasks().len());
        for task in group.tasks() {
            match self.put(task.clone()) {
                Ok(task) => placed.push(Ok(task)),
                Err(source) => {
                    (self.left, self.taken, self.bytes, self.tasks) = before;
                    return Err(GroupDoesNotFit { group, source });
                }
            }
        }
        self.steps.push(OfferOperation::LaunchGroup(placed));
        Ok(())
    }

    /// Takes what a task needs; returns it with what it got.
    fn put(&mut self, task: TaskInfo) -> Result<TaskInfo, DoesNotFit> {
        let there = match self.taken.is_empty() {
            true => None,
            false => Some(self.left.clone() + &self.taken),
        };
        let picked = match fit::pick(there.as_ref().unwrap_or(&self.left), &task.resources) {
            Ok(picked) => picked,
            Err(missing) => {
                self.lacking.extend(missing.iter().map(|(name, _)| name.clone()));
                return Err(self.does_not_fit(task, missing));
            }
        };
        let bytes = bytes::of_task(&task);
        if self.tasks >= limits::TASKS_PER_ACCEPT_MAX || !self.has_room(bytes) {
            // What is left was not refused for being of no use.
            self.refuse.get_or_insert(Duration::ZERO);
            return Err(self.does_not_fit(task, Box::default()));
        }
        let used = picked.exclusive();
        self.left.saturating_sub(&used);
        self.taken.saturating_sub(&used);
        self.bytes += bytes;
        self.tasks += 1;
        Ok(TaskInfo { resources: picked, ..task })
    }

    /// True when the accept can carry one step more, of so many bytes.
    fn has_room(&self, bytes: usize) -> bool {
        self.steps.len() < limits::OPERATIONS_PER_ACCEPT_MAX && self.bytes + bytes <= ACCEPT_BYTES_MAX
    }

    fn does_not_fit(&self, task: TaskInfo, missing: Box<Resources>) -> DoesNotFit {
        DoesNotFit { task: Box::new(task), agent_id: self.agent_id.clone(), missing }
    }

    /// Takes `count` ports, the lowest first, for a task about to be described; none when fewer are left.
    ///
    /// They are no longer in [`resources`](Offer::resources), and a task that asks for them can be launched on this offer. Ports
    /// taken and not used go back with the leftover.
    pub fn take_ports(&mut self, count: usize) -> Option<Vec<u16>> {
        let free = fit::usable(&self.left.only(|entry| *entry.name() == Name::Ports));
        let ports: Vec<u16> = match free.ports() {
            Some(ranges) => ranges.values().map_while(|port| u16::try_from(port).ok()).take(count).collect(),
            None => Vec::new(),
        };
        if ports.len() < count {
            self.lacking.insert(Name::Ports);
            return None;
        }
        let ranges: Ranges = ports.iter().map(|&port| (u64::from(port), u64::from(port))).collect();
        let wanted = Resources::of(Name::Ports, Value::Ranges(ranges));
        let picked = fit::pick(&self.left, &wanted).expect("they were found there");
        self.left.saturating_sub(&picked);
        self.taken += &picked;
        Some(ports)
    }

    /// Asks to hold it for so long from now on instead of until its time-out (30 s unless configured otherwise), such as until the
    /// other parts of a [`Gang`](crate::Gang) are there; at most 10 minutes. It may still be rescinded for other reasons than time.
    pub fn hold_for(&mut self, hold: Duration) {
        self.answers.push(Said::Lease { offers: self.ids.clone(), hold: hold.min(limits::LEASE_MAX) });
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

    /// Forgets what was placed and made.
    pub(crate) fn clear(&mut self) {
        self.steps.clear();
    }

    /// Its answer; it has none any more.
    pub(crate) fn take_answer(&mut self) -> Option<Answer> {
        // A merged offer is answered by the one that took it in.
        if self.ids.is_empty() {
            return None;
        }
        let reason = self.declined_because();
        Some(Answer {
            offers: mem::take(&mut self.ids),
            agent_id: self.agent_id.clone(),
            operations: mem::take(&mut self.steps),
            refuse: self.refuse,
            reason,
        })
    }

    pub(crate) fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// What its accept takes on the wire, but for framing.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
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
        if let Some(answer) = self.take_answer() {
            self.answers.push(Said::Answer(answer));
        }
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer")
            .field("ids", &self.ids)
            .field("agent_id", &self.agent_id)
            .field("role", &self.role)
            .field("left", &self.left)
            .field("placed", &self.tasks)
            .finish_non_exhaustive()
    }
}
