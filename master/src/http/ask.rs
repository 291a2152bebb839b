//! What operators ask the core over HTTP: the same calls as over gRPC, judged by the same code.
//!
//! Bodies must say that they are JSON, which no page of another site can do unasked.

use apportion_allocator::{QuotaLimit, Weight};
use apportion_master_core::OperatorCall;
use apportion_proto::v1;
use apportion_types::{
    AgentId, Operation, Resources, Role,
    convert::ConvertError,
    document::Explanation,
    resources::{Name, parse_scalar},
};
use axum::{
    Json,
    extract::{
        Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    Pages,
    refuse::{ask, invalid},
};
use crate::{explain::Asked, rpc::change};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainQuery {
    framework: String,
    agent_id: Option<AgentId>,
    #[serde(default)]
    needs: Resources,
}

pub(super) async fn explain(
    State(pages): State<Pages>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(query) = query.map_err(|rejection| invalid(rejection.body_text()))?;
    let asked = Asked { framework: query.framework, agent: query.agent_id, needs: query.needs };
    let explained = pages.explainer.explain(pages.view(), asked).await.map_err(|error| ask(&error))?;
    let document = Explanation::try_from(explained).map_err(super::broken)?;
    Ok(Json(document).into_response())
}

/// What is done when there is nothing more to say.
#[derive(Debug, Serialize)]
struct Done {}

pub(super) async fn done(
    pages: &Pages,
    call: Result<OperatorCall, ConvertError>,
) -> Result<Response, Response> {
    let call = call.map_err(invalid)?;
    pages.explainer.asker.ask(call).await.map_err(|error| ask(&error))?;
    Ok(Json(Done {}).into_response())
}

/// Changes of roles.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleChanges {
    changes: Vec<RoleChange>,
    #[serde(default)]
    force: bool,
}

/// What is to change of what is set for a role; what is left out stays.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleChange {
    role: Role,
    weight: Option<Weight>,
    priority: Option<i32>,
    quota: Option<Quota>,
}

/// Both parts are replaced.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Quota {
    #[serde(default)]
    guarantee: Resources,
    limit: Option<QuotaLimit>,
}

pub(super) async fn update_roles(
    State(pages): State<Pages>,
    body: Result<Json<RoleChanges>, JsonRejection>,
) -> Result<Response, Response> {
    let Json(RoleChanges { changes, force }) = body.map_err(|rejection| invalid(rejection.body_text()))?;
    let change = |change: RoleChange| v1::RoleChange {
        role: change.role.to_string(),
        weight_milli: change.weight.map(Weight::milli),
        priority: change.priority,
        quota: change.quota.map(|Quota { guarantee, limit }| {
            change::quota_message(&apportion_allocator::Quota { guarantee, limit })
        }),
    };
    let request = v1::UpdateRolesRequest { changes: changes.into_iter().map(change).collect(), force };
    done(&pages, change::update_roles(request)).await
}

/// An operation with resources of an agent.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Operate {
    agent_id: AgentId,
    operation: AgentOperation,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
enum AgentOperation {
    Reserve { resources: Resources },
    Unreserve { resources: Resources },
    Create { volumes: Resources },
    Destroy { volumes: Resources },
    Grow { volume: Resources, addition: Resources },
    Shrink { volume: Resources, subtract: String },
}

impl TryFrom<AgentOperation> for Operation {
    type Error = String;

    fn try_from(operation: AgentOperation) -> Result<Self, String> {
        Ok(match operation {
            AgentOperation::Reserve { resources } => Operation::Reserve { resources },
            AgentOperation::Unreserve { resources } => Operation::Unreserve { resources },
            AgentOperation::Create { volumes } => Operation::Create { volumes },
            AgentOperation::Destroy { volumes } => Operation::Destroy { volumes },
            AgentOperation::Grow { volume, addition } => Operation::Grow { volume, addition },
            AgentOperation::Shrink { volume, subtract } => {
                Operation::Shrink { volume, subtract_milli: parse_scalar(&Name::Disk, &subtract)? }
            }
        })
    }
}

pub(super) async fn operate(
    State(pages): State<Pages>,
    body: Result<Json<Operate>, JsonRejection>,
) -> Result<Response, Response> {
    let Json(Operate { agent_id, operation }) = body.map_err(|rejection| invalid(rejection.body_text()))?;
    let operation = operation.try_into().map_err(|what: String| invalid(what))?;
    done(&pages, change::operate(change::operate_request(&agent_id, operation))).await
}

/// An agent of which something is wished.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedAgent {
    agent_id: AgentId,
}

type NamedBody = Result<Json<NamedAgent>, JsonRejection>;

fn named(body: NamedBody) -> Result<String, Response> {
    let Json(NamedAgent { agent_id }) = body.map_err(|rejection| invalid(rejection.body_text()))?;
    Ok(agent_id.to_string())
}

pub(super) async fn deactivate_agent(
    State(pages): State<Pages>,
    body: NamedBody,
) -> Result<Response, Response> {
    let agent_id = named(body)?;
    done(&pages, change::deactivate(&v1::DeactivateAgentRequest { agent_id })).await
}

pub(super) async fn reactivate_agent(
    State(pages): State<Pages>,
    body: NamedBody,
) -> Result<Response, Response> {
    let agent_id = named(body)?;
    done(&pages, change::reactivate(&v1::ReactivateAgentRequest { agent_id })).await
}

pub(super) async fn mark_agent_gone(
    State(pages): State<Pages>,
    body: NamedBody,
) -> Result<Response, Response> {
    let agent_id = named(body)?;
    done(&pages, change::gone(&v1::MarkAgentGoneRequest { agent_id })).await
}

/// How an agent is drained.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainAgent {
    agent_id: AgentId,
    grace_max_ms: Option<u64>,
    #[serde(default)]
    mark_gone: bool,
}

pub(super) async fn drain_agent(
    State(pages): State<Pages>,
    body: Result<Json<DrainAgent>, JsonRejection>,
) -> Result<Response, Response> {
    let Json(DrainAgent { agent_id, grace_max_ms, mark_gone }) =
        body.map_err(|rejection| invalid(rejection.body_text()))?;
    let drain = Some(v1::Drain { grace_max_ms, mark_gone });
    done(&pages, change::drain(v1::DrainAgentRequest { agent_id: agent_id.to_string(), drain })).await
}
