//! What the tasks of an agent use.

use apportion_proto::v1::ReadUsageRequest;
use apportion_types::{FrameworkId, TaskId, Time, pressure::Pressure};

use super::{SandboxError, connect};

/// What a task has used, and holds now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskUsage {
    /// Its framework.
    pub framework_id: FrameworkId,
    /// The task.
    pub task_id: TaskId,
    /// Which run of it; a later one counts from nothing again.
    pub container_id: String,
    /// When this was measured, by the agent's clock.
    pub at: Time,
    /// Processor time so far, user and system.
    pub cpu_us: u64,
    /// The memory that it is charged with now, with what it has cached of files; none where nothing measures it.
    pub memory_bytes: Option<u64>,
    /// The most of it at once.
    pub memory_peak_bytes: Option<u64>,
    /// Its processes and threads now.
    pub pids: Option<u64>,
    /// How much it waits for what it lacks; none where the kernel does not count it.
    pub pressure: Pressure,
    /// The most processor time, in thousandths of a processor.
    pub cpus_limit_milli: Option<u64>,
    /// The most memory.
    pub memory_limit_bytes: Option<u64>,
    /// The most processes and threads.
    pub pids_max: Option<u64>,
}

/// What the running tasks of an agent use, all or those of one framework, by framework and task.
pub async fn usage(
    address: &str,
    framework_id: Option<&FrameworkId>,
) -> Result<Vec<TaskUsage>, SandboxError> {
    let request = ReadUsageRequest {
        framework_id: framework_id.map(ToString::to_string).unwrap_or_default(),
        task_id: String::new(),
    };
    let answer = connect(address).await?.read_usage(request).await;
    let answer = answer.map_err(|status| SandboxError::agent(address, &status))?.into_inner();
    let tasks = answer.tasks.into_iter().filter_map(|task| {
        Some(TaskUsage {
            // What an agent calls so is one; another would be of no use to anybody.
            framework_id: FrameworkId::new(task.framework_id).ok()?,
            task_id: TaskId::new(task.task_id).ok()?,
            container_id: task.container_id,
            at: Time::from_micros(task.at_us),
            cpu_us: task.cpu_us,
            memory_bytes: task.memory_bytes,
            memory_peak_bytes: task.memory_peak_bytes,
            pids: task.pids,
            pressure: task.pressure.map(Into::into).unwrap_or_default(),
            cpus_limit_milli: task.cpus_limit_milli,
            memory_limit_bytes: task.memory_limit_bytes,
            pids_max: task.pids_max,
        })
    });
    Ok(tasks.collect())
}
