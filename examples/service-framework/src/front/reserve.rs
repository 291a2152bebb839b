//! Addresses that are opened before a description is applied that wants them: one that cannot be had is refused, and everything goes on as it
//! was.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Front;
use crate::{
    balancer::{Sockets, StartError},
    spec::Spec,
    state::collide,
};

/// How long an address is waited for that a service has just given up: its workers need a moment to let go of it.
const RELEASE: Duration = Duration::from_secs(1);
const RELEASE_PAUSE: Duration = Duration::from_millis(10);

/// Opened, and used by nobody yet.
#[derive(Debug, Default)]
pub(super) struct Addresses(BTreeMap<String, (SocketAddr, Sockets)>);

impl Addresses {
    /// What is open for an app at an address.
    pub(super) fn take(&mut self, app: &str, address: SocketAddr) -> Option<Sockets> {
        self.0.remove(app).filter(|(open, _)| *open == address).map(|(_, sockets)| sockets)
    }
}

/// Why a description cannot be applied.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// An address cannot be had.
    #[error("balancer.address: service `{service}`: {source}")]
    Start {
        /// For whom.
        service: String,
        /// Why not.
        source: StartError,
    },
    /// Another service of the framework listens there until it is changed itself.
    #[error(
        "balancer.address: service `{service}` is to listen on {address}, where `{other}` does still; apply `{other}` first, by itself"
    )]
    Held {
        /// For whom.
        service: String,
        /// Where.
        address: SocketAddr,
        /// Who listens.
        other: String,
    },
    /// The service itself listens where both cannot be had at a time, as on all addresses instead of one.
    #[error(
        "balancer.address: service `{service}` cannot listen on {address} for as long as it does on {before}; take another port, or apply it \
         without [balancer] first"
    )]
    Own {
        /// For whom.
        service: String,
        /// Where.
        address: SocketAddr,
        /// Where it listens.
        before: SocketAddr,
    },
}

/// Addresses that are open for as long as this is: for descriptions that are being applied. What was not used by then is let go.
#[derive(Debug)]
pub struct Reserved<'a> {
    front: &'a Front,
    _applying: tokio::sync::MutexGuard<'a, ()>,
}

impl Front {
    /// Opens the addresses of these descriptions at which nobody listens for them yet.
    pub async fn reserve(&self, specs: &[Arc<Spec>]) -> Result<Reserved<'_>, ReserveError> {
        let reserved = Reserved { front: self, _applying: self.applying.lock().await };
        // Whatever was applied before listens by now.
        self.bring_up().await;
        for spec in specs {
            let Some(listener) = &spec.balancer else { continue };
            if self.state().listens_at(&spec.name, listener.address) {
                continue;
            }
            let given_up = Instant::now() + RELEASE;
            let sockets = loop {
                match Sockets::open(&spec.name, listener) {
                    Err(_) if self.state().leaves(listener.address) && Instant::now() < given_up => {
                        tokio::time::sleep(RELEASE_PAUSE).await;
                    }
                    Err(error) => return Err(self.state().why_not(&spec.name, listener.address, error)),
                    Ok(sockets) => break sockets,
                }
            };
            self.state().reserved.0.insert(spec.name.clone(), (listener.address, sockets));
        }
        Ok(reserved)
    }
}

impl super::State {
    fn listens_at(&self, app: &str, address: SocketAddr) -> bool {
        let balancer = self.apps.get(app).and_then(super::Served::balancer);
        balancer.is_some_and(|balancer| balancer.listener().address == address)
    }

    /// Whether somebody who listened at an address is on the way out.
    fn leaves(&self, address: SocketAddr) -> bool {
        self.apps.values().any(|served| served.leaves(address))
    }

    /// What stands in the way may be a listener of this framework.
    fn why_not(&self, app: &str, address: SocketAddr, source: StartError) -> ReserveError {
        let service = app.to_owned();
        let in_use =
            matches!(&source, StartError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse);
        let holds = |(name, served): (&String, &super::Served)| {
            let before = served.balancer()?.address();
            collide(before, address).then(|| (name.clone(), before))
        };
        match self.apps.iter().find_map(holds).filter(|_| in_use) {
            Some((name, before)) if name == service => ReserveError::Own { service, address, before },
            Some((other, _)) => ReserveError::Held { service, address, other },
            None => ReserveError::Start { service, source },
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.front.state().reserved = Addresses::default();
    }
}
