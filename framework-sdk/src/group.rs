//! Describing task groups.

use apportion_types::{GroupError, GroupId, GroupInfo, Network, Part, TaskInfo, ids::IdError};

use crate::{Task, TaskError};

/// Tasks that are launched together on one agent or not at all, run in the order of their parts, and end together (a pod).
///
/// Init tasks run first, one after another as they are added, and each must end with code 0. Then the sidecars are started, each once the
/// one before it runs and, where it has a health check, is healthy. Then all main tasks are started at once: the group is for their work.
/// When they have finished, the sidecars are asked to end, the last one first. When any task fails, is killed, or ends before its time,
/// the others are killed. What they share beside their machine is [`Task::share`], and [`TaskGroup::network`].
///
/// ```
/// use apportion_sdk::{Task, TaskGroup};
///
/// let group = TaskGroup::new("site-1")
///     .init(Task::new("site-1.fetch").command(["fetch", "/pages"]).cpus(0.1).share("pages", "/pages"))
///     .sidecar(Task::new("site-1.log").command(["ship-logs"]).cpus(0.1))
///     .main(Task::new("site-1.web").command(["serve", "/pages"]).cpus(1.0).share("pages", "/pages"))
///     .build()?;
/// # let mut offer = apportion_sdk::testing::offer("eng", "agent-1", "cpus:2");
/// offer.launch_group(group)?;
/// assert_eq!(offer.placed().count(), 3);
/// assert_eq!(offer.resources().to_string(), "cpus:0.8");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a group is described only when it is built"]
pub struct TaskGroup {
    group_id: String,
    network: Option<Box<Network>>,
    tasks: Vec<(Part, Task)>,
}

/// A task group that is one: what [`Offer::launch_group`](crate::Offer::launch_group) takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskGroupInfo {
    tasks: Vec<TaskInfo>,
}

/// Why a description of a task group is not one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum TaskGroupError {
    /// Its id breaks the rule of ids.
    #[error(transparent)]
    Id(#[from] IdError),
    /// One of its tasks is none.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Its tasks are no group: too many, or none of them a main task.
    #[error(transparent)]
    Group(#[from] GroupError),
}

impl TaskGroup {
    /// Begins a group of this id: unique among the framework's groups of which a task's end is not acknowledged yet.
    pub fn new(group_id: impl Into<String>) -> TaskGroup {
        TaskGroup { group_id: group_id.into(), network: None, tasks: Vec::new() }
    }

    /// Has all its tasks be in one network, with one address, in which they find each other on the loopback: one that the agent's operator
    /// has configured. Each of its mapped ports is one that a sidecar or main task of the group [holds](Task::ports), and is nobody else's until the whole
    /// group has ended. No task names a network of its own then.
    pub fn network(self, network: Network) -> TaskGroup {
        TaskGroup { network: Some(Box::new(network)), ..self }
    }

    /// Adds a task that runs before all but the init tasks that were added before.
    pub fn init(self, task: Task) -> TaskGroup {
        self.with(Part::Init, task)
    }

    /// Adds a task that runs from before the main tasks until they have finished.
    pub fn sidecar(self, task: Task) -> TaskGroup {
        self.with(Part::Sidecar, task)
    }

    /// Adds a task that the group is for; at least one is needed.
    pub fn main(self, task: Task) -> TaskGroup {
        self.with(Part::Main, task)
    }

    fn with(mut self, part: Part, task: Task) -> TaskGroup {
        self.tasks.push((part, task));
        self
    }

    /// The group, or the first mistake in it or one of its tasks.
    pub fn build(self) -> Result<TaskGroupInfo, TaskGroupError> {
        let group_id = GroupId::new(self.group_id)?;
        let members = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        let of = |(place, (part, task)): (u32, (Part, Task))| {
            let (group_id, network) = (group_id.clone(), self.network.clone());
            task.of_group(GroupInfo { group_id, part, place, members, network }).build()
        };
        let tasks = (0..).zip(self.tasks).map(of).collect::<Result<Vec<TaskInfo>, TaskError>>()?;
        GroupInfo::of(&tasks)?;
        Ok(TaskGroupInfo { tasks })
    }
}

impl TaskGroupInfo {
    /// Its tasks, in the order in which they were added.
    pub fn tasks(&self) -> &[TaskInfo] {
        &self.tasks
    }
}

#[cfg(test)]
mod tests {
    use apportion_types::network::{PortMapping, Protocol};

    use super::*;
    use crate::testing;

    fn task(id: &str, cpus: f64) -> Task {
        Task::new(id).command(["true"]).cpus(cpus)
    }

    #[test]
    fn a_group_is_placed_whole_or_not_at_all() {
        let group = || TaskGroup::new("g").init(task("a", 1.0)).main(task("b", 2.0)).build().unwrap();
        let mut offer = testing::offer("eng", "agent-1", "cpus:2;mem:64");
        let refused = offer.launch_group(group()).unwrap_err();
        assert_eq!(refused.group, group());
        assert_eq!(refused.source.missing.to_string(), "cpus:1");
        assert!(offer.is_untouched() && offer.resources().to_string() == "cpus:2;mem:64");
        let mut offer = testing::offer("eng", "agent-1", "cpus:2;cpus(eng):2");
        offer.launch(task("alone", 0.5).build().unwrap()).unwrap();
        offer.launch_group(group()).unwrap();
        offer.launch(task("other", 0.5).build().unwrap()).unwrap();
        let placed: Vec<_> = offer.placed().map(|task| task.task_id.as_str()).collect();
        assert_eq!(placed, ["alone", "a", "b", "other"]);
        assert!(offer.resources().is_empty());
    }

    #[test]
    fn a_network_is_the_groups_or_a_tasks() {
        let mapping = PortMapping { host_port: 31_000, container_port: 80, protocol: Protocol::Tcp };
        let blue = || Network { ports: vec![mapping], ..Network::new("blue") };
        let group =
            |main: Task| TaskGroup::new("g").network(blue()).sidecar(task("a", 1.0)).main(main).build();
        let built = group(task("b", 1.0).ports([31_000])).unwrap();
        assert!(built.tasks().iter().all(|task| task.network() == Some(&blue())));
        assert!(matches!(group(task("b", 1.0)), Err(TaskGroupError::Group(GroupError::Network { .. }))));
        let own = group(task("b", 1.0).ports([31_000]).network(Network::new("none")));
        let Err(TaskGroupError::Task(TaskError::Network { why, .. })) = own else { panic!("{own:?}") };
        assert!(why.contains("its task group shares `blue`"), "{why}");
    }

    #[test]
    fn what_is_no_group_is_told_when_it_is_built() {
        let built = |group: TaskGroup| group.build().map(|_| ()).unwrap_err();
        assert!(matches!(built(TaskGroup::new("a/b")), TaskGroupError::Id(_)));
        assert!(matches!(built(TaskGroup::new("g")), TaskGroupError::Group(GroupError::Empty)));
        let idle = TaskGroup::new("g").sidecar(task("a", 1.0));
        assert!(matches!(built(idle), TaskGroupError::Group(GroupError::NoMain { .. })));
        assert!(matches!(built(TaskGroup::new("g").main(Task::new("a"))), TaskGroupError::Task(_)));
        let many = |count: usize| {
            (0..count).fold(TaskGroup::new("g"), |group, place| group.main(task(&place.to_string(), 0.1)))
        };
        assert!(many(32).build().is_ok());
        assert!(many(33).build().is_err());
        let alone = task("a", 1.0).share("pages", "/pages").build().unwrap_err();
        assert!(alone.to_string().contains("the task is of none"), "{alone}");
    }
}
