//! Artifacts and volumes as a description says them.

use apportion_sdk::{Artifact, Image, Volume, VolumeSource};
use serde::Deserialize;

use super::{
    Source, SpecError,
    fault::{Fault, Way},
};

/// `[[artifacts]]`: something that is fetched before the start.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ArtifactTable {
    uri: String,
    sha256: Option<String>,
    path: Option<String>,
    #[serde(default)]
    extract: bool,
    #[serde(default)]
    executable: bool,
    #[serde(default)]
    cache: bool,
}

impl ArtifactTable {
    pub(super) fn artifact(self) -> Artifact {
        let Self { uri, sha256, path, extract, executable, cache } = self;
        Artifact { uri, sha256, path, extract, executable, cache }
    }
}

/// `[[volumes]]`: one of `host`, `sandbox`, `shared`, `tmpfs_mib` and `image`, and where it is seen.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VolumeTable {
    host: Option<String>,
    sandbox: Option<String>,
    shared: Option<String>,
    tmpfs_mib: Option<u32>,
    image: Option<String>,
    at: Option<String>,
    #[serde(default)]
    writable: bool,
}

impl VolumeTable {
    /// The volume, or what is wrong and with which of its keys.
    fn volume(self) -> Result<Volume, (&'static str, String)> {
        let Self { host, sandbox, shared, tmpfs_mib, image, at, writable } = self;
        let Some(at) = at.or_else(|| host.clone()) else {
            return Err(("", "`at` is missing; say where it is seen".to_owned()));
        };
        let source = match (host, sandbox, shared, tmpfs_mib, image) {
            (Some(path), None, None, None, None) => VolumeSource::Host { path },
            (None, Some(path), None, None, None) => VolumeSource::Sandbox { path },
            (None, None, Some(path), None, None) => VolumeSource::Group { path },
            (None, None, None, Some(mib), None) => VolumeSource::Tmpfs { bytes: u64::from(mib) << 20 },
            (None, None, None, None, Some(text)) => {
                let reference = text.parse().map_err(|error| ("image", format!("{error}")))?;
                VolumeSource::Image(Image::new(reference))
            }
            _ => {
                let what = "each is one of `host`, `sandbox`, `shared`, `tmpfs_mib` and `image`; for example \
                            { tmpfs_mib = 64, at = \"/scratch\" }";
                return Err(("", what.to_owned()));
            }
        };
        Ok(Volume { source, container_path: at, writable })
    }
}

impl Source<'_> {
    /// The volumes of the replica, or of a helper that is described there.
    pub(super) fn volumes(self, of: Way, tables: Vec<VolumeTable>) -> Result<Vec<Volume>, SpecError> {
        let volume = |(place, table): (usize, VolumeTable)| {
            table.volume().map_err(|(key, what)| {
                let way = of.clone().then(Way::to("volumes")).at(place).then(Way::to(key));
                self.told(Fault { what: format!("{way}: {what}"), way })
            })
        };
        tables.into_iter().enumerate().map(volume).collect()
    }
}
