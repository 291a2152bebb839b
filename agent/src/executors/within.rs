//! Which tasks are in which container.

use apportion_agent_core::{TaskKey, TaskView, View};

/// True for a task that has no container of its own: an executor runs it.
pub(crate) fn is_within(task: &TaskView) -> bool {
    task.info.executor().is_some()
}

/// The tasks in the container of this one: itself and, if it is an executor, those that it runs which have not ended.
pub(crate) fn tasks_in<'a>(
    view: &'a View,
    (framework_id, task_id): &'a TaskKey,
    task: &'a TaskView,
) -> impl Iterator<Item = &'a TaskView> {
    let all = task.info.is_executor().then(|| view.tasks.iter()).into_iter().flatten();
    let run = all.filter(move |((framework, _), other)| {
        framework == framework_id && other.info.executor() == Some(task_id) && !other.state.is_terminal()
    });
    std::iter::once(task).chain(run.map(|(_, other)| &**other))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use apportion_agent_core::ContainerId;
    use apportion_types::{Command, Execution, FrameworkId, TaskId, TaskInfo, TaskState};

    use super::*;

    fn task(name: &str, execution: Execution, state: TaskState) -> (TaskKey, Arc<TaskView>) {
        let info = TaskInfo {
            task_id: TaskId::new(name).unwrap(),
            name: name.to_owned(),
            resources: Default::default(),
            limits: Default::default(),
            pids_max: None,
            volumes: Vec::new(),
            command: Command { argv: Vec::new(), env: Default::default() },
            kill_grace: None,
            labels: Default::default(),
            container: Default::default(),
            supervision: Default::default(),
            group: None,
            execution,
        };
        let key = (FrameworkId::new("f1").unwrap(), info.task_id.clone());
        let (role, container_id) = (Default::default(), ContainerId(name.to_owned()));
        (key, Arc::new(TaskView { role, info: Arc::new(info), container_id, state, status: None }))
    }

    #[test]
    fn what_an_executor_runs_is_in_its_container_until_it_has_ended() {
        let by = |name| Execution::By(TaskId::new(name).unwrap());
        let tasks = [
            task("plain", Execution::Agent, TaskState::Running),
            task("pool", Execution::Executor, TaskState::Running),
            task("runs", by("pool"), TaskState::Running),
            task("waits", by("pool"), TaskState::Starting),
            task("over", by("pool"), TaskState::Finished),
            task("elsewhere", by("other"), TaskState::Running),
        ];
        let view = View { tasks: tasks.iter().cloned().collect(), ..View::default() };
        let within = |at: usize| -> Vec<&str> {
            let (key, task): &(TaskKey, Arc<TaskView>) = &tasks[at];
            tasks_in(&view, key, task).map(|task| task.info.task_id.as_str()).collect()
        };
        assert_eq!(within(0), ["plain"]);
        assert_eq!(within(1), ["pool", "runs", "waits"]);
        assert_eq!(tasks.iter().filter(|(_, task)| is_within(task)).count(), 4);
    }
}
