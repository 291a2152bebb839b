//! What Prometheus reads, of any number of listeners.

use std::{fmt, sync::atomic::AtomicU64};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet, text},
    metrics::{MetricType, counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::{
    latency::Counts,
    statistics::{Quantiles, Standing, Statistics},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AppLabel {
    app: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    app: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReplicaLabel {
    app: String,
    replica: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QuantileLabel {
    app: String,
    /// Empty for the app as a whole, which Prometheus takes for no label.
    replica: String,
    quantile: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// Bounds of the histogram, in microseconds.
const BOUNDS_US: [u64; 12] =
    [500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 10_000_000, 60_000_000];

/// Latencies since the start, which are counted elsewhere and only written here.
#[derive(Debug, Default)]
struct Latencies(Vec<(ReplicaLabel, Counts)>);

impl Collector for Latencies {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Time to the head of an answer";
        let name = "replica_latency";
        let mut family =
            encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        for (label, counts) in &self.0 {
            let mut before = 0;
            let mut bucket = |bound: f64, at_most: u64| {
                let here = at_most - before;
                before = at_most;
                (bound, here)
            };
            let mut buckets: Vec<_> =
                BOUNDS_US.iter().map(|us| bucket(seconds(*us), counts.at_most(*us))).collect();
            // The encoder writes this bound as +Inf.
            buckets.push(bucket(f64::MAX, counts.count()));
            let sum = seconds(counts.sum_us());
            family.encode_family(label)?.encode_histogram::<NoLabelSet>(
                sum,
                counts.count(),
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// The page in OpenMetrics text form.
///
/// Latency is told twice: as quantiles of the last seconds, which a person wants to see, and as buckets since the start, which
/// Prometheus can add up over replicas and balancers.
pub fn page<'a>(listeners: impl IntoIterator<Item = &'a Statistics>) -> String {
    let mut families = Families::default();
    listeners.into_iter().for_each(|statistics| families.add(statistics));
    let mut registry = Registry::with_prefix("apportion_balancer");
    families.register(&mut registry);
    let mut page = String::new();
    // Writing to a string does not fail; a page cut short is better than none.
    let _ = text::encode(&mut page, &registry);
    page
}

#[derive(Default)]
struct Families {
    requests: Family<AppLabel, Counter>,
    retries: Family<AppLabel, Counter>,
    refused: Family<ReasonLabel, Counter>,
    waiting: Family<AppLabel, Gauge>,
    clients: Family<AppLabel, Gauge>,
    rate: Family<AppLabel, Seconds>,
    latency: Family<QuantileLabel, Seconds>,
    of_replica: OfReplica,
    latencies: Latencies,
}

#[derive(Default)]
struct OfReplica {
    requests: Family<ReplicaLabel, Counter>,
    failures: Family<ReplicaLabel, Counter>,
    retries: Family<ReplicaLabel, Counter>,
    ejections: Family<ReplicaLabel, Counter>,
    in_flight: Family<ReplicaLabel, Gauge>,
    pending: Family<ReplicaLabel, Gauge>,
    ready: Family<ReplicaLabel, Gauge>,
    ewma: Family<ReplicaLabel, Seconds>,
}

fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

impl Families {
    fn add(&mut self, statistics: &Statistics) {
        let app = AppLabel { app: statistics.app.clone() };
        self.requests.get_or_create(&app).inc_by(statistics.requests);
        self.retries.get_or_create(&app).inc_by(statistics.retries);
        self.waiting.get_or_create(&app).set(statistics.waiting.into());
        self.clients.get_or_create(&app).set(statistics.clients.into());
        self.rate.get_or_create(&app).set(statistics.requests_per_second);
        for (reason, count) in &statistics.refused {
            self.refused.get_or_create(&ReasonLabel { app: app.app.clone(), reason }).inc_by(*count);
        }
        self.quantiles(&app.app, "", &statistics.latency);
        for replica in &statistics.replicas {
            let label = ReplicaLabel { app: app.app.clone(), replica: replica.id.clone() };
            self.of_replica.add(&label, replica);
            self.quantiles(&app.app, &replica.id, &replica.latency);
            self.latencies.0.push((label, replica.latencies.clone()));
        }
    }

    fn quantiles(&self, app: &str, replica: &str, of: &Quantiles) {
        for (quantile, us) in [("0.5", of.p50_us), ("0.95", of.p95_us), ("0.99", of.p99_us)] {
            let label = QuantileLabel { app: app.to_owned(), replica: replica.to_owned(), quantile };
            self.latency.get_or_create(&label).set(seconds(us));
        }
    }

    fn register(self, registry: &mut Registry) {
        registry.register("requests", "Requests, or connections of L4", self.requests);
        registry.register("retries", "Requests sent again", self.retries);
        registry.register("refused", "Requests that the balancer answered itself, by reason", self.refused);
        registry.register("waiting", "Requests that wait for a replica", self.waiting);
        registry.register("clients", "Connections of clients", self.clients);
        registry.register("requests_per_second", "Over the last ten seconds", self.rate);
        let help = "Time to the head of an answer over the last seconds; of an app with its waiting";
        registry.register("latency_recent_seconds", help, self.latency);
        let replicas = self.of_replica;
        registry.register("replica_requests", "Attempts", replicas.requests);
        registry.register("replica_failures", "Attempts without an answer, or with a 5xx", replicas.failures);
        registry.register(
            "replica_retries",
            "Attempts that failed here and were made again",
            replicas.retries,
        );
        registry.register("replica_ejections", "How often it was left out for failures", replicas.ejections);
        registry.register("replica_in_flight", "Requests that it has", replicas.in_flight);
        registry.register("replica_pending", "Requests that wait for a connection to it", replicas.pending);
        registry.register("replica_ready", "1 when it gets requests, 0 when not", replicas.ready);
        registry.register("replica_latency_ewma_seconds", "What its latency is judged by", replicas.ewma);
        registry.register_collector(Box::new(self.latencies));
    }
}

impl OfReplica {
    fn add(&self, label: &ReplicaLabel, replica: &super::ReplicaStatistics) {
        self.requests.get_or_create(label).inc_by(replica.requests);
        self.failures.get_or_create(label).inc_by(replica.failures);
        self.retries.get_or_create(label).inc_by(replica.retries);
        self.ejections.get_or_create(label).inc_by(replica.ejections);
        // One id may be there twice for a while: one that leaves, and one at another address.
        self.in_flight.get_or_create(label).inc_by(replica.in_flight.into());
        self.pending.get_or_create(label).inc_by(replica.pending.into());
        self.ready.get_or_create(label).inc_by((replica.standing == Standing::Ready).into());
        self.ewma.get_or_create(label).set(replica.latency_ewma_us / 1e6);
    }
}
