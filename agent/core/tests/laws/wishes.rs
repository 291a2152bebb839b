//! What tasks are to use, and what operations are to make.

use std::time::Duration;

use apportion_types::{
    Operation, Resources,
    probe::{Check, HealthCheck, Probe, Schedule, Supervision},
};

/// What tasks are to use; whether it is there is another question.
pub(crate) const USES: [&str; 10] = [
    "cpus:1",
    "cpus:2",
    "cpus:4",
    "cpus(+eng):1",
    "cpus:1;cpus(+eng):1",
    "cpus:1;disk(+eng)[data=data]:2",
    "disk(+eng)[data=data]:3",
    "cpus:1;disk(+eng)[logs=a/b shared]:1",
    "disk(+eng)[logs=a/b shared]:1",
    "cpus{revocable}:1",
];

pub(crate) fn resources(text: &str) -> Resources {
    text.parse().unwrap()
}

/// Operations that make a volume of each kind on an agent that has none.
pub(crate) const VOLUMES: [u8; 4] = [3, 4, 7, 9];

/// An operation that may fit what the agent has.
pub(crate) fn operation(what: u8) -> Operation {
    match what % 14 {
        0 | 1 => Operation::Reserve { resources: resources("cpus(+eng):1") },
        2 => Operation::Reserve { resources: resources("cpus(+eng,+eng/ads):1") },
        3 | 4 => Operation::Reserve { resources: resources("disk(+eng):3") },
        5 => Operation::Unreserve { resources: resources("cpus(+eng):1") },
        6 => Operation::Unreserve { resources: resources("disk(+eng):2") },
        7 | 8 => Operation::Create { volumes: resources("disk(+eng)[data=data]:2") },
        9 => Operation::Create { volumes: resources("disk(+eng)[logs=a/b shared]:1") },
        10 => Operation::Destroy { volumes: resources("disk(+eng)[data=data]:2") },
        11 => Operation::Destroy { volumes: resources("disk(+eng)[logs=a/b shared]:1") },
        12 => Operation::Grow {
            volume: resources("disk(+eng)[data=data]:2"),
            addition: resources("disk(+eng):1"),
        },
        _ => Operation::Shrink { volume: resources("disk(+eng)[data=data]:3"), subtract_milli: 1000 },
    }
}

/// What is asked of a task while it runs: of some nothing, of some all that there is.
pub(crate) fn supervision(task: u8) -> Supervision {
    let second = Duration::from_secs(1);
    let schedule = Schedule { delay: Duration::ZERO, interval: second, timeout: second };
    let probe = Probe::Tcp { port: 1 };
    let health_check = HealthCheck { probe: probe.clone(), schedule, grace: second, failures_max: 2 };
    Supervision {
        health_check: (task % 2 == 1).then(|| Box::new(health_check)),
        check: (task == 3).then(|| Box::new(Check { probe, schedule })),
        max_completion: (task >= 2).then_some(Duration::from_secs(60)),
    }
}
