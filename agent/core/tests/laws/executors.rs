//! Executors, as far as the agent sees them: they run what they are told of, lose it, say what became of it, come and go.

use std::collections::BTreeMap;

use apportion_agent_core::{ContainerId, Event, Record, TaskKey};
use apportion_types::{
    Execution, RunId, TaskInfo, TaskState, UpdateId,
    protocol::executor::{ExecutorCall, ExecutorEvent, ExecutorUpdate},
};
use proptest::prelude::*;

use crate::world::{Container, World};

/// One executor's process. It lives as long as its container.
#[derive(Debug, Default)]
pub(crate) struct Executor {
    subscribed: bool,
    runs: BTreeMap<RunId, TaskInfo>,
    unacknowledged: Vec<ExecutorUpdate>,
    said: u64,
    /// Limits that were asked for, and are not answered.
    limits: Vec<u64>,
}

/// What an executor may do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deed {
    Subscribe,
    Leave,
    Limited(bool),
    Say {
        run: u8,
        state: usize,
        healthy: Option<bool>,
        heard: bool,
    },
    /// It knows nothing of one of its tasks any more.
    Lose {
        run: u8,
    },
}

pub(crate) fn deed() -> impl Strategy<Value = Deed> {
    let say =
        (any::<u8>(), 0..ExecutorUpdate::STATES.len(), any::<Option<bool>>(), proptest::bool::weighted(0.8));
    prop_oneof![
        4 => Just(Deed::Subscribe),
        1 => Just(Deed::Leave),
        6 => proptest::bool::weighted(0.9).prop_map(Deed::Limited),
        6 => say.prop_map(|(run, state, healthy, heard)| Deed::Say { run, state, healthy, heard }),
        1 => any::<u8>().prop_map(|run| Deed::Lose { run }),
    ]
}

/// A task as an executor, or as run by one.
pub(crate) fn executed(mut info: TaskInfo, execution: Execution) -> TaskInfo {
    info.execution = execution;
    if info.executor().is_some() {
        info.container.exclusive_cpus = false;
        info.supervision.health_check = None;
        info.supervision.check = None;
    }
    info
}

impl World {
    /// An executor that lives does something.
    pub(crate) fn does(&mut self, pick: u8, deed: Deed) {
        let lives = |id: &&ContainerId| matches!(self.containers.get(*id), Some((_, Container::Running(_))));
        let ids: Vec<ContainerId> = self.executors.keys().filter(lives).cloned().collect();
        if ids.is_empty() {
            return;
        }
        let container_id = ids[usize::from(pick) % ids.len()].clone();
        let of = self.executors.get_mut(&container_id).unwrap();
        let call = |call| Event::Executor { container_id: container_id.clone(), call };
        let event = match deed {
            Deed::Subscribe => {
                of.subscribed = true;
                let unacknowledged = of.unacknowledged.clone();
                let mut runs: Vec<RunId> = of.runs.keys().cloned().collect();
                runs.extend(unacknowledged.iter().map(|update| update.run_id.clone()));
                call(ExecutorCall::Subscribe { runs, unacknowledged })
            }
            Deed::Leave => {
                of.subscribed = false;
                Event::ExecutorDisconnected { container_id: container_id.clone(), reason: String::new() }
            }
            Deed::Limited(good) => {
                if of.limits.is_empty() {
                    return;
                }
                let number = of.limits.remove(0);
                let result = if good { Ok(()) } else { Err("no memory".to_owned()) };
                Event::Limited { container_id: container_id.clone(), number, result }
            }
            Deed::Say { run, state, healthy, heard } => {
                let runs: Vec<RunId> = of.runs.keys().cloned().collect();
                if runs.is_empty() {
                    return;
                }
                let run_id = runs[usize::from(run) % runs.len()].clone();
                let state = ExecutorUpdate::STATES[state];
                if state.is_terminal() {
                    of.runs.remove(&run_id);
                }
                of.said += 1;
                let update_id = UpdateId::new(0, of.said);
                let message = (of.said % 3).to_string();
                let update = ExecutorUpdate { run_id, update_id, state, message, healthy };
                of.unacknowledged.push(update.clone());
                if !heard || !of.subscribed {
                    return; // told with the next subscription
                }
                call(ExecutorCall::Update(update))
            }
            Deed::Lose { run } => {
                let runs: Vec<RunId> = of.runs.keys().cloned().collect();
                if let Some(lost) = runs.get(usize::from(run) % runs.len().max(1)) {
                    of.runs.remove(lost);
                    of.unacknowledged.retain(|update| update.run_id != *lost);
                }
                return;
            }
        };
        self.feed(event);
    }

    /// The laws of what executors are told.
    pub(crate) fn executor_told(&mut self, container_id: ContainerId, event: ExecutorEvent) {
        let of = self.executors.get_mut(&container_id).expect("only executors are told anything");
        assert!(of.subscribed, "{container_id} is told {event:?} and does not listen");
        match event {
            ExecutorEvent::Subscribed { .. } => {}
            ExecutorEvent::Launch { run_id, info } => {
                let is_it = |record: &Record| {
                    record.taken_on().iter().any(|task| task.container_id.0 == run_id.as_str())
                };
                assert!(
                    self.asked[..self.written].iter().any(is_it),
                    "{run_id} is launched before it is on disk"
                );
                assert!(!of.runs.contains_key(&run_id), "{run_id} is launched and was not lost");
                of.runs.insert(run_id, info);
            }
            // Whether it heeds that is for later steps.
            ExecutorEvent::Kill { .. } => {}
            ExecutorEvent::Acknowledge { update_id } => {
                let at = of.unacknowledged.iter().position(|update| update.update_id == update_id);
                let Some(at) = at else { return };
                let update = of.unacknowledged.remove(at);
                self.must_be_told(&update);
            }
            ExecutorEvent::Refuse { .. } => panic!("no executor breaks a rule here"),
        }
    }

    /// The end that was acknowledged is on disk: it, or another that was told before.
    fn must_be_told(&self, update: &ExecutorUpdate) {
        if !update.state.is_terminal() {
            return;
        }
        let on_disk = &self.asked[..self.written];
        let is_it = |record: &Record| {
            record.taken_on().iter().any(|task| task.container_id.0 == update.run_id.as_str())
        };
        let at = on_disk.iter().position(is_it).expect("what runs is on disk");
        let of =
            on_disk[at].taken_on().iter().find(|task| task.container_id.0 == update.run_id.as_str()).unwrap();
        let key: TaskKey = (of.framework_id.clone(), of.info.task_id.clone());
        let ended = on_disk[at..].iter().any(|record| {
            matches!(record, Record::Update { framework_id, status }
                if *framework_id == key.0 && status.task_id == key.1 && status.state.is_terminal())
        });
        assert!(ended, "{key:?}: its end is acknowledged before it is on disk");
    }

    pub(crate) fn limit(&mut self, container_id: &ContainerId, number: u64) {
        let runs = matches!(
            self.containers.get(container_id),
            Some((_, Container::Running(_) | Container::Ended(_)))
        );
        assert!(runs, "{container_id} is held to limits while it does not run");
        match self.executors.get_mut(container_id) {
            Some(executor) => executor.limits.push(number),
            None => {
                let container_id = container_id.clone();
                self.queue.push(Event::Limited { container_id, number, result: Ok(()) });
            }
        }
    }

    /// Nobody runs a task by an executor that has ended.
    pub(crate) fn check_executors(&self) {
        let view = self.core.view();
        for (key, task) in view.tasks.iter().filter(|(_, task)| !task.state.is_terminal()) {
            let Some(executor) = task.info.executor() else { continue };
            let executor = (key.0.clone(), executor.clone());
            let lives = view.tasks.get(&executor).is_some_and(|executor| !executor.state.is_terminal());
            assert!(lives || task.state == TaskState::Staging, "{key:?} outlives its executor");
        }
    }

    /// The agent's process has died.
    pub(crate) fn executors_disconnected(&mut self) {
        for executor in self.executors.values_mut() {
            executor.subscribed = false;
            executor.limits.clear();
        }
    }
}
