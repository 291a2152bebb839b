//! Requests: each finds a replica of its own, whatever connection it came on.
//!
//! 1. The head is made ready for a replica ([`headers`](super::headers)).
//! 2. A place on a replica ([`pick`](super::pick)), a connection to it ([`pool`](super::pool)), an attempt.
//! 3. When it fails: again on another, if that does no harm and the budget allows it.
//! 4. The answer is passed on as it comes, and holds its place on the replica until it has ended ([`body`](super::body)).

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body, Incoming},
    client::conn::http1,
    header::{CONNECTION, HeaderValue, UPGRADE},
    http::request,
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{
    app::App,
    body::{Lease, RequestBody, ResponseBody},
    config::ReplicaProtocol,
    headers,
    pick::Worker,
    pool::{self, Unconnected},
    replica::{Endpoint, Ticket},
    reply::Reason,
    worker::Place,
};

/// How often a connection that the replica has closed just then is replaced by another one to the same replica.
const STALE_MAX: usize = 3;

/// One connection of a client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) worker: Arc<Worker>,
    pub(super) address: IpAddr,
    /// Requests that came on it, for who asks whether it is idle.
    pub(super) requests: AtomicU64,
    pub(super) _place: Place,
}

/// Answers one request, in any case.
pub(super) async fn serve(
    client: Arc<Client>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let app = &client.worker.app;
    let began = app.clock.elapsed();
    client.requests.fetch_add(1, Relaxed);
    client.worker.count(began.as_secs());
    let response = forward(&client, request).await.unwrap_or_else(|reason| {
        app.refused[reason as usize].fetch_add(1, Relaxed);
        reason.response(&app.name)
    });
    let now = app.clock.elapsed();
    app.recent.record(now.as_secs(), (now - began).as_micros() as u64);
    Ok(response)
}

/// An attempt that came to nothing.
struct Failed {
    /// The request, when nothing of it was sent.
    unsent: Option<Request<RequestBody>>,
    reason: Reason,
}

/// An answer, and the connection of HTTP/1 that its body comes on.
type Answered = (Response<Incoming>, Option<http1::SendRequest<RequestBody>>);

/// A request as it is sent, and what is known of it.
struct Outgoing {
    request: Request<RequestBody>,
    /// How many pieces of a body were passed on, when it is passed on as it comes.
    pieces: Option<Arc<AtomicU64>>,
}

async fn forward(
    client: &Arc<Client>,
    mut request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Reason> {
    let (worker, app) = (&client.worker, &client.worker.app);
    if request.method() == Method::CONNECT {
        return Err(Reason::Tunnel);
    }
    let version = request.version();
    let upgrade =
        headers::asks_for_upgrade(version, request.headers()).then(|| hyper::upgrade::on(&mut request));
    let to = match app.config.replica_protocol {
        _ if upgrade.is_some() => Version::HTTP_11,
        ReplicaProtocol::Http1 => Version::HTTP_11,
        ReplicaProtocol::Http2 => Version::HTTP_2,
        ReplicaProtocol::Auto if headers::is_grpc(request.headers()) => Version::HTTP_2,
        ReplicaProtocol::Auto => Version::HTTP_11,
    };
    let key = headers::key(app.config.hash_on.as_ref(), request.headers(), client.address);
    let idempotent = headers::is_idempotent(request.method()) && upgrade.is_none();
    let (mut outgoing, unknown_length) = outgoing(app, request, idempotent).await?;

    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut prepared = false;
    loop {
        let ticket = worker.place(key, &tried).await?;
        if !prepared {
            prepared = true;
            let (mut parts, body) = outgoing.request.into_parts();
            let replica = ticket.endpoint.address.to_string();
            headers::prepare(&mut parts, to, client.address, upgrade.is_some(), unknown_length, &replica);
            outgoing.request = Request::from_parts(parts, body);
        }
        let may_repeat = tried.len() < app.config.retries.attempts as usize;
        let again = if idempotent && may_repeat { copy_of(&outgoing.request) } else { None };
        let pieces = outgoing.pieces.clone();
        let failed = match attempt(app, &ticket.endpoint, worker.index, outgoing.request, pieces.as_deref())
            .await
        {
            // A replica that says that it cannot is as good as one that says nothing; the client need not hear it.
            Ok((response, connection)) => match again {
                Some(again) if response.status() == StatusCode::SERVICE_UNAVAILABLE && worker.may_retry() => {
                    ticket.failed();
                    drop(connection);
                    Failed { unsent: Some(again), reason: Reason::NoAnswer }
                }
                _ => return Ok(pass_on(client, version, ticket, response, connection, upgrade)),
            },
            Err(failed) => {
                if !matches!(failed.reason, Reason::BodyLate | Reason::BodyBroken | Reason::PendingFull) {
                    ticket.failed();
                }
                let again = failed.unsent.or(again).filter(|_| may_repeat && worker.may_retry());
                Failed { unsent: again, reason: failed.reason }
            }
        };
        let Some(again) = failed.unsent else { return Err(failed.reason) };
        ticket.endpoint.retries.fetch_add(1, Relaxed);
        tried.push(Arc::clone(&ticket.endpoint));
        outgoing = Outgoing { request: again, pieces };
    }
}

/// The request with its body as it is to be sent; a small body is waited for when that allows to send it again. Also whether
/// the length of the body is known to nobody.
async fn outgoing(
    app: &App,
    request: Request<Incoming>,
    idempotent: bool,
) -> Result<(Outgoing, bool), Reason> {
    let (parts, body) = request.into_parts();
    let length = body.size_hint().exact();
    let kept_max = app.config.retries.body_bytes_max as u64;
    let (body, pieces) = match length {
        _ if body.is_end_stream() => (RequestBody::Empty, None),
        Some(length) if idempotent && app.config.retries.attempts > 0 && length <= kept_max => {
            let whole = Limited::new(body, kept_max as usize).collect();
            let whole = timeout(app.config.timeouts.body, whole).await.map_err(|_| Reason::BodyLate)?;
            (RequestBody::Whole(whole.map_err(|_| Reason::BodyBroken)?.to_bytes()), None)
        }
        _ => {
            let (body, pieces) = RequestBody::stream(body, app.config.timeouts.body);
            (body, Some(pieces))
        }
    };
    let unknown_length = length.is_none() && pieces.is_some();
    Ok((Outgoing { request: Request::from_parts(parts, body), pieces }, unknown_length))
}

/// The same request once more; none when its body cannot be had twice.
fn copy_of(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let body = request.body().again()?;
    let mut parts: request::Parts = Request::new(()).into_parts().0;
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.version = request.version();
    parts.headers = request.headers().clone();
    Some(Request::from_parts(parts, body))
}

/// Sends a request to this replica and waits for the head of its answer.
async fn attempt(
    app: &Arc<App>,
    endpoint: &Arc<Endpoint>,
    worker: usize,
    mut request: Request<RequestBody>,
    pieces: Option<&AtomicU64>,
) -> Result<Answered, Failed> {
    let mut stale = 0;
    loop {
        let (sent, connection) = if request.version() == Version::HTTP_2 {
            match pool::http2(app, endpoint, worker).await {
                Ok(mut sender) => (in_time(app, pieces, sender.try_send_request(request)).await, None),
                Err(error) => return Err(unconnected(request, &error)),
            }
        } else {
            match pool::http1(app, endpoint, worker).await {
                Ok(mut sender) => {
                    (in_time(app, pieces, sender.try_send_request(request)).await, Some(sender))
                }
                Err(error) => return Err(unconnected(request, &error)),
            }
        };
        let mut error = match sent {
            None => return Err(Failed { unsent: None, reason: Reason::Late }),
            Some(Ok(response)) => return Ok((response, connection)),
            Some(Err(error)) => error,
        };
        let unsent = error.take_message();
        let reason = match error.error() {
            error if error.is_user() => Reason::BodyBroken,
            _ => Reason::NoAnswer,
        };
        match unsent {
            // The replica closed a connection that lay there: no fault of it, and none of the budget's business.
            Some(unsent) if stale < STALE_MAX => {
                stale += 1;
                request = unsent;
            }
            unsent => return Err(Failed { unsent, reason }),
        }
    }
}

fn unconnected(request: Request<RequestBody>, error: &Unconnected) -> Failed {
    let reason = match error {
        Unconnected::Full => Reason::PendingFull,
        Unconnected::Refused(_) | Unconnected::Handshake(_) | Unconnected::Late => Reason::Unreachable,
    };
    Failed { unsent: Some(request), reason }
}

/// Waits for the head of an answer; none when it does not come in time. The time begins anew with each piece of the request's
/// body: who uploads for an hour is not late.
async fn in_time<T>(app: &App, pieces: Option<&AtomicU64>, answer: impl Future<Output = T>) -> Option<T> {
    tokio::pin!(answer);
    let passed = || pieces.map_or(0, |pieces| pieces.load(Relaxed));
    loop {
        let before = passed();
        match timeout(app.config.timeouts.response, &mut answer).await {
            Ok(answer) => return Some(answer),
            Err(_) if passed() == before => return None,
            Err(_) => {}
        }
    }
}

/// The answer as the client, who asked in this version, is to get it.
fn pass_on(
    client: &Arc<Client>,
    version: Version,
    ticket: Ticket,
    mut response: Response<Incoming>,
    connection: Option<http1::SendRequest<RequestBody>>,
    upgrade: Option<OnUpgrade>,
) -> Response<ResponseBody> {
    let worker = &client.worker;
    ticket.answered();
    match response.status() {
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            ticket.failed()
        }
        status if status.is_server_error() => {
            ticket.erred();
            ticket.succeeded();
        }
        _ => ticket.succeeded(),
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS
        && let Some(upgrade) = upgrade
    {
        return switch(client, ticket, response, upgrade);
    }
    headers::strip_hop_by_hop(response.headers_mut());
    // The version of the client's connection is for that connection to say.
    *response.version_mut() = Version::HTTP_11;
    let lease = Lease { ticket, connection: connection.map(|connection| (connection, worker.index)) };
    let patience = worker.app.config.timeouts.body;
    response.map(|body| ResponseBody::of_replica(body, patience, lease, version == Version::HTTP_2))
}

/// From now on both sides say what they like, until both have said all, or the replica's time to drain is over.
fn switch(
    client: &Arc<Client>,
    ticket: Ticket,
    mut response: Response<Incoming>,
    from_client: OnUpgrade,
) -> Response<ResponseBody> {
    let from_replica = hyper::upgrade::on(&mut response);
    let place = Arc::clone(client);
    tokio::spawn(async move {
        let (Ok(client), Ok(replica)) = tokio::join!(from_client, from_replica) else { return };
        let (mut client, mut replica) = (TokioIo::new(client), TokioIo::new(replica));
        // An end of either kind is an end; who is cut off learns it by his connection.
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut replica) => {}
            () = ticket.endpoint.gone.cancelled() => {}
        }
        drop(place);
    });
    let protocol = response.headers().get(UPGRADE).cloned();
    headers::strip_hop_by_hop(response.headers_mut());
    if let Some(protocol) = protocol {
        response.headers_mut().insert(UPGRADE, protocol);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    response.map(|_| ResponseBody::Own(hyper::body::Bytes::new()))
}
