//! How a master comes to lead, keeps to it, and stops.

use std::{sync::Arc, time::Duration};

use apportion_types::text::chain;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use super::{Leader, Term, term::now};
use crate::{
    etcd::{Client, Cluster, Error, created_at, pb, put},
    registry::{Etcd, EtcdError, leader_key},
};

/// How often a stand-by looks who leads beside being told of changes: a watch that says nothing may also be one that nobody serves.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// After etcd did not answer a stand-by.
const PAUSE: Duration = Duration::from_secs(1);

/// After etcd did not answer the leader, whose time runs out.
const KEEP_PAUSE: Duration = Duration::from_millis(100);

/// How long etcd may take to hear that a master resigns; otherwise the lease ends by itself.
const RESIGN_TIMEOUT: Duration = Duration::from_secs(2);

/// What a stand-by knows of who leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nobody, for the moment.
    Nobody,
    /// This master does.
    Leads(Leader),
    /// Nothing, since etcd does not answer.
    Nothing,
}

/// One master's part in the election of a cluster's leader.
#[derive(Debug)]
pub(crate) struct Election {
    client: Client,
    cluster: Cluster,
    myself: Leader,
    ttl: Duration,
}

impl Election {
    /// Of this master, whose leadership ends so long after etcd last heard of it; whole seconds.
    pub(crate) fn new(client: Client, cluster: Cluster, myself: Leader, ttl: Duration) -> Self {
        Self { client, cluster, myself, ttl }
    }

    /// Where the cluster's registry is.
    pub(super) fn place(&self) -> (Client, Cluster) {
        (self.client.clone(), self.cluster.clone())
    }

    /// Waits until this master leads, and tells meanwhile who does. However long etcd is away: a stand-by has promised nothing.
    pub(crate) async fn win(&self, known: &watch::Sender<Known>) -> Leadership {
        let mut failures: u32 = 0;
        loop {
            match self.stand(known).await {
                Ok(Some(leadership)) => return leadership,
                Ok(None) => failures = 0,
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures.is_power_of_two() {
                        tracing::warn!(error = chain(&error), "cannot learn who leads; trying on");
                    }
                    tell(known, Known::Nothing);
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Leads if nobody does; otherwise returns when that may have changed.
    async fn stand(&self, known: &watch::Sender<Known>) -> Result<Option<Leadership>, Error> {
        let key = leader_key(&self.cluster);
        let request = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
        let answer = self.client.range("to learn who leads", request).await?;
        if let Some(kv) = answer.kvs.first() {
            let leader = String::from_utf8_lossy(&kv.value).parse().ok();
            // At its own address it is an earlier process, whose lease has yet to end: nobody is to be sent in circles.
            let leader = leader.filter(|leader: &Leader| leader.address != self.myself.address);
            tell(known, leader.map_or(Known::Nobody, Known::Leads));
            if kv.lease == 0 {
                tracing::warn!(
                    key,
                    "no master leads for as long as this key is there: it has no lease, so no master made it; remove it with `etcdctl del`"
                );
            }
            changed(&self.client, &key, answer.header.unwrap_or_default().revision).await?;
            return Ok(None);
        }
        tell(known, Known::Nobody);
        let sent = now();
        let lease = self.client.grant(self.ttl.as_secs().try_into().unwrap_or(i64::MAX)).await?;
        let request = pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![put(&key, self.myself.to_string().into_bytes(), lease.id)],
            failure: Vec::new(),
        };
        let answer = match self.client.txn("a master's leadership", request).await {
            Ok(answer) if answer.succeeded => answer,
            // Also of a leadership that may have been won unheard: nothing was done with it.
            other => {
                self.revoke(lease.id).await;
                return other.map(|_| None);
            }
        };
        Ok(Some(Leadership(Arc::new(Led {
            client: self.client.clone(),
            cluster: self.cluster.clone(),
            lease: lease.id,
            revision: answer.header.unwrap_or_default().revision,
            ttl: self.ttl,
            term: Arc::new(Term::of(sent, seconds(lease.ttl))),
        }))))
    }

    async fn revoke(&self, lease: i64) {
        if let Err(error) = self.client.revoke(lease).await {
            tracing::debug!(error = chain(&error), "a lease was not ended, and ends by itself");
        }
    }
}

/// Waits until the key is not as it was at this revision, or for as long as nothing that is said may mean that nobody serves the watch.
async fn changed(client: &Client, key: &str, revision: i64) -> Result<(), Error> {
    let mut changes = client.watch(key, revision + 1).await?;
    let changed = async {
        while let Ok(Some(change)) = changes.message().await {
            if change.canceled || !change.events.is_empty() {
                return;
            }
        }
        // It broke off; whoever cannot be asked anew says so.
        sleep(KEEP_PAUSE).await;
    };
    let _ = timeout(LOOK_INTERVAL, changed).await;
    Ok(())
}

fn tell(known: &watch::Sender<Known>, now: Known) {
    known.send_if_modified(|before| {
        let changed = *before != now;
        if changed {
            match &now {
                Known::Leads(leader) => tracing::info!(leader = leader.address, "another master leads"),
                Known::Nobody => tracing::info!("no master leads"),
                Known::Nothing => {}
            }
            *before = now;
        }
        changed
    });
}

fn seconds(ttl: i64) -> Duration {
    Duration::from_secs(ttl.try_into().unwrap_or(0))
}

/// A leadership that was won. It must be [`kept`](Leadership::kept), or it ends by itself.
#[derive(Debug, Clone)]
pub(crate) struct Leadership(Arc<Led>);

#[derive(Debug)]
struct Led {
    client: Client,
    cluster: Cluster,
    lease: i64,
    /// At which its key was made.
    revision: i64,
    ttl: Duration,
    term: Arc<Term>,
}

impl Leadership {
    /// For how long it surely lasts.
    pub(crate) fn term(&self) -> Arc<Term> {
        Arc::clone(&self.0.term)
    }

    /// The registry as it is since, which no other master writes to as long as this one leads.
    pub(crate) async fn registry(&self) -> Result<Etcd, EtcdError> {
        Etcd::open(self.0.client.clone(), &self.0.cluster, self.0.revision).await
    }

    /// Keeps it, and returns why it is over once it is.
    pub(crate) async fn kept(self) -> String {
        let why = tokio::select! {
            why = self.keep() => why,
            () = self.removed() => "its key in etcd is gone: its lease has ended there, or somebody removed it".to_owned(),
            () = self.run_out() => {
                format!("etcd did not answer within the {:?} for which its word stands", self.0.ttl)
            }
        };
        self.0.term.end();
        why
    }

    /// Returns once etcd says that it is over.
    async fn keep(&self) -> String {
        loop {
            let sent = now();
            match self.0.client.keep_alive(self.0.lease, self.0.ttl / 4).await {
                Ok(0) => return "its lease in etcd has ended".to_owned(),
                Ok(ttl) => {
                    self.0.term.extend(sent, seconds(ttl));
                    sleep(self.0.ttl / 3).await;
                }
                Err(error) => {
                    tracing::warn!(error = chain(&error), "the leadership could not be kept; trying on");
                    sleep(KEEP_PAUSE).await;
                }
            }
        }
    }

    /// Returns once its key is gone, which another master may have made anew by then: a lease that is kept does not bring it back.
    async fn removed(&self) {
        let key = leader_key(&self.0.cluster);
        loop {
            let request = pb::RangeRequest { key: key.clone().into(), ..Default::default() };
            // An etcd that does not answer is the concern of who keeps the lease.
            if let Ok(answer) = self.0.client.range("whether this master leads", request).await {
                if answer.kvs.first().is_none_or(|kv| kv.create_revision != self.0.revision) {
                    return;
                }
                let revision = answer.header.unwrap_or_default().revision;
                if changed(&self.0.client, &key, revision).await.is_ok() {
                    continue;
                }
            }
            sleep(KEEP_PAUSE).await;
        }
    }

    /// Returns once no time is left.
    async fn run_out(&self) {
        loop {
            let left = self.0.term.left_at(now());
            if left.is_zero() {
                return;
            }
            sleep(left).await;
        }
    }

    /// Ends it, so that another master leads at once. Nothing may be sent any more.
    pub(crate) async fn resign(self) {
        self.0.term.end();
        match timeout(RESIGN_TIMEOUT, self.0.client.revoke(self.0.lease)).await {
            Ok(Ok(())) => {}
            // Also of one that was deposed: its lease is gone.
            Ok(Err(error)) => {
                tracing::debug!(error = chain(&error), "the lease was not ended by this master")
            }
            Err(_) => tracing::debug!("etcd did not say whether it ended the lease"),
        }
    }
}
