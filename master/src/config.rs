//! What an operator may set. Each default is that of [`apportion_types::limits`].

use std::{collections::BTreeMap, fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use apportion_allocator::{HierarchicalConfig, Quota, QuotaLimit, Weight};
use apportion_master_core::view::RoleSettings;
use apportion_types::{
    Resources, Role, limits,
    resources::{Name, Value, parse_scalar},
};
use serde::{Deserialize, Serialize};

use crate::{
    etcd::{Cluster, Endpoints},
    rpc::change,
};

/// Settings of a master. Durations are texts such as `30s`, `10m` or `1h 30m`; a key that is not known is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where schedulers, agents, operators and browsers connect. With port 0 the system chooses one.
    pub listen: SocketAddr,
    /// How long an offer may be held before it is rescinded.
    #[serde(with = "duration")]
    pub offer_timeout: Duration,
    /// How long changes are gathered before an allocation runs.
    #[serde(with = "duration")]
    pub allocation_coalesce: Duration,
    /// Between pings of an agent.
    #[serde(with = "duration")]
    pub agent_ping_interval: Duration,
    /// Pings in a row that may go unanswered before an agent is unreachable.
    pub agent_pings_missed_max: u32,
    /// How long a disconnected agent may take to return before it is unreachable.
    #[serde(with = "duration")]
    pub agent_reregister_timeout: Duration,
    /// Between heartbeats to a scheduler.
    #[serde(with = "duration")]
    pub scheduler_heartbeat: Duration,
    /// How much roles count beside others, as texts such as `2` or `0.5`; those that are not named count 1.
    pub weights: BTreeMap<Role, Weight>,
    /// The most that roles may have offered and used, as texts such as `cpus:4;mem:1024`; what is not named is not limited.
    pub quota_limits: BTreeMap<Role, QuotaLimit>,
    /// What roles are sure of, as texts such as `cpus:4;mem:1024`; others are offered only what leaves room for it.
    pub quota_guarantees: BTreeMap<Role, Resources>,
    /// What is free on an agent is offered when it contains one of these whole; always when there are none.
    pub allocatable_min: Vec<Resources>,
    /// Names of scalars that do not count for fairness, though they are shared out.
    pub fairness_excluded: Vec<String>,
    /// Agents with gpus are offered only to frameworks that say that they can use some.
    pub filter_gpus: bool,
    /// The master's own region: agents of others are offered only to frameworks that are aware of regions. None when it does not
    /// matter.
    pub region: Option<String>,
    /// The most offers that one framework may hold.
    pub offers_per_framework_max: u32,
    /// How many calls the frameworks of a principal may make together, as texts such as `100` or `100:500`.
    pub rate_limits: BTreeMap<String, RateLimit>,
    /// The same for each principal that is not named; no limit when none.
    pub rate_limit_default: Option<RateLimit>,
    /// From the notice of a preemption to the kill.
    #[serde(with = "duration")]
    pub preemption_grace: Duration,
    /// Where to record what happens, to be replayed later; nowhere when none. See [`crate::journal`].
    pub journal: Option<PathBuf>,
    /// The folder of the registry, this master's alone; when none, it lasts as long as the process. See [`crate::registry`].
    pub work_dir: Option<PathBuf>,
    /// Where etcd is, of several masters of which one leads: it elects that one, and keeps the registry.
    pub etcd: Option<Endpoints>,
    /// Which cluster of Apportion this is a master of, in etcd.
    pub cluster: Cluster,
    /// As what agents, frameworks and operators reach this master, `host:port`; where it listens when none. For etcd alone.
    pub advertise: Option<String>,
    /// How long after etcd last heard of a leader another master may lead, in whole seconds.
    #[serde(with = "duration")]
    pub leader_lease: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 5050)),
            offer_timeout: limits::OFFER_TIMEOUT,
            allocation_coalesce: limits::ALLOCATION_COALESCE,
            agent_ping_interval: limits::AGENT_PING_INTERVAL,
            agent_pings_missed_max: limits::AGENT_PINGS_MISSED_MAX,
            agent_reregister_timeout: limits::AGENT_REREGISTER_TIMEOUT,
            scheduler_heartbeat: limits::SCHEDULER_HEARTBEAT,
            weights: BTreeMap::new(),
            quota_limits: BTreeMap::new(),
            quota_guarantees: BTreeMap::new(),
            allocatable_min: HierarchicalConfig::default().allocatable_min,
            fairness_excluded: Vec::new(),
            filter_gpus: false,
            region: None,
            offers_per_framework_max: limits::OFFERS_PER_FRAMEWORK_MAX,
            rate_limits: BTreeMap::new(),
            rate_limit_default: None,
            preemption_grace: limits::PREEMPTION_GRACE,
            journal: None,
            work_dir: None,
            etcd: None,
            cluster: Cluster::default(),
            advertise: None,
            leader_lease: limits::LEADER_LEASE,
        }
    }
}

fn is_host_and_port(text: &str) -> bool {
    // A list of one: what is told to others is one address.
    text.parse::<Endpoints>()
        .is_ok_and(|endpoints| endpoints.to_string() == text && endpoints.iter().count() == 1)
}

/// A setting that cannot be served with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the setting `{key}` is {value}; {remedy}")]
pub struct ConfigError {
    /// Which setting.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What it should be.
    pub remedy: &'static str,
}

impl Config {
    /// Refuses settings with which a master could not work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let positive = [
            ("offer_timeout", self.offer_timeout),
            ("agent_ping_interval", self.agent_ping_interval),
            ("agent_reregister_timeout", self.agent_reregister_timeout),
            ("scheduler_heartbeat", self.scheduler_heartbeat),
        ];
        for (key, value) in positive {
            if value < Duration::from_millis(1) {
                let value = humantime::format_duration(value).to_string();
                return Err(ConfigError { key, value, remedy: "set it to 1ms or more" });
            }
        }
        if self.allocation_coalesce > Duration::from_secs(60) {
            let value = humantime::format_duration(self.allocation_coalesce).to_string();
            let remedy = "every offer would wait so long; set it to 60s or less";
            return Err(ConfigError { key: "allocation_coalesce", value, remedy });
        }
        if self.agent_pings_missed_max == 0 {
            let remedy = "every agent would be unreachable at once; set it to 1 or more";
            return Err(ConfigError { key: "agent_pings_missed_max", value: "0".to_owned(), remedy });
        }
        if self.offers_per_framework_max == 0 {
            let remedy = "nobody would be offered anything; set it to 1 or more";
            return Err(ConfigError { key: "offers_per_framework_max", value: "0".to_owned(), remedy });
        }
        if let Some(name) = self.fairness_excluded.iter().find(|name| Name::new(name).is_none()) {
            let remedy = "it is no name of a resource; name scalars such as `gpus`";
            return Err(ConfigError { key: "fairness_excluded", value: format!("`{name}`"), remedy });
        }
        self.check_leadership()?;
        for (role, guarantee) in &self.quota_guarantees {
            if change::guarantee_judged(guarantee).is_err() {
                let (value, remedy) = (
                    format!("`{guarantee}` for role {role}"),
                    "guarantee plain numbers, such as `cpus:4;mem:8GiB`",
                );
                return Err(ConfigError { key: "quota_guarantees", value, remedy });
            }
            let limit = self.quota_limits.get(role);
            let above = |(name, most): (&Name, i64)| guarantee.milli(name) > most;
            if limit.is_some_and(|limit| limit.iter().any(above)) {
                let (value, remedy) = (
                    format!("`{guarantee}` for role {role}"),
                    "that is more than its limit; set it to no more",
                );
                return Err(ConfigError { key: "quota_guarantees", value, remedy });
            }
        }
        Ok(())
    }

    /// Refuses settings with which several masters could not work.
    fn check_leadership(&self) -> Result<(), ConfigError> {
        let whole = self.leader_lease.subsec_nanos() == 0;
        let (min, max) = (limits::LEADER_LEASE_MIN, limits::LEADER_LEASE_MAX);
        if !whole || self.leader_lease < min || self.leader_lease > max {
            let value = humantime::format_duration(self.leader_lease).to_string();
            let remedy = "set it to whole seconds, from 2s to 60s";
            return Err(ConfigError { key: "leader_lease", value, remedy });
        }
        if let Some(address) = &self.advertise
            && !is_host_and_port(address)
        {
            let remedy = "give what others reach it by, as `host:port`";
            return Err(ConfigError { key: "advertise", value: format!("`{address}`"), remedy });
        }
        let Some(etcd) = &self.etcd else { return Ok(()) };
        if self.work_dir.is_some() {
            let remedy = "a registry is in one place: leave out either that or `work_dir`; `apportion registry export` and `import` \
                          move what is kept";
            return Err(ConfigError {
                key: "etcd",
                value: format!("`{etcd}`, and so is `work_dir`"),
                remedy,
            });
        }
        if self.advertise.is_none() && self.listen.ip().is_unspecified() {
            let remedy = "with etcd each master tells the others' clients where it is: give an address by which they reach it, as \
                          `host:port`, since it listens on all";
            return Err(ConfigError { key: "advertise", value: "not set".to_owned(), remedy });
        }
        Ok(())
    }

    /// The part that the allocator decides by.
    pub fn allocator(&self) -> HierarchicalConfig {
        let mut quotas: BTreeMap<Role, Quota> = BTreeMap::new();
        for (role, limit) in &self.quota_limits {
            quotas.entry(role.clone()).or_default().limit = Some(limit.clone());
        }
        for (role, guarantee) in &self.quota_guarantees {
            quotas.entry(role.clone()).or_default().guarantee = guarantee.clone();
        }
        HierarchicalConfig {
            allocatable_min: self.allocatable_min.clone(),
            fairness_excluded: self.fairness_excluded.iter().filter_map(|name| Name::new(name)).collect(),
            weights: self.weights.clone(),
            quotas,
            filter_gpus: self.filter_gpus,
            region: self.region.clone(),
            offers_max: self.offers_per_framework_max,
            ..HierarchicalConfig::default()
        }
    }

    /// What is set for roles at the start: what a registry kept of an earlier master, and over it what is set here.
    pub(crate) fn roles(&self, kept: BTreeMap<Role, RoleSettings>) -> BTreeMap<Role, RoleSettings> {
        let mut roles = kept;
        for (role, weight) in &self.weights {
            roles.entry(role.clone()).or_default().weight = *weight;
        }
        for (role, limit) in &self.quota_limits {
            roles.entry(role.clone()).or_default().quota.limit = Some(limit.clone());
        }
        for (role, guarantee) in &self.quota_guarantees {
            roles.entry(role.clone()).or_default().quota.guarantee = guarantee.clone();
        }
        roles.retain(|_, settings| *settings != RoleSettings::default());
        roles
    }

    /// The settings that a core was started with, and for the rest the defaults.
    pub(crate) fn of_core(core: &apportion_master_core::Config) -> Self {
        Self {
            offer_timeout: core.offer_timeout,
            allocation_coalesce: core.allocation_coalesce,
            agent_ping_interval: core.agent_ping_interval,
            agent_pings_missed_max: core.agent_pings_missed_max,
            agent_reregister_timeout: core.agent_reregister_timeout,
            scheduler_heartbeat: core.scheduler_heartbeat,
            preemption_grace: core.preemption_grace,
            ..Self::default()
        }
    }

    /// The part that the core decides by, and what is set for roles at the start.
    pub(crate) fn core(
        &self,
        master_id: String,
        roles: BTreeMap<Role, RoleSettings>,
    ) -> apportion_master_core::Config {
        let rate = |limit: &RateLimit| limit.0;
        apportion_master_core::Config {
            master_id,
            offer_timeout: self.offer_timeout,
            allocation_coalesce: self.allocation_coalesce,
            agent_ping_interval: self.agent_ping_interval,
            agent_pings_missed_max: self.agent_pings_missed_max,
            agent_reregister_timeout: self.agent_reregister_timeout,
            scheduler_heartbeat: self.scheduler_heartbeat,
            rate_limits: self.rate_limits.iter().map(|(name, limit)| (name.clone(), rate(limit))).collect(),
            rate_limit_default: self.rate_limit_default.as_ref().map(rate),
            roles,
            preemption_grace: self.preemption_grace,
            offers_per_cycle_max: limits::OFFERS_PER_CYCLE_MAX,
        }
    }
}

/// A number of calls per time, as a text such as `100`, `0.5` or `100:500`: calls each second, and how many may be made at once
/// after a pause; as many as in one second, if that is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RateLimit(pub apportion_master_core::RateLimit);

/// Why a text is not a rate limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is not a rate limit: {what}; give calls each second, such as `100`, and how many at once, such as `100:500`"
)]
pub struct RateLimitError {
    /// The text.
    pub text: String,
    /// What is wrong with it.
    pub what: String,
}

impl FromStr for RateLimit {
    type Err = RateLimitError;

    fn from_str(text: &str) -> Result<Self, RateLimitError> {
        let error = |what: &str| RateLimitError { text: text.to_owned(), what: what.to_owned() };
        let (rate, capacity) = match text.split_once(':') {
            Some((rate, capacity)) => (rate, Some(capacity)),
            None => (text, None),
        };
        let calls = Name::new("calls").expect("it is a name");
        let milli = parse_scalar(&calls, rate.trim()).map_err(|what| error(&what))?;
        let per_second_milli = u64::try_from(milli).unwrap_or_default();
        if per_second_milli == 0 {
            return Err(error("no call would ever be allowed"));
        }
        let whole = |text: &str| text.trim().parse::<u32>().ok().filter(|capacity| *capacity > 0);
        let capacity = match capacity {
            Some(text) => whole(text).ok_or_else(|| error("how many at once is a whole number from 1 on"))?,
            None => u32::try_from(per_second_milli.div_ceil(1000)).unwrap_or(u32::MAX),
        };
        Ok(Self(apportion_master_core::RateLimit { per_second_milli, capacity }))
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milli = i64::try_from(self.0.per_second_milli).unwrap_or(i64::MAX);
        write!(f, "{}:{}", Value::Scalar(milli), self.0.capacity)
    }
}

impl TryFrom<String> for RateLimit {
    type Error = RateLimitError;

    fn try_from(text: String) -> Result<Self, RateLimitError> {
        text.parse()
    }
}

impl From<RateLimit> for String {
    fn from(limit: RateLimit) -> String {
        limit.to_string()
    }
}

/// The rate limits of all principals.
#[derive(Debug, Clone, Default)]
pub(crate) struct RateLimits {
    named: BTreeMap<String, RateLimit>,
    others: Option<RateLimit>,
}

impl RateLimits {
    pub(crate) fn of(config: &Config) -> Self {
        Self { named: config.rate_limits.clone(), others: config.rate_limit_default }
    }

    /// That of a principal, if it has one.
    pub(crate) fn of_principal(&self, principal: &str) -> Option<apportion_master_core::RateLimit> {
        self.named.get(principal).or(self.others.as_ref()).map(|limit| limit.0)
    }
}

/// Durations as people write them.
mod duration {
    use std::{borrow::Cow, time::Duration};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|error| {
            D::Error::custom(format_args!("`{text}` is not a duration such as `30s` or `10m`: {error}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_texts_and_unknown_keys_are_refused() {
        let config: Config =
            serde_json::from_str(r#"{"offer_timeout": "1m 30s", "listen": "0.0.0.0:0"}"#).unwrap();
        assert_eq!(config.offer_timeout, Duration::from_secs(90));
        assert_eq!(config.scheduler_heartbeat, limits::SCHEDULER_HEARTBEAT);
        let text = serde_json::to_string(&config).unwrap();
        assert!(text.contains(r#""offer_timeout":"1m 30s""#), "{text}");
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        let error = serde_json::from_str::<Config>(r#"{"offer_timeout": "soon"}"#).unwrap_err().to_string();
        assert!(error.contains("`soon` is not a duration"), "{error}");
        let error = serde_json::from_str::<Config>(r#"{"offer_timout": "1s"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `offer_timout`"), "{error}");
    }

    #[test]
    fn weights_and_limits_of_roles_are_the_allocators() {
        let text = r#"{"weights": {"eng/ads": "2.5"}, "quota_limits": {"*": "mem:64;gpus:0"}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let allocator = config.allocator();
        assert_eq!(allocator.weights[&"eng/ads".parse().unwrap()].milli(), 2500);
        let limit = allocator.quotas[&Role::default()].limit.clone();
        assert_eq!(limit.unwrap().to_string(), "mem:64;gpus:0");
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config);
        let error = serde_json::from_str::<Config>(r#"{"weights": {"eng": "0"}}"#).unwrap_err().to_string();
        assert!(error.contains("`0` is not a weight: it is zero; give a number from 0.001"), "{error}");
    }

    #[test]
    fn what_is_set_here_wins_over_what_a_registry_kept() {
        let text = r#"{"weights": {"eng": "2"}, "quota_guarantees": {"eng": "cpus:4"}}"#;
        let config: Config = serde_json::from_str(text).unwrap();
        let of = |text: &str| text.parse::<Role>().unwrap();
        let limit: QuotaLimit = "cpus:8".parse().unwrap();
        let quota = Quota { guarantee: "cpus:1".parse().unwrap(), limit: Some(limit.clone()) };
        let old = RoleSettings { weight: "3".parse().unwrap(), quota, priority: 5 };
        let roles = config.roles([(of("eng"), old.clone()), (of("ops"), old.clone())].into());
        assert_eq!(roles[&of("ops")], old);
        let quota = Quota { guarantee: "cpus:4".parse().unwrap(), limit: Some(limit) };
        assert_eq!(roles[&of("eng")], RoleSettings { weight: "2".parse().unwrap(), quota, priority: 5 });
        assert_eq!(config.allocator().quotas[&of("eng")].guarantee.to_string(), "cpus:4");
    }

    #[test]
    fn rate_limits_are_texts() {
        for (text, milli, capacity, shown) in
            [("100", 100_000, 100, "100:100"), ("0.5", 500, 1, "0.5:1"), ("2:50", 2000, 50, "2:50")]
        {
            let limit: RateLimit = text.parse().unwrap();
            assert_eq!((limit.0.per_second_milli, limit.0.capacity), (milli, capacity));
            assert_eq!(limit.to_string(), shown);
        }
        for (text, what) in [
            ("0", "no call would ever"),
            ("-1", "negative"),
            ("x", "not a number"),
            ("1:0", "whole number from 1"),
            ("1000000000000000000", "more than the most"),
        ] {
            let error = text.parse::<RateLimit>().unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("`{text}` is not a rate limit: ")) && error.contains(what),
                "{error}"
            );
        }
    }

    #[test]
    fn settings_that_cannot_work_are_refused_by_name() {
        assert_eq!(Config::default().check(), Ok(()));
        let refused = |config: Config| config.check().unwrap_err().to_string();
        let zero = Duration::ZERO;
        assert!(
            refused(Config { offer_timeout: zero, ..Config::default() })
                .starts_with("the setting `offer_timeout` is 0s")
        );
        assert!(refused(Config { scheduler_heartbeat: zero, ..Config::default() }).contains("1ms or more"));
        assert!(
            refused(Config { agent_pings_missed_max: 0, ..Config::default() })
                .contains("agent_pings_missed_max")
        );
        let hour = Duration::from_secs(3600);
        assert!(refused(Config { allocation_coalesce: hour, ..Config::default() }).contains("60s or less"));
        assert!(refused(Config { offers_per_framework_max: 0, ..Config::default() }).contains("1 or more"));
        let excluded = vec!["a b".to_owned()];
        assert!(
            refused(Config { fairness_excluded: excluded, ..Config::default() })
                .contains("`a b`; it is no name")
        );
        let role = Role::new("eng").unwrap();
        let guarantee = |text: &str| [(role.clone(), text.parse().unwrap())].into();
        let ports = Config { quota_guarantees: guarantee("ports:[1-2]"), ..Config::default() };
        assert!(refused(ports).contains("guarantee plain numbers"));
        let quota_limits = [(role.clone(), "cpus:1".parse().unwrap())].into();
        let above = Config { quota_guarantees: guarantee("cpus:2"), quota_limits, ..Config::default() };
        assert!(refused(above).contains("more than its limit"));
        for seconds in [0.0, 1.0, 2.5, 61.0] {
            let leader_lease = Duration::from_secs_f64(seconds);
            assert!(refused(Config { leader_lease, ..Config::default() }).contains("whole seconds"));
        }
        for address in ["", "host", "http://host:1", "a:1,b:1"] {
            let advertise = Some(address.to_owned());
            assert!(refused(Config { advertise, ..Config::default() }).contains("`host:port`"), "{address}");
        }
        let etcd = Config { etcd: Some("a:1".parse().unwrap()), ..Config::default() };
        assert_eq!(etcd.check(), Ok(()));
        let both = Config { work_dir: Some("w".into()), ..etcd.clone() };
        assert!(
            refused(both)
                .starts_with("the setting `etcd` is `a:1`, and so is `work_dir`; a registry is in one place")
        );
        let anywhere = Config { listen: ([0, 0, 0, 0], 5050).into(), ..etcd };
        assert!(refused(anywhere.clone()).starts_with("the setting `advertise` is not set"));
        assert_eq!(Config { advertise: Some("[::1]:1".to_owned()), ..anywhere }.check(), Ok(()));
    }
}
