//! How one app is balanced, as its author writes it: the table `[balancer]` of a description.
//!
//! Reading a table and judging it are two steps: serde knows the shape, [`Listener::checked`] knows the sense. What is judged
//! names its key and the remedy, so that whoever reads the message need not read this file.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

mod span;

/// The most threads that one listener may have.
pub const WORKERS_MAX: usize = 64;

/// The most bytes of a body that are kept so that a request can be sent again.
pub const REPLAY_BYTES_MAX: usize = 1 << 20;

/// Fewest bytes that a head may have: what the HTTP/1 parser needs to begin with.
pub const HEADER_BYTES_MIN: usize = 8192;

/// The most bytes that a head may have.
pub const HEADER_BYTES_MAX: usize = 1 << 20;

/// Where an app is reached, and how requests find a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Where clients connect; port 0 takes a free one.
    pub address: SocketAddr,
    /// Which of a replica's ports takes them, counted from 0; for who finds the replicas.
    #[serde(default)]
    pub port: usize,
    /// Whether connections or requests are balanced.
    #[serde(default)]
    pub kind: Kind,
    /// Who gets the next one.
    #[serde(default)]
    pub policy: Policy,
    /// What sticks to a replica; for `policy = "ring-hash"`, which needs it.
    #[serde(default)]
    pub hash_on: Option<HashOn>,
    /// What is spoken to replicas; L7 alone.
    #[serde(default)]
    pub replica_protocol: ReplicaProtocol,
    /// Threads, each with its own socket and its own connections to replicas.
    #[serde(default = "one")]
    pub workers: usize,
    /// How a replica is found to be well or not.
    #[serde(default)]
    pub health: Health,
    /// When a request is sent again.
    #[serde(default)]
    pub retries: Retries,
    /// How much one replica gets at most.
    #[serde(default)]
    pub circuit: Circuit,
    /// Who waits while there is no replica.
    #[serde(default)]
    pub queue: Queue,
    /// How long anything may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// How large anything may be.
    #[serde(default)]
    pub limits: Limits,
}

fn one() -> usize {
    1
}

/// What is balanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// TCP connections, whatever is said on them.
    L4,
    /// Requests: HTTP/1, HTTP/2 with prior knowledge, WebSocket, gRPC.
    #[default]
    L7,
}

/// Who gets the next request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// One after another, whatever their weights.
    #[default]
    RoundRobin,
    /// One after another, each as often as its weight says, and evenly spread.
    Weighted,
    /// Who has the fewest requests for its weight.
    LeastOutstanding,
    /// Of two at random the one that would answer sooner.
    PeakEwma,
    /// The same replica for the same key, as long as it is there.
    RingHash,
}

/// What a sticky request is recognised by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HashOn {
    /// The address of the client, without its port.
    ClientAddress,
    /// The value of this header; the client's address for who sends none.
    Header(String),
    /// The value of this cookie; the client's address for who sends none.
    Cookie(String),
}

/// What is spoken to replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaProtocol {
    /// HTTP/2 for gRPC, which cannot do without; HTTP/1 for all else.
    #[default]
    Auto,
    /// HTTP/1 always.
    Http1,
    /// HTTP/2 with prior knowledge always; a WebSocket goes over HTTP/1 still.
    Http2,
}

/// How a replica is found to be well or not.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Asks each replica now and then; nobody is asked when none.
    pub active: Option<Active>,
    /// Learns from the requests themselves.
    pub passive: Passive,
}

/// Asks each replica now and then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Active {
    /// What is asked for with GET; a status from 200 to 399 is well. An L4 listener only connects.
    pub path: String,
    /// From one question to the next.
    #[serde(with = "span")]
    pub interval: Duration,
    /// How long an answer may take.
    #[serde(with = "span")]
    pub timeout: Duration,
    /// So many good answers bring a replica back. A new one needs a single one.
    pub rise: u32,
    /// So many bad answers in a row take it out.
    pub fall: u32,
}

impl Default for Active {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
        Self { path: "/".to_owned(), interval, timeout, rise: 2, fall: 3 }
    }
}

/// Learns from the requests themselves. Never are more than half of the replicas ejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Passive {
    /// So many failures in a row eject a replica; never when 0.
    pub consecutive_failures: u32,
    /// For how long at first; each ejection that follows takes as much longer.
    #[serde(with = "span")]
    pub ejection: Duration,
    /// For how long at most.
    #[serde(with = "span")]
    pub ejection_max: Duration,
}

impl Default for Passive {
    fn default() -> Self {
        let (ejection, ejection_max) = (Duration::from_secs(10), Duration::from_secs(300));
        Self { consecutive_failures: 5, ejection, ejection_max }
    }
}

/// When a request is sent again: when nothing of it was sent, or when its method is idempotent; within a budget, so that
/// retries do not bury replicas that are slow because they have too much to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retries {
    /// How often one request is sent again at most; never when 0.
    pub attempts: u32,
    /// Retries for each request, over the last ten seconds: 0.2 is one for every five.
    pub ratio: f64,
    /// So many each second are allowed in any case, so that an app with few requests has retries at all.
    pub min_per_second: u32,
    /// A body of at most so many bytes is kept, so that it can be sent again.
    pub body_bytes_max: usize,
}

impl Default for Retries {
    fn default() -> Self {
        Self { attempts: 2, ratio: 0.2, min_per_second: 10, body_bytes_max: 16 << 10 }
    }
}

/// How much one replica gets at most. What is over it is refused at once, with 503 and the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Circuit {
    /// Connections to one replica.
    pub connections_max: u32,
    /// Requests that wait for one of these connections.
    pub pending_max: u32,
    /// Requests that one replica has at a time, the waiting ones included.
    pub requests_max: u32,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { connections_max: 1024, pending_max: 1024, requests_max: 4096 }
    }
}

/// Who waits while there is no replica: a scaler that sees somebody waiting starts one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// So many wait at most; further ones are refused at once.
    pub waiting_max: u32,
    /// And each for so long.
    #[serde(with = "span")]
    pub timeout: Duration,
}

impl Default for Queue {
    fn default() -> Self {
        Self { waiting_max: 1024, timeout: Duration::from_secs(10) }
    }
}

/// How long anything may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Until a replica accepts a connection.
    #[serde(with = "span")]
    pub connect: Duration,
    /// Until a client has sent the head of a request; and how long a client's connection may be idle.
    #[serde(with = "span")]
    pub header: Duration,
    /// From a request to the head of the replica's answer.
    #[serde(with = "span")]
    pub response: Duration,
    /// Between two pieces of a body, in either direction; and of a peer that takes nothing of what it is sent.
    #[serde(with = "span")]
    pub body: Duration,
    /// How long a connection to a replica is kept for the next request. Less than the replica keeps it, lest the two cross.
    #[serde(with = "span")]
    pub keep: Duration,
    /// How long what is under way on a replica that leaves may take to finish.
    #[serde(with = "span")]
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(2),
            header: seconds(30),
            response: seconds(60),
            body: seconds(60),
            keep: seconds(4),
            drain: seconds(30),
        }
    }
}

/// How large anything may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections of clients; further ones wait in the kernel's queue.
    pub clients_max: u32,
    /// Bytes of a head, from a client or a replica.
    pub header_bytes: usize,
    /// Headers of one head.
    pub headers_max: usize,
    /// Requests at a time on one HTTP/2 connection of a client.
    pub streams_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { clients_max: 10_000, header_bytes: 32 << 10, headers_max: 100, streams_max: 256 }
    }
}

/// Why a table is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It is no such table.
    #[error("{0}")]
    Shape(String),
    /// A value makes no sense.
    #[error("balancer.{key}: {what}; {remedy}")]
    Value {
        /// Which.
        key: &'static str,
        /// What is wrong with it.
        what: String,
        /// What to write instead.
        remedy: &'static str,
    },
}

impl Listener {
    /// A listener with everything as it is without a word.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            port: 0,
            kind: Kind::default(),
            policy: Policy::default(),
            hash_on: None,
            replica_protocol: ReplicaProtocol::default(),
            workers: one(),
            health: Health::default(),
            retries: Retries::default(),
            circuit: Circuit::default(),
            queue: Queue::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        }
    }

    /// Reads and judges what stands in a table `[balancer]`.
    ///
    /// ```
    /// use apportion_service::balancer::Listener;
    ///
    /// let web = Listener::from_toml("address = '127.0.0.1:8080'\npolicy = 'peak-ewma'").unwrap();
    /// assert_eq!(web.workers, 1);
    /// let error = Listener::from_toml("address = '127.0.0.1:8080'\nworkers = 0").unwrap_err();
    /// assert_eq!(error.to_string(), "balancer.workers: 0 is not from 1 to 64; give the cores that it may use, 1 for most apps");
    /// ```
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let listener: Self = toml::from_str(text)
            .map_err(|error| ConfigError::Shape(error.to_string().trim_end().to_owned()))?;
        listener.checked()
    }

    /// The listener as it is, when it makes sense.
    pub fn checked(self) -> Result<Self, ConfigError> {
        let within = |key, value: u64, from: u64, to: u64, remedy| match (from..=to).contains(&value) {
            true => Ok(()),
            false => {
                Err(ConfigError::Value { key, what: format!("{value} is not from {from} to {to}"), remedy })
            }
        };
        let most = u64::from(u32::MAX);
        let cores = "give the cores that it may use, 1 for most apps";
        within("workers", self.workers as u64, 1, WORKERS_MAX as u64, cores)?;
        within(
            "retries.attempts",
            self.retries.attempts.into(),
            0,
            10,
            "2 is plenty; 0 switches retries off",
        )?;
        let replay = "a larger body is sent once only; leave 16384";
        within(
            "retries.body_bytes_max",
            self.retries.body_bytes_max as u64,
            0,
            REPLAY_BYTES_MAX as u64,
            replay,
        )?;
        let some = "a limit of 0 lets nothing through; leave it out for the default";
        within("circuit.connections_max", self.circuit.connections_max.into(), 1, most, some)?;
        within("circuit.requests_max", self.circuit.requests_max.into(), 1, most, some)?;
        within("limits.clients_max", self.limits.clients_max.into(), 1, 1 << 20, some)?;
        within(
            "limits.headers_max",
            self.limits.headers_max as u64,
            1,
            1000,
            "100 is what other proxies allow",
        )?;
        within("limits.streams_max", self.limits.streams_max.into(), 1, 1 << 16, "256 is the default")?;
        let header = "32768 is the default";
        let (least, longest) = (HEADER_BYTES_MIN as u64, HEADER_BYTES_MAX as u64);
        within("limits.header_bytes", self.limits.header_bytes as u64, least, longest, header)?;
        if !(0.0..=10.0).contains(&self.retries.ratio) {
            let what = format!("{} is not from 0 to 10", self.retries.ratio);
            return Err(ConfigError::Value {
                key: "retries.ratio",
                what,
                remedy: "0.2 is one retry for five requests",
            });
        }
        self.check_spans()?;
        self.check_health()?;
        self.check_kind()
    }

    fn check_spans(&self) -> Result<(), ConfigError> {
        let Timeouts { connect, header, response, body, keep, drain } = self.timeouts;
        let spans = [
            ("timeouts.connect", connect),
            ("timeouts.header", header),
            ("timeouts.response", response),
            ("timeouts.body", body),
            ("timeouts.keep", keep),
            ("timeouts.drain", drain),
            ("queue.timeout", self.queue.timeout),
            ("health.passive.ejection", self.health.passive.ejection),
            ("health.passive.ejection_max", self.health.passive.ejection_max),
        ];
        for (key, span) in spans {
            // A day is longer than anybody waits, and far from where sums of times overflow.
            if span < Duration::from_millis(1) || span > Duration::from_secs(86_400) {
                let what = format!("{} is not from 1ms to 1day", humantime::format_duration(span));
                return Err(ConfigError::Value { key, what, remedy: "write it as 30s, 500ms or 2m" });
            }
        }
        Ok(())
    }

    fn check_health(&self) -> Result<(), ConfigError> {
        let Some(active) = &self.health.active else { return Ok(()) };
        if !active.path.starts_with('/') || active.path.parse::<hyper::Uri>().is_err() {
            let what = format!("'{}' is no path", active.path.escape_default());
            let remedy = "begin it with / and escape what a URL may not have, as in /healthz";
            return Err(ConfigError::Value { key: "health.active.path", what, remedy });
        }
        let least = Duration::from_millis(10);
        if active.interval < least || active.timeout < Duration::from_millis(1) {
            let what = "replicas would be asked without pause".to_owned();
            let remedy = "give interval at least 10ms and timeout at least 1ms";
            return Err(ConfigError::Value { key: "health.active.interval", what, remedy });
        }
        if active.rise == 0 || active.fall == 0 {
            let what = "rise and fall are counts of answers, from 1".to_owned();
            return Err(ConfigError::Value {
                key: "health.active.rise",
                what,
                remedy: "2 and 3 are the defaults",
            });
        }
        Ok(())
    }

    fn check_kind(self) -> Result<Self, ConfigError> {
        let name = match &self.hash_on {
            None if self.policy == Policy::RingHash => {
                return Err(ConfigError::Value {
                    key: "policy",
                    what: "a ring hash without hash_on does not know what sticks to a replica".to_owned(),
                    remedy: "add hash_on = \"client-address\", { header = \"x-user\" } or { cookie = \"session\" }",
                });
            }
            None | Some(HashOn::ClientAddress) => return Ok(self),
            Some(HashOn::Header(name) | HashOn::Cookie(name)) => name,
        };
        let refused = |what: String, remedy| Err(ConfigError::Value { key: "hash_on", what, remedy });
        if self.kind == Kind::L4 {
            let what = "a connection has neither headers nor cookies".to_owned();
            return refused(what, "use kind = \"l7\", or hash_on = \"client-address\"");
        }
        if self.policy != Policy::RingHash {
            let what = "only a ring hash looks at it".to_owned();
            return refused(what, "add policy = \"ring-hash\", or leave hash_on out");
        }
        if hyper::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
            let what = format!("'{}' is no name", name.escape_default());
            return refused(what, "use letters, digits and -");
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: &str = "address = '127.0.0.1:0'\n";

    fn refusal(text: &str) -> String {
        Listener::from_toml(&format!("{ADDRESS}{text}")).unwrap_err().to_string()
    }

    #[test]
    fn a_table_has_every_default_and_survives_writing() {
        let listener = Listener::from_toml(ADDRESS).unwrap();
        assert_eq!(listener, Listener::new("127.0.0.1:0".parse().unwrap()));
        let text = toml::to_string(&listener).unwrap();
        assert_eq!(Listener::from_toml(&text).unwrap(), listener);
    }

    #[test]
    fn everything_can_be_said() {
        let text = "kind = 'l7'\npolicy = 'ring-hash'\nhash_on = { cookie = 'session' }\n[health.active]\npath = '/up'\n\
                    interval = '500ms'\n[queue]\ntimeout = '1m'\n[retries]\nratio = 0.5";
        let listener = Listener::from_toml(&format!("{ADDRESS}{text}")).unwrap();
        assert_eq!(listener.hash_on, Some(HashOn::Cookie("session".to_owned())));
        assert_eq!(listener.health.active.unwrap().interval, Duration::from_millis(500));
        assert_eq!(listener.queue.timeout, Duration::from_secs(60));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_key() {
        for (text, key) in [
            ("workers = 0", "balancer.workers"),
            ("workers = 65", "balancer.workers"),
            ("[retries]\nratio = -1.0", "balancer.retries.ratio"),
            ("[retries]\nratio = nan", "balancer.retries.ratio"),
            ("[circuit]\nrequests_max = 0", "balancer.circuit.requests_max"),
            ("[limits]\nheader_bytes = 100", "balancer.limits.header_bytes"),
            ("[timeouts]\nconnect = '0s'", "balancer.timeouts.connect"),
            ("[timeouts]\ndrain = '2days'", "balancer.timeouts.drain"),
            ("[health.active]\npath = 'up'", "balancer.health.active.path"),
            ("[health.active]\nfall = 0", "balancer.health.active.rise"),
            ("hash_on = { header = 'x' }", "balancer.hash_on"),
            ("kind = 'l4'\npolicy = 'ring-hash'\nhash_on = { header = 'x' }", "balancer.hash_on"),
            ("policy = 'ring-hash'\nhash_on = { cookie = 'a b' }", "balancer.hash_on"),
            ("policy = 'ring-hash'", "balancer.policy"),
            ("kind = 'l4'\npolicy = 'ring-hash'", "balancer.policy"),
        ] {
            let message = refusal(text);
            assert!(message.starts_with(&format!("{key}: ")), "{text}: {message}");
            assert!(message.contains("; "), "{message} has no remedy");
        }
    }

    #[test]
    fn a_word_that_is_unknown_is_refused_with_those_that_are_not() {
        assert!(refusal("polcy = 'weighted'").contains("unknown field `polcy`"));
        assert!(refusal("policy = 'random'").contains("peak-ewma"));
        assert!(refusal("[timeouts]\nbody = 5").contains("30s"));
    }
}
