//! What balancers count, as rules go by it.

use std::collections::BTreeMap;

use super::Traffic;
use crate::{balancer::Statistics, scale::Traffic as Counted};

/// The balancers of a program, by the services in front of which they are.
#[derive(Debug)]
pub struct Balancers<F> {
    statistics: F,
    /// Requests that each had counted when it was asked before.
    before: BTreeMap<String, u64>,
}

impl<F: FnMut(&str) -> Option<Statistics>> Balancers<F> {
    /// Those that are asked so.
    pub fn new(statistics: F) -> Self {
        Self { statistics, before: BTreeMap::new() }
    }
}

impl<F: FnMut(&str) -> Option<Statistics> + Send> Traffic for Balancers<F> {
    fn of(&mut self, service: &str) -> Option<Counted> {
        let Some(statistics) = (self.statistics)(service) else {
            self.before.remove(service);
            return None;
        };
        let before = self.before.insert(service.to_owned(), statistics.requests);
        let under_way = statistics.replicas.iter().map(|replica| replica.in_flight).sum::<u32>();
        let queue = statistics.waiting.saturating_add(under_way);
        Some(Counted {
            requests_per_second: statistics.requests_per_second,
            latency: statistics.latency.p99_us as f64 / 1e6,
            queue,
            // What was asked before it was looked at first, nobody can tell; and one that was started anew counts from nothing.
            busy: queue > 0 || before != Some(statistics.requests),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balancer::{Balancer, Listener};

    #[test]
    fn what_nobody_asks_is_not_busy_from_the_second_look_on() {
        let listener = Listener::from_toml("address = '127.0.0.1:0'").unwrap();
        let balancer = Balancer::start("web", listener).unwrap();
        let mut balancers = Balancers::new(|service: &str| (service == "web").then(|| balancer.statistics()));
        assert!(balancers.of("web").unwrap().busy);
        assert_eq!(balancers.of("web"), Some(Counted::default()));
        assert_eq!(balancers.of("db"), None);
    }
}
