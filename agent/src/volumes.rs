//! The data of persistent volumes: a folder each, which outlives the tasks that use it.
//!
//! A volume that is destroyed is first moved out of its place, at once, and then deleted by a thread of its own. What is cut off or
//! fails is done at the next start.

use std::{
    collections::BTreeSet,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    thread,
};

use apportion_agent_core::{VolumeKey, VolumePlan};
use apportion_containerizer::PersistentVolume;
use apportion_types::{Role, VolumeId, text::chain};

use crate::paths::Paths;

/// Why a persistent volume cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    /// Its folder is not there and cannot be made.
    #[error(
        "folder {path:?} of persistent volume `{}` of role `{}` cannot be made; check space and permissions of the agent's work directory",
        .volume.1, .volume.0
    )]
    Make { volume: VolumeKey, path: PathBuf, source: io::Error },
    /// What an earlier volume of the same name has left cannot be moved away.
    #[error(
        "folder {path:?} holds data of a destroyed volume `{}` of role `{}` that cannot be deleted; check permissions of the agent's work directory",
        .volume.1, .volume.0
    )]
    Delete { volume: VolumeKey, path: PathBuf, source: io::Error },
}

/// The volumes of this agent.
#[derive(Debug)]
pub(crate) struct Volumes {
    paths: Paths,
    /// Destroyed ones whose data could not be moved away: nobody else is to see it.
    undeleted: BTreeSet<VolumeKey>,
}

impl Volumes {
    /// Also begins to delete what earlier processes have left of destroyed ones.
    pub(crate) fn new(paths: Paths) -> Self {
        let volumes = Self { paths, undeleted: BTreeSet::new() };
        volumes.sweep();
        volumes
    }

    /// Makes an empty one; a failure is tried again when a task is to use it.
    pub(crate) fn make(&mut self, volume: &VolumeKey) {
        if let Err(error) = self.prepare(volume) {
            tracing::error!(error = chain(&error), "a persistent volume cannot be made");
        }
    }

    /// Deletes one with its data.
    pub(crate) fn delete(&mut self, volume: &VolumeKey) {
        match self.move_away(volume) {
            Ok(()) => self.sweep(),
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "a destroyed volume is not deleted; it is tried again at the next start"
                );
                self.undeleted.insert(volume.clone());
            }
        }
    }

    /// Deletes all but these, and makes those that are missing.
    pub(crate) fn keep(&mut self, kept: &BTreeSet<VolumeKey>) {
        let mut found = Vec::new();
        if let Err((path, error)) = find(&self.paths.volumes(), "", &mut found) {
            tracing::error!(?path, %error, "folder of persistent volumes cannot be read; destroyed ones in it are kept");
        }
        for volume in found.iter().filter(|volume| !kept.contains(volume)) {
            tracing::info!(role = %volume.0, volume = %volume.1, "deleting a destroyed volume");
            self.delete(volume);
        }
        for volume in kept.iter().filter(|volume| !found.contains(volume)) {
            tracing::warn!(role = %volume.0, volume = %volume.1, "persistent volume has no folder; making an empty one");
            self.make(volume);
        }
    }

    /// What a container needs to see one.
    pub(crate) fn mount(&mut self, plan: &VolumePlan) -> Result<PersistentVolume, VolumeError> {
        self.prepare(&plan.volume)?;
        let (role, volume_id) = &plan.volume;
        Ok(PersistentVolume { source: self.paths.volume(role, volume_id), path: PathBuf::from(&plan.path) })
    }

    /// Has its folder there, without anything of an earlier one.
    fn prepare(&mut self, volume: &VolumeKey) -> Result<(), VolumeError> {
        if self.undeleted.contains(volume) {
            self.move_away(volume)?;
            self.undeleted.remove(volume);
            self.sweep();
        }
        let path = self.paths.volume(&volume.0, &volume.1);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
        made.map_err(|source| VolumeError::Make { volume: volume.clone(), path, source })
    }

    fn move_away(&self, volume: &VolumeKey) -> Result<(), VolumeError> {
        let path = self.paths.volume(&volume.0, &volume.1);
        let deleted = self.paths.deleted_volumes();
        let moved = DirBuilder::new().recursive(true).mode(0o700).create(&deleted);
        moved.and_then(|()| move_into(&path, &deleted)).map_err(|source| VolumeError::Delete {
            volume: volume.clone(),
            path: path.clone(),
            source,
        })?;
        // Folders of roles without volumes; the first that holds another one ends it.
        let above = path.ancestors().skip(1).take_while(|above| *above != self.paths.volumes());
        let _ = above.map(fs::remove_dir).find(Result::is_err);
        Ok(())
    }

    /// Deletes what was moved away, for as long as it takes.
    fn sweep(&self) {
        let deleted = self.paths.deleted_volumes();
        let sweep = move || {
            let Ok(entries) = fs::read_dir(&deleted) else { return };
            for path in entries.flatten().map(|entry| entry.path()) {
                match fs::remove_dir_all(&path) {
                    // Another thread was there first.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        tracing::error!(?path, %error, "data of a destroyed volume is not deleted; it is tried again at the next start");
                    }
                    Ok(()) => {}
                }
            }
        };
        // It ends with the process, also half-way.
        if let Err(error) = thread::Builder::new().name("volumes".to_owned()).spawn(sweep) {
            tracing::error!(%error, "no thread can be started to delete destroyed volumes; it is tried again at the next start");
        }
    }
}

/// Moves a folder, if it is there, into another under a name that is free there.
fn move_into(path: &Path, folder: &Path) -> io::Result<()> {
    for number in 0_u64.. {
        match fs::rename(path, folder.join(number.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            moved => return moved,
        }
    }
    Ok(())
}

/// Every volume of a role and those below it; what is no volume of ours is passed over.
fn find(folder: &Path, role: &str, found: &mut Vec<VolumeKey>) -> Result<(), (PathBuf, io::Error)> {
    for (name, path) in folders(folder)? {
        if name != Paths::VOLUMES_OF_ROLE {
            let below = if role.is_empty() { name } else { format!("{role}/{name}") };
            find(&path, &below, found)?;
        } else if let Ok(role) = Role::new(role) {
            let ids = folders(&path)?.into_iter().filter_map(|(name, _)| VolumeId::new(name).ok());
            found.extend(ids.map(|id| (role.clone(), id)));
        }
    }
    Ok(())
}

/// The folders in a folder; none when it is not there.
fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, (PathBuf, io::Error)> {
    let failed = |error| (folder.to_owned(), error);
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, time::Duration};

    use super::*;

    fn key(role: &str, volume: &str) -> VolumeKey {
        (Role::new(role).unwrap(), VolumeId::new(volume).unwrap())
    }

    fn volumes() -> (tempfile::TempDir, Paths, Volumes) {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::new(folder.path().join("work"));
        (folder, paths.clone(), Volumes::new(paths))
    }

    /// Waits for the thread that deletes.
    fn swept(paths: &Paths) {
        let left = || fs::read_dir(paths.deleted_volumes()).is_ok_and(|mut left| left.next().is_some());
        for _ in 0..6000 {
            if !left() {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("destroyed volumes are left");
    }

    #[test]
    fn what_is_destroyed_is_gone_at_once_and_links_lead_nowhere() {
        let (folder, paths, mut volumes) = volumes();
        let outside = folder.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "x").unwrap();
        let data = key("eng", "data");
        let path = paths.volume(&data.0, &data.1);
        for _ in 0..3 {
            volumes.make(&data);
            assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
            fs::create_dir(path.join("a")).unwrap();
            fs::write(path.join("a/file"), "x").unwrap();
            symlink(&outside, path.join("link")).unwrap();
            symlink(&outside, path.join("a/link")).unwrap();
            volumes.delete(&data);
            assert!(!path.exists());
        }
        volumes.delete(&data);
        swept(&paths);
        assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "x");
        assert_eq!(fs::read_dir(paths.volumes()).unwrap().count(), 0, "no folder of a role is left");
    }

    #[test]
    fn a_start_keeps_what_is_to_be_kept_and_deletes_all_else() {
        let (_folder, paths, mut volumes) = volumes();
        let [one, two, below, gone] =
            [key("eng", "one"), key("eng", "ads"), key("eng/ads", "one"), key("ops", "one")];
        for volume in [&one, &two, &below, &gone] {
            volumes.make(volume);
            fs::write(paths.volume(&volume.0, &volume.1).join("file"), "x").unwrap();
        }
        fs::create_dir(paths.deleted_volumes()).unwrap();
        fs::create_dir(paths.deleted_volumes().join("7")).unwrap();
        fs::write(paths.volumes().join("note"), "not ours").unwrap();
        let missing = key("ops", "two");
        let kept = BTreeSet::from([one.clone(), below.clone(), missing.clone()]);
        let mut volumes = Volumes::new(paths.clone());
        volumes.keep(&kept);
        for volume in [&one, &below] {
            assert!(paths.volume(&volume.0, &volume.1).join("file").exists(), "{volume:?}");
        }
        assert!(paths.volume(&missing.0, &missing.1).is_dir());
        for volume in [&two, &gone] {
            assert!(!paths.volume(&volume.0, &volume.1).exists(), "{volume:?}");
        }
        assert!(paths.volumes().join("note").exists());
        swept(&paths);
    }

    #[test]
    fn data_that_cannot_be_deleted_is_shown_to_nobody() {
        let (_folder, paths, mut volumes) = volumes();
        let data = key("eng", "data");
        volumes.make(&data);
        let path = paths.volume(&data.0, &data.1);
        fs::write(path.join("secret"), "x").unwrap();
        // A file in the place of the folder that it would be moved to.
        let deleted = paths.deleted_volumes();
        fs::write(&deleted, "").unwrap();
        volumes.delete(&data);
        volumes.make(&data);
        let plan = VolumePlan { volume: data.clone(), path: "data".to_owned() };
        let message = volumes.mount(&plan).unwrap_err().to_string();
        assert!(message.contains("destroyed volume `data` of role `eng`"), "{message}");
        fs::remove_file(&deleted).unwrap();
        assert_eq!(volumes.mount(&plan).unwrap().source, path);
        assert!(!path.join("secret").exists());
        swept(&paths);
    }
}
