//! Artifacts: files that a task has in its sandbox before it starts.

mod cache;
mod extract;
mod place;

use std::{io, path::PathBuf, sync::Arc};

use apportion_types::container_info::Artifact;
use reqwest::{Response, Url, header};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    digest::Digest,
    download::{self, FetchError, Origin, Wanted},
    http::{self, Http, HttpError},
    joined::Joined,
    unpack::UnpackError,
};
use cache::{Cache, Held};

/// What an operator says of artifacts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArtifactsConfig {
    /// Where they are kept; for one process alone, on a local disk.
    pub folder: PathBuf,
    /// What is kept for later tasks.
    pub cache_bytes_max: u64,
    /// What one may have, and unpack to.
    pub artifact_bytes_max: u64,
    /// What `file` artifacts may not be taken from: the agent's own folders, where other tasks' files lie.
    pub hidden: Vec<PathBuf>,
}

impl ArtifactsConfig {
    /// The defaults, in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            cache_bytes_max: 2 << 30,
            artifact_bytes_max: 8 << 30,
            hidden: Vec::new(),
        }
    }
}

/// A user and a group of the agent's machine.
pub type Owner = (u32, u32);

/// Why an artifact is not in its sandbox. The artifact itself is named by the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// Its address is none that can be fetched from.
    #[error("its address is not understood; give `http://…`, `https://…` or `file:///…`")]
    Address,
    /// Its address ends in no name.
    #[error("its address does not name a file; say what it is to be called (`path`)")]
    NoName,
    /// Its checksum is none.
    #[error("its checksum is not one; give the 64 hexadecimal digits of its SHA-256")]
    Checksum,
    /// It cannot be brought here.
    #[error("it cannot be fetched")]
    Fetch(#[from] FetchError),
    /// It is a file of the agent's machine that cannot be read, or not by this task.
    #[error("file {path:?} of the agent's machine {why}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// It is something else than was named.
    #[error("its SHA-256 is {}, not {}; what it was checked against, or what is there, has changed", .found.hex(), .expected.hex())]
    Digest {
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// It is more than allowed.
    #[error("it has more than {bytes_max} bytes (`--artifact-max`)")]
    TooLarge {
        /// The most that was allowed.
        bytes_max: u64,
    },
    /// Its name says of no archive that it is one.
    #[error(
        "it is to be unpacked, but its name ends in none of .tar, .tar.gz, .tgz, .tar.zst, .zip, .gz; name it so (`path`)"
    )]
    NoArchive,
    /// It cannot be unpacked.
    #[error("it cannot be unpacked")]
    Unpack(#[source] UnpackError),
    /// It cannot be written to the sandbox.
    #[error("`{path}` cannot be written in the sandbox")]
    Place {
        /// Where, in the sandbox.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// What the agent keeps cannot be written.
    #[error(
        "the agent's cache of artifacts cannot be written; check space and permissions of its work directory"
    )]
    Store {
        /// What the system said.
        source: io::Error,
    },
}

impl ArtifactError {
    fn store(source: io::Error) -> Self {
        ArtifactError::Store { source }
    }
}

type Shared = Result<Arc<Held>, Arc<ArtifactError>>;

/// The artifacts of one agent. Clones share what is kept.
#[derive(Debug, Clone)]
pub struct Artifacts {
    shared: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: ArtifactsConfig,
    cache: Arc<Cache>,
    http: Http,
    fetches: Joined<Digest, Shared, u64>,
}

impl Artifacts {
    /// Reads what earlier processes have kept.
    pub fn open(config: ArtifactsConfig) -> io::Result<Artifacts> {
        let cache = Arc::new(Cache::open(config.folder.clone(), config.cache_bytes_max)?);
        Ok(Artifacts {
            shared: Arc::new(Inner { config, cache, http: Http::default(), fetches: Joined::default() }),
        })
    }

    /// Has an artifact in a sandbox, checked, and unpacked if that is wanted.
    ///
    /// A file of this machine must be one that `reader` may read; anybody may read any when none is given.
    /// Nothing else may write to the sandbox meanwhile. Nothing is written outside of it, whatever the artifact holds. What is there
    /// under its name is replaced. `on_progress` is told how many bytes are here.
    pub async fn fetch(
        &self,
        artifact: &Artifact,
        sandbox: PathBuf,
        reader: Option<Owner>,
        on_progress: impl Fn(u64),
    ) -> Result<(), Arc<ArtifactError>> {
        let name = artifact.file_name().ok_or(ArtifactError::NoName)?.to_owned();
        let checksum =
            artifact.sha256.as_deref().map(|hex| Digest::from_hex(hex).ok_or(ArtifactError::Checksum));
        let checksum = checksum.transpose()?;
        if artifact.extract && extract::Format::of(&name).is_none() {
            return Err(ArtifactError::NoArchive.into());
        }
        let url = Url::parse(&artifact.uri).map_err(|_| ArtifactError::Address)?;
        let held = match url.scheme() {
            "http" | "https" => self.bring(url, checksum, artifact.cache, on_progress).await?,
            "file" => {
                let path = url.to_file_path().map_err(|()| ArtifactError::Address)?;
                let config = self.shared.config.clone();
                Arc::new(blocking(move || place::local(&path, reader, checksum, &config)).await??)
            }
            _ => return Err(ArtifactError::Address.into()),
        };
        let given_up = CancellationToken::new();
        let _given_up = given_up.clone().drop_guard();
        let (config, executable, extract) =
            (self.shared.config.clone(), artifact.executable, artifact.extract);
        let placed = blocking(move || {
            place::put(&held, &sandbox, &name, executable, &given_up)?;
            match extract {
                true => extract::extract(&held, &sandbox, &name, config.artifact_bytes_max, &given_up),
                false => Ok(()),
            }
        });
        Ok(placed.await??)
    }

    /// Deletes all that is kept, and says how many bytes that were. What is just being placed goes with its last user.
    pub fn prune(&self) -> u64 {
        self.shared.cache.prune()
    }

    /// What is kept takes so much.
    pub fn bytes(&self) -> u64 {
        self.shared.cache.bytes()
    }

    async fn bring(
        &self,
        url: Url,
        checksum: Option<Digest>,
        keep: bool,
        on_progress: impl Fn(u64),
    ) -> Shared {
        let key = cache::key(url.as_str(), checksum);
        if keep && let Some(held) = self.shared.cache.find(&key) {
            return Ok(Arc::new(held));
        }
        let inner = self.shared.clone();
        let begin = |done: watch::Sender<u64>| async move {
            let held = inner.fetch(&url, key, checksum, keep, &done).await;
            held.map(Arc::new).map_err(Arc::new)
        };
        // Who does not want to share does not want what another got a moment ago either.
        let flight = match keep {
            true => self.shared.fetches.join(key, begin).0,
            false => Joined::default().join((), begin).0,
        };
        let mut progress = flight.progress.clone();
        let reporting = async {
            while progress.changed().await.is_ok() {
                on_progress(*progress.borrow_and_update());
            }
            std::future::pending().await
        };
        tokio::select! {
            biased;
            held = flight.wait() => held,
            () = reporting => unreachable!("reports do not end"),
        }
    }
}

impl Inner {
    async fn fetch(
        &self,
        url: &Url,
        key: Digest,
        checksum: Option<Digest>,
        keep: bool,
        done: &watch::Sender<u64>,
    ) -> Result<Held, ArtifactError> {
        let held = match keep && checksum.is_some() {
            true => self.cache.partial(&key),
            false => self.cache.temporary(),
        };
        let origin = Address { http: &self.http, url };
        let bytes_max = self.config.artifact_bytes_max;
        let wanted = Wanted { digest: checksum, bytes: None, bytes_max };
        match download::fetch(&origin, held.path(), wanted, done).await {
            Ok((bytes, _)) if keep => Ok(self.cache.keep(key, held, bytes).map_err(ArtifactError::store)?),
            Ok(_) => Ok(held),
            Err(FetchError::Digest { expected, found }) => Err(ArtifactError::Digest { expected, found }),
            Err(FetchError::TooLarge { .. }) => Err(ArtifactError::TooLarge { bytes_max }),
            Err(error) => {
                // Whoever asks again goes on where this ended.
                held.leave();
                Err(error.into())
            }
        }
    }
}

struct Address<'a> {
    http: &'a Http,
    url: &'a Url,
}

impl Origin for Address<'_> {
    async fn ask(&self, from: u64) -> Result<Response, HttpError> {
        let mut request = self.http.client()?.get(self.url.clone());
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        http::send(&shown(self.url), request).await
    }
}

/// An address without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Of an address with a host these do not fail.
    let _ = url.set_password(None);
    url.set_query(None);
    url.to_string()
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ArtifactError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ArtifactError::store(io::Error::other(error)))
}
