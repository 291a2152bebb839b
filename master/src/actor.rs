//! The one task that owns the core.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use apportion_master_core::{
    Action, Actions, CommitId, Event, Master, OperatorCall, OperatorError, OperatorReply, RegistryOp,
    RequestId, View,
};
use apportion_types::{
    Time,
    protocol::{
        agent::MasterMessage,
        scheduler::{Call, Event as SchedulerEvent},
    },
};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use crate::{
    clock::Clock,
    journal::Recorder,
    leader::Term,
    metrics::{Metrics, PeerKind},
    outbox::{Outboxes, Pushed},
    registry::{Registry, RegistryError},
};

/// Events handled before their actions run and the view is published: enough to share the cost, few enough that nobody waits.
const BATCH_EVENTS_MAX: usize = 256;

/// How old the published view may be while further events of peers wait already. Each publication has the core copy what it changes
/// next, so that under load there are better few.
const VIEW_AGE_MAX: Duration = Duration::from_millis(5);

/// Events that wait for the actor, of all peers together. Each peer has its own bound as well; one that floods waits its turn,
/// since senders are served in the order in which they ask.
pub(crate) const INBOX_EVENTS_MAX: usize = 4096;

/// What is queued to the actor from outside.
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all are of the large kind, and a box each would cost more"
)]
pub(crate) enum Inbound {
    /// A peer did something.
    Peer {
        event: Event,
        /// The room that it takes up in its peer's inbox; given back when it is handled.
        room: Option<OwnedSemaphorePermit>,
    },
    /// An operator asks; dropped unanswered when the process ends.
    Operator { call: OperatorCall, reply: oneshot::Sender<Result<OperatorReply, OperatorError>> },
}

/// What is queued to the actor from within.
pub(crate) enum Internal {
    /// Writes are in the registry, in this order.
    Committed(Vec<CommitId>),
    /// The last event there is.
    Shutdown,
}

/// One write for the registry.
pub(crate) type Commit = (CommitId, RegistryOp);

/// Every queue to peers.
#[derive(Default)]
pub(crate) struct Peers {
    pub(crate) schedulers: Arc<Outboxes<SchedulerEvent>>,
    pub(crate) agents: Arc<Outboxes<MasterMessage>>,
}

/// The core, and all that its actions reach.
pub(crate) struct Actor {
    pub(crate) clock: Clock,
    pub(crate) master: Master,
    pub(crate) inbox: mpsc::Receiver<Inbound>,
    pub(crate) internal: mpsc::UnboundedReceiver<Internal>,
    pub(crate) commits: mpsc::UnboundedSender<Vec<Commit>>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) metrics: Arc<Metrics>,
    /// Takes a copy of every event, when the settings name a journal.
    pub(crate) journal: Option<Recorder>,
    /// As long as it lasts this master leads; what is decided after it must not leave.
    pub(crate) term: Arc<Term>,
}

impl Actor {
    /// Runs until [`Internal::Shutdown`] is handled, or the term is over.
    pub(crate) async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH_EVENTS_MAX);
        let mut effects = Effects { replies: BTreeMap::new(), requests: 0, actions: Vec::new() };
        let mut published = Instant::now();
        loop {
            let mut events = 0;
            // Whoever is answered may look at once.
            let mut answers = false;
            let mut shutdown = false;
            let timer = self.master.next_deadline().and_then(|deadline| self.clock.instant(deadline));
            tokio::select! {
                biased;
                Some(internal) = self.internal.recv() => {
                    let now = self.clock.now();
                    answers = true;
                    match internal {
                        Internal::Committed(commits) => {
                            for commit in commits {
                                events += 1;
                                self.handle(now, Event::Committed { commit }, &mut effects.actions);
                            }
                        }
                        Internal::Shutdown => {
                            events += 1;
                            shutdown = true;
                            self.handle(now, Event::Shutdown, &mut effects.actions);
                        }
                    }
                }
                _ = self.inbox.recv_many(&mut batch, BATCH_EVENTS_MAX) => {}
                () = tokio::time::sleep_until(timer.unwrap_or_else(tokio::time::Instant::now)), if timer.is_some() => {}
            }
            // From here to the end of the loop nothing is waited for.
            let start = Instant::now();
            let now = self.clock.now();
            events += batch.len();
            for inbound in batch.drain(..) {
                answers |= matches!(inbound, Inbound::Operator { .. });
                let (event, _room) = effects.event(inbound);
                self.handle(now, event, &mut effects.actions);
            }
            if !shutdown && self.master.next_deadline().is_some_and(|deadline| deadline <= now) {
                let (start, cycles) = (Instant::now(), self.master.allocation_cycles());
                self.handle(now, Event::Tick, &mut effects.actions);
                events += 1;
                if self.master.allocation_cycles() > cycles {
                    self.metrics.cycle(start.elapsed());
                }
            }
            if self.term.is_over() {
                return;
            }
            if events > 0 {
                self.perform(&mut effects);
                if answers || self.inbox.is_empty() || start.duration_since(published) >= VIEW_AGE_MAX {
                    self.publish();
                    published = start;
                }
                self.metrics.batch(events, start.elapsed());
            }
            if shutdown {
                if let Some(journal) = self.journal {
                    journal.end(now, &self.view.borrow());
                }
                return;
            }
        }
    }

    /// The one way by which an event gets to the core.
    fn handle(&mut self, now: Time, event: Event, actions: &mut Actions) {
        if let Some(journal) = &mut self.journal {
            journal.event(now, &event);
        }
        if let Event::SchedulerCall { call: Call::Decline { offers, reason, .. }, .. } = &event {
            self.metrics.declined(reason.code, offers.len());
        }
        self.master.handle(now, event, actions);
    }

    /// Runs the actions in order.
    fn perform(&self, effects: &mut Effects) {
        let mut commits = Vec::new();
        for action in effects.actions.drain(..) {
            match action {
                Action::ToScheduler { conn, event } => {
                    if self.peers.schedulers.push(conn, event) == Pushed::Overflow {
                        self.too_slow(PeerKind::Scheduler, conn.0);
                    }
                }
                Action::CloseScheduler { conn } => self.peers.schedulers.finish(conn),
                Action::ToAgent { conn, message } => {
                    if self.peers.agents.push(conn, message) == Pushed::Overflow {
                        self.too_slow(PeerKind::Agent, conn.0);
                    }
                }
                Action::CloseAgent { conn } => self.peers.agents.finish(conn),
                Action::Commit { commit, op } => commits.push((commit, op)),
                Action::Reply { request, result } => {
                    let reply = effects.replies.remove(&request).expect("each request is answered once");
                    // Whoever asked may have gone.
                    let _ = reply.send(result);
                }
            }
        }
        if !commits.is_empty() {
            // A writer that has failed ends the process by itself.
            let _ = self.commits.send(commits);
        }
    }

    fn too_slow(&self, peer: PeerKind, conn: u64) {
        tracing::warn!(peer = peer.name(), conn, "a peer does not read its messages; its stream is ended");
        self.metrics.too_slow(peer);
    }

    fn publish(&mut self) {
        let view = Arc::new(self.master.view());
        if let Some(journal) = &mut self.journal {
            journal.batch(&view);
        }
        self.view.send_replace(view);
    }
}

/// What is between events and the outside.
struct Effects {
    replies: BTreeMap<RequestId, oneshot::Sender<Result<OperatorReply, OperatorError>>>,
    requests: u64,
    actions: Actions,
}

impl Effects {
    /// The event of something queued, and what is to be dropped once it is handled.
    fn event(&mut self, inbound: Inbound) -> (Event, Option<OwnedSemaphorePermit>) {
        match inbound {
            Inbound::Peer { event, room } => (event, room),
            Inbound::Operator { call, reply } => {
                let request = RequestId(self.requests);
                self.requests += 1;
                self.replies.insert(request, reply);
                (Event::Operator { request, call }, None)
            }
        }
    }
}

/// Writes to the registry what the actor wants written: all that waits in one commit. Returns on failure, or with the actor.
pub(crate) async fn write(
    registry: Arc<dyn Registry>,
    mut commits: mpsc::UnboundedReceiver<Vec<Commit>>,
    internal: mpsc::UnboundedSender<Internal>,
    metrics: Arc<Metrics>,
) -> Result<(), RegistryError> {
    while let Some(mut waiting) = commits.recv().await {
        while let Ok(more) = commits.try_recv() {
            waiting.extend(more);
        }
        let (ids, ops) = waiting.into_iter().unzip();
        let start = Instant::now();
        registry.commit(ops).await?;
        metrics.commit(start.elapsed());
        if internal.send(Internal::Committed(ids)).is_err() {
            break;
        }
    }
    Ok(())
}
