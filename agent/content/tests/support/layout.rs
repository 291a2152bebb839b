//! Images written by hand: tars of any entries, and OCI layouts of them.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};

use apportion_content::Digest;
use serde_json::{Value, json};
use tar::{EntryType, Header};

/// Something in a layer.
pub enum Item<'a> {
    File(&'a str),
    Executable(&'a [u8]),
    Folder,
    /// A folder in which everybody may write.
    Shared,
    Link(&'a str),
    HardLink(&'a str),
    Char(u32, u32),
    /// What is said of the next entry: a key and its value.
    Extended(&'a str, &'a [u8]),
}

/// A tar of these entries, whose paths may be any.
pub fn tar(entries: &[(&str, Item<'_>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, item) in entries {
        let mut header = Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000);
        let record;
        let (kind, mode, content): (_, _, &[u8]) = match item {
            Item::File(text) => (EntryType::Regular, 0o644, text.as_bytes()),
            Item::Executable(bytes) => (EntryType::Regular, 0o755, bytes),
            Item::Folder => (EntryType::Directory, 0o755, b""),
            Item::Shared => (EntryType::Directory, 0o1777, b""),
            Item::Link(_) => (EntryType::Symlink, 0o777, b""),
            Item::HardLink(_) => (EntryType::Link, 0o644, b""),
            Item::Char(..) => (EntryType::Char, 0o600, b""),
            Item::Extended(key, value) => {
                let rest = key.len() + value.len() + 3;
                let length = (1..).find(|length: &usize| length.to_string().len() + rest == *length).unwrap();
                record = [format!("{length} {key}=").as_bytes(), value, b"\n"].concat();
                (EntryType::XHeader, 0o644, &record)
            }
        };
        if let Item::Link(to) | Item::HardLink(to) = item {
            header.as_ustar_mut().unwrap().linkname[..to.len()].copy_from_slice(to.as_bytes());
        }
        if let Item::Char(major, minor) = item {
            header.set_device_major(*major).unwrap();
            header.set_device_minor(*minor).unwrap();
        }
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        bytes.extend(header.as_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer as it lies in a registry, and what it is unpacked.
#[derive(Clone)]
pub struct Layer {
    pub blob: Vec<u8>,
    pub diff_id: Digest,
}

impl Layer {
    pub fn gzip(tar: &[u8]) -> Layer {
        Layer { blob: gzip(tar), diff_id: Digest::of(tar) }
    }

    pub fn plain(tar: &[u8]) -> Layer {
        Layer { blob: tar.to_vec(), diff_id: Digest::of(tar) }
    }
}

/// A folder in the OCI layout.
pub struct Layout {
    pub path: PathBuf,
    manifests: Vec<Value>,
}

impl Layout {
    pub fn new(path: &Path) -> Layout {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Layout { path: path.to_owned(), manifests: Vec::new() }
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.hex())
    }

    fn add(&self, kind: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.blob(&digest), bytes).unwrap();
        json!({ "mediaType": kind, "digest": digest, "size": bytes.len() })
    }

    /// Adds an image; `config` is what it says of its command. Answers with the digest of its manifest.
    pub fn image(&mut self, tag: &str, layers: &[Layer], config: Value) -> Digest {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| layer.diff_id).collect();
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let document = json!({
            "architecture": architecture, "os": "linux", "config": config,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = self.add("application/vnd.oci.image.config.v1+json", document.to_string().as_bytes());
        let layers: Vec<Value> = layers
            .iter()
            .map(|layer| self.add("application/vnd.oci.image.layer.v1.tar+gzip", &layer.blob))
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config, "layers": layers,
        });
        let mut manifest =
            self.add("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes());
        let digest = serde_json::from_value(manifest["digest"].clone()).unwrap();
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        self.manifests.push(manifest);
        let index = json!({ "schemaVersion": 2, "manifests": self.manifests });
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
        digest
    }
}
