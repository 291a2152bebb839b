//! The addresses of agents: what an agent says of itself is an address mostly, and else a name that is looked up once.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{net::lookup_host, time::timeout};

use crate::state::Endpoint;

/// How long a name may take: everything else waits meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Hosts that were found.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    found: BTreeMap<String, IpAddr>,
}

/// A host has no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot lead clients to replicas on {host}: {source}; make its name known here, or start its agent with --advertise ADDRESS:PORT"
)]
pub(super) struct NotFound {
    host: String,
    source: io::Error,
}

impl Hosts {
    /// Where a task listens.
    pub(super) async fn find(&mut self, endpoint: &Endpoint) -> Result<SocketAddr, NotFound> {
        let Endpoint { host, port } = endpoint;
        let known = host.parse().ok().or_else(|| self.found.get(host).copied());
        if let Some(address) = known {
            return Ok(SocketAddr::new(address, *port));
        }
        let not_found = |source| NotFound { host: host.clone(), source };
        let mut addresses = timeout(TIMEOUT, lookup_host((host.as_str(), *port)))
            .await
            .map_err(|_| not_found(io::ErrorKind::TimedOut.into()))?
            .map_err(not_found)?;
        let first = addresses.next().ok_or_else(|| not_found(io::ErrorKind::NotFound.into()))?;
        self.found.insert(host.clone(), first.ip());
        Ok(first)
    }
}
