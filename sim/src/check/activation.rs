//! What an operator wishes of agents is so, from when he was answered, over every change of master.

use std::collections::{BTreeMap, BTreeSet};

use apportion_master_core::OperatorCall;
use apportion_types::{
    Activation, AgentId,
    protocol::{
        agent::{MasterMessage, RefuseCode},
        scheduler::Event,
    },
};

use super::{Check, Happening, Verdict, streams::Streams};
use crate::{fault::Process, world::World};

/// An agent that an operator has deactivated is offered to nobody until he asks for it to be reactivated; nothing runs on one that is drained, and
/// nothing is launched there; and one that he has declared gone is never heard of again. What he was answered the next master knows, as long as the
/// registry does. Nobody is told to kill all that he has unless an operator wished that.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    /// What was answered: true of a drain.
    out: BTreeMap<AgentId, bool>,
    gone: BTreeSet<AgentId>,
    /// Of which an operator has ever wished that their tasks end.
    wished: BTreeSet<AgentId>,
    streams: Streams,
}

impl Activations {
    fn answered(&mut self, call: &OperatorCall) {
        match call {
            OperatorCall::DeactivateAgent { agent_id } => {
                self.out.entry(agent_id.clone()).or_insert(false);
            }
            OperatorCall::DrainAgent { agent_id, .. } => {
                self.out.insert(agent_id.clone(), true);
            }
            OperatorCall::MarkAgentGone { agent_id } => {
                self.gone.insert(agent_id.clone());
            }
            _ => {}
        }
    }

    /// What the master believes is what was answered.
    fn believed(&self, world: &World) -> Verdict {
        let view = world.view();
        for (id, drained) in &self.out {
            let Some(agent) = view.agents.get(id) else { continue };
            let so = match agent.activation {
                Activation::Active => false,
                Activation::Deactivated => !drained,
                Activation::Draining(_) | Activation::Drained(_) => true,
            };
            if !so {
                return Err(format!(
                    "agent {id} is {}, and an operator was answered",
                    agent.activation.name()
                ));
            }
        }
        // What is believed is what the next master would begin with; of an agent that is about to be removed nothing more is believed.
        for (id, agent) in &world.master.registry().agents {
            let believed = view.agents.get(id).map(|agent| agent.activation);
            if let Some(believed) = believed.filter(|believed| *believed != agent.activation)
                && !world.master.removes_agent(id)
            {
                let (believed, kept) = (believed.name(), agent.activation.name());
                return Err(format!("agent {id} is {believed}, and the registry has it as {kept}"));
            }
        }
        match self.gone.iter().find(|id| view.agents.contains_key(*id)) {
            Some(id) => Err(format!("agent {id} takes part, and is gone")),
            None => Ok(()),
        }
    }
}

impl Check for Activations {
    fn name(&self) -> &'static str {
        "activation"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        let verdict = self.happens(world, happening);
        self.streams.observe(happening);
        verdict
    }

    fn at_rest(&mut self, world: &World) -> Verdict {
        self.believed(world)
    }
}

impl Activations {
    fn happens(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        match *happening {
            Happening::OperatorAnswered { call } => self.answered(call),
            Happening::OperatorCalls {
                call: OperatorCall::DrainAgent { agent_id, .. } | OperatorCall::MarkAgentGone { agent_id },
            } => {
                self.wished.insert(agent_id.clone());
            }
            // From now on it may be either.
            Happening::OperatorCalls { call: OperatorCall::ReactivateAgent { agent_id } } => {
                self.out.remove(agent_id);
            }
            Happening::Crashed(Process::Master) if !world.keeps_registry() => {
                self.out.clear();
                self.gone.clear();
            }
            Happening::MasterTellsScheduler { event: Event::Offers(offers), .. } => {
                let out = |id: &AgentId| self.out.contains_key(id) || self.gone.contains(id);
                if let Some(offer) = offers.iter().find(|offer| out(&offer.agent_id)) {
                    return Err(format!("agent {} is offered, and is out of use", offer.agent_id));
                }
            }
            Happening::MasterTellsAgent { message: MasterMessage::Registered { agent_id, .. }, .. }
                if self.gone.contains(agent_id) =>
            {
                return Err(format!("agent {agent_id} is let in, and is gone"));
            }
            // Whose machine is taken down ends whatever was wished of it.
            Happening::MasterTellsAgent {
                message: MasterMessage::Refuse { code: RefuseCode::Maintenance, .. },
                ..
            } => {}
            Happening::MasterTellsAgent { conn, message, .. } if ends_all(message) => {
                let id = match message {
                    MasterMessage::Registered { agent_id, .. } => Some(agent_id),
                    _ => self.streams.agent(conn),
                };
                if let Some(id) = id.filter(|id| !self.wished.contains(*id)) {
                    return Err(format!(
                        "agent {id} is told to kill all that it has, and nobody wished that"
                    ));
                }
            }
            Happening::MasterDecided(changes) => {
                for change in &changes.agents {
                    let Some(after) = &change.after else { continue };
                    let was = change.before.as_ref().map(|before| before.activation);
                    let drained = matches!(after.activation, Activation::Drained(_));
                    if drained && was != Some(after.activation) {
                        nothing_runs(world, &change.key)?;
                    }
                }
                return self.believed(world);
            }
            Happening::Launching { agent, task, .. } => {
                let drained = |id: &AgentId| self.out.get(id) == Some(&true) && is_drained(world, id);
                if let Some(id) = world.agent_id(agent).filter(drained) {
                    return Err(format!("task {} is launched on agent {id}, which is drained", task.1));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// True of what has an agent kill all that it has.
pub(super) fn ends_all(message: &MasterMessage) -> bool {
    matches!(
        message,
        MasterMessage::Drain(Some(_))
            | MasterMessage::Registered { drain: Some(_), .. }
            | MasterMessage::Refuse { code: RefuseCode::Gone | RefuseCode::Maintenance, .. }
    )
}

fn is_drained(world: &World, id: &AgentId) -> bool {
    let known = world.view().agents.get(id);
    known.is_some_and(|agent| matches!(agent.activation, Activation::Drained(_)))
}

fn nothing_runs(world: &World, id: &AgentId) -> Verdict {
    let there = (0..world.agents.len()).find(|number| world.agent_id(*number).as_ref() == Some(id));
    let Some(number) = there else { return Ok(()) };
    let containers = &world.agents[number].machine.containers;
    if let Some(container) = containers.values().find(|container| container.is_running()) {
        return Err(format!("agent {id} is drained, and task {} runs on it", container.task.1));
    }
    match world.view().tasks.values().find(|task| task.agent_id == *id) {
        Some(task) => Err(format!("agent {id} is drained, and task {} is not over", task.info.task_id)),
        None => Ok(()),
    }
}
