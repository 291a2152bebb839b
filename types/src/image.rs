//! Images: what a container sees as its root, by name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::limits;

/// An image that a container is to have as its root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Where it is.
    pub reference: ImageReference,
    /// When it is looked for again although the agent has it.
    pub pull: PullPolicy,
}

impl Image {
    /// The image of this name, pulled when the agent has none.
    pub fn new(reference: ImageReference) -> Image {
        Image { reference, pull: PullPolicy::Missing }
    }
}

/// When an image is looked for where it comes from. One that is named by its digest never changes: the agent's own is as good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PullPolicy {
    /// When the agent has none of that name.
    #[default]
    Missing,
    /// Before every launch; only what has changed is fetched.
    Always,
    /// Never: a task whose image the agent has not fails.
    Never,
}

impl PullPolicy {
    /// Every policy.
    pub const ALL: [PullPolicy; 3] = [PullPolicy::Missing, PullPolicy::Always, PullPolicy::Never];

    /// The name shown to people and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            PullPolicy::Missing => "missing",
            PullPolicy::Always => "always",
            PullPolicy::Never => "never",
        }
    }
}

/// Where an image is.
///
/// | text | what |
/// |---|---|
/// | `[docker://][HOST[:PORT]/]NAME[:TAG][@sha256:HEX]` | in a registry; without a host, in the agent's default one |
/// | `oci:/PATH[:TAG]` | a folder of the agent's machine in the OCI image layout |
/// | `oci-archive:/PATH[:TAG]` | the same as a tar file |
/// | `docker-archive:/PATH[:NAME:TAG]` | a tar file as written by `docker save` |
///
/// The transports are those of skopeo and podman (containers-transports(5)).
///
/// ```
/// use apportion_types::image::ImageReference;
///
/// let image: ImageReference = "registry.example:5000/team/app:1.2".parse()?;
/// assert_eq!(image.to_string(), "docker://registry.example:5000/team/app:1.2");
/// assert!("oci:relative/path".parse::<ImageReference>().is_err());
/// # Ok::<(), apportion_types::image::ImageError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ImageReference {
    /// In a registry.
    Registry {
        /// Host and perhaps port; none for the agent's default registry.
        host: Option<String>,
        /// The name there.
        repository: String,
        /// The tag; `latest` when neither a tag nor a digest is given.
        tag: Option<String>,
        /// The digest of its manifest, `sha256:` and 64 hexadecimal digits.
        digest: Option<String>,
    },
    /// A folder in the OCI image layout.
    OciLayout {
        /// The folder; absolute.
        path: String,
        /// Which of its images; needed where it holds several.
        tag: Option<String>,
    },
    /// A tar file of such a folder.
    OciArchive {
        /// The file; absolute.
        path: String,
        /// Which of its images; needed where it holds several.
        tag: Option<String>,
    },
    /// A tar file as `docker save` writes it.
    DockerArchive {
        /// The file; absolute.
        path: String,
        /// Which of its images; needed where it holds several.
        tag: Option<String>,
    },
}

/// A text does not name an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{start}` does not name an image: {why}")]
pub struct ImageError {
    /// Its first characters.
    pub start: String,
    /// What is wrong with it.
    pub why: &'static str,
}

impl FromStr for ImageReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self, ImageError> {
        let parsed = if text.len() > limits::IMAGE_BYTES_MAX {
            Err("it is longer than any name of an image")
        } else if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            Err("it holds a space or a control character")
        } else if let Some(rest) = text.strip_prefix("oci:") {
            place(rest).map(|(path, tag)| Self::OciLayout { path, tag })
        } else if let Some(rest) = text.strip_prefix("oci-archive:") {
            place(rest).map(|(path, tag)| Self::OciArchive { path, tag })
        } else if let Some(rest) = text.strip_prefix("docker-archive:") {
            place(rest).map(|(path, tag)| Self::DockerArchive { path, tag })
        } else {
            registry(text.strip_prefix("docker://").unwrap_or(text))
        };
        parsed.map_err(|why| ImageError {
            start: text.chars().take(64).flat_map(char::escape_default).collect(),
            why,
        })
    }
}

/// A path and what stands behind its first colon.
fn place(text: &str) -> Result<(String, Option<String>), &'static str> {
    let (path, tag) = match text.split_once(':') {
        Some((_, "")) => return Err("its tag is empty"),
        Some((path, tag)) => (path, Some(tag.to_owned())),
        None => (text, None),
    };
    let plain = |part: &str| !["", ".", ".."].contains(&part);
    match path.strip_prefix('/') {
        Some(rest) if rest.split('/').all(plain) => Ok((path.to_owned(), tag)),
        _ => Err("its path must be absolute, without `.` and `..`"),
    }
}

fn registry(text: &str) -> Result<ImageReference, &'static str> {
    let (text, digest) = match text.split_once('@') {
        Some((text, digest)) => (text, Some(digest)),
        None => (text, None),
    };
    let hexadecimal = |hex: &str| {
        hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    if !digest.is_none_or(|digest| digest.strip_prefix("sha256:").is_some_and(hexadecimal)) {
        return Err("its digest must be `sha256:` and 64 small hexadecimal digits");
    }
    let (host, rest) = match text.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), rest),
        _ => (None, text),
    };
    let (repository, tag) = match rest.split_once(':') {
        Some((repository, tag)) => (repository, Some(tag)),
        None => (rest, None),
    };
    let host_good = |host: &str| {
        let (name, port) = host.split_once(':').unwrap_or((host, "1"));
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        name.bytes().any(|byte| byte.is_ascii_alphanumeric())
            && name.bytes().all(letter)
            && port.parse::<u16>().is_ok_and(|port| port > 0)
    };
    if !host.is_none_or(host_good) {
        return Err("its registry must be a host name and perhaps a port");
    }
    let part_good = |part: &str| {
        let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = part.as_bytes();
        part.bytes().all(letter) && edge(bytes.first()) && edge(bytes.last())
    };
    if !repository.split('/').all(part_good) {
        return Err("its parts must be small letters, digits, and `.`, `_` or `-` between them");
    }
    let tag_good = |tag: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        (1..=128).contains(&tag.len()) && tag.bytes().all(letter) && !tag.starts_with(['.', '-'])
    };
    if !tag.is_none_or(tag_good) {
        return Err("its tag must be letters, digits, `.`, `_` and `-`, at most 128");
    }
    Ok(ImageReference::Registry {
        host: host.map(str::to_owned),
        repository: repository.to_owned(),
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (transport, path, tag) = match self {
            Self::Registry { host, repository, tag, digest } => {
                f.write_str("docker://")?;
                if let Some(host) = host {
                    write!(f, "{host}/")?;
                }
                f.write_str(repository)?;
                if let Some(tag) = tag {
                    write!(f, ":{tag}")?;
                }
                return digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"));
            }
            Self::OciLayout { path, tag } => ("oci", path, tag),
            Self::OciArchive { path, tag } => ("oci-archive", path, tag),
            Self::DockerArchive { path, tag } => ("docker-archive", path, tag),
        };
        write!(f, "{transport}:{path}")?;
        tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ImageError;

    fn try_from(text: String) -> Result<Self, ImageError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> String {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_an_image_reads_back() {
        let hex = "0123456789abcdef".repeat(4);
        for (text, shown) in [
            ("busybox", "docker://busybox"),
            ("docker://busybox:1.36", "docker://busybox:1.36"),
            ("localhost/a/b-c_d.e", "docker://localhost/a/b-c_d.e"),
            ("127.0.0.1:5000/a:X_1", "docker://127.0.0.1:5000/a:X_1"),
            (&format!("r.example/a:1@sha256:{hex}"), &format!("docker://r.example/a:1@sha256:{hex}")),
            ("oci:/srv/image", "oci:/srv/image"),
            ("oci:/srv/image:1", "oci:/srv/image:1"),
            ("oci-archive:/srv/a.tar:1", "oci-archive:/srv/a.tar:1"),
            ("docker-archive:/srv/a.tar:app:1", "docker-archive:/srv/a.tar:app:1"),
        ] {
            let parsed: ImageReference = text.parse().unwrap();
            assert_eq!(parsed.to_string(), *shown);
            assert_eq!(parsed.to_string().parse(), Ok(parsed));
        }
    }

    #[test]
    fn what_does_not_says_why() {
        for (text, why) in [
            ("", "its parts"),
            ("Busybox", "its parts"),
            ("a//b", "its parts"),
            ("../a", "its registry"),
            ("a/", "its parts"),
            ("a:", "its tag"),
            ("a:.x", "its tag"),
            ("a b", "a space"),
            ("a@sha256:12", "its digest"),
            ("a@md5:12", "its digest"),
            ("host:port/a", "its registry"),
            ("host:0/a", "its registry"),
            ("oci:image", "must be absolute"),
            ("oci:/a/../b", "must be absolute"),
            ("oci:/a:", "its tag is empty"),
            (&"x".repeat(5000), "longer than any"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err();
            assert!(error.why.contains(why), "{error}");
        }
    }
}
