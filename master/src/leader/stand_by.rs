//! What a master answers on its port while another one leads.

use std::{io, sync::Arc};

use apportion_types::protocol;
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes, transport::Server as Transport};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{Election, Known, Leadership, Term};
use crate::{
    listener,
    server::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, STREAMS_PER_CONNECTION_MAX},
};

/// Names the master that leads, as `host:port`, in the answers of one that does not: in the metadata over gRPC, as a header over HTTP.
const LEADER_HEADER: HeaderName = HeaderName::from_static(protocol::LEADER);

/// Pages that are about the process that is asked; all others are asked of the leader as well.
const OWN_PAGES: [&str; 2] = ["/healthz", "/metrics"];

/// Stands by until this master leads; every connection made meanwhile is cut then. `services` are the names that health knows.
pub(crate) async fn serve(
    election: &Election,
    listener: Arc<TcpListener>,
    services: &[&str],
) -> Result<Leadership, tonic::transport::Error> {
    let (teller, known) = watch::channel(Known::Nobody);
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let health = HealthReporter::new();
    for name in services {
        health.set_service_status(*name, ServingStatus::NotServing).await;
    }
    let (accepted_sender, accepted) = mpsc::channel::<io::Result<listener::Connection>>(1);
    let accepting = listener::accept(listener, cut, Arc::new(Term::endless()), accepted_sender);
    let serving = Transport::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .add_routes(routes(known, health))
        .serve_with_incoming(ReceiverStream::new(accepted));
    let answering = async { tokio::join!(accepting, serving).1 };
    tokio::select! {
        leadership = election.win(&teller) => Ok(leadership),
        // Ends only by an error.
        ended = answering => match ended {
            Err(error) => Err(error),
            Ok(()) => std::future::pending().await,
        },
    }
}

fn routes(known: watch::Receiver<Known>, health: HealthReporter) -> Routes {
    let health = tonic_health::server::HealthService::from_health_reporter(health);
    let router = Router::new().route("/healthz", get(healthz)).fallback(refuse).with_state(known);
    Routes::from(router).add_service(tonic_health::pb::health_server::HealthServer::new(health))
}

/// Who is to be asked instead, for people.
fn sentence(known: &Known) -> String {
    match known {
        Known::Leads(leader) => format!("this master stands by; {} leads", leader.address),
        Known::Nobody => "this master stands by, and none leads at the moment; try again after a pause".to_owned(),
        Known::Nothing => {
            "this master stands by, and does not know which one leads, since etcd does not answer; try again after a pause"
                .to_owned()
        }
    }
}

/// The address of the leader, and the same as a header.
fn leader(known: &Known) -> Option<(&str, HeaderValue)> {
    match known {
        Known::Leads(leader) => Some((&leader.address, HeaderValue::from_str(&leader.address).ok()?)),
        Known::Nobody | Known::Nothing => None,
    }
}

async fn healthz(State(known): State<watch::Receiver<Known>>) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, sentence(&known.borrow()) + "\n").into_response()
}

/// Answers gRPC calls in their own way, sends who reads to the leader, and refuses the rest.
async fn refuse(
    State(known): State<watch::Receiver<Known>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let known = known.borrow();
    let leader = leader(&known);
    let content = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut response = if content.starts_with("application/grpc") {
        Status::unavailable(sentence(&known)).into_http()
    } else {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let location = leader
            .as_ref()
            .filter(|_| method == Method::GET || method == Method::HEAD)
            .filter(|_| !OWN_PAGES.contains(&uri.path()))
            .map(|(address, _)| format!("http://{address}{path}"));
        let body = Json(json!({ "error": sentence(&known) }));
        match location {
            Some(location) => {
                (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)], body).into_response()
            }
            None => (StatusCode::SERVICE_UNAVAILABLE, body).into_response(),
        }
    };
    if let Some((_, value)) = leader {
        response.headers_mut().insert(LEADER_HEADER, value);
    }
    response
}
