//! What a registry keeps as entries: one for each agent, framework and role, and one for maintenance, so that a change writes only what it is about.

use std::fmt;

use apportion_master_core::{Cause, RecoveredAgent, RegistryOp, RemovedAgent};
use apportion_proto::v1::{self, registry_entry::Entry as WireEntry};
use apportion_types::{
    AgentId, FrameworkId, Role, Time,
    convert::{ConvertError, activation, activation_message},
};

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
            | RegistryOp::MarkUnreachable { agent_id, .. }
            | RegistryOp::SetActivation { agent_id, .. }
            | RegistryOp::ForgetAgent { agent_id }
            | RegistryOp::RemoveAgent { agent_id, .. } => Key::Agent(agent_id.clone()),
            RegistryOp::AdmitFramework { framework_id, .. }
            | RegistryOp::ForgetFramework { framework_id }
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

/// The least layout that knows all of an entry: masters that know only earlier ones must not write what has it. 2 knows maintenance, whether
/// agents may be offered, and when they were removed.
pub(super) fn layout(entry: &v1::RegistryEntry) -> u64 {
    match &entry.entry {
        Some(WireEntry::RemovedAgent(_) | WireEntry::Maintenance(_)) => 2,
        Some(WireEntry::Agent(agent)) if agent.activation > v1::AgentActivation::Active as i32 => 2,
        _ => 1,
    }
}

fn cause_number(cause: Cause) -> i32 {
    let wire = match cause {
        Cause::Left => v1::RemovalCause::Left,
        Cause::TakenDown => v1::RemovalCause::TakenDown,
        Cause::Gone => v1::RemovalCause::Gone,
    };
    wire as i32
}

fn cause(number: i32) -> Result<Cause, ConvertError> {
    match v1::RemovalCause::try_from(number) {
        Ok(v1::RemovalCause::Unspecified | v1::RemovalCause::Left) => Ok(Cause::Left),
        Ok(v1::RemovalCause::TakenDown) => Ok(Cause::TakenDown),
        Ok(v1::RemovalCause::Gone) => Ok(Cause::Gone),
        Err(_) => Err(ConvertError::new("removed_agent.cause", format_args!("{number} is not known here"))),
    }
}

impl Contents {
    /// What there is an entry of, in order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        let agents =
            self.recovered.agents.keys().chain(self.recovered.removed_agents.keys()).cloned().map(Key::Agent);
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

    /// What is kept of this.
    pub(crate) fn entry(&self, key: &Key) -> Option<v1::RegistryEntry> {
        let entry = match key {
            Key::Agent(id) => match self.recovered.agents.get(id) {
                Some(agent) => WireEntry::Agent(v1::RegistryAgent {
                    agent_id: id.to_string(),
                    info: Some(agent.info.clone().into()),
                    unreachable: agent.unreachable,
                    unreachable_at_us: agent.unreachable_at.map(Time::as_micros),
                    activation: activation_message(agent.activation).0 as i32,
                    drain: activation_message(agent.activation).1,
                }),
                None => {
                    let removed = self.recovered.removed_agents.get(id)?;
                    match *removed == RemovedAgent::default() {
                        true => WireEntry::RemovedAgentId(id.to_string()),
                        false => WireEntry::RemovedAgent(v1::RegistryRemovedAgent {
                            agent_id: id.to_string(),
                            removed_at_us: removed.at.map(Time::as_micros),
                            cause: cause_number(removed.cause),
                        }),
                    }
                }
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
                let known = RecoveredAgent {
                    info: info("agent.info", agent.info)?,
                    unreachable: agent.unreachable,
                    unreachable_at: agent.unreachable_at_us.map(Time::from_micros),
                    activation: activation(agent.activation, agent.drain)
                        .map_err(|error| error.within("agent"))?,
                };
                self.recovered.agents.insert(id.clone(), known);
                Key::Agent(id)
            }
            WireEntry::RemovedAgentId(text) => {
                let id: AgentId = id("removed_agent_id", &text)?;
                self.recovered.removed_agents.insert(id.clone(), RemovedAgent::default());
                Key::Agent(id)
            }
            WireEntry::RemovedAgent(agent) => {
                let id: AgentId = id("removed_agent.agent_id", &agent.agent_id)?;
                let at = agent.removed_at_us.map(Time::from_micros);
                self.recovered
                    .removed_agents
                    .insert(id.clone(), RemovedAgent { at, cause: cause(agent.cause)? });
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
