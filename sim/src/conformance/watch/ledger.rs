//! What the scheduler did and was told, kept for the checks: over all its processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use apportion_agent_core::TaskKey;
use apportion_sdk::{
    TaskId, TaskInfo, TaskState,
    protocol::{Call, Event},
};

use super::{FRAMEWORK, Shared};
use crate::{
    check::{Check, Happening, Verdict},
    world::World,
};

/// Says which work a task does.
pub(crate) type Work = Rc<dyn Fn(&TaskInfo) -> String>;

/// A task that was sent for launch.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) work: String,
    /// At which input of the scheduler.
    pub(crate) input: u64,
    /// Its end was asked for.
    pub(crate) killed: bool,
}

/// What the scheduler did, and what it was told.
pub(crate) struct Ledger {
    work: Work,
    pub(crate) launched: BTreeMap<TaskKey, Launched>,
    /// What was told last, of tasks that were never launched too; nothing since the launch is none.
    pub(crate) told: BTreeMap<TaskKey, TaskState>,
    /// Work of which a task was told to have come to its end.
    pub(crate) done: BTreeSet<String>,
    /// Launches, repeated ones included.
    pub(crate) launches: u64,
    /// What the scheduler is at, while it is.
    pub(crate) at_work_on: Option<String>,
}

impl Ledger {
    pub(crate) fn new(work: Work) -> Self {
        Self {
            work,
            launched: BTreeMap::new(),
            told: BTreeMap::new(),
            done: BTreeSet::new(),
            launches: 0,
            at_work_on: None,
        }
    }

    pub(crate) fn work_of(&self, task: &TaskInfo) -> String {
        (self.work)(task)
    }

    /// Whether the scheduler must take it for alive: it was launched, and no end was told since.
    pub(crate) fn must_be_alive(&self, key: &TaskKey) -> bool {
        self.launched.contains_key(key) && self.told.get(key).is_none_or(|state| !may_be_replaced(*state))
    }

    /// Work of which a task has come to its end, or runs.
    pub(crate) fn fulfilled(&self, world: &World) -> usize {
        let running = running(world).filter_map(|key| self.launched.get(key)).map(|task| &task.work);
        let all: BTreeSet<&String> = self.done.iter().chain(running).collect();
        all.len()
    }
}

/// Whether the work of a task in this state may be launched anew.
fn may_be_replaced(state: TaskState) -> bool {
    state.is_terminal() || matches!(state, TaskState::Unknown | TaskState::Unreachable)
}

/// The name of one of the framework's tasks.
pub(super) fn key(world: &World, task_id: &TaskId) -> Option<TaskKey> {
    world.framework_id(FRAMEWORK).map(|id| (id.clone(), task_id.clone()))
}

/// The tasks whose commands run.
pub(super) fn running(world: &World) -> impl Iterator<Item = &TaskKey> {
    let containers = world.agents.iter().flat_map(|agent| agent.machine.containers.values());
    containers.filter(|container| container.is_running()).map(|container| &container.task)
}

/// Keeps the ledger; finds nothing.
pub(super) struct Keeper(pub(super) Shared);

impl Check for Keeper {
    fn name(&self) -> &'static str {
        "ledger"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        let mut ledger = self.0.borrow_mut();
        match happening {
            Happening::SchedulerHandles { framework: FRAMEWORK, told } => {
                ledger.at_work_on = Some(format!("{told:?}"))
            }
            Happening::SchedulerHandled { framework: FRAMEWORK } => ledger.at_work_on = None,
            Happening::SchedulerCalls { framework: FRAMEWORK, call, .. } => ledger.calls(world, call),
            Happening::SchedulerHears { framework: FRAMEWORK, event } => ledger.hears(world, event),
            _ => {}
        }
        Ok(())
    }
}

impl Ledger {
    fn calls(&mut self, world: &World, call: &Call) {
        for task in call.tasks().into_iter().flatten() {
            let Some(key) = key(world, &task.task_id) else { continue };
            let input = world.frameworks[FRAMEWORK].inputs;
            let work = self.work_of(task);
            self.launches += 1;
            self.told.remove(&key);
            self.launched.insert(key, Launched { work, input, killed: false });
        }
        if let Call::Kill { task_id, .. } = call
            && let Some(task) = key(world, task_id).and_then(|key| self.launched.get_mut(&key))
        {
            task.killed = true;
        }
    }

    fn hears(&mut self, world: &World, event: &Event) {
        match event {
            Event::Update(status) => {
                let Some(key) = key(world, &status.task_id) else { return };
                if let Some(task) = self.launched.get(&key) {
                    let ended = match status.state {
                        TaskState::Finished | TaskState::Failed | TaskState::Error => true,
                        TaskState::Killed => task.killed,
                        _ => false,
                    };
                    if ended {
                        self.done.insert(task.work.clone());
                    }
                }
                self.told.insert(key, status.state);
            }
            // The driver tells the tasks of a refused accept as dropped: any of which nothing was told may be one.
            Event::Refused { .. } => {
                for key in self.launched.keys() {
                    self.told.entry(key.clone()).or_insert(TaskState::Dropped);
                }
            }
            _ => {}
        }
    }
}
