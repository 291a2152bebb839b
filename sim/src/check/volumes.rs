//! A volume is there for its task, and for its task alone unless it is shared.

use apportion_types::resources::Entry;

use super::{Check, Happening, Verdict};
use crate::{machine::Stage, world::World};

/// Whenever a container begins to be made: the folder of each volume that it holds is on its machine, and no other container that
/// exists there holds one that is not shared.
#[derive(Debug)]
pub(crate) struct Volumes;

impl Check for Volumes {
    fn name(&self) -> &'static str {
        "volumes"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        let Happening::Launching { agent, container: launched, .. } = *happening else { return Ok(()) };
        let machine = &world.agents[agent].machine;
        let Some(container) = machine.containers.get(launched) else { return Ok(()) };
        for entry in container.resources.entries() {
            let (Some(role), Some(volume)) = (entry.role(), entry.volume()) else { continue };
            let what =
                format!("container {launched} on agent {agent} holds volume {} of role {role}", volume.id);
            if !machine.volumes.contains(&(role.clone(), volume.id.clone())) {
                return Err(format!("{what}, whose folder is not there"));
            }
            let same = |other: &Entry| {
                other.role() == Some(role) && other.volume().is_some_and(|other| other.id == volume.id)
            };
            let other = machine.containers.iter().find(|(id, other)| {
                *id != launched
                    && !matches!(other.stage, Stage::Ended(_))
                    && other.resources.entries().any(same)
            });
            if let Some((other, _)) = other.filter(|_| !volume.shared) {
                return Err(format!("{what}, and so does {other}"));
            }
        }
        Ok(())
    }
}
