//! What happens to a service, as lines for people or for programs.

use std::{fmt, time::Duration};

use apportion_sdk::TaskId;
use serde::Serialize;

/// Something that happened, and to which service; to the framework as a whole when that has its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The service.
    pub service: String,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

impl Told {
    /// Something that happened to a service.
    pub fn of(service: &str, event: Event) -> Self {
        Self { service: service.to_owned(), event }
    }
}

/// The line for people.
impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.service, self.event)
    }
}

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
        /// What it is made from.
        revision: u64,
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
    /// What was measured asks for another number of replicas.
    Autoscaled {
        /// How many were wanted.
        from: u32,
        /// How many are wanted from now on.
        to: u32,
        /// What was measured, and what follows from it.
        why: String,
    },
    /// What a service is scaled by is not known, so that it is not scaled down; told once, until it is known again.
    Unmeasured {
        /// What is to be measured.
        rule: String,
        /// Why it is not, and what to do.
        why: String,
    },
    /// What a service is scaled by is known again.
    MeasuredAgain {
        /// What is measured.
        rule: String,
    },
    /// An order was not obeyed; nothing changes.
    Refused {
        /// Why not.
        why: String,
    },
    /// A replica is one too many, and is killed.
    Stopping {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
    },
    /// A replica is killed that runs elsewhere by now: the machine of its agent is to be taken away.
    Moving {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
    },
    /// A replica of another revision, or a second one, is killed: what takes its place is ready, or its place is needed.
    Retired {
        /// Its number.
        replica: u32,
        /// Its task.
        task_id: TaskId,
        /// What it was made from.
        revision: u64,
    },
    /// A revision is on its way.
    Updating {
        /// Its number.
        revision: u64,
        /// How many replicas will have it.
        replicas: u32,
    },
    /// All replicas have this revision.
    Updated {
        /// Its number.
        revision: u64,
    },
    /// The description is that of a revision that was given up; replicas stay as they are.
    NotUpdated {
        /// Its number.
        revision: u64,
    },
    /// All canaries of a revision are healthy.
    CanariesReady {
        /// Its number.
        revision: u64,
        /// How many there are.
        canaries: u32,
    },
    /// A revision that was tried takes the place of the old one.
    Promoted {
        /// Its number.
        revision: u64,
    },
    /// A revision comes no further, and there is nothing to go back to.
    Stalled {
        /// Its number.
        revision: u64,
        /// For so long.
        deadline_ms: u64,
    },
    /// No agent that there is could ever run a replica of a revision.
    Impossible {
        /// Its number.
        revision: u64,
        /// Why not.
        why: String,
    },
    /// A revision is given up, and an earlier one takes its place again.
    RolledBack {
        /// What is given up.
        from: u64,
        /// What takes its place.
        to: u64,
    },
    /// A service is not started before another one is complete.
    Waits {
        /// Which.
        after: String,
    },
    /// A service is ended for good.
    Removing,
    /// Nothing is left of a service.
    Removed,
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
    /// Clients reach a service here from now on.
    Listening {
        /// Where.
        address: String,
    },
    /// Clients do not reach a service, or not all of its replicas; it is tried again.
    NotServed {
        /// Why not.
        why: String,
    },
    /// Events were left out here, because nobody read them for long.
    Missed {
        /// How many.
        events: u64,
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
            Event::Launched { replica, task_id, hostname, .. } => {
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
            Event::Autoscaled { why, .. } => write!(f, "scaled: {why}"),
            Event::Unmeasured { rule, why } => {
                write!(f, "{rule} cannot be measured: {why}; not scaled down meanwhile")
            }
            Event::MeasuredAgain { rule } => write!(f, "{rule} is measured again"),
            Event::Refused { why } => write!(f, "not done: {why}"),
            Event::Stopping { replica, task_id } => {
                write!(f, "replica {replica} is one too many; killed ({task_id})")
            }
            Event::Moving { replica, task_id } => {
                write!(
                    f,
                    "replica {replica} is moved: its machine is to be taken away; killed there ({task_id})"
                )
            }
            Event::Retired { replica, task_id, revision } => {
                write!(f, "replica {replica} of revision {revision} is replaced; killed ({task_id})")
            }
            Event::Updating { revision, replicas } => {
                write!(f, "revision {revision} is on its way to {replicas} replicas")
            }
            Event::Updated { revision } => write!(f, "all replicas have revision {revision}"),
            Event::NotUpdated { revision } => write!(
                f,
                "this is revision {revision}, which was given up before; replicas stay as they are: change the description"
            ),
            Event::CanariesReady { revision, canaries } => {
                write!(f, "{canaries} canaries of revision {revision} are healthy")
            }
            Event::Promoted { revision } => {
                write!(f, "revision {revision} is promoted, and takes the place of the old one")
            }
            Event::Stalled { revision, deadline_ms } => write!(
                f,
                "revision {revision} comes no further for {}, and is tried on: change the description, or roll back",
                after(deadline_ms)
            ),
            Event::Impossible { revision, why } => {
                write!(f, "a replica of revision {revision} fits nowhere: {why}")
            }
            Event::RolledBack { from, to } => {
                write!(f, "revision {from} is given up; back to revision {to}")
            }
            Event::Waits { after } => write!(f, "started when `{after}` is complete"),
            Event::Removing => f.write_str("ended for good; its replicas are killed"),
            Event::Removed => f.write_str("nothing is left of it"),
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
            Event::Listening { address } => write!(f, "listening on {address}"),
            Event::NotServed { why } => write!(f, "{why}"),
            Event::Missed { events } => write!(f, "{events} events are left out here: nobody read them"),
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
