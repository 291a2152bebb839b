//! The one stream of each executor, as the actor has it.

use std::{collections::HashMap, sync::Arc};

use apportion_agent_core::{ContainerId, Event};
use apportion_proto::v1::ExecutorServiceConnectResponse;
use apportion_types::{
    limits,
    protocol::executor::{ExecutorCall, ExecutorEvent, ExecutorRefuseCode},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Messages that wait for an executor to read them. All that one may be told at once fits: of each task that it is to run it and kill it,
/// of each update that it is on disk, and why the stream ends.
pub(super) const OUTBOX_MAX: usize = 2 * limits::EXECUTOR_TASKS_MAX + limits::EXECUTOR_UPDATES_MAX + 64;

/// What comes from executors.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A stream is open; what is said goes to the outbox.
    Subscribed { container_id: ContainerId, number: u64, outbox: Outbox, subscribe: ExecutorCall },
    /// An executor spoke.
    Call { container_id: ContainerId, number: u64, call: ExecutorCall },
    /// A stream ended.
    Disconnected { container_id: ContainerId, number: u64, reason: String },
    /// The container of an executor ended, which has said all that it had to say.
    End(Box<Event>),
}

/// Where messages to an executor are put.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    messages: mpsc::Sender<Result<ExecutorServiceConnectResponse, Status>>,
    /// How many updates more are read before one is acknowledged.
    updates: Arc<Semaphore>,
    over: CancellationToken,
}

impl Outbox {
    pub(super) fn new(messages: mpsc::Sender<Result<ExecutorServiceConnectResponse, Status>>) -> Self {
        let updates = Arc::new(Semaphore::new(limits::EXECUTOR_UPDATES_MAX));
        Self { messages, updates, over: CancellationToken::new() }
    }

    /// Queues a message. An executor that does not read is left: the stream ends.
    fn send(&self, event: ExecutorEvent) {
        if matches!(event, ExecutorEvent::Acknowledge { .. }) {
            self.updates.add_permits(1);
        }
        // The last place is for why it ends.
        if self.messages.capacity() > 1 {
            // A stream that is gone already swallows it.
            let _ = self.messages.try_send(Ok(event.into()));
        } else {
            let message = format!("{OUTBOX_MAX} messages wait to be read; read them, and subscribe again");
            self.refuse(ExecutorRefuseCode::TooSlow, message);
        }
    }

    /// Says why, as the last thing, and ends the stream.
    pub(super) fn refuse(&self, code: ExecutorRefuseCode, message: String) {
        if !self.over.is_cancelled() {
            self.over.cancel();
            let _ = self.messages.try_send(Ok(ExecutorEvent::Refuse { code, message }.into()));
        }
    }

    /// Waits until the stream is to end.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Waits until as many updates are acknowledged that those of this call may be heard.
    pub(super) async fn wait(&self, call: &ExecutorCall) {
        let updates = match call {
            ExecutorCall::Subscribe { unacknowledged, .. } => unacknowledged.len() as u32,
            ExecutorCall::Update(_) => 1,
        };
        if let Ok(permits) = self.updates.acquire_many(updates).await {
            permits.forget();
        }
    }
}

const REPLACED: &str = "a newer stream has taken its place; run an executor once";

/// The streams that stand, by the containers of their executors.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    streams: HashMap<ContainerId, (u64, Outbox)>,
}

impl Streams {
    /// What the core is to know of it: nothing of streams that are over.
    pub(crate) fn hear(&mut self, heard: Heard) -> Option<Event> {
        match heard {
            Heard::Subscribed { container_id, number, outbox, .. }
                if self.streams.get(&container_id).is_some_and(|(stands, _)| *stands > number) =>
            {
                outbox.refuse(ExecutorRefuseCode::Replaced, REPLACED.to_owned());
                None
            }
            Heard::Subscribed { container_id, number, outbox, subscribe: call } => {
                if let Some((_, older)) = self.streams.insert(container_id.clone(), (number, outbox)) {
                    older.refuse(ExecutorRefuseCode::Replaced, REPLACED.to_owned());
                }
                Some(Event::Executor { container_id, call })
            }
            Heard::Call { container_id, number, call } => {
                self.stands(&container_id, number).then_some(Event::Executor { container_id, call })
            }
            Heard::Disconnected { container_id, number, reason } => {
                self.stands(&container_id, number).then(|| {
                    self.streams.remove(&container_id);
                    Event::ExecutorDisconnected { container_id, reason }
                })
            }
            Heard::End(event) => Some(*event),
        }
    }

    fn stands(&self, container_id: &ContainerId, number: u64) -> bool {
        self.streams.get(container_id).is_some_and(|(stands, _)| *stands == number)
    }

    /// Queues a message to an executor; nothing when it has no stream.
    pub(crate) fn send(&self, container_id: &ContainerId, event: ExecutorEvent) {
        if let Some((_, outbox)) = self.streams.get(container_id) {
            outbox.send(event);
        }
    }

    /// Tells an executor why, and ends its stream.
    pub(crate) fn disconnect(
        &mut self,
        container_id: &ContainerId,
        code: ExecutorRefuseCode,
        message: String,
    ) {
        if let Some((_, outbox)) = self.streams.remove(container_id) {
            outbox.refuse(code, message);
        }
    }

    /// Tells every executor that the agent ends, and another process of it follows.
    pub(crate) fn shut_down(self) {
        for (_, outbox) in self.streams.into_values() {
            let message = "the agent ends; subscribe again to the next".to_owned();
            outbox.refuse(ExecutorRefuseCode::ShuttingDown, message);
        }
    }

    /// Lets go of the stream of a container that has ended.
    pub(crate) fn forget(&mut self, container_id: &ContainerId) {
        self.streams.remove(container_id);
    }
}
