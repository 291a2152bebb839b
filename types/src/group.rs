//! Task groups (pods): tasks that are launched together or not at all, run on one agent in the order of their parts, and end together.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{GroupId, TaskId},
    limits,
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
        let mut first: Option<&GroupId> = None;
        let mut seen = BTreeSet::new();
        for (place, task) in tasks.iter().enumerate() {
            let task_id = task.task_id.clone();
            let Some(group) = task.group.as_deref() else { return Err(GroupError::NoGroup { task_id }) };
            let here = first.get_or_insert(&group.group_id);
            if group.group_id != **here || group.members as usize != tasks.len() {
                return Err(GroupError::OtherGroup {
                    task_id,
                    here: here.clone(),
                    members: tasks.len(),
                    group_id: group.group_id.clone(),
                    said: group.members,
                });
            }
            if group.place as usize != place {
                let group_id = group.group_id.clone();
                return Err(GroupError::OtherPlace { task_id, group_id, said: group.place, place });
            }
        }
        let group_id = first.cloned().ok_or(GroupError::Empty)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Command, Resources};

    fn member(name: &str, part: Part, place: u32, members: u32) -> TaskInfo {
        let group_id = GroupId::new("g").unwrap();
        let group = GroupInfo { group_id, part, place, members };
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
}
