//! Pages on the same port as gRPC: health, metrics, and the state as JSON. Reads only, all from the published view.

pub(crate) mod api;

use std::sync::Arc;

use apportion_master_core::View;
use apportion_types::{FrameworkId, TaskId};
use axum::{
    Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    actor::Peers,
    clock::Clock,
    metrics::{Metrics, PeerKind},
    summary::{self, TaskFilter},
};

/// Every page, for the index and for whoever asks for one that is not there.
const PAGES: [(&str, &str); 8] = [
    ("/healthz", "`ok` while the master serves"),
    ("/metrics", "for Prometheus, in OpenMetrics text form"),
    ("/api/v1/state", "everything below in one document"),
    ("/api/v1/cluster", "who the master is and what it counts"),
    ("/api/v1/agents", "every agent"),
    ("/api/v1/frameworks", "every framework"),
    ("/api/v1/tasks", "tasks that have not ended; ?framework_id= ?task_id= ?completed=true"),
    ("/api/v1/offers", "outstanding offers"),
];

/// What the pages are made of.
#[derive(Clone)]
pub(crate) struct Pages {
    view: watch::Receiver<Arc<View>>,
    clock: Clock,
    peers: Arc<Peers>,
    metrics: Arc<Metrics>,
}

impl Pages {
    pub(crate) fn new(
        view: watch::Receiver<Arc<View>>,
        clock: Clock,
        peers: Arc<Peers>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { view, clock, peers, metrics }
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }
}

/// Every page, and the answer for all others.
pub(crate) fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics))
        .route(
            "/api/v1/state",
            get(|State(pages): State<Pages>| async move { Json(api::state(&pages.view())) }),
        )
        .route(
            "/api/v1/cluster",
            get(|State(pages): State<Pages>| async move { Json(summary::cluster(&pages.view())) }),
        )
        .route(
            "/api/v1/agents",
            get(|State(pages): State<Pages>| async move { Json(api::agents(&pages.view())) }),
        )
        .route(
            "/api/v1/frameworks",
            get(|State(pages): State<Pages>| async move { Json(api::frameworks(&pages.view())) }),
        )
        .route("/api/v1/tasks", get(tasks))
        .route(
            "/api/v1/offers",
            get(|State(pages): State<Pages>| async move { Json(api::offers(&pages.view())) }),
        )
        .fallback(missing)
        .with_state(pages)
}

async fn metrics(State(pages): State<Pages>) -> impl IntoResponse {
    let streams =
        [(PeerKind::Scheduler, pages.peers.schedulers.len()), (PeerKind::Agent, pages.peers.agents.len())];
    let page = pages.metrics.page(&pages.view(), pages.clock.now(), streams);
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], page)
}

/// A refusal, as every page of the API gives it.
#[derive(Debug, Serialize)]
struct Refusal {
    /// What is wrong, and the remedy.
    error: String,
    /// What there is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pages: Vec<&'static str>,
}

fn refuse(status: StatusCode, error: String) -> Response {
    (status, Json(Refusal { error, pages: Vec::new() })).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskQuery {
    framework_id: Option<FrameworkId>,
    task_id: Option<TaskId>,
    #[serde(default)]
    completed: bool,
}

async fn tasks(
    State(pages): State<Pages>,
    query: Result<Query<TaskQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    match query {
        Ok(Query(TaskQuery { framework_id, task_id, completed })) => {
            Json(api::tasks(&pages.view(), &TaskFilter { framework_id, task_id, completed })).into_response()
        }
        Err(rejection) => refuse(StatusCode::BAD_REQUEST, rejection.body_text()),
    }
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
    let rows: String = PAGES.iter().map(|(path, what)| format!("  {path:<20} {what}\n")).collect();
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
