//! One stream to a master, from the attempt to connect to its end.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use apportion_proto::v1::{
    SchedulerServiceConnectRequest as Request, SchedulerServiceConnectResponse as Response,
    scheduler_service_client::SchedulerServiceClient,
};
use apportion_types::{
    convert::scheduler_request,
    limits::MESSAGE_BYTES_MAX,
    protocol::{
        LEADER, LEADERS_FOLLOWED_MAX, UNREACHED,
        scheduler::{Call, Event},
    },
    text::chain,
};
use tokio::{
    sync::mpsc::{self, error::SendTimeoutError},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status, Streaming, transport::Endpoint};

use super::bounds;
use crate::address::{describe, leader};

/// What a stream tells, in order: at most one `Connected`, then events, then one `Disconnected`.
#[derive(Debug)]
pub(super) enum FromLink {
    Connected,
    Event(Event),
    Disconnected { clean: bool, why: String },
}

/// A stream to a master. Dropping it cuts it off.
///
/// Events are read by a task of their own into a bounded queue: a slow scheduler stops the reading, never loses an event.
#[derive(Debug)]
pub(super) struct Link {
    calls: mpsc::Sender<Request>,
    events: mpsc::Receiver<FromLink>,
    reader: JoinHandle<()>,
    stalled: bool,
}

impl Link {
    /// Begins to connect.
    pub(super) fn open(endpoint: Endpoint, address: String) -> Self {
        let (calls, outgoing) = mpsc::channel(bounds::CALLS_QUEUED);
        let (incoming, events) = mpsc::channel(bounds::EVENTS_QUEUED);
        let reader = tokio::spawn(async move {
            let (clean, why) = read(endpoint, address, outgoing, &incoming).await;
            // Nobody listens when the link was dropped.
            let _ = incoming.send(FromLink::Disconnected { clean, why }).await;
        });
        Self { calls, events, reader, stalled: false }
    }

    /// Hands a call to the stream; what a stream that has ended was to send is lost with it.
    pub(super) async fn send(&mut self, call_id: u64, call: Call) {
        if self.stalled {
            return;
        }
        let request = scheduler_request(call_id, call);
        if let Err(SendTimeoutError::Timeout(_)) =
            self.calls.send_timeout(request, bounds::CALL_STALL_TIMEOUT).await
        {
            self.stalled = true;
        }
    }

    /// What comes next. Safe to be cancelled.
    pub(super) async fn next(&mut self) -> FromLink {
        if self.stalled {
            let why = format!("the master took no call for {:?}", bounds::CALL_STALL_TIMEOUT);
            return FromLink::Disconnected { clean: false, why };
        }
        self.events.recv().await.unwrap_or_else(|| FromLink::Disconnected {
            clean: false,
            why: "the task that reads the connection has ended".to_owned(),
        })
    }

    /// What has come already.
    pub(super) fn try_next(&mut self) -> Option<FromLink> {
        self.events.try_recv().ok()
    }

    /// Sends what was handed over, then ends the stream in order; cuts it off when that takes too long.
    pub(super) async fn finish(mut self) {
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.calls, closed));
        let ended = async { while self.events.recv().await.is_some() {} };
        if timeout(bounds::FLUSH_TIMEOUT, ended).await.is_err() {
            tracing::debug!("the master did not end the stream in time; it is cut off");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// The calls of a link, of which the next stream takes what the one before did not.
struct Calls(Arc<Mutex<mpsc::Receiver<Request>>>);

impl Stream for Calls {
    type Item = Request;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Request>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).poll_recv(cx)
    }
}

/// Reads a stream to its end: whether it ended in order, and how it ended.
async fn read(
    endpoint: Endpoint,
    address: String,
    mut calls: mpsc::Receiver<Request>,
    events: &mpsc::Sender<FromLink>,
) -> (bool, String) {
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => return (false, unconnected(&address, &error)),
    };
    // Before the stream is opened: a master may answer the request only when its first call has come.
    if events.send(FromLink::Connected).await.is_err() {
        return (false, "nobody listens".to_owned());
    }
    let Some(first) = calls.recv().await else { return (true, "there was nothing to say".to_owned()) };
    let calls = Arc::new(Mutex::new(calls));
    let (mut channel, mut address, mut unreached) = (channel, address, None);
    let mut why = None;
    for _ in 0..=LEADERS_FOLLOWED_MAX {
        let mut client = SchedulerServiceClient::new(channel.clone())
            .max_decoding_message_size(bounds::EVENT_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let said = tokio_stream::once(first.clone()).chain(Calls(Arc::clone(&calls)));
        let mut said = tonic::Request::new(said);
        if let Some(leader) = unreached.take() {
            said.metadata_mut().insert(UNREACHED, leader);
        }
        let status = match client.connect(said).await {
            Ok(response) => return listen(response.into_inner(), &address, events).await,
            Err(status) => status,
        };
        let Some((leader, endpoint)) = leader(&status) else { return (false, failed(&address, &status)) };
        tracing::info!(master = address, leader, "the master stands by; going to the one that leads");
        match endpoint.connect().await {
            Ok(connected) => (channel, address, why) = (connected, leader, None),
            // The one that stands by is the first to hear of the next leader.
            Err(error) => {
                unreached = status.metadata().get(LEADER).cloned();
                why = Some(unconnected(&leader, &error));
            }
        }
    }
    let too_many =
        || format!("{address} is the last of too many masters that name another one as the leader");
    (false, why.unwrap_or_else(too_many))
}

fn unconnected(address: &str, error: &tonic::transport::Error) -> String {
    format!("cannot connect to {address}: {}", chain(error))
}

/// Passes on what the master says, until the stream ends.
async fn listen(
    mut stream: Streaming<Response>,
    address: &str,
    events: &mpsc::Sender<FromLink>,
) -> (bool, String) {
    loop {
        match stream.message().await {
            Ok(Some(message)) => match Event::try_from(message) {
                Ok(event) => {
                    if events.send(FromLink::Event(event)).await.is_err() {
                        return (false, "nobody listens".to_owned());
                    }
                }
                // A newer master may say what this driver does not know; whatever matters is said again or reconciled.
                Err(error) => {
                    tracing::warn!(master = address, "an event was not understood and is left out: {error}")
                }
            },
            Ok(None) => return (true, format!("{address} ended the connection")),
            Err(status) => return (false, failed(address, &status)),
        }
    }
}

fn failed(address: &str, status: &Status) -> String {
    match status.code() {
        Code::Unimplemented => {
            format!("{address} does not speak to schedulers; is it a master of Apportion?")
        }
        _ => format!("the connection to {address} failed: {}", describe(status)),
    }
}
