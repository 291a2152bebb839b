//! The addresses of agents: what an agent says of itself is an address mostly, and else a name that is looked up.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::lookup_host,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::state::Endpoint;

/// How long names may take, all together: everything else waits meanwhile.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long a name that was not found is not looked up again.
const RETRY: Duration = Duration::from_secs(5);

/// How long an address is good for: a host may move.
pub(super) const REFRESH: Duration = Duration::from_secs(60);

/// Names that were looked up.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    known: BTreeMap<String, Known>,
}

#[derive(Debug)]
struct Known {
    address: Result<IpAddr, Arc<io::Error>>,
    /// When it is looked up again, if somebody asks.
    until: Instant,
}

/// A host has no address.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot lead clients to replicas on {host}: {source}; make its name known here, or start its agent with --advertise ADDRESS:PORT"
)]
pub(super) struct NotFound {
    host: String,
    source: Arc<io::Error>,
}

impl Hosts {
    /// Looks up the names among these hosts that are not known, all at once.
    pub(super) async fn look_up(&mut self, hosts: impl Iterator<Item = &str>) {
        let resolve =
            |host: String| async move { Ok(lookup_host((host, 0)).await?.map(|it| it.ip()).collect()) };
        self.look_up_by(hosts, Instant::now(), resolve).await;
    }

    async fn look_up_by<F>(
        &mut self,
        hosts: impl Iterator<Item = &str>,
        now: Instant,
        resolve: impl Fn(String) -> F,
    ) where
        F: Future<Output = io::Result<Vec<IpAddr>>> + Send + 'static,
    {
        let is_known = |host: &&str| {
            host.parse::<IpAddr>().is_ok() || self.known.get(*host).is_some_and(|known| known.until > now)
        };
        let unknown: BTreeSet<String> = hosts.filter(|host| !is_known(host)).map(str::to_owned).collect();
        let mut asked = JoinSet::new();
        for host in unknown {
            let answer = resolve(host.clone());
            asked.spawn(async move {
                let late = |_| Err(io::ErrorKind::TimedOut.into());
                (host, timeout(TIMEOUT, answer).await.unwrap_or_else(late))
            });
        }
        for (host, found) in asked.join_all().await {
            self.learn(host, found, now);
        }
    }

    /// An address stays for as long as the name has it, and when the name cannot be looked up just now.
    fn learn(&mut self, host: String, found: io::Result<Vec<IpAddr>>, now: Instant) {
        let before = self.known.get(&host).and_then(|known| known.address.as_ref().ok().copied());
        let found = found.and_then(|all| {
            let same = before.filter(|before| all.contains(before));
            same.or(all.first().copied()).ok_or_else(|| io::ErrorKind::NotFound.into())
        });
        let again = if found.is_ok() { REFRESH } else { RETRY };
        let address = found.or_else(|error| before.ok_or(Arc::new(error)));
        self.known.insert(host, Known { address, until: now + again });
    }

    /// Where a task listens, by what was looked up.
    pub(super) fn find(&self, endpoint: &Endpoint) -> Result<SocketAddr, NotFound> {
        let Endpoint { host, port } = endpoint;
        let looked_up = || match self.known.get(host).map(|known| &known.address) {
            Some(Ok(address)) => Ok(*address),
            Some(Err(source)) => Err(Arc::clone(source)),
            None => Err(Arc::new(io::ErrorKind::NotFound.into())),
        };
        let address = host.parse().or_else(|_| looked_up());
        let address = address.map_err(|source| NotFound { host: host.clone(), source })?;
        Ok(SocketAddr::new(address, *port))
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Barrier;

    use super::*;

    fn found(hosts: &Hosts, host: &str) -> Option<String> {
        let found = hosts.find(&Endpoint { host: host.to_owned(), port: 80 });
        found.ok().map(|address| address.to_string())
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[tokio::test]
    async fn unknown_names_are_looked_up_together() {
        let mut hosts = Hosts::default();
        // Nobody gets an answer before all have asked.
        let all = Arc::new(Barrier::new(3));
        let resolve = |_| {
            let all = Arc::clone(&all);
            async move {
                all.wait().await;
                Ok(vec![address(1)])
            }
        };
        let names = ["a", "10.0.0.9", "b", "a", "c"];
        hosts.look_up_by(names.into_iter(), Instant::now(), resolve).await;
        for (name, expected) in [("a", "10.0.0.1:80"), ("b", "10.0.0.1:80"), ("10.0.0.9", "10.0.0.9:80")] {
            assert_eq!(found(&hosts, name).as_deref(), Some(expected), "{name}");
        }
        assert_eq!(found(&hosts, "d"), None);
    }

    #[tokio::test]
    async fn what_a_name_has_is_known_for_a_while_and_then_looked_up_again() {
        let (mut hosts, mut now) = (Hosts::default(), Instant::now());
        let just_before = Duration::from_millis(1);
        // None is that it cannot be looked up.
        for (has, known_for, expected) in [
            (None, RETRY, None),
            (Some(vec![]), RETRY, None),
            (Some(vec![1]), REFRESH, Some("10.0.0.1:80")),
            // One that it has still is kept, wherever in the list.
            (Some(vec![2, 1]), REFRESH, Some("10.0.0.1:80")),
            (Some(vec![3, 2]), REFRESH, Some("10.0.0.3:80")),
            // Nobody says that it is elsewhere.
            (None, RETRY, Some("10.0.0.3:80")),
            (Some(vec![]), RETRY, Some("10.0.0.3:80")),
            (Some(vec![4]), REFRESH, Some("10.0.0.4:80")),
        ] {
            let answer = has.clone();
            let resolve = move |_| {
                let found = answer.clone().map(|all| all.into_iter().map(address).collect());
                std::future::ready(found.ok_or_else(|| io::ErrorKind::HostUnreachable.into()))
            };
            hosts.look_up_by(["a"].into_iter(), now, resolve).await;
            assert_eq!(found(&hosts, "a").as_deref(), expected, "{has:?}");
            now += known_for;
            let asks = |_| -> std::future::Ready<io::Result<Vec<IpAddr>>> { panic!("it is known: {has:?}") };
            hosts.look_up_by(["a"].into_iter(), now - just_before, asks).await;
        }
    }
}
