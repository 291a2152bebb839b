//! Where dropped offers leave their answers, for the driver to send.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use apportion_types::{AgentId, OfferId, protocol::scheduler::OfferOperation};

use crate::DeclineReason;

/// What became of one offer, or of several merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) offers: Vec<OfferId>,
    pub(crate) agent_id: AgentId,
    /// What to do, in order; nothing gives them back.
    pub(crate) operations: Vec<OfferOperation>,
    pub(crate) refuse: Option<Duration>,
    pub(crate) reason: DeclineReason,
}

/// What is said of offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// What became of one.
    Answer(Answer),
    /// What became of several, all or nothing.
    Gang(Vec<Answer>),
    /// They are to be held for so long.
    Lease { offers: Vec<OfferId>, hold: Duration },
}

/// The answers of one driver's offers, in the order of their drops. Bounded by the offers that exist.
#[derive(Debug)]
pub(crate) struct Answers {
    /// In whose name reservations are made.
    principal: String,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: Vec<Said>,
    waker: Option<Waker>,
    closed: bool,
}

impl Answers {
    pub(crate) fn new(principal: impl Into<String>) -> Self {
        Self { principal: principal.into(), inner: Mutex::default() }
    }

    /// In whose name reservations are made.
    pub(crate) fn principal(&self) -> &str {
        &self.principal
    }

    /// Called by drops, so it must never panic: a lock poisoned by a panic elsewhere still holds good data.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Leaves an answer; forgets it when the driver has ended.
    pub(crate) fn push(&self, said: Said) {
        let waker = {
            let mut inner = self.lock();
            if inner.closed {
                return;
            }
            inner.waiting.push(said);
            inner.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// All that wait.
    pub(crate) fn take(&self) -> Vec<Said> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Ready as soon as one waits.
    pub(crate) fn poll_waiting(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        if !inner.waiting.is_empty() {
            return Poll::Ready(());
        }
        let old = inner.waker.replace(cx.waker().clone());
        // What a waker drops may be anything, an offer too: not under the lock.
        drop(inner);
        drop(old);
        Poll::Pending
    }

    /// From now on nobody listens.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.closed = true;
        inner.waiting.clear();
    }
}
