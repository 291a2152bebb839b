//! What is counted, and the page that Prometheus reads.
//!
//! What the core knows comes from the published view at the moment of reading; only what the shell alone sees (streams,
//! durations) is counted here.

use std::{fmt, time::Duration};

use apportion_master_core::{View, view::AgentState};
use apportion_types::{
    Resources, TaskState, Time, protocol::scheduler::DeclineCode, resources::Name,
    resources::milli_mib_to_bytes,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::Histogram,
        info::Info,
    },
    registry::{Registry, Unit},
};

use crate::summary;

/// What a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PeerKind {
    Scheduler,
    Agent,
    Watcher,
}

impl PeerKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            PeerKind::Scheduler => "scheduler",
            PeerKind::Agent => "agent",
            PeerKind::Watcher => "watcher",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MessageLabels {
    peer: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    peer: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    verdict: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

/// What the shell counts by itself.
pub(crate) struct Metrics {
    messages: Family<MessageLabels, Counter>,
    too_slow: Family<PeerLabel, Counter>,
    declined: Family<ReasonLabel, Counter>,
    explained: Family<VerdictLabel, Counter>,
    batch_duration: Histogram,
    batch_events: Histogram,
    cycle_duration: Histogram,
    commit_duration: Histogram,
    journal_recording: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// From 10 µs to about 10 s, by factors of 4.
fn seconds() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(10e-6, 4.0, 11))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            messages: Family::default(),
            too_slow: Family::default(),
            declined: Family::default(),
            explained: Family::default(),
            batch_duration: seconds(),
            batch_events: Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
                1.0, 2.0, 10,
            )),
            cycle_duration: seconds(),
            commit_duration: seconds(),
            journal_recording: Gauge::default(),
        }
    }
}

impl Metrics {
    /// A message was read from a peer.
    pub(crate) fn message(&self, peer: PeerKind, kind: &'static str) {
        self.messages.get_or_create(&MessageLabels { peer: peer.name(), kind }).inc();
    }

    /// A peer was ended because it did not read.
    pub(crate) fn too_slow(&self, peer: PeerKind) {
        self.too_slow.get_or_create(&PeerLabel { peer: peer.name() }).inc();
    }

    /// A scheduler gives offers back.
    pub(crate) fn declined(&self, reason: DeclineCode, offers: usize) {
        let reason = reason.as_str();
        self.declined.get_or_create(&ReasonLabel { reason }).inc_by(offers as u64);
    }

    /// An explanation names a verdict for a role.
    pub(crate) fn explained(&self, verdict: &'static str) {
        self.explained.get_or_create(&VerdictLabel { verdict }).inc();
    }

    /// So many events were handled at once, their actions included.
    pub(crate) fn batch(&self, events: usize, duration: Duration) {
        self.batch_events.observe(events as f64);
        self.batch_duration.observe(duration.as_secs_f64());
    }

    /// An allocation cycle ran.
    pub(crate) fn cycle(&self, duration: Duration) {
        self.cycle_duration.observe(duration.as_secs_f64());
    }

    /// A journal was begun, or has stopped.
    pub(crate) fn journal_recording(&self, recording: bool) {
        self.journal_recording.set(recording.into());
    }

    #[cfg(test)]
    pub(crate) fn is_journal_recording(&self) -> bool {
        self.journal_recording.get() == 1
    }

    /// Changes were written to the registry.
    pub(crate) fn commit(&self, duration: Duration) {
        self.commit_duration.observe(duration.as_secs_f64());
    }

    /// The page in OpenMetrics text form, as of `now`.
    pub(crate) fn page(&self, view: &View, now: Time, streams: [(PeerKind, usize); 3]) -> String {
        let mut registry = Registry::with_prefix("apportion_master");
        self.register(&mut registry);
        let gauges: Family<PeerLabel, Gauge> = Family::default();
        for (peer, count) in streams {
            gauges.get_or_create(&PeerLabel { peer: peer.name() }).set(count as i64);
        }
        registry.register("streams", "Open streams", gauges);
        of_view(&mut registry, view, now);
        let mut page = String::new();
        text::encode(&mut page, &registry).expect("writing to a string does not fail");
        page
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("messages", "Messages read from peers", self.messages.clone());
        let help = "Streams ended because the peer did not read";
        registry.register("peers_too_slow", help, self.too_slow.clone());
        let help = "Offers in declines of schedulers, by the reason given";
        registry.register("declines", help, self.declined.clone());
        let help = "Explanations in which a role has this verdict, for some agent or for all";
        registry.register("explain_verdicts", help, self.explained.clone());
        let durations = [
            (
                "event_batch_duration",
                "Time to handle a batch of events and run its actions",
                &self.batch_duration,
            ),
            (
                "allocation_cycle_duration",
                "Time of an allocation cycle, its offers included",
                &self.cycle_duration,
            ),
            ("registry_commit_duration", "Time of a write to the registry", &self.commit_duration),
        ];
        for (name, help, histogram) in durations {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        }
        registry.register("event_batch_events", "Events of a batch", self.batch_events.clone());
        let help = "1 while a journal is written; 0 when none is asked for, or it has stopped";
        registry.register("journal_recording", help, self.journal_recording.clone());
    }
}

/// What comes from the view.
fn of_view(registry: &mut Registry, view: &View, now: Time) {
    let info = [("version", summary::VERSION.to_owned()), ("master_id", view.master_id.clone())];
    registry.register("build", "The software and the process", Info::new(info));
    let uptime = ConstGauge::new(now.since(view.started_at).as_secs_f64());
    registry.register_with_unit("uptime", "Since the process started", Unit::Seconds, uptime);

    let agents = states(["active", "disconnected", "unreachable"]);
    for agent in view.agents.values() {
        count(&agents, summary::agent_state(agent.state));
    }
    registry.register("agents", "Agents by state", agents);
    let frameworks = states(["active", "disconnected", "removed"]);
    for framework in view.frameworks.values() {
        count(&frameworks, summary::framework_state(framework.state));
    }
    registry.register(
        "frameworks",
        "Frameworks by state, removed ones while they are remembered",
        frameworks,
    );
    let tasks = states(TaskState::ALL.map(TaskState::name));
    for task in view.tasks.values() {
        count(&tasks, task.state.name());
    }
    registry.register("tasks", "Tasks not yet acknowledged as ended, by newest state", tasks);
    let offers = ConstGauge::new(view.offers.len() as i64);
    registry.register("offers_outstanding", "Offers neither used, declined nor rescinded", offers);
    amounts(registry, view);
    counters(registry, view);
}

/// A gauge for each state, so that one that nothing is in shows as 0.
fn states<const N: usize>(names: [&'static str; N]) -> Family<StateLabel, Gauge> {
    let gauges: Family<StateLabel, Gauge> = Family::default();
    for state in names {
        gauges.get_or_create(&StateLabel { state }).set(0);
    }
    gauges
}

fn count(gauges: &Family<StateLabel, Gauge>, state: &'static str) {
    gauges.get_or_create(&StateLabel { state }).inc();
}

/// Cpus, memory, disk and gpus: of connected agents, held by tasks, and in offers.
fn amounts(registry: &mut Registry, view: &View) {
    type Amounts = Family<KindLabel, Gauge<f64, std::sync::atomic::AtomicU64>>;
    let units = |milli: i64| milli as f64 / 1000.0;
    let bytes = |milli: i64| milli_mib_to_bytes(milli) as f64;
    type InUnits<'a> = &'a dyn Fn(i64) -> f64;
    let resources: [(Name, &str, Option<Unit>, InUnits<'_>); 4] = [
        (Name::Cpus, "cpus", None, &units),
        (Name::Mem, "memory", Some(Unit::Bytes), &bytes),
        (Name::Disk, "disk", Some(Unit::Bytes), &bytes),
        (Name::Gpus, "gpus", None, &units),
    ];
    for (name, metric, unit, in_units) in resources {
        let amounts = Amounts::default();
        let mut sums = [("total", 0), ("allocated", 0), ("offered", 0)];
        let milli = |resources: &Resources| resources.milli(&name);
        for agent in view.agents.values() {
            if agent.state == AgentState::Active {
                sums[0].1 += milli(&agent.total);
            }
            sums[1].1 += milli(&agent.allocated);
            sums[2].1 += milli(&agent.offered);
        }
        for (kind, sum) in sums {
            amounts.get_or_create(&KindLabel { kind }).set(in_units(sum));
        }
        let help = format!("{metric} of connected agents, held by tasks, and in offers");
        match unit {
            Some(unit) => registry.register_with_unit(metric, help, unit, amounts),
            None => registry.register(metric, help, amounts),
        }
    }
}

fn counters(registry: &mut Registry, view: &View) {
    let counters = &view.counters;
    let all = [
        ("allocation_cycles", "Allocation cycles", counters.allocation_cycles),
        ("offers_made", "Offers made", counters.offers_made),
        ("offers_accepted", "Offers used by accepts that launched something", counters.offers_accepted),
        ("offers_declined", "Offers declined", counters.offers_declined),
        ("offers_rescinded", "Offers rescinded, for whatever cause", counters.offers_rescinded),
        ("offers_timed_out", "Offers rescinded because they were held too long", counters.offers_timed_out),
        ("tasks_launched", "Tasks launched", counters.tasks_launched),
        ("updates_forwarded", "Status updates forwarded to schedulers", counters.updates_forwarded),
        ("acknowledgements", "Acknowledgements passed on to agents", counters.acknowledgements),
        ("calls_refused", "Calls of schedulers refused by the core", counters.calls_refused),
        ("agents_unreachable", "Agents declared unreachable", counters.agents_unreachable),
    ];
    for (name, help, value) in all {
        registry.register(name, help, ConstCounter::new(value));
    }
    let ended: Family<StateLabel, Counter> = Family::default();
    for state in TaskState::ALL.into_iter().filter(|state| state.is_terminal()) {
        let count = counters.tasks_ended.get(state.name()).copied().unwrap_or_default();
        ended.get_or_create(&StateLabel { state: state.name() }).inc_by(count);
    }
    registry.register("tasks_ended", "Tasks ended, by terminal state", ended);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_prefixes_base_units_and_totals() {
        let metrics = Metrics::default();
        metrics.message(PeerKind::Scheduler, "accept");
        metrics.too_slow(PeerKind::Agent);
        metrics.batch(3, Duration::from_micros(50));
        metrics.cycle(Duration::from_millis(2));
        let mut view =
            View { master_id: "m".to_owned(), started_at: Time::from_micros(1_000_000), ..View::default() };
        view.counters.offers_made = 7;
        view.counters.tasks_ended.insert("finished", 2);
        let streams = [(PeerKind::Scheduler, 1), (PeerKind::Agent, 2), (PeerKind::Watcher, 0)];
        metrics.declined(DeclineCode::TooSmall, 3);
        metrics.explained("filtered");
        let page = metrics.page(&view, Time::from_micros(3_500_000), streams);
        for line in [
            "apportion_master_messages_total{peer=\"scheduler\",kind=\"accept\"} 1",
            "apportion_master_peers_too_slow_total{peer=\"agent\"} 1",
            "apportion_master_streams{peer=\"agent\"} 2",
            "apportion_master_declines_total{reason=\"too small\"} 3",
            "apportion_master_explain_verdicts_total{verdict=\"filtered\"} 1",
            "apportion_master_uptime_seconds 2.5",
            "apportion_master_agents{state=\"active\"} 0",
            "apportion_master_tasks{state=\"running\"} 0",
            "apportion_master_offers_made_total 7",
            "apportion_master_tasks_ended_total{state=\"finished\"} 2",
            "apportion_master_tasks_ended_total{state=\"failed\"} 0",
            "apportion_master_memory_bytes{kind=\"total\"} 0.0",
            "apportion_master_event_batch_duration_seconds_count 1",
            "apportion_master_allocation_cycle_duration_seconds_count 1",
        ] {
            assert!(page.lines().any(|each| each == line), "{line} is missing in\n{page}");
        }
        let odd = |line: &&str| !line.starts_with("# ") && !line.starts_with("apportion_master_");
        assert_eq!(page.lines().find(odd), None);
    }
}
