//! The files that tasks leave in their sandboxes, and that a job wants to keep.
//!
//! `Walk` decides which folders to look into and which files to take; [`collect`] does it. What an agent answers is not believed: no name
//! leads out of the folder into which the files are copied, and neither folders nor files are without end.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path, PathBuf},
    time::Duration,
};

use apportion_sdk::sandbox::{Entry, Files, Kind, SandboxError};
use glob::Pattern;
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{output::part_of, state::Attempt};

/// Files of one task; whoever leaves more wants an archive.
pub const FILES_MAX: usize = 10_000;

/// Names in the sandbox of one task that are looked at.
const NAMES_MAX: usize = 100_000;

/// How deep folders may lie within each other.
const DEPTH_MAX: usize = 64;

/// How long an agent may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Why not all files were collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    /// The agent did not answer well.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// It did not answer at all.
    #[error("the agent at {address} was silent for {SILENCE_MAX:?}")]
    Silent {
        /// The agent.
        address: String,
    },
    /// A file could not be written here.
    #[error("cannot write {}: {source}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pattern found nothing.
    #[error("the task left no file that matches `{pattern}`")]
    Nothing {
        /// The pattern.
        pattern: String,
    },
    /// More than are collected.
    #[error("{what}; have the task make an archive of them")]
    TooMany {
        /// Of what.
        what: String,
    },
}

/// A way through a sandbox.
#[derive(Debug)]
struct Walk<'a> {
    patterns: &'a [Pattern],
    /// Patterns that have found nothing yet.
    idle: BTreeSet<usize>,
    /// Folders to look into, each with the name behind which to go on.
    open: Vec<(PathBuf, OsString)>,
    names: usize,
    found: Vec<PathBuf>,
}

impl<'a> Walk<'a> {
    fn new(patterns: &'a [Pattern]) -> Self {
        let open = vec![(PathBuf::new(), OsString::new())];
        Self { patterns, idle: (0..patterns.len()).collect(), open, names: 0, found: Vec::new() }
    }

    /// What is in a folder, or a part of it. Links are not followed: they may lead anywhere.
    fn take(&mut self, folder: &Path, entries: &[Entry], more: bool) -> Result<(), CollectError> {
        self.names += entries.len();
        if self.names > NAMES_MAX {
            return Err(CollectError::TooMany {
                what: format!("more than {NAMES_MAX} names in the sandbox"),
            });
        }
        if let (true, Some(last)) = (more, entries.last()) {
            self.open.push((folder.to_owned(), last.name.clone()));
        }
        for entry in entries.iter().filter(|entry| is_name(&entry.name)) {
            let path = folder.join(&entry.name);
            match entry.kind {
                Kind::Folder if path.components().count() < DEPTH_MAX => {
                    self.open.push((path, OsString::new()))
                }
                Kind::File => self.consider(path)?,
                Kind::Folder | Kind::Link(_) | Kind::Special => {}
            }
        }
        Ok(())
    }

    fn consider(&mut self, path: PathBuf) -> Result<(), CollectError> {
        let like_a_shell = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let before = self.found.len();
        for (number, pattern) in self.patterns.iter().enumerate() {
            if pattern.matches_path_with(&path, like_a_shell) {
                self.idle.remove(&number);
                self.found.truncate(before);
                self.found.push(path.clone());
            }
        }
        match self.found.len() > FILES_MAX {
            true => Err(CollectError::TooMany { what: format!("more than {FILES_MAX} files match") }),
            false => Ok(()),
        }
    }

    /// Every file that is wanted; an error when a pattern found none: who asked for it misses something.
    fn finish(mut self) -> Result<Vec<PathBuf>, CollectError> {
        if let Some(number) = self.idle.first() {
            return Err(CollectError::Nothing { pattern: self.patterns[*number].as_str().to_owned() });
        }
        self.found.sort();
        Ok(self.found)
    }
}

/// Whether this is the name of something in a folder, and no way out of it.
fn is_name(name: &OsStr) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(one)), None) if one == name)
}

/// Copies the files of a sandbox that match into a folder, which is made for them, under the paths that they have there. Gives their number.
pub async fn collect(attempt: &Attempt, patterns: &[Pattern], into: &Path) -> Result<u64, CollectError> {
    let address = &attempt.host.address;
    let silent = |_| CollectError::Silent { address: address.clone() };
    let connecting = Files::connect(address, attempt.host.framework_id.clone(), attempt.id.clone());
    let mut files = timeout(SILENCE_MAX, connecting).await.map_err(silent)??;
    let mut walk = Walk::new(patterns);
    while let Some((folder, after)) = walk.open.pop() {
        let listing = timeout(SILENCE_MAX, files.list(&folder, &after)).await.map_err(silent)??;
        walk.take(&folder, &listing.entries, listing.more)?;
    }
    let found = walk.finish()?;
    for path in &found {
        let file = into.join(path);
        let refuse = |source| CollectError::Write { file: file.clone(), source };
        if let Some(folder) = file.parent() {
            tokio::fs::create_dir_all(folder).await.map_err(refuse)?;
        }
        // Written beside its place and moved there when it is whole, so that whoever finds it finds all of it.
        let part = part_of(&file, attempt);
        let mut target = tokio::fs::File::create(&part).await.map_err(refuse)?;
        let mut source = timeout(SILENCE_MAX, files.read(path)).await.map_err(silent)??;
        while let Some(chunk) = timeout(SILENCE_MAX, source.chunk()).await.map_err(silent)?? {
            target.write_all(&chunk.data).await.map_err(refuse)?;
        }
        target.flush().await.map_err(refuse)?;
        tokio::fs::rename(&part, &file).await.map_err(refuse)?;
    }
    Ok(found.len() as u64)
}

#[cfg(test)]
mod tests {
    use apportion_sdk::Time;

    use super::*;

    fn entry(name: &str, kind: Kind) -> Entry {
        let name = OsString::from(name);
        Entry { name, kind, size_bytes: 1, mode: 0o644, modified_at: Time::ZERO, user: 0, group: 0 }
    }

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::new(text).unwrap()).collect()
    }

    /// A sandbox with these files, listed two names at a time.
    fn walk(files: &[&str], wanted: &[&str]) -> Result<Vec<String>, CollectError> {
        let patterns = patterns(wanted);
        let mut walk = Walk::new(&patterns);
        while let Some((folder, after)) = walk.open.pop() {
            let mut there = std::collections::BTreeMap::new();
            for rest in files.iter().filter_map(|file| Path::new(file).strip_prefix(&folder).ok()) {
                let mut components = rest.components();
                let name = components.next().unwrap().as_os_str().to_str().unwrap().to_owned();
                there.insert(name, if components.next().is_some() { Kind::Folder } else { Kind::File });
            }
            let rest: Vec<_> =
                there.into_iter().filter(|(name, _)| OsStr::new(name) > after.as_os_str()).collect();
            let part: Vec<_> = rest.iter().take(2).map(|(name, kind)| entry(name, kind.clone())).collect();
            walk.take(&folder, &part, rest.len() > 2)?;
        }
        Ok(walk.finish()?.into_iter().map(|path| path.display().to_string()).collect())
    }

    #[test]
    fn every_file_that_matches_is_found_once() {
        let files = ["a.csv", "b.csv", "c.txt", "d.csv", "plots/x.svg", "plots/deep/y.svg", "stdout"];
        let found = walk(&files, &["*.csv", "b*", "plots/**/*"]).unwrap();
        assert_eq!(found, ["a.csv", "b.csv", "d.csv", "plots/deep/y.svg", "plots/x.svg"]);
        assert_eq!(walk(&files, &["plots/*"]).unwrap(), ["plots/x.svg"], "a star ends at a folder");
        let message = walk(&files, &["*.csv", "*.none"]).unwrap_err().to_string();
        assert_eq!(message, "the task left no file that matches `*.none`");
    }

    #[test]
    fn no_name_leads_out_of_the_folder_and_no_link_is_followed() {
        let patterns = patterns(&["**/*"]);
        let mut walk = Walk::new(&patterns);
        walk.open.clear();
        let wicked = ["..", "../x", "/etc/passwd", "a/b", ".", ""].map(|name| entry(name, Kind::File));
        walk.take(Path::new("in"), &wicked, false).unwrap();
        walk.take(
            Path::new("in"),
            &[entry("..", Kind::Folder), entry("l", Kind::Link("/etc".into()))],
            false,
        )
        .unwrap();
        assert!(walk.found.is_empty() && walk.open.is_empty(), "{walk:?}");
    }

    #[test]
    fn neither_names_nor_files_are_without_end() {
        let patterns = patterns(&["*"]);
        let many = |count: usize, kind: Kind| -> Vec<_> {
            (0..count).map(|number| entry(&number.to_string(), kind.clone())).collect()
        };
        let message =
            Walk::new(&patterns).take(Path::new(""), &many(FILES_MAX + 1, Kind::File), false).unwrap_err();
        assert_eq!(message.to_string(), "more than 10000 files match; have the task make an archive of them");
        assert!(
            Walk::new(&patterns).take(Path::new(""), &many(NAMES_MAX + 1, Kind::Special), false).is_err()
        );
        let mut walk = Walk::new(&patterns);
        walk.open.clear();
        let deep: PathBuf = vec!["d"; DEPTH_MAX].iter().collect();
        walk.take(&deep, &[entry("d", Kind::Folder)], false).unwrap();
        assert!(walk.open.is_empty());
    }
}
