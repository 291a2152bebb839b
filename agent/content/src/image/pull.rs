//! Images brought here: what a name stands for is looked up, what is missing is fetched side by side, and unpacked layer by layer.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use apportion_types::image::ImageReference;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    ImageError, ImagesConfig, PullProgress,
    layer::{self, Expected},
    local::{self, Section},
    manifest::{self, ImageConfig, Manifest},
    registry::{BlobOrigin, Registries, RegistrySettings, Repository},
    store::{Pin, Record, Store},
};
use crate::{
    digest::Digest,
    download::{self, Wanted},
    joined::{Flight, Joined},
    unpack::UnpackError,
};

/// Blobs fetched at a time, of all images: more would only share the same line.
const DOWNLOADS_MAX: usize = 4;

/// Layers unpacked at a time, of all images: each takes a processor.
const UNPACKS_MAX: usize = 2;

/// Between two reports of how far a pull is.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);

/// What a name stands for.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    /// The lowest first.
    pub(super) pieces: Vec<Piece>,
}

/// A layer, before it is here.
#[derive(Debug, Clone)]
pub(super) struct Piece {
    pub(super) diff_id: Digest,
    pub(super) blob: Blob,
}

/// A layer as it is where it comes from.
#[derive(Debug, Clone)]
pub(super) enum Blob {
    Remote { repository: Repository, digest: Digest, bytes: u64 },
    Local { section: Section, digest: Option<Digest> },
}

/// An image that is here, and stays while this is held.
#[derive(Debug)]
pub(super) struct Pulled {
    pub(super) record: Record,
    _pins: Vec<Arc<Pin>>,
}

/// A fetched blob; deleted with the last who needs it, once it was unpacked or found bad.
#[derive(Debug)]
struct Fetched {
    path: PathBuf,
    spent: AtomicBool,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        if *self.spent.get_mut() {
            // It is only in the way; the collection finds it too.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

type Shared<T> = Result<Arc<T>, Arc<ImageError>>;

/// A blob on its way, and whether it was this pull that began to fetch it.
type BlobFlight = (Arc<Flight<Shared<Fetched>, u64>>, bool);

/// A pull under way, for all who want that image.
pub(super) type ImageFlight = Arc<Flight<Shared<Pulled>, PullProgress>>;

/// Who pulls.
#[derive(Debug)]
pub(super) struct Puller {
    pub(super) store: Arc<Store>,
    pub(super) config: ImagesConfig,
    registries: Arc<Registries>,
    images: Joined<String, Shared<Pulled>, PullProgress>,
    blobs: Joined<Digest, Shared<Fetched>, u64>,
    layers: Joined<Digest, Shared<Pin>>,
    downloads: Arc<Semaphore>,
    unpacks: Arc<Semaphore>,
}

impl Puller {
    pub(super) fn new(store: Arc<Store>, config: ImagesConfig) -> Self {
        let settings = RegistrySettings {
            default: config.registry.clone(),
            credentials: config.registry_config.clone(),
            insecure: config.registry_insecure.clone(),
        };
        Self {
            store,
            config,
            registries: Arc::new(Registries::new(settings)),
            images: Joined::default(),
            blobs: Joined::default(),
            layers: Joined::default(),
            downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
            unpacks: Arc::new(Semaphore::new(UNPACKS_MAX)),
        }
    }

    /// Begins to pull an image, or joins those who do.
    pub(super) fn pull(self: &Arc<Self>, reference: &ImageReference) -> ImageFlight {
        let (puller, reference) = (self.clone(), reference.clone());
        self.images
            .join(reference.to_string(), |told| async move {
                let pulled = puller.pull_all(&reference, &told).await;
                pulled.map(Arc::new)
            })
            .0
    }

    /// Deletes what nobody uses, down to the bound of the cache.
    pub(super) async fn collect(self: &Arc<Self>, bytes_max: u64) -> u64 {
        let puller = self.clone();
        let collecting = tokio::task::spawn_blocking(move || {
            puller.store.collect(bytes_max, |digest| puller.blobs.contains(digest))
        });
        collecting.await.unwrap_or(0)
    }

    async fn pull_all(
        self: &Arc<Self>,
        reference: &ImageReference,
        told: &watch::Sender<PullProgress>,
    ) -> Result<Pulled, Arc<ImageError>> {
        let found = self.find(reference).await?;
        let mut unpacked = Vec::new();
        let pulled = self.bring(reference, found, told, &mut unpacked).await;
        if let Err(error) = &pulled
            && !error.is_transient()
        {
            let store = self.store.clone();
            let dropping = tokio::task::spawn_blocking(move || store.drop_unnamed(&unpacked));
            // A panic of it was its own.
            let _ = dropping.await;
        }
        pulled
    }

    /// Looks up what a name stands for.
    async fn find(&self, reference: &ImageReference) -> Result<Found, ImageError> {
        let local =
            |find: fn(&Path, Option<&str>) -> Result<Found, ImageError>, path: &str, tag: &Option<String>| {
                let (path, tag) = (PathBuf::from(path), tag.clone());
                async move { blocking(move || find(&path, tag.as_deref())).await.unwrap_or_else(Err) }
            };
        match reference {
            ImageReference::OciLayout { path, tag } => local(local::layout, path, tag).await,
            ImageReference::OciArchive { path, tag } => local(local::oci_archive, path, tag).await,
            ImageReference::DockerArchive { path, tag } => local(local::docker_archive, path, tag).await,
            ImageReference::Registry { host, repository, tag, digest } => {
                let repository = self.registries.repository(host.as_deref(), repository);
                let named = digest.as_deref().or(tag.as_deref()).unwrap_or("latest");
                self.find_in(repository, named).await
            }
        }
    }

    async fn find_in(&self, repository: Repository, named: &str) -> Result<Found, ImageError> {
        let mut bytes = repository.manifest(named).await?;
        let mut manifest = Manifest::read(&bytes)?;
        if let Manifest::Index(manifests) = manifest {
            let chosen = manifest::for_platform(manifests)?;
            bytes = repository.manifest(&chosen.digest.to_string()).await?;
            manifest = Manifest::read(&bytes)?;
        }
        let Manifest::Image { config, layers } = manifest else {
            return Err(ImageError::Unusable { why: "its index points at another index".to_owned() });
        };
        // Before anything else is fetched.
        self.check_layers(layers.len())?;
        let config = repository.config(config.digest).await?;
        let blob = |layer: &manifest::Descriptor| Blob::Remote {
            repository: repository.clone(),
            digest: layer.digest,
            bytes: layer.size,
        };
        Found::new(Digest::of(&bytes), &config, layers.iter().map(blob).collect())
    }

    fn check_layers(&self, layers: usize) -> Result<(), ImageError> {
        let layers_max = self.config.layers_max;
        if layers > layers_max { Err(ImageError::TooManyLayers { layers, layers_max }) } else { Ok(()) }
    }

    /// Fetches and unpacks what is missing; notes in `unpacked` what was.
    async fn bring(
        self: &Arc<Self>,
        reference: &ImageReference,
        found: Found,
        told: &watch::Sender<PullProgress>,
        unpacked: &mut Vec<Digest>,
    ) -> Result<Pulled, Arc<ImageError>> {
        self.check_layers(found.pieces.len())?;
        let bytes_max = self.config.image_bytes_max;
        let too_large = || ImageError::TooLarge { bytes_max };
        let name = reference.to_string();
        let layers: Vec<Digest> = found.pieces.iter().map(|piece| piece.diff_id).collect();
        let mut seen = BTreeSet::new();
        let pieces: Vec<(Piece, Option<Pin>)> = found
            .pieces
            .into_iter()
            .filter(|piece| seen.insert(piece.diff_id))
            .map(|piece| (piece.clone(), self.store.pin(piece.diff_id)))
            .collect();
        let missing = pieces.iter().filter(|(_, pin)| pin.is_none());
        let sizes = missing.filter_map(|(piece, _)| match &piece.blob {
            Blob::Remote { bytes, .. } => Some(*bytes),
            Blob::Local { .. } => None,
        });
        let total = sizes.fold(0_u64, u64::saturating_add);
        if total > bytes_max {
            return Err(too_large().into());
        }
        let pieces: Vec<(Piece, Option<Pin>, Option<BlobFlight>)> = pieces
            .into_iter()
            .map(|(piece, pin)| {
                let flight = if pin.is_none() { self.fetch(&piece.blob) } else { None };
                (piece, pin, flight)
            })
            .collect();
        let flights: Vec<BlobFlight> = pieces.iter().filter_map(|(.., flight)| flight.clone()).collect();
        let (count, layers_done) = (pieces.len(), AtomicUsize::new(0));
        let report = || {
            let bytes_done = flights.iter().map(|(flight, _)| *flight.progress.borrow()).sum();
            let layers_done = layers_done.load(Ordering::Relaxed);
            told.send_replace(PullProgress { layers_done, layers: count, bytes_done, bytes: total });
        };
        let reporting = async {
            let mut interval = tokio::time::interval(REPORT_INTERVAL);
            loop {
                interval.tick().await;
                report();
            }
        };
        let working = async {
            let mut pins = Vec::new();
            let mut left = bytes_max;
            for (piece, pin, flight) in pieces {
                let id = piece.diff_id;
                let pin = match pin {
                    Some(pin) => Arc::new(pin),
                    None => {
                        let pin = self.unpack(piece, flight, left).await.map_err(|error| match *error {
                            // Not only what was left to this layer.
                            ImageError::TooLarge { .. } => Arc::new(too_large()),
                            _ => error,
                        })?;
                        unpacked.push(id);
                        pin
                    }
                };
                pins.push(pin);
                left = left.checked_sub(self.store.layer_bytes(&id)).ok_or_else(too_large)?;
                layers_done.fetch_add(1, Ordering::Relaxed);
                report();
            }
            Ok::<_, Arc<ImageError>>(pins)
        };
        let pins = tokio::select! {
            pins = working => pins?,
            () = reporting => unreachable!("reports go on without end"),
        };
        let record = Record { name, digest: found.digest, config: found.config, layers };
        let (store, named) = (self.store.clone(), record.clone());
        blocking(move || store.name(named)).await?.map_err(ImageError::store)?;
        Ok(Pulled { record, _pins: pins })
    }

    /// Begins to fetch a blob, or joins those who do; none when it is on this machine. True when it was begun by this call.
    fn fetch(self: &Arc<Self>, blob: &Blob) -> Option<BlobFlight> {
        let Blob::Remote { repository, digest, bytes } = blob else { return None };
        let (puller, origin) = (self.clone(), BlobOrigin { repository: repository.clone(), digest: *digest });
        let wanted = Wanted { digest: Some(*digest), bytes: Some(*bytes), bytes_max: *bytes };
        Some(self.blobs.join(*digest, |done| async move {
            let _permit = puller.downloads.acquire().await;
            let path = puller.store.download(&origin.digest);
            let fetched = download::fetch(&origin, &path, wanted, &done).await;
            match fetched {
                Ok(_) => Ok(Arc::new(Fetched { path, spent: AtomicBool::new(false) })),
                Err(error) => Err(Arc::new(origin.repository.failure("layer", error))),
            }
        }))
    }

    /// Waits until a layer is here, and unpacks it if nobody else does.
    async fn unpack(
        self: &Arc<Self>,
        piece: Piece,
        mut flight: Option<BlobFlight>,
        bytes_max: u64,
    ) -> Shared<Pin> {
        let (fetched, section, digest) = loop {
            match (&piece.blob, &flight) {
                (Blob::Local { section, digest }, _) => break (None, section.clone(), *digest),
                (Blob::Remote { digest, .. }, Some((waited, own))) => match waited.wait().await {
                    Ok(fetched) => {
                        let section = Section::file(&fetched.path);
                        let section = section.map_err(ImageError::store)?;
                        break (Some(fetched), section, Some(*digest));
                    }
                    // Another's failure need not be ours: it may have come from elsewhere, or been given another end.
                    Err(_) if !own => flight = self.fetch(&piece.blob),
                    Err(error) => return Err(error),
                },
                (Blob::Remote { .. }, None) => flight = self.fetch(&piece.blob),
            }
        };
        loop {
            let (puller, section, fetched) = (self.clone(), section.clone(), fetched.clone());
            let expected = Expected { blob: digest, diff_id: piece.diff_id, bytes_max };
            let (flight, own) = self.layers.join(piece.diff_id, |_| async move {
                let unpacked = puller.unpack_now(section, expected).await;
                if let Some(fetched) = fetched {
                    fetched.spent.store(true, Ordering::Relaxed);
                }
                unpacked.map(Arc::new).map_err(Arc::new)
            });
            match flight.wait().await {
                Err(_) if !own => {}
                unpacked => return unpacked,
            }
        }
    }

    async fn unpack_now(self: &Arc<Self>, section: Section, expected: Expected) -> Result<Pin, ImageError> {
        if let Some(pin) = self.store.pin(expected.diff_id) {
            return Ok(pin);
        }
        let _permit = self.unpacks.acquire().await;
        let cancel = CancellationToken::new();
        let _given_up = cancel.clone().drop_guard();
        let store = self.store.clone();
        blocking(move || unpack_into(&store, &section, expected, &cancel)).await?
    }
}

fn unpack_into(
    store: &Arc<Store>,
    section: &Section,
    expected: Expected,
    cancel: &CancellationToken,
) -> Result<Pin, ImageError> {
    let temporary = store.temporary().map_err(ImageError::store)?;
    let unpacked = || -> Result<Pin, ImageError> {
        let content = Store::content(&temporary).map_err(ImageError::store)?;
        let layer = |source| match source {
            UnpackError::TooLarge { bytes_max } => ImageError::TooLarge { bytes_max },
            source => ImageError::Layer { diff_id: expected.diff_id, source },
        };
        let blob = section.open().map_err(|error| layer(UnpackError::Read(error)))?;
        let unpacked = layer::unpack(blob, expected, &content, store.rights(), cancel).map_err(layer)?;
        store.add(expected.diff_id, &temporary, unpacked).map_err(ImageError::store)
    };
    let unpacked = unpacked();
    // Of one that was taken in, another may have come first.
    if temporary.exists() {
        store.delete(&temporary);
    }
    unpacked
}

/// Runs what waits for disks elsewhere than where everything else waits for it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| ImageError::store(io::Error::other(error)))
}
