//! What the state is told and what it wants done.

use apportion_types::{
    AgentId, FrameworkId, FrameworkInfo, FrameworkOptions, InverseOffer, Offer, OfferId, OperationId,
    OperationStatus, TaskId, TaskStatus, UpdateId,
    protocol::scheduler::{Call, Event, FreeState, Preemption},
};
use std::time::Duration;

use crate::{Claimed, DriverError, Refused, Stop, Subscription, answers::Said, context::Ask};

/// What a driver is made for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The framework, as it describes itself.
    pub info: FrameworkInfo,
    /// What it wishes of offers.
    pub options: FrameworkOptions,
    /// Its id from an earlier life.
    pub framework_id: Option<FrameworkId>,
    /// The masters, tried in turn; at least one.
    pub masters: Vec<String>,
    /// How long the first subscription may take.
    pub connect_timeout: Duration,
    /// How long what was refused is not offered again, give or take a fifth.
    pub refuse: Duration,
    /// Where random numbers start.
    pub seed: u64,
}

impl Config {
    /// For one master, everything else as [`Driver::builder`](crate::Driver::builder) has it, and seed 0.
    pub fn new(info: FrameworkInfo, master: impl Into<String>) -> Self {
        Self {
            info,
            options: FrameworkOptions::default(),
            framework_id: None,
            masters: vec![master.into()],
            connect_timeout: crate::driver::CONNECT_TIMEOUT,
            refuse: apportion_types::limits::REFUSE_DEFAULT,
            seed: 0,
        }
    }
}

/// What an [`Engine`](crate::driver::Engine) is told.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input<M> {
    /// Begin. The first input, and only once.
    Start,
    /// The connection that was asked for stands; nothing was said on it yet.
    Connected,
    /// The connection could not be made, or has ended by itself.
    Disconnected {
        /// True when the master ended it in order; false when it broke, or never stood.
        clean: bool,
        /// For people.
        why: String,
    },
    /// The master spoke.
    Event(Event),
    /// The rest of the program spoke to the scheduler.
    Message(M),
    /// The rest of the program wants an end.
    Stop(Stop),
    /// A deadline has come, or offers were dropped outside of callbacks.
    Tick,
}

/// What an [`Engine`](crate::driver::Engine) wants done, in this order.
#[derive(Debug)]
#[non_exhaustive]
pub enum Action {
    /// Open a stream to this one of the [masters](Config::masters). Answered by [`Input::Connected`], later perhaps followed by
    /// [`Input::Disconnected`]; or by the latter alone.
    Connect {
        /// Its index.
        master: usize,
    },
    /// Send a call on the stream.
    Send {
        /// Its number.
        call_id: u64,
        /// The call.
        call: Call,
    },
    /// Abandon the stream, or the attempt at one. Nothing that was read from it may be told afterwards.
    Close,
    /// It is over. What was sent is to be delivered before the stream is closed.
    End(Result<Stop, DriverError>),
}

/// What the state wants done next.
#[derive(Debug)]
pub(crate) enum Step {
    Action(Action),
    Callback(Callback),
}

/// What the scheduler is to be told.
#[derive(Debug)]
pub(crate) enum Callback {
    StandingBy(FrameworkId),
    Subscribed(Subscription),
    Offers(Vec<Offer>),
    Update(TaskStatus),
    Operation(OperationStatus),
    Preempt(Preemption),
    InverseOffers(Vec<InverseOffer>),
    InverseOfferRescinded(OfferId),
    Free(FreeState),
    Committed(Vec<Claimed>),
    Rescinded(OfferId),
    AgentLost { agent_id: AgentId, message: String },
    Disconnected(String),
    Refused(Refused),
    Woken,
}

/// A callback has returned.
#[derive(Debug, Default)]
pub(crate) struct Returned {
    /// What it was told, where that has consequences.
    pub(crate) told: Option<Told>,
    pub(crate) answers: Vec<Said>,
    pub(crate) asked: Vec<Ask>,
    pub(crate) wants_offers: bool,
}

/// What a callback was told that has consequences when it returns.
#[derive(Debug)]
pub(crate) enum Told {
    /// An update that is to be acknowledged.
    Update { task_id: TaskId, agent_id: AgentId, update_id: UpdateId },
    /// What became of an operation, which is to be acknowledged.
    Operation { operation_id: OperationId, agent_id: AgentId, update_id: UpdateId },
    /// The subscription, with the tasks that the scheduler believes alive, and the operations whose end it was not told.
    Subscribed { tasks: Vec<(TaskId, Option<AgentId>)>, operations: Vec<(OperationId, Option<AgentId>)> },
}
