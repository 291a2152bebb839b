//! What Prometheus reads of a queue.

use std::{collections::BTreeMap, fmt, sync::atomic::AtomicU64};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text::encode},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{entry::Phase, scheduler::Waited, view::Overview};

/// Of what [`text`] gives.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UserLabel {
    user: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    user: String,
    state: &'static str,
}

/// Waiting times, which are counted elsewhere and only written here.
#[derive(Debug)]
struct Waits(BTreeMap<String, Waited>);

impl Collector for Waits {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Time of jobs in the queue until the first of their tasks was launched";
        let name = "job_waiting_time";
        let mut family =
            encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (user, waited) in &self.0 {
            // The encoder writes the last bound as +Inf.
            let bounds = Waited::BOUNDS.into_iter().chain([f64::MAX]);
            let buckets: Vec<_> = bounds.zip(waited.counts).collect();
            let count = waited.counts.iter().sum();
            let label = UserLabel { user: user.clone() };
            family
                .encode_family(&label)?
                .encode_histogram::<NoLabelSet>(waited.sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// The metrics of a queue as it is now.
pub(super) fn text(overview: &Overview) -> String {
    let jobs = Family::<StateLabel, Gauge>::default();
    let tasks = Family::<StateLabel, Gauge>::default();
    let shares = Family::<UserLabel, Gauge<f64, AtomicU64>>::default();
    let attempts = Family::<UserLabel, Counter>::default();
    for user in &overview.users {
        // States of which there is none are told as well: what is not there cannot be drawn.
        for phase in Phase::ALL {
            jobs.get_or_create(&StateLabel { user: user.user.clone(), state: phase.name() }).set(0);
        }
        shares.get_or_create(&UserLabel { user: user.user.clone() }).set(user.dominant_share);
    }
    for job in &overview.jobs {
        let label = |state| StateLabel { user: job.user.clone(), state };
        jobs.get_or_create(&label(job.state.name())).inc();
        let counts = &job.tasks;
        for (state, count) in [
            ("waiting", counts.waiting),
            ("running", counts.active),
            ("succeeded", counts.succeeded),
            ("skipped", counts.skipped),
            ("failed", counts.failed),
        ] {
            tasks.get_or_create(&label(state)).inc_by(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
    for (user, waited) in &overview.waits {
        attempts.get_or_create(&UserLabel { user: user.clone() }).inc_by(waited.attempts);
    }
    let mut registry = Registry::with_prefix("apportion_batch");
    registry.register("jobs", "Jobs that are known, by where they are", jobs);
    registry.register("tasks", "Tasks of jobs that are known, by what they do", tasks);
    registry.register("dominant_share", "Part of the cluster that a user holds, for their weight", shares);
    registry.register("attempts", "Launches of tasks since this program began", attempts);
    registry.register_collector(Box::new(Waits(overview.waits.clone())));
    let mut text = String::new();
    // Writing to a text does not fail.
    _ = encode(&mut text, &registry);
    text
}
