//! `OperatorService`: reads from the published view, wishes through the core.

use std::{mem, sync::Arc};

use apportion_master_core::{OperatorCall, OperatorReply, View};
use apportion_proto::v1::{self, operator_service_server::OperatorService};
use apportion_types::{AgentId, FrameworkId, MachineId, Resources, TaskId, convert::ConvertError, limits};
use prost::Message;
use tokio::sync::watch;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::{change, maintenance, status, wire};
use crate::{
    ask::Asker,
    explain::{Asked, Explainer},
    lists::{self, Key, Page, TaskFilter, Wanted},
    summary,
    watch::{Change, Hub, Kind, Position, Told, WatchEnd},
};

/// Bytes of one answer to an operator: a page, or a single large entry.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// The service; see `operator.proto`.
pub(crate) struct Operators {
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) asker: Asker,
    pub(crate) explainer: Explainer,
    pub(crate) hub: Arc<Hub>,
}

impl Operators {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    async fn ask(&self, call: OperatorCall) -> Result<OperatorReply, Status> {
        self.asker.ask(call).await.map_err(|error| status::ask(&error))
    }

    async fn update_agent(&self, call: Result<OperatorCall, ConvertError>) -> Result<(), Status> {
        match self.ask(call.map_err(status::invalid)?).await? {
            OperatorReply::AgentUpdated => Ok(()),
            other => not_as_asked(&other),
        }
    }
}

fn answer<M: Message>(message: M) -> Result<Response<M>, Status> {
    let bytes = message.encoded_len();
    if bytes > ANSWER_BYTES_MAX {
        return Err(status::answer_too_large(bytes, ANSWER_BYTES_MAX));
    }
    Ok(Response::new(message))
}

fn id<T: std::str::FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse().map_err(|error| status::invalid(ConvertError::new(field, error)))
}

fn wanted<K: Key>(size: u32, token: &str) -> Result<Wanted<K>, Status> {
    Wanted::new(size, token).map_err(status::invalid)
}

/// The page of a list out of its rows.
fn page<K: Key, R, M: Message>(
    wanted: &Wanted<K>,
    rows: impl Iterator<Item = (K, R)>,
    make: impl FnMut(R) -> M,
) -> Page<M> {
    wanted.take(rows, make, Message::encoded_len)
}

fn not_as_asked(reply: &OperatorReply) -> ! {
    unreachable!("the core answers what it was asked, not {reply:?}")
}

#[tonic::async_trait]
impl OperatorService for Operators {
    type WatchStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::WatchResponse, Status>> + Send>>;

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
        request: Request<v1::ListAgentsRequest>,
    ) -> Result<Response<v1::ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let view = self.view();
        if let Some(text) = &request.agent_id {
            let id: AgentId = id("agent_id", text)?;
            let agent = view.agents.get(&id).ok_or_else(|| status::missing("agent", &id))?;
            return answer(v1::ListAgentsResponse { agents: vec![wire::agent(agent)], ..Default::default() });
        }
        let wanted = wanted(request.page_size, &request.page_token)?;
        let page = page(&wanted, lists::agents(&view, wanted.after.as_ref()), wire::agent);
        answer(v1::ListAgentsResponse { agents: page.rows, next_page_token: page.next })
    }

    async fn list_frameworks(
        &self,
        request: Request<v1::ListFrameworksRequest>,
    ) -> Result<Response<v1::ListFrameworksResponse>, Status> {
        let request = request.into_inner();
        let wanted = wanted(request.page_size, &request.page_token)?;
        let view = self.view();
        let page = page(&wanted, lists::frameworks(&view, wanted.after.as_ref()), wire::framework);
        answer(v1::ListFrameworksResponse { frameworks: page.rows, next_page_token: page.next })
    }

    async fn list_tasks(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let request = request.into_inner();
        let filter = TaskFilter {
            framework_id: request.framework_id.as_deref().map(|text| id("framework_id", text)).transpose()?,
            task_id: request.task_id.as_deref().map(|text| id("task_id", text)).transpose()?,
            completed: request.completed,
        };
        let wanted = wanted(request.page_size, &request.page_token)?;
        let view = self.view();
        if let Some(id) = filter.framework_id.as_ref().filter(|id| !view.frameworks.contains_key(*id)) {
            return Err(status::missing("framework", id));
        }
        let rows = lists::tasks(&view, &filter, wanted.after.as_ref());
        let page = page(&wanted, rows, |task| wire::task(&view, task));
        answer(v1::ListTasksResponse { tasks: page.rows, next_page_token: page.next })
    }

    async fn list_offers(
        &self,
        request: Request<v1::ListOffersRequest>,
    ) -> Result<Response<v1::ListOffersResponse>, Status> {
        let request = request.into_inner();
        let wanted = wanted(request.page_size, &request.page_token)?;
        let view = self.view();
        let page = page(&wanted, lists::offers(&view, wanted.after.as_ref()), wire::offer);
        answer(v1::ListOffersResponse { offers: page.rows, next_page_token: page.next })
    }

    async fn list_roles(
        &self,
        request: Request<v1::ListRolesRequest>,
    ) -> Result<Response<v1::ListRolesResponse>, Status> {
        let request = request.into_inner();
        let wanted = wanted(request.page_size, &request.page_token)?;
        let shares = self.asker.shares().await.map_err(|error| status::ask(&error))?;
        let page = roles_page(&self.view(), shares, &wanted);
        answer(v1::ListRolesResponse { roles: page.rows, next_page_token: page.next })
    }

    async fn list_reservations(
        &self,
        request: Request<v1::ListReservationsRequest>,
    ) -> Result<Response<v1::ListReservationsResponse>, Status> {
        let request = request.into_inner();
        let wanted = wanted(request.page_size, &request.page_token)?;
        let view = self.view();
        let page = page(&wanted, lists::reservations(&view, wanted.after.as_ref()), wire::reservation);
        answer(v1::ListReservationsResponse { reservations: page.rows, next_page_token: page.next })
    }

    async fn list_volumes(
        &self,
        request: Request<v1::ListVolumesRequest>,
    ) -> Result<Response<v1::ListVolumesResponse>, Status> {
        let request = request.into_inner();
        let wanted = wanted(request.page_size, &request.page_token)?;
        let view = self.view();
        let page = page(&wanted, lists::volumes(&view, wanted.after.as_ref()), wire::volume);
        answer(v1::ListVolumesResponse { volumes: page.rows, next_page_token: page.next })
    }

    async fn watch(&self, request: Request<v1::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        let kinds = request.kinds.iter().map(|number| kind(*number)).collect::<Result<Vec<Kind>, _>>()?;
        let since =
            request.since.map(|since| Position { master_id: since.master_id, version: since.version });
        let watcher = self
            .hub
            .watch(&kinds, since.as_ref())
            .map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let watching = watcher.start(Arc::clone(&self.explainer.metrics), told);
        let end = |end: WatchEnd| match end {
            WatchEnd::TooSlow => Status::resource_exhausted(end.to_string()),
            WatchEnd::Ending => Status::unavailable(end.to_string()),
        };
        Ok(Response::new(Box::pin(watching.map(move |message| message.map_err(end)))))
    }

    async fn explain(
        &self,
        request: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        let request = request.into_inner();
        let needs = request.needs.map_or_else(|| Ok(Resources::new()), Resources::try_from);
        let asked = Asked {
            framework: request.framework,
            agent: request.agent_id.as_deref().map(|text| id("agent_id", text)).transpose()?,
            needs: needs.map_err(|error| status::invalid(error.within("needs")))?,
        };
        let explained = self.explainer.explain(self.view(), asked).await;
        answer(explained.map_err(|error| status::ask(&error))?)
    }

    async fn update_roles(
        &self,
        request: Request<v1::UpdateRolesRequest>,
    ) -> Result<Response<v1::UpdateRolesResponse>, Status> {
        let call = change::update_roles(request.into_inner()).map_err(status::invalid)?;
        match self.ask(call).await? {
            OperatorReply::RolesUpdated => answer(v1::UpdateRolesResponse {}),
            other => not_as_asked(&other),
        }
    }

    async fn operate(
        &self,
        request: Request<v1::OperateRequest>,
    ) -> Result<Response<v1::OperateResponse>, Status> {
        let call = change::operate(request.into_inner()).map_err(status::invalid)?;
        match self.ask(call).await? {
            OperatorReply::Operated => answer(v1::OperateResponse {}),
            other => not_as_asked(&other),
        }
    }

    async fn deactivate_agent(
        &self,
        request: Request<v1::DeactivateAgentRequest>,
    ) -> Result<Response<v1::DeactivateAgentResponse>, Status> {
        self.update_agent(change::deactivate(request.get_ref())).await?;
        answer(v1::DeactivateAgentResponse {})
    }

    async fn reactivate_agent(
        &self,
        request: Request<v1::ReactivateAgentRequest>,
    ) -> Result<Response<v1::ReactivateAgentResponse>, Status> {
        self.update_agent(change::reactivate(request.get_ref())).await?;
        answer(v1::ReactivateAgentResponse {})
    }

    async fn drain_agent(
        &self,
        request: Request<v1::DrainAgentRequest>,
    ) -> Result<Response<v1::DrainAgentResponse>, Status> {
        self.update_agent(change::drain(request.into_inner())).await?;
        answer(v1::DrainAgentResponse {})
    }

    async fn mark_agent_gone(
        &self,
        request: Request<v1::MarkAgentGoneRequest>,
    ) -> Result<Response<v1::MarkAgentGoneResponse>, Status> {
        self.update_agent(change::gone(request.get_ref())).await?;
        answer(v1::MarkAgentGoneResponse {})
    }

    async fn get_maintenance_schedule(
        &self,
        _request: Request<v1::GetMaintenanceScheduleRequest>,
    ) -> Result<Response<v1::GetMaintenanceScheduleResponse>, Status> {
        answer(maintenance::schedule(&self.view()))
    }

    async fn get_maintenance_status(
        &self,
        request: Request<v1::GetMaintenanceStatusRequest>,
    ) -> Result<Response<v1::GetMaintenanceStatusResponse>, Status> {
        let machine = request.into_inner().machine;
        let machine: Option<MachineId> = machine.as_deref().map(|text| id("machine", text)).transpose()?;
        answer(maintenance::status(&self.view(), machine.as_ref()))
    }

    async fn update_maintenance_schedule(
        &self,
        request: Request<v1::UpdateMaintenanceScheduleRequest>,
    ) -> Result<Response<v1::UpdateMaintenanceScheduleResponse>, Status> {
        let call = maintenance::update_schedule(request.into_inner()).map_err(status::invalid)?;
        match self.ask(call).await? {
            OperatorReply::MaintenanceUpdated => answer(v1::UpdateMaintenanceScheduleResponse {}),
            other => not_as_asked(&other),
        }
    }

    async fn start_maintenance(
        &self,
        request: Request<v1::StartMaintenanceRequest>,
    ) -> Result<Response<v1::StartMaintenanceResponse>, Status> {
        let call = maintenance::start(request.get_ref()).map_err(status::invalid)?;
        match self.ask(call).await? {
            OperatorReply::MaintenanceUpdated => answer(v1::StartMaintenanceResponse {}),
            other => not_as_asked(&other),
        }
    }

    async fn stop_maintenance(
        &self,
        request: Request<v1::StopMaintenanceRequest>,
    ) -> Result<Response<v1::StopMaintenanceResponse>, Status> {
        let call = maintenance::stop(request.get_ref()).map_err(status::invalid)?;
        match self.ask(call).await? {
            OperatorReply::MaintenanceUpdated => answer(v1::StopMaintenanceResponse {}),
            other => not_as_asked(&other),
        }
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
        let framework: Option<FrameworkId> =
            request.framework_id.as_deref().map(|text| id("framework_id", text)).transpose()?;
        let task_id: TaskId = id("task_id", &request.task_id)?;
        match self.ask(OperatorCall::KillTask { framework_id: framework, task_id, grace }).await? {
            OperatorReply::KillRequested { framework_id } => {
                answer(v1::KillTaskResponse { framework_id: framework_id.to_string() })
            }
            other => not_as_asked(&other),
        }
    }

    async fn teardown_framework(
        &self,
        request: Request<v1::TeardownFrameworkRequest>,
    ) -> Result<Response<v1::TeardownFrameworkResponse>, Status> {
        let framework_id = id("framework_id", &request.into_inner().framework_id)?;
        match self.ask(OperatorCall::TeardownFramework { framework_id }).await? {
            OperatorReply::TornDown => answer(v1::TeardownFrameworkResponse {}),
            other => not_as_asked(&other),
        }
    }
}

/// A page of roles, with these shares.
pub(crate) fn roles_page(
    view: &View,
    shares: Vec<apportion_allocator::Share>,
    wanted: &Wanted<apportion_types::Role>,
) -> Page<v1::RoleSummary> {
    let rows = lists::roles(view, shares).into_iter();
    let rows = rows.filter(|(role, _)| wanted.after.as_ref().is_none_or(|after| role > after));
    page(wanted, rows.map(|(role, row)| (role.clone(), (role, row))), |(role, row)| wire::role(&role, &row))
}

fn kind(number: i32) -> Result<Kind, Status> {
    Ok(match v1::WatchKind::try_from(number) {
        Ok(v1::WatchKind::Agents) => Kind::Agents,
        Ok(v1::WatchKind::Frameworks) => Kind::Frameworks,
        Ok(v1::WatchKind::Tasks) => Kind::Tasks,
        Ok(v1::WatchKind::Offers) => Kind::Offers,
        Ok(v1::WatchKind::Roles) => Kind::Roles,
        Ok(v1::WatchKind::Unspecified) | Err(_) => {
            return Err(status::invalid(format_args!("kinds: {number} is not a kind that can be watched")));
        }
    })
}

/// A part of what a watcher is told as messages that each fit; the last of them is complete if the part is.
fn told(view: &View, told: Told) -> Vec<v1::WatchResponse> {
    let position = v1::WatchPosition { master_id: told.position.master_id, version: told.position.version };
    let message = |changes| v1::WatchResponse {
        position: Some(position.clone()),
        snapshot: told.snapshot,
        complete: false,
        changes,
    };
    let mut messages = Vec::new();
    let (mut changes, mut bytes) = (Vec::new(), 0);
    for each in told.changes {
        let each = change_message(view, each);
        bytes += each.encoded_len();
        changes.push(each);
        if bytes >= limits::PAGE_BYTES_MAX {
            messages.push(message(mem::take(&mut changes)));
            bytes = 0;
        }
    }
    if !changes.is_empty() || messages.is_empty() {
        messages.push(message(changes));
    }
    if let Some(last) = messages.last_mut() {
        last.complete = told.complete;
    }
    messages
}

fn change_message(view: &View, change: Change) -> v1::WatchChange {
    use v1::watch_change::Change as Wire;
    let change = match change {
        Change::Agent(agent) => Wire::Agent(wire::agent(&agent)),
        Change::AgentRemoved(id) => Wire::AgentRemoved(id.to_string()),
        Change::Framework(framework) => Wire::Framework(wire::framework(&framework)),
        Change::FrameworkRemoved(id) => Wire::FrameworkRemoved(id.to_string()),
        Change::Task(task) => Wire::Task(wire::task(view, &task)),
        Change::TaskRemoved(framework, task) => {
            Wire::TaskRemoved(v1::TaskKey { framework_id: framework.to_string(), task_id: task.to_string() })
        }
        Change::Offer(offer) => Wire::Offer(wire::offer(&offer)),
        Change::OfferRemoved(id) => Wire::OfferRemoved(id.to_string()),
        Change::Role(role, settings) => Wire::Role(change::role_settings(&role, &settings)),
        Change::RoleRemoved(role) => Wire::RoleRemoved(role.to_string()),
    };
    v1::WatchChange { change: Some(change) }
}
