//! A task that is asked how it is, or has its time, is ended when it should be, and only then.

use std::{collections::BTreeMap, time::Duration};

use apportion_agent_core::{ContainerId, Record, TaskKey};
use apportion_types::{Reason, TaskState, TaskStatus, Time, probe::HealthCheck};

use super::{Check, Happening, Verdict};
use crate::{
    fault::Process,
    machine::{Answers, Stage},
    world::World,
};

/// How much later than it should a container may end: its agent's clock, the spread of first probes, answers, and what a KILL takes.
const SLACK: Duration = Duration::from_secs(5);

/// Nothing that an agent watches all the time runs longer than it may,
/// or goes on saying that it does not do its work; and nobody who always says that he does is ended as unhealthy. At rest it is known of
/// each running task what it says, and none is left that should have been ended.
#[derive(Debug, Default)]
pub(crate) struct Supervision {
    /// When the newest process of each agent began.
    since: BTreeMap<usize, Time>,
}

impl Check for Supervision {
    fn name(&self) -> &'static str {
        "supervision"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match happening {
            Happening::Started(Process::Agent(agent)) => {
                self.since.insert(*agent, world.now);
            }
            Happening::Crashed(Process::Agent(agent)) => {
                self.since.remove(agent);
            }
            Happening::Durable { agent, record: Record::Update { framework_id, status } } => {
                let key = (framework_id.clone(), status.task_id.clone());
                judge_end(world, *agent, &key, status)?;
            }
            Happening::Ended { agent, container, task, .. } => {
                self.judge_time(world, *agent, container, task)?
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        for (number, agent) in world.agents.iter().enumerate() {
            let Some(core) = &agent.core else { continue };
            let view = core.view();
            for container in agent.machine.containers.values() {
                let Stage::Running { since } = container.stage else { continue };
                let key = &container.task;
                let ran = world.now.since(since);
                let refuse = |what: &str| {
                    Err(format!("task {} of {} on agent {number} {what} for ever", key.1, key.0))
                };
                if container.supervision.max_completion.is_some_and(|most| ran > most + SLACK) {
                    return refuse("runs longer than it may,");
                }
                let Some(check) = &container.supervision.health_check else { continue };
                let answers = container.behaviour.answers;
                if check.failures_max > 0 && !answers.get_well() && ran > patience(check) {
                    return refuse("does not do its work, and is not ended,");
                }
                // Of a task whose news were all acknowledged before a restart an agent shows nothing.
                let told = view.tasks.get(key).and_then(|task| task.status.as_ref());
                let said = told.and_then(|status| status.findings.healthy);
                if told.is_some() && answers == Answers::Well && ran > patience(check) && said != Some(true) {
                    return refuse(&format!("is healthy, and is told as {said:?}"));
                }
            }
        }
        Ok(())
    }
}

impl Supervision {
    /// One that was watched all the time did not run longer than it may.
    fn judge_time(&self, world: &World, agent: usize, container: &ContainerId, task: &TaskKey) -> Verdict {
        let Some(container) = world.agents[agent].machine.containers.get(container) else { return Ok(()) };
        let (Some(most), Stage::Ended(ended)) = (container.supervision.max_completion, &container.stage)
        else {
            return Ok(());
        };
        let watched = self.since.get(&agent).is_some_and(|began| *began <= ended.started_at);
        // A signal that does not get through is repeated; then it takes as long as it takes.
        let ran = ended.finished_at.since(ended.started_at);
        if watched && world.odds.signal_fails_ppm == 0 && ran > most + SLACK {
            return Err(format!("task {} of {} ran for {ran:?}; it may {most:?}", task.1, task.0));
        }
        Ok(())
    }
}

/// After so long one that never says that it does its work has been asked to end and has ended.
fn patience(check: &HealthCheck) -> Duration {
    let schedule = check.schedule;
    let rounds = check.failures_max + 2;
    let each = schedule.interval + schedule.timeout;
    schedule.delay + check.grace + rounds * each + SLACK
}

/// What an end is said to have come of is so.
fn judge_end(world: &World, agent: usize, key: &TaskKey, status: &TaskStatus) -> Verdict {
    let mut containers = world.agents[agent].machine.containers.values();
    let Some(container) = containers.find(|container| container.task == *key) else { return Ok(()) };
    let refuse = |what: &str| Err(format!("task {} of {} is told {what}", key.1, key.0));
    match status.reason {
        Some(Reason::Unhealthy) if container.behaviour.answers == Answers::Well => {
            refuse("as not healthy, and has always answered well")
        }
        Some(Reason::MaxCompletionTime) if container.supervision.max_completion.is_none() => {
            refuse("to have run too long, and was given no time")
        }
        Some(Reason::Unhealthy | Reason::MaxCompletionTime) if status.state == TaskState::Killed => {
            refuse("as killed, which nobody wished")
        }
        _ => Ok(()),
    }
}
