//! Connections to one replica, of one worker: opened when needed, kept for the next request.
//!
//! The protocol is hyper's; here is only who may use which connection. HTTP/1 has one request at a time on a connection, so free
//! ones lie on a stack: the one used last is the least likely to have been closed by the replica. HTTP/2 has one connection for all.

use std::{
    io,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};

use super::{
    app::App,
    body::RequestBody,
    replica::{Endpoint, lock},
};

/// How often an HTTP/2 connection is asked whether it lives.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// The open connections of one worker to one replica.
#[derive(Debug, Default)]
pub(super) struct Pool {
    http1: Mutex<Vec<Idle>>,
    http2: Mutex<Option<http2::SendRequest<RequestBody>>>,
    /// Held while an HTTP/2 connection is opened, so that a hundred first requests open one.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

impl Pool {
    /// Closes those that nothing is on; what is on the others ends as it would have.
    pub(super) fn clear(&self) {
        lock(&self.http1).clear();
        lock(&self.http2).take();
    }

    /// Closes those that lie there for longer than they may.
    pub(super) fn close_older(&self, keep: Duration) {
        lock(&self.http1).retain(|idle| idle.since.elapsed() < keep && !idle.sender.is_closed());
    }

    fn take(&self, keep: Duration) -> Option<http1::SendRequest<RequestBody>> {
        let mut idle = lock(&self.http1);
        while let Some(Idle { sender, since }) = idle.pop() {
            if sender.is_ready() && since.elapsed() < keep {
                return Some(sender);
            }
        }
        None
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unconnected {
    /// The replica has as many as it may, and so many requests wait for one.
    #[error("as many requests wait for a connection to the replica as may (circuit.pending_max)")]
    Full,
    /// It did not accept one.
    #[error("the replica accepts no connection: {0}")]
    Refused(#[from] io::Error),
    /// It accepted one and did not speak the protocol.
    #[error("the replica does not speak the protocol: {0}")]
    Handshake(#[from] hyper::Error),
    /// It took too long.
    #[error("the replica took longer than timeouts.connect to accept a connection")]
    Late,
}

/// A connection over TCP, without waiting for more to send: what is written here is whole.
pub(super) async fn connect(app: &App, endpoint: &Endpoint) -> Result<TcpStream, Unconnected> {
    let stream = timeout(app.config.timeouts.connect, TcpStream::connect(endpoint.address))
        .await
        .map_err(|_| Unconnected::Late)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A connection for one request of HTTP/1: one that lies there, a new one, or the next one that becomes free.
pub(super) async fn http1(
    app: &Arc<App>,
    endpoint: &Arc<Endpoint>,
    worker: usize,
) -> Result<http1::SendRequest<RequestBody>, Unconnected> {
    let keep = app.config.timeouts.keep;
    if let Some(sender) = endpoint.pools.get(worker).and_then(|pool| pool.take(keep)) {
        return Ok(sender);
    }
    if let Ok(permit) = Arc::clone(&endpoint.connections).try_acquire_owned() {
        return open_http1(app, endpoint, permit).await;
    }
    let _pending = Pending::enter(app, endpoint).ok_or(Unconnected::Full)?;
    let wait = async {
        loop {
            let released = endpoint.released.notified();
            tokio::pin!(released);
            released.as_mut().enable();
            // Another worker's will do: there are no more to open.
            if let Some(sender) = endpoint.pools.iter().find_map(|pool| pool.take(keep)) {
                return Ok(sender);
            }
            if let Ok(permit) = Arc::clone(&endpoint.connections).try_acquire_owned() {
                return open_http1(app, endpoint, permit).await;
            }
            released.await;
        }
    };
    timeout(app.config.timeouts.response, wait).await.map_err(|_| Unconnected::Late)?
}

async fn open_http1(
    app: &Arc<App>,
    endpoint: &Arc<Endpoint>,
    permit: OwnedSemaphorePermit,
) -> Result<http1::SendRequest<RequestBody>, Unconnected> {
    let permit = Permit { permit: Some(permit), endpoint: Arc::clone(endpoint) };
    let stream = connect(app, endpoint).await?;
    let limits = &app.config.limits;
    let mut builder = http1::Builder::new();
    builder.max_buf_size(limits.header_bytes).max_headers(limits.headers_max);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    let endpoint = Arc::clone(endpoint);
    tokio::spawn(async move {
        // How it ended is told to the request that was on it.
        tokio::select! {
            _ = connection.with_upgrades() => {}
            () = endpoint.gone.cancelled() => {}
        }
        drop(permit);
    });
    Ok(sender)
}

/// Puts a connection back when a request on it has ended; in a moment, when it has something left to do.
pub(super) fn give_back(endpoint: Arc<Endpoint>, worker: usize, mut sender: http1::SendRequest<RequestBody>) {
    if sender.is_ready() {
        keep(&endpoint, worker, sender);
    } else if !sender.is_closed() {
        tokio::spawn(async move {
            if sender.ready().await.is_ok() {
                keep(&endpoint, worker, sender);
            }
        });
    }
}

fn keep(endpoint: &Endpoint, worker: usize, sender: http1::SendRequest<RequestBody>) {
    let Some(pool) = endpoint.pools.get(worker) else { return };
    let mut idle = lock(&pool.http1);
    // Asked under the lock: who marks it as draining clears the stack afterwards.
    if endpoint.is_draining() {
        return;
    }
    idle.push(Idle { sender, since: Instant::now() });
    drop(idle);
    if endpoint.pending.load(SeqCst) > 0 {
        endpoint.released.notify_one();
    }
}

/// The connection for all requests of HTTP/2.
pub(super) async fn http2(
    app: &Arc<App>,
    endpoint: &Arc<Endpoint>,
    worker: usize,
) -> Result<http2::SendRequest<RequestBody>, Unconnected> {
    let Some(pool) = endpoint.pools.get(worker) else { return Err(Unconnected::Full) };
    let open = || lock(&pool.http2).as_ref().filter(|sender| !sender.is_closed()).cloned();
    if let Some(sender) = open() {
        return Ok(sender);
    }
    let _opening = pool.opening.lock().await;
    if let Some(sender) = open() {
        return Ok(sender);
    }
    let permit = Arc::clone(&endpoint.connections).try_acquire_owned().map_err(|_| Unconnected::Full)?;
    let permit = Permit { permit: Some(permit), endpoint: Arc::clone(endpoint) };
    let stream = connect(app, endpoint).await?;
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .adaptive_window(true)
        .max_header_list_size(app.config.limits.header_bytes as u32)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    let handshake = timeout(app.config.timeouts.connect, builder.handshake(TokioIo::new(stream))).await;
    let (sender, connection) = handshake.map_err(|_| Unconnected::Late)??;
    let gone = endpoint.gone.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = connection => {}
            () = gone.cancelled() => {}
        }
        drop(permit);
    });
    if !endpoint.is_draining() {
        *lock(&pool.http2) = Some(sender.clone());
        // It may have begun to drain since it was asked; then this one is not to stay.
        if endpoint.is_draining() {
            pool.clear();
        }
    }
    Ok(sender)
}

/// One connection of those that a replica may have; wakes a request that waits for one.
#[derive(Debug)]
pub(super) struct Permit {
    permit: Option<OwnedSemaphorePermit>,
    endpoint: Arc<Endpoint>,
}

impl Permit {
    pub(super) fn try_take(endpoint: &Arc<Endpoint>) -> Option<Self> {
        let permit = Arc::clone(&endpoint.connections).try_acquire_owned().ok()?;
        Some(Self { permit: Some(permit), endpoint: Arc::clone(endpoint) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        drop(self.permit.take());
        if self.endpoint.pending.load(SeqCst) > 0 {
            self.endpoint.released.notify_one();
        }
    }
}

/// A request that waits for a connection.
struct Pending<'a>(&'a Endpoint);

impl<'a> Pending<'a> {
    fn enter(app: &App, endpoint: &'a Endpoint) -> Option<Self> {
        let before = endpoint.pending.fetch_add(1, SeqCst);
        let pending = Self(endpoint);
        (before < app.config.circuit.pending_max).then_some(pending)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, SeqCst);
    }
}
