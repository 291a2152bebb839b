//! Discovery over HTTP, as JSON.
//!
//! - `GET /v1/apps`: the names of all apps.
//! - `GET /v1/apps/APP/replicas`: its replicas with id, address, weight and state.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::{net::TcpListener, sync::Semaphore};

use super::Directory;

/// Connections at a time, and how long a client may take to say what it wants.
const CONNECTIONS_MAX: usize = 256;
const SILENCE: Duration = Duration::from_secs(10);

/// How long a socket rests that failed, as when the process has too many files open.
const PAUSE: Duration = Duration::from_millis(50);

/// A socket that answers.
#[derive(Debug)]
pub struct Server<P = Nothing> {
    listener: TcpListener,
    directory: Directory,
    pages: Arc<P>,
}

/// Pages beside those of discovery.
pub trait Pages: Send + Sync + 'static {
    /// The page at a path, for GET and HEAD; none when there is none.
    fn page(&self, path: &str) -> Option<Response<Full<Bytes>>>;
}

/// No further pages.
#[derive(Debug)]
pub struct Nothing;

impl Pages for Nothing {
    fn page(&self, _path: &str) -> Option<Response<Full<Bytes>>> {
        None
    }
}

impl Server {
    /// Opens the socket.
    pub async fn bind(address: SocketAddr, directory: Directory) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, directory, pages: Arc::new(Nothing) })
    }

    /// The same socket with further pages.
    pub fn with<P: Pages>(self, pages: P) -> Server<P> {
        let Server { listener, directory, .. } = self;
        Server { listener, directory, pages: Arc::new(pages) }
    }
}

impl<P: Pages> Server<P> {
    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers without end; to end it, drop it.
    pub async fn run(self) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let (directory, pages) = (self.directory.clone(), Arc::clone(&self.pages));
            tokio::spawn(async move {
                let service = service_fn(|request: Request<Incoming>| {
                    let (method, path) = (request.method(), request.uri().path());
                    let page = if is_read(method) { pages.page(path) } else { None };
                    let response = page.unwrap_or_else(|| respond(&directory, method, path));
                    async { Ok::<_, Infallible>(response) }
                });
                let mut server = http1::Builder::new();
                server.timer(TokioTimer::new()).header_read_timeout(SILENCE);
                // How a client's connection failed is the client's affair.
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
                drop(place);
            });
        }
    }
}

fn is_read(method: &Method) -> bool {
    [Method::GET, Method::HEAD].contains(method)
}

/// The answer to a request, for a server that has other pages as well.
pub fn respond(directory: &Directory, method: &Method, path: &str) -> Response<Full<Bytes>> {
    if !is_read(method) {
        let mut refused =
            json(StatusCode::METHOD_NOT_ALLOWED, &Problem { error: "only GET is allowed here".to_owned() });
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    let app = path.strip_prefix("/v1/apps/").and_then(|rest| rest.strip_suffix("/replicas"));
    match (path, app) {
        ("/v1/apps", _) => json(StatusCode::OK, &directory.apps()),
        (_, Some(app)) => match directory.replicas(app) {
            Some(replicas) => json(StatusCode::OK, &*replicas),
            None => {
                let error = format!(
                    "there is no app '{}'; /v1/apps lists those that there are",
                    app.escape_default()
                );
                json(StatusCode::NOT_FOUND, &Problem { error })
            }
        },
        _ => {
            let error = "there are /v1/apps and /v1/apps/APP/replicas".to_owned();
            json(StatusCode::NOT_FOUND, &Problem { error })
        }
    }
}

#[derive(Serialize)]
struct Problem {
    error: String,
}

/// A page of JSON.
pub fn json<T: Serialize + ?Sized>(status: StatusCode, value: &T) -> Response<Full<Bytes>> {
    let (status, text) = match serde_json::to_vec(value) {
        Ok(text) => (status, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, Vec::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::balancer::Replica;

    fn directory() -> Directory {
        let directory = Directory::default();
        directory.replace("web", vec![Replica::new("web-0", "10.0.0.1:80".parse().unwrap()).draining()]);
        directory
    }

    async fn text(method: Method, path: &str) -> (u16, String) {
        let response = respond(&directory(), &method, path);
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn replicas_are_json() {
        let replicas = r#"[{"id":"web-0","address":"10.0.0.1:80","weight":1,"state":"draining"}]"#;
        assert_eq!(text(Method::GET, "/v1/apps/web/replicas").await, (200, replicas.to_owned()));
        assert_eq!(text(Method::GET, "/v1/apps").await, (200, r#"["web"]"#.to_owned()));
        assert_eq!(text(Method::GET, "/v1/apps/db/replicas").await.0, 404);
        assert_eq!(text(Method::GET, "/").await.0, 404);
        assert_eq!(text(Method::POST, "/v1/apps").await.0, 405);
    }

    #[tokio::test]
    async fn the_socket_answers() {
        let server = Server::bind("127.0.0.1:0".parse().unwrap(), directory()).await.unwrap();
        let address = server.address().unwrap();
        let running = tokio::spawn(server.run());
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /v1/apps HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with(r#"["web"]"#), "{answer}");
        running.abort();
    }
}
