//! `OperatorService`: reads from the published view, wishes through the core.

use std::sync::Arc;

use apportion_master_core::{
    OperatorCall, OperatorReply, View,
    view::{AgentState, AgentView, FrameworkState, FrameworkView, OfferView, TaskView},
};
use apportion_proto::v1::{self, operator_service_server::OperatorService};
use apportion_types::{FrameworkId, TaskId, limits};
use prost::Message;
use tokio::sync::{mpsc, oneshot, watch};
use tonic::{Request, Response, Status};

use super::status;
use crate::{
    actor::Inbound,
    summary::{self, TaskFilter},
};

/// Bytes of one answer to an operator: lists are longer than what peers may send. A client must allow for it.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The service; see `operator.proto`.
pub(crate) struct Operators {
    view: watch::Receiver<Arc<View>>,
    inbox: mpsc::Sender<Inbound>,
}

impl Operators {
    pub(crate) fn new(view: watch::Receiver<Arc<View>>, inbox: mpsc::Sender<Inbound>) -> Self {
        Self { view, inbox }
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    /// Asks the core, and waits for its answer.
    async fn ask(&self, call: OperatorCall) -> Result<OperatorReply, Status> {
        let (reply, answer) = oneshot::channel();
        self.inbox.send(Inbound::Operator { call, reply }).await.map_err(|_| status::shutting_down())?;
        let answer = answer.await.map_err(|_| status::shutting_down())?;
        answer.map_err(|error| status::operator(&error))
    }
}

fn answer<M: Message>(message: M) -> Result<Response<M>, Status> {
    let bytes = message.encoded_len();
    if bytes > ANSWER_BYTES_MAX {
        return Err(status::answer_too_large(bytes, ANSWER_BYTES_MAX));
    }
    Ok(Response::new(message))
}

fn framework_id(text: &str) -> Result<FrameworkId, Status> {
    FrameworkId::new(text).map_err(|error| status::invalid(format_args!("framework_id: {error}")))
}

fn task_id(text: &str) -> Result<TaskId, Status> {
    TaskId::new(text).map_err(|error| status::invalid(format_args!("task_id: {error}")))
}

#[tonic::async_trait]
impl OperatorService for Operators {
    async fn get_cluster(
        &self,
        _request: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        let cluster = summary::cluster(&self.view());
        answer(v1::GetClusterResponse {
            master_id: cluster.master_id,
            version: cluster.version.to_owned(),
            started_at_us: cluster.started_at_us.as_micros(),
            agents: cluster.agents as u64,
            frameworks: cluster.frameworks as u64,
            tasks: cluster.tasks as u64,
            offers: cluster.offers as u64,
            total: Some(cluster.total.0.into()),
            allocated: Some(cluster.allocated.0.into()),
            offered: Some(cluster.offered.0.into()),
        })
    }

    async fn list_agents(
        &self,
        _request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let agents = summary::agents(&self.view()).into_iter().map(agent).collect();
        answer(v1::ListAgentsResponse { agents, ..Default::default() })
    }

    async fn list_frameworks(
        &self,
        _request: Request<v1::ListFrameworksRequest>,
    ) -> Result<Response<v1::ListFrameworksResponse>, Status> {
        let frameworks = summary::frameworks(&self.view()).into_iter().map(framework).collect();
        answer(v1::ListFrameworksResponse { frameworks, ..Default::default() })
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let request = request.into_inner();
        let filter = TaskFilter {
            framework_id: request.framework_id.as_deref().map(framework_id).transpose()?,
            task_id: request.task_id.as_deref().map(task_id).transpose()?,
            completed: request.completed,
        };
        let view = self.view();
        if let Some(id) = filter.framework_id.as_ref().filter(|id| !view.frameworks.contains_key(*id)) {
            return Err(Status::not_found(format!("framework `{id}` does not exist")));
        }
        let tasks = summary::tasks(&view, &filter).into_iter().map(|each| task(&view, each)).collect();
        answer(v1::ListTasksResponse { tasks, ..Default::default() })
    }

    async fn list_offers(
        &self,
        _request: Request<v1::ListOffersRequest>,
    ) -> Result<Response<v1::ListOffersResponse>, Status> {
        let offers = summary::offers(&self.view()).into_iter().map(offer).collect();
        answer(v1::ListOffersResponse { offers, ..Default::default() })
    }

    async fn kill_task(
        &self,
        request: Request<v1::KillTaskRequest>,
    ) -> Result<Response<v1::KillTaskResponse>, Status> {
        let request = request.into_inner();
        let grace = request.grace_ms.map(std::time::Duration::from_millis);
        if let Some(grace) = grace.filter(|grace| *grace > limits::KILL_GRACE_MAX) {
            let most = limits::KILL_GRACE_MAX.as_millis();
            return Err(status::invalid(format_args!(
                "grace_ms: {} is more than the most that is allowed, {most}",
                grace.as_millis()
            )));
        }
        let call = OperatorCall::KillTask {
            framework_id: request.framework_id.as_deref().map(framework_id).transpose()?,
            task_id: task_id(&request.task_id)?,
            grace,
        };
        match self.ask(call).await? {
            OperatorReply::KillRequested { framework_id } => {
                answer(v1::KillTaskResponse { framework_id: framework_id.to_string() })
            }
            _ => unreachable!("the core answers what it was asked"),
        }
    }

    async fn teardown_framework(
        &self,
        request: Request<v1::TeardownFrameworkRequest>,
    ) -> Result<Response<v1::TeardownFrameworkResponse>, Status> {
        let framework_id = framework_id(&request.into_inner().framework_id)?;
        match self.ask(OperatorCall::TeardownFramework { framework_id }).await? {
            OperatorReply::TornDown => answer(v1::TeardownFrameworkResponse {}),
            _ => unreachable!("the core answers what it was asked"),
        }
    }
}

fn agent(agent: &AgentView) -> v1::AgentSummary {
    let state = match agent.state {
        AgentState::Active => v1::AgentState::Active,
        AgentState::Disconnected => v1::AgentState::Disconnected,
        AgentState::Unreachable => v1::AgentState::Unreachable,
    };
    v1::AgentSummary {
        agent_id: agent.agent_id.to_string(),
        info: Some((&agent.info).into()),
        state: state as i32,
        registered_at_us: agent.registered_at.as_micros(),
        allocated: Some((&agent.allocated).into()),
        offered: Some((&agent.offered).into()),
        tasks: agent.tasks as u64,
        total: Some((&agent.total).into()),
        revocable: Some((&agent.revocable).into()),
    }
}

fn framework(framework: &FrameworkView) -> v1::FrameworkSummary {
    let state = match framework.state {
        FrameworkState::Active => v1::FrameworkState::Active,
        FrameworkState::Disconnected => v1::FrameworkState::Disconnected,
        FrameworkState::Removed => v1::FrameworkState::Removed,
    };
    v1::FrameworkSummary {
        framework_id: framework.framework_id.to_string(),
        info: Some((&framework.info).into()),
        state: state as i32,
        subscribed_at_us: framework.subscribed_at.as_micros(),
        suppressed_roles: framework.suppressed.iter().map(ToString::to_string).collect(),
        allocated: Some((&framework.allocated).into()),
        offered: Some((&framework.offered).into()),
        tasks: framework.tasks as u64,
        declined: framework.declined.iter().map(|(reason, count)| (reason.clone(), *count)).collect(),
        ..Default::default()
    }
}

fn task(view: &View, task: &TaskView) -> v1::TaskSummary {
    v1::TaskSummary {
        framework_id: task.framework_id.to_string(),
        agent_id: task.agent_id.to_string(),
        role: task.role.to_string(),
        info: Some((&task.info).into()),
        state: v1::TaskState::from(task.state) as i32,
        status: task.status.as_ref().map(Into::into),
        accepted_at_us: task.accepted_at.as_micros(),
        agent_address: summary::agent_address(view, &task.agent_id).to_owned(),
    }
}

fn offer(offer: &OfferView) -> v1::OfferSummary {
    v1::OfferSummary {
        offer: Some((&offer.offer).into()),
        made_at_us: offer.made_at.as_micros(),
        expires_at_us: offer.expires_at.as_micros(),
    }
}
