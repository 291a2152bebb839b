//! A task as its executor sees it.

use std::{future::pending, time::Duration};

use apportion_types::{Reason, RunId, TaskInfo};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};

/// A task that was launched on this executor.
#[derive(Debug)]
pub struct Launched {
    pub(super) run_id: RunId,
    pub(super) info: TaskInfo,
    pub(super) wish: watch::Receiver<Option<Wish>>,
    pub(super) say: mpsc::Sender<Said>,
}

/// That a task is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Why.
    pub reason: Reason,
    /// When it must have ended.
    pub deadline: Instant,
}

impl Wish {
    /// How long it may still take.
    pub fn grace(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Something to be told of a task that runs.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) run_id: RunId,
    pub(super) message: String,
    pub(super) healthy: Option<bool>,
}

impl Launched {
    /// What it is, as its framework described it. Its command is the executor's to make sense of, and may be empty.
    pub fn info(&self) -> &TaskInfo {
        &self.info
    }

    /// Tells that it runs, with a message for people. May be told as often as there is something to say.
    ///
    /// Returns when the update is kept for its agent, which takes longer only when very many are not acknowledged yet.
    pub async fn running(&self, message: impl Into<String> + Send) {
        self.say(message.into(), None).await;
    }

    /// The same, with whether it does its work.
    pub async fn healthy(&self, healthy: bool, message: impl Into<String> + Send) {
        self.say(message.into(), Some(healthy)).await;
    }

    async fn say(&self, message: String, healthy: Option<bool>) {
        let said = Said { run_id: self.run_id.clone(), message, healthy };
        // Nobody listens when the run is over, which drops this task too.
        let _ = self.say.send(said).await;
    }

    /// Waits until it is to end, and says how soon and why. Returns at once when that is known already. Safe to be cancelled.
    pub async fn killed(&self) -> Wish {
        let mut wish = self.wish.clone();
        match wish.wait_for(Option::is_some).await.ok().and_then(|wish| *wish) {
            Some(wish) => wish,
            None => pending().await,
        }
    }

    /// Waits until it must have ended: it was to end, and the grace is over, which may be shortened while it lasts. Safe to be cancelled.
    pub async fn overdue(&self) {
        let mut seen = self.wish.clone();
        loop {
            let deadline = seen.borrow_and_update().map(|wish| wish.deadline);
            let over = async {
                match deadline {
                    Some(deadline) => sleep_until(deadline).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = over => return,
                changed = seen.changed() => if changed.is_err() { pending().await },
            }
        }
    }
}
