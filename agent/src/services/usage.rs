//! `ReadUsage`: what the tasks of this agent use, all at once.

use std::sync::Arc;

use apportion_agent_core::{Ceilings, View};
use apportion_containerizer::{ContainerId, Containerizer};
use apportion_proto::v1::{ReadUsageRequest, ReadUsageResponse, TaskUsage};
use apportion_types::{FrameworkId, TaskId, TaskState, container::Reading};
use tonic::Status;

use crate::{clock::Clock, executors::tasks_in};

/// What is needed to tell usage beside what is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) clock: Clock,
    /// Processes and threads of a task that does not say.
    pub(crate) pids_default: u64,
}

/// What the containers of all tasks that are meant use. A task that ends meanwhile is left out.
pub(super) async fn read(
    request: ReadUsageRequest,
    view: Arc<View>,
    containerizer: &Arc<dyn Containerizer>,
    measure: Measure,
) -> Result<ReadUsageResponse, Status> {
    let ReadUsageRequest { framework_id, task_id } = request;
    let invalid = |error: String| Status::invalid_argument(error);
    let framework_id = match framework_id.is_empty() {
        true => None,
        false => Some(FrameworkId::new(framework_id).map_err(|error| invalid(error.to_string()))?),
    };
    let task_id = match task_id.is_empty() {
        true => None,
        false => Some(TaskId::new(task_id).map_err(|error| invalid(error.to_string()))?),
    };
    let running = view.tasks.iter().filter(|((framework, id), task)| {
        matches!(task.state, TaskState::Running | TaskState::Killing)
            && framework_id.as_ref().is_none_or(|wanted| wanted == framework)
            && task_id.as_ref().is_none_or(|wanted| wanted == id)
    });
    let (keys, running): (Vec<_>, Vec<_>) = running.unzip();
    let ids: Vec<ContainerId> = running.iter().map(|task| ContainerId(task.container_id.0.clone())).collect();
    // Before they are looked at: those that must be asked one by one may take long to answer.
    let at_us = measure.clock.now().as_micros();
    let readings = containerizer.usage(&ids).await;
    let tasks = keys.into_iter().zip(running).zip(readings).filter_map(|((key, task), reading)| {
        let (framework_id, task_id) = key;
        let Reading { usage, memory_bytes, pids, pressure } = reading.ok()?;
        let mut ceilings = Ceilings::of(&task.info, measure.pids_default);
        let run = tasks_in(&view, key, task).skip(1);
        run.for_each(|run| ceilings.add(&Ceilings::asked(&run.info, measure.pids_default)));
        Some(TaskUsage {
            framework_id: framework_id.to_string(),
            task_id: task_id.to_string(),
            container_id: task.container_id.0.clone(),
            at_us,
            cpu_us: usage.cpu_us,
            memory_bytes,
            memory_peak_bytes: usage.memory_peak_bytes,
            pids,
            cpus_limit_milli: Some(ceilings.cpus_limit_milli),
            memory_limit_bytes: Some(ceilings.memory_limit_bytes),
            pids_max: Some(ceilings.pids_max),
            pressure: Some(pressure.into()),
        })
    });
    // In the order of the view, which is that of the answer.
    Ok(ReadUsageResponse { tasks: tasks.collect() })
}
