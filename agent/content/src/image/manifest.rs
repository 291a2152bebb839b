//! What an image says of itself: indexes, manifests, and configurations, of the OCI image specification and of Docker's before it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ImageError;
use crate::digest::Digest;

/// A manifest or an index (the distribution specification's own bound).
pub(super) const MANIFEST_BYTES_MAX: usize = 4 << 20;

/// A configuration: it holds the history of each layer.
pub(super) const CONFIG_BYTES_MAX: usize = 4 << 20;

/// Manifests and indexes that are understood.
pub(super) const ACCEPTED: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";

/// The name of an image in a layout's index.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Where something is, by what it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default)]
    platform: Option<Platform>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
    #[serde(default)]
    variant: Option<String>,
}

/// A manifest, or an index of several.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
}

/// What stands behind the name of an image.
#[derive(Debug)]
pub(super) enum Manifest {
    /// One image.
    Image { config: Descriptor, layers: Vec<Descriptor> },
    /// Images for several platforms, or of several names.
    Index(Vec<Descriptor>),
}

impl Manifest {
    pub(super) fn read(bytes: &[u8]) -> Result<Manifest, ImageError> {
        let document: Document = read(bytes, "manifest")?;
        if document.schema_version != 2 {
            let found = document.schema_version;
            let why = format!(
                "its manifest has schema version {found}; only version 2 is understood: push it anew with a current tool"
            );
            return Err(ImageError::Unusable { why });
        }
        match (document.manifests, document.config, document.layers) {
            (Some(manifests), None, None) => Ok(Manifest::Index(manifests)),
            (None, Some(config), Some(layers)) => {
                let container =
                    |of: &str| of.is_empty() || of.contains("image.config") || of.contains("container.image");
                match container(&config.media_type) {
                    true => Ok(Manifest::Image { config, layers }),
                    false => {
                        let why = format!(
                            "it is an artifact of type `{}`, and not an image of a container",
                            shown(&config.media_type)
                        );
                        Err(ImageError::Unusable { why })
                    }
                }
            }
            _ => {
                let kind = document.media_type.as_deref().map_or("unknown", |kind| kind);
                let why =
                    format!("its manifest, of type `{}`, is neither an image nor an index", shown(kind));
                Err(ImageError::Unusable { why })
            }
        }
    }
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], what: &'static str) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|source| ImageError::Document { what, source })
}

fn shown(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_default).collect()
}

/// The one for this machine.
pub(super) fn for_platform(manifests: Vec<Descriptor>) -> Result<Descriptor, ImageError> {
    let (architecture, variant) = architecture();
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|has| has.os == "linux" && has.architecture == architecture)
    };
    let best = |descriptor: &&Descriptor| {
        let has = descriptor.platform.as_ref().and_then(|platform| platform.variant.as_deref());
        (has != variant) as u8 + (has.is_some() && has != variant) as u8
    };
    if let Some(found) = manifests.iter().filter(fits).min_by_key(best) {
        return Ok(found.clone());
    }
    match &manifests[..] {
        // Many tools say nothing where there is only one.
        [only] if only.platform.is_none() => Ok(only.clone()),
        _ => {
            let mut has: Vec<String> = manifests
                .iter()
                .filter_map(|descriptor| descriptor.platform.as_ref())
                .map(|platform| shown(&format!("{}/{}", platform.os, platform.architecture)))
                .take(20)
                .collect();
            has.dedup();
            Err(ImageError::Platform { wanted: format!("linux/{architecture}"), has: has.join(", ") })
        }
    }
}

/// This machine's, as Go names it, and the variant that it is.
fn architecture() -> (&'static str, Option<&'static str>) {
    match std::env::consts::ARCH {
        "x86_64" => ("amd64", None),
        "aarch64" => ("arm64", Some("v8")),
        "x86" => ("386", None),
        "arm" => ("arm", Some("v7")),
        "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    }
}

/// Those of a layout's index that have this name; without a name, all.
pub(super) fn named(manifests: Vec<Descriptor>, tag: Option<&str>) -> Result<Vec<Descriptor>, ImageError> {
    let name =
        |descriptor: &Descriptor| descriptor.annotations.as_ref().and_then(|all| all.get(REF_NAME)).cloned();
    let mut names: Vec<String> = manifests.iter().filter_map(name).map(|name| shown(&name)).collect();
    names.dedup();
    let found: Vec<Descriptor> = match tag {
        Some(tag) => {
            manifests.into_iter().filter(|descriptor| name(descriptor).as_deref() == Some(tag)).collect()
        }
        None if names.len() <= 1 => manifests,
        None => return Err(ImageError::NoTag { tags: names.join(", ") }),
    };
    match found.is_empty() {
        true => {
            Err(ImageError::UnknownTag { tag: tag.unwrap_or_default().to_owned(), tags: names.join(", ") })
        }
        false => Ok(found),
    }
}

/// What an image says of the command that runs in it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// What stands before every command; empty when the image has none.
    pub entrypoint: Vec<String>,
    /// What follows the entrypoint when nothing else is given.
    pub cmd: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// `USER[:GROUP]`, names or numbers, names as the image has them.
    pub user: Option<String>,
    /// Where a command is started; absolute.
    pub working_dir: Option<String>,
    /// What a command is asked to end by, such as `SIGQUIT`; SIGTERM when none.
    pub stop_signal: Option<String>,
}

impl ImageConfig {
    /// The image's own command.
    pub fn command(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.cmd).cloned().collect()
    }
}

#[derive(Debug, Deserialize)]
struct ConfigDocument {
    #[serde(default)]
    config: Option<RunConfig>,
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct RunConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    user: Option<String>,
    working_dir: Option<String>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
}

/// Reads a configuration: what it says of the command, and the digests of the unpacked layers, the lowest first.
pub(super) fn config(bytes: &[u8]) -> Result<(ImageConfig, Vec<Digest>), ImageError> {
    let document: ConfigDocument = read(bytes, "configuration")?;
    let run = document.config.unwrap_or_default();
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    let working_dir = some(run.working_dir);
    if let Some(path) = working_dir.as_ref().filter(|path| !path.starts_with('/')) {
        let why = format!("its working directory `{}` is not absolute", shown(path));
        return Err(ImageError::Unusable { why });
    }
    if let Some(volumes) = run.volumes.filter(|volumes| !volumes.is_empty()) {
        // A place to write to is what the overlay gives anyway; what is to outlive a task takes a volume of the task.
        tracing::info!(
            volumes = volumes.len(),
            "the image asks for volumes; what is written there is gone with the task"
        );
    }
    let config = ImageConfig {
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
        env: run
            .env
            .unwrap_or_default()
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(owned)
            .collect(),
        user: some(run.user),
        working_dir,
        stop_signal: some(run.stop_signal),
    };
    Ok((config, document.rootfs.diff_ids.unwrap_or_default()))
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(platform: &str, tag: &str) -> String {
        let platform = match platform.split_once('/') {
            Some((os, architecture)) => {
                format!(r#","platform":{{"os":"{os}","architecture":"{architecture}"}}"#)
            }
            None => String::new(),
        };
        let tag = if tag.is_empty() {
            String::new()
        } else {
            format!(r#","annotations":{{"{REF_NAME}":"{tag}"}}"#)
        };
        let digest = Digest::of(format!("{platform}{tag}").as_bytes());
        format!(r#"{{"mediaType":"x","digest":"{digest}","size":1{platform}{tag}}}"#)
    }

    fn index(descriptors: &[String]) -> Vec<Descriptor> {
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, descriptors.join(","));
        match Manifest::read(text.as_bytes()).unwrap() {
            Manifest::Index(manifests) => manifests,
            Manifest::Image { .. } => panic!("an index"),
        }
    }

    #[test]
    fn the_platform_is_this_machine() {
        let own = format!("linux/{}", architecture().0);
        let (other, mine) = (descriptor("linux/pdp11", ""), descriptor(&own, ""));
        let found = for_platform(index(&[other.clone(), mine.clone()])).unwrap();
        assert_eq!(found.digest, index(&[mine])[0].digest);
        let message = for_platform(index(&[other, descriptor("windows/amd64", "")])).unwrap_err().to_string();
        assert!(message.contains(&own) && message.contains("linux/pdp11, windows/amd64"), "{message}");
        assert!(for_platform(index(&[descriptor("", "")])).is_ok());
        assert!(for_platform(Vec::new()).is_err());
    }

    #[test]
    fn a_tag_chooses() {
        let two = || index(&[descriptor("", "a"), descriptor("", "b")]);
        assert_eq!(named(two(), Some("b")).unwrap()[0].digest, two()[1].digest);
        let message = named(two(), None).unwrap_err().to_string();
        assert!(message.contains("a, b"), "{message}");
        assert!(named(two(), Some("c")).unwrap_err().to_string().contains("a, b"));
        assert_eq!(named(index(&[descriptor("", "a")]), None).unwrap().len(), 1);
        assert!(named(Vec::new(), None).is_err());
    }

    #[test]
    fn what_is_no_image_says_so() {
        let digest = Digest::of(b"");
        let chart = format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"{digest}","size":1}},"layers":[]}}"#
        );
        for (text, why) in [
            ("", "not a valid manifest"),
            (r#"{"schemaVersion":1}"#, "schema version 1"),
            (r#"{"schemaVersion":2}"#, "neither"),
            (&chart, "helm"),
        ] {
            let message = Manifest::read(text.as_bytes()).unwrap_err().to_string();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn the_configuration_as_tools_write_it() {
        let text = format!(
            r#"{{"architecture":"amd64","config":{{"Entrypoint":["/e"],"Cmd":["c"],"Env":["A=1","B=x=y","C"],"User":"","WorkingDir":"/w",
            "StopSignal":"SIGQUIT","Volumes":{{"/data":{{}}}},"ExposedPorts":{{}}}},"rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
            Digest::of(b"x")
        );
        let (config, layers) = super::config(text.as_bytes()).unwrap();
        assert_eq!(config.command(), ["/e", "c"]);
        assert_eq!(
            config.env.into_iter().collect::<Vec<_>>(),
            [("A".into(), "1".into()), ("B".into(), "x=y".into())]
        );
        assert_eq!((config.user, config.working_dir.as_deref()), (None, Some("/w")));
        assert_eq!((config.stop_signal.as_deref(), layers), (Some("SIGQUIT"), vec![Digest::of(b"x")]));
        let nothing = br#"{"config":null,"rootfs":{"diff_ids":null}}"#;
        assert_eq!(super::config(nothing).unwrap(), (ImageConfig::default(), Vec::new()));
        assert!(super::config(br#"{"config":{"WorkingDir":"x"},"rootfs":{}}"#).is_err());
    }
}
