//! Lists in pages: `{"agents": […], "next_page_token": "…"}`.

use apportion_types::{
    AgentId, FrameworkId, TaskId,
    convert::ConvertError,
    document::{ReservationState, RoleState, VolumeState},
};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::header,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};

use super::{
    Pages, api,
    refuse::{ask, invalid, refuse},
};
use crate::{
    lists::{self, Key, Page, TaskFilter, Wanted},
    rpc::{operator::roles_page, wire},
};

/// Which page of a list is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    #[serde(default)]
    page_size: u32,
    #[serde(default)]
    page_token: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AgentQuery {
    agent_id: Option<AgentId>,
    #[serde(default)]
    page_size: u32,
    #[serde(default)]
    page_token: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskQuery {
    framework_id: Option<FrameworkId>,
    task_id: Option<TaskId>,
    #[serde(default)]
    completed: bool,
    #[serde(default)]
    page_size: u32,
    #[serde(default)]
    page_token: String,
}

/// The query of a page, as it came.
pub(super) type Asked<Q> = Result<Query<Q>, QueryRejection>;

fn understood<Q>(asked: Asked<Q>) -> Result<Q, Response> {
    asked.map(|Query(query)| query).map_err(|rejection| invalid(rejection.body_text()))
}

fn wanted<K: Key>(size: u32, token: &str) -> Result<Wanted<K>, Response> {
    Wanted::new(size, token).map_err(invalid)
}

/// The page of a list, each row made into a document that stands for itself.
fn page<K: Key, R, D: Serialize>(
    list: &str,
    wanted: &Wanted<K>,
    rows: impl Iterator<Item = (K, R)>,
    mut make: impl FnMut(R) -> D,
) -> Response {
    let text = |row| serde_json::to_string(&make(row)).expect("documents have texts as keys");
    written(list, wanted.take(rows, text, String::len))
}

fn written(list: &str, page: Page<String>) -> Response {
    let body = format!(r#"{{"{list}":[{}],"next_page_token":"{}"}}"#, page.rows.join(","), page.next);
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A page of messages as documents.
fn documents<M, D>(list: &str, page: Page<M>) -> Result<Response, Response>
where
    D: Serialize + TryFrom<M, Error = ConvertError>,
{
    let document = |message| {
        let document = D::try_from(message).map_err(super::broken)?;
        Ok(serde_json::to_string(&document).expect("documents have texts as keys"))
    };
    let rows = page.rows.into_iter().map(document).collect::<Result<Vec<String>, Response>>()?;
    Ok(written(list, Page { rows, next: page.next }))
}

pub(super) async fn agents(
    State(pages): State<Pages>,
    query: Asked<AgentQuery>,
) -> Result<Response, Response> {
    let query = understood(query)?;
    let view = pages.view();
    if let Some(id) = query.agent_id {
        let missing =
            || refuse(axum::http::StatusCode::NOT_FOUND, format_args!("agent `{id}` does not exist"));
        let agent = view.agents.get(&id).ok_or_else(missing)?;
        return Ok(page("agents", &wanted(1, "")?, std::iter::once((id.clone(), &**agent)), api::agent));
    }
    let wanted = wanted(query.page_size, &query.page_token)?;
    Ok(page("agents", &wanted, lists::agents(&view, wanted.after.as_ref()), api::agent))
}

pub(super) async fn frameworks(
    State(pages): State<Pages>,
    query: Asked<PageQuery>,
) -> Result<Response, Response> {
    let query = understood(query)?;
    let (view, wanted) = (pages.view(), wanted(query.page_size, &query.page_token)?);
    Ok(page("frameworks", &wanted, lists::frameworks(&view, wanted.after.as_ref()), api::framework))
}

pub(super) async fn tasks(State(pages): State<Pages>, query: Asked<TaskQuery>) -> Result<Response, Response> {
    let TaskQuery { framework_id, task_id, completed, page_size, page_token } = understood(query)?;
    let filter = TaskFilter { framework_id, task_id, completed };
    let (view, wanted) = (pages.view(), wanted(page_size, &page_token)?);
    let rows = lists::tasks(&view, &filter, wanted.after.as_ref());
    Ok(page("tasks", &wanted, rows, |task| api::task(&view, task)))
}

pub(super) async fn offers(
    State(pages): State<Pages>,
    query: Asked<PageQuery>,
) -> Result<Response, Response> {
    let query = understood(query)?;
    let (view, wanted) = (pages.view(), wanted(query.page_size, &query.page_token)?);
    Ok(page("offers", &wanted, lists::offers(&view, wanted.after.as_ref()), api::offer))
}

pub(super) async fn roles(State(pages): State<Pages>, query: Asked<PageQuery>) -> Result<Response, Response> {
    let query = understood(query)?;
    let wanted = wanted(query.page_size, &query.page_token)?;
    let shares = pages.explainer.asker.shares().await.map_err(|error| ask(&error))?;
    documents::<_, RoleState>("roles", roles_page(&pages.view(), shares, &wanted))
}

pub(super) async fn reservations(
    State(pages): State<Pages>,
    query: Asked<PageQuery>,
) -> Result<Response, Response> {
    let query = understood(query)?;
    let (view, wanted) = (pages.view(), wanted(query.page_size, &query.page_token)?);
    let rows = lists::reservations(&view, wanted.after.as_ref());
    let page = wanted.take(rows, wire::reservation, prost::Message::encoded_len);
    documents::<_, ReservationState>("reservations", page)
}

pub(super) async fn volumes(
    State(pages): State<Pages>,
    query: Asked<PageQuery>,
) -> Result<Response, Response> {
    let query = understood(query)?;
    let (view, wanted) = (pages.view(), wanted(query.page_size, &query.page_token)?);
    let rows = lists::volumes(&view, wanted.after.as_ref());
    let page = wanted.take(rows, wire::volume, prost::Message::encoded_len);
    documents::<_, VolumeState>("volumes", page)
}
