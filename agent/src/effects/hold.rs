//! What running containers are held to, when that changes. Apart from all else that is wanted of them: the kernel takes its time to take
//! memory back, and a network to be left.

use std::{sync::Arc, time::Duration};

use apportion_agent_core::{Ceilings, ContainerId, Event};
use apportion_containerizer::{self as containerizer, Limits};
use apportion_types::{CpuSet, resources::Ranges, text::chain};
use tokio::sync::mpsc;

use super::Shared;

/// How soon a container is again held to what it could not be held to.
const PAUSE: Duration = Duration::from_secs(10);

/// Limits that are wanted of a container.
#[derive(Debug, Clone)]
pub(super) struct Limit {
    pub(super) number: u64,
    pub(super) limits: Limits,
    /// Ports of the host that are its own then.
    pub(super) ports: Ranges,
}

pub(super) fn limits(ceilings: Ceilings, cores: Option<CpuSet>) -> Limits {
    Limits {
        cpus_request_milli: ceilings.cpus_request_milli,
        cpus_limit_milli: Some(ceilings.cpus_limit_milli),
        memory_request_bytes: ceilings.memory_request_bytes,
        memory_limit_bytes: Some(ceilings.memory_limit_bytes),
        swap_max_bytes: ceilings.swap_max_bytes,
        pids_max: Some(ceilings.pids_max),
        io: ceilings.io,
        cores,
        huge_pages: ceilings.huge_pages,
    }
}

impl Shared {
    /// Holds a container to what is wanted newest, until no more can be.
    pub(super) async fn hold(
        self: Arc<Self>,
        container_id: ContainerId,
        wanted: mpsc::UnboundedReceiver<Limit>,
    ) {
        let set = |limit| self.limit(&container_id, limit);
        let tell = |number, result| {
            self.tell(Event::Limited { container_id: container_id.clone(), number, result });
        };
        follow(wanted, PAUSE, set, tell).await;
    }

    /// Holds a container to other limits, if these ports of the host lead to no other, or soon not any more, or it is not on the host's network.
    /// Whoever has one and keeps it is not waited for: all else that is wanted of the container would wait too. What it cannot be
    /// held to yet, for the memory that it holds, is no reason to run nothing new in it.
    async fn limit(&self, container_id: &ContainerId, limit: Limit) -> Result<Set, String> {
        if !self.networks.knows(&container_id.0) {
            let free = self.networks.lead_nowhere(&limit.ports, Duration::ZERO).await;
            free.map_err(|error| chain(&error))?;
        }
        let id = containerizer::ContainerId(container_id.0.clone());
        match self.containerizer.limit(&id, limit.limits).await {
            Ok(()) => Ok(Set::Wholly),
            Err(error) if error.is_busy() => Ok(Set::ButForMemory),
            Err(error) => Err(chain(&error)),
        }
    }
}

/// What came of limits that a container is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Wholly,
    /// It holds more memory than that.
    ButForMemory,
}

/// Sets the newest that is wanted and tells what came of it, until nothing more can be wanted. What is not held wholly is tried again after a
/// pause, and told of again.
async fn follow<F: Future<Output = Result<Set, String>>>(
    mut wanted: mpsc::UnboundedReceiver<Limit>,
    pause: Duration,
    set: impl Fn(Limit) -> F,
    tell: impl Fn(u64, Result<(), String>),
) {
    let mut owed = None;
    loop {
        let limit = tokio::select! {
            limit = newest(&mut wanted) => limit,
            () = tokio::time::sleep(pause), if owed.is_some() => owed.take(),
        };
        let Some(limit) = limit else { return };
        let result = set(limit.clone()).await;
        tell(limit.number, result.clone().map(drop));
        owed = (result != Ok(Set::Wholly)).then_some(limit);
    }
}

/// The last that is wanted by now: each takes the place of those before it.
async fn newest(wanted: &mut mpsc::UnboundedReceiver<Limit>) -> Option<Limit> {
    let mut limit = wanted.recv().await?;
    while let Ok(newer) = wanted.try_recv() {
        limit = newer;
    }
    Some(limit)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn limit(number: u64) -> Limit {
        let limits = Limits {
            cpus_request_milli: 100,
            cpus_limit_milli: None,
            memory_request_bytes: 0,
            memory_limit_bytes: None,
            swap_max_bytes: 0,
            pids_max: Some(number),
            io: apportion_types::IoLimits::NONE,
            cores: None,
            huge_pages: apportion_types::HugePages::NONE,
        };
        Limit { number, limits, ports: Ranges::default() }
    }

    /// What is told when these limits are wanted at once, and setting them comes to that, each time.
    async fn told(numbers: &[u64], mut results: Vec<Result<Set, String>>) -> Vec<(u64, Result<(), String>)> {
        let (say, wanted) = mpsc::unbounded_channel();
        numbers.iter().for_each(|number| say.send(limit(*number)).unwrap());
        results.reverse();
        let (results, told) = (Mutex::new((results, Some(say))), Mutex::new(Vec::new()));
        let set = async |limit: Limit| {
            assert_eq!(limit.limits.pids_max, Some(limit.number));
            let (results, say) = &mut *results.lock().unwrap();
            let result = results.pop().expect("it is not set once it holds");
            // Nothing more can be wanted, but what is owed.
            say.take_if(|_| results.is_empty());
            result
        };
        follow(wanted, Duration::ZERO, set, |number, result| told.lock().unwrap().push((number, result)))
            .await;
        told.into_inner().unwrap()
    }

    #[tokio::test]
    async fn only_the_newest_is_set() {
        assert_eq!(told(&[1, 2, 3], vec![Ok(Set::Wholly)]).await, [(3, Ok(()))]);
    }

    #[tokio::test]
    async fn what_does_not_hold_is_tried_until_it_does() {
        let no = || "no".to_owned();
        let results = vec![Ok(Set::ButForMemory), Err(no()), Ok(Set::Wholly)];
        assert_eq!(told(&[4], results).await, [(4, Ok(())), (4, Err(no())), (4, Ok(()))]);
    }
}
