//! A registry in etcd, for several masters of which one leads.
//!
//! Each write is a transaction on the condition that the leadership that makes it still stands, so that of two masters that both
//! believe to lead only one writes. Its other condition is a key that each write of a leader advances: one of which it is not known whether it
//! was done is done again, and of the two only one can be. What is there is judged whole before anything is written.

#[cfg(test)]
mod proxy;
#[cfg(test)]
mod tests;

use std::{error::Error as StdError, mem, time::Duration};

use apportion_master_core::RegistryOp;
use apportion_proto::v1;
use apportion_types::text::chain;
use async_trait::async_trait;
use prost::Message as _;
use tokio::sync::Mutex;

use super::{
    Contents, Registry, RegistryError,
    entry::{Key, layout},
};
use crate::etcd::{self, Client, Cluster, created_at, delete, pb, put, range, written_at};

/// The latest layout of what is under a cluster's prefix that this master knows, see [`layout`]. A registry has the least that its
/// entries need or ever needed, and one that is higher is of a later version of the master.
const VERSION: u64 = 2;

/// Keys read in one answer: a hundred KiB of ordinary entries, and of the largest that there can be still less than a client takes.
const PAGE_KEYS_MAX: i64 = 250;

/// Changes in one transaction: etcd's `--max-txn-ops` is 128, and the version may have to be written beside them.
const PART_OPS_MAX: usize = 127;

/// Bytes of keys and values in one transaction: etcd's `--max-request-bytes` is 1.5 MiB, and what is around them needs some.
const PART_BYTES_MAX: usize = 1 << 20;

/// Before a write is done again of which nothing is known.
const AGAIN_PAUSE: Duration = Duration::from_millis(100);

/// Why a registry in etcd cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EtcdError {
    /// etcd did not do what it was asked.
    #[error(transparent)]
    Etcd(#[from] etcd::Error),
    /// There is none.
    #[error(
        "there is no registry under {prefix}/ in etcd at {endpoints}; name the cluster of a master with --cluster"
    )]
    Missing {
        /// What the cluster's keys begin with.
        prefix: String,
        /// Where etcd is.
        endpoints: String,
    },
    /// What is under a key is not what was written.
    #[error(
        "the registry under {prefix}/ in etcd is damaged at {key:?}, and left as it is; name another cluster with --cluster, or \
         stop every master of it, remove all of it with `etcdctl del --prefix {prefix}/` and import a backup with `apportion registry import`"
    )]
    Damaged {
        /// What the cluster's keys begin with.
        prefix: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// A later version wrote it.
    #[error(
        "the registry under {prefix}/ in etcd was written by a later version of the master (its layout is {version}, this one \
         knows {VERSION}); start that version"
    )]
    Later {
        /// What the cluster's keys begin with.
        prefix: String,
        /// The version of its layout.
        version: u64,
    },
    /// The leadership for which it was opened has ended; nothing was written.
    #[error("another master leads since ({leader}), and nothing was written")]
    Deposed {
        /// Who leads now, if anybody does.
        leader: String,
    },
    /// Somebody who is not the leader wrote to it; nothing more was written.
    #[error(
        "somebody else wrote to the registry of this leader ({key} in etcd), and nothing more was written; let nobody but masters write there"
    )]
    Disturbed {
        /// The key by which that is seen.
        key: String,
    },
    /// It was to be written to while nobody leads.
    #[error(
        "a master leads the cluster ({leader}), and nothing was written; stop every master of the cluster first"
    )]
    Led {
        /// Who leads.
        leader: String,
    },
}

/// What is wrong with what is under a key.
#[derive(Debug, thiserror::Error)]
enum Wrong {
    #[error("it is no entry of a registry")]
    Bytes(#[from] prost::DecodeError),
    #[error("it cannot be understood")]
    Entry(#[from] apportion_types::convert::ConvertError),
    #[error("it is about {about}")]
    Misplaced { about: String },
    #[error("it does not say which version wrote the entries; an import that was cut off leaves it so")]
    Unversioned,
    #[error("its name is no text")]
    Name,
}

/// The key of the leadership of a cluster: names the master that leads, and exists while one does.
pub(crate) fn leader_key(cluster: &Cluster) -> String {
    Keys::new(cluster).leader()
}

/// The names of a cluster's keys.
#[derive(Debug, Clone)]
struct Keys {
    prefix: String,
}

impl Keys {
    fn new(cluster: &Cluster) -> Self {
        Self { prefix: cluster.prefix() }
    }

    fn leader(&self) -> String {
        format!("{}/leader", self.prefix)
    }

    /// The layout of the entries.
    fn version(&self) -> String {
        format!("{}/version", self.prefix)
    }

    /// Which of a leader's writes was the last.
    fn sequence(&self) -> String {
        format!("{}/sequence", self.prefix)
    }

    /// What the keys of entries begin with.
    fn entries(&self) -> String {
        format!("{}/entries/", self.prefix)
    }

    fn entry(&self, key: &Key) -> String {
        format!("{}{key}", self.entries())
    }

    fn damaged(&self, key: &str, wrong: impl Into<Wrong>) -> EtcdError {
        EtcdError::Damaged {
            prefix: self.prefix.clone(),
            key: key.to_owned(),
            source: Box::new(wrong.into()),
        }
    }
}

/// A registry that outlives every master.
#[derive(Debug)]
pub struct Etcd {
    client: Client,
    keys: Keys,
    /// At which revision the key of the leadership was made for which this writes; 0 to write while nobody leads.
    leadership: i64,
    kept: Mutex<Kept>,
}

/// As it is in etcd.
#[derive(Debug, Default)]
struct Kept {
    contents: Contents,
    /// The layout under which it stands; none while it is no registry yet.
    layout: Option<u64>,
    /// When the key of the sequence was last written; 0 when it was not.
    sequence: i64,
    /// How many writes this has done.
    writes: u64,
}

impl Etcd {
    /// Opens the registry of a cluster for the master whose leadership's key was made at this revision.
    pub(crate) async fn open(client: Client, cluster: &Cluster, leadership: i64) -> Result<Self, EtcdError> {
        let keys = Keys::new(cluster);
        let kept = load(&client, &keys).await?;
        let versioned = kept.layout.is_some();
        let registry = Self { client, keys, leadership, kept: Mutex::new(kept) };
        if !versioned {
            registry.write(Vec::new()).await?;
        }
        Ok(registry)
    }

    /// Opens the registry of a cluster to import a backup, while it has no master. One that was empty is a registry only once a commit
    /// has succeeded as a whole.
    pub async fn open_without_master(client: Client, cluster: &Cluster) -> Result<Self, EtcdError> {
        let keys = Keys::new(cluster);
        let request = pb::RangeRequest { key: keys.leader().into(), ..Default::default() };
        if let Some(kv) = client.range("whether a master leads", request).await?.kvs.first() {
            return Err(EtcdError::Led { leader: String::from_utf8_lossy(&kv.value).into_owned() });
        }
        let kept = load(&client, &keys).await?;
        Ok(Self { client, keys, leadership: 0, kept: Mutex::new(kept) })
    }

    /// Applies changes in order, as many at once as etcd takes.
    async fn write(&self, ops: Vec<RegistryOp>) -> Result<(), EtcdError> {
        let mut kept = self.kept.lock().await;
        let (mut parts, needed) = split(&mut kept.contents, ops);
        let layout = needed.max(kept.layout.unwrap_or_default());
        let versioned = kept.layout.is_some();
        // Before what needs it, so that nobody who knows only earlier ones reads that.
        let rises = kept.layout.is_some_and(|known| known < layout);
        if !versioned && parts.is_empty() {
            parts.push(Part::default());
        }
        let count = parts.len();
        // Without a leadership nobody sees to it that all parts are written: until the last one is, it is no registry.
        let whole = self.leadership != 0 || count == 1;
        for (at, part) in parts.into_iter().enumerate() {
            // Behind all else, so that what was cut off is never taken for whole.
            let version = self.keys.version();
            let version = match at + 1 == count {
                true if !versioned || !whole => Some(put(&version, layout.to_string().into_bytes(), 0)),
                false if at == 0 && !whole => Some(delete(&version)),
                _ if at == 0 && rises => Some(put(&version, layout.to_string().into_bytes(), 0)),
                _ => None,
            };
            let what = part.describe();
            let changes = part.entries.into_iter().map(|(key, value)| {
                let key = self.keys.entry(&key);
                value.map_or_else(|| delete(&key), |value| put(&key, value, 0))
            });
            let changes = changes.chain(version).collect();
            match self.leadership {
                0 => self.write_once(&what, changes).await?,
                _ => self.write_surely(&what, changes, &mut kept).await?,
            }
        }
        kept.layout = Some(layout);
        Ok(())
    }

    /// Writes while nobody leads.
    async fn write_once(&self, what: &str, changes: Vec<pb::RequestOp>) -> Result<(), EtcdError> {
        let leader = self.keys.leader();
        let compare = vec![created_at(&leader, 0)];
        let request = pb::TxnRequest { compare, success: changes, failure: vec![range(&leader)] };
        let answer = self.client.txn(what, request).await?;
        match answer.succeeded {
            true => Ok(()),
            false => Err(EtcdError::Led { leader: leader_of(&answer) }),
        }
    }

    /// Writes as the leader, again until it is known to be done: whoever has it lead stops it when its time is over.
    async fn write_surely(
        &self,
        what: &str,
        mut changes: Vec<pb::RequestOp>,
        kept: &mut Kept,
    ) -> Result<(), EtcdError> {
        let (leader, sequence) = (self.keys.leader(), self.keys.sequence());
        let name = format!("{} {}", self.leadership, kept.writes + 1);
        changes.push(put(&sequence, name.clone().into_bytes(), 0));
        let request = pb::TxnRequest {
            // Of two that are the same the second finds another sequence, and so does one that comes late.
            compare: vec![created_at(&leader, self.leadership), written_at(&sequence, kept.sequence)],
            success: changes,
            failure: vec![range(&leader), range(&sequence)],
        };
        let answer = loop {
            match self.client.txn_repeated(what, request.clone()).await {
                Ok(answer) => break answer,
                Err(error @ (etcd::Error::Unknown { .. } | etcd::Error::Unreachable { .. })) => {
                    tracing::warn!(error = chain(&error), "asking whether it was done, and doing it if not");
                    tokio::time::sleep(AGAIN_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        kept.sequence = if answer.succeeded {
            answer.header.unwrap_or_default().revision
        } else {
            let leads = found(&answer, 0).is_some_and(|kv| kv.create_revision == self.leadership);
            if !leads {
                return Err(EtcdError::Deposed { leader: leader_of(&answer) });
            }
            match found(&answer, 1) {
                Some(kv) if kv.value == name.as_bytes() => kv.mod_revision,
                _ => return Err(EtcdError::Disturbed { key: sequence }),
            }
        };
        kept.writes += 1;
        Ok(())
    }
}

/// What the read of this number found, of a transaction that was refused.
fn found(answer: &pb::TxnResponse, number: usize) -> Option<&pb::KeyValue> {
    match answer.responses.get(number)?.response.as_ref()? {
        pb::response_op::Response::ResponseRange(range) => range.kvs.first(),
        _ => None,
    }
}

/// Who leads, by the answer of a transaction that was refused.
fn leader_of(answer: &pb::TxnResponse) -> String {
    found(answer, 0).map_or("nobody now".to_owned(), |kv| String::from_utf8_lossy(&kv.value).into_owned())
}

/// What the registry of a cluster keeps, read without changing it, also beside the master that has it.
pub async fn read_etcd(client: &Client, cluster: &Cluster) -> Result<Contents, EtcdError> {
    let keys = Keys::new(cluster);
    let kept = load(client, &keys).await?;
    if kept.layout.is_none() {
        return Err(EtcdError::Missing { prefix: keys.prefix, endpoints: client.endpoints() });
    }
    Ok(kept.contents)
}

/// Reads all that there is, as of one revision.
async fn load(client: &Client, keys: &Keys) -> Result<Kept, EtcdError> {
    const WHAT: &str = "to read the registry";
    let version = keys.version();
    let answer =
        client.range(WHAT, pb::RangeRequest { key: version.clone().into(), ..Default::default() }).await?;
    let revision = answer.header.unwrap_or_default().revision;
    let layout = match answer.kvs.first() {
        None => None,
        Some(kv) => match std::str::from_utf8(&kv.value).ok().and_then(|text| text.parse().ok()) {
            Some(version @ 1..=VERSION) => Some(version),
            Some(version) if version > VERSION => {
                return Err(EtcdError::Later { prefix: keys.prefix.clone(), version });
            }
            _ => return Err(keys.damaged(&version, Wrong::Unversioned)),
        },
    };
    let request = pb::RangeRequest { key: keys.sequence().into(), revision, ..Default::default() };
    let sequence = client.range(WHAT, request).await?.kvs.first().map_or(0, |kv| kv.mod_revision);
    let prefix = keys.entries();
    let mut contents = Contents::default();
    let mut from = prefix.clone().into_bytes();
    let end = behind(&prefix);
    loop {
        let request = pb::RangeRequest {
            key: mem::take(&mut from),
            range_end: end.clone(),
            limit: PAGE_KEYS_MAX,
            revision,
        };
        let page = client.range(WHAT, request).await?;
        for kv in &page.kvs {
            let name = String::from_utf8_lossy(&kv.key);
            let about = understand(&mut contents, &kv.value).map_err(|wrong| keys.damaged(&name, wrong))?;
            match name.strip_prefix(&prefix) {
                Some(text) if std::str::from_utf8(&kv.key).is_err() || text.is_empty() => {
                    return Err(keys.damaged(&name, Wrong::Name));
                }
                Some(text) if text == about => {}
                _ => return Err(keys.damaged(&name, Wrong::Misplaced { about })),
            }
        }
        match page.kvs.into_iter().last() {
            Some(last) if page.more => {
                from = last.key;
                from.push(0);
            }
            _ => break,
        }
    }
    if layout.is_none() && !contents.is_empty() {
        return Err(keys.damaged(&version, Wrong::Unversioned));
    }
    Ok(Kept { contents, layout, sequence, writes: 0 })
}

/// Takes on what is under a key, and says what it is about.
fn understand(contents: &mut Contents, value: &[u8]) -> Result<String, Wrong> {
    Ok(contents.insert(v1::RegistryEntry::decode(value)?)?.to_string())
}

/// The first key behind all that begin with this.
fn behind(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    // A prefix ends with `/`.
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Entries that are written at once.
#[derive(Debug, Default)]
struct Part {
    /// What each is from now on; nothing for one that is to be removed. No key twice, which etcd would refuse.
    entries: Vec<(Key, Option<Vec<u8>>)>,
    bytes: usize,
}

impl Part {
    fn describe(&self) -> String {
        match self.entries.as_slice() {
            [] => "the registry's version".to_owned(),
            [(key, _)] => format!("the registry's entry {key} of {} bytes", self.bytes),
            more => format!("{} entries of the registry of {} bytes", more.len(), self.bytes),
        }
    }

    /// Takes an entry on, or gives it back when there is no room. An empty part has room for any.
    fn take(&mut self, key: Key, value: Option<Vec<u8>>) -> Result<(), (Key, Option<Vec<u8>>)> {
        let size = |value: &Option<Vec<u8>>| key.to_string().len() + value.as_ref().map_or(0, Vec::len);
        let known = self.entries.iter().position(|(known, _)| *known == key);
        let before = known.map_or(0, |at| size(&self.entries[at].1));
        let bytes = self.bytes - before + size(&value);
        let others = self.entries.len() - usize::from(known.is_some());
        if others > 0 && (bytes > PART_BYTES_MAX || others == PART_OPS_MAX) {
            return Err((key, value));
        }
        self.bytes = bytes;
        match known {
            Some(at) => self.entries[at].1 = value,
            None => self.entries.push((key, value)),
        }
        Ok(())
    }
}

/// Applies changes, and says what is to be written: parts of what etcd takes at once, each a run of the changes, in their order.
fn split(contents: &mut Contents, ops: Vec<RegistryOp>) -> (Vec<Part>, u64) {
    let (mut parts, mut needed) = (Vec::new(), 1);
    let mut part = Part::default();
    for op in ops {
        let key = Key::of(&op);
        contents.apply(op);
        let entry = contents.entry(&key);
        needed = entry.iter().map(layout).fold(needed, u64::max);
        let value = entry.map(|entry| entry.encode_to_vec());
        if let Err((key, value)) = part.take(key, value) {
            parts.push(mem::take(&mut part));
            part.bytes = key.to_string().len() + value.as_ref().map_or(0, Vec::len);
            part.entries.push((key, value));
        }
    }
    if !part.entries.is_empty() {
        parts.push(part);
    }
    (parts, needed)
}

#[async_trait]
impl Registry for Etcd {
    /// A leader's does not return before it is known whether it was done, however long etcd does not answer.
    ///
    /// All or nothing when etcd takes the changes at once; of more, those that come first may be kept alone when a later part fails.
    async fn commit(&self, ops: Vec<RegistryOp>) -> Result<(), RegistryError> {
        let count = ops.len();
        self.write(ops).await.map_err(|error| match error {
            EtcdError::Deposed { leader } => RegistryError::Deposed { leader },
            error => RegistryError::Write { count, source: error.into() },
        })
    }

    async fn load(&self) -> Result<Contents, RegistryError> {
        Ok(self.kept.lock().await.contents.clone())
    }
}
