//! What watchers are told, kept once for all of them.
//!
//! Each published view is compared with the one before while somebody watches; what has changed goes into a bounded ring.
//! A watcher is a place in the ring, so that it costs nobody anything when it is slow: it falls out of the ring, and is ended.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use apportion_master_core::View;
use apportion_types::limits;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep_until},
};

use super::{
    change::{Change, Kind, changes},
    watcher::Watcher,
};

/// What has changed in one version.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) version: u64,
    pub(super) changes: Vec<Change>,
}

impl Delta {
    /// The changes of some kinds.
    pub(super) fn wanted(&self, kinds: &[Kind]) -> Vec<Change> {
        self.changes.iter().filter(|change| kinds.contains(&change.kind())).cloned().collect()
    }
}

/// See the module.
pub(crate) struct Hub {
    view: watch::Receiver<Arc<View>>,
    state: Mutex<State>,
    /// The newest version; moves with each delta, and once more at the end.
    moved: watch::Sender<u64>,
    /// Somebody has begun to watch.
    begun: Notify,
    /// Room for watchers.
    room: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    /// Counts the deltas, and the times that there was nobody to make any for.
    version: u64,
    /// The view of this version; none while nobody watches.
    base: Option<Arc<View>>,
    /// The newest deltas, without a gap.
    ring: VecDeque<Arc<Delta>>,
    /// Changes in them.
    changes: usize,
    closed: bool,
}

/// A point in what a master tells its watchers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) master_id: String,
    pub(crate) version: u64,
}

/// As many watch as may.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} watch already, and more are not allowed; end one, or read the lists", limits::WATCHERS_MAX)]
pub(crate) struct TooMany;

/// What comes after a version.
pub(super) enum Next {
    Delta(Arc<Delta>),
    /// Nothing yet.
    Nothing,
    /// It is not known any more.
    Lost,
    /// Nothing ever.
    Closed,
}

impl Hub {
    pub(crate) fn new(view: watch::Receiver<Arc<View>>) -> Arc<Self> {
        Arc::new(Self {
            view,
            state: Mutex::default(),
            moved: watch::Sender::new(0),
            begun: Notify::new(),
            room: Arc::new(Semaphore::new(limits::WATCHERS_MAX)),
        })
    }

    /// How many watch.
    pub(crate) fn watchers(&self) -> usize {
        limits::WATCHERS_MAX - self.room.available_permits()
    }

    /// The newest published view.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Told of each delta, and of the end.
    pub(super) fn moves(&self) -> watch::Receiver<u64> {
        self.moved.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes on a watcher: from a position where that is still known, else with a snapshot first.
    pub(crate) fn watch(
        self: &Arc<Self>,
        kinds: &[Kind],
        since: Option<&Position>,
    ) -> Result<Watcher, TooMany> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| TooMany)?;
        let mut state = self.lock();
        let base = match &state.base {
            Some(base) => Arc::clone(base),
            None => {
                let view = self.view();
                // What has changed since the last version is not known.
                state.version += 1;
                state.base = Some(Arc::clone(&view));
                self.begun.notify_one();
                view
            }
        };
        let known = |since: &&Position| since.master_id == base.master_id && state.is_known(since.version);
        let (version, snapshot) = match since.filter(known) {
            Some(since) => (since.version, None),
            None => (state.version, Some(Arc::clone(&base))),
        };
        let master_id = base.master_id.clone();
        Ok(Watcher::new(Arc::clone(self), permit, kinds, Position { master_id, version }, snapshot))
    }

    /// What comes after a version.
    pub(super) fn after(&self, version: u64) -> Next {
        let state = self.lock();
        match state.ring.iter().find(|delta| delta.version > version) {
            _ if state.closed => Next::Closed,
            _ if !state.is_known(version) => Next::Lost,
            Some(delta) => Next::Delta(Arc::clone(delta)),
            None => Next::Nothing,
        }
    }

    /// Compares views while somebody watches, until the master ends.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut view = self.view.clone();
        // Since when changes are kept for nobody.
        let mut alone: Option<Instant> = None;
        loop {
            let kept_for_nobody = self.watchers() == 0 && self.lock().base.is_some();
            alone = kept_for_nobody.then(|| alone.unwrap_or_else(Instant::now));
            let forget_at = alone.map(|since| since + limits::WATCH_LINGER);
            tokio::select! {
                changed = view.changed() => {
                    if changed.is_err() {
                        return self.close();
                    }
                }
                () = self.begun.notified() => {}
                () = sleep_until(forget_at.unwrap_or_else(Instant::now)), if forget_at.is_some() => {}
            }
            if forget_at.is_some_and(|at| at <= Instant::now()) {
                self.forget();
            }
            let new = Arc::clone(&view.borrow_and_update());
            self.advance(new);
        }
    }

    /// Takes note of a view. Only [`Hub::run`] calls it.
    pub(super) fn advance(&self, new: Arc<View>) {
        let Some(base) = self.lock().base.clone() else { return };
        let changes = changes(&base, &new);
        let mut state = self.lock();
        state.base = Some(new);
        if !changes.is_empty() {
            state.push(changes);
            let version = state.version;
            drop(state);
            self.moved.send_replace(version);
        }
    }

    fn forget(&self) {
        let mut state = self.lock();
        // Somebody may have come this very moment.
        if self.watchers() == 0 {
            *state = State { version: state.version, ..State::default() };
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.moved.send_modify(|_| {});
    }
}

impl State {
    /// True when everything since a version is in the ring.
    fn is_known(&self, version: u64) -> bool {
        let first = self.ring.front().map_or(self.version, |first| first.version - 1);
        (first..=self.version).contains(&version)
    }

    fn push(&mut self, changes: Vec<Change>) {
        self.version += 1;
        self.changes += changes.len();
        self.ring.push_back(Arc::new(Delta { version: self.version, changes }));
        // The newest stays, however large: else nobody could go on.
        while self.changes > limits::WATCH_CHANGES_MAX && self.ring.len() > 1 {
            let first = self.ring.pop_front().expect("there are two");
            self.changes -= first.changes.len();
        }
    }
}
