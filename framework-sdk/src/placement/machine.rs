//! What tasks are placed on.

use std::sync::Arc;

use apportion_types::{AgentId, FaultDomain, Place, Resources, Unavailability};

use crate::Offer;

/// A machine on which something may be placed: what is free on it, what there is in all, and what rules ask of it.
///
/// It is made of an [`Offer`], or by hand where there are none, such as in a test or over a [`FreeView`](crate::FreeView).
#[derive(Debug, Clone)]
pub struct Machine {
    /// Its agent.
    pub agent_id: AgentId,
    /// Where that is: host, attributes, zone.
    pub place: Arc<Place>,
    /// What may be placed on it, on its terms.
    pub free: Resources,
    /// What it has in all, as far as that is known; at least what is free. Amounts are compared in parts of the largest of it.
    pub total: Resources,
    /// When it is taken away, if that is planned.
    pub unavailability: Option<Unavailability>,
}

impl Machine {
    /// One that is all free, on a host of the same name, written as in tests and examples.
    ///
    /// # Panics
    ///
    /// When the id or the resources are not such; [`Machine::of`] takes values that are.
    pub fn new(agent_id: &str, free: &str) -> Machine {
        let id = AgentId::new(agent_id).expect("an agent's id such as `agent-1`");
        let place = Place { hostname: agent_id.to_owned(), ..Place::default() };
        Machine::of(id, Arc::new(place), free.parse().expect("resources such as `cpus:1;mem:64`"))
    }

    /// One that is all free.
    pub fn of(agent_id: AgentId, place: Arc<Place>, free: Resources) -> Machine {
        Machine { agent_id, place, total: free.clone(), free, unavailability: None }
    }

    /// With an attribute.
    #[must_use]
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Machine {
        Arc::make_mut(&mut self.place).attributes.insert(name.into(), value.into());
        self
    }

    /// In a fault domain.
    #[must_use]
    pub fn domain(mut self, region: impl Into<String>, zone: impl Into<String>) -> Machine {
        let domain = FaultDomain { region: region.into(), zone: zone.into() };
        Arc::make_mut(&mut self.place).domain = Some(domain);
        self
    }

    /// With maintenance planned.
    #[must_use]
    pub fn unavailable(mut self, window: Unavailability) -> Machine {
        self.unavailability = Some(window);
        self
    }
}

/// What is left of the offer is free. What else its machine has is not known to it.
impl From<&Offer> for Machine {
    fn from(offer: &Offer) -> Machine {
        let mut machine =
            Machine::of(offer.agent_id().clone(), offer.place().clone(), offer.resources().clone());
        machine.unavailability = offer.unavailability();
        machine
    }
}
