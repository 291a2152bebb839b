//! What a crash leaves, and what a plain reading of the disk says.

use std::collections::BTreeSet;

use apportion_agent_core::{AgentCore, Event, Log, Record, Recovered, RecoveredTask, TaskRecord, Times};
use apportion_types::{FrameworkId, TaskId, TaskStatus, protocol::agent::AgentOperation};

use crate::world::{Container, World, config};

impl World {
    /// The process dies: what is not on disk never happened, containers live on.
    pub(crate) fn crash(&mut self, unheard: usize) {
        self.written = (self.written + unheard).min(self.asked.len());
        self.queue.clear();
        self.ending.clear();
        self.forgotten = self.removed.clone();
        (self.connected, self.registered) = (false, false);
        self.sent.clear();
        self.outcomes_sent.clear();
        self.left.clear();
        self.probes.clear();
        self.executors_disconnected();
        self.outcomes.clear();
        self.asked.truncate(self.written);
        self.before = self.written;
        self.streams.clear();
        self.drain = None;
        for record in self.asked.clone() {
            self.asked_for(record);
        }
        for (_, container) in self.containers.values_mut() {
            match container {
                // A launch that was cut off leaves nothing, or a container that runs.
                Container::Launching(cancelled) if *cancelled => *container = Container::Removed,
                Container::Launching(_) => *container = Container::Running(false),
                Container::Running(owed) | Container::Ended(owed) => *owed = false,
                Container::Removed => {}
            }
        }
        let recovered = self.replay();
        // Of containers that the disk knows nothing of the core will say nothing.
        let known: BTreeSet<_> = recovered.tasks.iter().map(|task| task.task.container_id.clone()).collect();
        self.containers.retain(|id, _| known.contains(id));
        self.mounted.retain(|id, _| known.contains(id));
        self.executors.retain(|id, _| known.contains(id));
        self.incarnation += 1;
        self.core = AgentCore::new(config(), self.incarnation, self.now);
        self.feed(Event::Recovered(recovered));
    }

    /// What is on disk, by a plain reading of it; the log must come to the same, and so must the shortest that it can be.
    fn replay(&self) -> Recovered {
        let mut log = Log::default();
        self.asked.iter().for_each(|record| log.apply(record.clone()).unwrap());
        let mut short = Log::default();
        log.records().for_each(|record| short.apply(record).unwrap());
        let mut recovered = Recovered::default();
        for record in &self.asked {
            match record.clone() {
                Record::Agent { agent_id } => recovered.agent_id = Some(agent_id),
                Record::Drain(drain) => recovered.drain = drain,
                Record::Process(process) => recovered.process = Some(process),
                Record::Times { framework_id, task_id, times } => {
                    let task = recovered.tasks.iter_mut().find(|t| is(t, &framework_id, &task_id)).unwrap();
                    task.times.started_at = times.started_at.or(task.times.started_at);
                    task.times.kill_at = times.kill_at.or(task.times.kill_at);
                }
                Record::Operation { total, outcome } => {
                    recovered.total = total.or(recovered.total);
                    recovered.operations.extend(outcome);
                }
                Record::OperationAcknowledgement { framework_id, operation_id, .. } => {
                    let is = |o: &AgentOperation| {
                        (&o.framework_id, &o.status.operation_id) == (&framework_id, &operation_id)
                    };
                    recovered.operations.retain(|operation| !is(operation));
                }
                Record::Task(task) => recovered.tasks.push(taken_on(*task, false)),
                Record::Group(tasks) => {
                    recovered.tasks.extend(tasks.into_iter().map(|task| taken_on(task, true)));
                }
                Record::Turn { framework_id, task_id } => {
                    let task = recovered.tasks.iter_mut().find(|t| is(t, &framework_id, &task_id)).unwrap();
                    assert!(std::mem::take(&mut task.waits), "{task_id} has its turn once");
                }
                Record::Update { framework_id, status } => {
                    match recovered.tasks.iter_mut().find(|t| is(t, &framework_id, &status.task_id)) {
                        Some(task) => task.updates.push(status),
                        None => recovered.strays.push((framework_id, status)),
                    }
                }
                Record::Acknowledgement { framework_id, task_id, .. } => {
                    recovered.strays.retain(|(f, status)| (f, &status.task_id) != (&framework_id, &task_id));
                    if let Some(task) = recovered.tasks.iter_mut().find(|t| is(t, &framework_id, &task_id)) {
                        task.acknowledged = Some(task.updates.remove(0));
                    }
                    let over = |status: &TaskStatus| status.state.is_terminal();
                    recovered.tasks.retain(|task| !task.acknowledged.as_ref().is_some_and(over));
                }
            }
        }
        recovered.tasks.sort_by(|one, other| task_key(one).cmp(&task_key(other)));
        recovered.operations.sort_by_key(|o| (o.framework_id.clone(), o.status.operation_id.clone()));
        recovered.strays.sort_by_key(|(framework_id, status)| (framework_id.clone(), status.task_id.clone()));
        assert_eq!(log.recovered(), recovered);
        assert_eq!(short, log);
        recovered
    }
}

fn taken_on(task: TaskRecord, waits: bool) -> RecoveredTask {
    RecoveredTask { task, waits, acknowledged: None, updates: Vec::new(), times: Times::default() }
}

fn task_key(task: &RecoveredTask) -> (&FrameworkId, &TaskId) {
    (&task.task.framework_id, &task.task.info.task_id)
}

fn is(task: &RecoveredTask, framework_id: &FrameworkId, task_id: &TaskId) -> bool {
    task_key(task) == (framework_id, task_id)
}
