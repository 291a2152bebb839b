//! What happens to a service, as lines for people or for programs.

use std::{fmt, time::Duration};

use apportion_sdk::TaskId;
use serde::Serialize;

/// Something that happened to a service. As JSON, one object for each line, named by its `event`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The subscription stands.
    Subscribed {
        /// As this framework.
        framework_id: String,
        /// Whether the framework is that of an earlier run or connection.
        resumed: bool,
        /// Replicas that it had, now to be found again.
        replicas_known: usize,
    },
    /// Another run of the service is subscribed; this one takes its place when that one has ended.
    StandingBy {
        /// Its framework.
        framework_id: String,
    },
    /// The connection is lost; a new one is being opened, and replicas run on.
    Disconnected {
        /// Why.
        why: String,
    },
    /// A replica is on its way to an agent.
    Launched {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
        /// Where.
        hostname: String,
    },
    /// A replica runs, and is healthy if it has a health check: it has started, is healthy again, or was found running.
    Running {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
        /// Where.
        hostname: String,
        /// `host:port` for each of its ports.
        addresses: Vec<String>,
    },
    /// A replica runs, but its health check says that it does not do its work; it is ended when that goes on.
    Unhealthy {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
    },
    /// A replica ended that was to run; it starts again.
    Ended {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
        /// Why.
        why: String,
        /// After so long.
        restart_ms: u64,
    },
    /// A replica cannot be reached; it is replaced unless it returns.
    Unreachable {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
        /// After so long.
        replace_ms: u64,
    },
    /// A replica that could not be reached is given up; another takes its place, and it is killed if it ever returns.
    Replaced {
        /// Its number.
        replica: u32,
        /// The task that is given up.
        task_id: TaskId,
    },
    /// A task runs that no replica needs; it is killed.
    Unwanted {
        /// The task.
        task_id: TaskId,
    },
    /// Another number of replicas is wanted from now on.
    Scaled {
        /// How many.
        replicas: u32,
    },
    /// A number of replicas was ordered that no service can have; nothing changes.
    NotScaled {
        /// How many.
        replicas: u32,
        /// The most.
        replicas_max: u32,
    },
    /// A replica is one too many, and is killed.
    Stopping {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
    },
    /// A replica is killed, to be launched elsewhere: the machine of its agent is to be taken away.
    Moving {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
    },
    /// A replica that was one too many has ended.
    Stopped {
        /// Its number.
        replica: u32,
    },
    /// Replicas of an earlier run were not heard of yet: the master cannot tell before their agents have returned to it. They
    /// are not replaced until it can.
    Silent {
        /// Their numbers.
        replicas: Vec<u32>,
    },
    /// As many replicas run as are wanted.
    Complete {
        /// How many.
        replicas: u32,
    },
}

impl Event {
    /// Milliseconds, as events tell them.
    pub(crate) fn millis(duration: Duration) -> u64 {
        u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
    }
}

/// The line for people, without the name of the service.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = |millis: &u64| humantime::format_duration(Duration::from_millis(*millis)).to_string();
        match self {
            Event::Subscribed { framework_id, resumed: true, replicas_known } => {
                write!(
                    f,
                    "resumed as framework {framework_id}; looking for the {replicas_known} replicas that it had"
                )
            }
            Event::Subscribed { framework_id, .. } => write!(f, "subscribed as framework {framework_id}"),
            Event::StandingBy { framework_id } => {
                write!(f, "another run is framework {framework_id}; standing by")
            }
            Event::Disconnected { why } => {
                write!(f, "the master is lost: {why}; replicas run on, trying again")
            }
            Event::Launched { replica, task_id, hostname } => {
                write!(f, "replica {replica} launched on {hostname} ({task_id})")
            }
            Event::Running { replica, task_id, hostname, addresses } => {
                let place = if addresses.is_empty() { hostname.clone() } else { addresses.join(", ") };
                write!(f, "replica {replica} running on {place} ({task_id})")
            }
            Event::Unhealthy { replica, task_id } => {
                write!(f, "replica {replica} is not healthy ({task_id}); ended when that goes on")
            }
            Event::Ended { replica, task_id, why, restart_ms } => {
                write!(f, "replica {replica} ended: {why} ({task_id}); starts again in {}", after(restart_ms))
            }
            Event::Unreachable { replica, task_id, replace_ms } => {
                write!(
                    f,
                    "replica {replica} cannot be reached ({task_id}); will be replaced in {}",
                    after(replace_ms)
                )
            }
            Event::Replaced { replica, task_id } => {
                write!(f, "replica {replica} is given up and replaced ({task_id}); killed if it returns")
            }
            Event::Unwanted { task_id } => write!(f, "{task_id} runs and is not wanted any more; killed"),
            Event::Scaled { replicas } => write!(f, "{replicas} replicas are wanted from now on"),
            Event::NotScaled { replicas, replicas_max } => {
                write!(f, "not scaled to {replicas} replicas: a service has at most {replicas_max}")
            }
            Event::Stopping { replica, task_id } => {
                write!(f, "replica {replica} is one too many; killed ({task_id})")
            }
            Event::Moving { replica, task_id } => {
                write!(f, "replica {replica} is moved: its machine is to be taken away; killed ({task_id})")
            }
            Event::Stopped { replica } => write!(f, "replica {replica} has ended for good"),
            Event::Silent { replicas } => {
                let numbers: Vec<_> = replicas.iter().map(u32::to_string).collect();
                write!(
                    f,
                    "not heard of yet: replicas {}; the master waits for their agents to return; if they never will, --forget \
                     begins anew",
                    numbers.join(", ")
                )
            }
            Event::Complete { replicas: 0 } => f.write_str("no replica is wanted"),
            Event::Complete { replicas } => write!(f, "all {replicas} replicas run"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_for_people_and_for_programs_say_the_same() {
        let event = Event::Running {
            replica: 2,
            task_id: TaskId::new("web.2.7").unwrap(),
            hostname: "one".into(),
            addresses: vec!["one:31005".into()],
        };
        assert_eq!(event.to_string(), "replica 2 running on one:31005 (web.2.7)");
        assert_eq!(
            serde_json::to_string(&event).unwrap(),
            r#"{"event":"running","replica":2,"task_id":"web.2.7","hostname":"one","addresses":["one:31005"]}"#
        );
        let ended = Event::Ended {
            replica: 0,
            task_id: TaskId::new("web.0.1").unwrap(),
            why: "exit code 3".into(),
            restart_ms: 1500,
        };
        assert_eq!(ended.to_string(), "replica 0 ended: exit code 3 (web.0.1); starts again in 1s 500ms");
    }
}
