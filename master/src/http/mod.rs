//! Pages on the same port as gRPC: health, metrics, and all that operators ask as JSON. Reads come from the published view.

#![allow(clippy::result_large_err, reason = "a refusal is the answer itself, and made once")]

pub(crate) mod api;
mod ask;
mod lists;
mod maintenance;
mod refuse;
mod watch;

use std::sync::Arc;

use apportion_master_core::View;
use apportion_types::convert::ConvertError;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::sync::watch::Receiver;

use self::refuse::{Refusal, refuse};
use crate::{actor::Peers, clock::Clock, explain::Explainer, metrics::PeerKind, summary, watch::Hub};

/// Every page, for the index and for whoever asks for one that is not there.
const PAGES: [(&str, &str); 22] = [
    ("/healthz", "`ok` while the master serves"),
    ("/metrics", "for Prometheus, in OpenMetrics text form"),
    ("/api/v1/state", "cluster, agents, frameworks, tasks and offers in one document, however large"),
    ("/api/v1/cluster", "who the master is and what it counts"),
    ("/api/v1/agents", "agents, in pages as all lists: ?page_size= ?page_token=; ?agent_id="),
    ("/api/v1/agents/deactivate", "POST has nothing of an agent offered any more"),
    ("/api/v1/agents/reactivate", "POST has it offered again"),
    ("/api/v1/agents/drain", "POST has nothing of it offered any more, and its tasks killed"),
    ("/api/v1/agents/gone", "POST declares it gone for ever"),
    ("/api/v1/frameworks", "frameworks"),
    ("/api/v1/tasks", "tasks that have not ended; ?framework_id= ?task_id= ?completed=true"),
    ("/api/v1/offers", "outstanding offers"),
    ("/api/v1/roles", "roles, their shares, and what is set for them; POST changes that"),
    ("/api/v1/reservations", "what is reserved on agents"),
    ("/api/v1/volumes", "persistent volumes"),
    ("/api/v1/operations", "POST reserves resources of an agent, makes and ends volumes"),
    ("/api/v1/maintenance", "the maintenance schedule; POST replaces it"),
    ("/api/v1/maintenance/status", "machines that are planned for, and what frameworks answered; ?machine="),
    ("/api/v1/maintenance/start", "POST takes machines down"),
    ("/api/v1/maintenance/stop", "POST lets machines be up again"),
    ("/api/v1/explain", "why a framework is, or is not, offered something; ?framework= ?agent_id= ?needs="),
    ("/api/v1/watch", "everything, then what changes, line by line or as events; ?kinds= ?since="),
];

/// What the pages are made of.
#[derive(Clone)]
pub(crate) struct Pages {
    pub(crate) view: Receiver<Arc<View>>,
    pub(crate) clock: Clock,
    pub(crate) peers: Arc<Peers>,
    pub(crate) explainer: Explainer,
    pub(crate) hub: Arc<Hub>,
}

impl Pages {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }
}

/// Every page, and the answer for all others.
pub(crate) fn router(pages: Pages) -> Router {
    let state = |State(pages): State<Pages>| async move { Json(api::state(&pages.view())) };
    let cluster = |State(pages): State<Pages>| async move { Json(summary::cluster(&pages.view())) };
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route("/api/v1/state", get(state))
        .route("/api/v1/cluster", get(cluster))
        .route("/api/v1/agents", get(lists::agents))
        .route("/api/v1/agents/deactivate", post(ask::deactivate_agent))
        .route("/api/v1/agents/reactivate", post(ask::reactivate_agent))
        .route("/api/v1/agents/drain", post(ask::drain_agent))
        .route("/api/v1/agents/gone", post(ask::mark_agent_gone))
        .route("/api/v1/frameworks", get(lists::frameworks))
        .route("/api/v1/tasks", get(lists::tasks))
        .route("/api/v1/offers", get(lists::offers))
        .route("/api/v1/roles", get(lists::roles).post(ask::update_roles))
        .route("/api/v1/reservations", get(lists::reservations))
        .route("/api/v1/volumes", get(lists::volumes))
        .route("/api/v1/operations", post(ask::operate))
        .route("/api/v1/maintenance", get(maintenance::schedule).post(maintenance::update_schedule))
        .route("/api/v1/maintenance/status", get(maintenance::status))
        .route("/api/v1/maintenance/start", post(maintenance::start))
        .route("/api/v1/maintenance/stop", post(maintenance::stop))
        .route("/api/v1/explain", get(ask::explain))
        .route("/api/v1/watch", get(watch::watch))
        .fallback(missing)
        .with_state(pages)
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let streams = [
        (PeerKind::Scheduler, pages.peers.schedulers.len()),
        (PeerKind::Agent, pages.peers.agents.len()),
        (PeerKind::Watcher, pages.hub.watchers()),
    ];
    let page = pages.explainer.metrics.page(&pages.view(), pages.clock.now(), streams);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page)
}

/// Our own answer that we cannot read: a bug, said rather than hidden.
fn broken(error: ConvertError) -> Response {
    tracing::error!(%error, "a document could not be made");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, format_args!("the answer could not be made: {error}"))
}

async fn index(headers: HeaderMap) -> Response {
    listing(StatusCode::OK, "Apportion master", &headers)
}

/// Answers gRPC calls in their own way, programs with JSON, people with a page; each names what there is.
async fn missing(uri: Uri, headers: HeaderMap) -> Response {
    let starts = |name: header::HeaderName, start: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.starts_with(start))
    };
    let path: String = uri.path().chars().take(200).collect();
    if starts(header::CONTENT_TYPE, "application/grpc") {
        let what = format!("there is no service for `{path}`; reflection lists those that there are");
        return tonic::Status::unimplemented(what).into_http::<axum::body::Body>();
    }
    if path.starts_with("/api/") {
        let pages = PAGES.iter().map(|(path, _)| *path).collect();
        let refusal = Refusal { error: format!("there is no `{path}`"), pages };
        return (StatusCode::NOT_FOUND, Json(refusal)).into_response();
    }
    listing(StatusCode::NOT_FOUND, &format!("There is no {path}"), &headers)
}

/// The pages that there are, as HTML for browsers and as text for others.
fn listing(status: StatusCode, title: &str, headers: &HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if accept.contains("text/html") {
        let title = escape(title);
        let rows: String = PAGES
            .iter()
            .map(|(path, what)| {
                format!("<tr><td><a href=\"{path}\">{path}</a></td><td>{}</td></tr>", escape(what))
            })
            .collect();
        let style = "body{font:16px/1.5 system-ui,sans-serif;margin:4em auto;max-width:44em;color-scheme:light dark}\
                     td{padding:.2em 1.5em .2em 0}";
        let page = format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title><style>{style}</style>\
             <h1>{title}</h1><p>Served here:</p><table>{rows}</table></html>\n"
        );
        return (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response();
    }
    let rows: String = PAGES.iter().map(|(path, what)| format!("  {path:<27} {what}\n")).collect();
    (status, format!("{title}. Served here:\n\n{rows}")).into_response()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c => escaped.push(c),
        }
    }
    escaped
}
