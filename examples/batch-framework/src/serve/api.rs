//! How the other commands, pages and Prometheus talk to `apportion batch serve`: JSON over HTTP.
//!
//! ```text
//! GET  /v1/queue                  every job and every user, as `Overview`
//! GET  /v1/jobs/17                a job with its stages and tasks, as `Details`
//! GET  /v1/jobs/17/report         what became of a job that is over, as `apportion batch run -o json` says it
//! GET  /v1/jobs/17/timeline.svg   who ran where and when
//! GET  /metrics                   for Prometheus
//! POST /v1/jobs                   a `Wanted`; answers {"job":17}
//! POST /v1/jobs/17/cancel         answers {}
//! POST /v1/jobs/17/retry          answers {"tasks":3,"outputs":0}
//! ```
//!
//! What is not done is answered with {"error":"…"}. Orders are taken at the socket in the state folder alone: there the kernel says who
//! speaks. Over TCP anybody may look, if that was asked for.

use std::{io, path::Path};

use apportion_sdk::{Handle, Time};
use axum::{
    Json, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Path as Segment, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::{TcpListener, UnixListener};

use super::{
    metrics,
    order::{Answer, Order, Refused, Request, Snapshot, Submit},
    peer::{Peer, Uid},
    view::Details,
};
use crate::{
    job::{Job, Submission},
    output::Fetched,
    queue::JobId,
    report::Report,
    timeline,
};

/// The socket in the state folder.
pub const SOCKET: &str = "api.sock";

/// Bytes of a job that is submitted: its file, and as much again for what its globs found.
const BODY_BYTES_MAX: usize = 96 << 20;

/// A job that somebody wants to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// What it is made of.
    pub submission: Submission,
    /// Whose it is to be; of who submits it, when none.
    #[serde(default)]
    pub user: Option<String>,
    /// Among theirs: the greater number first.
    #[serde(default)]
    pub priority: i32,
    /// Whether it waits when no agent is large enough, instead of failing.
    #[serde(default)]
    pub waits: bool,
}

/// What is answered when something is not done.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failure {
    #[serde(skip)]
    status: StatusCode,
    pub(crate) error: String,
}

/// What handlers know.
#[derive(Debug, Clone)]
pub(super) struct Api {
    pub(super) scheduler: Handle<Request>,
    /// The number of the user who serves.
    pub(super) owner: u32,
}

/// Takes orders at a socket; ends only when that is not possible.
pub(super) async fn serve(listener: UnixListener, api: Api) -> io::Result<()> {
    let orders = Router::new()
        .route("/v1/jobs", post(submit))
        .route("/v1/jobs/{id}/cancel", post(cancel))
        .route("/v1/jobs/{id}/retry", post(retry))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let router = looks().merge(orders).with_state(api);
    axum::serve(listener, router.into_make_service_with_connect_info::<Uid>()).await
}

/// Lets anybody look who reaches this address.
pub(super) async fn serve_looks(listener: TcpListener, api: Api) -> io::Result<()> {
    axum::serve(listener, looks().with_state(api)).await
}

fn looks() -> Router<Api> {
    Router::new()
        .route("/v1/queue", get(queue))
        .route("/v1/jobs/{id}", get(details))
        .route("/v1/jobs/{id}/report", get(report))
        .route("/v1/jobs/{id}/timeline.svg", get(picture))
        .route("/metrics", get(numbers))
}

/// Makes the socket in the place of one that was left behind. There must be nobody else who serves: the caller has the state folder.
/// `shared` lets every user of this machine in; without it its own user alone.
pub(super) fn listen(socket: &Path, shared: bool) -> io::Result<UnixListener> {
    use std::os::unix::{fs::PermissionsExt as _, net::UnixListener as StdListener};
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = StdListener::bind(socket)?;
    let mode = |mode| std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(socket, mode(if shared { 0o666 } else { 0o600 }))?;
    if let (true, Some(folder)) = (shared, socket.parent()) {
        // Whoever knows the name may come in; what is kept there stays unreadable.
        std::fs::set_permissions(folder, mode(0o711))?;
    }
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn failure(status: StatusCode, error: impl ToString) -> Failure {
    Failure { status, error: error.to_string() }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self)).into_response()
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let status = match refused {
            Refused::Unknown(_) => StatusCode::NOT_FOUND,
            Refused::NotYours { .. } => StatusCode::FORBIDDEN,
            Refused::Full(_) => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::CONFLICT,
        };
        failure(status, refused)
    }
}

impl Api {
    /// What the scheduler says, once it is written down.
    async fn ask(&self, order: Order) -> Result<Answer, Failure> {
        let gone = |what| failure(StatusCode::SERVICE_UNAVAILABLE, what);
        let (request, answer) = Request::new(order);
        self.scheduler.send(request).await.map_err(|_| gone("the scheduler has ended"))?;
        let answered = answer.await.map_err(|_| gone("the scheduler ended before it could keep this"))?;
        Ok(answered?)
    }

    /// All of a job. Of a large one in parts, so that the scheduler hears everything else between them.
    async fn snapshot(&self, id: &str) -> Result<Snapshot, Failure> {
        let id = number(id)?;
        let mut whole = self.part(id, 0).await?;
        while let Some(from) = whole.next() {
            whole.add(self.part(id, from).await?);
        }
        Ok(whole)
    }

    async fn part(&self, id: JobId, from: usize) -> Result<Snapshot, Failure> {
        match self.ask(Order::Show(id, from)).await? {
            Answer::Job(snapshot) => Ok(*snapshot),
            _ => Err(failure(StatusCode::INTERNAL_SERVER_ERROR, "the scheduler answered something else")),
        }
    }

    fn peer(&self, uid: Uid) -> Result<Peer, Failure> {
        let nobody = || failure(StatusCode::FORBIDDEN, "the kernel does not say who speaks");
        Ok(Peer::look_up(uid.0.ok_or_else(nobody)?, self.owner))
    }
}

fn number(id: &str) -> Result<JobId, Failure> {
    id.parse().map_err(|error: String| failure(StatusCode::NOT_FOUND, error))
}

/// Makes a document beside the threads that serve: of a job with a hundred thousand tasks that takes a while.
async fn made<T: IntoResponse + Send + 'static>(make: impl FnOnce() -> T + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(make).await {
        Ok(made) => made.into_response(),
        Err(_) => {
            failure(StatusCode::INTERNAL_SERVER_ERROR, "the document could not be made").into_response()
        }
    }
}

async fn queue(State(api): State<Api>) -> Result<Response, Failure> {
    match api.ask(Order::List).await? {
        Answer::Overview(overview) => Ok(made(move || Json(overview)).await),
        _ => Err(failure(StatusCode::INTERNAL_SERVER_ERROR, "the scheduler answered something else")),
    }
}

async fn numbers(State(api): State<Api>) -> Result<Response, Failure> {
    match api.ask(Order::List).await? {
        Answer::Overview(overview) => {
            let kind = [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)];
            Ok(made(move || (kind, metrics::text(&overview))).await)
        }
        _ => Err(failure(StatusCode::INTERNAL_SERVER_ERROR, "the scheduler answered something else")),
    }
}

async fn details(State(api): State<Api>, Segment(id): Segment<String>) -> Result<Response, Failure> {
    let snapshot = api.snapshot(&id).await?;
    Ok(made(move || Json(Details::new(&snapshot))).await)
}

async fn report(State(api): State<Api>, Segment(id): Segment<String>) -> Result<Response, Failure> {
    let snapshot = api.snapshot(&id).await?;
    if snapshot.head.ended_at.is_none() {
        return Err(Refused::Runs(snapshot.view.id).into());
    }
    Ok(made(move || Json(snapshot.report())).await)
}

async fn picture(State(api): State<Api>, Segment(id): Segment<String>) -> Result<Response, Failure> {
    let snapshot = api.snapshot(&id).await?;
    let kind = [(header::CONTENT_TYPE, "image/svg+xml")];
    Ok(made(move || (kind, timeline::svg(&snapshot.job, &snapshot.tasks, snapshot.times()))).await)
}

impl Snapshot {
    /// When it began, and when it was over; until now when it is not.
    fn times(&self) -> (Time, Time) {
        let began = self.head.launched_at.unwrap_or(self.head.submitted_at);
        (began, self.head.ended_at.unwrap_or_else(crate::run::wall_clock).max(began))
    }

    /// What became of it; it is over.
    fn report(&self) -> Report {
        let fetched = |position| self.outputs.get(&position).cloned().unwrap_or_default();
        let fetched: Vec<Fetched> = (0..self.tasks.len()).map(fetched).collect();
        let framework_id = self.framework_id.as_ref().map(ToString::to_string);
        let ended = (self.tasks.as_slice(), self.view.tasks, self.head.cancelled);
        Report::new(&self.job, ended, fetched, framework_id, self.times())
    }
}

async fn submit(
    State(api): State<Api>,
    ConnectInfo(uid): ConnectInfo<Uid>,
    Json(wanted): Json<Wanted>,
) -> Result<Response, Failure> {
    let peer = api.peer(uid)?;
    let Wanted { submission, user, priority, waits } = wanted;
    // What comes from outside is checked as a file is; a large one takes a while.
    let checked = tokio::task::spawn_blocking(move || submission.job().map(|job| (submission, job)));
    let (submission, job) = match checked.await {
        Ok(Ok(checked)) => checked,
        Ok(Err(error)) => return Err(failure(StatusCode::UNPROCESSABLE_ENTITY, error)),
        Err(_) => return Err(failure(StatusCode::INTERNAL_SERVER_ERROR, "the job could not be read")),
    };
    let runs_as = may(&peer, user.as_deref(), &job).map_err(|what| failure(StatusCode::FORBIDDEN, what))?;
    let user = user.unwrap_or(peer.user);
    let submit = Submit { user, runs_as, priority, waits, submission, job };
    match api.ask(Order::Submit(Box::new(submit))).await? {
        Answer::Taken(job) => Ok(Json(json!({ "job": job })).into_response()),
        _ => Err(failure(StatusCode::INTERNAL_SERVER_ERROR, "the scheduler answered something else")),
    }
}

/// As whom the tasks of a job run; or why this user may not submit it. Who may act for others may do so here as well. Anybody else gets no
/// rights through whoever serves and the agents, which are often root: neither other users' tasks, nor files written for them.
fn may(peer: &Peer, user: Option<&str>, job: &Job) -> Result<Option<String>, String> {
    if peer.is_operator {
        return Ok(None);
    }
    let own = &peer.user;
    if let Some(other) = user.filter(|user| user != own) {
        return Err(format!(
            "--user {other}: you are `{own}`, and only root and the user who serves may submit for others; leave it out"
        ));
    }
    let others = job.stages().iter().filter_map(|stage| stage.user.as_deref()).find(|user| user != own);
    if let Some(other) = others {
        return Err(format!(
            "user = \"{other}\": the tasks of `{own}` run as `{own}` in this queue; leave it out of the job file"
        ));
    }
    if let Some(image) = job.stages().iter().find_map(|stage| stage.image.as_ref()) {
        // Who a name or a number is, and in which groups, is looked up in the image, which anybody can make.
        return Err(format!(
            "image = \"{image}\": the tasks of `{own}` run as `{own}` in this queue, and an image says by itself who that is; leave it out"
        ));
    }
    if let Some(folder) = &job.output {
        return Err(format!(
            "output = \"{}\": it would be written by the user who serves; leave it out, and read outputs with `apportion batch logs`",
            folder.display()
        ));
    }
    Ok(Some(own.clone()))
}

async fn cancel(
    State(api): State<Api>,
    ConnectInfo(uid): ConnectInfo<Uid>,
    Segment(id): Segment<String>,
) -> Result<Response, Failure> {
    api.ask(Order::Cancel { job: number(&id)?, by: api.peer(uid)? }).await?;
    Ok(Json(json!({})).into_response())
}

async fn retry(
    State(api): State<Api>,
    ConnectInfo(uid): ConnectInfo<Uid>,
    Segment(id): Segment<String>,
) -> Result<Response, Failure> {
    match api.ask(Order::Retry { job: number(&id)?, by: api.peer(uid)? }).await? {
        Answer::Again { tasks, outputs } => {
            Ok(Json(json!({ "tasks": tasks, "outputs": outputs })).into_response())
        }
        _ => Err(failure(StatusCode::INTERNAL_SERVER_ERROR, "the scheduler answered something else")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn the_socket_is_open_to_its_user_alone_unless_it_is_shared() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(SOCKET);
        for (shared, mode) in [(false, 0o600), (true, 0o666)] {
            // Dropping it leaves the file there, as a process does that is killed.
            drop(listen(&socket, shared).unwrap());
            assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn a_stranger_gets_no_rights_through_who_serves() {
        let ann = Peer { user: "ann".into(), is_operator: false };
        let root = Peer { user: "root".into(), is_operator: true };
        let job = |more: &str, output: &str| {
            let text = format!("name = \"j\"\n{output}\n[task]\ncommand = \"id\"\n{more}\n");
            Job::parse("job.toml".as_ref(), &text, &[], "/srv".as_ref()).unwrap()
        };
        let plain = job("", "");
        assert_eq!(may(&ann, None, &plain), Ok(Some("ann".into())));
        assert_eq!(may(&ann, Some("ann"), &job("user = \"ann\"", "")), Ok(Some("ann".into())));
        assert!(may(&ann, Some("bob"), &plain).unwrap_err().starts_with("--user bob: you are `ann`"));
        assert!(may(&ann, None, &job("user = \"root\"", "")).unwrap_err().starts_with("user = \"root\""));
        let image = may(&ann, None, &job("image = \"debian:13\"", ""));
        assert!(image.unwrap_err().starts_with("image = "));
        let output = may(&ann, None, &job("", "output = \"out\"")).unwrap_err();
        assert!(output.starts_with("output = \"/srv/out\""), "{output}");
        assert_eq!(may(&root, Some("bob"), &job("user = \"www\"", "output = \"out\"")), Ok(None));
    }
}
