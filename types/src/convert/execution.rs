//! What runs a task.

use super::{ConvertError, id};
use crate::{Execution, TaskId, TaskInfo};

/// What `executor` and `executor_task_id` say together; a task that says both, or names itself, is refused.
pub(super) fn execution(
    task_id: &TaskId,
    executor: bool,
    executor_task_id: Option<&str>,
) -> Result<Execution, ConvertError> {
    let refuse = |what| Err(ConvertError::new("executor_task_id", what));
    match (executor, executor_task_id) {
        (false, None) => Ok(Execution::Agent),
        (true, None) => Ok(Execution::Executor),
        (true, Some(_)) => {
            refuse("is set of a task that is an executor itself, which no other runs".to_owned())
        }
        (false, Some(text)) => match id("executor_task_id", text)? {
            own if own == *task_id => {
                refuse(format!("is `{own}`, the task itself; name the executor that runs it"))
            }
            named => Ok(Execution::By(named)),
        },
    }
}

/// Refuses what a task cannot have that an executor runs, and what an executor cannot.
pub(super) fn check(info: &TaskInfo) -> Result<(), ConvertError> {
    let Some(executor) = info.executor() else {
        return match info.is_executor() && info.group.is_some() {
            true => Err(ConvertError::new("group", "is set of an executor, which is of no task group")),
            false => Ok(()),
        };
    };
    let container = &info.container;
    let own = [
        ("volumes", !info.volumes.is_empty()),
        ("container.image", container.image.is_some()),
        ("container.user", container.user.is_some()),
        ("container.working_dir", container.working_dir.is_some()),
        ("container.artifacts", !container.artifacts.is_empty()),
        ("container.rlimits", !container.rlimits.is_empty()),
        ("container.network", container.network.is_some()),
        ("container.swap_bytes", container.swap_bytes != 0),
        ("container.io", container.io.is_some()),
        ("container.exclusive_cpus", container.exclusive_cpus),
        ("health_check", info.supervision.health_check.is_some()),
        ("check", info.supervision.check.is_some()),
        ("group", info.group.is_some()),
    ];
    if let Some((field, _)) = own.into_iter().find(|(_, set)| *set) {
        let what = format_args!(
            "is set, and executor `{executor}` runs the task in its own container; leave it out, or give it to the executor"
        );
        return Err(ConvertError::new(field, what));
    }
    if info.resources.entries().any(|entry| entry.volume().is_some()) {
        let what = format_args!(
            "hold a volume, and executor `{executor}` runs the task in its own container; give the volume to the executor"
        );
        return Err(ConvertError::new("resources", what));
    }
    Ok(())
}
