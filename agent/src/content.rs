//! What a container needs of images and artifacts: brought here before it is launched, held while it is, and let go of afterwards.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use apportion_agent_core::{ContainerPlan, LaunchFailure, LaunchFailureKind};
use apportion_containerizer::{Containerizer, ImageRoot};
use apportion_content::{
    ArtifactError, Artifacts, ArtifactsConfig, ImageConfig, Images, ImagesConfig, OpenError, Owner,
    remove_folder,
};
use apportion_types::{
    VolumeSource, container::Control, container_info::Artifact, image::Image, text::chain,
};

use crate::{config::Config, paths::Paths};

/// Between two words on how far a launch is: each is an update of its task.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// Why what containers need cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// The images.
    #[error(transparent)]
    Images(#[from] OpenError),
    /// The artifacts, or what containers change of their images.
    #[error("folder {path:?} cannot be used; check space and permissions of the agent's work directory")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Images and artifacts of this agent.
#[derive(Debug)]
pub(crate) struct Content {
    images: Images,
    artifacts: Artifacts,
    scratch: PathBuf,
    /// Why no container can have an image here, if none can.
    no_images: Option<String>,
}

/// What a container has of images.
#[derive(Debug, Default)]
pub(crate) struct Brought {
    /// What it sees as its root, and what that says of its command.
    pub(crate) root: Option<(ImageRoot, ImageConfig)>,
    /// Of each of its volumes that shows an image, in their order.
    pub(crate) volumes: Vec<ImageRoot>,
}

impl Content {
    /// Lets go of what containers were using that are not among these any more.
    pub(crate) fn open(
        config: &Config,
        paths: &Paths,
        containers: &BTreeSet<String>,
        containerizer: &dyn Containerizer,
    ) -> Result<Content, ContentError> {
        let images = Images::open(
            ImagesConfig {
                cache_bytes_max: config.image_cache_max_bytes,
                image_bytes_max: config.image_max_bytes,
                layers_max: usize::try_from(config.image_layers_max).unwrap_or(usize::MAX),
                registry: config.registry.clone(),
                registry_config: config.registry_config.clone(),
                registry_insecure: config.registry_insecure.clone(),
                ..ImagesConfig::new(paths.images())
            },
            containers,
        )?;
        let failed = |path: PathBuf| |source| ContentError::Folder { path, source };
        let artifacts = ArtifactsConfig {
            cache_bytes_max: config.artifact_cache_max_bytes,
            artifact_bytes_max: config.artifact_max_bytes,
            hidden: vec![paths.root().to_owned()],
            ..ArtifactsConfig::new(paths.artifacts())
        };
        let artifacts = Artifacts::open(artifacts).map_err(failed(paths.artifacts()))?;
        let scratch = paths.scratch();
        clear(&scratch, containers).map_err(failed(scratch.clone()))?;
        let unenforced = containerizer.unenforced().iter().find(|of| of.control == Control::Images);
        let no_images = unenforced.map(|of| of.reason.clone());
        Ok(Content { images, artifacts, scratch, no_images })
    }

    /// The images alone.
    pub(crate) fn images(&self) -> Images {
        self.images.clone()
    }

    /// Brings what a plan names, images first. On failure, or when it is given up, what was taken for the container stays taken until
    /// [`Content::release`].
    pub(crate) async fn bring(
        &self,
        plan: &ContainerPlan,
        sandbox: &Path,
        tell: impl Fn(String),
    ) -> Result<Brought, LaunchFailure> {
        let tell = Pace::new(tell);
        let mut brought = Brought::default();
        if let Some(image) = &plan.container.image {
            let (root, config) = self.image(plan, image, "root", &tell).await?;
            brought.root = Some((root, config));
        }
        for (number, volume) in plan.volumes.iter().enumerate() {
            if let VolumeSource::Image(image) = &volume.source {
                let (root, _) = self.image(plan, image, &format!("volume-{number}"), &tell).await?;
                brought.volumes.push(root);
            }
        }
        let user = plan.container.user.as_ref();
        let user = user.or_else(|| brought.root.as_ref().and_then(|(_, config)| config.user.as_ref()));
        let reader = user.and_then(|user| reader(user));
        for artifact in &plan.container.artifacts {
            self.artifact(artifact, sandbox, reader, &tell).await?;
        }
        Ok(brought)
    }

    async fn image(
        &self,
        plan: &ContainerPlan,
        image: &Image,
        name: &str,
        tell: &Pace<impl Fn(String)>,
    ) -> Result<(ImageRoot, ImageConfig), LaunchFailure> {
        let holder = &plan.container_id.0;
        let failed = |why: String| LaunchFailure {
            kind: LaunchFailureKind::Image,
            message: format!("image `{}` is not available: {why}", image.reference),
        };
        if let Some(why) = &self.no_images {
            return Err(failed(format!("this agent cannot give containers an image: {why}")));
        }
        let report = |progress| tell.say(|| format!("pulling `{}`: {progress}", image.reference));
        let prepared =
            self.images.prepare(image, holder, report).await.map_err(|error| failed(chain(&*error)))?;
        let scratch = self.scratch.join(holder).join(name);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&scratch);
        made.map_err(|error| {
            failed(format!("folder {scratch:?} for what is changed of it cannot be made: {error}"))
        })?;
        Ok((ImageRoot { layers: prepared.layers, scratch }, prepared.config))
    }

    async fn artifact(
        &self,
        artifact: &Artifact,
        sandbox: &Path,
        reader: Option<Owner>,
        tell: &Pace<impl Fn(String)>,
    ) -> Result<(), LaunchFailure> {
        let name = shown(&artifact.uri);
        let report = |bytes: u64| tell.say(|| format!("fetching `{name}`: {} MiB", bytes.div_ceil(1 << 20)));
        let fetched = self.artifacts.fetch(artifact, sandbox.to_owned(), reader, report).await;
        fetched.map_err(|error: std::sync::Arc<ArtifactError>| LaunchFailure {
            kind: LaunchFailureKind::Artifact,
            message: format!("artifact `{name}` is not there: {}", chain(&*error)),
        })
    }

    /// Lets go of what a container that is no more was using; one that used nothing is no error.
    pub(crate) fn release(&self, container: &str) -> io::Result<()> {
        self.images.release(container);
        remove_folder(&self.scratch.join(container))
    }
}

/// Passes on some of what is said, at a pace.
struct Pace<F> {
    tell: F,
    newest: Mutex<Option<Instant>>,
}

impl<F: Fn(String)> Pace<F> {
    fn new(tell: F) -> Self {
        Self { tell, newest: Mutex::new(None) }
    }

    fn say(&self, text: impl FnOnce() -> String) {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.is_none_or(|newest| newest.elapsed() >= PROGRESS_INTERVAL) {
            *newest = Some(Instant::now());
            (self.tell)(text());
        }
    }
}

/// Who must be able to read a file of this machine that a task of this user is given; none for root. Of a user by name only what all
/// others may read is known here.
fn reader(user: &str) -> Option<Owner> {
    const OTHERS: u32 = u32::MAX;
    let (user, group) = user.split_once(':').unwrap_or((user, ""));
    match user {
        "root" | "0" => None,
        user => Some((user.parse().unwrap_or(OTHERS), group.parse().unwrap_or(OTHERS))),
    }
}

/// An address without what may be secret in it.
fn shown(uri: &str) -> String {
    let plain = uri.split(['?', '#']).next().unwrap_or(uri);
    match plain.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = host.rsplit('@').next().unwrap_or(host);
            format!("{scheme}://{host}/{path}")
        }
        None => plain.to_owned(),
    }
}

/// Removes what containers have left that are not among these.
fn clear(scratch: &Path, containers: &BTreeSet<String>) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(scratch)?;
    for entry in fs::read_dir(scratch)? {
        let entry = entry?;
        if !containers.contains(&*entry.file_name().to_string_lossy()) {
            remove_folder(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_is_shown() {
        for (uri, text) in [
            ("https://u:p@host/a/b?token=x", "https://host/a/b"),
            ("http://host", "http://host/"),
            ("file:///srv/a@b", "file:///srv/a@b"),
        ] {
            assert_eq!(shown(uri), text);
        }
    }

    #[test]
    fn who_reads_what_is_on_the_machine() {
        assert_eq!((reader("root"), reader("0:0")), (None, None));
        assert_eq!(reader("7:8"), Some((7, 8)));
        assert_eq!((reader("7"), reader("daemon")), (Some((7, u32::MAX)), Some((u32::MAX, u32::MAX))));
    }
}
