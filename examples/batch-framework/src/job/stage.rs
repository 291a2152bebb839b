//! One stage of a job: tasks of one kind, and what they wait for.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{
    ImageReference, IoLimits, Resources,
    resources::{Name, Value},
};
use glob::Pattern;

use super::{
    Elements,
    inputs::Input,
    template::{Template, Values},
};
use crate::state::{Dependency, IfFailed, Policy};

/// One task for each element, all of one kind.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its name; empty when it is all of the job.
    pub name: String,
    /// Which of its tasks wait for which others.
    pub after: Vec<Dependency>,
    /// What becomes of a task when one that it waits for does not succeed.
    pub if_failed: IfFailed,
    /// Whether its tasks start together, on as many agents as they need, or not at all.
    pub gang: bool,
    /// When attempts are ended, and tasks are tried again.
    pub policy: Policy,
    /// What each task asks for, to begin with.
    pub resources: Resources,
    /// What each task sees as its root; its command may then be empty, for the image's own.
    pub image: Option<ImageReference>,
    /// Who each task runs as; the image's, else the agent's own user, when none.
    pub user: Option<String>,
    /// The network of each task; the host's when none.
    pub network: Option<String>,
    /// From TERM to KILL; the agent's default when none.
    pub kill_grace: Option<Duration>,
    /// Whether its cpus, a whole number of them, are cores that nothing else runs on which the agent runs.
    pub exclusive_cpus: bool,
    /// How many processes and threads one attempt may have; the agent's default when none.
    pub pids_max: Option<u64>,
    /// What one attempt may do with the disk of its agent; as much as that gives when none.
    pub io: Option<IoLimits>,
    /// Files of a task's sandbox that are kept when it has succeeded.
    pub collect: Vec<Pattern>,
    pub(super) inputs: Vec<Input>,
    pub(super) elements: Elements,
    pub(super) argv: Vec<Template>,
    pub(super) env: BTreeMap<String, Template>,
}

impl Stage {
    /// How many tasks it has.
    pub fn tasks(&self) -> usize {
        self.elements.count()
    }

    /// What a task asks for whose memory has grown so many steps; the most when there are fewer, as of a job that goes on with less.
    pub fn resources(&self, step: u32) -> Resources {
        let mut resources = self.resources.clone();
        let memory_milli = &self.policy.retry.memory_milli;
        if let Some(milli) = memory_milli.get(step as usize).or(memory_milli.last()) {
            let more = milli - resources.milli(&Name::Mem);
            resources.insert(Name::Mem, Value::Scalar(more));
        }
        resources
    }

    pub(super) fn values(&self, at: usize) -> Values {
        Values { item: self.elements.item(at), index: at + 1, axes: self.elements.parts(at) }
    }
}
