//! The watch over HTTP: a JSON document each line, or server-sent events for those who accept them.

use apportion_master_core::View;
use apportion_types::document::RoleSettings;
use axum::{
    body::{Body, Bytes},
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;

use super::{
    Pages, api,
    refuse::{invalid, refuse},
};
use crate::{
    rpc::change::role_settings,
    watch::{Change, Kind, Position, Told},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WatchQuery {
    /// Names of kinds, with commas between them; all when empty.
    #[serde(default)]
    kinds: String,
    /// The last complete position.
    since: Option<String>,
}

/// A part of what a watcher is told.
#[derive(Debug, Serialize)]
struct Line {
    position: String,
    snapshot: bool,
    complete: bool,
    changes: Vec<Value>,
}

pub(super) async fn watch(
    State(pages): State<Pages>,
    headers: HeaderMap,
    query: Result<Query<WatchQuery>, QueryRejection>,
) -> Result<Response, Response> {
    let Query(query) = query.map_err(|rejection| invalid(rejection.body_text()))?;
    let names = query.kinds.split(',').map(str::trim).filter(|name| !name.is_empty());
    let kinds = names.map(kind).collect::<Result<Vec<Kind>, Response>>()?;
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let events = header("accept").is_some_and(|accept| accept.contains("text/event-stream"));
    // Browsers send the last id when they come back by themselves.
    let since = header("last-event-id").or(query.since.as_deref());
    let since = since.map(position).transpose()?;
    let watcher = pages.hub.watch(&kinds, since.as_ref());
    let watcher = watcher.map_err(|error| refuse(StatusCode::SERVICE_UNAVAILABLE, error))?;
    let metrics = std::sync::Arc::clone(&pages.explainer.metrics);
    let watching = watcher.start(metrics, move |view, told| vec![line(view, told, events)]);
    // How it ends is told as a last line: a status can follow no more.
    let body = watching.map(move |message| {
        Ok::<Bytes, std::convert::Infallible>(message.unwrap_or_else(|end| {
            let error = json!({ "error": end.to_string() });
            if events { format!("event: error\ndata: {error}\n\n") } else { format!("{error}\n") }.into()
        }))
    });
    let kind = if events { "text/event-stream" } else { "application/x-ndjson" };
    let head = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store")];
    Ok((head, Body::from_stream(body)).into_response())
}

fn kind(name: &str) -> Result<Kind, Response> {
    Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
        let known = Kind::ALL.map(Kind::name).join(", ");
        invalid(format_args!("kinds: `{}` cannot be watched; these can: {known}", name.escape_debug()))
    })
}

/// A position as it stands in lines and as the id of events.
fn position(text: &str) -> Result<Position, Response> {
    let parts = text.rsplit_once('@').and_then(|(version, master)| Some((version.parse().ok()?, master)));
    let (version, master_id) = parts.ok_or_else(|| {
        invalid("since: it is not a position; give that of the last complete line, or none for a snapshot")
    })?;
    Ok(Position { master_id: master_id.to_owned(), version })
}

fn line(view: &View, told: Told, events: bool) -> Bytes {
    let position = format!("{}@{}", told.position.version, told.position.master_id);
    let changes = told.changes.into_iter().map(|change| document(view, change)).collect();
    let line = Line { position, snapshot: told.snapshot, complete: told.complete, changes };
    let text = serde_json::to_string(&line).expect("documents have texts as keys");
    match (events, line.complete) {
        (true, true) => format!("id: {}\ndata: {text}\n\n", line.position),
        (true, false) => format!("data: {text}\n\n"),
        (false, _) => format!("{text}\n"),
    }
    .into()
}

fn document(view: &View, change: Change) -> Value {
    match change {
        Change::Agent(agent) => json!({ "agent": api::agent(&agent) }),
        Change::AgentRemoved(id) => json!({ "agent_removed": id.as_str() }),
        Change::Framework(framework) => json!({ "framework": api::framework(&framework) }),
        Change::FrameworkRemoved(id) => json!({ "framework_removed": id.as_str() }),
        Change::Task(task) => json!({ "task": api::task(view, &task) }),
        Change::TaskRemoved(framework, task) => {
            json!({ "task_removed": { "framework_id": framework.as_str(), "task_id": task.as_str() } })
        }
        Change::Offer(offer) => json!({ "offer": api::offer(&offer) }),
        Change::OfferRemoved(id) => json!({ "offer_removed": id.as_str() }),
        Change::Role(role, settings) => {
            let settings = RoleSettings::try_from(role_settings(&role, &settings));
            json!({ "role": settings.expect("what is set is well formed") })
        }
        Change::RoleRemoved(role) => json!({ "role_removed": role.as_str() }),
    }
}
