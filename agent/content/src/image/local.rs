//! Images that lie on this machine: OCI layouts and archives, and archives of `docker save`.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;
use serde::Deserialize;

use super::{
    ImageError,
    manifest::{self, CONFIG_BYTES_MAX, Descriptor, MANIFEST_BYTES_MAX, Manifest},
    pull::{Blob, Found, Piece},
    registry::checked,
};
use crate::{
    digest::Digest,
    tar::{Kind, Tar},
};

/// Files of an archive: an image has a few for each layer.
const MEMBERS_MAX: usize = 100_000;

/// Links from one file of an archive to another, one after the other.
const LINKS_MAX: usize = 8;

/// Indexes of indexes.
const INDEXES_MAX: usize = 4;

/// A part of a file of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Section {
    path: PathBuf,
    offset: u64,
    bytes: u64,
}

impl Section {
    /// All of a file; nothing that would be waited for, such as a pipe.
    pub(super) fn file(path: &Path) -> io::Result<Section> {
        let bytes = open(path)?.metadata()?.len();
        Ok(Section { path: path.to_owned(), offset: 0, bytes })
    }

    pub(super) fn open(&self) -> io::Result<io::Take<File>> {
        let mut file = open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        Ok(file.take(self.bytes))
    }

    fn read(&self, bytes_max: usize) -> Result<Vec<u8>, ImageError> {
        let failed = |source| ImageError::Local { path: self.path.clone(), source };
        if self.bytes > bytes_max as u64 {
            return Err(failed(io::Error::other(format!("a part of it has more than {bytes_max} bytes"))));
        }
        let mut bytes = Vec::new();
        self.open().map_err(failed)?.read_to_end(&mut bytes).map_err(failed)?;
        Ok(bytes)
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Opening a pipe would wait for its writer.
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).expect("a small number");
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// Files by their names in a folder or an archive.
trait Files {
    fn find(&self, name: &str) -> Result<Section, ImageError>;
}

struct Folder(PathBuf);

impl Files for Folder {
    fn find(&self, name: &str) -> Result<Section, ImageError> {
        let path = self.0.join(name);
        Section::file(&path).map_err(|source| ImageError::Local { path, source })
    }
}

struct Archive {
    path: PathBuf,
    members: BTreeMap<String, Member>,
}

enum Member {
    File(Section),
    Link(String),
}

impl Archive {
    /// Reads where everything is; the content is not read.
    fn open(path: &Path) -> Result<Archive, ImageError> {
        let failed = |source| ImageError::Local { path: path.to_owned(), source };
        let mut file = open(path).map_err(failed)?;
        let mut magic = [0; 4];
        let read = file.read(&mut magic).map_err(failed)?;
        if matches!(magic[..read], [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd]) {
            let why = "the archive is compressed as a whole, and nothing can be found in it without unpacking it: uncompress it";
            return Err(ImageError::Unusable { why: why.to_owned() });
        }
        file.rewind().map_err(failed)?;
        let mut tar = Tar::seeking(file);
        let mut members = BTreeMap::new();
        while let Some(entry) = tar.next().map_err(failed)? {
            if members.len() >= MEMBERS_MAX {
                let why = format!("the archive has more than {MEMBERS_MAX} files, and is no image");
                return Err(ImageError::Unusable { why });
            }
            let name = String::from_utf8_lossy(&entry.path).trim_start_matches("./").to_owned();
            let member = match &entry.kind {
                Kind::File => {
                    Member::File(Section { path: path.to_owned(), offset: tar.position(), bytes: entry.size })
                }
                Kind::HardLink(to) => Member::Link(String::from_utf8_lossy(to).into_owned()),
                Kind::Symlink(to) => Member::Link(beside(&name, &String::from_utf8_lossy(to))),
                _ => continue,
            };
            members.insert(name, member);
        }
        Ok(Archive { path: path.to_owned(), members })
    }
}

/// What a link in the folder of `name` means.
fn beside(name: &str, to: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "" | "." => {}
            part => parts.push(part),
        }
    }
    parts.join("/")
}

impl Files for Archive {
    fn find(&self, name: &str) -> Result<Section, ImageError> {
        let mut at = name;
        for _ in 0..LINKS_MAX {
            match self.members.get(at) {
                Some(Member::File(section)) => return Ok(section.clone()),
                Some(Member::Link(to)) => at = to,
                None => break,
            }
        }
        let source =
            io::Error::new(io::ErrorKind::NotFound, format!("there is no `{}` in it", name.escape_default()));
        Err(ImageError::Local { path: self.path.clone(), source })
    }
}

/// The image in an OCI layout.
pub(super) fn layout(path: &Path, tag: Option<&str>) -> Result<Found, ImageError> {
    oci(&Folder(path.to_owned()), tag)
}

/// The image in a tar of an OCI layout.
pub(super) fn oci_archive(path: &Path, tag: Option<&str>) -> Result<Found, ImageError> {
    oci(&Archive::open(path)?, tag)
}

fn oci(files: &dyn Files, tag: Option<&str>) -> Result<Found, ImageError> {
    let find = |digest: &Digest| files.find(&format!("blobs/sha256/{}", digest.hex()));
    let Manifest::Index(index) = Manifest::read(&files.find("index.json")?.read(MANIFEST_BYTES_MAX)?)? else {
        return Err(ImageError::Unusable { why: "its `index.json` is not an index".to_owned() });
    };
    let mut found = manifest::named(index, tag)?;
    for _ in 0..INDEXES_MAX {
        let Descriptor { digest, .. } = match &found[..] {
            [only] => only.clone(),
            _ => manifest::for_platform(found)?,
        };
        let bytes = checked("manifest", find(&digest)?.read(MANIFEST_BYTES_MAX)?, digest)?;
        match Manifest::read(&bytes)? {
            // Also of one alone it is to be known whether it is for this machine.
            Manifest::Index(inner) => found = vec![manifest::for_platform(inner)?],
            Manifest::Image { config, layers } => {
                let config =
                    checked("configuration", find(&config.digest)?.read(CONFIG_BYTES_MAX)?, config.digest)?;
                let blob = |layer: &Descriptor| {
                    let section = find(&layer.digest)?;
                    Ok(Blob::Local { section, digest: Some(layer.digest) })
                };
                let blobs = layers.iter().map(blob).collect::<Result<Vec<_>, ImageError>>()?;
                return Found::new(digest, &config, blobs);
            }
        }
    }
    Err(ImageError::Unusable { why: "its indexes point at indexes without end".to_owned() })
}

/// One image of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

/// The image in an archive of `docker save`.
pub(super) fn docker_archive(path: &Path, tag: Option<&str>) -> Result<Found, ImageError> {
    let archive = Archive::open(path)?;
    let bytes = archive.find("manifest.json")?.read(MANIFEST_BYTES_MAX)?;
    let mut saved: Vec<Saved> =
        serde_json::from_slice(&bytes).map_err(|source| ImageError::Document { what: "manifest", source })?;
    let tags: Vec<String> =
        saved.iter().flat_map(|image| image.repo_tags.iter().flatten().cloned()).collect();
    let tags = tags.join(", ");
    if let Some(tag) = tag {
        // Docker writes the tag that it assumes.
        let assumed = format!("{tag}:latest");
        saved.retain(|image| image.repo_tags.iter().flatten().any(|has| has == tag || *has == assumed));
    }
    let image = match (saved.pop(), tag) {
        (Some(image), _) if saved.is_empty() => image,
        (None, Some(tag)) => return Err(ImageError::UnknownTag { tag: tag.to_owned(), tags }),
        (Some(_), None) => return Err(ImageError::NoTag { tags }),
        _ => {
            return Err(ImageError::Unusable {
                why: "the archive does not hold exactly one image of that name".to_owned(),
            });
        }
    };
    let config = archive.find(&image.config)?.read(CONFIG_BYTES_MAX)?;
    // The configuration is named by its digest, by itself or in `blobs/sha256`.
    let name = image.config.rsplit('/').next().unwrap_or(&image.config);
    let digest = Digest::of(&config);
    if let Some(expected) =
        Digest::from_hex(name.trim_end_matches(".json")).filter(|expected| *expected != digest)
    {
        return Err(ImageError::Digest { what: "configuration", expected, found: digest });
    }
    let blob = |layer: &String| Ok(Blob::Local { section: archive.find(layer)?, digest: None });
    let blobs = image.layers.iter().map(blob).collect::<Result<Vec<_>, ImageError>>()?;
    Found::new(digest, &config, blobs)
}

impl Found {
    /// An image of these layers, of which the configuration knows what they are when they are unpacked.
    pub(super) fn new(digest: Digest, config: &[u8], blobs: Vec<Blob>) -> Result<Found, ImageError> {
        let (config, diff_ids) = manifest::config(config)?;
        if diff_ids.len() != blobs.len() {
            let why = format!(
                "it is damaged: its manifest names {} layers, its configuration {}",
                blobs.len(),
                diff_ids.len()
            );
            return Err(ImageError::Unusable { why });
        }
        let pieces = diff_ids.into_iter().zip(blobs).map(|(diff_id, blob)| Piece { diff_id, blob }).collect();
        Ok(Found { digest, config, pieces })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_in_the_archive() {
        for (name, to, means) in [
            ("a/layer.tar", "../b/layer.tar", "b/layer.tar"),
            ("a/layer.tar", "../../../etc/passwd", "etc/passwd"),
            ("x", "./y", "y"),
        ] {
            assert_eq!(beside(name, to), means);
        }
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let place = tempfile::tempdir().unwrap();
        let pipe = place.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0)
            .unwrap();
        let message = Section::file(&pipe).unwrap_err().to_string();
        assert!(message.contains("regular"), "{message}");
        assert!(docker_archive(&pipe, None).is_err());
    }
}
