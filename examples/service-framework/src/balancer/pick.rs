//! One worker's view of the replicas, and how a request gets a place on one: at once, or after it has waited.

use std::{
    sync::{
        Arc, Mutex,
        atomic::Ordering::{Relaxed, SeqCst},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    app::{App, Ready},
    budget::Budget,
    policy::{Choice, Picker},
    replica::{Endpoint, Ticket, lock},
    reply::Reason,
};

/// One worker. Its picker and budget are its own, so that workers do not wait for each other.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) app: Arc<App>,
    local: Mutex<Local>,
}

#[derive(Debug)]
struct Local {
    generation: u64,
    ready: Arc<Ready>,
    picker: Picker,
    budget: Budget,
    rng: fastrand::Rng,
}

/// Replicas as a policy sees them.
struct View<'a> {
    endpoints: &'a [Arc<Endpoint>],
    tried: &'a [Arc<Endpoint>],
    requests_max: u32,
    now_us: u64,
}

impl Choice for View<'_> {
    fn len(&self) -> usize {
        self.endpoints.len()
    }

    fn usable(&self, place: usize) -> bool {
        let endpoint = &self.endpoints[place];
        endpoint.in_flight.load(Relaxed) < self.requests_max
            && !endpoint.is_draining()
            && !self.tried.iter().any(|tried| Arc::ptr_eq(tried, endpoint))
    }

    fn weight(&self, place: usize) -> u32 {
        self.endpoints[place].weight()
    }

    fn in_flight(&self, place: usize) -> u32 {
        self.endpoints[place].in_flight.load(Relaxed)
    }

    fn latency_us(&self, place: usize) -> f64 {
        self.endpoints[place].latency_us(self.now_us)
    }
}

/// What a pick came to.
enum Picked {
    Ticket(Ticket),
    /// Nobody takes requests.
    Nobody,
    /// All who take requests have as many as they may.
    Full,
}

impl Worker {
    pub(super) fn new(index: usize, app: Arc<App>, seed: u64) -> Self {
        let retries = &app.config.retries;
        // The workers together keep to what is allowed, rounded up so that each has a reserve when there is one.
        let reserve = retries.min_per_second.div_ceil(app.config.workers.max(1) as u32);
        let local = Local {
            generation: 0,
            ready: Arc::default(),
            picker: Picker::new(app.config.policy, &[], 0),
            budget: Budget::new(retries.ratio, reserve),
            rng: fastrand::Rng::with_seed(seed),
        };
        Self { index, app, local: Mutex::new(local) }
    }

    /// A request came, of which retries are a share.
    pub(super) fn count(&self, second: u64) {
        self.app.requests.fetch_add(1, Relaxed);
        self.app.rate.record(second);
        lock(&self.local).budget.deposit(second);
    }

    /// Whether something may be sent once more.
    pub(super) fn may_retry(&self) -> bool {
        let may = lock(&self.local).budget.withdraw(self.app.clock.second());
        if may {
            self.app.retries.fetch_add(1, Relaxed);
        }
        may
    }

    fn pick(&self, key: u64, tried: &[Arc<Endpoint>]) -> Picked {
        let mut local = lock(&self.local);
        let Local { generation, ready, picker, rng, .. } = &mut *local;
        let newest = self.app.generation.load(SeqCst);
        if newest != *generation {
            *ready = self.app.ready();
            *generation = newest;
            let members: Vec<_> =
                ready.endpoints.iter().map(|endpoint| (endpoint.id.as_str(), endpoint.weight())).collect();
            let start = rng.usize(..members.len().max(1));
            *picker = Picker::new(self.app.config.policy, &members, start);
        }
        let mut view = View {
            endpoints: &ready.endpoints,
            tried,
            requests_max: self.app.config.circuit.requests_max,
            now_us: self.app.clock.now_us(),
        };
        loop {
            match picker.pick(&view, key, rng) {
                Some(place) => {
                    if let Some(ticket) = Ticket::take(&self.app, &ready.endpoints[place]) {
                        return Picked::Ticket(ticket);
                    }
                    // Another worker was quicker, or it drains since: it is not usable the next time.
                }
                // A second try where the first failed is better than none.
                None if !view.tried.is_empty() => view.tried = &[],
                None => break,
            }
        }
        match ready.endpoints.iter().all(|endpoint| endpoint.is_draining()) {
            true => Picked::Nobody,
            false => Picked::Full,
        }
    }

    /// A place on a replica, which may take a while when there is none: whoever sees that somebody waits may start one.
    pub(super) async fn place(&self, key: u64, tried: &[Arc<Endpoint>]) -> Result<Ticket, Reason> {
        match self.pick(key, tried) {
            Picked::Ticket(ticket) => return Ok(ticket),
            Picked::Full => return Err(Reason::CircuitOpen),
            Picked::Nobody => {}
        }
        let _waiting = Waiting::enter(&self.app).ok_or(Reason::QueueFull)?;
        let deadline = Instant::now() + self.app.config.queue.timeout;
        loop {
            let changed = self.app.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.pick(key, tried) {
                Picked::Ticket(ticket) => return Ok(ticket),
                Picked::Full => return Err(Reason::CircuitOpen),
                Picked::Nobody => {}
            }
            timeout_at(deadline, changed).await.map_err(|_| Reason::NoReplica)?;
        }
    }

    /// Closes connections to replicas that lie there for too long, every now and then; without end.
    pub(super) async fn close_old_connections(&self) {
        let keep = self.app.config.timeouts.keep;
        loop {
            tokio::time::sleep(keep.max(Duration::from_millis(100)) / 2).await;
            for endpoint in self.app.members() {
                if let Some(pool) = endpoint.pools.get(self.index) {
                    pool.close_older(keep);
                }
            }
        }
    }
}

/// A request that waits for a replica.
struct Waiting<'a>(&'a App);

impl<'a> Waiting<'a> {
    fn enter(app: &'a App) -> Option<Self> {
        let before = app.waiting.fetch_add(1, SeqCst);
        let waiting = Self(app);
        app.wanted.notify_waiters();
        (before < app.config.queue.waiting_max).then_some(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}
