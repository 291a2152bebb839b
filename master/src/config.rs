//! What an operator may set. Each default is that of [`apportion_types::limits`].

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use apportion_allocator::{HierarchicalConfig, Quota, QuotaLimit, Weight};
use apportion_types::{Role, limits};
use serde::{Deserialize, Serialize};

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
    /// Where to record what happens, to be replayed later; nowhere when none. See [`crate::journal`].
    pub journal: Option<PathBuf>,
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
            journal: None,
        }
    }
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
        Ok(())
    }

    /// The part that the allocator decides by.
    pub fn allocator(&self) -> HierarchicalConfig {
        let quota = |(role, limit): (&Role, &QuotaLimit)| {
            (role.clone(), Quota { limit: Some(limit.clone()), ..Quota::default() })
        };
        HierarchicalConfig {
            weights: self.weights.clone(),
            quotas: self.quota_limits.iter().map(quota).collect(),
            ..HierarchicalConfig::default()
        }
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
            ..Self::default()
        }
    }

    /// The part that the core decides by.
    pub(crate) fn core(&self, master_id: String) -> apportion_master_core::Config {
        apportion_master_core::Config {
            master_id,
            offer_timeout: self.offer_timeout,
            allocation_coalesce: self.allocation_coalesce,
            agent_ping_interval: self.agent_ping_interval,
            agent_pings_missed_max: self.agent_pings_missed_max,
            agent_reregister_timeout: self.agent_reregister_timeout,
            scheduler_heartbeat: self.scheduler_heartbeat,
        }
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
    }
}
