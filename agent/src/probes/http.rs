//! A path asked for by HTTP/1.1: the status is the answer. Nothing is followed, and nothing behind the head is read.

use std::{collections::BTreeMap, net::SocketAddr, pin::pin};

use apportion_types::{probe::CheckResult, text::chain};
use http_body_util::Empty;
use hyper::{
    Request,
    body::Bytes,
    client::conn::http1,
    header::{HOST, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Answer, unanswered};

/// Bytes of the head of an answer; hyper takes no less.
const HEAD_BYTES_MAX: usize = 16 << 10;

pub(super) async fn ask(address: SocketAddr, path: &str, headers: &BTreeMap<String, String>) -> Answer {
    let request = match request(address, path, headers) {
        Ok(request) => request,
        Err(error) => return unanswered(format_args!("it cannot be asked so: {error}")),
    };
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => return unanswered(format_args!("no connection to port {}: {error}", address.port())),
    };
    let shaken = http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = match shaken {
        Ok(parts) => parts,
        Err(error) => return unanswered(chain(&error)),
    };
    let mut answer = pin!(sender.send_request(request));
    // The connection is driven by whoever waits for the answer, and dropped with it. When it ends first, what has come is still there.
    let answer = tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    };
    match answer {
        Ok(answer) => {
            let status = answer.status();
            (CheckResult::HttpStatus(status.as_u16()), format!("HTTP status {status}"))
        }
        Err(error) => unanswered(chain(&error)),
    }
}

fn request(
    address: SocketAddr,
    path: &str,
    headers: &BTreeMap<String, String>,
) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let mut request = Request::get(path).body(Empty::new())?;
    let own = request.headers_mut();
    own.insert(HOST, HeaderValue::try_from(address.to_string())?);
    own.insert(USER_AGENT, HeaderValue::from_static(concat!("apportion/", env!("CARGO_PKG_VERSION"))));
    for (name, value) in headers {
        own.insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    Ok(request)
}
