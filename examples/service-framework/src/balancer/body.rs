//! Bodies on their way: passed on piece by piece as they come, never copied, and watched for peers that stall.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    client::conn::http1,
};
use tokio::time::{Instant, Sleep, sleep};

use super::{
    pool,
    replica::{Ticket, lock},
};

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The connection that it came from failed.
    #[error("the body breaks off: {0}")]
    Broken(#[from] hyper::Error),
    /// Nothing came, or was taken, for longer than it may.
    #[error("nothing of the body came or was taken for longer than timeouts.body")]
    Stalled,
}

/// Counts the time in which nothing comes. It costs nothing as long as something does.
struct Patience {
    span: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(span: Duration) -> Self {
        Self { span, sleep: None }
    }

    /// Passes on what was polled; an error when nothing came for too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<Option<Result<T, hyper::Error>>>,
    ) -> Poll<Option<Result<T, BodyError>>> {
        if let Poll::Ready(ready) = polled {
            if let Some(sleep) = &mut self.sleep {
                sleep.as_mut().reset(Instant::now() + self.span);
            }
            return Poll::Ready(ready.map(|result| result.map_err(BodyError::Broken)));
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(self.span)));
        sleep.as_mut().poll(context).map(|()| Some(Err(BodyError::Stalled)))
    }
}

/// What a client sends, on its way to a replica.
pub(super) enum RequestBody {
    /// Nothing.
    Empty,
    /// All of it is here, and can be sent again.
    Whole(Bytes),
    /// It is passed on as it comes.
    Stream(Box<Stream>),
}

/// A body that is passed on as it comes.
pub(super) struct Stream {
    from: Incoming,
    patience: Patience,
    /// How many pieces were passed on: a replica's time to answer begins with the last.
    pieces: Arc<AtomicU64>,
}

impl RequestBody {
    pub(super) fn stream(from: Incoming, patience: Duration) -> (Self, Arc<AtomicU64>) {
        let pieces = Arc::new(AtomicU64::new(0));
        let stream = Stream { from, patience: Patience::new(patience), pieces: Arc::clone(&pieces) };
        (Self::Stream(Box::new(stream)), pieces)
    }

    /// The same again; none of what is passed on as it comes.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Empty => Some(Self::Empty),
            Self::Whole(bytes) => Some(Self::Whole(bytes.clone())),
            Self::Stream(_) => None,
        }
    }
}

impl fmt::Debug for RequestBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Whole(_) => "Whole",
            Self::Stream(_) => "Stream",
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                *self = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => {
                let polled = Pin::new(&mut stream.from).poll_frame(context);
                if polled.is_ready() {
                    stream.pieces.fetch_add(1, Relaxed);
                }
                stream.patience.watch(context, polled)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(_) => false,
            Self::Stream(stream) => stream.from.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(stream) => stream.from.size_hint(),
        }
    }
}

/// What holds a place on a replica until its answer has ended.
pub(super) struct Lease {
    pub(super) ticket: Ticket,
    /// The connection of HTTP/1 that the answer comes on, and the worker to which it returns.
    pub(super) connection: Option<(http1::SendRequest<RequestBody>, usize)>,
}

impl Lease {
    /// The answer has ended as it should.
    fn finish(self) {
        if let Some((sender, worker)) = self.connection {
            pool::give_back(Arc::clone(&self.ticket.endpoint), worker, sender);
        }
    }
}

/// What a client gets.
pub(super) enum ResponseBody {
    /// Said by the balancer itself.
    Own(Bytes),
    /// Passed on from a replica; none when the client took nothing for too long.
    Replica(Arc<Mutex<Option<Answer>>>),
}

/// The body of a replica's answer.
pub(super) struct Answer {
    from: Incoming,
    patience: Patience,
    lease: Option<Lease>,
    /// How often more was asked for, and whether the replica has yet to give it.
    asked: u64,
    awaited: bool,
}

impl ResponseBody {
    /// An answer of which the client may take nothing for as long as the replica may send nothing. Over HTTP/1 the kernel sees to that for the
    /// connection; a stream of HTTP/2, whose connection is well, is `watched`.
    pub(super) fn of_replica(from: Incoming, patience: Duration, lease: Lease, watched: bool) -> Self {
        let lease = Some(lease);
        let mut answer = Answer { from, patience: Patience::new(patience), lease, asked: 0, awaited: false };
        answer.finish_at_end();
        let watched = watched && answer.lease.is_some();
        let answer = Arc::new(Mutex::new(Some(answer)));
        if watched {
            tokio::spawn(watch(Arc::downgrade(&answer), patience));
        }
        Self::Replica(answer)
    }
}

/// Lets go of an answer, and so of the place on its replica, when nobody asks for more of it for so long.
async fn watch(answer: Weak<Mutex<Option<Answer>>>, patience: Duration) {
    let mut before = None;
    loop {
        sleep(patience).await;
        let Some(answer) = answer.upgrade() else { return };
        let mut answer = lock(&answer);
        match &*answer {
            Some(Answer { lease: Some(_), asked, awaited, .. }) if *awaited || before != Some(*asked) => {
                before = Some(*asked);
            }
            _ => return drop(answer.take()),
        }
    }
}

impl Answer {
    /// Nobody asks for the end of a body of known length: whoever has the last piece knows.
    fn finish_at_end(&mut self) {
        if self.from.is_end_stream()
            && let Some(lease) = self.lease.take()
        {
            lease.finish();
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let mut answer = match &mut *self {
            Self::Own(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Own(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Replica(answer) => lock(answer),
        };
        let Some(answer) = &mut *answer else { return Poll::Ready(Some(Err(BodyError::Stalled))) };
        let polled = Pin::new(&mut answer.from).poll_frame(context);
        let watched = answer.patience.watch(context, polled);
        answer.asked += 1;
        answer.awaited = watched.is_pending();
        match &watched {
            Poll::Ready(Some(Ok(_))) => answer.finish_at_end(),
            Poll::Ready(Some(Err(_))) => {
                if let Some(lease) = answer.lease.take() {
                    lease.ticket.failed();
                }
            }
            Poll::Ready(None) => {
                if let Some(lease) = answer.lease.take() {
                    lease.finish();
                }
            }
            Poll::Pending => {}
        }
        watched
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_empty(),
            Self::Replica(answer) => lock(answer).as_ref().is_some_and(|answer| answer.from.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Replica(answer) => {
                lock(answer).as_ref().map_or_else(SizeHint::default, |answer| answer.from.size_hint())
            }
        }
    }
}
