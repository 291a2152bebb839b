//! Artifacts kept for later tasks, by their address and checksum.
//!
//! ```text
//! FOLDER/
//!   kept/KEY     whole ones; their time is when they were used last
//!   parts/KEY    on their way here, with a checksum to go on by
//!   tmp/N        on their way here, or to be used once; emptied at the start
//! ```

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use crate::{digest::Digest, remove::remove_folder};

/// What is kept of one address and checksum. Of an address without a checksum it is what was there at first.
pub(super) fn key(url: &str, checksum: Option<Digest>) -> Digest {
    Digest::of(format!("{url}\0{}", checksum.map_or_else(String::new, |of| of.hex())).as_bytes())
}

#[derive(Debug)]
pub(super) struct Cache {
    folder: PathBuf,
    bytes_max: u64,
    kept: Mutex<BTreeMap<Digest, Kept>>,
    numbers: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    bytes: u64,
    used_at: SystemTime,
    file: Arc<File>,
}

/// A file; deleted, unless it is to stay, when the last who uses it is done.
#[derive(Debug)]
struct File {
    path: PathBuf,
    stays: AtomicBool,
}

impl Drop for File {
    fn drop(&mut self) {
        if !*self.stays.get_mut()
            && let Err(error) = fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = ?self.path, %error, "an artifact that is not kept cannot be removed");
        }
    }
}

/// An artifact that is here while this is held.
#[derive(Debug, Clone)]
pub(super) struct Held(Arc<File>);

impl Held {
    fn new(path: PathBuf, stays: bool) -> Self {
        Self(Arc::new(File { path, stays: AtomicBool::new(stays) }))
    }

    /// A file that is not the cache's.
    pub(super) fn foreign(path: PathBuf) -> Self {
        Self::new(path, true)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0.path
    }

    /// Leaves what is there of it for the next who wants it, if it has a place of its own.
    pub(super) fn leave(self) {
        let own = self.0.path.parent().is_some_and(|folder| folder.ends_with("parts"));
        self.0.stays.store(own, Ordering::Relaxed);
    }
}

impl Cache {
    pub(super) fn open(folder: PathBuf, bytes_max: u64) -> io::Result<Cache> {
        // What is left in part is not worth a bound of its own across restarts.
        for name in ["tmp", "parts"] {
            remove_folder(&folder.join(name))?;
        }
        for name in ["kept", "parts", "tmp"] {
            fs::create_dir_all(folder.join(name))?;
        }
        let mut kept = BTreeMap::new();
        for entry in fs::read_dir(folder.join("kept"))? {
            let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
            let key = path.file_name().and_then(|name| Digest::from_hex(&name.to_string_lossy()));
            let file = Held::new(path, key.is_some() && metadata.is_file());
            if let Some(key) = key.filter(|_| metadata.is_file()) {
                let used_at = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                kept.insert(key, Kept { bytes: metadata.len(), used_at, file: file.0 });
            }
        }
        let cache = Cache { folder, bytes_max, kept: Mutex::new(kept), numbers: AtomicU64::new(0) };
        cache.make_room(&mut cache.kept(), 0);
        Ok(cache)
    }

    /// What is kept under this key.
    pub(super) fn find(&self, key: &Digest) -> Option<Held> {
        let mut all = self.kept();
        let kept = all.get_mut(key)?;
        kept.used_at = SystemTime::now();
        let noted = fs::File::open(&kept.file.path).and_then(|file| file.set_modified(kept.used_at));
        match noted {
            Ok(()) => Some(Held(kept.file.clone())),
            Err(error) => {
                tracing::warn!(file = ?kept.file.path, %error, "an artifact of the cache is gone; fetching it again");
                all.remove(key);
                None
            }
        }
    }

    /// A file to be used once.
    pub(super) fn temporary(&self) -> Held {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        Held::new(self.folder.join("tmp").join(number.to_string()), false)
    }

    /// A file that is fetched to be kept.
    pub(super) fn partial(&self, key: &Digest) -> Held {
        Held::new(self.folder.join("parts").join(key.hex()), false)
    }

    /// Keeps a whole file, as far as there is room when what was used longer ago has gone; else it is as before.
    pub(super) fn keep(&self, key: Digest, held: Held, bytes: u64) -> io::Result<Held> {
        let mut all = self.kept();
        all.remove(&key).into_iter().for_each(|old| old.file.stays.store(false, Ordering::Relaxed));
        if !self.make_room(&mut all, bytes) {
            tracing::info!(
                bytes,
                bytes_max = self.bytes_max,
                "an artifact does not fit in the cache; it is used once"
            );
            return Ok(held);
        }
        fs::File::open(held.path())?.sync_all()?;
        let path = self.folder.join("kept").join(key.hex());
        fs::rename(held.path(), &path)?;
        let file = Arc::new(File { path, stays: AtomicBool::new(true) });
        all.insert(key, Kept { bytes, used_at: SystemTime::now(), file: file.clone() });
        Ok(Held(file))
    }

    /// Lets go of what was used longest ago until so much more fits; false when it cannot. What somebody is just using takes its room
    /// until then, and is not counted.
    fn make_room(&self, all: &mut BTreeMap<Digest, Kept>, bytes: u64) -> bool {
        if bytes > self.bytes_max {
            return false;
        }
        let mut total: u64 = all.values().map(|kept| kept.bytes).sum();
        while total + bytes > self.bytes_max {
            let oldest = all.iter().min_by_key(|(_, kept)| kept.used_at).map(|(key, _)| *key);
            let kept = oldest.and_then(|key| all.remove(&key)).expect("there is something, or there is room");
            kept.file.stays.store(false, Ordering::Relaxed);
            total -= kept.bytes;
        }
        true
    }

    pub(super) fn prune(&self) -> u64 {
        let gone = std::mem::take(&mut *self.kept());
        gone.values().for_each(|kept| kept.file.stays.store(false, Ordering::Relaxed));
        gone.values().map(|kept| kept.bytes).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.kept().values().map(|kept| kept.bytes).sum()
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<Digest, Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(cache: &Cache, name: &str, bytes: usize) -> Held {
        let held = cache.temporary();
        fs::write(held.path(), vec![0; bytes]).unwrap();
        cache.keep(key(name, None), held, bytes as u64).unwrap()
    }

    #[test]
    fn what_was_used_last_is_kept_within_the_bound() {
        let place = tempfile::tempdir().unwrap();
        let cache = Cache::open(place.path().to_owned(), 100).unwrap();
        let (a, b) = (keep(&cache, "a", 40), keep(&cache, "b", 40));
        assert!(cache.find(&key("a", None)).is_some());
        let c = keep(&cache, "c", 40);
        assert!(cache.find(&key("b", None)).is_none() && cache.find(&key("c", None)).is_some());
        assert!(b.path().exists(), "it is in use");
        let gone = b.path().to_owned();
        drop(b);
        assert!(!gone.exists() && cache.bytes() == 80);
        let large = keep(&cache, "large", 101);
        let once = large.path().to_owned();
        assert!(once.exists() && cache.bytes() == 80);
        drop((large, a, c));
        assert!(!once.exists());

        drop(cache);
        let cache = Cache::open(place.path().to_owned(), 40).unwrap();
        assert!(cache.find(&key("c", None)).is_some() && cache.bytes() == 40, "the newest is left");
        assert_eq!(cache.prune(), 40);
        assert_eq!(fs::read_dir(place.path().join("kept")).unwrap().count(), 0);
        assert_ne!(key("a", None), key("a", Some(Digest::of(b""))));
    }
}
