//! What a master was started with.

use std::time::Duration;

use apportion_allocator::{Allocator, HierarchicalConfig, Quota, QuotaLimit, SorterKind, Weight};
use apportion_master_core::{Config as CoreConfig, Master, RateLimit, Recovered};
use apportion_proto::v1;
use apportion_types::{OfferId, Resources, Role, Time, convert::ConvertError, limits, resources::Name};

use crate::{Config, frame, registry::Contents, rpc::change, summary};

/// The latest time that a journal may tell of, the last of the year 9999: later ones have no text. It is also so far from the
/// end of time that no timer of the core is ever set to that, which would be due again and again.
const LATEST: Time = Time::from_micros(253_402_300_799_999_999);

/// What a master was started with: with the events that follow, all that decides what it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The version of the software that recorded.
    pub version: String,
    /// The settings of the core, its name among them.
    pub core: CoreConfig,
    /// The settings of the allocator.
    pub allocator: HierarchicalConfig,
    /// The agents and frameworks that its registry had.
    pub recovered: Recovered,
    /// When the master started.
    pub started_at: Time,
}

impl Header {
    /// The header of a master of this software that starts now.
    pub(crate) fn new(
        core: CoreConfig,
        allocator: HierarchicalConfig,
        recovered: Recovered,
        started_at: Time,
    ) -> Header {
        Header { version: summary::VERSION.to_owned(), core, allocator, recovered, started_at }
    }

    /// True when a journal can have it: a registry may be larger than what a reader would take.
    pub(crate) fn fits(&self) -> bool {
        frame::fits(&v1::JournalHeader::from(self))
    }

    /// A master that starts so, with this allocator.
    pub(crate) fn master(&self, allocator: Box<dyn Allocator>) -> Master {
        Master::recover(self.core.clone(), self.recovered.clone(), allocator, self.started_at)
    }
}

impl From<&Header> for v1::JournalHeader {
    fn from(header: &Header) -> Self {
        let core = &header.core;
        let settings = v1::JournalSettings {
            offer_timeout_us: micros(core.offer_timeout),
            allocation_coalesce_us: micros(core.allocation_coalesce),
            agent_ping_interval_us: micros(core.agent_ping_interval),
            agent_pings_missed_max: core.agent_pings_missed_max,
            agent_reregister_timeout_us: micros(core.agent_reregister_timeout),
            scheduler_heartbeat_us: micros(core.scheduler_heartbeat),
            roles: core.roles.iter().map(|(role, settings)| change::role_settings(role, settings)).collect(),
            rate_limits: core
                .rate_limits
                .iter()
                .map(|(name, limit)| (name.clone(), rate_message(limit)))
                .collect(),
            rate_limit_default: core.rate_limit_default.as_ref().map(rate_message),
            preemption_grace_us: Some(micros(core.preemption_grace)),
            offers_per_cycle_max: Some(core.offers_per_cycle_max as u64),
        };
        let HierarchicalConfig {
            allocatable_min,
            fairness_excluded,
            weights,
            quotas,
            sorter,
            filter_gpus,
            region,
            offers_max,
        } = &header.allocator;
        let weight = |(role, weight): (&Role, &Weight)| v1::JournalWeight {
            role: role.to_string(),
            weight_milli: weight.milli(),
        };
        let quota = |(role, quota): (&Role, &Quota)| v1::JournalQuotaLimit {
            role: role.to_string(),
            limit: quota.limit.as_ref().map(QuotaLimit::to_string).unwrap_or_default(),
            guarantee: Some((&quota.guarantee).into()),
        };
        let allocator = v1::JournalAllocator {
            allocatable_min: allocatable_min.iter().map(Into::into).collect(),
            fairness_excluded: fairness_excluded.iter().map(ToString::to_string).collect(),
            weights: weights.iter().map(weight).collect(),
            quota_limits: quotas.iter().map(quota).collect(),
            random_seed: match sorter {
                SorterKind::Drf => None,
                SorterKind::Random { seed } => Some(*seed),
            },
            gpus_filtered: *filter_gpus,
            region: region.clone(),
            offers_max: *offers_max,
        };
        let recovered = Contents { recovered: header.recovered.clone(), ..Contents::default() };
        Self {
            version: header.version.clone(),
            master_id: core.master_id.clone(),
            started_at_us: header.started_at.as_micros(),
            settings: Some(settings),
            allocator: Some(allocator),
            recovered: recovered.keys().filter_map(|key| recovered.entry(&key)).collect(),
        }
    }
}

impl TryFrom<v1::JournalHeader> for Header {
    type Error = ConvertError;

    /// Refuses with what no master could have been started.
    fn try_from(wire: v1::JournalHeader) -> Result<Self, ConvertError> {
        let started_at = Time::from_micros(wire.started_at_us);
        judge_time(started_at).map_err(|what| ConvertError::new("started_at_us", what))?;
        if let Err(error) = OfferId::new(format!("{}-O{}", wire.master_id, u64::MAX)) {
            return Err(ConvertError::new(
                "master_id",
                format_args!("it cannot be the start of ids: {error}"),
            ));
        }
        let missing = |field| ConvertError::new(field, "is missing");
        let settings = wire.settings.ok_or_else(|| missing("settings"))?;
        let roles = settings.roles.into_iter().map(change::settings_of_role);
        let roles = roles.collect::<Result<_, _>>().map_err(|error| error.within("settings.roles"))?;
        let offers_max =
            settings.offers_per_cycle_max.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        let grace = settings.preemption_grace_us.map(Duration::from_micros);
        let core = CoreConfig {
            master_id: wire.master_id,
            offer_timeout: Duration::from_micros(settings.offer_timeout_us),
            allocation_coalesce: Duration::from_micros(settings.allocation_coalesce_us),
            agent_ping_interval: Duration::from_micros(settings.agent_ping_interval_us),
            agent_pings_missed_max: settings.agent_pings_missed_max,
            agent_reregister_timeout: Duration::from_micros(settings.agent_reregister_timeout_us),
            scheduler_heartbeat: Duration::from_micros(settings.scheduler_heartbeat_us),
            rate_limits: settings.rate_limits.into_iter().map(|(name, wire)| (name, rate(wire))).collect(),
            rate_limit_default: settings.rate_limit_default.map(rate),
            roles,
            preemption_grace: grace.unwrap_or(limits::PREEMPTION_GRACE),
            offers_per_cycle_max: offers_max.unwrap_or(limits::OFFERS_PER_CYCLE_MAX),
        };
        Config::of_core(&core).check().map_err(|error| ConvertError::new("settings", error))?;
        let allocator = wire.allocator.ok_or_else(|| missing("allocator"))?;
        let allocator = allocator_config(allocator).map_err(|error| error.within("allocator"))?;
        let mut kept = Contents::default();
        for entry in wire.recovered {
            kept.insert(entry).map_err(|error| error.within("recovered"))?;
        }
        let Contents { recovered, roles } = kept;
        if !roles.is_empty() {
            return Err(ConvertError::new("recovered", "has roles, which are among the settings"));
        }
        recovered.judge(&core.master_id).map_err(|why| ConvertError::new("recovered", why))?;
        Ok(Header { version: wire.version, core, allocator, recovered, started_at })
    }
}

fn rate_message(limit: &RateLimit) -> v1::RateLimit {
    v1::RateLimit { calls_per_second_milli: limit.per_second_milli, capacity: limit.capacity }
}

fn rate(wire: v1::RateLimit) -> RateLimit {
    RateLimit { per_second_milli: wire.calls_per_second_milli, capacity: wire.capacity }
}

fn allocator_config(wire: v1::JournalAllocator) -> Result<HierarchicalConfig, ConvertError> {
    let resources =
        |wire: v1::Resources| Resources::try_from(wire).map_err(|error| error.within("allocatable_min"));
    let name = |text: &String| {
        Name::new(text).ok_or_else(|| ConvertError::new("fairness_excluded", "is not a name of a resource"))
    };
    let weight = |wire: v1::JournalWeight| {
        let weight = Weight::from_milli(wire.weight_milli);
        Ok((role(&wire.role)?, weight.ok_or_else(|| ConvertError::new("weights", "one is zero"))?))
    };
    let quota = |wire: v1::JournalQuotaLimit| {
        let limit = (!wire.limit.is_empty()).then(|| wire.limit.parse()).transpose();
        let limit = limit.map_err(|error| ConvertError::new("quota_limits", error))?;
        let guarantee = wire.guarantee.unwrap_or_default().try_into();
        let guarantee = guarantee.map_err(|error: ConvertError| error.within("quota_limits"))?;
        Ok((role(&wire.role)?, Quota { guarantee, limit }))
    };
    Ok(HierarchicalConfig {
        allocatable_min: wire.allocatable_min.into_iter().map(resources).collect::<Result<_, _>>()?,
        fairness_excluded: wire.fairness_excluded.iter().map(name).collect::<Result<_, _>>()?,
        weights: wire.weights.into_iter().map(weight).collect::<Result<_, _>>()?,
        quotas: wire.quota_limits.into_iter().map(quota).collect::<Result<_, _>>()?,
        sorter: wire.random_seed.map_or(SorterKind::Drf, |seed| SorterKind::Random { seed }),
        filter_gpus: wire.gpus_filtered,
        region: wire.region,
        offers_max: wire.offers_max,
    })
}

fn role(text: &str) -> Result<Role, ConvertError> {
    Role::new(text).map_err(|error| ConvertError::new("role", error))
}

/// Refuses a time that is too near to the end of all times.
pub(super) fn judge_time(time: Time) -> Result<(), &'static str> {
    if time > LATEST { Err("no clock shows so late a time") } else { Ok(()) }
}

/// Whole microseconds: the core's time has no finer ones, and adds durations as these.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
