//! What is wrong with a description as a whole, and with which of its keys.

use std::fmt;

use apportion_sdk::{GroupError, TaskError, TaskGroupError, TaskId};

use super::{Spec, helper::Helper, program::Program};

/// A step towards a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a table, at this key.
    Key(String),
    /// Into a list, at this place.
    At(usize),
}

/// The way to a value, such as `sidecar[0].volumes[1].at`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Way(pub(super) Vec<Step>);

impl Way {
    /// The way that is written so.
    pub(super) fn to(written: &str) -> Way {
        let steps = written.split(['.', '[']).filter(|step| !step.is_empty());
        Way(steps
            .map(|step| match step.strip_suffix(']').and_then(|place| place.parse().ok()) {
                Some(place) => Step::At(place),
                None => Step::Key(step.to_owned()),
            })
            .collect())
    }

    /// On to a key, whatever stands in it.
    pub(super) fn key(mut self, key: &str) -> Way {
        self.0.push(Step::Key(key.to_owned()));
        self
    }

    /// On to a place of a list.
    pub(super) fn at(mut self, place: usize) -> Way {
        self.0.push(Step::At(place));
        self
    }

    /// Here, then on from here.
    pub(super) fn then(mut self, on: Way) -> Way {
        self.0.extend(on.0);
        self
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if place == 0 => write!(f, "{}", key.escape_default())?,
                Step::Key(key) => write!(f, ".{}", key.escape_default())?,
                Step::At(place) => write!(f, "[{place}]")?,
            }
        }
        Ok(())
    }
}

/// Something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    /// Where.
    pub(super) way: Way,
    /// The key, what is wrong with it, and what is expected.
    pub(super) what: String,
}

impl Fault {
    /// A message that names its key by itself.
    pub(super) fn new(way: Way, what: impl Into<String>) -> Fault {
        Fault { way, what: what.into() }
    }

    /// What is wrong with a key that is written so.
    pub(super) fn at(written: &str, what: impl fmt::Display) -> Fault {
        Fault { way: Way::to(written), what: format!("{written}: {what}") }
    }

    /// The same in a helper.
    fn within(self, part: &str, place: usize) -> Fault {
        let helper = Way::default().key(part).at(place);
        Fault { what: format!("{helper}.{}", self.what), way: helper.then(self.way) }
    }
}

impl Spec {
    /// The tasks that run with each replica, and where they are described.
    pub(super) fn described_helpers(&self) -> impl Iterator<Item = (&'static str, usize, &Helper)> {
        let init = self.init.iter().enumerate().map(|(place, helper)| ("init", place, helper));
        init.chain(self.sidecars.iter().enumerate().map(|(place, helper)| ("sidecar", place, helper)))
    }

    /// Says what is wrong with the helpers of a replica with these ports.
    pub(super) fn fault_of_helpers(&self, ports: &[u16]) -> Option<Fault> {
        let mut names = std::collections::BTreeSet::new();
        self.described_helpers().find_map(|(part, place, helper)| {
            let twice = || {
                let what = format!("`{}` names another task of the replica too", helper.name);
                (!names.insert(&helper.name)).then(|| Fault::at("name", what))
            };
            Some(helper.fault(ports).or_else(twice)?.within(part, place))
        })
    }

    /// What the SDK refused of a replica whose task has this id, at the key that is meant.
    pub(super) fn fault_of(&self, error: &TaskGroupError, replica: &TaskId) -> Fault {
        let said = error.to_string();
        let TaskGroupError::Task(error) = error else {
            let key = match error {
                TaskGroupError::Group(GroupError::TooLarge { .. }) => "sidecar",
                TaskGroupError::Group(GroupError::Network { .. }) => "network.name",
                _ => "name",
            };
            return Fault::at(key, without(&said, "task group", replica.as_str()));
        };
        let id = id_of(error).unwrap_or(replica.as_str());
        let helper = self.described_helpers().find(|(.., helper)| id == format!("{replica}.{}", helper.name));
        let program = helper.map_or_else(|| self.program(), |(.., helper)| helper.program());
        let way = program.way_of(error);
        let what = match error {
            TaskError::Refused { source, .. } => source.what.as_str(),
            _ => without(&said, "task", id),
        };
        let fault = Fault { what: format!("{way}: {what}"), way };
        match helper {
            Some((part, place, _)) => fault.within(part, place),
            None => fault,
        }
    }
}

/// What is said of a task that nobody has launched, without the id that it would have.
fn without<'a>(said: &'a str, kind: &str, id: &str) -> &'a str {
    let rest = said.strip_prefix(&format!("{kind} `{id}`")).unwrap_or(said);
    rest.trim_start_matches([':', ' '])
}

fn id_of(error: &TaskError) -> Option<&str> {
    match error {
        TaskError::NoCommand { task_id }
        | TaskError::ZeroByte { task_id, .. }
        | TaskError::Volume { task_id, .. }
        | TaskError::Image { task_id, .. }
        | TaskError::Refused { task_id, .. }
        | TaskError::Network { task_id, .. }
        | TaskError::Volumes { task_id, .. }
        | TaskError::EnvironmentName { task_id, .. }
        | TaskError::NoResources { task_id }
        | TaskError::TooLarge { task_id, .. }
        | TaskError::Grace { task_id, .. } => Some(task_id),
        _ => None,
    }
}

impl Program<'_> {
    /// The key that the SDK means.
    fn way_of(self, error: &TaskError) -> Way {
        match error {
            TaskError::ZeroByte { .. } | TaskError::EnvironmentName { .. } => {
                let wrong = |(name, value): &(&String, &String)| {
                    name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
                };
                match self.env.iter().find(wrong) {
                    Some((name, _)) => Way::to("env").key(name),
                    None => Way::to("command"),
                }
            }
            TaskError::Volume { .. } => {
                let wrong = self.volumes.iter().position(|volume| volume.check().is_err());
                wrong.into_iter().fold(Way::to("volumes"), Way::at)
            }
            TaskError::Volumes { .. } => Way::to("volumes"),
            TaskError::Image { .. } => Way::to("image"),
            TaskError::Network { .. } => Way::to("network.name"),
            TaskError::NoResources { .. } => Way::to("cpus"),
            TaskError::Grace { .. } => Way::to("kill_grace"),
            TaskError::Refused { source, .. } => described(&source.field),
            _ => Way::to("command"),
        }
    }
}

/// Where a description says what a field of the wire says.
fn described(field: &str) -> Way {
    let Way(steps) = Way::to(field);
    let told = steps.into_iter().filter_map(|step| match step {
        Step::At(_) => Some(step),
        Step::Key(key) => {
            let key = match key.as_str() {
                "container" | "group" | "probe" | "reference" | "argv" => return None,
                "health_check" => "health",
                "host_path" => "host",
                "sandbox_path" => "sandbox",
                "group_path" => "shared",
                "container_path" => "at",
                "tmpfs_bytes" => "tmpfs_mib",
                key => key.strip_suffix("_ms").unwrap_or(key),
            };
            Some(Step::Key(key.to_owned()))
        }
    });
    Way(told.collect())
}
