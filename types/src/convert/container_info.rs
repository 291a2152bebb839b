//! Images, volumes, artifacts: what a container has beside its command.

use std::collections::BTreeSet;

use apportion_proto::v1;

use super::{ConvertError, enums, from_ref, id, message, messages, optional, shown};
use crate::{
    container_info::{Artifact, ContainerInfo, Rlimit, Volume, VolumeSource, is_absolute, is_relative},
    image::{Image, PullPolicy},
    io::IoLimits,
    limits,
};

impl From<Image> for v1::Image {
    fn from(image: Image) -> Self {
        Self { reference: image.reference.to_string(), pull: v1::PullPolicy::from(image.pull) as i32 }
    }
}

impl TryFrom<v1::Image> for Image {
    type Error = ConvertError;

    fn try_from(wire: v1::Image) -> Result<Self, ConvertError> {
        let pull = match wire.pull {
            0 => PullPolicy::Missing,
            number => enums::pull_policy("pull", number)?,
        };
        Ok(Self { reference: id("reference", &wire.reference)?, pull })
    }
}

impl From<Volume> for v1::Volume {
    fn from(volume: Volume) -> Self {
        use v1::volume::Source as Wire;
        let source = match volume.source {
            VolumeSource::Host { path } => Wire::HostPath(path),
            VolumeSource::Sandbox { path } => Wire::SandboxPath(path),
            VolumeSource::Group { path } => Wire::GroupPath(path),
            VolumeSource::Tmpfs { bytes } => Wire::TmpfsBytes(bytes),
            VolumeSource::Image(image) => Wire::Image(image.into()),
        };
        Self { source: Some(source), container_path: volume.container_path, writable: volume.writable }
    }
}

/// Refuses paths that are not plain, or longer than the kernel takes, and memory of no bytes.
impl TryFrom<v1::Volume> for Volume {
    type Error = ConvertError;

    fn try_from(wire: v1::Volume) -> Result<Self, ConvertError> {
        use v1::volume::Source as Wire;
        let (field, source) = match wire.source {
            None => return Err(ConvertError::new("source", "is missing")),
            Some(Wire::HostPath(path)) => ("host_path", VolumeSource::Host { path }),
            Some(Wire::SandboxPath(path)) => ("sandbox_path", VolumeSource::Sandbox { path }),
            Some(Wire::GroupPath(path)) => ("group_path", VolumeSource::Group { path }),
            Some(Wire::TmpfsBytes(0)) => return Err(ConvertError::new("tmpfs_bytes", "is 0")),
            Some(Wire::TmpfsBytes(bytes)) => ("container_path", VolumeSource::Tmpfs { bytes }),
            Some(Wire::Image(image)) => {
                ("container_path", VolumeSource::Image(message("image", Some(image))?))
            }
        };
        let container_path = match (&source, wire.container_path) {
            (VolumeSource::Host { path }, container_path) if container_path.is_empty() => path.clone(),
            (_, container_path) => container_path,
        };
        let volume = Volume { source, container_path, writable: wire.writable };
        volume.check().map_err(|error| ConvertError::new(field, error))?;
        Ok(volume)
    }
}

impl From<Artifact> for v1::Artifact {
    fn from(artifact: Artifact) -> Self {
        Self {
            uri: artifact.uri,
            sha256: artifact.sha256.unwrap_or_default(),
            path: artifact.path.unwrap_or_default(),
            extract: artifact.extract,
            executable: artifact.executable,
            cache: artifact.cache,
        }
    }
}

/// Refuses what cannot be fetched, a checksum that is none, and a path that is not plain.
impl TryFrom<v1::Artifact> for Artifact {
    type Error = ConvertError;

    fn try_from(wire: v1::Artifact) -> Result<Self, ConvertError> {
        let file = wire.uri.strip_prefix("file://").map(is_absolute);
        let known = file.unwrap_or(wire.uri.starts_with("http://") || wire.uri.starts_with("https://"));
        let plain = wire.uri.len() <= limits::PATH_BYTES_MAX && !wire.uri.bytes().any(|byte| byte <= b' ');
        if !known || !plain {
            let what = format_args!(
                "`{}` is not an address that is fetched: http://, https://, or file:// and an absolute path",
                shown(&wire.uri)
            );
            return Err(ConvertError::new("uri", what));
        }
        let hexadecimal = |text: &str| text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !wire.sha256.is_empty() && !hexadecimal(&wire.sha256) {
            return Err(ConvertError::new("sha256", "must be 64 hexadecimal digits"));
        }
        if !wire.path.is_empty() && !is_relative(&wire.path) {
            return Err(ConvertError::new("path", "must be relative, without `.` and `..`"));
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        let artifact = Self {
            sha256: given(wire.sha256.to_ascii_lowercase()),
            path: given(wire.path),
            uri: wire.uri,
            extract: wire.extract,
            executable: wire.executable,
            cache: wire.cache,
        };
        match artifact.file_name() {
            Some(_) => Ok(artifact),
            None => Err(ConvertError::new("path", "is needed, because the address names no file")),
        }
    }
}

impl From<Rlimit> for v1::Rlimit {
    fn from(rlimit: Rlimit) -> Self {
        Self {
            resource: v1::RlimitResource::from(rlimit.resource) as i32,
            soft: rlimit.soft,
            hard: rlimit.hard,
        }
    }
}

/// Refuses a soft limit above the hard one.
impl TryFrom<v1::Rlimit> for Rlimit {
    type Error = ConvertError;

    fn try_from(wire: v1::Rlimit) -> Result<Self, ConvertError> {
        let resource = enums::rlimit_resource("resource", wire.resource)?;
        if wire.hard.is_some_and(|hard| wire.soft.is_none_or(|soft| soft > hard)) {
            return Err(ConvertError::new("soft", "is above the hard limit"));
        }
        Ok(Self { resource, soft: wire.soft, hard: wire.hard })
    }
}

impl From<IoLimits> for v1::IoLimits {
    fn from(io: IoLimits) -> Self {
        Self {
            read_bytes_per_second: io.read_bytes_per_second,
            write_bytes_per_second: io.write_bytes_per_second,
            read_ops_per_second: io.read_ops_per_second,
            write_ops_per_second: io.write_ops_per_second,
        }
    }
}

/// Refuses a limit that is too low; see [`IoLimits::refusal`].
impl TryFrom<v1::IoLimits> for IoLimits {
    type Error = ConvertError;

    fn try_from(wire: v1::IoLimits) -> Result<Self, ConvertError> {
        let io = Self {
            read_bytes_per_second: wire.read_bytes_per_second,
            write_bytes_per_second: wire.write_bytes_per_second,
            read_ops_per_second: wire.read_ops_per_second,
            write_ops_per_second: wire.write_ops_per_second,
        };
        match io.refusal() {
            Some((field, what)) => Err(ConvertError::new(field, what)),
            None => Ok(io),
        }
    }
}

impl From<ContainerInfo> for v1::ContainerInfo {
    fn from(info: ContainerInfo) -> Self {
        Self {
            image: info.image.map(|image| (*image).into()),
            user: info.user.unwrap_or_default(),
            working_dir: info.working_dir.unwrap_or_default(),
            artifacts: info.artifacts.into_iter().map(Into::into).collect(),
            rlimits: info.rlimits.into_iter().map(Into::into).collect(),
            network: info.network.map(|network| (*network).into()),
            swap_bytes: info.swap_bytes,
            io: info.io.map(|io| (*io).into()),
            exclusive_cpus: info.exclusive_cpus,
        }
    }
}

/// Refuses a user that is none, a folder whose path is not plain, more than [`limits::ARTIFACTS_MAX`] artifacts, a limit named twice,
/// and what its parts refuse.
impl TryFrom<v1::ContainerInfo> for ContainerInfo {
    type Error = ConvertError;

    fn try_from(wire: v1::ContainerInfo) -> Result<Self, ConvertError> {
        let name = |name: &str| {
            (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':' && byte != b'/')
        };
        let user =
            wire.user.split_once(':').map_or(name(&wire.user), |(user, group)| name(user) && name(group));
        if !wire.user.is_empty() && !user {
            let what =
                format_args!("`{}` is not a user: USER or USER:GROUP, names or numbers", shown(&wire.user));
            return Err(ConvertError::new("user", what));
        }
        let folder = |path: &str| path == "/" || is_absolute(path) || is_relative(path);
        if !wire.working_dir.is_empty() && !folder(&wire.working_dir) {
            return Err(ConvertError::new("working_dir", "must be a path without `.` and `..`"));
        }
        if wire.artifacts.len() > limits::ARTIFACTS_MAX {
            let what = format_args!(
                "{} are more than the {} of a task",
                wire.artifacts.len(),
                limits::ARTIFACTS_MAX
            );
            return Err(ConvertError::new("artifacts", what));
        }
        let rlimits: Vec<Rlimit> = messages("rlimits", wire.rlimits)?;
        let named: BTreeSet<_> = rlimits.iter().map(|rlimit| rlimit.resource).collect();
        if named.len() < rlimits.len() {
            return Err(ConvertError::new("rlimits", "name one limit twice"));
        }
        let given = |text: String| (!text.is_empty()).then_some(text);
        Ok(Self {
            image: optional("image", wire.image)?.map(Box::new),
            user: given(wire.user),
            working_dir: given(wire.working_dir),
            artifacts: messages("artifacts", wire.artifacts)?,
            rlimits,
            network: optional("network", wire.network)?.map(Box::new),
            swap_bytes: wire.swap_bytes,
            io: optional("io", wire.io)?.filter(|io: &IoLimits| !io.is_empty()).map(Box::new),
            exclusive_cpus: wire.exclusive_cpus,
        })
    }
}

from_ref!(Image => v1::Image, Volume => v1::Volume, Artifact => v1::Artifact, ContainerInfo => v1::ContainerInfo);
