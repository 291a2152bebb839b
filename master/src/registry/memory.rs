use std::sync::{Mutex, MutexGuard, PoisonError};

use apportion_master_core::RegistryOp;
use async_trait::async_trait;

use super::{Contents, Registry, RegistryError};

/// A registry that lasts as long as the process: for development and tests. After a restart agents and frameworks are
/// unknown, and register and subscribe anew.
#[derive(Debug, Default)]
pub struct InMemory {
    contents: Mutex<Contents>,
}

impl InMemory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Registry for InMemory {
    async fn commit(&self, ops: Vec<RegistryOp>) -> Result<(), RegistryError> {
        let mut contents = self.lock();
        ops.into_iter().for_each(|op| contents.apply(op));
        Ok(())
    }

    async fn load(&self) -> Result<Contents, RegistryError> {
        Ok(self.lock().clone())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use apportion_master_core::view::RoleSettings;
    use apportion_types::{AgentId, AgentInfo, FrameworkId, FrameworkInfo, Resources, Role, limits};

    use super::*;

    fn ops() -> Vec<RegistryOp> {
        let agent = |id| AgentId::new(id).unwrap();
        let framework = |id| FrameworkId::new(id).unwrap();
        let info = |version: &str| AgentInfo {
            hostname: "h".to_owned(),
            address: "h:1".to_owned(),
            resources: Resources::new(),
            attributes: BTreeMap::new(),
            domain: None,
            unenforced: Vec::new(),
            version: version.to_owned(),
        };
        let framework_info = FrameworkInfo {
            name: "f".to_owned(),
            principal: "p".to_owned(),
            roles: vec![Role::default()],
            failover_timeout: limits::FAILOVER_TIMEOUT_DEFAULT,
            labels: BTreeMap::new(),
        };
        let role = |name| Role::new(name).unwrap();
        let none = RoleSettings::default();
        vec![
            RegistryOp::AdmitAgent { agent_id: agent("a"), info: info("1") },
            RegistryOp::MarkUnreachable { agent_id: agent("a") },
            RegistryOp::MarkUnreachable { agent_id: agent("nobody") },
            RegistryOp::AdmitAgent { agent_id: agent("b"), info: info("1") },
            RegistryOp::AdmitAgent { agent_id: agent("b"), info: info("2") },
            RegistryOp::AdmitAgent { agent_id: agent("c"), info: info("1") },
            RegistryOp::RemoveAgent { agent_id: agent("c") },
            RegistryOp::AdmitFramework { framework_id: framework("f"), info: framework_info.clone() },
            RegistryOp::RemoveFramework { framework_id: framework("f") },
            RegistryOp::AdmitFramework { framework_id: framework("g"), info: framework_info },
            RegistryOp::SetRole { role: role("eng"), settings: RoleSettings { priority: 1, ..none.clone() } },
            RegistryOp::SetRole { role: role("eng"), settings: RoleSettings { priority: 2, ..none.clone() } },
            RegistryOp::SetRole { role: role("ops"), settings: RoleSettings { priority: 1, ..none.clone() } },
            RegistryOp::SetRole { role: role("ops"), settings: none },
        ]
    }

    #[tokio::test]
    async fn keeps_what_was_written_last() {
        let registry = InMemory::new();
        assert!(registry.load().await.unwrap().is_empty());
        registry.commit(ops()).await.unwrap();
        let contents = registry.load().await.unwrap();
        let agents: Vec<_> = contents
            .agents
            .iter()
            .map(|(id, agent)| (id.as_str(), agent.info.version.as_str(), agent.unreachable))
            .collect();
        assert_eq!(agents, [("a", "1", true), ("b", "2", false)]);
        assert_eq!(contents.removed_agents.iter().map(AgentId::as_str).collect::<Vec<_>>(), ["c"]);
        assert_eq!(contents.frameworks.keys().map(FrameworkId::as_str).collect::<Vec<_>>(), ["g"]);
        assert_eq!(contents.removed_frameworks.iter().map(FrameworkId::as_str).collect::<Vec<_>>(), ["f"]);
        let roles: Vec<_> =
            contents.roles.iter().map(|(role, settings)| (role.as_str(), settings.priority)).collect();
        assert_eq!(roles, [("eng", 2)]);
    }

    #[tokio::test]
    async fn twice_is_once_and_removed_stays_removed() {
        let (once, twice) = (InMemory::new(), InMemory::new());
        once.commit(ops()).await.unwrap();
        for op in ops() {
            twice.commit(vec![op.clone(), op]).await.unwrap();
        }
        twice.commit(ops()).await.unwrap();
        let (once, twice) = (once.load().await.unwrap(), twice.load().await.unwrap());
        assert!(once.removed_agents.iter().all(|id| !twice.agents.contains_key(id)));
        // A repeated history revives the agent that was unreachable only until it is marked again.
        assert_eq!(once, twice);
    }
}
