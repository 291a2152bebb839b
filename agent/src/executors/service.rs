//! What is said on an executor's socket, as far as it is one's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use apportion_agent_core::ContainerId;
use apportion_proto::v1::{
    ExecutorServiceConnectRequest, ExecutorServiceConnectResponse, executor_service_server::ExecutorService,
};
use apportion_types::protocol::executor::{ExecutorCall, ExecutorRefuseCode};
use subtle::ConstantTimeEq as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Code, Request, Response, Status, Streaming, metadata::MetadataMap};

use super::streams::{Heard, OUTBOX_MAX, Outbox};

/// How long a stream may take to begin with a subscription.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a container's socket serves.
pub(super) struct Service {
    pub(super) container_id: ContainerId,
    pub(super) token: String,
    pub(super) heard: mpsc::Sender<Heard>,
    pub(super) numbers: Arc<AtomicU64>,
    pub(super) readers: TaskTracker,
}

#[tonic::async_trait]
impl ExecutorService for Service {
    type ConnectStream = ReceiverStream<Result<ExecutorServiceConnectResponse, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<ExecutorServiceConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        self.admit(request.metadata())?;
        let (messages, outgoing) = mpsc::channel(OUTBOX_MAX);
        let reader = Reader {
            container_id: self.container_id.clone(),
            number: self.numbers.fetch_add(1, Ordering::Relaxed),
            outbox: Outbox::new(messages),
            heard: self.heard.clone(),
        };
        self.readers.spawn(reader.run(request.into_inner()));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Service {
    /// Only who can read the token is the executor.
    fn admit(&self, metadata: &MetadataMap) -> Result<(), Status> {
        let said = metadata.get("authorization").map(|said| said.as_bytes());
        match said.and_then(|said| said.strip_prefix(b"Bearer ")) {
            Some(token) if token.ct_eq(self.token.as_bytes()).into() => Ok(()),
            Some(_) => Err(Status::permission_denied(
                "that is not the token of this executor; bring the content of the file that APPORTION_EXECUTOR_TOKEN_FILE names, without the end of its line",
            )),
            None => Err(Status::unauthenticated(
                "a token is missing; bring the content of the file that APPORTION_EXECUTOR_TOKEN_FILE names, as `authorization: Bearer TOKEN`",
            )),
        }
    }
}

/// One stream, from its first message to its end.
struct Reader {
    container_id: ContainerId,
    number: u64,
    outbox: Outbox,
    heard: mpsc::Sender<Heard>,
}

impl Reader {
    async fn run(self, mut calls: Streaming<ExecutorServiceConnectRequest>) {
        let Some(subscribe) = self.subscription(&mut calls).await else { return };
        self.outbox.wait(&subscribe).await;
        let (container_id, number) = (self.container_id.clone(), self.number);
        let begun = Heard::Subscribed { container_id, number, outbox: self.outbox.clone(), subscribe };
        if self.heard.send(begun).await.is_err() {
            return;
        }
        let reason = tokio::select! {
            reason = self.read(&mut calls) => reason,
            () = self.outbox.over() => "the agent has ended it".to_owned(),
        };
        let (container_id, number) = (self.container_id, self.number);
        // An actor that has ended does not care any more.
        let _ = self.heard.send(Heard::Disconnected { container_id, number, reason }).await;
    }

    /// What the stream begins with; none when that is no subscription.
    async fn subscription(
        &self,
        calls: &mut Streaming<ExecutorServiceConnectRequest>,
    ) -> Option<ExecutorCall> {
        let wrong = match timeout(SUBSCRIBE_TIMEOUT, self.next(calls)).await {
            Ok(Ok(call @ ExecutorCall::Subscribe { .. })) => return Some(call),
            Ok(Ok(ExecutorCall::Update(_))) => "the first message must be the subscription".to_owned(),
            Ok(Err(_)) => return None,
            Err(_) => format!("no subscription came within {SUBSCRIBE_TIMEOUT:?}; say it first"),
        };
        self.outbox.refuse(ExecutorRefuseCode::Invalid, wrong);
        None
    }

    /// Passes on what is said, and returns why no more is.
    async fn read(&self, calls: &mut Streaming<ExecutorServiceConnectRequest>) -> String {
        loop {
            let call = match self.next(calls).await {
                Ok(call) => call,
                Err(reason) => return reason,
            };
            if matches!(call, ExecutorCall::Subscribe { .. }) {
                let wrong = "a stream has one subscription; open another stream for another".to_owned();
                self.outbox.refuse(ExecutorRefuseCode::Invalid, wrong.clone());
                return wrong;
            }
            // What an executor says without waiting for acknowledgements waits in its connection.
            self.outbox.wait(&call).await;
            let (container_id, number) = (self.container_id.clone(), self.number);
            if self.heard.send(Heard::Call { container_id, number, call }).await.is_err() {
                return "the agent ends".to_owned();
            }
        }
    }

    /// The next message; else why there is none, which the executor is told where it is at fault.
    async fn next(
        &self,
        calls: &mut Streaming<ExecutorServiceConnectRequest>,
    ) -> Result<ExecutorCall, String> {
        let wrong = match calls.message().await {
            Ok(Some(message)) => match ExecutorCall::try_from(message) {
                Ok(call) => return Ok(call),
                Err(error) => format!("a message breaks its rule: {error}"),
            },
            Ok(None) => return Err("the executor ended it".to_owned()),
            Err(status) => match status.code() {
                // Too large, or no message of this protocol.
                Code::OutOfRange | Code::Internal => {
                    format!("a message cannot be read: {}", status.message())
                }
                _ => return Err(format!("it broke: {}", status.message())),
            },
        };
        self.outbox.refuse(ExecutorRefuseCode::Invalid, wrong.clone());
        Err(wrong)
    }
}
