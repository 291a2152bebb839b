//! Asking whoever serves a queue: HTTP over the socket in its state folder.

use std::{
    io,
    path::{Path, PathBuf},
};

use axum::{
    body::Bytes,
    http::{Method, Request, StatusCode, header},
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::serve::Failure;

/// Why nothing came of a question.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("nobody serves a queue at {}: {source}; begin one with `apportion batch serve`, or name its --state", socket.display())]
    Nobody {
        /// Where.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The socket is somebody else's.
    #[error("the queue at {} is not open to you: {source}; who serves it lets others in with --shared", socket.display())]
    Closed {
        /// Where.
        socket: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The connection ended.
    #[error(
        "`apportion batch serve` did not answer: {0}; its events say why, and `apportion batch ls` what was done"
    )]
    Lost(#[from] hyper::Error),
    /// The same, and it does not say why.
    #[error(
        "`apportion batch serve` ended the connection; its events say why, and `apportion batch ls` what was done"
    )]
    Ended,
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// It said something else.
    #[error("the answer of `apportion batch serve` is not understood: {0}; use the same version for both")]
    NotUnderstood(#[from] serde_json::Error),
}

impl ClientError {
    /// Whether it may be answered a moment later: nobody listens now, or whoever did has just ended.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, ClientError::Nobody { .. } | ClientError::Lost(_) | ClientError::Ended)
    }
}

/// Somebody who asks.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// A document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        Ok(serde_json::from_slice(&self.bytes(path).await?)?)
    }

    /// Something that may be no JSON.
    pub(crate) async fn bytes(&self, path: &str) -> Result<Bytes, ClientError> {
        self.ask(Method::GET, path, Bytes::new()).await
    }

    /// Has something done.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        Ok(serde_json::from_slice(&self.ask(Method::POST, path, body.into()).await?)?)
    }

    async fn ask(&self, method: Method, path: &str, body: Bytes) -> Result<Bytes, ClientError> {
        let stream = connect(&self.socket).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::<Bytes>::new(body))
            .expect("paths are made of fixed texts and numbers");
        let ask = async {
            let response = sender.send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        };
        tokio::pin!(connection);
        let (status, body) = tokio::select! {
            answered = ask => answered?,
            ended = &mut connection => return Err(ended.map_or_else(ClientError::from, |()| ClientError::Ended)),
        };
        match status {
            StatusCode::OK => Ok(body),
            // Whoever is about to end answers so.
            StatusCode::SERVICE_UNAVAILABLE => Err(ClientError::Ended),
            _ => {
                let said: Result<Failure, _> = serde_json::from_slice(&body);
                let text = || String::from_utf8_lossy(&body).into_owned();
                Err(ClientError::Refused(said.map_or_else(|_| text(), |said| said.error)))
            }
        }
    }
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket).await.map_err(|source| {
        let socket = socket.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ClientError::Closed { socket, source },
            _ => ClientError::Nobody { socket, source },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_does_not_serve_is_named_and_how_to() {
        let dir = tempfile::tempdir().unwrap();
        let client = Client::new(dir.path().join("api.sock"));
        let error = client.bytes("/v1/queue").await.unwrap_err();
        assert!(error.may_pass());
        let error = error.to_string();
        assert!(
            error.contains("nobody serves a queue at") && error.contains("`apportion batch serve`"),
            "{error}"
        );
    }
}
