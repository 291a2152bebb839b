//! Who may be offered an agent at all: constraints, gpus, regions. Judged once for each client and agent, and remembered as a bit.

use apportion_types::Capability;

use crate::{
    explain::Obstacle,
    hierarchical::Hierarchical,
    slab::{AgentKey, ClientKey},
    state::{Agent, Client},
};

/// What keeps a client from every offer of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exclusion {
    Gpus,
    Region,
    Constraint,
}

impl Hierarchical {
    /// True when there may be agents that the client is not to be offered.
    fn is_selective(&self, client: &Client) -> bool {
        let options = &self.frameworks[client.framework].options;
        let can = |capability| options.capabilities.contains(&capability);
        options.constraints.contains_key(&client.role_name)
            || self.filter_gpus && !can(Capability::GpuResources)
            || self.region.is_some() && !can(Capability::RegionAware)
    }

    fn exclusion(&self, client: &Client, agent: &Agent) -> Option<Exclusion> {
        let options = &self.frameworks[client.framework].options;
        let can = |capability| options.capabilities.contains(&capability);
        if self.filter_gpus && agent.has_gpus && !can(Capability::GpuResources) {
            return Some(Exclusion::Gpus);
        }
        let elsewhere = self.region.as_ref().zip(agent.place.domain.as_ref());
        if elsewhere.is_some_and(|(home, domain)| domain.region != *home) && !can(Capability::RegionAware) {
            return Some(Exclusion::Region);
        }
        let constraints = options.constraints.get(&client.role_name);
        let excluded = constraints.is_some_and(|constraints| !constraints.admit(&agent.place));
        excluded.then_some(Exclusion::Constraint)
    }

    /// What excludes a client that is barred.
    pub(crate) fn exclusion_obstacle(&self, client: ClientKey, agent: AgentKey) -> Obstacle {
        let (client, agent) = (&self.clients[client], &self.agents[agent]);
        match self.exclusion(client, agent).expect("who is barred is excluded") {
            Exclusion::Gpus => Obstacle::Gpus,
            Exclusion::Region => {
                let domain = agent.place.domain.as_ref();
                Obstacle::Region { region: domain.expect("it is in a region").region.clone() }
            }
            Exclusion::Constraint => {
                let constraints = &self.frameworks[client.framework].options.constraints[&client.role_name];
                let failing = constraints.failing(&agent.place).unwrap_or_default();
                Obstacle::Constraint { failing: failing.iter().map(ToString::to_string).collect() }
            }
        }
    }

    /// Judges a client anew, on every agent.
    pub(crate) fn judge_client(&mut self, key: ClientKey) {
        let selective = self.is_selective(&self.clients[key]);
        let was = match selective {
            true => !self.selective.insert(key),
            false => self.selective.remove(key),
        };
        if selective || was {
            let agents: Vec<AgentKey> = self.agents.iter().map(|(agent, _)| agent).collect();
            for agent in agents {
                self.judge_pair(key, agent);
            }
        }
    }

    /// Judges an agent, for every client that may be excluded.
    pub(crate) fn judge_agent(&mut self, key: AgentKey) {
        let selective: Vec<ClientKey> = self.selective.iter().collect();
        for client in selective {
            self.judge_pair(client, key);
        }
    }

    fn judge_pair(&mut self, client: ClientKey, agent: AgentKey) {
        let excluded = self.exclusion(&self.clients[client], &self.agents[agent]).is_some();
        let barred = &mut self.agents[agent].barred;
        match (excluded, barred) {
            (true, barred) => {
                barred.get_or_insert_default().insert(client);
            }
            (false, Some(barred)) => {
                barred.remove(client);
            }
            (false, None) => {}
        }
    }

    /// Forgets on which agents a client that is no more was excluded.
    pub(crate) fn forget_judgements(&mut self, key: ClientKey) {
        if self.selective.remove(key) {
            for (_, agent) in self.agents.iter_mut() {
                if let Some(barred) = &mut agent.barred {
                    barred.remove(key);
                }
            }
        }
    }

    /// Whether a bit is what judging anew gives.
    pub(crate) fn is_judged(&self, client: ClientKey, agent: AgentKey) -> bool {
        let excluded = self.exclusion(&self.clients[client], &self.agents[agent]).is_some();
        let barred = self.agents[agent].barred.as_ref();
        barred.is_some_and(|barred| barred.contains(client)) == excluded
    }
}
