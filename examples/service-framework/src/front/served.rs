//! One app's balancer, and those before it that still have clients.

use std::{net::SocketAddr, sync::Arc};

use tokio::task::JoinHandle;

use super::reserve::Addresses;
use crate::{
    balancer::{Balancer, Listener, Replica, Sockets, StartError},
    state::collide,
};

/// What listens for an app.
#[derive(Debug, Default)]
pub(super) struct Served {
    current: Option<Arc<Balancer>>,
    /// Where that leads to.
    replicas: Vec<Replica>,
    /// Accept nothing more; gone when their clients are.
    retiring: Vec<(Arc<Balancer>, JoinHandle<bool>)>,
}

impl Served {
    pub(super) fn balancer(&self) -> Option<Arc<Balancer>> {
        self.current.clone()
    }

    /// All that may lead clients to replicas.
    pub(super) fn balancers(&self) -> Vec<Arc<Balancer>> {
        self.current.iter().chain(self.retiring.iter().map(|(balancer, _)| balancer)).cloned().collect()
    }

    /// Nothing listens, and nothing is left of what did.
    pub(super) fn is_over(&self) -> bool {
        self.current.is_none() && self.retiring.is_empty()
    }

    /// Whether something that stood in the way of an address is on the way out.
    pub(super) fn leaves(&self, address: SocketAddr) -> bool {
        self.retiring.iter().any(|(balancer, _)| collide(balancer.address(), address))
    }

    /// Listens as it is wanted, and leads to these replicas. Gives the address when that is new.
    ///
    /// What listened before goes only when its successor leads to the replicas too, and goes on when there can be none.
    pub(super) fn listen(
        &mut self,
        app: &str,
        wanted: Option<&Listener>,
        replicas: Vec<Replica>,
        reserved: &mut Addresses,
    ) -> Result<Option<SocketAddr>, StartError> {
        self.retiring.retain(|(_, ending)| !ending.is_finished());
        let successor = self.successor(app, wanted, reserved);
        let before = match &successor {
            Ok(Some(_)) => self.current.take(),
            Ok(None) if wanted.is_none() => self.current.take(),
            _ => None,
        };
        let mut address = None;
        let successor = successor.map(|successor| {
            if let Some(successor) = successor {
                address = Some(successor.address());
                self.current = Some(Arc::new(successor));
            }
        });
        // Most of what happens to a service changes nothing for its clients.
        if address.is_some() || replicas != self.replicas {
            for balancer in self.balancers().into_iter().chain(before.clone()) {
                balancer.replace(replicas.clone());
            }
            self.replicas = replicas;
        }
        if let Some(before) = before {
            self.retire(before);
        }
        successor.map(|()| address)
    }

    /// Stops to listen.
    pub(super) fn close(&mut self) {
        self.retiring.retain(|(_, ending)| !ending.is_finished());
        if let Some(balancer) = self.current.take() {
            self.retire(balancer);
        }
    }

    fn successor(
        &self,
        app: &str,
        wanted: Option<&Listener>,
        reserved: &mut Addresses,
    ) -> Result<Option<Balancer>, StartError> {
        match (&self.current, wanted) {
            (_, None) => Ok(None),
            (Some(current), Some(wanted)) if current.listener() == wanted => Ok(None),
            (Some(current), Some(wanted)) if current.listener().address == wanted.address => {
                current.succeed(wanted.clone()).map(Some)
            }
            (_, Some(wanted)) => {
                let sockets = match reserved.take(app, wanted.address) {
                    Some(sockets) => sockets,
                    None => Sockets::open(app, wanted)?,
                };
                Balancer::start_on(app, wanted.clone(), sockets).map(Some)
            }
        }
    }

    fn retire(&mut self, balancer: Arc<Balancer>) {
        let ending = tokio::spawn({
            let balancer = Arc::clone(&balancer);
            async move { balancer.shutdown(balancer.listener().timeouts.drain).await }
        });
        self.retiring.push((balancer, ending));
    }
}
