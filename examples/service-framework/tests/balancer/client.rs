//! A client: one connection of hyper's, or plain bytes.

use std::net::SocketAddr;

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Body, Bytes, Incoming},
    client::conn::{http1, http2},
    upgrade::Upgraded,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::soon;

/// A connection that speaks HTTP/1.
pub(crate) async fn http1<B>(address: SocketAddr) -> http1::SendRequest<B>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    sender
}

/// A connection that speaks HTTP/2 from the first byte.
pub(crate) async fn http2<B>(address: SocketAddr) -> http2::SendRequest<B>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// An answer with all of its body.
pub(crate) async fn whole(response: Response<Incoming>) -> Response<String> {
    let (parts, body) = response.into_parts();
    let bytes = soon(body.collect()).await.unwrap().to_bytes();
    Response::from_parts(parts, String::from_utf8(bytes.to_vec()).unwrap())
}

/// Sends one request on a connection of its own.
pub(crate) async fn send(address: SocketAddr, request: Request<Full<Bytes>>) -> Response<String> {
    let mut sender = http1(address).await;
    whole(soon(sender.send_request(request)).await.unwrap()).await
}

/// Gets `/` on a connection of its own.
pub(crate) async fn get(address: SocketAddr) -> Response<String> {
    send(address, request("GET", "")).await
}

/// A request for `/`.
pub(crate) fn request(method: &str, body: &str) -> Request<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_owned()));
    Request::builder().method(method).uri("/").header("host", "app.example").body(body).unwrap()
}

/// Sends these bytes and reads until the other side closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has heard enough may close before all is sent.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = soon(stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// What a WebSocket does: a connection of HTTP/1 that became one for bytes both ways.
pub(crate) struct Tunnel(TokioIo<Upgraded>);

impl Tunnel {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let mut sender = http1(address).await;
        let mut request = request("GET", "");
        request.headers_mut().insert("connection", "Upgrade".parse().unwrap());
        request.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        let mut response = soon(sender.send_request(request)).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["upgrade"]),
            (101, &"websocket".parse().unwrap())
        );
        Self(TokioIo::new(soon(hyper::upgrade::on(&mut response)).await.unwrap()))
    }

    /// Sends a word and reads one as long.
    pub(crate) async fn say(&mut self, word: &str) -> String {
        self.0.write_all(word.as_bytes()).await.unwrap();
        let mut bytes = vec![0; word.len()];
        soon(self.0.read_exact(&mut bytes)).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Waits until the other side has ended it.
    pub(crate) async fn is_cut(&mut self) {
        let read = soon(self.0.read(&mut [0; 1])).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}
