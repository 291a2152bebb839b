//! What a scheduler author implements.

use apportion_types::{
    AgentId, FrameworkId, InverseOffer, OfferId, OperationId, OperationStatus, TaskId, TaskStatus,
    protocol::scheduler::{FreeState, Preemption, Refusal},
};
use async_trait::async_trait;

use crate::{Claimed, Context, Offer};

/// A scheduler: it is told what happens, and answers by using offers and by what it asks of its [`Context`].
///
/// Callbacks come one at a time, in the order in which the master spoke; the next one waits until the last has returned.
/// Whatever a callback asks for is sent when it returns. A callback may await, such as a write to disk; while it does,
/// events wait in a bounded queue, and then in the connection. A callback that panics ends [`Driver::run`] with that panic.
///
/// The trait names no runtime and no clock, so that one value runs on a cluster, in a simulator and in a unit test
/// ([`testing`](crate::testing)): time comes from [`Context::now`], timers from [`Context::wake_after`].
///
/// [`Driver::run`]: crate::Driver::run
#[async_trait]
pub trait Scheduler: Send {
    /// What the rest of the program may tell it through a [`Handle`](crate::Handle);
    /// [`Infallible`](std::convert::Infallible) when that is nothing.
    type Message: Send;

    /// Resources that may be used.
    ///
    /// An offer that is dropped answers itself: with the tasks placed on it, or by giving it back. It may be kept for later
    /// by moving it into the scheduler, but the master takes it back after a time (30 s unless configured otherwise).
    /// Not called while [`wants_offers`](Scheduler::wants_offers) is false.
    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>);

    /// The state of a task.
    ///
    /// Statuses of one task that its agent made arrive in order, and at least once over all connections and restarts; within one
    /// driver the same update is not told twice, as far as it is remembered (the last 16,384). It is acknowledged when this
    /// returns, so whatever must survive a crash of the scheduler is to be stored before.
    ///
    /// Statuses that the master made, such as answers to reconciliation, come once and may be older than what an agent tells
    /// beside them: the end of a task may be told by both, and only its agent's status has the reason and the exit code. A
    /// terminal state is final whatever follows, until the id is launched again.
    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus);

    /// The subscription stands: the first one, or one after a lost connection.
    ///
    /// Nothing else is told by this subscription before it returns, so a framework id stored here is stored before any task
    /// is launched. The driver reconciles the tasks that it knows, and those of [`tasks`](Scheduler::tasks), by itself.
    async fn subscribed(&mut self, cx: &mut Context<'_>, subscription: Subscription) {
        let _ = (cx, subscription);
    }

    /// Another scheduler of the framework is subscribed, and this one [stands by](crate::driver::Builder::stand_by) to take its place. Told
    /// anew after a lost connection.
    async fn standing_by(&mut self, cx: &mut Context<'_>, framework: FrameworkId) {
        let _ = (cx, framework);
    }

    /// The connection is lost, and the driver is opening a new one. Offers still held are void: drop them.
    ///
    /// Tasks run on. What is launched on a void offer is answered by [`TaskState::Dropped`](crate::TaskState::Dropped); kills
    /// and reconciliations asked for meanwhile are sent as soon as the connection stands again.
    async fn disconnected(&mut self, cx: &mut Context<'_>, why: String) {
        let _ = (cx, why);
    }

    /// An offer is no longer valid. Only of interest to a scheduler that keeps offers between callbacks.
    async fn rescinded(&mut self, cx: &mut Context<'_>, offer: OfferId) {
        let _ = (cx, offer);
    }

    /// What became of an operation that was [named](crate::Made::named). Acknowledged when this returns, as an update is, and told
    /// at least once; after each subscription the driver asks for what was not told.
    ///
    /// One that was [`Dropped`](crate::OperationState::Dropped) was not done and may be asked for again; so may one that is
    /// [`Unknown`](crate::OperationState::Unknown), if the next offer of its agent does not show that it was done after all.
    async fn operation(&mut self, cx: &mut Context<'_>, status: OperationStatus) {
        let _ = (cx, status);
    }

    /// Tasks of the framework will be killed for a role of higher priority, unless as much ends on that agent before. Best effort; to
    /// do nothing is to let go of the tasks that are named. [`preempt::enough`](crate::preempt::enough) helps to choose others.
    async fn preempt(&mut self, cx: &mut Context<'_>, preemption: Preemption) {
        let _ = (cx, preemption);
    }

    /// The framework is asked to leave agents whose machines will be taken away for maintenance: to end what it has there, and to place
    /// nothing there that would not end before. Only told to a framework that says [`Capability::InverseOffers`]. Each is to be answered,
    /// now or within its time-out (30 s unless configured otherwise), with [`accept`](Context::accept_inverse_offers) or
    /// [`decline`](Context::decline_inverse_offers); one that is not is rescinded, and asked again a minute later. The default answers
    /// nothing: it shows to the operator as pending, which is the truth.
    ///
    /// Nothing is killed when the window begins. When the operator takes the machine down, what is left there is told to
    /// [`update`](Scheduler::update) as gone.
    ///
    /// [`Capability::InverseOffers`]: crate::Capability::InverseOffers
    async fn inverse_offers(&mut self, cx: &mut Context<'_>, offers: Vec<InverseOffer>) {
        let _ = (cx, offers);
    }

    /// An inverse offer that was not answered asks no more: the window has changed or is over, the agent is away, or nothing of the
    /// framework is there. All are void when the connection is lost.
    async fn inverse_offer_rescinded(&mut self, cx: &mut Context<'_>, offer: OfferId) {
        let _ = (cx, offer);
    }

    /// What is free in the cluster, while it is [watched](Context::watch_free): first everything, then each change, none left out
    /// while the connection stands. A [`FreeView`](crate::FreeView) keeps it.
    async fn free(&mut self, cx: &mut Context<'_>, free: &FreeState) {
        let _ = (cx, free);
    }

    /// What became of a [`commit`](Context::commit), claim for claim. Tasks of claims that were refused are told to
    /// [`update`](Scheduler::update) as dropped, too. Not told when the connection is lost before; then the tasks are
    /// reconciled.
    async fn committed(&mut self, cx: &mut Context<'_>, claims: Vec<Claimed>) {
        let _ = (cx, claims);
    }

    /// An agent cannot be reached or was removed. Statuses for its tasks come by themselves; best effort.
    async fn agent_lost(&mut self, cx: &mut Context<'_>, agent: AgentId, message: String) {
        let _ = (cx, agent, message);
    }

    /// Something from the rest of the program. May come at any time, before the first subscription too.
    async fn message(&mut self, cx: &mut Context<'_>, message: Self::Message) {
        let _ = (cx, message);
    }

    /// A time asked for by [`Context::wake_after`] has come.
    async fn woken(&mut self, cx: &mut Context<'_>) {
        let _ = cx;
    }

    /// The master refused a call; nothing of it was done. Logged as a warning beforehand.
    ///
    /// Tasks of a refused accept are told to [`update`](Scheduler::update) as well, as dropped or invalid.
    async fn refused(&mut self, cx: &mut Context<'_>, refused: Refused) {
        let _ = (cx, refused);
    }

    /// Whether more resources would be of use now. Asked after every callback.
    ///
    /// While it is false the master makes no offers to this framework, which lets other frameworks have them at once; when
    /// it is true again, all refusals are forgotten and offers come within milliseconds. The driver sends both calls.
    fn wants_offers(&self) -> bool {
        true
    }

    /// The tasks that should be alive, each with its agent where known. Asked after every subscription.
    ///
    /// The driver asks the master for the state of each until it is told, so that [`update`](Scheduler::update) hears what
    /// became of them while nobody listened. Tasks launched through this driver are known to it; a scheduler that stores
    /// its tasks and was restarted returns them here.
    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        Vec::new()
    }

    /// The operations whose end was not told, each with its agent where known. Asked after every subscription, as
    /// [`tasks`](Scheduler::tasks) is; those of this driver are known to it.
    fn operations(&self) -> Vec<(OperationId, Option<AgentId>)> {
        Vec::new()
    }
}

/// A subscription that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The framework's id: to be stored by a scheduler that wants its tasks to survive its own restart.
    pub framework_id: FrameworkId,
    /// Names the master's process.
    pub master_id: String,
    /// True when the framework had this id before: tasks may be running. Always, when it has several schedulers.
    pub resumed: bool,
}

/// A call that the master refused.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// Which call, such as `accept`; none when the driver does not remember it.
    pub call: Option<&'static str>,
    /// Why, for programs.
    pub code: Refusal,
    /// Why, for people.
    pub message: String,
}

/// How a run ends that the scheduler itself, or its program, ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stop {
    /// Ends the framework for ever: its tasks are killed, its id is of no use afterwards.
    Teardown,
    /// Only ends the connection: tasks run on for the framework's failover time-out, and whoever subscribes with the same id
    /// within it takes over.
    Disconnect,
    /// As [`Disconnect`](Stop::Disconnect), and as if the process had been killed at the beginning of this callback: nothing that it
    /// answers, acknowledges or asks for is sent. For a scheduler that could not store what it was told.
    Abort,
}
