//! Several offers of one agent as one.

use std::{collections::BTreeMap, sync::Arc};

use apportion_types::{AgentId, Role, limits};

use super::{ACCEPT_BYTES_MAX, Offer};

impl Offer {
    /// Takes another offer of the same agent and role into this one, so that a task may use both; gives it back when it is of
    /// another agent or role.
    ///
    /// The whole is valid only as long as each part is.
    pub fn merge(&mut self, mut other: Offer) -> Result<(), Box<Offer>> {
        let room = self.tasks + other.tasks <= limits::TASKS_PER_ACCEPT_MAX
            && self.steps.len() + other.steps.len() <= limits::OPERATIONS_PER_ACCEPT_MAX
            && self.bytes + other.bytes <= ACCEPT_BYTES_MAX;
        let same = self.agent_id == other.agent_id && self.role == other.role;
        if !same || !room || !Arc::ptr_eq(&self.answers, &other.answers) {
            return Err(Box::new(other));
        }
        self.ids.append(&mut other.ids);
        self.left += &other.left;
        self.taken += &other.taken;
        self.steps.append(&mut other.steps);
        self.tasks += other.tasks;
        self.bytes += other.bytes;
        self.unavailability = self.unavailability.or(other.unavailability);
        self.refuse = self.refuse.or(other.refuse);
        self.lacking.append(&mut other.lacking);
        Ok(())
    }

    /// Merges offers of the same agent and role, in the order in which each pair is met first.
    ///
    /// ```no_run
    /// # use apportion_sdk::Offer;
    /// # fn place(kept: Vec<Offer>, new: Vec<Offer>) {
    /// let offers = Offer::by_agent(kept.into_iter().chain(new));
    /// # }
    /// ```
    pub fn by_agent(offers: impl IntoIterator<Item = Offer>) -> Vec<Offer> {
        let mut merged: Vec<Offer> = Vec::new();
        let mut places: BTreeMap<(AgentId, Role), usize> = BTreeMap::new();
        for offer in offers {
            let key = (offer.agent_id.clone(), offer.role.clone());
            match places.get(&key) {
                Some(&place) => {
                    if let Err(apart) = merged[place].merge(offer) {
                        merged.push(*apart);
                    }
                }
                None => {
                    places.insert(key, merged.len());
                    merged.push(offer);
                }
            }
        }
        merged
    }
}
