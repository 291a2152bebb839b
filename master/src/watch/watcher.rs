//! One watcher: from its place in the ring to its stream.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use apportion_master_core::View;
use apportion_types::limits;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::Stream;

use super::{
    change::{Change, Kind, everything},
    hub::{Hub, Next, Position},
};
use crate::metrics::{Metrics, PeerKind};

/// Changes made into messages at once.
const CHANGES_AT_ONCE: usize = 1000;

/// Messages that wait for the watcher to read them, some megabytes at most; the last place is kept for how it ends.
const WAITING_MESSAGES_MAX: usize = 4;

/// Why a watch ends that its watcher did not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WatchEnd {
    /// It has not read in time.
    #[error(
        "changes were not read in time, and more than {} wait; watch again from the last complete position, or anew",
        limits::WATCH_CHANGES_MAX
    )]
    TooSlow,
    /// The master ends.
    #[error("the master ends; watch again after a pause")]
    Ending,
}

/// A part of what a watcher is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) position: Position,
    /// Of the snapshot with which it begins.
    pub(crate) snapshot: bool,
    /// The last part of this position.
    pub(crate) complete: bool,
    pub(crate) changes: Vec<Change>,
}

/// A watcher that has not begun to read.
pub(crate) struct Watcher {
    hub: Arc<Hub>,
    _permit: OwnedSemaphorePermit,
    kinds: Vec<Kind>,
    position: Position,
    snapshot: Option<Arc<View>>,
}

/// Its stream of messages; the last says why, when the master ended it.
pub(crate) struct Watching<M> {
    messages: mpsc::Receiver<Result<M, WatchEnd>>,
}

impl<M> Stream for Watching<M> {
    type Item = Result<M, WatchEnd>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.poll_recv(cx)
    }
}

/// The watcher has ended its stream, or is to be told of its end.
enum Stop {
    Gone,
    End(WatchEnd),
}

impl Watcher {
    pub(super) fn new(
        hub: Arc<Hub>,
        permit: OwnedSemaphorePermit,
        kinds: &[Kind],
        position: Position,
        snapshot: Option<Arc<View>>,
    ) -> Self {
        let kinds = if kinds.is_empty() { Kind::ALL.to_vec() } else { kinds.to_vec() };
        Self { hub, _permit: permit, kinds, position, snapshot }
    }

    /// Begins: a task of its own turns what it is told into messages, no faster than they are read. What is needed beside a change
    /// to describe it stands in the view.
    pub(crate) fn start<M: Send + 'static>(
        self,
        metrics: Arc<Metrics>,
        encode: impl Fn(&View, Told) -> Vec<M> + Send + Sync + 'static,
    ) -> Watching<M> {
        let (sender, messages) = mpsc::channel(WAITING_MESSAGES_MAX);
        tokio::spawn(async move {
            let Ok(last) = sender.clone().reserve_owned().await else { return };
            let mut teller = Teller { sender, encode };
            let Err(stop) = self.run(&mut teller).await;
            if let Stop::End(end) = stop {
                if end == WatchEnd::TooSlow {
                    tracing::info!("a watcher does not read what it is told; its stream is ended");
                    metrics.too_slow(PeerKind::Watcher);
                }
                last.send(Err(end));
            }
        });
        Watching { messages }
    }

    async fn run<M, E: Fn(&View, Told) -> Vec<M>>(
        mut self,
        teller: &mut Teller<M, E>,
    ) -> Result<std::convert::Infallible, Stop> {
        if let Some(view) = self.snapshot.take() {
            let kinds = self.kinds.clone();
            let wanted = everything(&view).filter(|change| kinds.contains(&change.kind()));
            self.tell(teller, true, wanted).await?;
        }
        let mut moves = self.hub.moves();
        loop {
            moves.borrow_and_update();
            match self.hub.after(self.position.version) {
                Next::Delta(delta) => {
                    self.position.version = delta.version;
                    let wanted = delta.wanted(&self.kinds);
                    drop(delta);
                    if !wanted.is_empty() {
                        self.tell(teller, false, wanted.into_iter()).await?;
                    }
                }
                Next::Nothing => {
                    tokio::select! {
                        _ = moves.changed() => {}
                        () = teller.sender.closed() => return Err(Stop::Gone),
                        () = tokio::time::sleep(limits::WATCH_HEARTBEAT) => {
                            self.tell(teller, false, std::iter::empty()).await?;
                        }
                    }
                }
                Next::Lost => return Err(Stop::End(WatchEnd::TooSlow)),
                Next::Closed => return Err(Stop::End(WatchEnd::Ending)),
            }
        }
    }

    /// Tells changes of the present position in parts, the last of which is complete.
    async fn tell<M, E: Fn(&View, Told) -> Vec<M>>(
        &self,
        teller: &mut Teller<M, E>,
        snapshot: bool,
        changes: impl Iterator<Item = Change>,
    ) -> Result<(), Stop> {
        let mut changes = changes.peekable();
        loop {
            let part: Vec<Change> = changes.by_ref().take(CHANGES_AT_ONCE).collect();
            let complete = changes.peek().is_none();
            let told = Told { position: self.position.clone(), snapshot, complete, changes: part };
            for message in (teller.encode)(&self.hub.view(), told) {
                self.send(teller, message).await?;
            }
            if complete {
                return Ok(());
            }
        }
    }

    /// Waits until there is room, or until what comes next is lost.
    async fn send<M, E>(&self, teller: &Teller<M, E>, message: M) -> Result<(), Stop> {
        let mut moves = self.hub.moves();
        loop {
            tokio::select! {
                biased;
                room = teller.sender.reserve() => {
                    room.map_err(|_| Stop::Gone)?.send(Ok(message));
                    return Ok(());
                }
                _ = moves.changed() => match self.hub.after(self.position.version) {
                    Next::Lost => return Err(Stop::End(WatchEnd::TooSlow)),
                    Next::Closed => return Err(Stop::End(WatchEnd::Ending)),
                    Next::Delta(_) | Next::Nothing => {}
                }
            }
        }
    }
}

struct Teller<M, E> {
    sender: mpsc::Sender<Result<M, WatchEnd>>,
    encode: E,
}
