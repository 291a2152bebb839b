//! What all workers of one listener share: the set of replicas, who of them takes requests, and what was counted.
//!
//! Requests read a snapshot of who is ready. A new one is made when that changes (a replica comes, drains, fails its checks, is
//! ejected or returns), which is seldom; workers see by a number that theirs is old.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{runtime, sync::Notify};
use tokio_util::sync::CancellationToken;

use super::{
    check,
    config::Listener,
    latency::{Rate, Recent},
    outlier::Outliers,
    replica::{Checked, Endpoint, Replica, State, lock},
};

/// Time since the listener was started.
#[derive(Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    pub(super) fn now_us(&self) -> u64 {
        self.elapsed().as_micros() as u64
    }

    pub(super) fn second(&self) -> u64 {
        self.elapsed().as_secs()
    }
}

/// Those that take requests.
#[derive(Debug, Default)]
pub(super) struct Ready {
    pub(super) endpoints: Vec<Arc<Endpoint>>,
}

/// What the workers share.
#[derive(Debug)]
pub(super) struct App {
    pub(super) name: String,
    pub(super) config: Listener,
    pub(super) clock: Clock,
    /// All that are in the set, and those that left it and still have something to do.
    members: Mutex<Vec<Arc<Endpoint>>>,
    outliers: Mutex<Outliers>,
    ready: RwLock<Arc<Ready>>,
    pub(super) generation: AtomicU64,
    /// Somebody became ready.
    pub(super) changed: Notify,
    /// A replica that drains has nothing left.
    pub(super) emptied: Notify,
    /// A request waits for a replica.
    pub(super) wanted: Notify,
    pub(super) waiting: AtomicU32,
    pub(super) requests: AtomicU64,
    /// Answered by the balancer itself, by the reason that it gave.
    pub(super) refused: [AtomicU64; super::reply::Reason::COUNT],
    pub(super) retries: AtomicU64,
    pub(super) clients: AtomicU32,
    pub(super) rate: Rate,
    pub(super) recent: Recent,
    /// Checks, and timers of drains and ejections, run there.
    runtime: runtime::Handle,
    /// Everything ends at once.
    pub(super) end: CancellationToken,
}

impl App {
    pub(super) fn new(name: &str, config: Listener, runtime: runtime::Handle) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            clock: Clock(Instant::now()),
            members: Mutex::default(),
            outliers: Mutex::new(Outliers::new(config.health.passive.clone())),
            ready: RwLock::default(),
            generation: AtomicU64::new(1),
            changed: Notify::new(),
            emptied: Notify::new(),
            wanted: Notify::new(),
            waiting: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            refused: Default::default(),
            retries: AtomicU64::new(0),
            clients: AtomicU32::new(0),
            rate: Rate::default(),
            recent: Recent::default(),
            runtime,
            end: CancellationToken::new(),
            config,
        })
    }

    pub(super) fn ready(&self) -> Arc<Ready> {
        Arc::clone(&self.ready.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn members(&self) -> Vec<Arc<Endpoint>> {
        let mut members = lock(&self.members);
        members.retain(|endpoint| !endpoint.gone.is_cancelled());
        members.clone()
    }

    /// From now on these are the replicas. Who is not among them drains.
    pub(super) fn replace(self: &Arc<Self>, replicas: Vec<Replica>) {
        let mut leaving = Vec::new();
        {
            let mut members = lock(&self.members);
            let before = std::mem::take(&mut *members);
            for replica in replicas {
                if members.iter().any(|known| known.id == replica.id) {
                    continue;
                }
                let same = |known: &&Arc<Endpoint>| {
                    known.id == replica.id && known.address == replica.address && !known.gone.is_cancelled()
                };
                let endpoint = match before.iter().find(same) {
                    Some(known) => Arc::clone(known),
                    None => self.enter(&replica),
                };
                endpoint.removed.store(false, SeqCst);
                endpoint.set_weight(replica.weight);
                if endpoint.set_draining(replica.state == State::Draining) {
                    leaving.push(Arc::clone(&endpoint));
                }
                members.push(endpoint);
            }
            for endpoint in before {
                if members.iter().any(|known| Arc::ptr_eq(known, &endpoint)) {
                    continue;
                }
                endpoint.removed.store(true, SeqCst);
                if endpoint.set_draining(true) {
                    leaving.push(Arc::clone(&endpoint));
                }
                // Remembered until it has nothing left, so that somebody sees what is still there. Who is gone for good and
                // has nothing is forgotten at once.
                match endpoint.is_drained() {
                    true => endpoint.gone.cancel(),
                    false => members.push(endpoint),
                }
            }
            lock(&self.outliers).retain(|id| members.iter().any(|known| known.id == id));
        }
        self.refresh();
        for endpoint in leaving {
            self.end_in_time(endpoint);
        }
        self.emptied.notify_waiters();
    }

    fn enter(self: &Arc<Self>, replica: &Replica) -> Arc<Endpoint> {
        let endpoint = Arc::new(Endpoint::new(replica, &self.config, self.end.child_token()));
        if let Some(active) = &self.config.health.active {
            self.runtime.spawn(check::watch(Arc::clone(self), Arc::clone(&endpoint), active.clone()));
        }
        endpoint
    }

    /// A replica that drains has so long to finish; what it has then is cut off.
    fn end_in_time(self: &Arc<Self>, endpoint: Arc<Endpoint>) {
        let (app, drains) = (Arc::clone(self), endpoint.drains.load(SeqCst));
        self.runtime.spawn(async move {
            let time_is_up =
                tokio::time::timeout(app.config.timeouts.drain, app.drained(&endpoint)).await.is_err();
            // Under the lock that is held when one comes back.
            let _members = lock(&app.members);
            let same_drain = endpoint.is_draining() && endpoint.drains.load(SeqCst) == drains;
            // One that is in the set as draining and has finished in time stays known, so that it can come back.
            if same_drain && (time_is_up || endpoint.removed.load(SeqCst)) {
                endpoint.gone.cancel();
                app.emptied.notify_waiters();
            }
        });
    }

    /// Waits until a replica takes nothing new and has nothing left, or is ready again.
    async fn drained(&self, endpoint: &Endpoint) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            if endpoint.is_drained() || !endpoint.is_draining() || endpoint.gone.is_cancelled() {
                return;
            }
            emptied.await;
        }
    }

    /// Waits until nothing is under way on the replica of this id, which is draining or not in the set.
    pub(super) async fn drained_by_id(&self, id: &str) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            let busy = |endpoint: &Arc<Endpoint>| endpoint.id == id && !endpoint.is_drained();
            if !self.members().iter().any(busy) {
                return;
            }
            emptied.await;
        }
    }

    /// Says anew who takes requests.
    pub(super) fn refresh(&self) {
        let now = self.clock.elapsed();
        let members = lock(&self.members);
        let outliers = lock(&self.outliers);
        let takes = |endpoint: &&Arc<Endpoint>| {
            !endpoint.is_draining()
                && !endpoint.gone.is_cancelled()
                && endpoint.checked() == Checked::Up
                && !outliers.is_ejected(&endpoint.id, now)
        };
        let ready = Ready { endpoints: members.iter().filter(takes).cloned().collect() };
        // Under both locks, so that of two refreshes the later one is what is read.
        *self.ready.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ready);
        self.generation.fetch_add(1, SeqCst);
        self.changed.notify_waiters();
    }

    /// Leaves a replica out for a while, when so many may be left out.
    pub(super) fn eject(self: &Arc<Self>, endpoint: &Arc<Endpoint>) -> bool {
        let now = self.clock.elapsed();
        let until = {
            let members = lock(&self.members);
            let count = members.iter().filter(|endpoint| !endpoint.is_draining()).count();
            lock(&self.outliers).eject(&endpoint.id, count, now)
        };
        let Some(until) = until else { return false };
        endpoint.ejections.fetch_add(1, Relaxed);
        self.refresh();
        let app = Arc::clone(self);
        self.runtime.spawn(async move {
            // A little later, since the runtime's timers count in milliseconds.
            tokio::time::sleep(until.saturating_sub(now) + Duration::from_millis(1)).await;
            app.refresh();
        });
        true
    }

    pub(super) fn is_ejected(&self, endpoint: &Endpoint) -> bool {
        lock(&self.outliers).is_ejected(&endpoint.id, self.clock.elapsed())
    }
}
