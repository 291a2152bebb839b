//! `/healthz` and `/metrics`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
};

use apportion_agent_core::View;
use apportion_types::TaskState;
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

type Views = watch::Receiver<Arc<View>>;

pub(super) fn router(view: Views) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/metrics", get(metrics)).with_state(view)
}

/// What nobody serves: gRPC clients hear so in their own way.
pub(super) async fn nothing(headers: HeaderMap, uri: Uri) -> Response {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.starts_with("application/grpc") {
        return tonic::Status::unimplemented(format!("this agent does not serve {}", uri.path())).into_http();
    }
    (StatusCode::NOT_FOUND, format!("this agent does not serve {}; try /healthz or /metrics\n", uri.path()))
        .into_response()
}

/// 200 while the process lives; whether a master has it is said in the text, and is no reason to restart it.
async fn healthz(State(view): State<Views>) -> String {
    match &view.borrow().master_id {
        Some(master_id) => format!("ok, registered with master {master_id}\n"),
        None => "ok, not registered with a master\n".to_owned(),
    }
}

async fn metrics(State(view): State<Views>) -> impl IntoResponse {
    let text = exposition(&view.borrow());
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// The view in Prometheus' text format.
fn exposition(view: &View) -> String {
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: Vec<(String, f64)>| {
        // Writing to a text does not fail.
        let _ = writeln!(text, "# HELP apportion_agent_{name} {help}\n# TYPE apportion_agent_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "apportion_agent_{name}{labels} {value}");
        }
    };
    let one = |value: f64| vec![(String::new(), value)];
    family(
        "registered",
        "gauge",
        "1 while a master has this agent.",
        one(f64::from(view.master_id.is_some())),
    );
    let states = [TaskState::Staging, TaskState::Starting, TaskState::Running, TaskState::Killing];
    let mut tasks: BTreeMap<TaskState, u32> = states.into_iter().map(|state| (state, 0)).collect();
    view.tasks.values().for_each(|task| *tasks.entry(task.state).or_default() += 1);
    let tasks = tasks.into_iter().map(|(state, count)| (format!("{{state=\"{state}\"}}"), f64::from(count)));
    let help = "Tasks whose end is not acknowledged, by state.";
    family("tasks", "gauge", help, tasks.collect());
    for (name, help, resources) in [
        ("resources_total", "What this agent has to offer; mem and disk in MiB.", &view.resources),
        ("resources_free", "What of it no task holds; mem and disk in MiB.", &view.free),
        ("resources_lent", "What it could lend beside that; mem and disk in MiB.", &view.lent),
    ] {
        // A name that is held on several terms counts once.
        let names: BTreeSet<_> =
            view.resources.scalars().chain(view.lent.scalars()).map(|(name, _)| name).collect();
        let sample = |name| (format!("{{resource=\"{name}\"}}"), resources.milli(name) as f64 / 1000.0);
        family(name, "gauge", help, names.into_iter().map(sample).collect());
    }
    let counters = &view.counters;
    let ended =
        counters.tasks_ended.iter().map(|(state, count)| (format!("{{state=\"{state}\"}}"), *count as f64));
    family("tasks_ended_total", "counter", "Tasks ended, by state.", ended.collect());
    for (name, help, count) in [
        ("launches_total", "Containers whose launch was begun.", counters.launches),
        ("launch_failures_total", "Launches that failed.", counters.launch_failures),
        ("updates_made_total", "Status updates made.", counters.updates_made),
        ("updates_sent_total", "Status updates sent, repetitions among them.", counters.updates_sent),
        ("acknowledgements_total", "Acknowledgements taken.", counters.acknowledgements),
        ("operations_done_total", "Operations done.", counters.operations_done),
        ("operations_refused_total", "Operations refused.", counters.operations_refused),
        (
            "tasks_preempted_total",
            "Tasks killed because what they were lent is needed.",
            counters.tasks_preempted,
        ),
        ("registrations_total", "Registrations that stood.", counters.registrations),
    ] {
        family(name, "counter", help, one(count as f64));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_there_from_the_start() {
        let view = View {
            resources: "cpus:0.5;cpus(eng):1.5;mem:100".parse().unwrap(),
            free: "cpus:0.5".parse().unwrap(),
            ..View::default()
        };
        let text = exposition(&view);
        for line in [
            "apportion_agent_registered 0",
            "apportion_agent_tasks{state=\"running\"} 0",
            "apportion_agent_resources_total{resource=\"cpus\"} 2",
            "apportion_agent_resources_free{resource=\"cpus\"} 0.5",
            "apportion_agent_resources_free{resource=\"mem\"} 0",
            "apportion_agent_resources_lent{resource=\"cpus\"} 0",
            "apportion_agent_launches_total 0",
            "apportion_agent_operations_done_total 0",
        ] {
            assert_eq!(text.lines().filter(|l| *l == line).count(), 1, "{line} is not once in\n{text}");
        }
    }
}
