//! Tasks, their commands and what is known of them.

use std::{collections::BTreeMap, net::IpAddr};

use apportion_proto::v1;
use prost::Message;

use super::{
    ConvertError, bounded, enums, execution, from_ref, id, ids, map_bytes, message, messages, millis,
    network, optional, optional_duration, optional_id, shown, source, task_state, update_id, update_id_bytes,
};
use crate::{
    Command, ContainerInfo, ContainerStatus, Execution, Findings, GroupInfo, Resources, Supervision,
    TaskInfo, TaskStatus, Time, Volume, VolumeSource,
    container::{Exit, Limitation, Usage},
    limits,
    resources::{Name, Value},
    text::cut,
};

impl From<Command> for v1::Command {
    fn from(command: Command) -> Self {
        Self { argv: command.argv, env: command.env.into_iter().collect() }
    }
}

/// Refuses what `execve` could not take: an empty program, a NUL, an environment name that is empty or holds `=`. No arguments at all are
/// judged by whoever knows whether there is an image.
impl TryFrom<v1::Command> for Command {
    type Error = ConvertError;

    fn try_from(wire: v1::Command) -> Result<Self, ConvertError> {
        if wire.argv.first().is_some_and(String::is_empty) {
            return Err(ConvertError::new("argv", "names no program"));
        }
        if let Some(index) = wire.argv.iter().position(|argument| argument.contains('\0')) {
            return Err(ConvertError::new(format!("argv[{index}]"), "holds a NUL character"));
        }
        let env: BTreeMap<String, String> = wire.env.into_iter().collect();
        for (name, value) in &env {
            let refuse = |what: &str| Err(ConvertError::new(format!("env[`{}`]", shown(name)), what));
            if name.is_empty() {
                return refuse("the name is empty");
            }
            if name.contains(['=', '\0']) {
                return refuse("the name holds `=` or a NUL character");
            }
            if value.contains('\0') {
                return refuse("the value holds a NUL character");
            }
        }
        Ok(Self { argv: wire.argv, env })
    }
}

impl From<TaskInfo> for v1::TaskInfo {
    fn from(info: TaskInfo) -> Self {
        Self {
            task_id: info.task_id.to_string(),
            name: info.name,
            resources: Some(info.resources.into()),
            limits: (!info.limits.is_empty()).then(|| info.limits.into()),
            pids_max: info.pids_max,
            command: Some(info.command.into()),
            kill_grace_ms: info.kill_grace.map(millis),
            labels: info.labels.into_iter().collect(),
            volumes: info.volumes.into_iter().map(v1::Volume::from).collect(),
            container: (info.container != ContainerInfo::default()).then(|| info.container.into()),
            health_check: info.supervision.health_check.map(|check| (*check).into()),
            check: info.supervision.check.map(|check| (*check).into()),
            max_completion_ms: info.supervision.max_completion.map(millis),
            group: info.group.map(|group| (*group).into()),
            executor: info.execution == Execution::Executor,
            executor_task_id: match info.execution {
                Execution::By(executor) => Some(executor.to_string()),
                Execution::Agent | Execution::Executor => None,
            },
        }
    }
}

/// Refuses: text of more than [`limits::TASK_BYTES_MAX`] in all, a grace above [`limits::KILL_GRACE_MAX`], no processes at
/// all, limits of other resources than `cpus` and `mem` or below what is asked for, a group's folder of no group, what a task cannot have that
/// an executor runs, parts of cores and lent ones as its own, and what its parts refuse. Absent resources are none.
impl TryFrom<v1::TaskInfo> for TaskInfo {
    type Error = ConvertError;

    fn try_from(wire: v1::TaskInfo) -> Result<Self, ConvertError> {
        let task_id = id("task_id", &wire.task_id)?;
        let command_bytes =
            wire.command.as_ref().map_or(0, |command| command_bytes(&command.argv, &command.env));
        let beside =
            beside_bytes(&wire.volumes, &wire.container, &wire.health_check, &wire.check, &wire.group);
        let bytes = command_bytes + wire.name.len() + map_bytes(&wire.labels) + beside;
        bounded("name, command, labels, volumes, container and checks", bytes, limits::TASK_BYTES_MAX)?;
        if wire.volumes.len() > limits::VOLUMES_MAX {
            let what =
                format_args!("{} are more than the {} of a task", wire.volumes.len(), limits::VOLUMES_MAX);
            return Err(ConvertError::new("volumes", what));
        }
        if wire.pids_max == Some(0) {
            return Err(ConvertError::new("pids_max", "is 0; a task is at least one process"));
        }
        let resources: Resources = optional("resources", wire.resources)?.unwrap_or_default();
        let ceilings: Resources = optional("limits", wire.limits)?.unwrap_or_default();
        check_ceilings(&resources, &ceilings)?;
        let command: Command = message("command", wire.command)?;
        let container: ContainerInfo = optional("container", wire.container)?.unwrap_or_default();
        let execution = execution::execution(&task_id, wire.executor, wire.executor_task_id.as_deref())?;
        let by_executor = matches!(execution, Execution::By(_));
        if command.argv.is_empty() && container.image.is_none() && !by_executor {
            let what = "names no program, and there is no image that would have one";
            return Err(ConvertError::new("command.argv", what));
        }
        let group: Option<GroupInfo> = optional("group", wire.group)?;
        let volumes: Vec<Volume> = messages("volumes", wire.volumes)?;
        let shared = |volume: &Volume| matches!(volume.source, VolumeSource::Group { .. });
        if let Some(index) = volumes.iter().position(shared).filter(|_| group.is_none()) {
            let what = "is shared with the members of a task group, and the task is of none";
            return Err(ConvertError::new(format!("volumes[{index}].group_path"), what));
        }
        let max_completion =
            optional_duration("max_completion_ms", wire.max_completion_ms, limits::MAX_COMPLETION_MAX)?;
        let info = Self {
            task_id,
            name: wire.name,
            resources,
            limits: ceilings,
            pids_max: wire.pids_max,
            command,
            kill_grace: optional_duration("kill_grace_ms", wire.kill_grace_ms, limits::KILL_GRACE_MAX)?,
            labels: wire.labels.into_iter().collect(),
            volumes,
            container,
            supervision: Supervision {
                health_check: optional("health_check", wire.health_check)?.map(Box::new),
                check: optional("check", wire.check)?.map(Box::new),
                max_completion,
            },
            group: group.map(Box::new),
            execution,
        };
        execution::check(&info)?;
        if info.container.exclusive_cpus {
            let refuse = |what| ConvertError::new("container.exclusive_cpus", what);
            info.resources.exclusive_cores().map_err(refuse)?;
        }
        Ok(info)
    }
}

/// Each argument ends with a NUL, each variable with `=` and a NUL.
fn command_bytes<'a>(argv: &[String], env: impl IntoIterator<Item = (&'a String, &'a String)>) -> usize {
    let argv: usize = argv.iter().map(|argument| argument.len() + 1).sum();
    argv + env.into_iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>()
}

/// What a task brings beside its command, as it stands on the wire.
fn beside_bytes(
    volumes: &[v1::Volume],
    container: &Option<v1::ContainerInfo>,
    health_check: &Option<v1::HealthCheck>,
    check: &Option<v1::Check>,
    group: &Option<v1::GroupInfo>,
) -> usize {
    let shared = group.as_ref().and_then(|group| group.network.as_ref());
    volumes.iter().map(Message::encoded_len).sum::<usize>()
        + container.as_ref().map_or(0, Message::encoded_len)
        + health_check.as_ref().map_or(0, Message::encoded_len)
        + check.as_ref().map_or(0, Message::encoded_len)
        + shared.map_or(0, Message::encoded_len)
}

impl TaskInfo {
    /// Judges it as one that comes off the wire is judged.
    pub fn check(&self) -> Result<(), ConvertError> {
        TaskInfo::try_from(v1::TaskInfo::from(self)).map(drop)
    }

    /// The bytes that [`limits::TASK_BYTES_MAX`] bounds: whoever converts the task from the wire counts the same.
    pub fn text_bytes(&self) -> usize {
        let volumes: Vec<v1::Volume> = self.volumes.iter().cloned().map(Into::into).collect();
        let container = (self.container != ContainerInfo::default()).then(|| self.container.clone().into());
        let health_check = self.supervision.health_check.as_deref().cloned().map(Into::into);
        let check = self.supervision.check.as_deref().cloned().map(Into::into);
        let group = self.group.as_deref().cloned().map(Into::into);
        let labels: usize = self.labels.iter().map(|(name, value)| name.len() + value.len()).sum();
        command_bytes(&self.command.argv, &self.command.env)
            + self.name.len()
            + labels
            + beside_bytes(&volumes, &container, &health_check, &check, &group)
    }
}

fn check_ceilings(resources: &Resources, ceilings: &Resources) -> Result<(), ConvertError> {
    for (name, value) in ceilings.iter() {
        let refuse = |what: String| Err(ConvertError::new(format!("limits.{name}"), what));
        match value {
            Value::Scalar(milli) if matches!(name, Name::Cpus | Name::Mem) => {
                if *milli < resources.milli(name) {
                    let asked = Resources::scalar(name.clone(), resources.milli(name));
                    return refuse(format!("{value} is below what is asked for, {asked}"));
                }
            }
            _ => return refuse("cannot be limited apart; only numbers of cpus and mem can".to_owned()),
        }
    }
    Ok(())
}

impl From<TaskStatus> for v1::TaskStatus {
    fn from(status: TaskStatus) -> Self {
        Self {
            task_id: status.task_id.to_string(),
            agent_id: status.agent_id.map(|id| id.to_string()),
            state: v1::TaskState::from(status.state) as i32,
            reason: enums::optional_reason_number(status.reason),
            source: v1::Source::from(status.source) as i32,
            message: status.message,
            at_us: status.at.as_micros(),
            update_id: status.update_id.map(update_id_bytes),
            container: status.container.map(Into::into),
            healthy: status.findings.healthy,
            check: status.findings.check.map(Into::into),
            addresses: status.addresses.iter().map(ToString::to_string).collect(),
        }
    }
}

/// A message of more than [`limits::STATUS_MESSAGE_BYTES_MAX`] is cut, not refused: what is known of a task must get through.
impl TryFrom<v1::TaskStatus> for TaskStatus {
    type Error = ConvertError;

    fn try_from(wire: v1::TaskStatus) -> Result<Self, ConvertError> {
        Ok(Self {
            task_id: id("task_id", &wire.task_id)?,
            agent_id: optional_id("agent_id", wire.agent_id)?,
            state: task_state("state", wire.state)?,
            reason: enums::optional_reason(wire.reason),
            source: source("source", wire.source)?,
            message: cut(wire.message, limits::STATUS_MESSAGE_BYTES_MAX),
            at: Time::from_micros(wire.at_us),
            update_id: wire.update_id.map(|bytes| update_id("update_id", &bytes)).transpose()?,
            container: optional("container", wire.container)?,
            findings: Findings { healthy: wire.healthy, check: optional("check", wire.check)? },
            addresses: addresses(&wire.addresses)?,
        })
    }
}

/// Refuses what is no address, and more than [`limits::TASK_ADDRESSES_MAX`].
fn addresses(wire: &[String]) -> Result<Vec<IpAddr>, ConvertError> {
    if wire.len() > limits::TASK_ADDRESSES_MAX {
        let what = format_args!("{} are more than the {} of a task", wire.len(), limits::TASK_ADDRESSES_MAX);
        return Err(ConvertError::new("addresses", what));
    }
    ids("addresses", wire)
}

impl From<ContainerStatus> for v1::ContainerStatus {
    fn from(status: ContainerStatus) -> Self {
        use v1::container_status::Exit as Wire;
        Self {
            exit: status.exit.map(|exit| match exit {
                Exit::Code(code) => Wire::ExitCode(code),
                Exit::Signal(signal) => Wire::ExitSignal(signal),
            }),
            memory_limit_exceeded_bytes: status.limitation.and_then(Limitation::memory_bytes),
            disk_limit_exceeded_bytes: status.limitation.and_then(Limitation::disk_bytes),
            port_not_held: status.limitation.and_then(Limitation::port).map(u32::from),
            cpu_us: status.usage.cpu_us,
            memory_peak_bytes: status.usage.memory_peak_bytes,
            started_at_us: status.started_at.as_micros(),
            finished_at_us: status.finished_at.as_micros(),
        }
    }
}

impl TryFrom<v1::ContainerStatus> for ContainerStatus {
    type Error = ConvertError;

    fn try_from(wire: v1::ContainerStatus) -> Result<Self, ConvertError> {
        use v1::container_status::Exit as Wire;
        Ok(Self {
            exit: wire.exit.map(|exit| match exit {
                Wire::ExitCode(code) => Exit::Code(code),
                Wire::ExitSignal(signal) => Exit::Signal(signal),
            }),
            limitation: match (wire.memory_limit_exceeded_bytes, wire.disk_limit_exceeded_bytes) {
                (Some(limit_bytes), _) => Some(Limitation::Memory { limit_bytes }),
                (None, Some(limit_bytes)) => Some(Limitation::Disk { limit_bytes }),
                (None, None) => {
                    let port =
                        wire.port_not_held.map(|port| network::port("port_not_held", port)).transpose()?;
                    port.map(|port| Limitation::Port { port })
                }
            },
            usage: Usage { cpu_us: wire.cpu_us, memory_peak_bytes: wire.memory_peak_bytes },
            started_at: Time::from_micros(wire.started_at_us),
            finished_at: Time::from_micros(wire.finished_at_us),
        })
    }
}

from_ref!(
    Command => v1::Command,
    TaskInfo => v1::TaskInfo,
    TaskStatus => v1::TaskStatus,
    ContainerStatus => v1::ContainerStatus,
);
