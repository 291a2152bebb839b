//! The disk whose power fails, as redb sees it. Shared by the tests of the stores that redb is under.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering},
};

use redb::StorageBackend;

use super::power::Disk;

/// A disk under a process that is killed after some more writes.
#[derive(Debug)]
pub(super) struct Storage {
    disk: Disk,
    writes_left: AtomicUsize,
}

impl Storage {
    pub(super) fn of(disk: &Disk) -> Self {
        Self::killed_after(disk, usize::MAX)
    }

    pub(super) fn killed_after(disk: &Disk, writes: usize) -> Self {
        Self { disk: disk.clone(), writes_left: AtomicUsize::new(writes) }
    }

    fn alive(&self) -> io::Result<()> {
        let left =
            self.writes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        left.map(drop).map_err(|_| io::Error::other("killed"))
    }
}

impl StorageBackend for Storage {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let bytes = self.disk.bytes();
        let read = bytes.get(offset as usize..).and_then(|bytes| bytes.get(..out.len()));
        out.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.alive()?;
        self.disk.set_len(len as usize);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.alive()?;
        self.disk.sync();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.alive()?;
        self.disk.write(offset as usize, data);
        Ok(())
    }
}
