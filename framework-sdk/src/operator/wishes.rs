//! What operators change, and what they ask why.

use std::collections::BTreeMap;

use apportion_proto::v1;
use apportion_types::{
    AgentId, Operation, Resources, Role,
    document::{Explanation, Limit},
};

use super::{Operator, OperatorError};

/// What is to change of what is set for a role; what is none stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoleChange {
    /// How much it counts beside its siblings, in thousandths.
    pub weight_milli: Option<u32>,
    /// Whom it may preempt: those of lower priority.
    pub priority: Option<i32>,
    /// Both parts of its quota.
    pub quota: Option<Quota>,
}

/// What a role is sure of, and the most that it may have, over the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quota {
    /// Plain numbers.
    pub guarantee: Resources,
    /// Whatever there is when none.
    pub limit: Option<Limit>,
}

impl Operator {
    /// Changes what is set for roles, all together or not at all; with `force` also where guarantees exceed the cluster, or a role has
    /// more than its new limit. Returns when it is written.
    pub async fn update_roles(
        &self,
        changes: &BTreeMap<Role, RoleChange>,
        force: bool,
    ) -> Result<(), OperatorError> {
        let quota = |quota: &Quota| v1::Quota {
            guarantee: Some((&quota.guarantee).into()),
            limit: quota.limit.as_ref().map(|Limit(scalars)| v1::QuotaLimit {
                scalars_milli: scalars.iter().map(|(name, milli)| (name.to_string(), *milli)).collect(),
            }),
        };
        let change = |(role, change): (&Role, &RoleChange)| v1::RoleChange {
            role: role.to_string(),
            weight_milli: change.weight_milli,
            priority: change.priority,
            quota: change.quota.as_ref().map(quota),
        };
        let request = v1::UpdateRolesRequest { changes: changes.iter().map(change).collect(), force };
        match self.client.clone().update_roles(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("changing roles", &status)),
        }
    }

    /// Reserves resources of an agent, makes or ends volumes on it. Returns when it is sent to the agent.
    pub async fn operate(&self, agent_id: &AgentId, operation: &Operation) -> Result<(), OperatorError> {
        let request =
            v1::OperateRequest { agent_id: agent_id.to_string(), operation: Some(operation.into()) };
        match self.client.clone().operate(request).await {
            Ok(_) => Ok(()),
            Err(status) => Err(self.failed("changing an agent's resources", &status)),
        }
    }

    /// Why a framework, named by its id or by a name that it alone has, is or is not offered something: of one agent or of all, for a
    /// task that needs this.
    pub async fn explain(
        &self,
        framework: &str,
        agent_id: Option<&AgentId>,
        needs: &Resources,
    ) -> Result<Explanation, OperatorError> {
        const CALL: &str = "asking for an explanation";
        let request = v1::ExplainRequest {
            framework: framework.to_owned(),
            agent_id: agent_id.map(ToString::to_string),
            needs: Some(needs.into()),
        };
        let answer = self.client.clone().explain(request).await;
        let wire = answer.map_err(|status| self.failed(CALL, &status))?.into_inner();
        self.understood(CALL, Explanation::try_from(wire))
    }
}
