//! What is kept of images, and who uses it.
//!
//! ```text
//! FOLDER/
//!   layers/DIFF_ID/          an unpacked layer: `fs` is what a container sees, `layer.json` what is known of it
//!   images/KEY.json          what a name stood for when it was pulled; its time is when it was used last
//!   leases/HOLDER.json       the layers that a container uses
//!   downloads/DIGEST         layers on their way here, in part
//!   tmp/                     layers being unpacked or deleted; emptied at the start
//! ```
//!
//! A layer appears under its name when all of it is on disk, and not before.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use apportion_types::text::chain;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    CachedImage, OpenError,
    layer::{Rights, Unpacked},
    manifest::ImageConfig,
};
use crate::{digest::Digest, remove::remove_folder};

/// The part of a layer's folder that a container sees.
const CONTENT: &str = "fs";
const LAYER: &str = "layer.json";

/// What is left of a download that nobody went on with for so long is deleted at the start.
const DOWNLOAD_AGE_MAX: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) name: String,
    /// Of its manifest; of its configuration where there is no manifest.
    pub(super) digest: Digest,
    pub(super) config: ImageConfig,
    /// The lowest first.
    pub(super) layers: Vec<Digest>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct LayerRecord {
    bytes: u64,
    opaque: bool,
}

#[derive(Debug)]
struct Layer {
    bytes: u64,
    opaque: bool,
    used_at: SystemTime,
    pins: usize,
}

#[derive(Debug, Default)]
struct State {
    layers: BTreeMap<Digest, Layer>,
    images: BTreeMap<String, Record>,
    used_at: BTreeMap<String, SystemTime>,
    leases: BTreeMap<String, BTreeSet<Digest>>,
}

/// The folder of the images of one agent.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    rights: Rights,
    state: Mutex<State>,
    /// One collection after the other: when one is over, nothing that another has found is still on its way out.
    collecting: Mutex<()>,
    numbers: AtomicU64,
}

/// Keeps a layer from being collected while it is held.
#[derive(Debug)]
pub(super) struct Pin {
    store: std::sync::Arc<Store>,
    layer: Digest,
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(layer) = self.store.state().layers.get_mut(&self.layer) {
            layer.pins -= 1;
        }
    }
}

impl Store {
    /// Reads what earlier processes have left; leases of holders that are not among these end.
    pub(super) fn open(folder: PathBuf, holders: &BTreeSet<String>) -> Result<Self, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Folder { path, source }
        };
        let tmp = folder.join("tmp");
        remove_folder(&tmp).map_err(failed(&tmp))?;
        for name in ["layers", "images", "leases", "downloads", "tmp"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(failed(&path))?;
        }
        let rights = Rights::probe(&tmp).map_err(failed(&tmp))?;
        let (collecting, numbers) = (Mutex::default(), AtomicU64::new(0));
        let store = Self { folder, rights, state: Mutex::default(), collecting, numbers };
        let state = store.read(holders).map_err(failed(&store.folder))?;
        Ok(Self { state: Mutex::new(state), ..store })
    }

    fn read(&self, holders: &BTreeSet<String>) -> io::Result<State> {
        let mut state = State::default();
        for (name, path) in entries(&self.folder.join("layers"))? {
            match (Digest::from_hex(&name), read_json::<LayerRecord>(&path.join(LAYER))) {
                (Some(id), Some(LayerRecord { bytes, opaque })) => {
                    let layer = Layer { bytes, opaque, used_at: modified(&path), pins: 0 };
                    state.layers.insert(id, layer);
                }
                _ => self.discard(&path),
            }
        }
        for (_, path) in entries(&self.folder.join("images"))? {
            match read_json::<Record>(&path) {
                Some(record) if record.layers.iter().all(|layer| state.layers.contains_key(layer)) => {
                    state.used_at.insert(record.name.clone(), modified(&path));
                    state.images.insert(record.name.clone(), record);
                }
                _ => remove_file(&path),
            }
        }
        for (name, path) in entries(&self.folder.join("leases"))? {
            let holder = name.strip_suffix(".json").filter(|holder| holders.contains(*holder));
            match holder.and_then(|holder| Some((holder, read_json::<BTreeSet<Digest>>(&path)?))) {
                Some((holder, layers)) => drop(state.leases.insert(holder.to_owned(), layers)),
                None => remove_file(&path),
            }
        }
        let old = SystemTime::now().checked_sub(DOWNLOAD_AGE_MAX).unwrap_or(SystemTime::UNIX_EPOCH);
        for (_, path) in entries(&self.folder.join("downloads"))? {
            if modified(&path) < old {
                remove_file(&path);
            }
        }
        Ok(state)
    }

    pub(super) fn rights(&self) -> Rights {
        self.rights
    }

    /// Where a blob is fetched to.
    pub(super) fn download(&self, digest: &Digest) -> PathBuf {
        self.folder.join("downloads").join(digest.hex())
    }

    /// A new, empty folder that is gone after the next start.
    pub(super) fn temporary(&self) -> io::Result<PathBuf> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.join("tmp").join(number.to_string());
        fs::create_dir(&path)?;
        Ok(path)
    }

    /// The folder, in one of `temporary`, that a layer is unpacked to.
    pub(super) fn content(temporary: &Path) -> io::Result<PathBuf> {
        use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
        let path = temporary.join(CONTENT);
        fs::DirBuilder::new().mode(0o755).create(&path)?;
        // Whatever the process's mask is: a container's root may be entered by its users.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Takes in an unpacked layer. One that has come from elsewhere meanwhile is as good.
    pub(super) fn add(
        self: &std::sync::Arc<Self>,
        id: Digest,
        temporary: &Path,
        unpacked: Unpacked,
    ) -> io::Result<Pin> {
        let record = LayerRecord { bytes: unpacked.bytes, opaque: unpacked.opaque };
        write_json(&temporary.join(LAYER), &record, true)?;
        fs::File::open(temporary)?.sync_all()?;
        let mut state = self.state();
        if let Entry::Vacant(vacant) = state.layers.entry(id) {
            let layers = self.folder.join("layers");
            fs::rename(temporary, layers.join(id.hex()))?;
            fs::File::open(&layers)?.sync_all()?;
            vacant.insert(Layer {
                bytes: unpacked.bytes,
                opaque: unpacked.opaque,
                used_at: SystemTime::now(),
                pins: 0,
            });
        }
        Ok(self.pin_in(&mut state, id).expect("just added"))
    }

    /// Holds a layer, if it is here.
    pub(super) fn pin(self: &std::sync::Arc<Self>, id: Digest) -> Option<Pin> {
        self.pin_in(&mut self.state(), id)
    }

    fn pin_in(self: &std::sync::Arc<Self>, state: &mut State, id: Digest) -> Option<Pin> {
        let layer = state.layers.get_mut(&id)?;
        layer.pins += 1;
        layer.used_at = SystemTime::now();
        Some(Pin { store: self.clone(), layer: id })
    }

    /// What a layer takes on disk.
    pub(super) fn layer_bytes(&self, id: &Digest) -> u64 {
        self.state().layers.get(id).map_or(0, |layer| layer.bytes)
    }

    /// Remembers what a name stands for.
    pub(super) fn name(&self, record: Record) -> io::Result<()> {
        let path = self.image_path(&record.name);
        self.replace(&path, &record, true)?;
        let mut state = self.state();
        state.used_at.insert(record.name.clone(), SystemTime::now());
        state.images.insert(record.name.clone(), record);
        Ok(())
    }

    /// What a name stands for, if all of it is here.
    pub(super) fn known(&self, name: &str) -> Option<Record> {
        self.state().images.get(name).cloned()
    }

    /// Has a holder use the layers of an image, if they are here, beside those that it uses already: none of them is collected before
    /// [`Store::release`], not even by a later process. Answers with their folders, the lowest first, as far as they are seen.
    pub(super) fn lease(&self, record: &Record, holder: &str) -> io::Result<Option<Vec<PathBuf>>> {
        let mut state = self.state();
        if !record.layers.iter().all(|layer| state.layers.contains_key(layer)) {
            return Ok(None);
        }
        let mut leased = state.leases.get(holder).cloned().unwrap_or_default();
        leased.extend(&record.layers);
        // Containers do not outlive a crash of the machine, which is all that more care would be for.
        self.replace(&self.lease_path(holder), &leased, false)?;
        state.leases.insert(holder.to_owned(), leased);
        let now = SystemTime::now();
        state.used_at.insert(record.name.clone(), now);
        touch(&self.image_path(&record.name));
        for id in &record.layers {
            touch(&self.layer_path(id));
            state.layers.get_mut(id).expect("all are here").used_at = now;
        }
        let opaque = |id: &&Digest| state.layers.get(id).is_some_and(|layer| layer.opaque);
        Ok(Some(seen(&record.layers, opaque).iter().map(|id| self.layer_path(id).join(CONTENT)).collect()))
    }

    /// Ends what a holder uses; one that uses nothing is no error.
    pub(super) fn release(&self, holder: &str) {
        if self.state().leases.remove(holder).is_some() {
            remove_file(&self.lease_path(holder));
        }
    }

    /// Deletes layers that nobody uses, least recently used first, and then what is left of downloads that nobody goes on with, until
    /// the rest is within this bound. Says how much is freed.
    pub(super) fn collect(&self, bytes_max: u64, is_under_way: impl Fn(&Digest) -> bool) -> u64 {
        let _one = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut downloads: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for (name, path) in entries(&self.folder.join("downloads")).unwrap_or_default() {
            if !Digest::from_hex(&name).is_some_and(|digest| is_under_way(&digest)) {
                let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                downloads.push((modified(&path), bytes, path));
            }
        }
        downloads.sort();
        let in_part: u64 = downloads.iter().map(|(_, bytes, _)| bytes).sum();
        let mut gone = Vec::new();
        let mut freed = 0;
        let mut state = self.state();
        let mut total = in_part + state.layers.values().map(|layer| layer.bytes).sum::<u64>();
        for (_, bytes, path) in downloads {
            if total <= bytes_max {
                break;
            }
            remove_file(&path);
            (total, freed) = (total - bytes, freed + bytes);
        }
        while total > bytes_max {
            let leased: BTreeSet<&Digest> = state.leases.values().flatten().collect();
            let idle = state.layers.iter().filter(|(id, layer)| layer.pins == 0 && !leased.contains(id));
            let Some((id, bytes)) =
                idle.min_by_key(|(_, layer)| layer.used_at).map(|(id, layer)| (*id, layer.bytes))
            else {
                tracing::info!(
                    bytes = total,
                    bytes_max,
                    "the cache of images is above its bound: all of it is in use"
                );
                break;
            };
            gone.extend(self.take_out(&mut state, id));
            (total, freed) = (total - bytes, freed + bytes);
        }
        drop(state);
        for path in gone {
            self.delete(&path);
        }
        freed
    }

    /// Deletes those of these layers that nobody uses and no name stands for.
    pub(super) fn drop_unnamed(&self, ids: &[Digest]) {
        let mut state = self.state();
        let named: BTreeSet<Digest> =
            state.images.values().flat_map(|record| record.layers.clone()).collect();
        let leased: BTreeSet<Digest> = state.leases.values().flatten().copied().collect();
        let idle = |state: &State, id: &Digest| state.layers.get(id).is_some_and(|layer| layer.pins == 0);
        let gone: Vec<PathBuf> = ids
            .iter()
            .filter(|id| !named.contains(id) && !leased.contains(id))
            .filter_map(|id| idle(&state, id).then(|| self.take_out(&mut state, *id)).flatten())
            .collect();
        drop(state);
        for path in gone {
            self.delete(&path);
        }
    }

    /// Moves a layer out of its place, with the names that stand for it; answers with where it is to be deleted.
    fn take_out(&self, state: &mut State, id: Digest) -> Option<PathBuf> {
        let named = |record: &Record| record.layers.contains(&id);
        let names: Vec<String> =
            state.images.values().filter(|record| named(record)).map(|record| record.name.clone()).collect();
        for name in names {
            remove_file(&self.image_path(&name));
            state.images.remove(&name);
            state.used_at.remove(&name);
        }
        state.layers.remove(&id);
        let moved = self.temporary().and_then(|place| {
            fs::rename(self.layer_path(&id), place.join("layer"))?;
            Ok(place)
        });
        match moved {
            Ok(place) => Some(place),
            Err(error) => {
                tracing::warn!(layer = %id, %error, "a layer that nobody uses cannot be removed");
                None
            }
        }
    }

    /// All that is known of what is here, by name.
    pub(super) fn list(&self) -> Vec<CachedImage> {
        let state = self.state();
        let leased: BTreeSet<&Digest> = state.leases.values().flatten().collect();
        let used =
            |id: &Digest| leased.contains(id) || state.layers.get(id).is_some_and(|layer| layer.pins > 0);
        let image = |record: &Record| {
            let layers: BTreeSet<&Digest> = record.layers.iter().collect();
            CachedImage {
                name: record.name.clone(),
                digest: record.digest,
                bytes: layers.iter().filter_map(|id| state.layers.get(id)).map(|layer| layer.bytes).sum(),
                used_at: state.used_at.get(&record.name).copied().unwrap_or(SystemTime::UNIX_EPOCH),
                in_use: record.layers.iter().any(used),
            }
        };
        state.images.values().map(image).collect()
    }

    /// What all layers take.
    pub(super) fn bytes(&self) -> u64 {
        self.state().layers.values().map(|layer| layer.bytes).sum()
    }

    /// Deletes a folder of `temporary`.
    pub(super) fn delete(&self, path: &Path) {
        if let Err(error) = remove_folder(path) {
            tracing::warn!(folder = ?path, %error, "a folder that nobody uses cannot be removed; it is tried again at the next start");
        }
    }

    /// Moves away what is damaged, and deletes it.
    fn discard(&self, path: &Path) {
        tracing::warn!(folder = ?path, "what is kept of a layer is not whole; removing it");
        self.delete(path);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn layer_path(&self, id: &Digest) -> PathBuf {
        self.folder.join("layers").join(id.hex())
    }

    fn image_path(&self, name: &str) -> PathBuf {
        self.folder.join("images").join(format!("{}.json", Digest::of(name.as_bytes()).hex()))
    }

    fn lease_path(&self, holder: &str) -> PathBuf {
        self.folder.join("leases").join(format!("{holder}.json"))
    }

    /// Writes a file so that a crash leaves the old or the new one.
    fn replace(&self, path: &Path, value: &impl Serialize, durable: bool) -> io::Result<()> {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let new = self.folder.join("tmp").join(format!("{number}.json"));
        write_json(&new, value, durable)?;
        fs::rename(&new, path)
    }
}

/// The layers of an image that are seen: nothing below one that hides all, and of one that comes twice the upper, which has the whole
/// of the lower (overlayfs would refuse it).
fn seen(layers: &[Digest], opaque: impl Fn(&&Digest) -> bool) -> Vec<Digest> {
    let from = layers.iter().rposition(|id| opaque(&id)).unwrap_or(0);
    let later = |index: usize, id: &Digest| layers[index + 1..].contains(id);
    let seen = layers.iter().enumerate().skip(from).filter(|(index, id)| !later(*index, id));
    seen.map(|(_, id)| *id).collect()
}

fn write_json(path: &Path, value: &impl Serialize, durable: bool) -> io::Result<()> {
    let bytes = serde_json::to_vec(value)?;
    let mut file = fs::File::create(path)?;
    io::Write::write_all(&mut file, &bytes)?;
    if durable { file.sync_all() } else { Ok(()) }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn entries(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())))
        .collect()
}

fn modified(path: &Path) -> SystemTime {
    fs::symlink_metadata(path).and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Notes the use of something; that is only a hint for a later process.
fn touch(path: &Path) {
    let touched = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(file = ?path, error = chain(&error), "the time of the last use cannot be noted");
    }
}

fn remove_file(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = ?path, %error, "a file that is not needed any more cannot be removed");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn open(folder: &Path, holders: &[&str]) -> Arc<Store> {
        let holders = holders.iter().map(|holder| (*holder).to_owned()).collect();
        Arc::new(Store::open(folder.to_owned(), &holders).unwrap())
    }

    fn id(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn add(store: &Arc<Store>, name: &str, bytes: u64) -> Pin {
        let temporary = store.temporary().unwrap();
        fs::write(Store::content(&temporary).unwrap().join("file"), name).unwrap();
        store.add(id(name), &temporary, Unpacked { bytes, opaque: false }).unwrap()
    }

    fn image(store: &Arc<Store>, name: &str, layers: &[&str]) -> Record {
        let layers = layers.iter().map(|layer| id(layer)).collect();
        let record =
            Record { name: name.to_owned(), digest: id(name), config: ImageConfig::default(), layers };
        store.name(record.clone()).unwrap();
        record
    }

    fn layers(folder: &Path) -> usize {
        fs::read_dir(folder.join("layers")).unwrap().count()
    }

    #[test]
    fn what_is_used_is_never_collected_and_the_rest_by_its_last_use() {
        let place = tempfile::tempdir().unwrap();
        let store = open(place.path(), &[]);
        let pins: Vec<Pin> = ["a", "b", "c", "d"].iter().map(|name| add(&store, name, 10)).collect();
        let (first, second) = (image(&store, "first", &["a", "b"]), image(&store, "second", &["a", "c"]));
        let third = image(&store, "third", &["d"]);
        drop(pins);
        assert!(store.lease(&second, "task").unwrap().is_some());
        // Used last of those that nobody holds.
        store.lease(&first, "ended").unwrap().unwrap();
        store.release("ended");
        assert_eq!(store.collect(30, |_| false), 10);
        assert_eq!((store.known("third"), layers(place.path())), (None, 3));
        assert!(store.known("first").is_some());
        let pin = store.pin(id("b")).unwrap();
        assert_eq!(store.collect(0, |_| false), 0);
        drop(pin);
        assert_eq!(store.collect(0, |_| false), 10);
        assert_eq!((store.bytes(), store.known("first")), (20, None));
        assert!(store.lease(&third, "late").unwrap().is_none());

        // A later process, to which only containers that still are say what is used.
        drop(store);
        let store = open(place.path(), &["task"]);
        assert_eq!((store.collect(0, |_| false), layers(place.path())), (0, 2));
        let [listed] = &store.list()[..] else { panic!("one image") };
        assert!(listed.in_use && listed.name == "second" && listed.bytes == 20);
        drop(store);
        let store = open(place.path(), &[]);
        assert_eq!((store.collect(0, |_| false), layers(place.path())), (20, 0));
        assert_eq!(fs::read_dir(place.path().join("leases")).unwrap().count(), 0);
    }

    #[test]
    fn a_crash_leaves_nothing_that_counts() {
        let place = tempfile::tempdir().unwrap();
        let store = open(place.path(), &[]);
        drop(add(&store, "a", 1));
        image(&store, "good", &["a"]);
        image(&store, "partial", &["a", "missing"]);
        let temporary = store.temporary().unwrap();
        Store::content(&temporary).unwrap();
        let damaged = place.path().join("layers").join(id("damaged").hex());
        fs::create_dir_all(damaged.join(CONTENT)).unwrap();
        fs::write(damaged.join(LAYER), "{\"by").unwrap();
        fs::write(place.path().join("images/x.json"), "").unwrap();
        drop(store);
        let store = open(place.path(), &[]);
        assert!(store.known("good").is_some() && store.known("partial").is_none());
        assert!(!damaged.exists() && !temporary.exists());
        assert_eq!(
            (layers(place.path()), fs::read_dir(place.path().join("images")).unwrap().count()),
            (1, 1)
        );
        // A number used before is not used for another folder of the same process.
        assert_ne!(store.temporary().unwrap(), store.temporary().unwrap());
    }

    #[test]
    fn what_is_hidden_or_comes_twice_is_not_mounted() {
        let [a, b, c] = ["a", "b", "c"].map(id);
        let plain = |_: &&Digest| false;
        assert_eq!(seen(&[a, b, c], plain), [a, b, c]);
        assert_eq!(seen(&[a, b, a, c, a], plain), [b, c, a]);
        assert_eq!(seen(&[a, b, c], |id| **id == b), [b, c]);
        assert!(seen(&[], plain).is_empty());
    }

    #[test]
    fn downloads_that_nobody_goes_on_with_go_first() {
        let place = tempfile::tempdir().unwrap();
        let store = open(place.path(), &[]);
        drop(add(&store, "a", 10));
        fs::write(store.download(&id("x")), [0; 7]).unwrap();
        fs::write(store.download(&id("y")), [0; 5]).unwrap();
        assert_eq!(store.collect(15, |digest| *digest == id("y")), 7);
        assert!(store.download(&id("y")).exists() && !store.download(&id("x")).exists());
    }
}
