//! What is reserved is for its role.

use apportion_types::{Resources, Role};

use super::{Check, Happening, Verdict};
use crate::world::World;

/// What an offer or a task holds that is reserved is reserved for its role or for one above it.
#[derive(Debug)]
pub(crate) struct Reservations;

impl Check for Reservations {
    fn name(&self) -> &'static str {
        "reservations"
    }

    fn observe(&mut self, _world: &World, happening: &Happening<'_>) -> Verdict {
        let Happening::MasterDecided(changes) = happening else { return Ok(()) };
        for view in changes.offers.iter().filter_map(|change| change.after.as_ref()) {
            let offer = &view.offer;
            if let Some(kept) = stranger(&offer.resources, &offer.role) {
                let (id, role, all) = (&offer.offer_id, &offer.role, &offer.resources);
                return Err(format!(
                    "offer {id} of {all} is for role {role}, and some of it is kept for {kept}"
                ));
            }
        }
        for task in changes.tasks.iter().filter_map(|change| change.after.as_ref()) {
            if let Some(kept) = stranger(&task.info.resources, &task.role) {
                let (id, role, all) = (&task.info.task_id, &task.role, &task.info.resources);
                return Err(format!(
                    "task {id} of role {role} holds {all}, and some of it is kept for {kept}"
                ));
            }
        }
        Ok(())
    }
}

/// A role for which some of it is kept, and to which this one does not belong.
fn stranger<'a>(resources: &'a Resources, role: &Role) -> Option<&'a Role> {
    resources.entries().filter_map(|entry| entry.role()).find(|kept| *kept != role && !role.is_below(kept))
}
