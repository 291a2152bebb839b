//! A watch: everything, then what changes.

use apportion_proto::v1::{self, watch_change::Change as WireChange};
use apportion_types::{
    AgentId, FrameworkId, OfferId, Role, TaskId, convert::ConvertError, document::RoleSettings,
};
use tonic::Streaming;

use super::{
    AgentSummary, FrameworkSummary, OfferSummary, Operator, OperatorError, TaskSummary, all, id, part,
};

/// What can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watched {
    /// Agents.
    Agents,
    /// Frameworks.
    Frameworks,
    /// Tasks that are not yet acknowledged as ended.
    Tasks,
    /// Outstanding offers.
    Offers,
    /// What is set for roles.
    Roles,
}

/// A point in what one master process tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The process.
    pub master_id: String,
    /// Grows with each change.
    pub version: u64,
}

/// A part of what is told.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Where one can go on from once it is complete.
    pub position: Position,
    /// Of the snapshot that opens a watch: everything there is, and nothing else is.
    pub snapshot: bool,
    /// True for the last part of this position.
    pub complete: bool,
    /// In order; none in a sign of life.
    pub changes: Vec<Change>,
}

/// Something is so now, or is not there any more.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "moved once, from the stream to its reader")]
pub enum Change {
    /// An agent.
    Agent(AgentSummary),
    /// It is removed.
    AgentRemoved(AgentId),
    /// A framework.
    Framework(FrameworkSummary),
    /// It is forgotten.
    FrameworkRemoved(FrameworkId),
    /// A task; once more in its last state before it is removed.
    Task(TaskSummary),
    /// Its end is acknowledged.
    TaskRemoved(FrameworkId, TaskId),
    /// An offer.
    Offer(OfferSummary),
    /// It is used, declined or rescinded.
    OfferRemoved(OfferId),
    /// What is set for a role.
    Role(RoleSettings),
    /// Nothing is any more.
    RoleRemoved(Role),
}

/// A watch that goes on.
#[derive(Debug)]
pub struct Watch {
    operator: Operator,
    stream: Streaming<v1::WatchResponse>,
}

const CALL: &str = "watching";

impl Operator {
    /// Begins to watch these kinds, all when none is named: what has changed since a position, where the master still knows that;
    /// else everything first.
    pub async fn watch(&self, kinds: &[Watched], since: Option<&Position>) -> Result<Watch, OperatorError> {
        let kind = |kind: &Watched| match kind {
            Watched::Agents => v1::WatchKind::Agents as i32,
            Watched::Frameworks => v1::WatchKind::Frameworks as i32,
            Watched::Tasks => v1::WatchKind::Tasks as i32,
            Watched::Offers => v1::WatchKind::Offers as i32,
            Watched::Roles => v1::WatchKind::Roles as i32,
        };
        let since = since
            .map(|since| v1::WatchPosition { master_id: since.master_id.clone(), version: since.version });
        let request = v1::WatchRequest { kinds: kinds.iter().map(kind).collect(), since };
        let answer = self.watching.clone().watch(request).await;
        let stream = answer.map_err(|status| self.failed(CALL, &status))?.into_inner();
        Ok(Watch { operator: self.clone(), stream })
    }
}

impl Watch {
    /// The next part; none when the master has ended the stream without a reason.
    pub async fn next(&mut self) -> Result<Option<Told>, OperatorError> {
        let message = self.stream.message().await.map_err(|status| self.operator.failed(CALL, &status))?;
        message.map(|wire| self.operator.understood(CALL, Told::try_from(wire))).transpose()
    }
}

impl TryFrom<v1::WatchResponse> for Told {
    type Error = ConvertError;

    fn try_from(wire: v1::WatchResponse) -> Result<Self, ConvertError> {
        let position = wire.position.ok_or_else(|| ConvertError::new("position", "is missing"))?;
        Ok(Self {
            position: Position { master_id: position.master_id, version: position.version },
            snapshot: wire.snapshot,
            complete: wire.complete,
            changes: all("changes", wire.changes)?,
        })
    }
}

impl TryFrom<v1::WatchChange> for Change {
    type Error = ConvertError;

    fn try_from(wire: v1::WatchChange) -> Result<Self, ConvertError> {
        let missing = || ConvertError::new("change", "is missing, or of a kind not known here");
        Ok(match wire.change.ok_or_else(missing)? {
            WireChange::Agent(agent) => Change::Agent(part("agent", Some(agent))?),
            WireChange::AgentRemoved(text) => Change::AgentRemoved(id("agent_removed", &text)?),
            WireChange::Framework(framework) => Change::Framework(part("framework", Some(framework))?),
            WireChange::FrameworkRemoved(text) => Change::FrameworkRemoved(id("framework_removed", &text)?),
            WireChange::Task(task) => Change::Task(part("task", Some(task))?),
            WireChange::TaskRemoved(key) => Change::TaskRemoved(
                id("task_removed.framework_id", &key.framework_id)?,
                id("task_removed.task_id", &key.task_id)?,
            ),
            WireChange::Offer(offer) => Change::Offer(part("offer", Some(offer))?),
            WireChange::OfferRemoved(text) => Change::OfferRemoved(id("offer_removed", &text)?),
            WireChange::Role(settings) => Change::Role(part("role", Some(settings))?),
            WireChange::RoleRemoved(text) => Change::RoleRemoved(id("role_removed", &text)?),
        })
    }
}
