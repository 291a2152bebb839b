//! Images: from their names to folders that a container's root can be laid over.

mod credentials;
mod layer;
mod local;
mod manifest;
mod pull;
mod registry;
mod store;

use std::{
    collections::BTreeSet,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use apportion_types::image::{Image, ImageReference, PullPolicy};

use crate::{digest::Digest, download::FetchError, unpack::UnpackError};

pub use manifest::ImageConfig;
use pull::Puller;
use store::Store;

/// What an operator says of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagesConfig {
    /// Where they are kept; for one process alone, on a local disk.
    pub folder: PathBuf,
    /// What unpacked layers may take; those in use may take more.
    pub cache_bytes_max: u64,
    /// What one image may unpack to. An entry counts as 4 KiB and what it holds.
    pub image_bytes_max: u64,
    /// Layers of one image; the kernel lays at most 500 over each other.
    pub layers_max: usize,
    /// The registry of images that name none.
    pub registry: String,
    /// A file as `docker login` writes it, with the agent's passwords.
    pub registry_config: Option<PathBuf>,
    /// `HOST` or `HOST:PORT` of registries that are asked without encryption.
    pub registry_insecure: BTreeSet<String>,
}

impl ImagesConfig {
    /// The defaults, in this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            cache_bytes_max: 20 << 30,
            image_bytes_max: 32 << 30,
            layers_max: 128,
            registry: "docker.io".to_owned(),
            registry_config: None,
            registry_insecure: BTreeSet::new(),
        }
    }
}

/// Why the images of an agent cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A folder of them cannot be used.
    #[error("folder {path:?} cannot be used; check space and permissions of the agent's work directory")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why an image is not available. The image itself is named by the caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// It is not here, and may not be pulled.
    #[error("the agent does not have it, and the task does not let it be pulled; say `missing` or `always`")]
    NotHere,
    /// Its registry does not have it.
    #[error("repository `{repository}` has no such {what}; check its name and its tag")]
    NotFound {
        /// What was asked for.
        what: &'static str,
        /// Where.
        repository: String,
    },
    /// Its registry does not let the agent in.
    #[error(
        "repository `{repository}` does not exist, or may not be read by this agent; have its operator write a password to the file of `--registry-config`{}",
        parenthesized(.said)
    )]
    Unauthorized {
        /// Where.
        repository: String,
        /// What the registry said.
        said: String,
    },
    /// A part of it cannot be fetched.
    #[error("its {what} cannot be fetched")]
    Fetch {
        /// Which.
        what: &'static str,
        /// Why.
        source: FetchError,
    },
    /// A part of it is not what it should be.
    #[error("it is damaged: its {what} is not a valid {what}")]
    Document {
        /// Which.
        what: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// A part of it is something else than was named.
    #[error("it is damaged: the digest of its {what} is {found}, not {expected}")]
    Digest {
        /// Which.
        what: &'static str,
        /// What it should be.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// It cannot be used as an image.
    #[error("{why}")]
    Unusable {
        /// Why not, and what to do.
        why: String,
    },
    /// It is for other machines.
    #[error("it has nothing for {wanted}; it has: {has}")]
    Platform {
        /// This machine.
        wanted: String,
        /// For what it is.
        has: String,
    },
    /// There are several, and none is named.
    #[error("there are several images; name one of them behind a colon: {tags}")]
    NoTag {
        /// Their names.
        tags: String,
    },
    /// There is none of that name.
    #[error("there is no image `{tag}`; there are: {tags}")]
    UnknownTag {
        /// The name.
        tag: String,
        /// Those that are.
        tags: String,
    },
    /// It has too many layers.
    #[error(
        "it has {layers} layers, more than {layers_max} (`--image-layers-max`); build it with fewer, such as by squashing them"
    )]
    TooManyLayers {
        /// How many.
        layers: usize,
        /// The most.
        layers_max: usize,
    },
    /// It unpacks to too much.
    #[error("it unpacks to more than {bytes_max} bytes (`--image-max`)")]
    TooLarge {
        /// The most that was allowed.
        bytes_max: u64,
    },
    /// A layer of it cannot be unpacked.
    #[error("its layer {diff_id} cannot be unpacked")]
    Layer {
        /// The layer.
        diff_id: Digest,
        /// Why.
        source: UnpackError,
    },
    /// A file that it lies in cannot be used.
    #[error("{path:?} on the agent's machine cannot be used")]
    Local {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file with the agent's passwords is of no use.
    #[error("the file of `--registry-config`, {path:?}, {why}")]
    Credentials {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// What the agent keeps cannot be written.
    #[error(
        "the agent's cache of images cannot be written; check space and permissions of its work directory"
    )]
    Store {
        /// What the system said.
        source: io::Error,
    },
}

fn parenthesized(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(" ({said})") }
}

impl ImageError {
    fn store(source: io::Error) -> Self {
        ImageError::Store { source }
    }

    /// True when the same may well go another way later: what is here of it is then kept.
    fn is_transient(&self) -> bool {
        match self {
            ImageError::Fetch { source, .. } => source.is_transient(),
            ImageError::Store { .. } => true,
            _ => false,
        }
    }
}

/// How far a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PullProgress {
    /// Layers that are here and unpacked.
    pub layers_done: usize,
    /// All of its layers; 0 as long as that is not known.
    pub layers: usize,
    /// What is here of the compressed layers that were missing.
    pub bytes_done: u64,
    /// All of them.
    pub bytes: u64,
}

impl fmt::Display for PullProgress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        match (self.layers, self.bytes) {
            (0, _) => f.write_str("looking it up"),
            (layers, 0) => write!(f, "{} of {layers} layers", self.layers_done),
            (layers, bytes) => {
                write!(
                    f,
                    "{} of {layers} layers, {} of {} MiB",
                    self.layers_done,
                    mib(self.bytes_done),
                    mib(bytes)
                )
            }
        }
    }
}

/// An image that a container can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The unpacked layers, the lowest first; absolute. They are read only: other containers use them.
    pub layers: Vec<PathBuf>,
    /// The digest of its manifest, or of its configuration where it came without a manifest.
    pub digest: Digest,
    /// What it says of its command.
    pub config: ImageConfig,
}

/// An image in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedImage {
    /// The name under which it was pulled.
    pub name: String,
    /// As in [`Prepared`].
    pub digest: Digest,
    /// What its layers take on disk; other images may share them.
    pub bytes: u64,
    /// When a container was last prepared with it.
    pub used_at: SystemTime,
    /// True while a container uses one of its layers.
    pub in_use: bool,
}

/// The images of one agent. Clones share them.
#[derive(Debug, Clone)]
pub struct Images {
    puller: Arc<Puller>,
}

/// An image that was pulled may have been collected before it was leased, if the cache is far too small.
const ATTEMPTS_MAX: usize = 3;

impl Images {
    /// Reads what earlier processes have left. What these holders were using stays in use, until [`Images::release`]; what others
    /// were using does not.
    pub fn open(config: ImagesConfig, holders: &BTreeSet<String>) -> Result<Images, OpenError> {
        let store = Arc::new(Store::open(config.folder.clone(), holders)?);
        Ok(Images { puller: Arc::new(Puller::new(store, config)) })
    }

    /// Has an image unpacked here, as far as its policy wants that, for a holder: the name of a container, which is also a file's name.
    /// Its layers are not collected before [`Images::release`], also when the caller gives up or another process takes over.
    ///
    /// Several calls for the same image wait for one pull; one that is dropped leaves it to the others, and the last gives it up. What
    /// came of it until then is kept for the next pull.
    pub async fn prepare(
        &self,
        image: &Image,
        holder: &str,
        on_progress: impl Fn(PullProgress),
    ) -> Result<Prepared, Arc<ImageError>> {
        let name = image.reference.to_string();
        // What is named by its digest never changes.
        let fixed = matches!(&image.reference, ImageReference::Registry { digest: Some(_), .. });
        if (image.pull != PullPolicy::Always || fixed)
            && let Some(record) = self.puller.store.known(&name)
            && let Some(prepared) = self.lease(record, holder)?
        {
            return Ok(prepared);
        }
        if image.pull == PullPolicy::Never {
            return Err(Arc::new(ImageError::NotHere));
        }
        for _ in 0..ATTEMPTS_MAX {
            let flight = self.puller.pull(&image.reference);
            let mut progress = flight.progress.clone();
            let reporting = async {
                on_progress(*progress.borrow_and_update());
                while progress.changed().await.is_ok() {
                    on_progress(*progress.borrow_and_update());
                }
                std::future::pending().await
            };
            let pulled = tokio::select! {
                biased;
                pulled = flight.wait() => pulled?,
                () = reporting => unreachable!("reports do not end"),
            };
            on_progress(*flight.progress.borrow());
            let leased = self.lease(pulled.record.clone(), holder)?;
            drop((pulled, flight));
            self.collect_soon();
            if let Some(prepared) = leased {
                return Ok(prepared);
            }
        }
        Err(Arc::new(ImageError::store(io::Error::other("its layers are removed as fast as they come"))))
    }

    fn lease(&self, record: store::Record, holder: &str) -> Result<Option<Prepared>, Arc<ImageError>> {
        let layers = self.puller.store.lease(&record, holder).map_err(ImageError::store)?;
        Ok(layers.map(|layers| Prepared { layers, digest: record.digest, config: record.config }))
    }

    /// Says that a holder uses nothing any more; one that never did is no error.
    pub fn release(&self, holder: &str) {
        self.puller.store.release(holder);
    }

    /// What is in the cache, by name.
    pub fn list(&self) -> Vec<CachedImage> {
        self.puller.store.list()
    }

    /// What the layers in the cache take on disk.
    pub fn bytes(&self) -> u64 {
        self.puller.store.bytes()
    }

    /// Deletes all that no container uses, and says how many bytes that were.
    pub async fn prune(&self) -> u64 {
        self.puller.collect(0).await
    }

    /// True when containers must be given overlay mounts with `userxattr`, because this process may not write `trusted` attributes.
    pub fn needs_userxattr(&self) -> bool {
        self.puller.store.rights() == layer::Rights::Own
    }

    /// Where they are kept.
    pub fn folder(&self) -> &Path {
        &self.puller.config.folder
    }

    fn collect_soon(&self) {
        let puller = self.puller.clone();
        tokio::spawn(async move { puller.collect(puller.config.cache_bytes_max).await });
    }
}
