//! What a registry keeps, for people and programs.

use apportion_master_core::Cause;
use apportion_types::{
    Time,
    document::{DrainWish, MaintenanceWindow, RoleSettings},
};
use serde_json::{Value, json};

use super::Contents;
use crate::rpc::change::role_settings;

impl Contents {
    /// All of it as JSON, in order; fields are only ever added.
    pub fn to_json(&self) -> Value {
        let agents = self.recovered.agents.iter().map(|(id, agent)| {
            json!({
                "agent_id": id.as_str(),
                "hostname": agent.info.hostname,
                "address": agent.info.address,
                "resources": agent.info.resources.to_string(),
                "unreachable": agent.unreachable,
                "unreachable_at_us": agent.unreachable_at.map(Time::as_micros),
                "activation": agent.activation.name(),
                "drain": agent.activation.drain().map(DrainWish::new),
            })
        });
        let frameworks = self.recovered.frameworks.iter().map(|(id, info)| {
            json!({
                "framework_id": id.as_str(),
                "name": info.name,
                "principal": info.principal,
                "roles": info.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>(),
                "failover_timeout_ms": u64::try_from(info.failover_timeout.as_millis()).unwrap_or(u64::MAX),
            })
        });
        let roles = self.roles.iter().map(|(role, settings)| {
            RoleSettings::try_from(role_settings(role, settings)).expect("what is set is well formed")
        });
        let gone = self.recovered.removed_agents.iter().filter(|(_, removed)| removed.cause == Cause::Gone);
        json!({
            "agents": agents.collect::<Vec<_>>(),
            "removed_agents": self.recovered.removed_agents.keys().map(|id| id.as_str()).collect::<Vec<_>>(),
            "gone_agents": gone.map(|(id, _)| id.as_str()).collect::<Vec<_>>(),
            "frameworks": frameworks.collect::<Vec<_>>(),
            "removed_frameworks": self.recovered.removed_frameworks.iter().map(|id| id.as_str()).collect::<Vec<_>>(),
            "roles": roles.collect::<Vec<_>>(),
            "maintenance": {
                "windows": self.recovered.maintenance.windows.iter().map(MaintenanceWindow::from).collect::<Vec<_>>(),
                "down": self.recovered.maintenance.down.iter().map(|machine| machine.as_str()).collect::<Vec<_>>(),
            },
        })
    }
}
