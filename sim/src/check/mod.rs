//! The properties that every run is held to, one in each file.
//!
//! A check sees every message as it leaves a core and as it enters one, every record as it reaches a disk and every container as it
//! starts and ends; so it can hold what the cores believe against what is so.

mod accepted;
mod activation;
mod answers;
mod calls;
mod changes;
mod claims;
mod executors;
mod failover;
mod fairness;
#[cfg(test)]
mod fixture;
mod gangs;
mod groups;
mod honest;
mod kills;
mod machines;
mod maintenance;
mod moves;
mod offers;
mod operations;
mod orphans;
mod preemptions;
mod queues;
mod quotas;
mod refusals;
mod reservations;
mod resources;
mod rest;
mod roles;
mod streams;
mod supervision;
#[cfg(test)]
mod tests;
mod told;
mod updates;
mod volumes;

use std::collections::BTreeMap;

use apportion_agent_core::{ContainerId, Record, TaskKey};
use apportion_master_core::{ConnId, OperatorCall};
use apportion_types::{
    AgentId,
    container::Termination,
    protocol::{
        agent::{AgentMessage, MasterMessage},
        scheduler::{Call, Event},
    },
};

pub(crate) use self::{
    calls::answered,
    changes::{Change, Changes},
};
use crate::{
    fault::{Fault, Process},
    process::Told,
    world::World,
};

/// Something that has just happened, or is just about to be handled.
#[derive(Debug)]
pub(crate) enum Happening<'a> {
    /// A process begins, with what is on its disk.
    Started(Process),
    /// A process is gone, without a word.
    Crashed(Process),
    /// A machine starts anew; its containers are gone.
    Rebooted { agent: usize },
    /// An agent was told to begin anew: its disk is empty, and nothing of it runs.
    Wiped { agent: usize },
    /// A fault begins.
    Fault(&'a Fault),
    /// A driver sends a call.
    SchedulerCalls { framework: usize, call_id: u64, call: &'a Call },
    /// A driver is told something.
    SchedulerHears { framework: usize, event: &'a Event },
    /// A driver is handed something; its callbacks run next.
    SchedulerHandles { framework: usize, told: &'a Told },
    /// The callbacks have returned, and what they asked for was sent.
    SchedulerHandled { framework: usize },
    /// A call reaches the master; it is handled next.
    MasterHearsScheduler { framework: usize, conn: ConnId, call: &'a Call },
    /// The master tells a scheduler something.
    MasterTellsScheduler { framework: usize, conn: ConnId, event: &'a Event },
    /// An operator asks; it is handled next.
    OperatorCalls { call: &'a OperatorCall },
    /// An operator has heard that what he asked is done.
    OperatorAnswered { call: &'a OperatorCall },
    /// A message reaches the master; it is handled next.
    MasterHearsAgent { agent: usize, conn: ConnId, message: &'a AgentMessage },
    /// The master tells an agent something.
    MasterTellsAgent { agent: usize, conn: ConnId, message: &'a MasterMessage },
    /// The master has handled an event, and what it wanted is under way: [`World::view`] is new, [`World::view_before`] as it was, and
    /// these are the differences.
    MasterDecided(&'a Changes),
    /// An agent says something.
    AgentSays { agent: usize, message: &'a AgentMessage },
    /// A message reaches an agent; it is handled next.
    AgentHears { agent: usize, message: &'a MasterMessage },
    /// A record is on disk.
    Durable { agent: usize, record: &'a Record },
    /// A container begins to be made; it is on its machine already.
    Launching { agent: usize, container: &'a ContainerId, task: &'a TaskKey },
    /// A container's command runs.
    Running { agent: usize, container: &'a ContainerId, task: &'a TaskKey },
    /// A container has ended.
    Ended { agent: usize, container: &'a ContainerId, task: &'a TaskKey, termination: &'a Termination },
    /// A stream has ended at the master's side.
    StreamEnded { conn: ConnId },
}

/// What is wrong, for people; begins with what it is about.
pub(crate) type Verdict = Result<(), String>;

/// One property.
pub(crate) trait Check {
    /// What it is called in reports and on command lines: words with dashes.
    fn name(&self) -> &'static str;

    /// Looks at what happens.
    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict;

    /// Looks at the end: no fault holds, every process is up, and nothing but signs of life has happened for a while.
    fn at_rest(&mut self, world: &World) -> Verdict {
        let _ = world;
        Ok(())
    }
}

/// Every property.
pub(crate) fn all() -> Vec<Box<dyn Check>> {
    vec![
        Box::new(resources::Books::default()),
        Box::new(machines::Machines),
        Box::new(offers::Offers::default()),
        Box::new(answers::Answers::default()),
        Box::new(updates::Updates::default()),
        Box::new(accepted::Accepted::default()),
        Box::new(orphans::Orphans::default()),
        Box::new(moves::Moves::default()),
        Box::new(told::Told::default()),
        Box::new(kills::Kills::default()),
        Box::new(failover::Failover::default()),
        Box::new(quotas::Quotas::default()),
        Box::new(reservations::Reservations),
        Box::new(operations::Operations::default()),
        Box::new(volumes::Volumes),
        Box::new(gangs::Gangs::default()),
        Box::new(groups::Groups::default()),
        Box::new(executors::Executors::default()),
        Box::new(claims::Claims::default()),
        Box::new(preemptions::Preemptions::default()),
        Box::new(fairness::Fairness::default()),
        Box::new(maintenance::Maintenances::default()),
        Box::new(supervision::Supervision::default()),
        Box::new(queues::Queues::default()),
        Box::new(activation::Activations::default()),
        Box::new(honest::Honest),
        Box::new(rest::Rest::default()),
    ]
}

/// The numbers of the agents that are up, by their ids. Costs a pass over them: for the end.
fn agents_by_id(world: &World) -> BTreeMap<AgentId, usize> {
    let ids = (0..world.agents.len()).map(|number| (world.agent_id(number), number));
    ids.filter_map(|(id, number)| Some((id?, number))).collect()
}
