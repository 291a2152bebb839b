//! One stream to the agent, from the attempt to connect to its end.

use apportion_proto::v1::{
    ExecutorServiceConnectRequest as Request, executor_service_client::ExecutorServiceClient,
};
use apportion_types::{
    limits,
    protocol::executor::{ExecutorCall, ExecutorEvent},
    text::chain,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Code, Status,
    metadata::{Ascii, MetadataValue},
    transport::Endpoint,
};

use crate::address::describe;

/// Events that wait for the executor; further ones wait in the connection.
const EVENTS_QUEUED: usize = 64;

/// What a stream tells, in order: events, then its end.
#[allow(clippy::large_enum_variant, reason = "moved once; a box would cost more")]
#[derive(Debug)]
pub(super) enum FromLink {
    Event(ExecutorEvent),
    /// It is to be opened again.
    Lost(String),
    /// It is not.
    Refused(String),
}

/// A stream to the agent. Dropping it cuts it off.
#[derive(Debug)]
pub(super) struct Link {
    calls: mpsc::Sender<Request>,
    events: mpsc::Receiver<FromLink>,
    reader: JoinHandle<()>,
}

impl Link {
    /// Begins to connect, and to say this first.
    pub(super) fn open(endpoint: Endpoint, token: MetadataValue<Ascii>, first: ExecutorCall) -> Self {
        // As many as may not be acknowledged, so that there is always room.
        let (calls, outgoing) = mpsc::channel(limits::EXECUTOR_UPDATES_MAX + 1);
        let (incoming, events) = mpsc::channel(EVENTS_QUEUED);
        let reader = tokio::spawn(async move {
            let end = read(endpoint, token, outgoing, &incoming).await;
            // Nobody listens when the link was dropped.
            let _ = incoming.send(end).await;
        });
        let mut link = Self { calls, events, reader };
        link.send(first);
        link
    }

    /// Hands a call to the stream; what one that has ended was to send is said by the next.
    pub(super) fn send(&mut self, call: ExecutorCall) {
        let _ = self.calls.try_send(call.into());
    }

    /// What comes next. Safe to be cancelled.
    pub(super) async fn next(&mut self) -> FromLink {
        let ended = || FromLink::Lost("the task that reads the connection has ended".to_owned());
        self.events.recv().await.unwrap_or_else(ended)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn read(
    endpoint: Endpoint,
    token: MetadataValue<Ascii>,
    calls: mpsc::Receiver<Request>,
    events: &mpsc::Sender<FromLink>,
) -> FromLink {
    let channel = match endpoint.connect().await {
        Ok(channel) => channel,
        Err(error) => return FromLink::Lost(format!("it cannot be connected to: {}", chain(&error))),
    };
    let mut client = ExecutorServiceClient::new(channel)
        .max_decoding_message_size(limits::EXECUTOR_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::EXECUTOR_MESSAGE_BYTES_MAX);
    let mut request = tonic::Request::new(ReceiverStream::new(calls));
    request.metadata_mut().insert("authorization", token);
    let mut stream = match client.connect(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return ended(&status),
    };
    loop {
        match stream.message().await {
            Ok(Some(message)) => match ExecutorEvent::try_from(message) {
                Ok(event) => {
                    if events.send(FromLink::Event(event)).await.is_err() {
                        return FromLink::Lost("nobody listens".to_owned());
                    }
                }
                // Skipping it could lose a task without a word; a new subscription says what the executor does not know.
                Err(error) => {
                    return FromLink::Lost(format!("it sent a message that breaks the protocol: {error}"));
                }
            },
            Ok(None) => return FromLink::Lost("it ended the stream".to_owned()),
            Err(status) => return ended(&status),
        }
    }
}

fn ended(status: &Status) -> FromLink {
    let message = describe(status);
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => FromLink::Refused(message),
        _ => FromLink::Lost(format!("the stream broke: {message}")),
    }
}
