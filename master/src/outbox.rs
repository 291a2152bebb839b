//! What is queued to one peer: bounded, and never waited for.
//!
//! The actor pushes, the peer's HTTP/2 stream takes when the peer reads: one chunk at a time (32 KiB of small messages, or
//! one large message), and only when the peer has granted room for it. So a peer that does not read fills its
//! outbox, is told so as the last thing that it will hear, and is ended; nobody else notices.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
};

use apportion_master_core::ConnId;
use apportion_types::limits;
use dashmap::DashMap;
use tokio::sync::Notify;
use tokio_stream::Stream;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::Status;

/// Something that is sent to a peer.
pub(crate) trait Outgoing: Send + 'static {
    /// Its form on the wire.
    type Wire: Send + 'static;

    /// How many things of some size it holds; at least one.
    fn items(&self) -> usize;

    /// Appends the messages that carry it, each within the limit on a message.
    fn encode(self, wire: &mut VecDeque<Self::Wire>);

    /// The last message to a peer that does not read.
    fn too_slow() -> Self;

    /// The last message before the process ends.
    fn shutting_down() -> Self;
}

/// How a stream ends after what is queued.
type End = Result<(), Status>;

struct State<T> {
    queue: VecDeque<T>,
    items: usize,
    /// Set once: nothing is taken in any more.
    end: Option<End>,
    /// Of the stream that waits for a message.
    waker: Option<Waker>,
}

impl<T: Outgoing> State<T> {
    fn put(&mut self, message: T) {
        self.items += message.items();
        self.queue.push_back(message);
    }
}

/// What became of a message that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is queued.
    Queued,
    /// The stream has ended or is about to; the message is swallowed.
    Ended,
    /// There was no room: the stream ends now.
    Overflow,
}

/// The queue to one peer.
pub(crate) struct Outbox<T> {
    state: Mutex<State<T>>,
    ended: Notify,
}

impl<T: Outgoing> Outbox<T> {
    fn new() -> Self {
        let state = State { queue: VecDeque::new(), items: 0, end: None, waker: None };
        Self { state: Mutex::new(state), ended: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // No code that may panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, message: T) -> Pushed {
        let mut state = self.lock();
        if state.end.is_some() {
            return Pushed::Ended;
        }
        // A message alone is let through, however much it holds: without it the peer could never go on.
        let full = !state.queue.is_empty() && state.items + message.items() > limits::OUTBOX_ITEMS_MAX;
        if full {
            // What is queued is of no use any more: after its reconnection the peer starts over.
            state.queue.clear();
            state.items = 0;
            state.put(T::too_slow());
            self.end(state, Ok(()));
            return Pushed::Overflow;
        }
        state.put(message);
        wake(state);
        Pushed::Queued
    }

    /// Ends the stream after what is queued and this last message. Only the first end counts.
    pub(crate) fn finish(&self, last: Option<T>, end: End) {
        let mut state = self.lock();
        if state.end.is_none() {
            if let Some(last) = last {
                state.put(last);
            }
            self.end(state, end);
        }
    }

    fn end(&self, mut state: MutexGuard<'_, State<T>>, end: End) {
        state.end = Some(end);
        wake(state);
        self.ended.notify_one();
    }

    /// Returns when nothing is taken in any more. For one waiter.
    pub(crate) async fn ended(&self) {
        let ended = self.ended.notified();
        if self.lock().end.is_none() {
            ended.await;
        }
    }
}

/// Wakes the stream outside of the lock.
fn wake<T>(mut state: MutexGuard<'_, State<T>>) {
    let waker = state.waker.take();
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The stream of messages to one peer, as its connection reads it. Dropped by the connection when the peer is gone.
pub(crate) struct Mail<T: Outgoing> {
    outbox: Arc<Outbox<T>>,
    /// The rest of a message that took several on the wire.
    wire: VecDeque<T::Wire>,
    _live: TaskTrackerToken,
}

impl<T: Outgoing> Unpin for Mail<T> {}

impl<T: Outgoing> Stream for Mail<T> {
    type Item = Result<T::Wire, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(wire) = self.wire.pop_front() {
                return Poll::Ready(Some(Ok(wire)));
            }
            let message = {
                let mut state = self.outbox.lock();
                match state.queue.pop_front() {
                    Some(message) => {
                        state.items -= message.items();
                        message
                    }
                    None => match &mut state.end {
                        Some(end) => {
                            let end = std::mem::replace(end, Ok(()));
                            return Poll::Ready(end.err().map(Err));
                        }
                        None => {
                            state.waker = Some(cx.waker().clone());
                            return Poll::Pending;
                        }
                    },
                }
            };
            message.encode(&mut self.wire);
        }
    }
}

impl<T: Outgoing> Drop for Mail<T> {
    fn drop(&mut self) {
        let mut state = self.outbox.lock();
        state.queue.clear();
        state.items = 0;
        if state.end.is_none() {
            self.outbox.end(state, Ok(()));
        }
    }
}

/// The outboxes of every peer of one kind.
pub(crate) struct Outboxes<T: Outgoing> {
    map: DashMap<ConnId, Arc<Outbox<T>>>,
    closing: AtomicBool,
    live: TaskTracker,
}

impl<T: Outgoing> Default for Outboxes<T> {
    fn default() -> Self {
        Self { map: DashMap::new(), closing: AtomicBool::new(false), live: TaskTracker::new() }
    }
}

impl<T: Outgoing> Outboxes<T> {
    /// An outbox for a new stream. While the process ends, one that says so and ends.
    pub(crate) fn open(&self, conn: ConnId) -> (Arc<Outbox<T>>, Mail<T>) {
        let outbox = Arc::new(Outbox::new());
        let mail = Mail { outbox: Arc::clone(&outbox), wire: VecDeque::new(), _live: self.live.token() };
        self.map.insert(conn, Arc::clone(&outbox));
        // Looked at after the insertion, so that either this or `finish_all` sees the other.
        if self.closing.load(Ordering::SeqCst) {
            outbox.finish(Some(T::shutting_down()), Ok(()));
        }
        (outbox, mail)
    }

    /// Queues a message; one to a stream that is gone is swallowed.
    pub(crate) fn push(&self, conn: ConnId, message: T) -> Pushed {
        self.map.get(&conn).map_or(Pushed::Ended, |outbox| outbox.push(message))
    }

    /// Ends a stream after what is queued.
    pub(crate) fn finish(&self, conn: ConnId) {
        if let Some(outbox) = self.map.get(&conn) {
            outbox.finish(None, Ok(()));
        }
    }

    /// Forgets a stream and ends it after what is queued.
    pub(crate) fn remove(&self, conn: ConnId) {
        if let Some((_, outbox)) = self.map.remove(&conn) {
            outbox.finish(None, Ok(()));
        }
    }

    /// Tells every peer that has not been told of another end that the process ends; streams opened from now on hear it at once.
    pub(crate) fn finish_all(&self) {
        self.closing.store(true, Ordering::SeqCst);
        for outbox in &self.map {
            outbox.finish(Some(T::shutting_down()), Ok(()));
        }
    }

    /// Returns when every stream is read to its end or dropped; of use after [`Outboxes::finish_all`] only.
    pub(crate) async fn drained(&self) {
        self.live.close();
        self.live.wait().await;
    }

    /// Streams that have not ended.
    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt as _;

    use super::*;

    #[derive(Debug, PartialEq)]
    enum Note {
        Number(usize),
        Large(usize),
        TooSlow,
        Shutdown,
    }

    impl Outgoing for Note {
        type Wire = String;

        fn items(&self) -> usize {
            match self {
                Note::Large(items) => *items,
                _ => 1,
            }
        }

        fn encode(self, wire: &mut VecDeque<String>) {
            match self {
                Note::Large(_) => wire.extend(["large a".to_owned(), "large b".to_owned()]),
                other => wire.push_back(format!("{other:?}")),
            }
        }

        fn too_slow() -> Self {
            Note::TooSlow
        }

        fn shutting_down() -> Self {
            Note::Shutdown
        }
    }

    async fn rest(mail: Mail<Note>) -> Vec<String> {
        mail.map(|item| item.unwrap_or_else(|status| status.message().to_owned())).collect().await
    }

    #[tokio::test]
    async fn messages_arrive_in_order_and_the_stream_ends_after_them() {
        let outboxes = Outboxes::<Note>::default();
        let (outbox, mail) = outboxes.open(ConnId(1));
        assert_eq!(outboxes.push(ConnId(1), Note::Number(1)), Pushed::Queued);
        assert_eq!(outboxes.push(ConnId(1), Note::Large(2)), Pushed::Queued);
        assert_eq!(outboxes.push(ConnId(2), Note::Number(9)), Pushed::Ended, "nobody is there");
        outboxes.finish(ConnId(1));
        assert_eq!(outboxes.push(ConnId(1), Note::Number(2)), Pushed::Ended);
        outbox.finish(Some(Note::Number(3)), Err(Status::internal("never")));
        assert_eq!(rest(mail).await, ["Number(1)", "large a", "large b"]);
        outbox.ended().await;
    }

    #[tokio::test]
    async fn a_stream_can_end_with_a_status() {
        let outboxes = Outboxes::<Note>::default();
        let (outbox, mail) = outboxes.open(ConnId(1));
        outbox.push(Note::Number(1));
        outbox.finish(None, Err(Status::out_of_range("too large")));
        assert_eq!(rest(mail).await, ["Number(1)", "too large"]);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_read_hears_so_last_and_nobody_else_notices() {
        let outboxes = Outboxes::<Note>::default();
        let (slow_outbox, slow) = outboxes.open(ConnId(1));
        let (_, other) = outboxes.open(ConnId(2));
        for number in 0..limits::OUTBOX_ITEMS_MAX {
            assert_eq!(outboxes.push(ConnId(1), Note::Number(number)), Pushed::Queued);
        }
        assert_eq!(outboxes.push(ConnId(1), Note::Number(0)), Pushed::Overflow);
        assert_eq!(outboxes.push(ConnId(1), Note::Number(0)), Pushed::Ended);
        assert_eq!(outboxes.push(ConnId(2), Note::Number(7)), Pushed::Queued);
        slow_outbox.ended().await;
        assert_eq!(rest(slow).await, ["TooSlow"]);
        outboxes.finish(ConnId(2));
        assert_eq!(rest(other).await, ["Number(7)"]);
    }

    #[tokio::test]
    async fn few_but_large_messages_overflow_too_unless_alone() {
        let outboxes = Outboxes::<Note>::default();
        let (outbox, mut mail) = outboxes.open(ConnId(1));
        assert_eq!(
            outbox.push(Note::Large(limits::OUTBOX_ITEMS_MAX + 1)),
            Pushed::Queued,
            "alone it is let through"
        );
        assert_eq!(mail.next().await.unwrap().unwrap(), "large a");
        assert_eq!(
            outbox.push(Note::Large(limits::OUTBOX_ITEMS_MAX)),
            Pushed::Queued,
            "what was taken does not count"
        );
        assert_eq!(outbox.push(Note::Number(1)), Pushed::Overflow);
        assert_eq!(rest(mail).await, ["large b", "TooSlow"]);
    }

    #[tokio::test]
    async fn a_dropped_stream_ends_its_outbox() {
        let outboxes = Outboxes::<Note>::default();
        let (outbox, mail) = outboxes.open(ConnId(1));
        drop(mail);
        outbox.ended().await;
        assert_eq!(outboxes.push(ConnId(1), Note::Number(1)), Pushed::Ended);
    }

    #[tokio::test]
    async fn at_shutdown_everybody_is_told_and_waited_for() {
        let outboxes = Outboxes::<Note>::default();
        let (_, early) = outboxes.open(ConnId(1));
        let (told, told_mail) = outboxes.open(ConnId(2));
        told.finish(Some(Note::Number(1)), Ok(()));
        outboxes.finish_all();
        let (_, late) = outboxes.open(ConnId(3));
        let all = async { (rest(early).await, rest(told_mail).await, rest(late).await) };
        let (texts, ()) = tokio::join!(all, outboxes.drained());
        assert_eq!(texts.0, ["Shutdown"]);
        assert_eq!(texts.1, ["Number(1)"]);
        assert_eq!(texts.2, ["Shutdown"]);
    }
}
