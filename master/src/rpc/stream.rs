//! The life of one peer's stream: calls are converted and queued in order, answers wait in its outbox.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use apportion_master_core::{ConnId, Event};
use apportion_types::limits;
use prost::Message;
use tokio::sync::{Semaphore, mpsc};
use tonic::Streaming;

use super::status;
use crate::{
    actor::Inbound,
    metrics::{Metrics, PeerKind},
    outbox::{Mail, Outbox, Outboxes, Outgoing, Pushed},
};

/// Bytes of the calls taken from one peer and not yet handled; a flood waits in its own connection.
const INBOX_BYTES_MAX: usize = 16 << 20;

/// What a call counts at least, so that no more than [`limits::INBOX_CALLS_MAX`] of them wait.
const CALL_BYTES_MIN: usize = INBOX_BYTES_MAX / limits::INBOX_CALLS_MAX;

/// A kind of peer: how its messages become events.
pub(crate) trait Peer: Send + 'static {
    /// What it sends.
    type In: Message + Send + 'static;
    /// What it is sent.
    type Out: Outgoing;

    /// For metrics and logs.
    const KIND: PeerKind;

    /// Bytes of a message that are taken.
    const MESSAGE_BYTES_MAX: usize;

    /// What to do about a message that is larger, for people.
    const TOO_LARGE_REMEDY: &str;

    /// The event of a message, or what is answered to a bad one. `known` when the core has heard of the stream already.
    fn event(conn: ConnId, message: Self::In, known: bool) -> Result<Taken, Answer<Self::Out>>;

    /// The event of the stream's end.
    fn closed(conn: ConnId) -> Event;
}

/// A good message.
pub(crate) struct Taken {
    /// For the core.
    pub(crate) event: Event,
    /// Its kind, for metrics.
    pub(crate) kind: &'static str,
}

/// What a bad message is answered with.
#[derive(Debug)]
pub(crate) enum Answer<Out> {
    /// This, and the stream goes on.
    Refuse(Out),
    /// This, and the stream ends.
    End(Out),
}

/// What every stream needs.
pub(crate) struct Streams<Out: Outgoing> {
    inbox: mpsc::Sender<Inbound>,
    outboxes: Arc<Outboxes<Out>>,
    /// Shared by all kinds of peers: no two streams have the same number.
    conns: Arc<AtomicU64>,
    metrics: Arc<Metrics>,
}

impl<Out: Outgoing> Streams<Out> {
    pub(crate) fn new(
        inbox: mpsc::Sender<Inbound>,
        outboxes: Arc<Outboxes<Out>>,
        conns: Arc<AtomicU64>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { inbox, outboxes, conns, metrics }
    }

    /// Takes on a new stream: reads it in a task of its own, and returns what is to be sent on it.
    pub(crate) fn open<P: Peer<Out = Out>>(&self, messages: Streaming<P::In>) -> Mail<Out> {
        let conn = ConnId(self.conns.fetch_add(1, Ordering::Relaxed));
        let (outbox, mail) = self.outboxes.open(conn);
        let reader = Reader {
            conn,
            inbox: self.inbox.clone(),
            room: Arc::new(Semaphore::new(INBOX_BYTES_MAX)),
            outbox,
            outboxes: Arc::clone(&self.outboxes),
            metrics: Arc::clone(&self.metrics),
        };
        tokio::spawn(reader.run::<P>(messages));
        mail
    }
}

struct Reader<Out: Outgoing> {
    conn: ConnId,
    inbox: mpsc::Sender<Inbound>,
    room: Arc<Semaphore>,
    outbox: Arc<Outbox<Out>>,
    outboxes: Arc<Outboxes<Out>>,
    metrics: Arc<Metrics>,
}

impl<Out: Outgoing> Reader<Out> {
    async fn run<P: Peer<Out = Out>>(self, messages: Streaming<P::In>) {
        tracing::debug!(conn = self.conn.0, peer = P::KIND.name(), "stream opened");
        let known = self.read::<P>(messages).await;
        // Before the core hears of the end, so that what it still sends is swallowed.
        self.outboxes.remove(self.conn);
        if known {
            // The actor that is gone needs to know nothing.
            let _ = self.inbox.send(Inbound::Peer { event: P::closed(self.conn), room: None }).await;
        }
        tracing::debug!(conn = self.conn.0, peer = P::KIND.name(), "stream closed");
    }

    /// Reads until either side ends the stream. True when the core has heard of it.
    async fn read<P: Peer<Out = Out>>(&self, mut messages: Streaming<P::In>) -> bool {
        let mut known = false;
        loop {
            let message = tokio::select! {
                biased;
                () = self.outbox.ended() => return known,
                message = messages.message() => message,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return known,
                Err(broken) => {
                    tracing::info!(conn = self.conn.0, peer = P::KIND.name(), error = %broken, "stream broke off");
                    let told = status::broken(&broken, P::MESSAGE_BYTES_MAX, P::TOO_LARGE_REMEDY);
                    self.outbox.finish(None, Err(told));
                    return known;
                }
            };
            let bytes = message.encoded_len().clamp(CALL_BYTES_MIN, INBOX_BYTES_MAX);
            match P::event(self.conn, message, known) {
                Ok(Taken { event, kind }) => {
                    self.metrics.message(P::KIND, kind);
                    let bytes = u32::try_from(bytes).expect("it is at most INBOX_BYTES_MAX");
                    let room =
                        Arc::clone(&self.room).acquire_many_owned(bytes).await.expect("it is never closed");
                    if self.inbox.send(Inbound::Peer { event, room: Some(room) }).await.is_err() {
                        return known;
                    }
                    known = true;
                }
                Err(answer) => {
                    self.metrics.message(P::KIND, "invalid");
                    match answer {
                        Answer::Refuse(refusal) => {
                            if self.outbox.push(refusal) == Pushed::Overflow {
                                self.metrics.too_slow(P::KIND);
                            }
                        }
                        Answer::End(refusal) => self.outbox.finish(Some(refusal), Ok(())),
                    }
                }
            }
        }
    }
}
