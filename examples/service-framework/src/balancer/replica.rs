//! One replica: what is known of it, and what it has to do at the moment.
//!
//! Everything that a request touches is an atomic or a lock that nobody else holds for longer than a few instructions.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
};

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    app::App,
    config::Listener,
    latency::{Histogram, Recent},
    policy::PeakEwma,
    pool::Pool,
};

/// A replica as the scheduler knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replica {
    /// Names it; what is known of it is kept as long as id and address stay.
    pub id: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Twice the weight is twice the requests, with policies that look at it; 0 counts as 1.
    #[serde(default = "one")]
    pub weight: u32,
    /// Whether it takes requests.
    #[serde(default)]
    pub state: State,
}

fn one() -> u32 {
    1
}

/// Whether a replica takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does.
    #[default]
    Ready,
    /// It finishes what it has, and gets nothing new.
    Draining,
}

impl Replica {
    /// A replica that takes requests, of weight 1.
    pub fn new(id: impl Into<String>, address: SocketAddr) -> Self {
        Self { id: id.into(), address, weight: 1, state: State::Ready }
    }

    /// The same, as it finishes what it has.
    #[must_use]
    pub fn draining(self) -> Self {
        Self { state: State::Draining, ..self }
    }
}

/// What active checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Checked {
    /// Nothing yet, while they are on.
    Unknown,
    Up,
    Down,
}

/// A replica as the balancer knows it.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) id: String,
    pub(super) address: SocketAddr,
    weight: AtomicU32,
    draining: AtomicBool,
    /// Counts how often it began to drain, so that a timer of an earlier time ends nothing.
    pub(super) drains: AtomicU64,
    /// It is no longer in the set, and forgotten when it has nothing left.
    pub(super) removed: AtomicBool,
    checked: AtomicU8,
    pub(super) in_flight: AtomicU32,
    pub(super) pending: AtomicU32,
    pub(super) requests: AtomicU64,
    pub(super) failures: AtomicU64,
    failures_in_a_row: AtomicU32,
    pub(super) retries: AtomicU64,
    pub(super) ejections: AtomicU64,
    ewma: Mutex<PeakEwma>,
    pub(super) latency: Histogram,
    pub(super) recent: Recent,
    /// One permit for each connection that it may have.
    pub(super) connections: Arc<Semaphore>,
    /// A connection became free, or may be opened.
    pub(super) released: Notify,
    /// The open connections to it, of each worker.
    pub(super) pools: Vec<Pool>,
    /// Whatever it still has is ended.
    pub(super) gone: CancellationToken,
}

/// The lock, also when a thread panicked that held it: what these locks guard is whole between any two instructions.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Endpoint {
    pub(super) fn new(replica: &Replica, config: &Listener, gone: CancellationToken) -> Self {
        let checked = if config.health.active.is_some() { Checked::Unknown } else { Checked::Up };
        let connections_max = (config.circuit.connections_max as usize).min(Semaphore::MAX_PERMITS);
        Self {
            id: replica.id.clone(),
            address: replica.address,
            weight: AtomicU32::new(replica.weight),
            draining: AtomicBool::new(replica.state == State::Draining),
            drains: AtomicU64::new(0),
            removed: AtomicBool::new(false),
            checked: AtomicU8::new(checked as u8),
            in_flight: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            retries: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            ewma: Mutex::default(),
            latency: Histogram::default(),
            recent: Recent::default(),
            connections: Arc::new(Semaphore::new(connections_max)),
            released: Notify::new(),
            pools: (0..config.workers).map(|_| Pool::default()).collect(),
            gone,
        }
    }

    pub(super) fn weight(&self) -> u32 {
        self.weight.load(Relaxed).max(1)
    }

    pub(super) fn set_weight(&self, weight: u32) {
        self.weight.store(weight, Relaxed);
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(SeqCst)
    }

    /// Changes whether it takes requests; tells whether it began to drain by that.
    pub(super) fn set_draining(&self, draining: bool) -> bool {
        let began = !self.draining.swap(draining, SeqCst) && draining;
        if began {
            self.drains.fetch_add(1, SeqCst);
            self.close_idle();
        }
        began
    }

    /// Closes the connections that nothing is on.
    pub(super) fn close_idle(&self) {
        self.pools.iter().for_each(Pool::clear);
    }

    pub(super) fn checked(&self) -> Checked {
        match self.checked.load(Relaxed) {
            0 => Checked::Unknown,
            1 => Checked::Up,
            _ => Checked::Down,
        }
    }

    /// What a check found; tells whether that is new.
    pub(super) fn set_checked(&self, checked: Checked) -> bool {
        self.checked.swap(checked as u8, Relaxed) != checked as u8
    }

    pub(super) fn latency_us(&self, now_us: u64) -> f64 {
        lock(&self.ewma).at(now_us)
    }

    /// Whether nothing is under way on one that takes nothing new.
    pub(super) fn is_drained(&self) -> bool {
        self.is_draining() && self.in_flight.load(SeqCst) == 0
    }
}

/// A request, or a connection of L4, that a replica has from now until this is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    pub(super) app: Arc<App>,
    pub(super) endpoint: Arc<Endpoint>,
    started_us: u64,
}

impl Ticket {
    /// Takes a place on a replica; none when it is full or takes nothing new.
    pub(super) fn take(app: &Arc<App>, endpoint: &Arc<Endpoint>) -> Option<Self> {
        let before = endpoint.in_flight.fetch_add(1, SeqCst);
        let ticket =
            Self { app: Arc::clone(app), endpoint: Arc::clone(endpoint), started_us: app.clock.now_us() };
        // Asked after the place was taken: whoever marks it as draining and then sees nobody there is right.
        if before >= app.config.circuit.requests_max || endpoint.is_draining() {
            return None;
        }
        endpoint.requests.fetch_add(1, Relaxed);
        Some(ticket)
    }

    /// The replica answered: its latency is known.
    pub(super) fn answered(&self) {
        let now_us = self.app.clock.now_us();
        let took = now_us.saturating_sub(self.started_us);
        lock(&self.endpoint.ewma).observe(now_us, took);
        self.endpoint.latency.record(took);
        self.endpoint.recent.record(now_us / 1_000_000, took);
    }

    /// And well.
    pub(super) fn succeeded(&self) {
        if self.endpoint.failures_in_a_row.load(Relaxed) != 0 {
            self.endpoint.failures_in_a_row.store(0, Relaxed);
        }
    }

    /// It answered with an error of its own, which says nothing of whether it can answer.
    pub(super) fn erred(&self) {
        self.endpoint.failures.fetch_add(1, Relaxed);
    }

    /// It did not answer, or said that it cannot.
    pub(super) fn failed(&self) {
        self.endpoint.failures.fetch_add(1, Relaxed);
        let in_a_row = self.endpoint.failures_in_a_row.fetch_add(1, Relaxed) + 1;
        let enough = self.app.config.health.passive.consecutive_failures;
        if enough != 0 && in_a_row >= enough && self.app.eject(&self.endpoint) {
            self.endpoint.failures_in_a_row.store(0, Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let before = self.endpoint.in_flight.fetch_sub(1, SeqCst);
        if before == 1 && self.endpoint.is_draining() {
            self.app.emptied.notify_waiters();
        }
    }
}
