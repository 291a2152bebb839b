//! What is due when.

use apportion_types::{AgentId, FrameworkId, OfferId};

/// Something that is due at a time; each at most once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// An offer was held too long.
    Offer(OfferId),
    /// An agent is to be pinged.
    Ping(AgentId),
    /// A disconnected agent did not return.
    Reregister(AgentId),
    /// Some of the agents of an earlier master did not return.
    GiveUpRecovered,
    /// What is known of lost agents is old, or too much.
    ForgetAgents,
    /// A disconnected framework did not return.
    Failover(FrameworkId),
    /// A scheduler is to be sent a sign of life.
    Heartbeat(FrameworkId),
    /// The grace of a preemption is over.
    Preempt(u64),
    /// It is to be found out who may preempt.
    PlanPreemptions,
    /// An inverse offer was held too long.
    InverseOffer(OfferId),
    /// A framework is to be asked again to leave an agent.
    InverseFilter(AgentId, FrameworkId),
    /// A window of the maintenance schedule is over.
    WindowEnds,
}
