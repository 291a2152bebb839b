//! Questions and wishes for the core, by whichever way an operator comes.

use apportion_master_core::{OperatorCall, OperatorError, OperatorReply};
use tokio::sync::{mpsc, oneshot};

use crate::actor::Inbound;

/// The way to the core.
#[derive(Clone)]
pub(crate) struct Asker {
    inbox: mpsc::Sender<Inbound>,
}

/// Why an operator has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] OperatorError),
    /// The process ends.
    #[error("the master ends; try again after a pause")]
    Ending,
}

impl Asker {
    pub(crate) fn new(inbox: mpsc::Sender<Inbound>) -> Self {
        Self { inbox }
    }

    /// Asks the core, and waits for its answer.
    pub(crate) async fn ask(&self, call: OperatorCall) -> Result<OperatorReply, AskError> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Inbound::Operator { call, reply }).await.map_err(|_| AskError::Ending)?;
        Ok(answer.await.map_err(|_| AskError::Ending)??)
    }

    /// The shares of all roles and frameworks, in order of fairness.
    pub(crate) async fn shares(&self) -> Result<Vec<apportion_allocator::Share>, AskError> {
        match self.ask(OperatorCall::Shares).await? {
            OperatorReply::Shares(shares) => Ok(shares),
            other => unreachable!("the core answers what it was asked, not {other:?}"),
        }
    }
}

/// What was named does not make sense.
pub(crate) fn invalid(why: impl std::fmt::Display) -> AskError {
    OperatorError::Invalid { why: why.to_string() }.into()
}

/// What was named does not exist.
pub(crate) fn not_found(what: String) -> AskError {
    OperatorError::NotFound { what }.into()
}
