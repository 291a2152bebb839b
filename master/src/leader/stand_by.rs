//! What a master answers on its port while another one leads.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use apportion_types::{protocol, text::chain};
use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc, watch},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Status, service::Routes, transport::Server as Transport};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{Election, Known, Leadership, Term};
use crate::{
    etcd::{Client, Cluster},
    listener,
    registry::read_etcd,
    server::{KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, STREAMS_PER_CONNECTION_MAX},
};

/// Names the master that leads, as `host:port`, in the answers of one that does not: in the metadata over gRPC, as a header over HTTP.
const LEADER_HEADER: HeaderName = HeaderName::from_static(protocol::LEADER);

/// Pages that are about the process that is asked; all others are asked of the leader as well.
const OWN_PAGES: [&str; 2] = ["/healthz", "/metrics"];

/// For so long what was read of the registry is as good as new: however many ask, etcd is asked once.
const READ_INTERVAL: Duration = Duration::from_secs(1);

/// For so long at most whoever must know the next leader is kept waiting for it. Less than any peer waits for an answer.
const HOLD_MAX: Duration = Duration::from_secs(1);

/// Between two that were kept waiting: all at once would be more than the new leader's queue of connections holds.
const RELEASE_INTERVAL: Duration = Duration::from_micros(25);

/// What is asked of etcd for whoever asks this master.
#[derive(Clone)]
struct Reads {
    client: Client,
    cluster: Cluster,
    /// What was read last, and when.
    last: Arc<Mutex<Option<(Instant, Value)>>>,
}

/// What pages are made of.
#[derive(Clone)]
struct Pages {
    known: watch::Receiver<Known>,
    reads: Reads,
    held: Arc<()>,
}

/// What is known, or will be in a moment, of a leader other than the one that the asking peer could not reach.
///
/// `held` has one owner more for each that is kept waiting.
async fn next_leader(
    mut known: watch::Receiver<Known>,
    held: Arc<()>,
    unreached: Option<&str>,
    longest: Duration,
) -> Known {
    let is_news =
        |known: &Known| matches!(known, Known::Leads(leader) if Some(&*leader.address) != unreached);
    if !is_news(&known.borrow()) {
        let place = u32::try_from(Arc::strong_count(&held)).unwrap_or(u32::MAX);
        if timeout(longest, known.wait_for(is_news)).await.is_ok_and(|news| news.is_ok()) {
            sleep(RELEASE_INTERVAL.saturating_mul(place).min(longest)).await;
        }
    }
    known.borrow().clone()
}

/// Stands by until this master leads; every connection made meanwhile is cut then. `services` are the names that health knows.
pub(crate) async fn serve(
    election: &Election,
    listener: Arc<TcpListener>,
    services: &[&str],
) -> Result<Leadership, tonic::transport::Error> {
    let (teller, known) = watch::channel(Known::Nobody);
    let (client, cluster) = election.place();
    let reads = Reads { client, cluster, last: Arc::default() };
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
        .add_routes(routes(Pages { known, reads, held: Arc::default() }, health))
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

fn routes(pages: Pages, health: HealthReporter) -> Routes {
    let health = tonic_health::server::HealthService::from_health_reporter(health);
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/api/v1/registry", get(registry))
        .fallback(refuse)
        .with_state(pages);
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

async fn healthz(State(Pages { known, .. }): State<Pages>) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, sentence(&known.borrow()) + "\n").into_response()
}

/// What the registry keeps, and how old that is: all that a stand-by knows of the cluster, also while nobody leads, or etcd is away.
async fn registry(State(Pages { known, reads, .. }): State<Pages>) -> Result<Json<Value>, Response> {
    let leader = match &*known.borrow() {
        Known::Leads(leader) => Some(leader.address.clone()),
        Known::Nobody | Known::Nothing => None,
    };
    let mut last = reads.last.lock().await;
    if last.as_ref().is_none_or(|(at, _)| at.elapsed() >= READ_INTERVAL) {
        let begun = Instant::now();
        match read_etcd(&reads.client, &reads.cluster).await {
            Ok(contents) => *last = Some((begun, contents.to_json())),
            Err(error) if last.is_none() => {
                let error = format!("the registry cannot be read: {}", chain(&error));
                return Err(
                    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": error }))).into_response()
                );
            }
            // What was read before is told with its age.
            Err(_) => {}
        }
    }
    let (at, registry) = last.as_ref().expect("it was just read, or before");
    let age_ms = u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Json(json!({ "age_ms": age_ms, "leader": leader, "registry": registry })))
}

/// Answers gRPC calls in their own way, once there is a leader to name or a moment has passed; sends who reads to the leader, and refuses the rest.
async fn refuse(State(pages): State<Pages>, method: Method, uri: Uri, headers: HeaderMap) -> Response {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_grpc = text("content-type").is_some_and(|content| content.starts_with("application/grpc"));
    let known = match is_grpc {
        true => next_leader(pages.known, pages.held, text(protocol::UNREACHED), HOLD_MAX).await,
        false => pages.known.borrow().clone(),
    };
    let leader = leader(&known);
    let mut response = if is_grpc {
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

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::{super::Leader, *};

    fn leads(address: &str) -> Known {
        Known::Leads(Leader { address: address.to_owned(), master_id: "m".to_owned() })
    }

    #[tokio::test]
    async fn who_asks_for_the_next_leader_hears_of_it_when_there_is_one() {
        let (teller, known) = watch::channel(leads("a:1"));
        let held = Arc::new(());
        let ask =
            |unreached| next_leader(known.clone(), Arc::clone(&held), unreached, Duration::from_secs(3600));
        assert_eq!(ask(None).await, leads("a:1"), "who asks for any");
        assert_eq!(ask(Some("b:1")).await, leads("a:1"), "it is another one already");
        let waits = tokio::spawn(ask(Some("a:1")));
        yield_now().await;
        teller.send_replace(Known::Nobody);
        let waits_too = tokio::spawn(ask(None));
        yield_now().await;
        assert!(!waits.is_finished() && !waits_too.is_finished());
        teller.send_replace(leads("b:1"));
        assert_eq!((waits.await.unwrap(), waits_too.await.unwrap()), (leads("b:1"), leads("b:1")));
        assert_eq!(Arc::strong_count(&held), 1, "nobody waits any more");
    }

    #[tokio::test]
    async fn nobody_is_kept_waiting_for_ever() {
        let (_teller, known) = watch::channel(leads("a:1"));
        let answer = next_leader(known, Arc::default(), Some("a:1"), Duration::ZERO).await;
        assert_eq!(answer, leads("a:1"), "still the same");
    }
}
