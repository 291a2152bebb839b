//! No offer brings a role over its quota limit.

use super::{Check, Happening, Verdict, roles::RoleSums};
use crate::{fault::Process, world::World};

/// After a decision that opens offers for a role with a quota limit: of each kind that is limited and offered, what the role's tasks
/// hold and what it is offered, all over the cluster, is within the limit. (Tasks of agents that returned may be over it; then nothing of
/// that kind is offered.)
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    sums: RoleSums,
}

impl Check for Quotas {
    fn name(&self) -> &'static str {
        "quotas"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        let limits = &world.master.allocator.quotas;
        match happening {
            _ if limits.is_empty() => {}
            Happening::Started(Process::Master) => *self = Self::default(),
            Happening::MasterDecided(changes) => {
                self.sums.follow(changes);
                for view in changes.offers.iter().filter_map(|change| change.added()) {
                    let offer = &view.offer;
                    let Some(limit) = limits.get(&offer.role).and_then(|quota| quota.limit.as_ref()) else {
                        continue;
                    };
                    let has = self.sums.of(&offer.role);
                    if let Some((name, milli)) = limit
                        .iter()
                        .find(|(name, milli)| offer.resources.milli(name) > 0 && has.milli(name) > *milli)
                    {
                        return Err(format!(
                            "role {} may have {milli} thousandths of {name}; with offer {} of {} it has {has}",
                            offer.role, offer.offer_id, offer.resources
                        ));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}
