//! `ReadUsage`: what the tasks of this agent use, all at once.

use std::sync::Arc;

use apportion_agent_core::{Ceilings, View};
use apportion_containerizer::{ContainerId, Containerizer};
use apportion_proto::v1::{ReadUsageRequest, ReadUsageResponse, TaskUsage};
use apportion_types::{FrameworkId, TaskId, TaskState};
use tokio::task::JoinSet;
use tonic::Status;

use crate::clock::Clock;

/// Runners asked at once: enough to hide the way to them, too few to be felt by the agent's other work.
const ASKED_MAX: usize = 32;

/// What is needed to tell usage beside what is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measure {
    pub(crate) clock: Clock,
    /// Processes and threads of a task that does not say.
    pub(crate) pids_default: u64,
}

/// Asks the runners of all tasks that are meant. A task that ends meanwhile is left out.
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
    let (mut asked, mut answers) = (JoinSet::new(), Vec::new());
    for ((framework_id, task_id), task) in running {
        if asked.len() == ASKED_MAX
            && let Some(Ok(answer)) = asked.join_next().await
        {
            answers.extend(answer);
        }
        let ceilings = Ceilings::of(&task.info, measure.pids_default);
        let mut usage = TaskUsage {
            framework_id: framework_id.to_string(),
            task_id: task_id.to_string(),
            container_id: task.container_id.0.clone(),
            cpus_limit_milli: Some(ceilings.cpus_limit_milli),
            memory_limit_bytes: Some(ceilings.memory_limit_bytes),
            pids_max: Some(ceilings.pids_max),
            ..TaskUsage::default()
        };
        let (containerizer, id) = (containerizer.clone(), ContainerId(task.container_id.0.clone()));
        asked.spawn(async move {
            let used = containerizer.usage(&id).await.ok()?;
            usage.at_us = measure.clock.now().as_micros();
            usage.cpu_us = used.cpu_us;
            usage.memory_bytes = used.memory_bytes;
            usage.memory_peak_bytes = used.memory_peak_bytes;
            usage.pids = used.pids;
            Some(usage)
        });
    }
    while let Some(answer) = asked.join_next().await {
        answers.extend(answer.ok().flatten());
    }
    answers.sort_by(|a, b| (&a.framework_id, &a.task_id).cmp(&(&b.framework_id, &b.task_id)));
    Ok(ReadUsageResponse { tasks: answers })
}
