//! Archives unpacked in a sandbox, beside themselves.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use tokio_util::sync::CancellationToken;

use super::{ArtifactError, cache::Held, place};
use crate::{
    tar::{Kind, Tar},
    tree::{self, Attributes, Tree},
    unpack::{Bounded, Budget, UnpackError, decompressed},
};

/// An archive's form, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A tar, however it is compressed.
    Tar,
    Zip,
    /// One compressed file.
    Gzip,
}

impl Format {
    pub(super) fn of(name: &str) -> Option<Format> {
        const ENDINGS: [(&str, Format); 6] = [
            (".tar", Format::Tar),
            (".tar.gz", Format::Tar),
            (".tgz", Format::Tar),
            (".tar.zst", Format::Tar),
            (".zip", Format::Zip),
            (".gz", Format::Gzip),
        ];
        let name = name.to_ascii_lowercase();
        ENDINGS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format)
    }
}

/// What is being unpacked.
struct Extraction<'a> {
    tree: Tree,
    /// The folder in the sandbox in which the archive lies; empty for the sandbox itself.
    folder: &'a [u8],
    budget: Budget,
    bytes_max: u64,
    cancel: &'a CancellationToken,
}

/// Unpacks a file beside its place in the sandbox.
pub(super) fn extract(
    held: &Held,
    sandbox: &Path,
    name: &str,
    bytes_max: u64,
    cancel: &CancellationToken,
) -> Result<(), ArtifactError> {
    let tree =
        place::open(sandbox).map_err(|source| ArtifactError::Place { path: name.to_owned(), source })?;
    let (folder, file) = tree::split(name.as_bytes());
    let budget = Budget::new(bytes_max);
    let mut extraction = Extraction { tree, folder, budget, bytes_max, cancel };
    let archive = File::open(held.path()).map_err(ArtifactError::store)?;
    let done = match Format::of(name).ok_or(ArtifactError::NoArchive)? {
        Format::Tar => extraction.tar(archive),
        Format::Zip => extraction.zip(archive),
        Format::Gzip => extraction.gzip(archive, &file[..file.len() - ".gz".len()]),
    };
    done.map_err(ArtifactError::Unpack)?;
    let finished = extraction.tree.finish();
    finished.map(drop).map_err(|error| ArtifactError::Place { path: name.to_owned(), source: error.into() })
}

impl<'a> Extraction<'a> {
    fn tar(&mut self, archive: File) -> Result<(), UnpackError> {
        let bytes_max = self.bytes_max;
        let read = |error| UnpackError::read(error, bytes_max);
        let inner = decompressed(archive).map_err(read)?;
        let mut tar = Tar::new(self.bounded(inner));
        while let Some(entry) = tar.next().map_err(read)? {
            self.budget.take_entry()?;
            let path = self.beside(&entry.path)?;
            let attributes = self.attributes(entry.mode, Some(entry.modified));
            let done = match &entry.kind {
                // The folder that it lies in is not the archive's.
                Kind::Folder if path == self.folder => Ok(()),
                Kind::Folder => self.tree.folder(&path, &attributes).map(drop),
                Kind::File => {
                    self.file(&path, &attributes, &mut tar)?;
                    Ok(())
                }
                Kind::Symlink(to) => self.tree.symlink(&path, to, &attributes),
                Kind::HardLink(to) => {
                    let to = self.beside(to)?;
                    self.tree.hard_link(&path, &to)
                }
                Kind::Char(..) | Kind::Block(..) | Kind::Fifo | Kind::Other => {
                    return Err(UnpackError::entry(&entry.path, "is neither a file, a folder nor a link"));
                }
            };
            done.map_err(|error| place::entry_failure(&entry.path, error))?;
        }
        Ok(())
    }

    fn zip(&mut self, archive: File) -> Result<(), UnpackError> {
        let invalid = |error: zip::result::ZipError| UnpackError::Read(io::Error::other(error));
        let mut zip = zip::ZipArchive::new(BufReader::new(archive)).map_err(invalid)?;
        for index in 0..zip.len() {
            self.budget.take_entry()?;
            let entry = zip.by_index(index).map_err(invalid)?;
            let name = entry.name_raw().to_vec();
            let path = self.beside(&name)?;
            // Archives of other systems say nothing of permissions.
            let mode = entry.unix_mode();
            let (folder, link) = (entry.is_dir(), entry.is_symlink());
            let attributes = self.attributes(mode.unwrap_or(if folder { 0o755 } else { 0o644 }), None);
            let mut content = self.bounded(entry);
            let done = match (folder, link) {
                (true, _) if path == self.folder => Ok(()),
                (true, _) => self.tree.folder(&path, &attributes).map(drop),
                (false, true) => {
                    let mut to = Vec::new();
                    let limit = apportion_types::limits::PATH_BYTES_MAX as u64 + 1;
                    content
                        .by_ref()
                        .take(limit)
                        .read_to_end(&mut to)
                        .map_err(|error| UnpackError::read(error, self.bytes_max))?;
                    self.tree.symlink(&path, &to, &attributes)
                }
                (false, false) => {
                    self.file(&path, &attributes, &mut content)?;
                    Ok(())
                }
            };
            done.map_err(|error| place::entry_failure(&name, error))?;
        }
        Ok(())
    }

    fn gzip(&mut self, archive: File, name: &[u8]) -> Result<(), UnpackError> {
        let path = self.beside(name)?;
        let attributes = self.attributes(0o644, None);
        let inner = flate2::bufread::MultiGzDecoder::new(BufReader::new(archive));
        let mut content = self.bounded(inner);
        self.file(&path, &attributes, &mut content)
    }

    fn bounded<R: Read>(&self, inner: R) -> Bounded<'a, R> {
        Bounded { inner, budget: self.budget.clone(), cancel: self.cancel }
    }

    /// Where an entry goes in the sandbox.
    fn beside(&self, path: &[u8]) -> Result<Vec<u8>, UnpackError> {
        let path = tree::plain(path)?;
        Ok(match (self.folder, &path[..]) {
            (b"", _) => path,
            (folder, b"") => folder.to_vec(),
            (folder, path) => [folder, path].join(&b'/'),
        })
    }

    /// Nothing of who owned it elsewhere, and no rights beyond its owner's.
    fn attributes(&self, mode: u32, modified: Option<(i64, u32)>) -> Attributes<'static> {
        Attributes { mode: mode & 0o777, owner: None, modified, xattrs: &[] }
    }

    fn file(
        &mut self,
        path: &[u8],
        attributes: &Attributes<'_>,
        content: &mut impl Read,
    ) -> Result<(), UnpackError> {
        match self.tree.file(path, attributes, content) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.raw_os_error().is_some() => Err(UnpackError::write(path, error)),
            Ok(Err(error)) => Err(UnpackError::read(error, self.bytes_max)),
            Err(error) => Err(place::entry_failure(path, error)),
        }
    }
}
