//! A replica: a server of hyper's that answers as a test says, counts, and can be killed.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use apportion_service::balancer::Replica;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;

/// What a handler gives: an answer, or none, upon which the connection is cut.
type Answer = Pin<Box<dyn Future<Output = Option<Response<Body>>> + Send>>;

/// A replica that runs.
pub(crate) struct Backend {
    pub(crate) id: String,
    pub(crate) address: SocketAddr,
    /// Requests that it got.
    pub(crate) requests: Arc<AtomicUsize>,
    /// Connections that it accepted.
    pub(crate) connections: Arc<AtomicUsize>,
    /// Connections that are open.
    pub(crate) open: Arc<AtomicUsize>,
    end: CancellationToken,
}

/// A body of these bytes.
pub(crate) fn body(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// An answer of this status and text.
pub(crate) fn answer(status: u16, text: &str) -> Response<Body> {
    Response::builder().status(status).body(body(text.to_owned())).unwrap()
}

impl Backend {
    /// One that says its id.
    pub(crate) async fn echo(id: &str) -> Self {
        let text = id.to_owned();
        Self::start(id, move |request: Request<Incoming>| {
            let text = text.clone();
            async move {
                request.into_body().collect().await.ok()?;
                Some(answer(200, &text))
            }
        })
        .await
    }

    /// One that has every connection upgraded, and then sends back each four bytes in reverse.
    pub(crate) async fn reversing(id: &str) -> Self {
        Self::start(id, |mut request: Request<Incoming>| async move {
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.unwrap());
                let mut bytes = [0; 4];
                while stream.read_exact(&mut bytes).await.is_ok() {
                    bytes.reverse();
                    stream.write_all(&bytes).await.unwrap();
                }
            });
            let switching = Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "websocket");
            Some(switching.body(body("")).unwrap())
        })
        .await
    }

    /// One that answers by a handler.
    pub(crate) async fn start<H, F>(id: &str, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Response<Body>>> + Send + 'static,
    {
        Self::start_at(id, "127.0.0.1:0".parse().unwrap(), handler).await
    }

    /// The same, where another one was.
    pub(crate) async fn start_at<H, F>(id: &str, address: SocketAddr, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
        F: Future<Output = Option<Response<Body>>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let backend = Self {
            id: id.to_owned(),
            address: listener.local_addr().unwrap(),
            requests: Arc::default(),
            connections: Arc::default(),
            open: Arc::default(),
            end: CancellationToken::new(),
        };
        let handler: Arc<dyn Fn(Request<Incoming>) -> Answer + Send + Sync> =
            Arc::new(move |request| Box::pin(handler(request)) as Answer);
        let (end, requests) = (backend.end.clone(), Arc::clone(&backend.requests));
        let (connections, open) = (Arc::clone(&backend.connections), Arc::clone(&backend.open));
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap().0,
                    () = end.cancelled() => return,
                };
                connections.fetch_add(1, SeqCst);
                open.fetch_add(1, SeqCst);
                let (end, open) = (end.clone(), Arc::clone(&open));
                let (handler, requests) = (Arc::clone(&handler), Arc::clone(&requests));
                tokio::spawn(async move {
                    let cut = CancellationToken::new();
                    let service = service_fn(|request| {
                        requests.fetch_add(1, SeqCst);
                        let (answer, cut) = (handler(request), cut.clone());
                        async move {
                            match answer.await {
                                Some(answer) => Ok::<_, Infallible>(answer),
                                None => {
                                    cut.cancel();
                                    std::future::pending().await
                                }
                            }
                        }
                    });
                    let server = auto::Builder::new(TokioExecutor::new());
                    tokio::select! {
                        _ = server.serve_connection_with_upgrades(TokioIo::new(stream), service) => {}
                        () = cut.cancelled() => {}
                        () = end.cancelled() => {}
                    }
                    open.fetch_sub(1, SeqCst);
                });
            }
        });
        backend
    }

    /// As the balancer is told of it.
    pub(crate) fn replica(&self) -> Replica {
        Replica::new(&self.id, self.address)
    }

    /// How many requests it got.
    pub(crate) fn count(&self) -> usize {
        self.requests.load(SeqCst)
    }

    /// Ends it with everything that it has, and waits until its connections are closed.
    pub(crate) async fn kill(&self) {
        self.end.cancel();
        crate::until("a killed replica has no connections", || self.open.load(SeqCst) == 0).await;
        crate::until("a killed replica does not listen", || {
            std::net::TcpStream::connect(self.address).is_err()
        })
        .await;
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.end.cancel();
    }
}
