//! Gangs: tasks of which all start, or none.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{Gang, Offer, placement::BestFit};

use super::{Ground, Placed, describe, host};
use crate::{
    job::Job,
    state::{Class, Effect, JobState},
};

impl Ground {
    /// Launches all tasks of a stage that is a gang and [complete](JobState::gang), on as many agents as they need, or none of them.
    ///
    /// Nothing is kept while they wait for room, so two gangs can never hold halves of what each of them needs. They are placed on offers on
    /// which nothing else is: the master takes a gang's offers together or refuses them together, and nobody else should share that fate.
    pub(crate) fn launch_gang(
        &mut self,
        job: &Job,
        state: &mut JobState,
        stage: usize,
        effects: &mut Vec<Effect>,
    ) -> Placed {
        let Some(members) = state.gang(stage) else { return Placed::Nowhere };
        let mut plan = self.packing.clone();
        for (index, offer) in self.offers.iter().enumerate() {
            if offer.as_ref().is_none_or(|offer| !offer.is_untouched()) {
                plan.close(index);
            }
        }
        let mut tasks = Vec::with_capacity(members.len());
        for position in members {
            let demand = self.demand(job, state.class_of(position));
            let Some(index) = plan.place(&demand, &BestFit) else { return Placed::Nowhere };
            match describe(job, position, state.next_id(position), &demand.resources) {
                Ok(task) => tasks.push((position, index, task)),
                // One that cannot be described is none of the gang any more: the others may start without it, at the next look.
                Err(why) => {
                    state.reject(position, why, effects);
                    return Placed::Rejected;
                }
            }
        }
        let mut offers: BTreeMap<usize, Offer> = BTreeMap::new();
        for (_, index, _) in &tasks {
            offers.extend(self.offers[*index].take().map(|offer| (*index, offer)));
            self.packing.close(*index);
        }
        let mut launched = Vec::with_capacity(tasks.len());
        let mut whole = true;
        for (position, index, task) in tasks {
            let Some(offer) = offers.get_mut(&index) else { continue };
            whole &= offer.launch(task).is_ok();
            launched.push((position, host(offer, &self.framework_id)));
        }
        let mut gang = Gang::new();
        for mut offer in offers.into_values() {
            // What is left of it is free for others at once, not only after the pause of what is refused.
            offer.refuse_for(Duration::ZERO);
            gang.add(offer);
        }
        let too_large = match whole {
            true => gang.commit().err().map(|error| error.to_string()),
            false => Some("its tasks on one agent are more than one accept can carry".to_owned()),
        };
        if let Some(why) = too_large {
            // It never will be smaller. What was placed is given back with the offers.
            state.give_up(Class { stage, step: 0 }, &why, effects);
            return Placed::Rejected;
        }
        let count = launched.len();
        for (position, host) in launched {
            state.launched(position, host, self.now);
        }
        Placed::Launched(count)
    }
}
