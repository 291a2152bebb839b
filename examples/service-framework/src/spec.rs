//! The description of a service: from TOML or JSON, or from a program, to a [`Spec`] in which everything is checked.

mod balancer;
mod check;
mod container;
mod fault;
mod health;
mod helper;
mod json;
mod network;
mod place;
mod placement;
mod program;
mod refused;
mod scale;
mod update;
pub(crate) mod value;

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use apportion_sdk::{
    Artifact, IoLimits, Resources, Role, Task, TaskGroupError, TaskId, Volume, limits,
    resources::{Name, Value, parse_scalar},
};
use serde::{Deserialize, Serialize};
use toml::Spanned;

use self::{
    check::{NAMES_PORTS, check_name, check_variable},
    container::{ArtifactTable, VolumeTable},
    fault::Way,
    health::HealthTable,
    helper::HelperTable,
    program::Program,
    update::UpdateTable,
};
pub use self::{
    health::{Asked, Health},
    helper::{Helper, Launch},
    network::NetworkSpec,
    placement::{Apart, Placement, Require, Spread},
    update::{Share, Update},
    value::Problem,
};
use crate::{
    balancer::Listener,
    scale::{Scale, spec::ScaleTable},
    template::{self, Unknown},
};

/// The most replicas: every change of one is written to a small file as a whole.
pub const REPLICAS_MAX: u32 = 1000;

/// Ports of one replica.
pub const PORTS_MAX: usize = 16;

/// Bytes of a service's name: the ids of its tasks are made from it, and may have 200.
pub const NAME_BYTES_MAX: usize = 160;

/// Bytes of a description.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// How long the replicas of a service run on without its scheduler, unless said otherwise: a service is to survive the lunch
/// break in which its scheduler is upgraded, and a forgotten one is to end some day.
pub const FAILOVER_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long a replica may be unreachable before it is replaced, unless said otherwise.
pub const REPLACE_AFTER: Duration = Duration::from_secs(30);

/// Processors of a replica without a word, in thousandths: most services wait most of the time.
const CPUS_MILLI_DEFAULT: i64 = 100;

/// Memory of a replica without a word, in thousandths of a MiB.
const MEM_MILLI_DEFAULT: i64 = 64_000;

/// A service that can be run: read by [`Spec::load`], or made by a program and [checked](Spec::checked).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Names the framework and, with numbers, its tasks.
    pub name: String,
    /// The program and its arguments, with variables.
    pub argv: Vec<String>,
    /// The environment, with variables.
    pub env: BTreeMap<String, String>,
    /// How many are to run.
    pub replicas: u32,
    /// What each asks for, but for its ports.
    pub resources: Resources,
    /// What it sees as its root; the command may then be empty, for the image's own.
    pub image: Option<String>,
    /// Who it runs as; the image's, else the agent's own user, when none.
    pub user: Option<String>,
    /// What is fetched into its sandbox before it is started.
    pub artifacts: Vec<Artifact>,
    /// What it sees beside its root and its sandbox.
    pub volumes: Vec<Volume>,
    /// Run to their ends before it, one after another, each time that it starts.
    pub init: Vec<Helper>,
    /// Run beside it, from before its start until after its end.
    pub sidecars: Vec<Helper>,
    /// Tells whether it does its work; only then it counts as running, and one that fails too often is started anew.
    pub health: Option<Health>,
    /// What each may do with the disk of its agent; as much as that gives when none.
    pub io: Option<IoLimits>,
    /// Whether the cpus of each, a whole number of them, are cores that nothing else runs on which the agent runs.
    pub exclusive_cpus: bool,
    /// How many ports each gets, whichever the agent has.
    pub ports: usize,
    /// The network of each, which what runs with it shares; the host's when none.
    pub network: Option<NetworkSpec>,
    /// The role for which offers are taken.
    pub role: String,
    /// From TERM to KILL; the agent's default when none.
    pub kill_grace: Option<Duration>,
    /// How long the replicas run on without this scheduler.
    pub failover_timeout: Duration,
    /// How long a replica may be unreachable before it is replaced.
    pub replace_after: Duration,
    /// When a replica that ended starts again.
    pub restart: Restart,
    /// How replicas are replaced.
    #[serde(default)]
    pub update: Update,
    /// How many replicas there are by what is measured; `replicas` is then where it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Services that must be complete before this one is started for the first time.
    #[serde(default)]
    pub after: Vec<String>,
    /// Where clients reach it, whichever replicas there are.
    #[serde(default)]
    pub balancer: Option<Listener>,
    /// On which machines its replicas may be.
    #[serde(default, skip_serializing_if = "Placement::is_empty")]
    pub placement: Placement,
}

/// When a replica that ended starts again: after `min`, then twice as long each time, up to `max`; from `min` again after a
/// run that lasted for `stable`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The first pause.
    pub min: Duration,
    /// The longest pause.
    pub max: Duration,
    /// After a run of so long the pauses begin anew.
    pub stable: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self { min: Duration::from_secs(1), max: Duration::from_secs(60), stable: Duration::from_secs(60) }
    }
}

/// Why a description is none.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file could not be read.
    #[error("cannot read the description of a service {}: {source}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is longer than any description.
    #[error("{} has {bytes} bytes, more than the {FILE_BYTES_MAX} that a description may have; is it one?", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// Something in it is wrong; line and column count from 1.
    #[error("{}:{line}:{column}: {what}", file.display())]
    Invalid {
        /// The file.
        file: PathBuf,
        /// The line.
        line: usize,
        /// The column, in characters.
        column: usize,
        /// The key, what is wrong with it, and what is expected.
        what: String,
    },
    /// A program made a description that cannot be run.
    #[error("service `{service}`: {what}")]
    Refused {
        /// The service.
        service: String,
        /// The key, what is wrong with it, and what is expected.
        what: String,
    },
}

/// The file as it is written. What must be there is an option all the same, so that its absence is told with an example.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct SpecFile {
    name: Option<Spanned<String>>,
    command: Option<Spanned<CommandLine>>,
    #[serde(default)]
    env: BTreeMap<String, Spanned<String>>,
    image: Option<Spanned<String>>,
    user: Option<String>,
    #[serde(default)]
    artifacts: Vec<ArtifactTable>,
    #[serde(default)]
    volumes: Vec<VolumeTable>,
    #[serde(default)]
    init: Vec<Spanned<HelperTable>>,
    #[serde(default)]
    sidecar: Vec<Spanned<HelperTable>>,
    health: Option<Spanned<HealthTable>>,
    network: Option<NetworkSpec>,
    replicas: Option<Spanned<i64>>,
    cpus: Option<Spanned<Scalar>>,
    #[serde(default)]
    exclusive_cpus: bool,
    memory: Option<Spanned<Scalar>>,
    disk: Option<Spanned<Scalar>>,
    resources: Option<Spanned<String>>,
    io: Option<IoLimits>,
    ports: Option<Spanned<i64>>,
    role: Option<Spanned<String>>,
    kill_grace: Option<Spanned<String>>,
    failover_timeout: Option<Spanned<String>>,
    replace_after: Option<Spanned<String>>,
    #[serde(default)]
    restart: RestartTable,
    update: Option<Spanned<UpdateTable>>,
    scale: Option<Spanned<ScaleTable>>,
    #[serde(default)]
    after: Vec<Spanned<String>>,
    balancer: Option<Spanned<Listener>>,
    placement: Option<Spanned<Placement>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RestartTable {
    min: Option<Spanned<String>>,
    max: Option<Spanned<String>>,
    stable: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "expected an array such as [\"/bin/sleep\", \"9\"], or one string for /bin/sh -c"
)]
enum CommandLine {
    Shell(String),
    Argv(Vec<String>),
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number, or a text such as \"64MiB\"")]
enum Scalar {
    Integer(i64),
    Float(f64),
    Text(String),
}

impl Spec {
    /// Reads and checks a description: JSON when its file is called so, else TOML.
    pub fn load(file: &Path) -> Result<Spec, SpecError> {
        let unreadable = |source| SpecError::Unreadable { file: file.to_owned(), source };
        let bytes = std::fs::metadata(file).map_err(unreadable)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(SpecError::TooLarge { file: file.to_owned(), bytes });
        }
        let text = std::fs::read_to_string(file).map_err(unreadable)?;
        let json = file.extension().is_some_and(|extension| extension == "json");
        if json { Spec::parse_json(file, &text) } else { Spec::parse(file, &text) }
    }

    /// Checks the text of a description; `file` only names it in errors.
    pub fn parse(file: &Path, text: &str) -> Result<Spec, SpecError> {
        let source = Source { file, text };
        let raw: SpecFile = toml::from_str(text)
            .map_err(|error| source.unread(error.span().unwrap_or(0..0), error.message()))?;
        let resources = source.resources(raw.resources, raw.cpus, raw.memory, raw.disk)?;
        let ports = source.number("ports", raw.ports, 0, 0..=PORTS_MAX as i64)? as usize;
        let scale = source.scale(raw.scale, raw.replicas.as_ref(), raw.balancer.is_some())?;
        let replicas = source.number("replicas", raw.replicas, 1, 0..=i64::from(REPLICAS_MAX))? as u32;
        let usual = Restart::default();
        let restart = Restart {
            min: source.duration("restart.min", raw.restart.min)?.unwrap_or(usual.min),
            max: source.duration("restart.max", raw.restart.max)?.unwrap_or(usual.max),
            stable: source.duration("restart.stable", raw.restart.stable)?.unwrap_or(usual.stable),
        };
        let health = raw.health.map(|table| source.health(table, ports)).transpose()?;
        let spec = Spec {
            argv: source.argv(raw.command, raw.image.is_some(), ports, 0..0)?,
            env: source.env(raw.env, ports)?,
            name: source.name(raw.name)?,
            image: raw.image.map(Spanned::into_inner),
            user: raw.user,
            artifacts: raw.artifacts.into_iter().map(ArtifactTable::artifact).collect(),
            volumes: source.volumes(Way::default(), raw.volumes)?,
            init: source.helpers("init", raw.init, ports)?,
            sidecars: source.helpers("sidecar", raw.sidecar, ports)?,
            health,
            replicas,
            resources,
            io: raw.io,
            exclusive_cpus: raw.exclusive_cpus,
            ports,
            network: raw.network,
            role: source.role(raw.role)?,
            kill_grace: source.bounded("kill_grace", raw.kill_grace, limits::KILL_GRACE_MAX)?,
            failover_timeout: source
                .bounded("failover_timeout", raw.failover_timeout, limits::FAILOVER_TIMEOUT_MAX)?
                .unwrap_or(FAILOVER_TIMEOUT),
            replace_after: source.duration("replace_after", raw.replace_after)?.unwrap_or(REPLACE_AFTER),
            restart,
            update: source.update(raw.update)?,
            scale,
            after: source.after(raw.after)?,
            balancer: raw.balancer.map(|table| source.balancer(table, ports)).transpose()?,
            placement: source.placement(raw.placement)?,
        };
        spec.check().map_err(|fault| source.told(fault))?;
        Ok(spec)
    }

    /// Whether replicas of the two are the same: what differs otherwise, such as how many there are, is no new revision.
    pub fn same_replicas(&self, other: &Spec) -> bool {
        let usual = Spec::new(String::new(), [""; 0]);
        let replica = |spec: &Spec| Spec {
            replicas: usual.replicas,
            failover_timeout: usual.failover_timeout,
            replace_after: usual.replace_after,
            restart: usual.restart,
            update: usual.update,
            scale: None,
            after: usual.after.clone(),
            balancer: None,
            ..spec.clone()
        };
        replica(self) == replica(other) && self.balanced_port() == other.balanced_port()
    }

    /// Which of a replica's ports takes what is balanced; the first one when nothing is.
    pub fn balanced_port(&self) -> usize {
        self.balancer.as_ref().map_or(0, |listener| listener.port)
    }

    fn program(&self) -> Program<'_> {
        Program {
            argv: &self.argv,
            env: &self.env,
            image: self.image.as_deref(),
            user: self.user.as_deref(),
            artifacts: &self.artifacts,
            volumes: &self.volumes,
        }
    }

    /// What is launched for a replica, which gets these ports; the id is that of the replica's own task.
    pub fn describe(&self, replica: u32, task_id: &TaskId, ports: &[u16]) -> Result<Launch, TaskGroupError> {
        let render = |text: &String| {
            template::render(text, replica, ports).expect("variables are checked when the text is read")
        };
        let task = Task::new(task_id.as_str())
            .name(format!("{}.{replica}", self.name))
            .resources(&self.resources)
            .ports(ports.iter().copied())
            .label("service", self.name.as_str());
        let mut task = self.program().of(task, replica, ports);
        if let Some(grace) = self.kill_grace {
            task = task.kill_grace(grace);
        }
        if let Some(io) = self.io {
            task = task.io(io);
        }
        if self.exclusive_cpus {
            task = task.exclusive_cpus();
        }
        if let Some(health) = &self.health {
            // It is asked at its own address: there its ports are its own.
            let own = self.network.as_ref().map_or(ports, |network| network.own_ports(ports));
            task = task.health_check(health.check(own, render));
        }
        self.with_helpers(task, replica, task_id, ports)
    }
}

/// The text of the file, to point into.
#[derive(Clone, Copy)]
struct Source<'a> {
    file: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn refuse(self, span: Range<usize>, what: String) -> SpecError {
        let before = &self.text[..span.start.min(self.text.len())];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        SpecError::Invalid { file: self.file.to_owned(), line, column, what }
    }

    fn say(self, Problem { span, what }: Problem) -> SpecError {
        self.refuse(span, what)
    }

    fn at<T>(self, key: &str, value: &Spanned<T>, what: impl std::fmt::Display) -> SpecError {
        self.refuse(value.span(), format!("{key}: {what}"))
    }

    fn name(self, name: Option<Spanned<String>>) -> Result<String, SpecError> {
        let name = name.ok_or_else(|| {
            self.refuse(0..0, "name is missing; write for example\nname = \"web\"".to_owned())
        })?;
        check_name(name.get_ref()).map_err(|what| self.at("name", &name, what))?;
        Ok(name.into_inner())
    }

    fn after(self, names: Vec<Spanned<String>>) -> Result<Vec<String>, SpecError> {
        let check = |name: Spanned<String>| match check_name(name.get_ref()) {
            Ok(()) => Ok(name.into_inner()),
            Err(what) => Err(self.at("after", &name, what)),
        };
        names.into_iter().map(check).collect()
    }

    fn role(self, role: Option<Spanned<String>>) -> Result<String, SpecError> {
        match role {
            None => Ok(Role::default().to_string()),
            Some(role) => Role::new(role.get_ref())
                .map(|role| role.to_string())
                .map_err(|error| self.at("role", &role, error)),
        }
    }

    fn resources(
        self,
        more: Option<Spanned<String>>,
        cpus: Option<Spanned<Scalar>>,
        memory: Option<Spanned<Scalar>>,
        disk: Option<Spanned<Scalar>>,
    ) -> Result<Resources, SpecError> {
        let mut resources = Resources::new();
        if let Some(more) = &more {
            resources = more.get_ref().parse().map_err(|error| self.at("resources", more, error))?;
            if resources.ports().is_some() {
                return Err(self.at("resources", more, NAMES_PORTS));
            }
        }
        let scalars = [
            ("cpus", Name::Cpus, cpus, CPUS_MILLI_DEFAULT),
            ("memory", Name::Mem, memory, MEM_MILLI_DEFAULT),
            ("disk", Name::Disk, disk, 0),
        ];
        for (key, name, given, default) in scalars {
            let twice = resources.milli(&name) > 0;
            let milli = match given {
                None if twice => continue,
                None => default,
                Some(value) if twice => {
                    return Err(self.at(
                        key,
                        &value,
                        format!("is given, and {name} stands in resources too; keep one"),
                    ));
                }
                Some(value) => {
                    let text = match value.get_ref() {
                        Scalar::Integer(number) => number.to_string(),
                        Scalar::Float(number) => number.to_string(),
                        Scalar::Text(text) => text.clone(),
                    };
                    parse_scalar(&name, &text).map_err(|what| self.at(key, &value, what))?
                }
            };
            resources.insert(name, Value::Scalar(milli));
        }
        Ok(resources)
    }

    fn number(
        self,
        key: &str,
        given: Option<Spanned<i64>>,
        default: i64,
        allowed: std::ops::RangeInclusive<i64>,
    ) -> Result<i64, SpecError> {
        let Some(given) = given else { return Ok(default) };
        value::number(key, &given, allowed).map_err(|problem| self.say(problem))
    }

    fn duration(self, key: &str, text: Option<Spanned<String>>) -> Result<Option<Duration>, SpecError> {
        let Some(text) = text else { return Ok(None) };
        match value::duration(key, &text).map_err(|problem| self.say(problem))? {
            Duration::ZERO => Err(self.at(key, &text, "is zero; leave it out for what is usual")),
            duration => Ok(Some(duration)),
        }
    }

    fn bounded(
        self,
        key: &str,
        text: Option<Spanned<String>>,
        longest: Duration,
    ) -> Result<Option<Duration>, SpecError> {
        let span = text.as_ref().map_or(0..0, Spanned::span);
        match self.duration(key, text)? {
            Some(duration) if duration > longest => {
                let longest = humantime::format_duration(longest);
                Err(self
                    .refuse(span, format!("{key}: is longer than the longest that is allowed, {longest}")))
            }
            within => Ok(within),
        }
    }

    fn argv(
        self,
        command: Option<Spanned<CommandLine>>,
        image: bool,
        ports: usize,
        table: Range<usize>,
    ) -> Result<Vec<String>, SpecError> {
        const EXAMPLE: &str = "command = [\"/usr/bin/python3\", \"-m\", \"http.server\", \"${port0}\"]";
        if command.is_none() && image {
            return Ok(Vec::new());
        }
        let missing = || self.refuse(table, format!("command is missing; write for example\n{EXAMPLE}"));
        let command = command.ok_or_else(missing)?;
        let argv = match command.get_ref() {
            CommandLine::Shell(line) if line.trim().is_empty() => Vec::new(),
            CommandLine::Shell(line) => vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()],
            CommandLine::Argv(argv) => argv.clone(),
        };
        if argv.first().is_none_or(String::is_empty) {
            return Err(self.at(
                "command",
                &command,
                format!("names no program; write for example\n{EXAMPLE}"),
            ));
        }
        for text in &argv {
            self.check("command", &command, text, ports)?;
        }
        Ok(argv)
    }

    fn env(
        self,
        env: BTreeMap<String, Spanned<String>>,
        ports: usize,
    ) -> Result<BTreeMap<String, String>, SpecError> {
        let check = |(name, value): (String, Spanned<String>)| {
            let key = format!("env.{}", name.escape_default());
            check_variable(&name).map_err(|what| self.at(&key, &value, what))?;
            self.check(&key, &value, value.get_ref(), ports)?;
            Ok((name, value.into_inner()))
        };
        env.into_iter().map(check).collect()
    }

    /// Fills in a replica that does not exist, only to see whether every variable is known.
    fn check<T>(self, key: &str, value: &Spanned<T>, text: &str, ports: usize) -> Result<(), SpecError> {
        let refuse = |unknown: Unknown| self.at(key, value, unknown);
        template::render(text, 0, &vec![0; ports]).map(|_| ()).map_err(refuse)
    }
}

#[cfg(test)]
mod tests;
