//! A worker: one thread with one socket, one runtime and its own connections, as nginx and haproxy have them.
//!
//! Several workers listen on one address, and the kernel deals connections out among them (`SO_REUSEPORT`). A request is then
//! served by one thread from beginning to end, and no two threads wake each other.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::{
    app::App,
    config::{Kind, Listener},
    l4,
    l7::{self, Client},
    pick::Worker,
};

/// How long a socket rests when no connection can be accepted, as when the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client that has just connected has for its first request when the listener ends.
const FIRST_REQUEST: Duration = Duration::from_secs(1);

/// How often an idle HTTP/2 connection of a client is asked whether somebody is there.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// When a worker ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Ends {
    /// It accepts nothing more, and lets clients finish.
    pub(super) drain: CancellationToken,
}

/// A client, who is counted and waited for until the last of what he has under way is dropped: his connection, or the tunnel that it became.
#[derive(Debug)]
pub(super) struct Place {
    app: Arc<App>,
    _permit: OwnedSemaphorePermit,
    _waited_for: TaskTrackerToken,
}

impl Place {
    fn take(app: &Arc<App>, permit: OwnedSemaphorePermit, clients: &TaskTracker) -> Self {
        app.clients.fetch_add(1, Relaxed);
        Self { app: Arc::clone(app), _permit: permit, _waited_for: clients.token() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.app.clients.fetch_sub(1, Relaxed);
    }
}

/// Serves until it is told to end, and then until every client has finished or everything ends. What is left then ends with the runtime.
pub(super) async fn run(worker: Arc<Worker>, listeners: Vec<TcpListener>, ends: Ends) {
    let clients = TaskTracker::new();
    let app = Arc::clone(&worker.app);
    let places =
        Arc::new(Semaphore::new((app.config.limits.clients_max as usize).div_ceil(app.config.workers)));
    let server = Arc::new(server(&app.config));
    let accepting = async {
        loop {
            let Ok(permit) = Arc::clone(&places).acquire_owned().await else { return };
            let (stream, address) = match accept(&listeners).await {
                Ok(accepted) => accepted,
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (worker, server, drain) = (Arc::clone(&worker), Arc::clone(&server), ends.drain.clone());
            let place = Place::take(&app, permit, &clients);
            tokio::spawn(async move { serve(worker, place, &server, stream, address, drain).await });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = worker.close_old_connections() => {}
        () = ends.drain.cancelled() => {}
        () = app.end.cancelled() => {}
    }
    drop(listeners);
    clients.close();
    tokio::select! {
        () = clients.wait() => {}
        () = app.end.cancelled() => {}
    }
}

/// The next connection on any of these sockets: one, unless there are fewer workers than there were.
async fn accept(listeners: &[TcpListener]) -> io::Result<(TcpStream, SocketAddr)> {
    poll_fn(|cx| {
        let mut ready = listeners.iter().map(|listener| listener.poll_accept(cx)).filter(Poll::is_ready);
        ready.next().unwrap_or(Poll::Pending)
    })
    .await
}

fn server(config: &Listener) -> auto::Builder<TokioExecutor> {
    let limits = &config.limits;
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.timeouts.header)
        .max_buf_size(limits.header_bytes)
        .max_headers(limits.headers_max)
        .half_close(false);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(limits.header_bytes as u32)
        .max_concurrent_streams(limits.streams_max)
        .adaptive_window(true)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_INTERVAL);
    server
}

async fn serve(
    worker: Arc<Worker>,
    place: Place,
    server: &auto::Builder<TokioExecutor>,
    stream: TcpStream,
    address: SocketAddr,
    drain: CancellationToken,
) {
    let app = Arc::clone(&worker.app);
    let socket = SockRef::from(&stream);
    // Neither is worth refusing a client for.
    let _ = socket.set_tcp_nodelay(true);
    // The kernel counts the time in which a client takes nothing of what it is sent.
    let _ = socket.set_tcp_user_timeout(Some(app.config.timeouts.body));
    if app.config.kind == Kind::L4 {
        l4::serve(&worker, stream, address).await;
        return;
    }
    let client = Arc::new(Client {
        worker,
        address: address.ip().to_canonical(),
        requests: AtomicU64::new(0),
        _place: place,
    });
    let begun = Arc::new(Notify::new());
    let service = {
        let (client, begun) = (Arc::clone(&client), Arc::clone(&begun));
        service_fn(move |request| {
            begun.notify_one();
            l7::serve(Arc::clone(&client), request)
        })
    };
    let connection = server.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A client that does not even say which protocol it speaks. HTTP/1 has a time-out for each head besides.
    let silence = tokio::time::sleep(app.config.timeouts.header);
    tokio::pin!(silence);
    let mut silent = true;
    let mut drained = false;
    // Whoever has just connected is about to ask: closed before the first request was read, it would be lost.
    let first = async {
        drain.cancelled().await;
        if client.requests.load(Relaxed) == 0 {
            // Either is as good.
            let _ = tokio::time::timeout(FIRST_REQUEST, begun.notified()).await;
        }
    };
    tokio::pin!(first);
    loop {
        tokio::select! {
            biased;
            // Before the connection goes on: an answer that is there by now is to say so.
            () = &mut first, if !drained => {
                drained = true;
                // HTTP/1 says `connection: close` with its next answer, HTTP/2 says GOAWAY.
                connection.as_mut().graceful_shutdown();
            }
            // What it failed by is the client's affair.
            _ = connection.as_mut() => return,
            () = &mut silence, if silent => {
                if client.requests.load(Relaxed) == 0 {
                    return;
                }
                silent = false;
            }
        }
    }
}
