//! Sees in the master's view what becomes of tasks, and tells the recorder.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use apportion_master_core::{View, view::TaskView};
use apportion_types::{AgentId, FrameworkId, Resources, TaskId, TaskState, Time};
use imbl::{OrdMap, ordmap::DiffItem};

use super::{Ends, Group, Node, Recorder, Wanted};

/// How long a task that was placed but is wanted no more may take to end; one that has not ended then was never placed. A replay has
/// no task that hangs, and its messages take milliseconds.
const SETTLED: Duration = Duration::from_secs(2);

/// What a framework did that its group did not want.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misplaced {
    /// More than was asked for.
    #[error("task `{task}` was launched, and none was waiting; launch each wanted task once")]
    Unwanted {
        /// The task.
        task: TaskId,
    },
    /// An id from which a replay cannot tell the group.
    #[error("task `{task}` was launched; begin the ids of tasks with the group's name")]
    Name {
        /// The task.
        task: TaskId,
    },
    /// Other resources than the group's.
    #[error("task `{task}` asks for `{resources}`; ask for the group's resources, `{wanted}`")]
    Resources {
        /// The task.
        task: TaskId,
        /// What it asks for.
        resources: Box<Resources>,
        /// What it should have.
        wanted: Box<Resources>,
    },
    /// A node with a model of gpu that the group does not allow.
    #[error("task `{task}` was placed on node `{node}`, whose model of gpu the group does not allow")]
    Model {
        /// The task.
        task: TaskId,
        /// The node.
        node: String,
    },
}

/// Why what happened is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum WatchError {
    /// A framework broke its word.
    Misplaced { group: usize, what: Box<Misplaced> },
    /// So many tasks ended between two looks that the master has forgotten some.
    Missed,
}

/// A task by its framework, its name and when it was accepted: names are used again.
type Key = (FrameworkId, TaskId, Time);

/// What is known of the tasks of a replay.
pub(super) struct Watch<'a> {
    nodes: &'a [Node],
    groups: &'a [Group],
    ends: Ends,
    start: Time,
    node_of: BTreeMap<AgentId, usize>,
    group_of: BTreeMap<FrameworkId, usize>,
    /// When each waiting task of a group came, oldest first.
    waiting: Vec<VecDeque<Duration>>,
    /// Since when so many tasks of a group are too many, oldest first, while it is not known which they are.
    unwanted: Vec<VecDeque<Duration>>,
    placed: BTreeMap<Key, Placed>,
    /// The living tasks as they were seen last.
    tasks: OrdMap<(FrameworkId, TaskId), Arc<TaskView>>,
    /// Ended tasks that were seen; the master numbers them from 1.
    completed: u64,
    looked_at: Duration,
}

struct Placed {
    group: usize,
    node: usize,
    came: Duration,
    ran: bool,
    ended: bool,
}

/// A step of a task. Of steps at the same time those that give something back come first, for it can be given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Ended,
    Placed,
    Ran,
}

impl<'a> Watch<'a> {
    /// From now on, which is the start of the replay, on a cluster in which all agents and frameworks are known and nothing has been
    /// launched.
    pub(super) fn new(nodes: &'a [Node], groups: &'a [Group], ends: Ends, now: Time, view: &View) -> Self {
        let nodes_by_name: BTreeMap<&str, usize> =
            nodes.iter().enumerate().map(|(node, of)| (of.name.as_str(), node)).collect();
        let groups_by_name: BTreeMap<&str, usize> =
            groups.iter().enumerate().map(|(group, of)| (of.name.as_str(), group)).collect();
        let agents =
            view.agents.iter().map(|(id, agent)| (id.clone(), nodes_by_name[agent.info.hostname.as_str()]));
        let frameworks = view.frameworks.iter();
        let frameworks =
            frameworks.map(|(id, framework)| (id.clone(), groups_by_name[framework.info.name.as_str()]));
        Self {
            node_of: agents.collect(),
            group_of: frameworks.collect(),
            nodes,
            groups,
            ends,
            start: now,
            waiting: vec![VecDeque::new(); groups.len()],
            unwanted: vec![VecDeque::new(); groups.len()],
            placed: BTreeMap::new(),
            tasks: view.tasks.clone(),
            completed: 0,
            looked_at: Duration::ZERO,
        }
    }

    /// Other tasks of a group are wanted from now on.
    pub(super) fn wanted(&mut self, at: Duration, group: usize, wanted: Wanted, recorder: &mut Recorder) {
        for _ in wanted.before..wanted.now {
            self.waiting[group].push_back(at);
            recorder.arrived(at, group);
        }
        self.unwanted[group].extend((wanted.now..wanted.before).map(|_| at));
    }

    /// Tells the recorder what has happened since the last look.
    pub(super) fn look(&mut self, now: Time, view: &View, recorder: &mut Recorder) -> Result<(), WatchError> {
        let ended: Vec<_> = view.completed.range(self.completed + 1..).collect();
        if ended.first().is_some_and(|(number, _)| **number != self.completed + 1) {
            return Err(WatchError::Missed);
        }
        self.completed += ended.len() as u64;
        let seen = std::mem::replace(&mut self.tasks, view.tasks.clone());
        let changed = seen.diff(&view.tasks).filter_map(|item| match item {
            DiffItem::Add(_, task) | DiffItem::Update { new: (_, task), .. } => Some(task),
            // It is among those that ended.
            DiffItem::Remove(..) => None,
        });
        let mut steps: Vec<(Time, Step, &TaskView)> = Vec::new();
        for task in ended.iter().map(|(_, task)| *task).chain(changed) {
            self.steps(task, &mut steps);
        }
        steps.sort_by_key(|(at, step, _)| (*at, *step));
        for (at, step, task) in steps {
            // What an agent tells comes to be known a little later than it was; it must not be before what was recorded.
            let at = at.since(self.start).max(self.looked_at);
            self.take(at, step, task, recorder)?;
        }
        for (_, task) in ended {
            self.placed.remove(&key(task));
        }
        self.looked_at = now.since(self.start);
        self.withdraw(recorder);
        Ok(())
    }

    /// The steps of a task that were not taken yet.
    fn steps<'t>(&self, task: &'t TaskView, steps: &mut Vec<(Time, Step, &'t TaskView)>) {
        let known = self.placed.get(&key(task));
        let status = task.status.as_ref();
        let container = status.and_then(|status| status.container.as_ref());
        if known.is_none() {
            steps.push((task.accepted_at, Step::Placed, task));
        }
        let running = status.filter(|status| status.state == TaskState::Running).map(|status| status.at);
        if let Some(at) = container.map(|container| container.started_at).or(running)
            && known.is_none_or(|placed| !placed.ran)
        {
            steps.push((at.max(task.accepted_at), Step::Ran, task));
        }
        if task.state.is_terminal() && known.is_none_or(|placed| !placed.ended) {
            let at = container.map(|container| container.finished_at).or(status.map(|status| status.at));
            // Never at the instant of its accept, so that it is placed before it ends.
            let first = task.accepted_at + Duration::from_micros(1);
            steps.push((at.unwrap_or(first).max(first), Step::Ended, task));
        }
    }

    fn take(
        &mut self,
        at: Duration,
        step: Step,
        task: &TaskView,
        recorder: &mut Recorder,
    ) -> Result<(), WatchError> {
        if step == Step::Placed {
            let placed = self.place(task)?;
            recorder.placed(at, placed.group, placed.node);
            self.placed.insert(key(task), placed);
            return Ok(());
        }
        let placed = self.placed.get_mut(&key(task)).expect("a task is placed before anything else");
        let group = placed.group;
        if step == Step::Ran {
            placed.ran = true;
            recorder.running(group, at.saturating_sub(placed.came));
            return Ok(());
        }
        placed.ended = true;
        let meant = match self.ends {
            Ends::Itself => task.state == TaskState::Finished,
            Ends::WhenTold => self.unwanted[group].pop_front().is_some(),
        };
        if meant {
            recorder.finished(at, group, placed.node);
        } else {
            recorder.displaced(at, group, placed.node);
            self.waiting[group].push_front(placed.came);
        }
        Ok(())
    }

    /// The task that has waited longest of its group has got this place, if that is as it should be.
    fn place(&mut self, task: &TaskView) -> Result<Placed, WatchError> {
        let (group, node) = (self.group_of[&task.framework_id], self.node_of[&task.agent_id]);
        let of = &self.groups[group];
        let id = task.info.task_id.clone();
        let refuse = |what| Err(WatchError::Misplaced { group, what: Box::new(what) });
        if !id.as_str().starts_with(&of.name) {
            return refuse(Misplaced::Name { task: id });
        }
        if task.info.resources != of.resources {
            let (resources, wanted) = (task.info.resources.clone().into(), of.resources.clone().into());
            return refuse(Misplaced::Resources { task: id, resources, wanted });
        }
        if !of.allows(&self.nodes[node]) {
            return refuse(Misplaced::Model { task: id, node: self.nodes[node].name.clone() });
        }
        match self.waiting[group].pop_front() {
            Some(came) => Ok(Placed { group, node, came, ran: false, ended: false }),
            None => refuse(Misplaced::Unwanted { task: id }),
        }
    }

    /// Tasks that were too many and that nothing has ended for had no place: of those that wait, the last to come.
    fn withdraw(&mut self, recorder: &mut Recorder) {
        for group in 0..self.groups.len() {
            let (unwanted, waiting) = (&mut self.unwanted[group], &mut self.waiting[group]);
            while unwanted.front().is_some_and(|since| *since + SETTLED <= self.looked_at)
                && waiting.pop_back().is_some()
            {
                unwanted.pop_front();
                recorder.withdrawn(self.looked_at, group);
            }
        }
    }
}

fn key(task: &TaskView) -> Key {
    (task.framework_id.clone(), task.info.task_id.clone(), task.accepted_at)
}
