//! What the containerizer says: a container was started, was not, has ended, was lost.

use apportion_types::{
    ContainerStatus, Reason, TaskState, Time,
    container::{Exit, Limitation, Termination},
};

use crate::{
    AgentCore,
    action::{Action, Actions},
    container::{ContainerId, Signal},
    event::{LaunchFailure, LaunchFailureKind, TaskKey},
    handle::{note, update::Draft},
    state::task::{Kill, Phase},
};

impl AgentCore {
    pub(super) fn launched(&mut self, now: Time, container_id: ContainerId, actions: &mut Actions) {
        let Some(key) = self.task_of(&container_id, "was launched", actions) else { return };
        let task = self.tasks.get_mut(&key).expect("a container belongs to a task");
        let found = task.phase == Phase::Attaching;
        assert!(found || task.phase == Phase::Launching, "container {container_id} is launched once");
        task.phase = Phase::Running;
        match task.kill {
            Some(_) if found => self.signal(now, &key, actions),
            Some(_) => self.send_kill(now, &key, actions),
            None if task.state == TaskState::Running => {}
            None => self.update(now, &key, Draft::new(TaskState::Running, ""), actions),
        }
    }

    pub(super) fn launch_failed(
        &mut self,
        now: Time,
        container_id: ContainerId,
        failure: LaunchFailure,
        actions: &mut Actions,
    ) {
        let Some(key) = self.task_of(&container_id, "was not launched", actions) else { return };
        let task = self.tasks.get_mut(&key).expect("a container belongs to a task");
        assert_eq!(task.phase, Phase::Launching, "container {container_id} is launched once");
        task.phase = Phase::Ended { kept: false };
        self.view.counters.launch_failures += 1;
        let LaunchFailure { kind, message } = failure;
        let draft = match (task.kill, kind) {
            (Some(kill), LaunchFailureKind::Cancelled) => {
                Draft::new(TaskState::Killed, "killed before it was started").because(kill.told_reason())
            }
            (Some(kill), _) => {
                let message = format!("killed while it was being started, which failed: {message}");
                Draft::new(TaskState::Killed, message).because(kill.told_reason())
            }
            (None, LaunchFailureKind::Command) => {
                Draft::new(TaskState::Failed, message).because(Reason::CommandNotExecuted)
            }
            (None, LaunchFailureKind::Container | LaunchFailureKind::Cancelled) => {
                Draft::new(TaskState::Failed, message).because(Reason::ContainerLaunchFailed)
            }
        };
        self.update(now, &key, draft, actions);
    }

    pub(super) fn terminated(
        &mut self,
        now: Time,
        container_id: ContainerId,
        termination: Termination,
        actions: &mut Actions,
    ) {
        let Some(key) = self.task_of(&container_id, "has ended", actions) else { return };
        let task = self.tasks.get_mut(&key).expect("a container belongs to a task");
        assert_eq!(task.phase, Phase::Running, "container {container_id} ends once, after its launch");
        task.phase = Phase::Ended { kept: true };
        let draft = ended(task.kill, termination);
        self.update(now, &key, draft, actions);
    }

    /// Nobody will see its end. It is told to end, in case something of it is left.
    pub(super) fn container_lost(
        &mut self,
        now: Time,
        container_id: ContainerId,
        message: String,
        actions: &mut Actions,
    ) {
        let Some(key) = self.task_of(&container_id, "was lost", actions) else { return };
        let task = self.tasks.get_mut(&key).expect("a container belongs to a task");
        let may_run = matches!(task.phase, Phase::Attaching | Phase::Running);
        assert!(may_run, "container {container_id} ends once, after its launch");
        task.phase = Phase::Ended { kept: true };
        let draft = match task.kill {
            Some(kill) => {
                Draft::new(TaskState::Killed, format!("after the kill its container was lost: {message}"))
                    .because(kill.told_reason())
            }
            None => Draft::new(TaskState::Failed, message).because(Reason::ContainerLost),
        };
        actions.push(Action::Signal { container_id, signal: Signal::Kill });
        self.update(now, &key, draft, actions);
    }

    fn task_of(&self, container_id: &ContainerId, what: &str, actions: &mut Actions) -> Option<TaskKey> {
        let key = self.containers.get(container_id).cloned();
        if key.is_none() {
            note(
                actions,
                format!("container {container_id} {what}, but it is none of this agent's; ignored"),
            );
        }
        key
    }
}

/// The terminal status of a task whose container has ended.
fn ended(kill: Option<Kill>, termination: Termination) -> Draft {
    let Termination { exit, limitation, usage, started_at, finished_at } = termination;
    let how = exit.map_or("nobody was left to see how it ended".to_owned(), |exit| exit.to_string());
    let draft = match (kill, limitation, exit) {
        (Some(kill), _, _) => {
            Draft::new(TaskState::Killed, format!("killed: {how}")).because(kill.told_reason())
        }
        (None, Some(Limitation::Memory { limit_bytes }), _) => {
            let peak =
                usage.memory_peak_bytes.map(|peak| format!("; the most that it held was {}", mib(peak)));
            let message =
                format!("over its memory limit of {}{}", mib(limit_bytes), peak.unwrap_or_default());
            Draft::new(TaskState::Failed, message).because(Reason::ContainerLimitationMemory)
        }
        (None, Some(Limitation::Disk { limit_bytes }), _) => {
            let message = format!("over its disk limit of {}", mib(limit_bytes));
            Draft::new(TaskState::Failed, message).because(Reason::ContainerLimitationDisk)
        }
        (None, None, None) => Draft::new(TaskState::Failed, how).because(Reason::ContainerLost),
        (None, None, Some(Exit::Code(0))) => {
            Draft::new(TaskState::Finished, how).because(Reason::CommandExited)
        }
        (None, None, Some(_)) => Draft::new(TaskState::Failed, how).because(Reason::CommandExited),
    };
    draft.with_container(ContainerStatus { exit, limitation, usage, started_at, finished_at })
}

/// Bytes as MiB with at most one decimal.
fn mib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10 + (1 << 19)) >> 20;
    match tenths % 10 {
        0 => format!("{} MiB", tenths / 10),
        tenth => format!("{}.{tenth} MiB", tenths / 10),
    }
}
