//! What the containerizer says: a container was started, was not, has ended, was lost.

use std::{net::IpAddr, time::Duration};

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
    state::task::{Kill, Launcher, Phase, Task},
};

/// Why nobody saw the end of what ran when the machine was switched off.
const MACHINE_RESTARTED: &str = "the machine was restarted";

impl AgentCore {
    pub(super) fn launched(
        &mut self,
        now: Time,
        container_id: ContainerId,
        addresses: Vec<IpAddr>,
        actions: &mut Actions,
    ) {
        let Some(key) = self.task_of(&container_id, "was launched", actions) else { return };
        let task = self.tasks.get_mut(&key).expect("a container belongs to a task");
        let found = task.phase == Phase::Attaching;
        assert!(found || task.phase == Phase::Launching, "container {container_id} is launched once");
        task.phase = Phase::Running;
        task.addresses = addresses;
        let (kill, state, executes) = (task.kill, task.state, task.record.info.is_executor());
        // That of an executor which is not to end is, with its tasks, when all else is known.
        if !executes || kill.is_some() {
            self.hold(&key, actions);
        }
        self.supervise(now, &key, found, actions);
        match kill {
            Some(_) if found => self.signal(now, &key, actions),
            Some(_) => self.send_kill(now, &key, actions),
            None if state == TaskState::Running => {}
            None => self.update(now, &key, Draft::new(TaskState::Running, ""), actions),
        }
        self.group_changed(&key);
        self.task_changed(&key);
    }

    pub(super) fn launch_progress(
        &mut self,
        now: Time,
        container_id: ContainerId,
        message: String,
        actions: &mut Actions,
    ) {
        let Some(key) = self.task_of(&container_id, "is being launched", actions) else { return };
        self.tasks.get_mut(&key).expect("a container belongs to a task").known.progress = message;
        self.tell_more(now, &key, actions);
    }

    /// A container that has ended meanwhile is past caring.
    pub(super) fn limit_exceeded(
        &mut self,
        now: Time,
        container_id: ContainerId,
        limitation: Limitation,
        actions: &mut Actions,
    ) {
        let Some(key) = self.task_of(&container_id, "is over a limit", actions) else { return };
        let task = self.tasks.get_mut(&key).expect("a container belongs to a task");
        if task.phase != Phase::Running {
            return;
        }
        task.limitation.get_or_insert(limitation);
        let (reason, message) = over(limitation, None);
        self.kill(now, &key, Some(Duration::ZERO), reason, Some(message), actions);
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
            (None, kind) => Draft::new(TaskState::Failed, message).because(match kind {
                LaunchFailureKind::Command => Reason::CommandNotExecuted,
                LaunchFailureKind::Image => Reason::ImageNotAvailable,
                LaunchFailureKind::Artifact => Reason::ArtifactNotFetched,
                LaunchFailureKind::Network => Reason::NetworkNotAvailable,
                LaunchFailureKind::Unenforceable => Reason::NotEnforceable,
                LaunchFailureKind::Container | LaunchFailureKind::Cancelled => Reason::ContainerLaunchFailed,
            }),
        };
        self.update(now, &key, draft, actions);
    }

    /// What befalls a task from here on comes too late to be a cause of its end.
    pub(super) fn ending(&mut self, container_id: ContainerId, actions: &mut Actions) {
        let Some(key) = self.task_of(&container_id, "is ending", actions) else { return };
        let task = self.tasks.get_mut(&key).expect("a container belongs to a task");
        let may_run = matches!(task.phase, Phase::Attaching | Phase::Running);
        assert!(may_run, "container {container_id} ends once, after its launch");
        over_meanwhile(task);
        task.phase = Phase::Ending;
        self.end_timers(&key);
        self.task_changed(&key);
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
        let may_end = matches!(task.phase, Phase::Attaching | Phase::Running | Phase::Ending);
        assert!(may_end, "container {container_id} ends once, after its launch");
        over_meanwhile(task);
        task.phase = Phase::Ended { kept: true };
        let limitation = termination.limitation.or(task.limitation);
        let draft = match termination.exit {
            None if task.launcher == Launcher::BeforeReboot => lost_with_machine(task.kill),
            _ => ended(task.kill, Termination { limitation, ..termination }),
        };
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
        let may_run = matches!(task.phase, Phase::Attaching | Phase::Running | Phase::Ending);
        assert!(may_run, "container {container_id} ends once, after its launch");
        task.phase = Phase::Ended { kept: true };
        let message = match task.launcher {
            Launcher::BeforeReboot => MACHINE_RESTARTED.to_owned(),
            Launcher::Here | Launcher::Before => message,
        };
        let draft = lost(task.kill, message);
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

/// What has ended while there was no agent has ended by itself, whatever was wished of it before that was found.
pub(super) fn over_meanwhile(task: &mut Task) {
    if task.phase == Phase::Attaching {
        task.kill = task.kill.filter(|kill| !kill.while_attaching);
    }
}

/// The terminal status of a task that was lost when the machine was switched off.
pub(super) fn lost_with_machine(kill: Option<Kill>) -> Draft {
    lost(kill, MACHINE_RESTARTED.to_owned())
}

/// The terminal status of a task whose end nobody saw.
fn lost(kill: Option<Kill>, message: String) -> Draft {
    match kill {
        Some(kill) if kill.is_failure() => {
            let message = format!("{}; then its container was lost: {message}", failing(kill.reason));
            Draft::new(TaskState::Failed, message).because(kill.reason)
        }
        Some(kill) => {
            Draft::new(TaskState::Killed, format!("after the kill its container was lost: {message}"))
                .because(kill.told_reason())
        }
        None => Draft::new(TaskState::Failed, message).because(Reason::ContainerLost),
    }
}

/// The terminal status of a task whose container has ended.
fn ended(kill: Option<Kill>, termination: Termination) -> Draft {
    let Termination { exit, limitation, usage, started_at, finished_at } = termination;
    let how = exit.map_or("nobody was left to see how it ended".to_owned(), |exit| exit.to_string());
    let draft = match (kill, limitation, exit) {
        (Some(Kill { reason: reason @ Reason::TaskGroupFinished, .. }), _, Some(Exit::Code(0))) => {
            Draft::new(TaskState::Finished, how).because(reason)
        }
        (Some(kill), _, _) if !kill.is_failure() => {
            Draft::new(TaskState::Killed, format!("killed: {how}")).because(kill.told_reason())
        }
        (_, Some(limitation), _) => {
            let (reason, message) = over(limitation, usage.memory_peak_bytes);
            Draft::new(TaskState::Failed, message).because(reason)
        }
        (Some(kill), None, _) => {
            Draft::new(TaskState::Failed, format!("{}: {how}", failing(kill.reason))).because(kill.reason)
        }
        (None, None, None) => Draft::new(TaskState::Failed, how).because(Reason::ContainerLost),
        (None, None, Some(Exit::Code(0))) => {
            Draft::new(TaskState::Finished, how).because(Reason::CommandExited)
        }
        (None, None, Some(_)) => Draft::new(TaskState::Failed, how).because(Reason::CommandExited),
    };
    draft.with_container(ContainerStatus { exit, limitation, usage, started_at, finished_at })
}

/// What is told of a container that was over a limit.
fn over(limitation: Limitation, memory_peak_bytes: Option<u64>) -> (Reason, String) {
    match limitation {
        Limitation::Memory { limit_bytes } => {
            let peak = memory_peak_bytes.map(|peak| format!("; the most that it held was {}", mib(peak)));
            let message =
                format!("over its memory limit of {}{}", mib(limit_bytes), peak.unwrap_or_default());
            (Reason::ContainerLimitationMemory, message)
        }
        Limitation::Disk { limit_bytes } => {
            (Reason::ContainerLimitationDisk, format!("over its disk limit of {}", mib(limit_bytes)))
        }
        Limitation::Port { port } => {
            let message = format!("listened on port {port} of its agent, which it does not hold");
            (Reason::ContainerLimitationPorts, message)
        }
    }
}

/// What the agent has killed a task for, after a restart too.
pub(super) fn failing(reason: Reason) -> &'static str {
    match reason {
        Reason::Unhealthy => "killed because its health check failed too often",
        Reason::MaxCompletionTime => "killed because it has run as long as it may",
        Reason::ContainerLimitationDisk => "killed because it was over its disk limit",
        Reason::ContainerLimitationPorts => "killed because it listened on a port that it does not hold",
        Reason::ExecutorTerminated => "killed because its executor was to end, or could not end a task",
        Reason::ExecutorSubscribeTimeout => "killed because an executor with tasks had not subscribed",
        _ => "killed because it was over a limit",
    }
}

/// Bytes as MiB with at most one decimal.
fn mib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10 + (1 << 19)) >> 20;
    match tenths % 10 {
        0 => format!("{} MiB", tenths / 10),
        tenth => format!("{}.{tenth} MiB", tenths / 10),
    }
}
