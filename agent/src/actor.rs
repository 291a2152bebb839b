//! The one loop that feeds the core and runs what it wants. Nothing is awaited between an event and its actions.

use std::{future::Future, pin::pin, sync::Arc};

use apportion_agent_core::{Action, Actions, AgentCore, Event, View};
use tokio::sync::{mpsc, watch};

use crate::{
    agent::RunError,
    clock::Clock,
    effects::Effects,
    executors::{self, Streams},
    master_link::{Heard, Outbox},
    store::{Store, StoreError},
};

/// Events handled before the view is published again.
const BATCH_EVENTS_MAX: usize = 256;

/// What the log says.
pub(crate) type Written = Result<apportion_agent_core::CheckpointId, StoreError>;

/// The core, and all that it acts on.
pub(crate) struct Actor {
    pub(crate) core: AgentCore,
    pub(crate) clock: Clock,
    pub(crate) store: Store,
    pub(crate) written: mpsc::UnboundedReceiver<Written>,
    pub(crate) effects: Effects,
    pub(crate) happened: mpsc::UnboundedReceiver<Event>,
    pub(crate) heard: mpsc::Receiver<Heard>,
    pub(crate) executors: mpsc::Receiver<executors::Heard>,
    pub(crate) streams: Streams,
    pub(crate) outbox: Option<Outbox>,
    pub(crate) view: watch::Sender<Arc<View>>,
}

/// How an agent ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    /// True when its id must not be used again.
    pub(crate) unregistered: bool,
}

enum Input {
    Event(Event),
    Heard(Heard),
    Executor(executors::Heard),
    Written(Written),
}

impl Actor {
    /// Runs until the core is done after `shutdown`, or something is wrong that it cannot go on with.
    pub(crate) async fn run(
        &mut self,
        first: Event,
        shutdown: impl Future<Output = ()>,
    ) -> Result<Ended, RunError> {
        let mut shutdown = pin!(shutdown);
        let mut asked_to_end = false;
        let mut actions = Actions::new();
        if let Some(ended) = self.feed(Input::Event(first), &mut actions)? {
            return Ok(ended);
        }
        loop {
            self.view.send_replace(Arc::new(self.core.view()));
            let input = tokio::select! {
                biased;
                () = &mut shutdown, if !asked_to_end => {
                    asked_to_end = true;
                    self.store.leave();
                    Input::Event(Event::Shutdown)
                }
                written = self.written.recv() => {
                    Input::Written(written.expect("the log's thread lives as long as the store"))
                }
                Some(event) = self.happened.recv() => Input::Event(event),
                Some(heard) = self.heard.recv() => Input::Heard(heard),
                () = tick(&self.core, self.clock) => Input::Event(Event::Tick),
                // Last: whatever tasks say, nobody else waits for it.
                Some(heard) = self.executors.recv() => Input::Executor(heard),
            };
            let mut next = Some(input);
            for _ in 0..BATCH_EVENTS_MAX {
                let Some(input) = next.take().or_else(|| self.waiting()) else { break };
                if let Some(ended) = self.feed(input, &mut actions)? {
                    self.view.send_replace(Arc::new(self.core.view()));
                    return Ok(ended);
                }
            }
        }
    }

    /// Lets go of everything but what is still to be finished.
    pub(crate) fn end(self) -> (Store, Effects) {
        self.streams.shut_down();
        (self.store, self.effects)
    }

    /// The next input that is there already.
    fn waiting(&mut self) -> Option<Input> {
        if let Ok(written) = self.written.try_recv() {
            return Some(Input::Written(written));
        }
        if let Ok(event) = self.happened.try_recv() {
            return Some(Input::Event(event));
        }
        if let Ok(heard) = self.heard.try_recv() {
            return Some(Input::Heard(heard));
        }
        self.executors.try_recv().ok().map(Input::Executor)
    }

    fn feed(&mut self, input: Input, actions: &mut Actions) -> Result<Option<Ended>, RunError> {
        let event = match input {
            Input::Event(event) => event,
            Input::Written(written) => Event::Checkpointed { checkpoint: written? },
            Input::Executor(heard) => match self.streams.hear(heard) {
                Some(event) => event,
                None => return Ok(None),
            },
            Input::Heard(Heard::Connected(outbox)) => {
                self.outbox = Some(outbox);
                Event::Connected
            }
            Input::Heard(Heard::Message(message)) => Event::MasterMessage(*message),
            Input::Heard(Heard::Disconnected { reason }) => {
                self.outbox = None;
                Event::Disconnected { reason }
            }
        };
        match &event {
            Event::LaunchFailed { container_id, .. } => self.effects.forget(container_id),
            Event::Terminated { container_id, .. } | Event::ContainerLost { container_id, .. } => {
                self.effects.probes.forget(container_id);
                self.streams.forget(container_id);
            }
            _ => {}
        }
        self.core.handle(self.clock.now(), event, actions);
        for action in actions.drain(..) {
            match action {
                Action::Send(message) => {
                    if let Some(outbox) = &self.outbox {
                        outbox.send(message);
                    }
                }
                Action::Reconnect { reason } => {
                    tracing::warn!(reason, "leaving the master's stream");
                    if let Some(outbox) = self.outbox.take() {
                        outbox.close();
                    }
                }
                Action::Checkpoint { checkpoint, record } => self.store.append(checkpoint, record),
                Action::Launch(plan) => {
                    // Whoever sees a sandbox knows whose it is.
                    self.view.send_replace(Arc::new(self.core.view()));
                    self.effects.launch(*plan);
                }
                Action::CancelLaunch { container_id } => self.effects.cancel_launch(&container_id),
                Action::Attach { container_id, group_network } => {
                    self.effects.attach(container_id, group_network.as_ref());
                }
                Action::LeaveNetwork { run } => self.effects.leave_network(&run),
                Action::Signal { container_id, signal } => self.effects.signal(&container_id, signal),
                Action::Probe { container_id, kind, number, probe, timeout } => {
                    self.effects.probe((container_id, kind, number), probe, timeout);
                }
                Action::SendExecutor { container_id, event } => self.streams.send(&container_id, event),
                Action::DisconnectExecutor { container_id, code, message } => {
                    self.streams.disconnect(&container_id, code, message);
                }
                Action::Limit { container_id, number, ceilings, ports, cores } => {
                    self.effects.limit(&container_id, number, (ceilings, cores), ports);
                }
                Action::Remove { container_id } => self.effects.remove(container_id),
                Action::MakeVolume(volume) => self.effects.volumes.make(&volume),
                Action::DeleteVolume(volume) => self.effects.volumes.delete(&volume),
                Action::KeepVolumes(volumes) => self.effects.volumes.keep(&volumes),
                Action::Note { message } => tracing::info!("{message}"),
                Action::Fail { reason } => return Err(RunError::Refused { reason }),
                Action::Done { unregistered } => return Ok(Some(Ended { unregistered })),
            }
        }
        Ok(None)
    }
}

/// Waits for the core's next deadline, for ever when there is none.
async fn tick(core: &AgentCore, clock: Clock) {
    match core.next_deadline() {
        Some(deadline) => tokio::time::sleep(clock.until(deadline)).await,
        None => std::future::pending().await,
    }
}
