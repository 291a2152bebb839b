//! How `apportion service apply` and its like talk to `apportion service serve`: JSON over HTTP on a socket in the state folder.
//!
//! Whoever may open the socket may give orders; it is open to its user alone.
//!
//! ```text
//! GET  /v1/services    the services, as `Answer::Services`
//! POST /v1/orders      an order, such as {"order":"restart","service":"web"}; its answer, or {"error":"…"} with 409
//! ```

use std::{
    fs::{self, Permissions},
    io,
    os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use apportion_sdk::{
    Handle,
    operator::{Operator, OperatorError},
};
use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{Request as HttpRequest, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{UnixListener, UnixStream};

use crate::{
    front::Front,
    scheduler::{Answer, Order, Request},
    spec::Spec,
    state::Explained,
};

/// The socket in the state folder.
pub const SOCKET: &str = "api.sock";

/// Bytes of an order: a few descriptions of the longest kind.
const ORDER_BYTES_MAX: usize = 16 << 20;

/// How long the master may take to say why there are no offers: the rest of an explanation does not wait for longer.
const MASTER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is answered when something is not done.
#[derive(Debug, Serialize, Deserialize)]
struct Failure {
    error: String,
}

/// Why nobody answered.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody listens.
    #[error("nobody serves at {}: {source}; begin `apportion service serve`, or name its --state", socket.display())]
    Nobody {
        /// Where.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The socket is somebody else's.
    #[error("`apportion service serve` at {} is not open to you: {source}; it takes orders of the user who runs it", socket.display())]
    Closed {
        /// Where.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection ended.
    #[error(
        "`apportion service serve` did not answer: {0}; its events say why, and `apportion service ls` what was done"
    )]
    Lost(#[from] hyper::Error),
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// It said something else.
    #[error("the answer of `apportion service serve` is not understood: {0}; use the same version for both")]
    NotUnderstood(#[from] serde_json::Error),
}

/// What is answered when the run ended over an order, as it does when it cannot write it down.
const UNKEPT: &str = "`apportion service serve` could not keep this, and has ended; what it said last names the cause, such as a disk that \
                      is full: see to that, start it again, and order it again";

fn failure(status: StatusCode, error: impl ToString) -> Response {
    (status, Json(Failure { error: error.to_string() })).into_response()
}

/// Takes orders at a socket, for as long as the future lives. There must be nobody else who does: the caller has the state folder.
pub fn listen(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(socket)?;
    // Also when somebody else made the folder, or asks for no mask.
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

/// Where orders go.
#[derive(Debug, Clone)]
struct Desk {
    scheduler: Handle<Request>,
    front: Arc<Front>,
    /// Where the master is.
    master: Arc<str>,
}

impl Desk {
    /// Has services be as they are described, and clients reach them there when that is answered.
    ///
    /// The scheduler opens no sockets. So it is asked whether it would; then the addresses are opened, which may fail; and then it does.
    async fn apply(&self, specs: Vec<Arc<Spec>>, again: bool, dry_run: bool) -> Response {
        let would = self.obey(Order::Apply { specs: specs.clone(), again, dry_run: true }).await;
        if !would.status().is_success() {
            return would;
        }
        let _reserved = match self.front.reserve(&specs).await {
            Ok(reserved) => reserved,
            Err(error) => return failure(StatusCode::CONFLICT, error),
        };
        if dry_run {
            return would;
        }
        let answer = self.obey(Order::Apply { specs, again, dry_run }).await;
        self.front.bring_up().await;
        answer
    }

    async fn obey(&self, order: Order) -> Response {
        let (request, answer) = Request::new(order);
        if self.scheduler.send(request).await.is_err() {
            return failure(StatusCode::SERVICE_UNAVAILABLE, "the scheduler has ended");
        }
        match answer.await {
            Ok(Ok(Answer::Services(mut services))) => {
                for service in &mut services {
                    service.unserved = self.front.unserved(&service.name);
                }
                Json(Answer::Services(services)).into_response()
            }
            Ok(Ok(Answer::Explained(mut explained))) => {
                explained.unserved = self.front.unserved(&explained.service);
                self.ask_master(&mut explained).await;
                Json(Answer::Explained(explained)).into_response()
            }
            Ok(Ok(answer)) => Json(answer).into_response(),
            Ok(Err(refused)) => failure(StatusCode::CONFLICT, refused),
            Err(_) => failure(StatusCode::SERVICE_UNAVAILABLE, UNKEPT),
        }
    }

    /// Adds what only the master knows: why there are no offers for what waits.
    async fn ask_master(&self, explained: &mut Explained) {
        let Some(framework_id) = explained.framework_id.clone() else { return };
        let ask = async {
            let mut lines = Vec::new();
            for waiting in &explained.waiting {
                let master = Operator::connect(&self.master).await?;
                let answer = master.explain(framework_id.as_str(), None, &waiting.needs).await?;
                lines.extend(answer.summary);
            }
            Ok::<_, OperatorError>(lines)
        };
        let answer = tokio::time::timeout(MASTER_TIMEOUT, ask).await;
        explained.offers = match answer {
            Ok(Ok(mut lines)) => {
                lines.dedup();
                lines
            }
            Ok(Err(error)) => vec![error.to_string()],
            Err(_) => vec![format!("it did not answer within {MASTER_TIMEOUT:?}")],
        };
    }
}

/// Answers whoever comes.
pub async fn serve(
    listener: UnixListener,
    scheduler: Handle<Request>,
    front: Arc<Front>,
    master: &str,
) -> io::Result<()> {
    let desk = Desk { scheduler, front, master: master.into() };
    let show = |State(desk): State<Desk>| async move { desk.obey(Order::Show).await };
    let order = |State(desk): State<Desk>, Json(order): Json<Order>| async move {
        match checked(order) {
            Ok(Order::Apply { specs, again, dry_run }) => desk.apply(specs, again, dry_run).await,
            Ok(order) => desk.obey(order).await,
            Err(error) => failure(StatusCode::UNPROCESSABLE_ENTITY, error),
        }
    };
    let router = Router::new()
        .route("/v1/services", get(show))
        .route("/v1/orders", post(order))
        .layer(DefaultBodyLimit::max(ORDER_BYTES_MAX))
        .with_state(desk);
    axum::serve(listener, router).await
}

/// What comes from outside is checked as a file is.
fn checked(order: Order) -> Result<Order, crate::spec::SpecError> {
    let Order::Apply { specs, again, dry_run } = order else { return Ok(order) };
    let specs: Result<Vec<Arc<Spec>>, _> =
        specs.into_iter().map(|spec| Arc::unwrap_or_clone(spec).checked().map(Arc::new)).collect();
    Ok(Order::Apply { specs: specs?, again, dry_run })
}

fn not_reached(socket: &Path, source: io::Error) -> ApiError {
    let socket = socket.to_owned();
    match source.kind() {
        io::ErrorKind::PermissionDenied => ApiError::Closed { socket, source },
        _ => ApiError::Nobody { socket, source },
    }
}

/// Gives an order to whoever serves at a socket.
pub async fn order(socket: &Path, order: &Order) -> Result<Answer, ApiError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| not_reached(socket, source))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let body: Full<Bytes> = Full::from(serde_json::to_vec(order)?);
    let request = HttpRequest::post("/v1/orders")
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .expect("a path and headers that are always the same");
    let ask = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
    };
    tokio::pin!(connection);
    let (status, body) = tokio::select! {
        answered = ask => answered?,
        ended = &mut connection => {
            ended?;
            return Err(ApiError::Refused("`apportion service serve` ended the connection".to_owned()));
        }
    };
    match status {
        StatusCode::OK => Ok(serde_json::from_slice(&body)?),
        _ => {
            let said: Result<Failure, _> = serde_json::from_slice(&body);
            let text = || String::from_utf8_lossy(&body).into_owned();
            Err(ApiError::Refused(said.map_or_else(|_| text(), |said| said.error)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_open_to_its_user_alone_and_takes_the_place_of_one_that_was_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(SOCKET);
        for _ in 0..2 {
            // Dropping it leaves the file there, as a process does that is killed.
            drop(listen(&socket).unwrap());
            assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let error = order(&socket, &Order::Show).await.unwrap_err().to_string();
        assert!(error.contains("nobody serves at") && error.contains("--state"), "{error}");
        // Who runs the tests may open everything.
        let denied = not_reached(&socket, io::ErrorKind::PermissionDenied.into()).to_string();
        assert!(
            denied.contains("is not open to you: ") && denied.contains("the user who runs it"),
            "{denied}"
        );
    }
}
