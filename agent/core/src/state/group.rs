//! A task group on this agent: what is to happen in it follows from how its members are, and is kept nowhere else.

use std::collections::BTreeMap;

use apportion_types::{FrameworkId, GroupId, Part, Reason, TaskState};

use super::task::{Launcher, Phase, Task};
use crate::event::TaskKey;

/// A task group's name within the cluster.
pub(crate) type GroupKey = (FrameworkId, GroupId);

/// What is to happen in a task group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Something of it is awaited, or it is over.
    Nothing,
    /// The turn of these has come.
    Launch(Vec<TaskKey>),
    /// It is to end, because of one of its tasks: each that is not asked to end yet is asked.
    End {
        /// What of that is told to the others.
        reason: Reason,
        /// The same, for people.
        why: String,
    },
    /// Its main tasks have finished, and it is this sidecar's turn to end.
    Finish(TaskKey),
}

/// The tasks of one group that are here, in the order of their places. Those that are gone have ended as they should: when one does
/// otherwise, every other is asked to end before its end can be acknowledged.
pub(crate) struct Members<'a>(Vec<(&'a TaskKey, &'a Task)>);

impl Task {
    /// Its part in its task group.
    pub(crate) fn part(&self) -> Part {
        self.record.info.group.as_ref().expect("only asked of members of a group").part
    }

    fn is_live(&self) -> bool {
        !self.state.is_terminal()
    }

    /// True once those that wait for it may go on.
    fn is_ready(&self) -> bool {
        let checked = self.record.info.supervision.health_check.is_some();
        self.phase == Phase::Running && (!checked || self.known.findings.healthy == Some(true))
    }

    /// Whose wish it is that its whole group ends, if it is anybody's.
    fn wished(&self) -> Option<Reason> {
        let kill = self.kill.filter(|kill| kill.reason != Reason::TaskGroupFinished);
        kill.map(|kill| if kill.is_failure() { Reason::TaskGroupFailed } else { kill.reason })
    }
}

impl<'a> Members<'a> {
    /// Those at these places.
    pub(crate) fn new(places: &'a BTreeMap<u32, TaskKey>, tasks: &'a BTreeMap<TaskKey, Task>) -> Self {
        Self(places.values().map(|key| (key, &tasks[key])).collect())
    }

    fn of(&self, part: Part) -> impl DoubleEndedIterator<Item = (&'a TaskKey, &'a Task)> {
        self.0.iter().copied().filter(move |(_, task)| task.part() == part)
    }

    fn live(&self, part: Part) -> impl DoubleEndedIterator<Item = (&'a TaskKey, &'a Task)> {
        self.of(part).filter(|(_, task)| task.is_live())
    }

    /// True when every main task has ended.
    pub(crate) fn is_done(&self) -> bool {
        self.live(Part::Main).next().is_none()
    }

    /// What is to happen now. Asked again when that is done, until there is nothing.
    pub(crate) fn next(&self) -> Next {
        if let Some(end) = self.end() {
            let asked = |(_, task): &(&TaskKey, &Task)| !task.is_live() || task.is_to_end();
            return if self.0.iter().all(asked) { Next::Nothing } else { end };
        }
        if self.is_done() {
            return match self.live(Part::Sidecar).next_back() {
                Some((key, task)) if !task.is_to_end() => Next::Finish(key.clone()),
                _ => Next::Nothing,
            };
        }
        let turn = match self.in_front() {
            Some((key, task)) if task.phase == Phase::Waiting => vec![key.clone()],
            Some(_) => Vec::new(),
            None => {
                let waits = |(_, task): &(&TaskKey, &Task)| task.phase == Phase::Waiting;
                self.live(Part::Main).filter(waits).map(|(key, _)| key.clone()).collect()
            }
        };
        if turn.is_empty() { Next::Nothing } else { Next::Launch(turn) }
    }

    /// Why it is to end, if it is.
    fn end(&self) -> Option<Next> {
        let done = self.is_done();
        self.0.iter().find_map(|(key, task)| {
            let well = task.state == TaskState::Finished && task.part() != Part::Sidecar;
            let (reason, what) = if task.is_live() {
                // What befalls a sidecar at the end of its work is its own affair.
                let reason = task.wished().filter(|reason| *reason != Reason::TaskGroupFailed || !done)?;
                (reason, "is to end".to_owned())
            } else if well || task.part() == Part::Sidecar && done {
                return None;
            } else if task.state == TaskState::Finished {
                (Reason::TaskGroupFailed, "ended before its main tasks".to_owned())
            } else {
                (task.wished().unwrap_or(Reason::TaskGroupFailed), format!("ended as {}", task.state))
            };
            Some(Next::End {
                reason,
                why: format!("{} task `{}` of its task group {what}", task.part(), key.1),
            })
        })
    }

    /// The init task or sidecar that those behind it wait for.
    fn in_front(&self) -> Option<(&'a TaskKey, &'a Task)> {
        self.live(Part::Init).next().or_else(|| self.live(Part::Sidecar).find(|(_, task)| !task.is_ready()))
    }

    /// For what those wait whose turn has not come, for people.
    pub(crate) fn awaited(&self) -> String {
        match self.in_front() {
            None => "waits for its turn".to_owned(),
            Some((key, task)) if task.part() == Part::Init => {
                format!("waits for init task `{}` to finish", key.1)
            }
            Some((key, task)) if task.phase == Phase::Running => {
                format!("waits for sidecar `{}` to be healthy", key.1)
            }
            Some((key, _)) => format!("waits for sidecar `{}` to run", key.1),
        }
    }

    /// Those whose turn has not come.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &'a TaskKey> {
        self.0.iter().filter(|(_, task)| task.phase == Phase::Waiting).map(|(key, _)| *key)
    }

    /// Panics when a task had its turn before those in front of it were through; but for those of an earlier process, of which a damaged
    /// log may not know that they are.
    pub(crate) fn check(&self) {
        let begun = |(_, task): &(&TaskKey, &Task)| {
            let waits = matches!(task.phase, Phase::Checkpointing | Phase::Waiting);
            !waits && !matches!(task.phase, Phase::Ended { .. }) && task.launcher == Launcher::Here
        };
        let inits = self.live(Part::Init).filter(begun).count();
        assert!(inits <= 1, "init tasks run one after another");
        let behind = [Part::Sidecar, Part::Main].into_iter().flat_map(|part| self.of(part));
        let early = behind.filter(begun).count();
        assert!(self.live(Part::Init).next().is_none() || early == 0, "init tasks first");
        let waits = |(_, task): &(&TaskKey, &Task)| task.phase == Phase::Waiting;
        let sidecars = self.live(Part::Sidecar).any(|member| waits(&member));
        assert!(!sidecars || !self.of(Part::Main).any(|member| begun(&member)), "sidecars before main tasks");
    }
}
