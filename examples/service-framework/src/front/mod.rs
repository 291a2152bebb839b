//! Where clients meet services: a [`Balancer`] for each that asks for one, and [discovery](crate::discovery) of them all.
//!
//! The scheduler publishes how its services are; the [`Front`] follows. It is brought in line with the newest view, whatever it was before: so a
//! change of a description, a replica that comes or goes and the start of the program are one thing, and a view that was missed is missed by
//! nobody. In the other direction it says one thing only: that clients have finished with a task, which may be killed then.
//!
//! 1. `hosts` finds the addresses of agents.
//! 2. [`Front::bring_up`] has balancers listen that are to, and tells them and the directory where replicas are.
//! 3. [`reserve`] opens an address before a description is applied that wants it, so that one that cannot be had is refused.
//! 4. [`pages`] is what programs and people can read, where [`Answers`] says.

mod answers;
mod hosts;
mod metrics;
pub mod pages;
pub mod reserve;
mod served;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use apportion_sdk::{Handle, TaskId};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

pub use self::answers::{AnswerError, Answers};
use self::{hosts::Hosts, reserve::Addresses, served::Served};
use crate::{
    balancer::{Balancer, Replica, Statistics},
    discovery::Directory,
    event::{Event, Told},
    scheduler::{Order, Request, Views},
    state::{AppView, Endpoint, TaskView},
};

/// After so long it is tried again to listen where that was not possible, and to find a host that had no address once it is looked up again.
const RETRY: Duration = Duration::from_secs(1);

/// The balancers of a framework, and where its replicas are. Shared by whoever asks for [statistics](Front::statistics), or whether
/// [somebody waits](Front::wanted).
#[derive(Debug)]
pub struct Front {
    views: watch::Receiver<Views>,
    events: mpsc::UnboundedSender<Told>,
    /// Tasks with which clients have finished.
    drained: mpsc::UnboundedSender<TaskId>,
    directory: Directory,
    /// Whether replicas are to be found that no balancer leads to.
    finds_all: bool,
    /// Held by whoever brings it in line: one at a time, so that no older view comes after a newer one.
    hosts: tokio::sync::Mutex<Hosts>,
    /// Held while a description is applied, so that no two open one address.
    applying: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    /// Told when a balancer takes the place of another.
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    apps: BTreeMap<String, Served>,
    /// Opened for descriptions that are being applied.
    reserved: Addresses,
    /// Tasks for whose drain somebody waits.
    draining: BTreeSet<TaskId>,
    /// What could not be done the last time, so that it is told once.
    troubles: BTreeMap<String, String>,
}

impl Front {
    /// Follows these views. Tasks with which clients have finished are sent to `drained`; `finds_all` says that replicas without a balancer are
    /// asked for as well.
    pub fn new(
        views: watch::Receiver<Views>,
        events: mpsc::UnboundedSender<Told>,
        drained: mpsc::UnboundedSender<TaskId>,
        finds_all: bool,
    ) -> Self {
        Self {
            views,
            events,
            drained,
            directory: Directory::default(),
            finds_all,
            hosts: tokio::sync::Mutex::default(),
            applying: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            changed: watch::Sender::default(),
        }
    }

    /// Where replicas are, for discovery.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The services as they are.
    pub fn services(&self) -> Views {
        Arc::clone(&self.views.borrow())
    }

    /// The balancer of an app; none when it has none.
    pub fn balancer(&self, app: &str) -> Option<Arc<Balancer>> {
        self.state().apps.get(app)?.balancer()
    }

    /// What the balancer of an app does, and did since its settings were changed last; none when it has none.
    pub fn statistics(&self, app: &str) -> Option<Statistics> {
        Some(self.balancer(app)?.statistics())
    }

    /// Why clients do not reach an app, or not all of its replicas; none when they do.
    pub fn unserved(&self, app: &str) -> Option<String> {
        self.state().troubles.get(app).cloned()
    }

    /// Waits until a client of an app waits for a replica, as after it was scaled to none. Returns at once for as long as one does.
    pub async fn wanted(&self, app: &str) {
        let mut changed = self.changed.subscribe();
        loop {
            let balancer = self.balancer(app);
            let waits = async {
                match &balancer {
                    Some(balancer) => balancer.wanted().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = waits => return,
                // The sender is this front's own.
                _ = changed.changed() => {}
            }
        }
    }

    /// Follows for as long as the future lives.
    pub async fn follow(&self) {
        let mut views = self.views.clone();
        loop {
            views.borrow_and_update();
            let complete = self.bring_up().await;
            tokio::select! {
                changed = views.changed() => if changed.is_err() {
                    // The scheduler has ended: nothing changes any more.
                    return pending().await;
                },
                () = tokio::time::sleep(if complete { hosts::REFRESH } else { RETRY }) => {}
            }
        }
    }

    /// Brings everything in line with the services as they are. False when something of it could not be done, and is to be tried again.
    pub async fn bring_up(&self) -> bool {
        let mut hosts = self.hosts.lock().await;
        let views = self.services();
        let sought = |view: &&AppView| {
            self.finds_all || view.balancer.is_some() || view.tasks.iter().any(|task| task.draining)
        };
        let endpoints = views.iter().filter(sought).flat_map(led_to);
        hosts.look_up(endpoints.map(|(_, endpoint)| endpoint.host.as_str())).await;
        let mut troubles = BTreeMap::new();
        let mut replicas = Vec::new();
        for view in views.iter() {
            replicas.push(if sought(&view) { found(view, &hosts, &mut troubles) } else { Vec::new() });
        }
        let mut state = self.state();
        let state = &mut *state;
        // What is no more, be it led to by a balancer or only told of.
        let gone = |name: &str| !views.iter().any(|view| view.name == name);
        state.apps.iter_mut().filter(|(name, _)| gone(name)).for_each(|(_, served)| served.close());
        // The directory knows no case, as DNS does not.
        let unknown = |name: &&String| !views.iter().any(|view| view.name.eq_ignore_ascii_case(name));
        self.directory.apps().iter().filter(unknown).for_each(|name| self.directory.remove(name));
        for (view, replicas) in views.iter().zip(replicas) {
            let name = &view.name;
            let served = state.apps.entry(name.clone()).or_default();
            match served.listen(name, view.balancer.as_ref(), replicas.clone(), &mut state.reserved) {
                Ok(None) => {}
                Ok(Some(address)) => {
                    self.changed.send_replace(());
                    self.tell(name, Event::Listening { address: address.to_string() });
                }
                Err(error) => _ = troubles.insert(name.clone(), error.to_string()),
            }
            self.directory.replace(name, replicas);
        }
        state.apps.retain(|_, served| !served.is_over());
        for (name, why) in &troubles {
            if state.troubles.get(name) != Some(why) {
                self.tell(name, Event::NotServed { why: why.clone() });
            }
        }
        state.troubles = troubles;
        self.wait_for_drained(state, &views);
        state.troubles.is_empty()
    }

    /// Has somebody wait for each task that drains since this view; balancers know of it by now.
    fn wait_for_drained(&self, state: &mut State, views: &Views) {
        let tasks = || views.iter().flat_map(|view| view.tasks.iter().map(move |task| (&view.name, task)));
        let drains: BTreeSet<_> =
            tasks().filter(|(_, task)| task.draining).map(|(_, task)| task.task_id.clone()).collect();
        for (name, task) in tasks().filter(|(_, task)| task.draining) {
            if state.draining.contains(&task.task_id) {
                continue;
            }
            let balancers = state.apps.get(name).map(Served::balancers).unwrap_or_default();
            let (task_id, drained) = (task.task_id.clone(), self.drained.clone());
            tokio::spawn(async move {
                for balancer in balancers {
                    balancer.drained(task_id.as_str()).await;
                }
                // Nobody listens any more when the program is on its way out.
                _ = drained.send(task_id);
            });
        }
        state.draining = drains;
    }

    /// Accepts nothing more, and lets clients finish for as long as each description allows.
    pub async fn close(&self) {
        let served: Vec<_> = std::mem::take(&mut self.state().apps).into_values().collect();
        let mut closing = JoinSet::new();
        for balancer in served.iter().flat_map(Served::balancers) {
            closing.spawn(async move { balancer.shutdown(balancer.listener().timeouts.drain).await });
        }
        closing.join_all().await;
    }

    fn tell(&self, app: &str, event: Event) {
        _ = self.events.send(Told::of(app, event));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The tasks of an app that clients may be led to, or have been.
fn led_to(view: &AppView) -> impl Iterator<Item = (&TaskView, &Endpoint)> {
    // What is killed at once gets nothing, and is waited for by nobody.
    let led_to = |task: &&TaskView| if task.ending { task.draining } else { task.ready };
    view.tasks.iter().filter(led_to).filter_map(|task| Some((task, task.endpoint.as_ref()?)))
}

/// Where they are, by what was looked up.
fn found(view: &AppView, hosts: &Hosts, troubles: &mut BTreeMap<String, String>) -> Vec<Replica> {
    let mut replicas = Vec::new();
    for (task, endpoint) in led_to(view) {
        match hosts.find(endpoint) {
            Ok(address) => {
                let replica = Replica::new(task.task_id.as_str(), address);
                replicas.push(if task.draining { replica.draining() } else { replica });
            }
            Err(error) => _ = troubles.insert(view.name.clone(), error.to_string()),
        }
    }
    replicas
}

/// Tells a scheduler with which tasks clients have finished, until it has ended.
pub async fn report(mut drained: mpsc::UnboundedReceiver<TaskId>, scheduler: Handle<Request>) {
    while let Some(task_id) = drained.recv().await {
        if scheduler.send(Order::Drained { task_id }.into()).await.is_err() {
            break;
        }
    }
    pending().await
}
