//! No resource is used twice, on the machines.

use super::{Check, Happening, Verdict};
use crate::{machine::Stage, world::World};

/// Whenever a container begins to be made: what the containers hold that exist on its machine, from the moment when they are made to
/// their end, is within what the agent has, and none has a port of another. This is what is so, whatever the agent believes. What is
/// only lent may be more than there is.
#[derive(Debug)]
pub(crate) struct Machines;

impl Check for Machines {
    fn name(&self) -> &'static str {
        "machines"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        let Happening::Launching { agent, .. } = *happening else { return Ok(()) };
        let core = world.agents[agent].core.as_ref().expect("only a running agent launches");
        let total = core.view().resources;
        let mut rest = total.firm();
        for (id, container) in &world.agents[agent].machine.containers {
            if matches!(container.stage, Stage::Ended(_)) {
                continue;
            }
            rest = rest.checked_sub(&container.resources.firm()).ok_or_else(|| {
                format!(
                    "agent {agent} has {total}; container {id} holds {}, and its others leave {rest}",
                    container.resources
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::check::{
        Happening,
        fixture::{broken, container, running},
    };

    #[test]
    fn a_port_that_two_containers_have_is_seen() {
        let mut sim = running();
        let (agent, id, task) = container(&sim);
        let copy = sim.world().agents[agent].machine.containers[&id].clone();
        let other = apportion_agent_core::ContainerId("other".to_owned());
        sim.world_mut().agents[agent].machine.containers.insert(other.clone(), copy);
        sim.world_mut().observe(&Happening::Launching { agent, container: &other, task: &task });
        assert!(broken(&sim, "machines").contains("and its others leave"));
    }
}
