//! Task groups (pods): tasks that are launched together or not at all, run on one agent in the order of their parts, and end together.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{GroupId, TaskId},
    limits,
    network::Network,
    resources::Ranges,
    task::TaskInfo,
};

/// That a task is of a task group. Each member says the same but for its part and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupInfo {
    /// Names the group; unique in its framework among groups of which a task's end is not yet acknowledged.
    pub group_id: GroupId,
    /// When it runs.
    pub part: Part,
    /// Where it stands among the members, from 0: the order in which those of a part are launched.
    pub place: u32,
    /// How many members there are.
    pub members: u32,
    /// The network that all of them are in, with one address: one that the agent's operator has configured, ports of the host that a
    /// sidecar or main task holds. Each is in its own, or its host's, when none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Box<Network>>,
}

/// When a member of a task group runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// Before all others, one after another; each must end with code 0.
    Init,
    /// From the end of the last init task, each once the one before it runs and, where it has a health check, is healthy. Ended, the
    /// last one first, when every main task has finished.
    Sidecar,
    /// All at once, after init tasks and sidecars; the group is for their work.
    Main,
}

impl Part {
    /// Every part, in the order in which they are launched.
    pub const ALL: [Part; 3] = [Part::Init, Part::Sidecar, Part::Main];

    /// The name shown to people and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Part::Init => "init",
            Part::Sidecar => "sidecar",
            Part::Main => "main",
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why tasks are not, together, one whole task group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// There is none.
    #[error("a task group without tasks; it has at least a main task")]
    Empty,
    /// It has more members than allowed.
    #[error("a task group of {members} tasks; at most {} are allowed", limits::GROUP_TASKS_MAX)]
    TooLarge {
        /// How many.
        members: usize,
    },
    /// A task that says nothing of a group.
    #[error("task `{task_id}` stands in a task group and does not say of which it is; set its group")]
    NoGroup {
        /// The task.
        task_id: TaskId,
    },
    /// A task of another group, or one that counts the members otherwise.
    #[error("task `{task_id}` stands in task group `{here}` of {members} and is of `{group_id}` of {said}")]
    OtherGroup {
        /// The task.
        task_id: TaskId,
        /// The group that it stands in.
        here: GroupId,
        /// How many stand there.
        members: usize,
        /// The group that it says it is of.
        group_id: GroupId,
        /// How many members it says that has.
        said: u32,
    },
    /// A task that does not stand where it says.
    #[error(
        "task `{task_id}` of task group `{group_id}` says that its place is {said}, and stands at {place}"
    )]
    OtherPlace {
        /// The task.
        task_id: TaskId,
        /// Its group.
        group_id: GroupId,
        /// What it says.
        said: u32,
        /// Where it stands.
        place: usize,
    },
    /// A task that speaks of another network than those before it.
    #[error(
        "task `{task_id}` of task group `{group_id}` gives the group another network than those before it; give each the same"
    )]
    OtherNetwork {
        /// The task.
        task_id: TaskId,
        /// Its group.
        group_id: GroupId,
    },
    /// No agent can give it its network.
    #[error("task group `{group_id}`: {why}")]
    Network {
        /// The group.
        group_id: GroupId,
        /// Why, and what to do.
        why: String,
    },
    /// A task that stands in it twice.
    #[error("task `{task_id}` stands in task group `{group_id}` twice")]
    Twice {
        /// The task.
        task_id: TaskId,
        /// The group.
        group_id: GroupId,
    },
    /// There is nothing that the group is for.
    #[error("task group `{group_id}` has no main task; it would have nothing to do")]
    NoMain {
        /// The group.
        group_id: GroupId,
    },
}

impl GroupInfo {
    /// Judges whether tasks are, in this order, the members of one group; returns its name.
    pub fn of<'a>(tasks: impl IntoIterator<Item = &'a TaskInfo>) -> Result<GroupId, GroupError> {
        let tasks: Vec<&TaskInfo> = tasks.into_iter().collect();
        if tasks.len() > limits::GROUP_TASKS_MAX {
            return Err(GroupError::TooLarge { members: tasks.len() });
        }
        let mut first: Option<&GroupInfo> = None;
        let mut seen = BTreeSet::new();
        for (place, task) in tasks.iter().enumerate() {
            let task_id = task.task_id.clone();
            let Some(group) = task.group.as_deref() else { return Err(GroupError::NoGroup { task_id }) };
            let of = *first.get_or_insert(group);
            if group.group_id != of.group_id || group.members as usize != tasks.len() {
                return Err(GroupError::OtherGroup {
                    task_id,
                    here: of.group_id.clone(),
                    members: tasks.len(),
                    group_id: group.group_id.clone(),
                    said: group.members,
                });
            }
            if group.place as usize != place {
                let group_id = group.group_id.clone();
                return Err(GroupError::OtherPlace { task_id, group_id, said: group.place, place });
            }
            if group.network != of.network {
                return Err(GroupError::OtherNetwork { task_id, group_id: group.group_id.clone() });
            }
        }
        let of = first.ok_or(GroupError::Empty)?;
        let group_id = of.group_id.clone();
        if let Some(why) = of.network.as_deref().and_then(|network| network.shared_refusal(&ports(&tasks))) {
            return Err(GroupError::Network { group_id, why });
        }
        if let Some(twice) = tasks.iter().find(|task| !seen.insert(&task.task_id)) {
            return Err(GroupError::Twice { task_id: twice.task_id.clone(), group_id });
        }
        let is_main = |task: &&TaskInfo| task.group.as_deref().is_some_and(|group| group.part == Part::Main);
        match tasks.iter().any(is_main) {
            true => Ok(group_id),
            false => Err(GroupError::NoMain { group_id }),
        }
    }
}

/// Ports of their host that any of these holds for longer than the group takes to begin: those of init tasks are others' from then on.
fn ports(tasks: &[&TaskInfo]) -> Ranges {
    let mut held = Ranges::default();
    let lasts = |task: &&&TaskInfo| task.group.as_deref().is_some_and(|group| group.part != Part::Init);
    tasks.iter().filter(lasts).filter_map(|task| task.resources.ports()).for_each(|ports| held.add(&ports));
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Command, Resources,
        network::{PortMapping, Protocol},
    };

    fn member(name: &str, part: Part, place: u32, members: u32) -> TaskInfo {
        let group_id = GroupId::new("g").unwrap();
        let group = GroupInfo { group_id, part, place, members, network: None };
        TaskInfo {
            task_id: TaskId::new(name).unwrap(),
            name: String::new(),
            resources: Resources::new(),
            limits: Resources::new(),
            pids_max: None,
            command: Command { argv: vec!["true".to_owned()], env: Default::default() },
            kill_grace: None,
            labels: Default::default(),
            volumes: Vec::new(),
            container: Default::default(),
            supervision: Default::default(),
            group: Some(Box::new(group)),
            execution: Default::default(),
        }
    }

    #[test]
    fn a_group_is_whole_and_has_a_main_task() {
        let two = [member("a", Part::Init, 0, 2), member("b", Part::Main, 1, 2)];
        assert_eq!(GroupInfo::of(&two), Ok(GroupId::new("g").unwrap()));
        assert_eq!(GroupInfo::of(&[]), Err(GroupError::Empty));
        assert!(matches!(GroupInfo::of(&two[..1]), Err(GroupError::OtherGroup { said: 2, .. })));
        let swapped = [two[1].clone(), two[0].clone()];
        assert!(matches!(GroupInfo::of(&swapped), Err(GroupError::OtherPlace { said: 1, place: 0, .. })));
        let twice = [member("a", Part::Init, 0, 2), member("a", Part::Main, 1, 2)];
        assert!(matches!(GroupInfo::of(&twice), Err(GroupError::Twice { .. })));
        let idle = [member("a", Part::Sidecar, 0, 1)];
        assert!(matches!(GroupInfo::of(&idle), Err(GroupError::NoMain { .. })));
        let alone = [TaskInfo { group: None, ..two[0].clone() }];
        assert!(matches!(GroupInfo::of(&alone), Err(GroupError::NoGroup { .. })));
        let most = limits::GROUP_TASKS_MAX as u32;
        let many = |count: u32| -> Vec<TaskInfo> {
            (0..count).map(|place| member(&format!("t{place}"), Part::Main, place, count)).collect()
        };
        assert!(GroupInfo::of(&many(most)).is_ok());
        assert!(matches!(GroupInfo::of(&many(most + 1)), Err(GroupError::TooLarge { .. })));
    }

    #[test]
    fn a_network_is_every_members_and_maps_ports_of_those_that_last() {
        let mapped = |name: &str, host_port| {
            let mapping = PortMapping { host_port, container_port: 80, protocol: Protocol::Tcp };
            Some(Box::new(Network { ports: vec![mapping], ..Network::new(name) }))
        };
        let in_networks = |networks: [Option<Box<Network>>; 2]| {
            let mut two = [member("a", Part::Sidecar, 0, 2), member("b", Part::Main, 1, 2)];
            two[1].resources = "ports:[31000-31001]".parse().unwrap();
            for (task, network) in two.iter_mut().zip(networks) {
                task.group.as_mut().unwrap().network = network;
            }
            (GroupInfo::of(&two).map(drop).map_err(|error| error.to_string()), two)
        };
        let shared = |network: Option<Box<Network>>| in_networks([network.clone(), network]);
        let (judged, mut two) = shared(mapped("blue", 31_001));
        assert_eq!(judged, Ok(()));
        assert!(two.iter().all(|task| task.network_refusal().is_none()));
        assert_eq!(two[0].network().map(|network| &*network.name), Some("blue"));
        two[0].container.network = Some(Box::new(Network::new("blue")));
        assert!(two[0].network_refusal().is_some_and(|why| why.contains("`blue` of its own")));
        let refusal = |networks| in_networks(networks).0.unwrap_err();
        let not_held = refusal([mapped("blue", 31_002), mapped("blue", 31_002)]);
        assert!(not_held.contains("`g`: port 31002"), "{not_held}");
        two[1].resources = Resources::new();
        two[0].resources = "ports:[31001-31001]".parse().unwrap();
        two[0].container.network = None;
        assert!(GroupInfo::of(&two).is_ok());
        two[0].group.as_mut().unwrap().part = Part::Init;
        let passing = GroupInfo::of(&two).unwrap_err().to_string();
        assert!(
            passing.contains("`g`: port 31001") && passing.contains("a sidecar or main task"),
            "{passing}"
        );
        for network in [mapped("blue", 31_001), None] {
            let other = refusal([mapped("blue", 31_000), network]);
            assert!(other.contains("task `b`") && other.contains("another network"), "{other}");
        }
        for name in [Network::HOST, Network::NONE] {
            let network = Some(Box::new(Network::new(name)));
            let none = refusal([network.clone(), network]);
            assert!(none.contains(&format!("network `{name}` cannot be shared")), "{none}");
        }
    }
}
