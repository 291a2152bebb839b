//! What a registry keeps as entries: one for each agent, framework and role, and one for maintenance, so that a change writes only what it is about.

use std::fmt;

use apportion_master_core::{RecoveredAgent, RegistryOp};
use apportion_proto::v1::{self, registry_entry::Entry as WireEntry};
use apportion_types::{AgentId, FrameworkId, Role, convert::ConvertError};

use super::Contents;
use crate::rpc::{
    change::{role_settings, settings_of_role},
    maintenance,
};

/// What an entry is about. Its text is the entry's key in a store.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Agent(AgentId),
    Framework(FrameworkId),
    Role(Role),
    Maintenance,
}

impl Key {
    /// What a change is about.
    pub(super) fn of(op: &RegistryOp) -> Key {
        match op {
            RegistryOp::AdmitAgent { agent_id, .. }
            | RegistryOp::MarkUnreachable { agent_id }
            | RegistryOp::RemoveAgent { agent_id } => Key::Agent(agent_id.clone()),
            RegistryOp::AdmitFramework { framework_id, .. }
            | RegistryOp::RemoveFramework { framework_id } => Key::Framework(framework_id.clone()),
            RegistryOp::SetRole { role, .. } => Key::Role(role.clone()),
            RegistryOp::SetMaintenance { .. } => Key::Maintenance,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Agent(id) => write!(f, "agent/{id}"),
            Key::Framework(id) => write!(f, "framework/{id}"),
            Key::Role(role) => write!(f, "role/{role}"),
            Key::Maintenance => write!(f, "maintenance"),
        }
    }
}

impl Contents {
    /// What there is an entry of, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        let agents =
            self.recovered.agents.keys().chain(&self.recovered.removed_agents).cloned().map(Key::Agent);
        let frameworks = self
            .recovered
            .frameworks
            .keys()
            .chain(&self.recovered.removed_frameworks)
            .cloned()
            .map(Key::Framework);
        let maintenance = (!self.recovered.maintenance.is_empty()).then_some(Key::Maintenance);
        agents.chain(frameworks).chain(self.roles.keys().cloned().map(Key::Role)).chain(maintenance)
    }

    /// The least layout that all of it can be kept in: who knows only earlier ones would lose something.
    pub(super) fn layout(&self) -> u64 {
        if self.recovered.maintenance.is_empty() { 1 } else { 2 }
    }

    /// What is kept of this.
    pub(crate) fn entry(&self, key: &Key) -> Option<v1::RegistryEntry> {
        let entry = match key {
            Key::Agent(id) => match self.recovered.agents.get(id) {
                Some(agent) => WireEntry::Agent(v1::RegistryAgent {
                    agent_id: id.to_string(),
                    info: Some(agent.info.clone().into()),
                    unreachable: agent.unreachable,
                }),
                None if self.recovered.removed_agents.contains(id) => {
                    WireEntry::RemovedAgentId(id.to_string())
                }
                None => return None,
            },
            Key::Framework(id) => match self.recovered.frameworks.get(id) {
                Some(info) => WireEntry::Framework(v1::RegistryFramework {
                    framework_id: id.to_string(),
                    info: Some(info.clone().into()),
                }),
                None if self.recovered.removed_frameworks.contains(id) => {
                    WireEntry::RemovedFrameworkId(id.to_string())
                }
                None => return None,
            },
            Key::Role(role) => WireEntry::Role(role_settings(role, self.roles.get(role)?)),
            Key::Maintenance if self.recovered.maintenance.is_empty() => return None,
            Key::Maintenance => WireEntry::Maintenance(maintenance::kept(&self.recovered.maintenance)),
        };
        Some(v1::RegistryEntry { entry: Some(entry) })
    }

    /// Takes on an entry that was written, and returns what it is about.
    pub(crate) fn insert(&mut self, entry: v1::RegistryEntry) -> Result<Key, ConvertError> {
        let entry = entry.entry.ok_or_else(|| ConvertError::new("", "is of a kind that is not known"))?;
        Ok(match entry {
            WireEntry::Agent(agent) => {
                let id: AgentId = id("agent.agent_id", &agent.agent_id)?;
                let info = info("agent.info", agent.info)?;
                self.recovered
                    .agents
                    .insert(id.clone(), RecoveredAgent { info, unreachable: agent.unreachable });
                Key::Agent(id)
            }
            WireEntry::RemovedAgentId(text) => {
                let id: AgentId = id("removed_agent_id", &text)?;
                self.recovered.removed_agents.insert(id.clone());
                Key::Agent(id)
            }
            WireEntry::Framework(framework) => {
                let id: FrameworkId = id("framework.framework_id", &framework.framework_id)?;
                self.recovered.frameworks.insert(id.clone(), info("framework.info", framework.info)?);
                Key::Framework(id)
            }
            WireEntry::RemovedFrameworkId(text) => {
                let id: FrameworkId = id("removed_framework_id", &text)?;
                self.recovered.removed_frameworks.insert(id.clone());
                Key::Framework(id)
            }
            WireEntry::Role(settings) => {
                let (role, settings) = settings_of_role(settings).map_err(|error| error.within("role"))?;
                self.roles.insert(role.clone(), settings);
                Key::Role(role)
            }
            WireEntry::Maintenance(wire) => {
                self.recovered.maintenance =
                    maintenance::of_kept(wire).map_err(|error| error.within("maintenance"))?;
                Key::Maintenance
            }
            WireEntry::End(_) => return Err(ConvertError::new("end", "is nothing that is kept")),
        })
    }
}

fn id<T: std::str::FromStr<Err: fmt::Display>>(field: &str, text: &str) -> Result<T, ConvertError> {
    text.parse().map_err(|error| ConvertError::new(field, error))
}

fn info<W, T: TryFrom<W, Error = ConvertError>>(field: &str, info: Option<W>) -> Result<T, ConvertError> {
    let info = info.ok_or_else(|| ConvertError::new(field, "is missing"))?;
    T::try_from(info).map_err(|error| error.within(field))
}
