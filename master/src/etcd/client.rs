//! Requests to one of several members.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};

use super::{
    Endpoints, Error,
    error::{Fate, fate, refused},
    pb::{self, compare::TargetUnion, kv_client::KvClient, request_op::Request},
};

/// How long a member may take to accept a connection: a machine that is gone does not refuse it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long one member may take to answer a read; then the next is asked.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a write may take, from its being sent: etcd itself gives up a little later.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same of a write that is asked again when it is not answered: a member that is stuck is to hold nobody up for long.
const REPEATED_TIMEOUT: Duration = Duration::from_secs(1);

/// How often every member is asked in turn before a request fails, of a write only those to which no connection can be made: long enough for etcd
/// to elect a leader.
const ROUNDS: u32 = 3;

/// Between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(300);

/// A connection on which nothing is heard for so long is asked for a sign of life, and given so long again.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Bytes of an answer: etcd's own bound is only that of its limit on keys.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// A client of an etcd cluster. Clones share its connections, which are made when they are needed.
#[derive(Debug, Clone)]
pub struct Client(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    members: Vec<Member>,
    /// The member that answered last is asked first.
    first: AtomicUsize,
}

#[derive(Debug)]
struct Member {
    address: String,
    channel: Channel,
}

impl Client {
    /// Of these members. Must be called within a runtime; asks nobody yet.
    pub fn new(endpoints: &Endpoints) -> Self {
        let member = |address: &str| Member {
            address: address.to_owned(),
            channel: Endpoint::from_shared(format!("http://{address}"))
                .expect("endpoints are addresses")
                .connect_timeout(CONNECT_TIMEOUT)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .keep_alive_while_idle(true)
                .connect_lazy(),
        };
        let members = endpoints.iter().map(member).collect();
        Self(Arc::new(Shared { members, first: AtomicUsize::new(0) }))
    }

    /// Where its members are.
    pub fn endpoints(&self) -> String {
        self.0.members.iter().map(|member| member.address.as_str()).collect::<Vec<_>>().join(",")
    }

    /// Every member once, the one that answered last first.
    fn members(&self) -> impl Iterator<Item = (usize, &Member)> {
        let (members, first) = (&self.0.members, self.0.first.load(Ordering::Relaxed));
        (0..members.len()).map(move |offset| (first + offset) % members.len()).map(|at| (at, &members[at]))
    }

    fn unreachable(&self, last: Status) -> Error {
        Error::Unreachable { endpoints: self.endpoints(), source: Box::new(last) }
    }

    /// Asks what may be asked several times: one member after the other, for some rounds.
    pub(super) async fn read<T, F>(
        &self,
        what: &str,
        rounds: u32,
        time: Duration,
        ask: impl Fn(Channel) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut last = Status::unavailable("nobody was asked");
        for round in 0..rounds {
            if round > 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            for (at, member) in self.members() {
                match bounded(time, ask(member.channel.clone())).await {
                    Ok(answer) => {
                        self.0.first.store(at, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(status) if fate(&status) == Fate::Refused => {
                        return Err(refused(what, &member.address, &status));
                    }
                    Err(status) => {
                        tracing::debug!(etcd = member.address, what, error = %status, "a member did not answer");
                        last = status;
                    }
                }
            }
        }
        Err(self.unreachable(last))
    }

    /// Asks what may be asked once: the first member to which a connection can be made.
    async fn write<T, F>(&self, what: &str, time: Duration, ask: impl Fn(Channel) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let mut last = Status::unavailable("nobody was asked");
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(ROUND_PAUSE).await;
            }
            for (at, member) in self.members() {
                let status = match bounded(time, ask(member.channel.clone())).await {
                    Ok(answer) => {
                        self.0.first.store(at, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(status) => status,
                };
                match fate(&status) {
                    Fate::Unsent => last = status,
                    Fate::Refused => return Err(refused(what, &member.address, &status)),
                    Fate::Open => {
                        // Whoever asks again asks another one.
                        self.0.first.store((at + 1) % self.0.members.len(), Ordering::Relaxed);
                        let (what, endpoint) = (what.to_owned(), member.address.clone());
                        return Err(Error::Unknown { what, endpoint, source: Box::new(status) });
                    }
                }
            }
        }
        Err(self.unreachable(last))
    }

    /// Reads keys.
    pub(crate) async fn range(
        &self,
        what: &str,
        request: pb::RangeRequest,
    ) -> Result<pb::RangeResponse, Error> {
        self.read(what, ROUNDS, READ_TIMEOUT, |channel| {
            let (mut client, request) = (kv(channel), request.clone());
            async move { Ok(client.range(request).await?.into_inner()) }
        })
        .await
    }

    /// Does one branch of a transaction, on disk at most members when it returns.
    pub(crate) async fn txn(&self, what: &str, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        self.txn_within(WRITE_TIMEOUT, what, request).await
    }

    /// The same for who asks again when it is not known whether it was done: not answered soon, it is not.
    pub(crate) async fn txn_repeated(
        &self,
        what: &str,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Error> {
        self.txn_within(REPEATED_TIMEOUT, what, request).await
    }

    async fn txn_within(
        &self,
        time: Duration,
        what: &str,
        request: pb::TxnRequest,
    ) -> Result<pb::TxnResponse, Error> {
        self.write(what, time, |channel| {
            let (mut client, request) = (kv(channel), request.clone());
            async move { Ok(client.txn(request).await?.into_inner()) }
        })
        .await
    }
}

fn kv(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(ANSWER_BYTES_MAX)
}

/// A request that is not answered in time is as one whose connection broke.
async fn bounded<T>(time: Duration, asked: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded(format!("there was no answer within {time:?}")));
    timeout(time, asked).await.unwrap_or_else(late)
}

/// A read as a part of a transaction.
pub(crate) fn range(key: &str) -> pb::RequestOp {
    let range = pb::RangeRequest { key: key.into(), ..Default::default() };
    pb::RequestOp { request: Some(Request::RequestRange(range)) }
}

/// A write as a part of a transaction.
pub(crate) fn put(key: &str, value: Vec<u8>, lease: i64) -> pb::RequestOp {
    let put = pb::PutRequest { key: key.into(), value, lease };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

/// A removal as a part of a transaction.
pub(crate) fn delete(key: &str) -> pb::RequestOp {
    let delete = pb::DeleteRangeRequest { key: key.into() };
    pb::RequestOp { request: Some(Request::RequestDeleteRange(delete)) }
}

/// The condition that a key was made at this revision; at 0, that it does not exist.
pub(crate) fn created_at(key: &str, revision: i64) -> pb::Compare {
    pb::Compare {
        result: pb::compare::Result::Equal.into(),
        target: pb::compare::Target::Create.into(),
        key: key.into(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

/// The condition that a key was last written at this revision; at 0, that it does not exist.
pub(crate) fn written_at(key: &str, revision: i64) -> pb::Compare {
    pb::Compare {
        result: pb::compare::Result::Equal.into(),
        target: pb::compare::Target::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(revision)),
    }
}
