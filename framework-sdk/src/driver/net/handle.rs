//! Speaking to a running scheduler from other parts of its program.

use std::fmt;

use tokio::sync::mpsc;

use crate::Stop;

/// Messages that wait for the scheduler; [`Handle::send`] waits when there are more.
pub const MESSAGES_MAX: usize = 1024;

/// What the rest of the program tells a driver.
#[derive(Debug)]
pub(super) enum Told<M> {
    Message(M),
    Stop(Stop),
}

/// Speaks to a running scheduler from other tasks. Cheap to clone; messages of one handle arrive in the order sent.
pub struct Handle<M> {
    outbox: mpsc::Sender<Told<M>>,
}

/// The driver has ended; the message is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the scheduler's driver has ended")]
pub struct Ended<M>(pub M);

impl<M> Handle<M> {
    /// Tells the scheduler something; waits while [`MESSAGES_MAX`] wait already.
    pub async fn send(&self, message: M) -> Result<(), Ended<M>> {
        match self.outbox.send(Told::Message(message)).await {
            Ok(()) => Ok(()),
            Err(mpsc::error::SendError(Told::Message(message))) => Err(Ended(message)),
            Err(mpsc::error::SendError(Told::Stop(_))) => unreachable!("what is given back is what was sent"),
        }
    }

    /// Ends the run, as [`Context::stop`](crate::Context::stop) does from within.
    pub async fn stop(&self, stop: Stop) -> Result<(), Ended<()>> {
        self.outbox.send(Told::Stop(stop)).await.map_err(|_| Ended(()))
    }

    /// True when the driver has ended.
    pub fn is_ended(&self) -> bool {
        self.outbox.is_closed()
    }
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { outbox: self.outbox.clone() }
    }
}

impl<M> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("ended", &self.is_ended()).finish()
    }
}

/// A handle, and where what it sends arrives.
pub(super) fn channel<M>() -> (Handle<M>, mpsc::Receiver<Told<M>>) {
    let (outbox, inbox) = mpsc::channel(MESSAGES_MAX);
    (Handle { outbox }, inbox)
}
