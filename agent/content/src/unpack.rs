//! What the unpacking of any archive has in common: why it fails, how much it may make, how it is cut off.

use std::{
    cell::Cell,
    error::Error,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

use tokio_util::sync::CancellationToken;

/// Why an archive was not unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// It cannot be read, or is no archive of its kind.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// Its digest is another than the one by which it is named.
    #[error("it is damaged: its {what} is {found}, not {expected}")]
    Digest {
        /// Of what the digest is.
        what: &'static str,
        /// The one it should have.
        expected: String,
        /// The one it has.
        found: String,
    },
    /// Something in it is refused.
    #[error("its entry `{path}` {why}")]
    Entry {
        /// The entry, its start.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something in it cannot be written.
    #[error(
        "its entry `{path}` cannot be written; check space and permissions of the agent's work directory"
    )]
    Write {
        /// The entry, its start.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The folder that it goes to cannot be used.
    #[error("folder {path:?} cannot be used; check space and permissions of the agent's work directory")]
    Folder {
        /// The folder.
        path: std::path::PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It would take more than allowed.
    #[error("it unpacks to more than {bytes_max} bytes")]
    TooLarge {
        /// The most that was allowed.
        bytes_max: u64,
    },
    /// Nobody wants it any more.
    #[error("its unpacking was given up")]
    Cancelled,
}

impl UnpackError {
    /// A refused entry.
    pub(crate) fn entry(path: &[u8], why: &'static str) -> Self {
        UnpackError::Entry { path: shown(path), why }
    }

    /// An entry that could not be written.
    pub(crate) fn write(path: &[u8], source: impl Into<io::Error>) -> Self {
        UnpackError::Write { path: shown(path), source: source.into() }
    }

    /// What a reader of this module says by its error.
    pub(crate) fn read(error: io::Error, bytes_max: u64) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<End>()) {
            Some(End::Budget) => UnpackError::TooLarge { bytes_max },
            Some(End::Cancelled) => UnpackError::Cancelled,
            None => UnpackError::Read(error),
        }
    }
}

/// A path of an archive, for people.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(&path[..path.len().min(200)]).chars().flat_map(char::escape_default).collect()
}

/// Why reading ends before the end.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("there is more than allowed")]
    Budget,
    #[error("given up")]
    Cancelled,
}

/// What an archive may still make. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    left: Rc<Cell<u64>>,
    bytes_max: u64,
}

/// What an entry costs however small it is: an inode and a name.
const ENTRY_BYTES: u64 = 4096;

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Self { left: Rc::new(Cell::new(bytes_max)), bytes_max }
    }

    pub(crate) fn take(&self, bytes: u64) -> Result<(), UnpackError> {
        let left = self.left.get().checked_sub(bytes);
        self.left.set(left.unwrap_or(0));
        left.map(drop).ok_or(UnpackError::TooLarge { bytes_max: self.bytes_max })
    }

    pub(crate) fn take_entry(&self) -> Result<(), UnpackError> {
        self.take(ENTRY_BYTES)
    }

    pub(crate) fn taken(&self) -> u64 {
        self.bytes_max - self.left.get()
    }
}

/// Reads no more than its budget, and nothing any more once it is given up.
#[derive(Debug)]
pub(crate) struct Bounded<'a, R> {
    pub(crate) inner: R,
    pub(crate) budget: Budget,
    pub(crate) cancel: &'a CancellationToken,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.is_cancelled() {
            return Err(end(End::Cancelled));
        }
        let read = self.inner.read(buffer)?;
        match self.budget.take(read as u64) {
            Ok(()) => Ok(read),
            Err(_) => Err(end(End::Budget)),
        }
    }
}

fn end(end: End) -> io::Error {
    let error: Box<dyn Error + Send + Sync> = Box::new(end);
    io::Error::other(error)
}

/// The bytes behind a compression, which is told by how they begin: gzip, zstd, or none.
pub(crate) fn decompressed<'a>(packed: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut packed = BufReader::with_capacity(128 << 10, packed);
    Ok(match packed.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(zstd::Decoder::with_buffer(packed)?),
        _ => Box::new(packed),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn compressions_are_told_apart() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"text").unwrap();
        let zstd = zstd::encode_all(&b"text"[..], 1).unwrap();
        for packed in [gzip.finish().unwrap(), zstd, b"text".to_vec()] {
            assert_eq!(io::read_to_string(decompressed(&packed[..]).unwrap()).unwrap(), "text");
        }
        assert_eq!(io::read_to_string(decompressed(&b""[..]).unwrap()).unwrap(), "");
    }

    #[test]
    fn reading_ends_at_the_budget_and_when_given_up() {
        let cancel = CancellationToken::new();
        let mut bounded = Bounded { inner: io::repeat(0), budget: Budget::new(1000), cancel: &cancel };
        let error = io::copy(&mut bounded, &mut io::sink()).unwrap_err();
        assert!(matches!(UnpackError::read(error, 1000), UnpackError::TooLarge { bytes_max: 1000 }));
        assert_eq!(bounded.budget.taken(), 1000);
        let mut bounded = Bounded { inner: io::repeat(0), budget: Budget::new(1000), cancel: &cancel };
        cancel.cancel();
        let error = bounded.read(&mut [0]).unwrap_err();
        assert!(matches!(UnpackError::read(error, 1000), UnpackError::Cancelled));
    }
}
