//! What can be done to an agent's resources besides running tasks: reservations and persistent volumes.
//!
//! Each operation is a conversion: some resources are consumed and others, of the same quantities, produced. A master, an agent and a
//! scheduler that apply the same conversion to the same resources agree (Mesos: docs/reservation.md, docs/persistent-volume.md).

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    AgentId, OperationId, Reason, Resources, Role, Time, UpdateId,
    resources::{Entry, Name, Reservation, Terms, Value},
};

/// An operation on resources of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Keeps resources for a role: `resources` is what they become, each with a dynamic reservation on top.
    Reserve {
        /// What they become.
        resources: Resources,
    },
    /// Ends the last reservation of each.
    Unreserve {
        /// As they are.
        resources: Resources,
    },
    /// Makes persistent volumes of reserved disk.
    Create {
        /// The volumes, each an entry of `disk`.
        volumes: Resources,
    },
    /// Ends persistent volumes; what is stored in them is deleted.
    Destroy {
        /// The volumes as they are.
        volumes: Resources,
    },
    /// Adds disk of the same reservation to a volume.
    Grow {
        /// The volume as it is.
        volume: Resources,
        /// The disk.
        addition: Resources,
    },
    /// Takes disk from a volume.
    Shrink {
        /// The volume as it is.
        volume: Resources,
        /// How much of it, in thousandths of a MiB; less than all.
        subtract_milli: i64,
    },
}

/// What an operation makes of an agent's resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversion {
    /// What must be there, and is not afterwards.
    pub consumed: Resources,
    /// What is there instead.
    pub produced: Resources,
}

impl Operation {
    /// Its name in the protocol.
    pub fn name(&self) -> &'static str {
        match self {
            Operation::Reserve { .. } => "reserve",
            Operation::Unreserve { .. } => "unreserve",
            Operation::Create { .. } => "create",
            Operation::Destroy { .. } => "destroy",
            Operation::Grow { .. } => "grow",
            Operation::Shrink { .. } => "shrink",
        }
    }

    /// What it does, or why it makes no sense whatever the agent has.
    pub fn conversion(&self) -> Result<Conversion, String> {
        let conversion = match self {
            Operation::Reserve { resources } => {
                let consumed = not_nothing(resources)?.unreserve().ok_or_else(|| {
                    format!("`{resources}` is what the resources become: each needs a dynamic reservation, such as `cpus(+eng):2`")
                })?;
                if let Some(entry) = resources.entries().find(|entry| entry.volume().is_some()) {
                    return Err(format!(
                        "`{}` holds a volume; destroy it before its disk is reserved further",
                        show(entry)
                    ));
                }
                Conversion { consumed, produced: resources.clone() }
            }
            Operation::Unreserve { resources } => {
                if let Some(entry) = resources.entries().find(|entry| entry.volume().is_some()) {
                    return Err(format!(
                        "`{}` holds a volume; destroy it before its disk is unreserved",
                        show(entry)
                    ));
                }
                let produced = not_nothing(resources)?.unreserve().ok_or_else(|| {
                    format!("`{resources}` is not all dynamically reserved; a reservation of the agent's own settings ends only there")
                })?;
                Conversion { consumed: resources.clone(), produced }
            }
            Operation::Create { volumes } => {
                all_volumes(volumes)?;
                Conversion { consumed: volumes.without_volumes(), produced: volumes.clone() }
            }
            Operation::Destroy { volumes } => {
                all_volumes(volumes)?;
                Conversion { consumed: volumes.clone(), produced: volumes.without_volumes() }
            }
            Operation::Grow { volume, addition } => {
                let (terms, milli) = one_volume(volume)?;
                if volume.without_volumes().milli(&Name::Disk) == 0 || addition.is_empty() {
                    return Err("a volume grows by some disk; none is given".to_owned());
                }
                let more = addition.milli(&Name::Disk);
                if Resources::of(Name::Disk, Value::Scalar(more)) != addition.plain()
                    || addition.entries().any(|entry| entry.terms() != plain_disk(&terms).as_ref())
                {
                    return Err(format!(
                        "`{addition}` is not disk with the reservation of the volume `{volume}`"
                    ));
                }
                let grown = milli.checked_add(more).ok_or("the volume becomes too large")?;
                Conversion { consumed: volume.clone() + addition, produced: disk(terms, grown) }
            }
            Operation::Shrink { volume, subtract_milli } => {
                let (terms, milli) = one_volume(volume)?;
                if *subtract_milli <= 0 || *subtract_milli >= milli {
                    let less = Value::Scalar((*subtract_milli).max(0));
                    return Err(format!(
                        "volume `{volume}` shrinks by more than nothing and less than all, not by {less}"
                    ));
                }
                let mut produced = disk(terms.clone(), milli - subtract_milli);
                produced.insert_on(
                    Name::Disk,
                    plain_disk(&terms).map(Arc::new),
                    Value::Scalar(*subtract_milli),
                );
                Conversion { consumed: volume.clone(), produced }
            }
        };
        for entry in conversion.consumed.entries().chain(conversion.produced.entries()) {
            let terms = entry.terms().cloned().unwrap_or_default();
            terms.judge().and_then(|()| terms.fit(entry.name()))?;
        }
        Ok(conversion)
    }

    /// True when what it makes may be used by what follows it in the same accept. A resized volume may not: its size is settled on the
    /// agent.
    pub fn is_usable_at_once(&self) -> bool {
        !matches!(self, Operation::Grow { .. } | Operation::Shrink { .. })
    }

    /// The reservations that it makes or ends, each once: what a role and a principal must be entitled to.
    pub fn reservations(&self) -> Vec<&Reservation> {
        let (Operation::Reserve { resources } | Operation::Unreserve { resources }) = self else {
            return Vec::new();
        };
        let mut last: Vec<&Reservation> =
            resources.entries().filter_map(|entry| entry.terms()?.reservations.last()).collect();
        last.sort();
        last.dedup();
        last
    }

    /// The roles whose reservations it touches, each once.
    pub fn roles(&self) -> Vec<&Role> {
        let resources = match self {
            Operation::Reserve { resources } | Operation::Unreserve { resources } => resources,
            Operation::Create { volumes } | Operation::Destroy { volumes } => volumes,
            Operation::Grow { volume, .. } | Operation::Shrink { volume, .. } => volume,
        };
        let mut roles: Vec<&Role> = resources.entries().filter_map(Entry::role).collect();
        roles.sort();
        roles.dedup();
        roles
    }
}

fn show(entry: &Entry) -> String {
    let mut one = Resources::new();
    one.insert_on(entry.name().clone(), entry.terms().cloned().map(Arc::new), entry.value().clone());
    one.to_string()
}

fn not_nothing(resources: &Resources) -> Result<&Resources, String> {
    if resources.is_empty() { Err("no resources are given".to_owned()) } else { Ok(resources) }
}

fn all_volumes(volumes: &Resources) -> Result<(), String> {
    match not_nothing(volumes)?.entries().find(|entry| entry.volume().is_none()) {
        Some(entry) => Err(format!("`{}` is not a volume, such as `disk(+eng)[data=data]:100`", show(entry))),
        None => Ok(()),
    }
}

fn one_volume(volume: &Resources) -> Result<(Terms, i64), String> {
    all_volumes(volume)?;
    let mut entries = volume.entries();
    match (entries.next(), entries.next()) {
        (Some(entry), None) => {
            let terms = entry.terms().cloned().expect("a volume is on terms");
            if terms.is_shared() {
                return Err(format!("`{volume}` is shared; only a volume of one user can be resized"));
            }
            Ok((terms, volume.milli(&Name::Disk)))
        }
        _ => Err(format!("`{volume}` is more than one volume; resize them one by one")),
    }
}

fn plain_disk(terms: &Terms) -> Option<Terms> {
    Some(Terms { volume: None, ..terms.clone() }).filter(|terms| !terms.is_plain())
}

fn disk(terms: Terms, milli: i64) -> Resources {
    let mut disk = Resources::new();
    disk.insert_on(Name::Disk, Some(Arc::new(terms)), Value::Scalar(milli));
    disk
}

impl Conversion {
    /// What it makes of some resources; none when they do not hold what it consumes, or hold a volume already that it makes.
    pub fn apply(&self, resources: &Resources) -> Option<Resources> {
        let rest = resources.checked_sub(&self.consumed)?;
        let twice = |entry: &Entry| {
            let same = |other: &Entry| {
                other.role() == entry.role()
                    && other.volume().map(|volume| &volume.id) == entry.volume().map(|volume| &volume.id)
            };
            entry.volume().is_some() && rest.entries().any(same)
        };
        if self.produced.entries().any(twice) {
            return None;
        }
        Some(rest + &self.produced)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Operation::Reserve { resources } | Operation::Unreserve { resources } => {
                write!(f, "{name} {resources}")
            }
            Operation::Create { volumes } | Operation::Destroy { volumes } => write!(f, "{name} {volumes}"),
            Operation::Grow { volume, addition } => write!(f, "{name} {volume} by {addition}"),
            Operation::Shrink { volume, subtract_milli } => {
                write!(f, "{name} {volume} by {}", Value::Scalar(*subtract_milli))
            }
        }
    }
}

/// What is known of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// Sent to its agent.
    Pending,
    /// Terminal: done, and written down by its agent.
    Finished,
    /// Terminal: its agent tried and could not.
    Failed,
    /// Terminal: it was refused; nothing was done. Sending it again unchanged is pointless.
    Error,
    /// Terminal: it never reached its agent, or found other resources there than it was made for. Send it again.
    Dropped,
    /// Its agent cannot be reached.
    Unreachable,
    /// The master knows nothing of it; only in answers to reconciliation.
    Unknown,
}

impl OperationState {
    /// Every state.
    pub const ALL: [OperationState; 7] = [
        OperationState::Pending,
        OperationState::Finished,
        OperationState::Failed,
        OperationState::Error,
        OperationState::Dropped,
        OperationState::Unreachable,
        OperationState::Unknown,
    ];

    /// True for a state that no operation leaves.
    pub fn is_terminal(self) -> bool {
        use OperationState::*;
        matches!(self, Finished | Failed | Error | Dropped)
    }
}

impl fmt::Display for OperationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            OperationState::Pending => "pending",
            OperationState::Finished => "finished",
            OperationState::Failed => "failed",
            OperationState::Error => "error",
            OperationState::Dropped => "dropped",
            OperationState::Unreachable => "unreachable",
            OperationState::Unknown => "unknown",
        })
    }
}

/// What became of an operation that its framework named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationStatus {
    /// The operation.
    pub operation_id: OperationId,
    /// Its agent, where one was ever known.
    pub agent_id: Option<AgentId>,
    /// What is known.
    pub state: OperationState,
    /// Why, for programs; none for an ordinary end.
    pub reason: Option<Reason>,
    /// For people.
    pub message: String,
    /// By the clock of whoever made the status.
    pub at: Time,
    /// Present exactly when it must be acknowledged.
    pub update_id: Option<UpdateId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(text: &str) -> Resources {
        text.parse().unwrap()
    }

    #[test]
    fn an_operation_keeps_quantities_and_is_undone_by_its_opposite() {
        let before = resources("cpus:4;disk:100");
        let steps = [
            Operation::Reserve { resources: resources("cpus(+eng@p):2;disk(+eng@p):60") },
            Operation::Create { volumes: resources("disk(+eng@p)[v=data]:20") },
            Operation::Grow {
                volume: resources("disk(+eng@p)[v=data]:20"),
                addition: resources("disk(+eng@p):10"),
            },
            Operation::Shrink { volume: resources("disk(+eng@p)[v=data]:30"), subtract_milli: 5_000 },
            Operation::Destroy { volumes: resources("disk(+eng@p)[v=data]:25") },
            Operation::Unreserve { resources: resources("cpus(+eng@p):2;disk(+eng@p):60") },
        ];
        let mut now = before.clone();
        for step in steps {
            now = step.conversion().unwrap().apply(&now).unwrap_or_else(|| panic!("{step} of {now}"));
            assert_eq!(now.plain(), before, "after {step}");
        }
        assert_eq!(now, before);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let reserve = |text| Operation::Reserve { resources: resources(text) };
        let create = |text| Operation::Create { volumes: resources(text) };
        let grow =
            |volume, addition| Operation::Grow { volume: resources(volume), addition: resources(addition) };
        for (operation, what) in [
            (reserve(""), "no resources are given"),
            (reserve("cpus:1"), "each needs a dynamic reservation"),
            (reserve("cpus(eng):1"), "each needs a dynamic reservation"),
            (reserve("disk(+eng)[v=data]:1"), "holds a volume"),
            (Operation::Unreserve { resources: resources("cpus(eng):1") }, "ends only there"),
            (create("disk(+eng):1"), "is not a volume"),
            (grow("disk(+eng)[v=data]:1", ""), "none is given"),
            (grow("disk(+eng)[v=data]:1", "disk:1"), "the reservation of the volume"),
            (grow("disk(+eng)[v=data]:1", "cpus(+eng):1"), "the reservation of the volume"),
            (grow("disk(+eng)[v=data shared]:1", "disk(+eng):1"), "only a volume of one user"),
            (grow("disk(+eng)[v=data]:1;disk(+eng)[w=data]:1", "disk(+eng):1"), "more than one volume"),
            (
                Operation::Shrink { volume: resources("disk(+eng)[v=data]:1"), subtract_milli: 1000 },
                "less than all",
            ),
            (
                Operation::Shrink { volume: resources("disk(+eng)[v=data]:1"), subtract_milli: -1 },
                "more than nothing",
            ),
        ] {
            let problem = operation.conversion().unwrap_err();
            assert!(problem.contains(what), "{operation}: {problem}");
        }
    }

    #[test]
    fn a_volume_is_made_once_for_its_role() {
        let agent = resources("disk(+eng):10;disk(+ops):10;disk(+eng)[v=data]:5");
        let create = |text| Operation::Create { volumes: resources(text) }.conversion().unwrap();
        assert_eq!(create("disk(+eng)[v=other]:1").apply(&agent), None);
        assert!(create("disk(+ops)[v=data]:1").apply(&agent).is_some());
        assert_eq!(create("disk(+ops)[w=data]:11").apply(&agent), None);
    }
}
