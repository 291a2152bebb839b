//! Tar archives, read entry by entry: ustar, with what GNU and POSIX added for long names, large numbers and extended attributes.
//!
//! The headers are taken apart by the crate `tar`. Its own iterator is not used: it splits extended records at line ends, which binary
//! attributes such as `security.capability` may hold.

use std::io::{self, Read, Seek, SeekFrom};

use tar::{EntryType, Header};

const BLOCK: u64 = 512;

/// Extended records and long names of one entry: as much as the attributes of a file may have (Linux: 64 KiB for a value), and more.
const EXTENSION_BYTES_MAX: u64 = 1 << 20;

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Symlink(Vec<u8>),
    /// The path, in the same archive, of the file that this is another name of.
    HardLink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    /// Of a kind that is not known here.
    Other,
}

/// One entry; its content follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    /// Seconds since the epoch, and nanoseconds.
    pub(crate) modified: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Reads an archive from its beginning.
pub(crate) struct Tar<R> {
    input: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    /// Where the input stands.
    position: u64,
    /// Of the content of the newest entry.
    left: u64,
    padding: u64,
}

impl<R: Read> Tar<R> {
    pub(crate) fn new(input: R) -> Self {
        Self { input, skip: read_over, position: 0, left: 0, padding: 0 }
    }

    /// The next entry; none at the end of the archive. What is left of the content of the one before is skipped.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extension = Extension::default();
        loop {
            let over = self.left + self.padding;
            (self.skip)(&mut self.input, over)?;
            (self.position, self.left, self.padding) = (self.position + over, 0, 0);
            let Some(header) = self.header()? else { return Ok(None) };
            let size = header.entry_size()?;
            let kind = header.entry_type();
            match kind {
                EntryType::XHeader => extension.records(&self.text(size)?)?,
                EntryType::XGlobalHeader => drop(self.text(size)?),
                EntryType::GNULongName => extension.path = Some(until_zero(self.text(size)?)),
                EntryType::GNULongLink => extension.link = Some(until_zero(self.text(size)?)),
                _ => {
                    let entry = extension.entry(&header, kind, size)?;
                    let content = if matches!(entry.kind, Kind::File | Kind::Other) { entry.size } else { 0 };
                    self.content_of(content);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Where the content of the newest entry begins, counted from the beginning of the archive.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// What stands behind the archive's end mark, or is left of it.
    pub(crate) fn into_rest(self) -> R {
        self.input
    }

    /// The next header; none when there is only padding left.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let mut header = Header::new_old();
        let bytes = header.as_mut_bytes();
        let mut read = 0;
        while read < bytes.len() {
            match self.input.read(&mut bytes[read..])? {
                // Some writers leave out the end mark.
                0 if read == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                more => read += more,
            }
        }
        self.position += BLOCK;
        let bytes = header.as_bytes();
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        // The checksum counts its own eight bytes as spaces.
        let sum: u32 =
            bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        match header.cksum()? == sum {
            true => Ok(Some(header)),
            false => Err(invalid("a header's checksum is wrong: it is no tar archive, or damaged")),
        }
    }

    fn content_of(&mut self, size: u64) {
        (self.left, self.padding) = (size, size.next_multiple_of(BLOCK) - size);
    }

    /// The content of an entry that says something of the next.
    fn text(&mut self, size: u64) -> io::Result<Vec<u8>> {
        if size > EXTENSION_BYTES_MAX {
            return Err(invalid("an extended header has more than 1 MiB"));
        }
        self.content_of(size);
        let mut text = Vec::new();
        self.read_to_end(&mut text)?;
        Ok(text)
    }
}

impl<R: Read + Seek> Tar<R> {
    /// Skips content without reading it.
    pub(crate) fn seeking(input: R) -> Self {
        let skip = |input: &mut R, bytes: u64| {
            let bytes = i64::try_from(bytes).map_err(|_| invalid("a size is out of range"))?;
            input.seek(SeekFrom::Current(bytes)).map(drop)
        };
        Self { skip, ..Self::new(input) }
    }
}

/// The content of the newest entry.
impl<R: Read> Read for Tar<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        (self.position, self.left) = (self.position + read as u64, self.left - read as u64);
        Ok(read)
    }
}

fn read_over<R: Read>(input: &mut R, bytes: u64) -> io::Result<()> {
    match io::copy(&mut input.take(bytes), &mut io::sink())? == bytes {
        true => Ok(()),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn until_zero(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(text.iter().position(|byte| *byte == 0).unwrap_or(text.len()));
    text
}

/// What was said of an entry before it.
#[derive(Debug, Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    modified: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: bool,
}

impl Extension {
    /// Records of the form `LENGTH KEY=VALUE\n`, where the length counts all of it.
    fn records(&mut self, mut text: &[u8]) -> io::Result<()> {
        let malformed = || invalid("an extended header is malformed");
        while !text.is_empty() && text[0] != 0 {
            let space = text.iter().take(12).position(|byte| *byte == b' ').ok_or_else(malformed)?;
            let length: usize = number(&text[..space]).ok_or_else(malformed)?;
            let record = text.get(space + 1..length).ok_or_else(malformed)?;
            let (b'\n', record) = record.split_last().ok_or_else(malformed)? else { return Err(malformed()) };
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
            self.record(&record[..equals], &record[equals + 1..]).ok_or_else(malformed)?;
            text = &text[length..];
        }
        Ok(())
    }

    fn record(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(number(value)?),
            b"uid" => self.uid = Some(number(value)?),
            b"gid" => self.gid = Some(number(value)?),
            b"mtime" => self.modified = Some(time(value)?),
            _ if key.starts_with(b"GNU.sparse.") => self.sparse = true,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Some(())
    }

    fn entry(&mut self, header: &Header, kind: EntryType, size: u64) -> io::Result<Entry> {
        let said = std::mem::take(self);
        let path = said.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = || {
            said.link
                .clone()
                .or_else(|| header.link_name_bytes().map(|link| link.into_owned()))
                .unwrap_or_default()
        };
        let device = || -> io::Result<(u32, u32)> {
            Ok((header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0)))
        };
        let kind = match kind {
            _ if said.sparse => Kind::Other,
            EntryType::Regular if path.ends_with(b"/") => Kind::Folder,
            EntryType::Regular | EntryType::Continuous => Kind::File,
            EntryType::Directory => Kind::Folder,
            EntryType::Symlink => Kind::Symlink(link()),
            EntryType::Link => Kind::HardLink(link()),
            EntryType::Char => device().map(|(major, minor)| Kind::Char(major, minor))?,
            EntryType::Block => device().map(|(major, minor)| Kind::Block(major, minor))?,
            EntryType::Fifo => Kind::Fifo,
            _ => Kind::Other,
        };
        let seconds = || header.mtime().map(|seconds| (i64::try_from(seconds).unwrap_or(i64::MAX), 0));
        Ok(Entry {
            path,
            kind,
            size: said.size.unwrap_or(size),
            mode: header.mode()? & 0o7777,
            uid: said.uid.map_or_else(|| header.uid(), Ok)?,
            gid: said.gid.map_or_else(|| header.gid(), Ok)?,
            modified: said.modified.map_or_else(seconds, Ok)?,
            xattrs: said.xattrs,
        })
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Seconds with a fraction, perhaps before the epoch.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let nanoseconds: u32 = format!("{:0<9.9}", fraction).parse().ok()?;
    let negative = seconds.starts_with('-');
    let seconds: i64 = seconds.parse().ok()?;
    Some(match negative && nanoseconds > 0 {
        true => (seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds),
        false => (seconds, nanoseconds),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(path: &str, kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_ustar();
        header.as_ustar_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        header.set_cksum();
        header
    }

    fn archive(parts: &[(&str, EntryType, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (path, kind, content) in parts {
            bytes.extend(header(path, *kind, content.len() as u64).as_bytes());
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        let length =
            (1..).find(|length| length.to_string().len() + key.len() + value.len() + 3 == *length).unwrap();
        [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn entries_with_what_is_said_of_them() {
        let long = "d/".repeat(200) + "file";
        let capability = b"\x01\n\0=\n2 a=b";
        let records = [
            record("path", b"renamed"),
            record("SCHILY.xattr.security.capability", capability),
            record("mtime", b"-1.25"),
            record("uid", b"4294967294"),
        ]
        .concat();
        let bytes = archive(&[
            ("@", EntryType::GNULongName, format!("{long}\0").as_bytes()),
            ("short", EntryType::Regular, b"content"),
            ("x", EntryType::XHeader, &records),
            ("y", EntryType::Regular, b"more"),
            ("g", EntryType::XGlobalHeader, &record("path", b"ignored")),
            ("folder/", EntryType::Regular, b""),
            ("sparse", EntryType::GNUSparse, b"data"),
            ("last", EntryType::Regular, b""),
        ]);
        let read = |mut tar: Tar<io::Cursor<Vec<u8>>>| {
            let mut entries = Vec::new();
            while let Some(entry) = tar.next().unwrap() {
                entries.push((entry, tar.position()));
            }
            entries
        };
        let entries = read(Tar::new(io::Cursor::new(bytes.clone())));
        assert_eq!(entries, read(Tar::seeking(io::Cursor::new(bytes.clone()))));
        assert_eq!(entries.len(), 5);
        assert_eq!(entries[0].0.path, long.as_bytes());
        assert_eq!(&bytes[entries[0].1 as usize..][..7], b"content");
        let renamed = &entries[1].0;
        assert_eq!((&renamed.path[..], renamed.uid, renamed.gid), (&b"renamed"[..], 4294967294, 2));
        assert_eq!(renamed.xattrs, [(b"security.capability".to_vec(), capability.to_vec())]);
        assert_eq!(renamed.modified, (-2, 750_000_000));
        assert_eq!((&entries[2].0.path[..], &entries[2].0.kind), (&b"folder/"[..], &Kind::Folder));
        assert_eq!((&entries[3].0.kind, &entries[4].0.path[..]), (&Kind::Other, &b"last"[..]));
    }

    #[test]
    fn what_is_no_archive_is_an_error() {
        let good = archive(&[("a", EntryType::Regular, b"content")]);
        let mut flipped = good.clone();
        flipped[3] ^= 1;
        let endless = header("x", EntryType::XHeader, 1 << 40);
        for bytes in [&good[..100], &good[..515], &flipped, &[7; 600][..], endless.as_bytes()] {
            let mut tar = Tar::new(bytes);
            let result = tar.next().and_then(|_| tar.next());
            assert!(result.is_err(), "{} bytes", bytes.len());
        }
        for bad in ["5 a=b\n", "x a=b\n", "6 a=bx", "99 a=b\n", "6 ab=\n", "0 a=b\n", "2 a=b\n"] {
            let result = Extension::default().records(bad.as_bytes());
            assert_eq!(result.is_err(), bad != "6 ab=\n", "{bad:?}");
        }
    }
}
