//! What runs with a replica on its agent: tasks that prepare its work, and tasks that serve it.

use std::{collections::BTreeMap, slice};

use apportion_sdk::{
    Artifact, Resources, Task, TaskGroup, TaskGroupError, TaskGroupInfo, TaskId, TaskInfo, Volume,
};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::{
    CommandLine, Scalar, Source, Spec, SpecError,
    container::{ArtifactTable, VolumeTable},
    fault::{Fault, Way},
    program::Program,
};

/// A task that is launched with each replica, in one task group with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Helper {
    /// Behind the id of the replica's task it is the id of this one: a letter, then letters, digits, `_` and `-`.
    pub name: String,
    /// The program and its arguments, with variables.
    pub argv: Vec<String>,
    /// The environment, with variables.
    pub env: BTreeMap<String, String>,
    /// What it asks for, beside what the replica does.
    pub resources: Resources,
    /// What it sees as its root; the command may then be empty, for the image's own.
    pub image: Option<String>,
    /// Who it runs as; the image's, else the agent's own user, when none.
    pub user: Option<String>,
    /// What is fetched into its sandbox before it is started.
    pub artifacts: Vec<Artifact>,
    /// What it sees beside its root and its sandbox.
    pub volumes: Vec<Volume>,
}

/// What is launched for a replica.
#[derive(Debug, Clone, PartialEq)]
pub enum Launch {
    /// One task: nothing runs with it.
    Task(Box<TaskInfo>),
    /// The replica's task, and its helpers'.
    Group(TaskGroupInfo),
}

impl Launch {
    /// Its tasks.
    pub fn tasks(&self) -> &[TaskInfo] {
        match self {
            Launch::Task(task) => slice::from_ref(task),
            Launch::Group(group) => group.tasks(),
        }
    }
}

impl Helper {
    /// Begins a description: what is not said is as it is for a [`Spec`].
    pub fn new(name: impl Into<String>, argv: impl IntoIterator<Item = impl Into<String>>) -> Helper {
        let Spec { name, argv, env, resources, image, user, artifacts, volumes, .. } = Spec::new(name, argv);
        Helper { name, argv, env, resources, image, user, artifacts, volumes }
    }

    pub(super) fn program(&self) -> Program<'_> {
        Program {
            argv: &self.argv,
            env: &self.env,
            image: self.image.as_deref(),
            user: self.user.as_deref(),
            artifacts: &self.artifacts,
            volumes: &self.volumes,
        }
    }

    /// Its task beside this one of a replica.
    fn task(&self, spec: &Spec, replica: u32, beside: &TaskId, ports: &[u16]) -> Task {
        let task = Task::new(format!("{beside}.{}", self.name))
            .name(format!("{}.{replica}.{}", spec.name, self.name))
            .resources(&self.resources)
            .label("service", spec.name.as_str());
        self.program().of(task, replica, ports)
    }

    /// Says what is wrong, beside a replica with these ports.
    pub(super) fn fault(&self, ports: &[u16]) -> Option<Fault> {
        let letters = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
        if !self.name.starts_with(|c: char| c.is_ascii_alphabetic()) || !self.name.chars().all(letters) {
            let what = "ends a task id: a letter, then letters, digits, `_` and `-`";
            return Some(Fault::at("name", format!("`{}` is none that {what}", self.name.escape_default())));
        }
        if self.resources.ports().is_some() {
            return Some(Fault::at("resources", "names ports; those of the replica are known to it too"));
        }
        self.program().fault(ports)
    }
}

impl Spec {
    /// The tasks that run with each replica.
    fn helpers(&self) -> impl Iterator<Item = &Helper> {
        self.init.iter().chain(&self.sidecars)
    }

    /// What a replica and all that runs with it ask for, but for ports.
    pub fn needs(&self) -> Resources {
        self.helpers().fold(self.resources.clone(), |sum, helper| sum + &helper.resources)
    }

    /// The group of a replica's task, or the task alone when nothing runs with it, in its network.
    pub(super) fn with_helpers(
        &self,
        main: Task,
        replica: u32,
        task_id: &TaskId,
        ports: &[u16],
    ) -> Result<Launch, TaskGroupError> {
        let network = self.network.as_ref().map(|network| network.network(ports));
        if self.helpers().next().is_none() {
            let main = network.into_iter().fold(main, Task::network);
            return Ok(Launch::Task(Box::new(main.build()?)));
        }
        let helper = |helper: &Helper| helper.task(self, replica, task_id, ports);
        let group = network.into_iter().fold(TaskGroup::new(task_id.as_str()), TaskGroup::network);
        let group = self.init.iter().map(helper).fold(group, TaskGroup::init);
        let group = self.sidecars.iter().map(helper).fold(group, TaskGroup::sidecar);
        Ok(Launch::Group(group.main(main).build()?))
    }
}

/// `[[init]]` and `[[sidecar]]`: a task that runs before each replica, or beside it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HelperTable {
    name: String,
    command: Option<Spanned<CommandLine>>,
    #[serde(default)]
    env: BTreeMap<String, Spanned<String>>,
    image: Option<String>,
    user: Option<String>,
    #[serde(default)]
    artifacts: Vec<ArtifactTable>,
    #[serde(default)]
    volumes: Vec<VolumeTable>,
    cpus: Option<Spanned<Scalar>>,
    memory: Option<Spanned<Scalar>>,
    disk: Option<Spanned<Scalar>>,
    resources: Option<Spanned<String>>,
}

impl Source<'_> {
    /// The tasks that run with a replica of so many ports.
    pub(super) fn helpers(
        self,
        part: &str,
        tables: Vec<Spanned<HelperTable>>,
        ports: usize,
    ) -> Result<Vec<Helper>, SpecError> {
        let helper = |(place, table)| self.helper(Way::to(part).at(place), table, ports);
        tables.into_iter().enumerate().map(helper).collect()
    }

    fn helper(self, way: Way, table: Spanned<HelperTable>, ports: usize) -> Result<Helper, SpecError> {
        let span = table.span();
        let table = table.into_inner();
        Ok(Helper {
            argv: self.argv(table.command, table.image.is_some(), ports, span)?,
            env: self.env(table.env, ports)?,
            resources: self.resources(table.resources, table.cpus, table.memory, table.disk)?,
            name: table.name,
            image: table.image,
            user: table.user,
            artifacts: table.artifacts.into_iter().map(ArtifactTable::artifact).collect(),
            volumes: self.volumes(way, table.volumes)?,
        })
    }
}
