//! The stream to the master: opened, listened to, and opened again when it ends.

use std::{
    collections::hash_map::RandomState,
    error::Error as _,
    hash::{BuildHasher as _, Hasher as _},
    time::{Duration, Instant},
};

use apportion_agent_core::Backoff;
use apportion_proto::v1::{
    AgentServiceConnectRequest, AgentServiceConnectResponse, agent_service_client::AgentServiceClient,
};
use apportion_types::{
    limits,
    protocol::{
        LEADER, LEADERS_FOLLOWED_MAX, UNREACHED,
        agent::{AgentMessage, MasterMessage},
    },
    text::chain,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Request, Status, Streaming,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};

use crate::config::master_uri;

/// How long one master may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which nothing is heard for so long is asked for a sign of life, and given so long again to give one.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// What comes from the link, in order.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A stream is open; what is said goes here.
    Connected(Outbox),
    /// The master spoke.
    Message(Box<MasterMessage>),
    /// The stream ended.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
}

/// Where messages to the master are put.
#[derive(Debug)]
pub(crate) struct Outbox {
    messages: mpsc::Sender<AgentServiceConnectRequest>,
    close: CancellationToken,
}

impl Outbox {
    /// Queues a message. A master that does not read is left: the stream ends at once.
    pub(crate) fn send(&self, message: AgentMessage) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.messages.try_send(message.into()) {
            tracing::warn!(
                "the master does not read: {} messages wait; leaving it",
                limits::OUTBOX_ITEMS_MAX
            );
            self.close();
        }
    }

    /// Ends the stream at once.
    pub(crate) fn close(&self) {
        self.close.cancel();
    }
}

/// Keeps a stream to the master that leads open, until the receiver of what is heard is dropped.
pub(crate) async fn run(masters: Vec<String>, heard: mpsc::Sender<Heard>) {
    let mut backoff = Backoff::default();
    // The one that is tried first.
    let mut at = 0;
    let mut named = None;
    let mut followed = 0;
    loop {
        let begun = Instant::now();
        let mut stands_by = false;
        let stood = match first_reachable(&masters, at, named.take(), backoff.failures()).await {
            Some(Reached { at: from, channel, unreached }) => {
                let ended = converse(channel, unreached, &heard).await;
                named = ended.leader;
                stands_by = ended.stands_by;
                // Of masters that stand by, another one may know more.
                if ended.stood.is_zero() {
                    at = (from + 1) % masters.len();
                }
                ended.stood
            }
            None => Duration::ZERO,
        };
        if named.is_some() && followed < LEADERS_FOLLOWED_MAX && !heard.is_closed() {
            followed += 1;
            continue;
        }
        followed = 0;
        let pause = match stands_by {
            // A master that kept the agent waiting has paused for it.
            true => backoff.pause_for_leader(random()).saturating_sub(begun.elapsed()),
            false => backoff.pause(stood, random()),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = heard.closed() => return,
        }
    }
}

/// A connection that was made.
struct Reached {
    /// To which of the masters; of one that was named, who named it.
    at: usize,
    channel: Channel,
    /// The leader that was named, if it could not be reached before.
    unreached: Option<MetadataValue<Ascii>>,
}

/// A connection to the master that was named as the leader, or else to the first of the others from one on.
async fn first_reachable(
    masters: &[String],
    at: usize,
    named: Option<Named>,
    failures: u32,
) -> Option<Reached> {
    let mut unreached = None;
    if let Some(Named { address, uri }) = named {
        match reach(&uri, failures).await {
            Some(channel) => return Some(Reached { at, channel, unreached }),
            None => unreached = Some(address),
        }
    }
    for offset in 0..masters.len() {
        let at = (at + offset) % masters.len();
        if let Some(channel) = reach(&masters[at], failures).await {
            return Some(Reached { at, channel, unreached });
        }
    }
    None
}

async fn reach(master: &str, failures: u32) -> Option<Channel> {
    match connect(master).await {
        Ok(channel) => {
            tracing::info!(master, "connected");
            return Some(channel);
        }
        // A cluster that starts as a whole is not up at once; nobody needs to hear of each try.
        Err(error) if failures.is_power_of_two() => {
            tracing::warn!(master, error = chain(&error), "the master cannot be reached; trying on");
        }
        Err(error) => tracing::debug!(master, error = chain(&error), "the master cannot be reached"),
    }
    None
}

async fn connect(master: &str) -> Result<Channel, tonic::transport::Error> {
    Endpoint::from_shared(master.to_owned())?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect()
        .await
}

/// How a stream ended.
#[derive(Debug, Default)]
struct Ended {
    /// For how long its registration stood.
    stood: Duration,
    /// A master answered that it does not lead.
    stands_by: bool,
    /// Where to go instead, when it knows.
    leader: Option<Named>,
}

/// A leader that a master named which stands by.
#[derive(Debug)]
struct Named {
    /// As it was named.
    address: MetadataValue<Ascii>,
    uri: String,
}

/// One stream from its beginning to its end.
async fn converse(
    channel: Channel,
    unreached: Option<MetadataValue<Ascii>>,
    heard: &mpsc::Sender<Heard>,
) -> Ended {
    let (messages, outgoing) = mpsc::channel(limits::OUTBOX_ITEMS_MAX);
    let close = CancellationToken::new();
    // Register must be under way before the master answers anything, so the core hears of the stream first.
    if heard.send(Heard::Connected(Outbox { messages, close: close.clone() })).await.is_err() {
        return Ended::default();
    }
    let mut client =
        AgentServiceClient::new(channel).max_decoding_message_size(limits::AGENT_MESSAGE_BYTES_MAX);
    let mut request = Request::new(ReceiverStream::new(outgoing));
    if let Some(leader) = unreached {
        request.metadata_mut().insert(UNREACHED, leader);
    }
    let (mut registered_at, mut stands_by, mut leader) = (None, false, None);
    let reason = tokio::select! {
        reason = async {
            match client.connect(request).await {
                Ok(response) => listen(response.into_inner(), heard, &mut registered_at).await,
                Err(status) => {
                    // What breaks off on the way has a cause here.
                    stands_by = status.code() == Code::Unavailable && status.source().is_none();
                    leader = named_by(&status);
                    status_reason(&status)
                }
            }
        } => reason,
        () = close.cancelled() => "the agent left it".to_owned(),
        () = heard.closed() => "the agent ends".to_owned(),
    };
    // Told also when nobody listens any more; then there is nobody to tell.
    let _ = heard.send(Heard::Disconnected { reason }).await;
    Ended { stood: registered_at.map_or(Duration::ZERO, |at| at.elapsed()), stands_by, leader }
}

/// The leader that a master names which stands by.
fn named_by(status: &Status) -> Option<Named> {
    let address = status.metadata().get(LEADER)?;
    Some(Named { address: address.clone(), uri: master_uri(address.to_str().ok()?).ok()? })
}

/// Passes on what the master says, and says why it ended.
async fn listen(
    mut incoming: Streaming<AgentServiceConnectResponse>,
    heard: &mpsc::Sender<Heard>,
    registered_at: &mut Option<Instant>,
) -> String {
    loop {
        let message = match incoming.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return "the master ended it".to_owned(),
            Err(status) => return status_reason(&status),
        };
        match MasterMessage::try_from(message) {
            Ok(message) => {
                if matches!(message, MasterMessage::Registered { .. }) {
                    registered_at.get_or_insert_with(Instant::now);
                }
                if heard.send(Heard::Message(Box::new(message))).await.is_err() {
                    return "the agent ends".to_owned();
                }
            }
            // Skipping it could lose tasks without a word; after a new registration the master knows that they are missing.
            Err(error) => return format!("the master sent a message that breaks the protocol: {error}"),
        }
    }
}

fn status_reason(status: &tonic::Status) -> String {
    match status.source() {
        Some(source) => format!("{}: {}", status.message(), chain(source)),
        None if status.message().is_empty() => status.code().to_string(),
        None => status.message().to_owned(),
    }
}

/// A number that differs from agent to agent and from time to time.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
