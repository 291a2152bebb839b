//! Requests over HTTP: who is asked, how long is waited, and how much is read of an answer.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Client, Response, StatusCode, redirect};

/// To be connected to a server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Without a byte from a server (Mesos: `--fetcher_stall_timeout`).
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// As browsers do.
const REDIRECTS_MAX: usize = 10;

/// What is read of an answer that says no.
const REFUSAL_BYTES_MAX: usize = 4 << 10;

/// Why a server was not asked, or did not give what was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// It cannot be asked, or the connection broke.
    #[error("no answer from {url}")]
    Request {
        /// What was asked for.
        url: String,
        /// Why.
        source: reqwest::Error,
    },
    /// It said no.
    #[error("{url} answered {status}{}", because(.said))]
    Refused {
        /// What was asked for.
        url: String,
        /// What it answered.
        status: u16,
        /// What it said to people.
        said: String,
        /// After how long it wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// Nobody can be asked: this machine's certificates of authorities cannot be read.
    #[error(
        "no connection can be made; check the certificates of authorities on this machine (`ca-certificates`)"
    )]
    Client {
        /// Why.
        source: Arc<reqwest::Error>,
    },
    /// Its answer has no end.
    #[error("{url} answered more than {bytes_max} bytes")]
    TooLong {
        /// What was asked for.
        url: String,
        /// The most that is read of such an answer.
        bytes_max: usize,
    },
}

fn because(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

impl HttpError {
    /// True when the same may well go another way in a moment.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            HttpError::Request { source, .. } => !source.is_builder() && !source.is_redirect(),
            HttpError::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500 | 502..=504),
            HttpError::Client { .. } | HttpError::TooLong { .. } => false,
        }
    }

    /// After how long the server wants to be asked again.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            HttpError::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Who asks; made when somebody is asked first, since it takes the machine's certificates.
#[derive(Debug, Default)]
pub(crate) struct Http(OnceLock<Result<Client, Arc<reqwest::Error>>>);

impl Http {
    pub(crate) fn client(&self) -> Result<&Client, HttpError> {
        let made = self.0.get_or_init(|| client().map_err(Arc::new));
        made.as_ref().map_err(|source| HttpError::Client { source: source.clone() })
    }
}

/// A client that follows redirections, but never from an encrypted connection to an open one. Proxies are those of the environment.
fn client() -> reqwest::Result<Client> {
    let redirects = redirect::Policy::custom(|attempt| {
        let opened =
            attempt.url().scheme() != "https" && attempt.previous().iter().any(|url| url.scheme() == "https");
        match () {
            () if opened => attempt.error("it leads from https to http"),
            () if attempt.previous().len() > REDIRECTS_MAX => attempt.error("it leads in circles"),
            () => attempt.follow(),
        }
    });
    Client::builder()
        .user_agent(concat!("apportion/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(STALL_TIMEOUT)
        .redirect(redirects)
        .build()
}

/// Sends a request; an answer that says no is an error.
pub(crate) async fn send(url: &str, request: reqwest::RequestBuilder) -> Result<Response, HttpError> {
    let response = request.send().await.map_err(|source| failed(url, source))?;
    match response.status().is_success() {
        true => Ok(response),
        false => Err(refused(url, response).await),
    }
}

/// What an answer that says no means.
pub(crate) async fn refused(url: &str, response: Response) -> HttpError {
    let status: StatusCode = response.status();
    let header = response.headers().get(reqwest::header::RETRY_AFTER);
    let seconds = header.and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    let said = body(url, response, REFUSAL_BYTES_MAX).await.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    HttpError::Refused {
        url: url.to_owned(),
        status: status.as_u16(),
        said: said.trim().chars().take(300).flat_map(char::escape_default).collect(),
        retry_after: seconds.map(Duration::from_secs),
    }
}

/// All of an answer.
pub(crate) async fn body(url: &str, mut response: Response, bytes_max: usize) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|source| failed(url, source))? {
        if body.len() + chunk.len() > bytes_max {
            return Err(HttpError::TooLong { url: url.to_owned(), bytes_max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A connection that could not be made or broke. The address stands in the message once, without what may be secret in it.
pub(crate) fn failed(url: &str, source: reqwest::Error) -> HttpError {
    HttpError::Request { url: url.to_owned(), source: source.without_url() }
}
