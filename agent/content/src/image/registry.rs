//! Registries, by the OCI distribution specification: manifests and blobs, for whom the agent is.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use reqwest::{RequestBuilder, Response, StatusCode, Url, header};
use serde::Deserialize;

use super::{
    ImageError,
    credentials::{self, Credentials},
    manifest::{self, ACCEPTED, MANIFEST_BYTES_MAX},
};
use crate::{
    digest::Digest,
    download::{FetchError, Origin, pause},
    http::{self, Http, HttpError},
};

/// What a token server answers.
const TOKEN_BYTES_MAX: usize = 256 << 10;

/// Attempts for something small.
const ATTEMPTS_MAX: u32 = 5;

/// What an operator says of registries.
#[derive(Debug, Clone, Default)]
pub(super) struct RegistrySettings {
    /// The one of images that name none.
    pub(super) default: String,
    pub(super) credentials: Option<PathBuf>,
    /// `HOST` or `HOST:PORT` of those that are asked without encryption.
    pub(super) insecure: BTreeSet<String>,
}

/// All registries, as this agent sees them.
#[derive(Debug)]
pub(super) struct Registries {
    pub(super) settings: RegistrySettings,
    http: Http,
    /// What got the agent into a repository last.
    granted: Mutex<BTreeMap<(String, String), Grant>>,
}

#[derive(Debug, Clone)]
enum Grant {
    Basic(Credentials),
    Token(String),
}

/// One repository.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    registries: Arc<Registries>,
    /// As images name it.
    host: String,
    name: String,
}

/// A blob of a repository.
pub(super) struct BlobOrigin {
    pub(super) repository: Repository,
    pub(super) digest: Digest,
}

impl Origin for BlobOrigin {
    async fn ask(&self, from: u64) -> Result<Response, HttpError> {
        let url = self.repository.url(&format!("blobs/{}", self.digest));
        let range = format!("bytes={from}-");
        self.repository
            .ask(&url, |request| if from > 0 { request.header(header::RANGE, &range) } else { request })
            .await
    }
}

impl Registries {
    pub(super) fn new(settings: RegistrySettings) -> Self {
        Self { settings, http: Http::default(), granted: Mutex::default() }
    }

    /// A repository of this host, or of the default one.
    pub(super) fn repository(self: &Arc<Self>, host: Option<&str>, name: &str) -> Repository {
        let host = host.unwrap_or(&self.settings.default).to_owned();
        // Docker's registry keeps what has no folder in one.
        let name = match host == "docker.io" && !name.contains('/') {
            true => format!("library/{name}"),
            false => name.to_owned(),
        };
        Repository { registries: self.clone(), host, name }
    }

    fn is_insecure(&self, host: &str) -> bool {
        let name = host.split(':').next().unwrap_or(host);
        self.settings.insecure.contains(host) || self.settings.insecure.contains(name)
    }
}

impl Repository {
    /// The bytes of a manifest, by its tag or its digest, which they are checked against.
    pub(super) async fn manifest(&self, reference: &str) -> Result<Vec<u8>, ImageError> {
        let url = self.url(&format!("manifests/{reference}"));
        let bytes = self.small(&url, MANIFEST_BYTES_MAX, Some(ACCEPTED)).await?;
        match reference.parse::<Digest>() {
            Ok(expected) => checked("manifest", bytes, expected),
            Err(_) => Ok(bytes),
        }
    }

    /// The bytes of the configuration of this digest.
    pub(super) async fn config(&self, digest: Digest) -> Result<Vec<u8>, ImageError> {
        let url = self.url(&format!("blobs/{digest}"));
        let bytes = self.small(&url, manifest::CONFIG_BYTES_MAX, None).await?;
        checked("configuration", bytes, digest)
    }

    /// What a failure to fetch from here means.
    pub(super) fn failure(&self, what: &'static str, error: FetchError) -> ImageError {
        match error {
            FetchError::Http(HttpError::Refused { status: 401 | 403, said, .. }) => {
                ImageError::Unauthorized { repository: self.to_string(), said }
            }
            FetchError::Http(HttpError::Refused { status: 404, .. }) => {
                ImageError::NotFound { what, repository: self.to_string() }
            }
            source => ImageError::Fetch { what, source },
        }
    }

    fn url(&self, rest: &str) -> String {
        let scheme = if self.registries.is_insecure(&self.host) { "http" } else { "https" };
        let host = if self.host == "docker.io" { "registry-1.docker.io" } else { &self.host };
        format!("{scheme}://{host}/v2/{}/{rest}", self.name)
    }

    async fn small(
        &self,
        url: &str,
        bytes_max: usize,
        accept: Option<&'static str>,
    ) -> Result<Vec<u8>, ImageError> {
        let what = if accept.is_some() { "manifest" } else { "configuration" };
        let mut attempts = 0;
        loop {
            let with = |request: RequestBuilder| match accept {
                Some(accept) => request.header(header::ACCEPT, accept),
                None => request,
            };
            let answer = async { http::body(url, self.ask(url, with).await?, bytes_max).await };
            attempts += 1;
            match answer.await {
                Err(error) if error.is_transient() && attempts < ATTEMPTS_MAX => {
                    tokio::time::sleep(pause(attempts)).await;
                }
                answer => return answer.map_err(|error| self.failure(what, error.into())),
            }
        }
    }

    /// Asks as who the agent was taken for last, and anew where that does not do.
    async fn ask(
        &self,
        url: &str,
        with: impl Fn(RequestBuilder) -> RequestBuilder + Send,
    ) -> Result<Response, HttpError> {
        let key = (self.host.clone(), self.name.clone());
        let granted =
            self.registries.granted.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let request = |grant: Option<&Grant>| -> Result<RequestBuilder, HttpError> {
            let request = with(self.registries.http.client()?.get(url));
            Ok(match grant {
                Some(Grant::Basic(of)) => request.basic_auth(&of.user, Some(&of.password)),
                Some(Grant::Token(token)) => request.bearer_auth(token),
                None => request,
            })
        };
        let response = request(granted.as_ref())?.send().await.map_err(|source| http::failed(url, source))?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return accepted(url, response).await;
        }
        let challenges: Vec<Challenge> = response
            .headers()
            .get_all(header::WWW_AUTHENTICATE)
            .iter()
            .filter_map(|value| Challenge::read(value.to_str().ok()?))
            .collect();
        let grant = match self.grant(&challenges).await? {
            Some(grant) => grant,
            None => return accepted(url, response).await,
        };
        let response = request(Some(&grant))?.send().await.map_err(|source| http::failed(url, source))?;
        if response.status() != StatusCode::UNAUTHORIZED {
            self.registries.granted.lock().unwrap_or_else(PoisonError::into_inner).insert(key, grant);
        }
        accepted(url, response).await
    }

    /// What answers one of these challenges; none when nothing does.
    async fn grant(&self, challenges: &[Challenge]) -> Result<Option<Grant>, HttpError> {
        let credentials = match &self.registries.settings.credentials {
            // A file that cannot be read does not keep the agent from what is open to all; who may not in is told of it.
            Some(path) => credentials::read(path, &self.host).unwrap_or_else(|error| {
                tracing::error!(registry = self.host, "{error}");
                None
            }),
            None => None,
        };
        for challenge in challenges {
            match challenge {
                Challenge::Basic => {
                    if let Some(credentials) = &credentials {
                        return Ok(Some(Grant::Basic(credentials.clone())));
                    }
                }
                Challenge::Bearer { realm, service, scope } => {
                    let secure = realm.scheme() == "https" || self.registries.is_insecure(&self.host);
                    if !secure {
                        tracing::warn!(registry = self.host, realm = %realm, "the registry's token server is not encrypted; it is not asked");
                        continue;
                    }
                    let mut url = realm.clone();
                    let scope = scope.clone().unwrap_or_else(|| format!("repository:{}:pull", self.name));
                    url.query_pairs_mut().append_pair("scope", &scope);
                    if let Some(service) = service {
                        url.query_pairs_mut().append_pair("service", service);
                    }
                    return self
                        .token(url, credentials.as_ref())
                        .await
                        .map(|token| Some(Grant::Token(token)));
                }
            }
        }
        Ok(None)
    }

    async fn token(&self, url: Url, credentials: Option<&Credentials>) -> Result<String, HttpError> {
        #[derive(Deserialize)]
        struct Answer {
            token: Option<String>,
            access_token: Option<String>,
        }
        let mut request = self.registries.http.client()?.get(url.clone());
        if let Some(of) = credentials {
            request = request.basic_auth(&of.user, Some(&of.password));
        }
        let answer =
            http::body(url.as_str(), http::send(url.as_str(), request).await?, TOKEN_BYTES_MAX).await?;
        let answer: Option<Answer> = serde_json::from_slice(&answer).ok();
        answer.and_then(|answer| answer.token.or(answer.access_token)).ok_or_else(|| HttpError::Refused {
            url: url.to_string(),
            status: 401,
            said: "the token server's answer holds no token".to_owned(),
            retry_after: None,
        })
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.host, self.name)
    }
}

async fn accepted(url: &str, response: Response) -> Result<Response, HttpError> {
    match response.status().is_success() {
        true => Ok(response),
        false => Err(http::refused(url, response).await),
    }
}

/// The bytes, if they are what they are named by.
pub(super) fn checked(what: &'static str, bytes: Vec<u8>, expected: Digest) -> Result<Vec<u8>, ImageError> {
    let found = Digest::of(&bytes);
    match found == expected {
        true => Ok(bytes),
        false => Err(ImageError::Digest { what, expected, found }),
    }
}

/// What a registry wants of somebody that it does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Challenge {
    Basic,
    Bearer { realm: Url, service: Option<String>, scope: Option<String> },
}

impl Challenge {
    /// `SCHEME key="value",key="value"`
    fn read(text: &str) -> Option<Challenge> {
        let (scheme, mut rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut values = BTreeMap::new();
        while let Some((key, after)) = rest.split_once('=') {
            let (value, next) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            values.insert(key.trim().to_ascii_lowercase(), value.to_owned());
            rest = next.trim_start().trim_start_matches(',');
        }
        let realm = Url::parse(values.get("realm")?).ok()?;
        Some(Challenge::Bearer { realm, service: values.remove("service"), scope: values.remove("scope") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.parse().unwrap(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        for (text, read) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            (
                r#"Bearer realm="https://a.example/token",service="r.example",scope="repository:a/b:pull,push""#,
                Some(bearer("https://a.example/token", Some("r.example"), Some("repository:a/b:pull,push"))),
            ),
            (
                "bearer realm=https://a.example/t, service=x",
                Some(bearer("https://a.example/t", Some("x"), None)),
            ),
            ("Bearer service=\"x\"", None),
            ("Bearer realm=\"not a place\"", None),
            ("Bearer realm=\"https://a", None),
            ("Negotiate", None),
        ] {
            assert_eq!(Challenge::read(text), read, "{text}");
        }
    }

    #[test]
    fn addresses() {
        let insecure = ["r.example:5000".to_owned(), "local".to_owned()].into();
        let settings = RegistrySettings { default: "docker.io".to_owned(), credentials: None, insecure };
        let registries = Arc::new(Registries::new(settings));
        for (host, name, url) in [
            (None, "busybox", "https://registry-1.docker.io/v2/library/busybox/x"),
            (None, "a/b", "https://registry-1.docker.io/v2/a/b/x"),
            (Some("r.example:5000"), "a", "http://r.example:5000/v2/a/x"),
            (Some("r.example"), "a", "https://r.example/v2/a/x"),
            (Some("local:1"), "a", "http://local:1/v2/a/x"),
        ] {
            assert_eq!(registries.repository(host, name).url("x"), url);
        }
    }
}
