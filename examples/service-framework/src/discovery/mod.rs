//! Where the replicas of an app are, for those who do not come by way of its listener: over DNS and over HTTP.
//!
//! Both read one [`Directory`], which is told the same sets of replicas as the balancer.

pub mod dns;
pub mod http;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use crate::balancer::{Replica, State};

/// The replicas of each app, as of now. Clones are of the same one.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    apps: Arc<RwLock<BTreeMap<String, Arc<Vec<Replica>>>>>,
}

impl Directory {
    /// From now on an app has these replicas. Names are compared as DNS does, whatever their case.
    pub fn replace(&self, app: &str, replicas: Vec<Replica>) {
        let mut apps = self.apps.write().unwrap_or_else(PoisonError::into_inner);
        apps.insert(app.to_ascii_lowercase(), Arc::new(replicas));
    }

    /// An app is no more.
    pub fn remove(&self, app: &str) {
        self.apps.write().unwrap_or_else(PoisonError::into_inner).remove(&app.to_ascii_lowercase());
    }

    /// The replicas of an app; none when there is no such app.
    pub fn replicas(&self, app: &str) -> Option<Arc<Vec<Replica>>> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).get(&app.to_ascii_lowercase()).cloned()
    }

    /// The names of all apps.
    pub fn apps(&self) -> Vec<String> {
        self.apps.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

/// Those that take requests.
fn ready(replicas: &[Replica]) -> impl Iterator<Item = &Replica> {
    replicas.iter().filter(|replica| replica.state == State::Ready)
}
