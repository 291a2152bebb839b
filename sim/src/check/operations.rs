//! Operations are done once, kept, and told.

use std::collections::{BTreeMap, BTreeSet};

use apportion_agent_core::Record;
use apportion_master_core::view::AgentState;
use apportion_types::{
    AgentId, FrameworkId, OperationId, OperationState, Resources,
    protocol::{
        agent::{AgentMessage, MasterMessage},
        scheduler::{Accept, Call, Event, OfferOperation},
    },
};

use super::{Check, Happening, Verdict};
use crate::{fault::Process, world::World};

/// An agent writes an operation down no more often than it was told to do one, and none as done twice that is not acknowledged in
/// between. What an agent says it has, when it registers, is what its last operation has left on its disk, whatever died since.
///
/// At rest a scheduler whose process lives was told the end of each operation that it has named, or that it is not known; unless its
/// agent takes no part. (That agents and master have the same total is held to with the rest.)
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// By agent: how many were heard and are not written.
    heard: BTreeMap<usize, usize>,
    /// By agent: what is on disk as done and not acknowledged.
    done: BTreeMap<usize, BTreeSet<(FrameworkId, OperationId)>>,
    /// By agent: what the last operation has left, on its disk.
    total: BTreeMap<usize, Resources>,
    /// By framework: what was asked for and its end not told, with its agent and the call.
    open: BTreeMap<usize, BTreeMap<OperationId, (AgentId, u64)>>,
}

impl Check for Operations {
    fn name(&self) -> &'static str {
        "operations"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::Wiped { agent } => {
                self.heard.remove(&agent);
                self.done.remove(&agent);
                self.total.remove(&agent);
            }
            Happening::Started(Process::Agent(agent)) => {
                // What an earlier process was told and has not written is gone with it.
                self.heard.remove(&agent);
            }
            Happening::Crashed(Process::Framework(framework)) => {
                self.open.remove(&framework);
            }
            Happening::AgentHears { agent, message: MasterMessage::Apply { .. } } => {
                *self.heard.entry(agent).or_default() += 1;
            }
            Happening::AgentSays { agent, message: AgentMessage::Register { total, .. } } => {
                let agents = &world.agents[agent];
                let kept = self.total.get(&agent).unwrap_or(&agents.config.info.resources);
                // What it has in mind differs only while a write is under way.
                if kept != total && agents.machine.pending.is_empty() {
                    return Err(format!("agent {agent} registers with {total}, and {kept} is on its disk"));
                }
            }
            Happening::Durable { agent, record } => return self.written(agent, record),
            Happening::SchedulerCalls { framework, call_id, call } => {
                self.called(world, framework, call_id, call);
            }
            Happening::SchedulerHears { framework, event: Event::OperationUpdate(status) }
                if status.state.is_terminal() || status.state == OperationState::Unknown =>
            {
                if let Some(open) = self.open.get_mut(&framework) {
                    open.remove(&status.operation_id);
                }
            }
            // The driver itself tells its scheduler.
            Happening::SchedulerHears { framework, event: Event::Refused { call_id, .. } } => {
                if let Some(open) = self.open.get_mut(&framework) {
                    open.retain(|_, (_, call)| call != call_id);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        for (number, open) in &self.open {
            let framework = &world.frameworks[*number];
            if framework.process.is_none() || framework.ended.is_some() {
                continue;
            }
            let takes_part = |agent: &AgentId| {
                world.view().agents.get(agent).is_some_and(|view| view.state == AgentState::Active)
            };
            if let Some((id, (agent, _))) = open.iter().find(|(_, (agent, _))| takes_part(agent)) {
                return Err(format!(
                    "framework {number} was never told what became of operation {id} on {agent}"
                ));
            }
        }
        Ok(())
    }
}

impl Operations {
    fn written(&mut self, agent: usize, record: &Record) -> Verdict {
        match record {
            Record::Operation { total, outcome } => {
                let heard = self.heard.entry(agent).or_default();
                if *heard == 0 {
                    return Err(format!("agent {agent} writes an operation down that it was not told to do"));
                }
                *heard -= 1;
                if let Some(total) = total {
                    self.total.insert(agent, total.clone());
                }
                let finished = |state| state == OperationState::Finished;
                if let Some(told) = outcome.as_ref().filter(|told| finished(told.status.state)) {
                    let key = (told.framework_id.clone(), told.status.operation_id.clone());
                    if !self.done.entry(agent).or_default().insert(key.clone()) {
                        return Err(format!("agent {agent} does operation {} of {} twice", key.1, key.0));
                    }
                }
            }
            Record::OperationAcknowledgement { framework_id, operation_id, .. } => {
                if let Some(done) = self.done.get_mut(&agent) {
                    done.remove(&(framework_id.clone(), operation_id.clone()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn called(&mut self, world: &World, framework: usize, call_id: u64, call: &Call) {
        let accepts: &[Accept] = match call {
            Call::Accept(accept) => std::slice::from_ref(accept),
            Call::Gang { accepts } => accepts,
            _ => return,
        };
        for accept in accepts {
            let offer = accept.offers.first().and_then(|offer| world.view().offers.get(offer));
            let Some(agent) = offer.map(|view| &view.offer.agent_id) else { continue };
            for operation in &accept.operations {
                if let OfferOperation::Convert { id: Some(id), .. } = operation {
                    let open = self.open.entry(framework).or_default();
                    open.insert(id.clone(), (agent.clone(), call_id));
                }
            }
        }
    }
}
