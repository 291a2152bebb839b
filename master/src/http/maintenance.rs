//! Maintenance: the schedule, how machines stand, and what operators make of both.

use apportion_proto::v1;
use apportion_types::{
    MachineId,
    convert::ConvertError,
    document::{MachineStatus, MaintenanceSchedule, MaintenanceWindow},
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

use super::{Pages, ask::done, refuse::invalid};
use crate::rpc::maintenance;

pub(super) async fn schedule(State(pages): State<Pages>) -> Response {
    let view = pages.view();
    let windows = view.maintenance.windows.iter().map(MaintenanceWindow::from).collect();
    Json(MaintenanceSchedule { windows }).into_response()
}

pub(super) async fn update_schedule(
    State(pages): State<Pages>,
    body: Result<Json<MaintenanceSchedule>, JsonRejection>,
) -> Result<Response, Response> {
    let Json(schedule) = body.map_err(|rejection| invalid(rejection.body_text()))?;
    let windows = schedule.windows.into_iter().map(Into::into).collect();
    let request = v1::UpdateMaintenanceScheduleRequest { windows };
    done(&pages, maintenance::update_schedule(request)).await
}

/// Machines to be taken down, or let up.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Machines {
    machines: Vec<String>,
}

pub(super) async fn start(
    State(pages): State<Pages>,
    body: Result<Json<Machines>, JsonRejection>,
) -> Result<Response, Response> {
    let Json(Machines { machines }) = body.map_err(|rejection| invalid(rejection.body_text()))?;
    done(&pages, maintenance::start(&v1::StartMaintenanceRequest { machines })).await
}

pub(super) async fn stop(
    State(pages): State<Pages>,
    body: Result<Json<Machines>, JsonRejection>,
) -> Result<Response, Response> {
    let Json(Machines { machines }) = body.map_err(|rejection| invalid(rejection.body_text()))?;
    done(&pages, maintenance::stop(&v1::StopMaintenanceRequest { machines })).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatusQuery {
    machine: Option<MachineId>,
}

#[derive(Debug, Serialize)]
struct Status {
    machines: Vec<MachineStatus>,
}

pub(super) async fn status(
    State(pages): State<Pages>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(query) = query.map_err(|rejection| invalid(rejection.body_text()))?;
    let wire = maintenance::status(&pages.view(), query.machine.as_ref());
    let machines: Result<Vec<MachineStatus>, ConvertError> =
        wire.machines.into_iter().map(TryInto::try_into).collect();
    Ok(Json(Status { machines: machines.map_err(super::broken)? }).into_response())
}
