//! What can be read of a listener at any time: by a scaler, an operator, a page.

use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::{
    app::App,
    latency::Counts,
    replica::{Checked, Endpoint},
    reply::Reason,
};

/// One app's listener, at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct Statistics {
    /// The app.
    pub app: String,
    /// Requests (connections of L4) since the start.
    pub requests: u64,
    /// Requests each second, over the last ten.
    pub requests_per_second: f64,
    /// Time to the head of an answer, over the last ten to fifteen seconds, waiting included.
    pub latency: Quantiles,
    /// Requests that wait for a replica now. More than none while no replica is there is how a scaler learns that one is wanted.
    pub waiting: u32,
    /// Connections of clients now.
    pub clients: u32,
    /// Requests sent again since the start.
    pub retries: u64,
    /// Requests that the balancer answered itself since the start, by reason.
    pub refused: Vec<(&'static str, u64)>,
    /// Its replicas, and those that left and still have something to do.
    pub replicas: Vec<ReplicaStatistics>,
}

/// One replica, at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct ReplicaStatistics {
    /// Its id.
    pub id: String,
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// Whether it gets requests, and why not.
    pub standing: Standing,
    /// Attempts since the start; a request that was sent again counts for each replica that had it.
    pub requests: u64,
    /// Attempts that brought no answer, or one from 500 to 599.
    pub failures: u64,
    /// Attempts that failed here and were made again.
    pub retries: u64,
    /// How often it was left out for failures.
    pub ejections: u64,
    /// What it has to do now.
    pub in_flight: u32,
    /// How many of these wait for a connection.
    pub pending: u32,
    /// The mean that its latency is judged by, in microseconds.
    pub latency_ewma_us: f64,
    /// Time to the head of its answers, over the last ten to fifteen seconds.
    pub latency: Quantiles,
    /// All its latencies since the start.
    #[serde(skip)]
    pub latencies: Counts,
}

/// Whether a replica gets requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It does.
    Ready,
    /// It finishes what it has.
    Draining,
    /// No active check was answered yet.
    Unchecked,
    /// It fails its active checks.
    Down,
    /// It is left out for a while since requests failed there.
    Ejected,
}

/// Latencies in microseconds; 0 when there were none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Quantiles {
    /// How many they are of.
    pub count: u64,
    /// The median.
    pub p50_us: u64,
    /// The 95th percentile.
    pub p95_us: u64,
    /// The 99th percentile.
    pub p99_us: u64,
}

impl From<&Counts> for Quantiles {
    fn from(counts: &Counts) -> Self {
        let quantile = |part| counts.quantile(part);
        Self { count: counts.count(), p50_us: quantile(0.5), p95_us: quantile(0.95), p99_us: quantile(0.99) }
    }
}

impl Statistics {
    pub(super) fn of(app: &App) -> Self {
        let second = app.clock.second();
        Self {
            app: app.name.clone(),
            requests: app.requests.load(Relaxed),
            requests_per_second: app.rate.per_second(second),
            latency: Quantiles::from(&app.recent.counts(second)),
            waiting: app.waiting.load(Relaxed),
            clients: app.clients.load(Relaxed),
            retries: app.retries.load(Relaxed),
            refused: Reason::ALL
                .iter()
                .map(|reason| (reason.name(), app.refused[*reason as usize].load(Relaxed)))
                .collect(),
            replicas: app.members().iter().map(|endpoint| of_replica(app, endpoint)).collect(),
        }
    }

    /// The replica of this id.
    pub fn replica(&self, id: &str) -> Option<&ReplicaStatistics> {
        self.replicas.iter().find(|replica| replica.id == id)
    }
}

fn of_replica(app: &App, endpoint: &Endpoint) -> ReplicaStatistics {
    let standing = match endpoint.checked() {
        _ if endpoint.is_draining() => Standing::Draining,
        Checked::Unknown => Standing::Unchecked,
        Checked::Down => Standing::Down,
        Checked::Up if app.is_ejected(endpoint) => Standing::Ejected,
        Checked::Up => Standing::Ready,
    };
    ReplicaStatistics {
        id: endpoint.id.clone(),
        address: endpoint.address,
        standing,
        requests: endpoint.requests.load(Relaxed),
        failures: endpoint.failures.load(Relaxed),
        retries: endpoint.retries.load(Relaxed),
        ejections: endpoint.ejections.load(Relaxed),
        in_flight: endpoint.in_flight.load(Relaxed),
        pending: endpoint.pending.load(Relaxed),
        latency_ewma_us: endpoint.latency_us(app.clock.now_us()),
        latency: Quantiles::from(&endpoint.recent.counts(app.clock.second())),
        latencies: endpoint.latency.counts(),
    }
}
