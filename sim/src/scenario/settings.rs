//! Settings of the master, its allocator and the agents.

use std::time::Duration;

use apportion_agent_core as agent;
use apportion_allocator::{HierarchicalConfig, QuotaLimit, SorterKind};
use apportion_master_core::{self as master, RoleChange};
use apportion_types::{Resources, Role};

use super::words::{DURATION_MAX, Given, Line, Parsed};
use crate::Cluster;

const MILLISECOND: Duration = Duration::from_millis(1);

/// A setting of the master: its name, the least that makes sense, where it is.
type MasterSetting = (&'static str, Duration, fn(&mut master::Config) -> &mut Duration);

const MASTER: &[MasterSetting] = &[
    ("master.offer_timeout", MILLISECOND, |config| &mut config.offer_timeout),
    ("master.allocation_coalesce", Duration::ZERO, |config| &mut config.allocation_coalesce),
    ("master.agent_ping_interval", MILLISECOND, |config| &mut config.agent_ping_interval),
    ("master.agent_reregister_timeout", MILLISECOND, |config| &mut config.agent_reregister_timeout),
    ("master.scheduler_heartbeat", MILLISECOND, |config| &mut config.scheduler_heartbeat),
    ("master.preemption_grace", MILLISECOND, |config| &mut config.preemption_grace),
];

const PINGS_MISSED: &str = "master.agent_pings_missed_max";

type AgentSetting = fn(&mut agent::Config) -> &mut Duration;

const AGENT: &[(&str, AgentSetting)] = &[
    ("agent.register_timeout", |config| &mut config.register_timeout),
    ("agent.update_retry_min", |config| &mut config.update_retry_min),
    ("agent.update_retry_max", |config| &mut config.update_retry_max),
    ("agent.kill_repeat", |config| &mut config.kill_repeat),
];

/// Reads a role, and what is to be set for it.
pub(super) fn role_change(line: &mut Line<'_>) -> Parsed<(Role, RoleChange)> {
    let role: Role = line.word("a role")?.read("a role such as eng or eng/ads")?;
    let known = ["weight", "limit", "guarantee", "priority"];
    let mut change = RoleChange::default();
    let first = line.word("weight=…, limit=…, guarantee=… or priority=…")?;
    for word in [first].into_iter().chain(line) {
        let Given { key, value } = word.option(&known)?;
        match key.text {
            "weight" => change.weight = Some(value.read("a weight such as 2 or 0.5")?),
            "limit" => {
                let limit: QuotaLimit = value.read("scalars such as cpus:4;mem:4096")?;
                change.quota.get_or_insert_default().limit = Some(limit);
            }
            "guarantee" => {
                let guarantee: Resources = value.read("scalars such as cpus:4;mem:4096")?;
                change.quota.get_or_insert_default().guarantee = guarantee;
            }
            _ => change.priority = Some(value.read("a whole number such as 10")?),
        }
    }
    Ok((role, change))
}

/// What is set, and the defaults.
#[derive(Debug)]
pub(super) struct Settings {
    master: master::Config,
    agent: Vec<(AgentSetting, Duration)>,
    allocator: HierarchicalConfig,
}

impl Settings {
    pub(super) fn new() -> Self {
        Self { master: master::Config::new(""), agent: Vec::new(), allocator: HierarchicalConfig::default() }
    }

    /// Reads what stands behind `set`.
    pub(super) fn set(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        let known: Vec<&str> = MASTER
            .iter()
            .map(|(key, ..)| *key)
            .chain([PINGS_MISSED])
            .chain(AGENT.iter().map(|(key, _)| *key))
            .collect();
        let first = line.word("a setting, such as master.offer_timeout=10s")?;
        for word in [first].into_iter().chain(line) {
            let Given { key, value } = word.option(&known)?;
            if let Some((_, least, place)) = MASTER.iter().find(|(name, ..)| *name == key.text) {
                *place(&mut self.master) = value.duration(*least..=DURATION_MAX)?;
            } else if let Some((_, place)) = AGENT.iter().find(|(name, _)| *name == key.text) {
                self.agent.push((*place, value.duration(MILLISECOND..=DURATION_MAX)?));
            } else {
                let missed = value.number(1..=1_000)?;
                self.master.agent_pings_missed_max = u32::try_from(missed).expect("it is within bounds");
            }
        }
        Ok(())
    }

    /// Reads what stands behind `role`.
    pub(super) fn role(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        let (role, change) = role_change(line)?;
        let settings = self.master.roles.entry(role).or_default();
        settings.weight = change.weight.unwrap_or(settings.weight);
        settings.priority = change.priority.unwrap_or(settings.priority);
        if let Some(quota) = change.quota {
            settings.quota = quota;
        }
        Ok(())
    }

    /// Reads what stands behind `sorter`.
    pub(super) fn sorter(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        const EXPECTED: &str = "`drf` or `random SEED`";
        let word = line.word(EXPECTED)?;
        self.allocator.sorter = match word.text {
            "drf" => SorterKind::Drf,
            "random" => SorterKind::Random { seed: line.word("its seed")?.number(0..=u64::MAX)? },
            _ => return Err(word.wrong("is no sorter", EXPECTED)),
        };
        Ok(())
    }

    /// Gives them to a cluster.
    pub(super) fn apply(&self, cluster: Cluster) -> Cluster {
        let (config, allocator, agent) = (self.master.clone(), self.allocator.clone(), self.agent.clone());
        cluster.master(|master| *master = config).allocator(|old| *old = allocator).configure_agents(
            move |config| {
                for (place, value) in &agent {
                    *place(config) = *value;
                }
            },
        )
    }
}
