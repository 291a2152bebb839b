//! A job as it is handed over to somebody else: its file, with everything that was taken from around it.
//!
//! Whoever gets it makes the same job of it, on any machine and at any later time, without looking at a file: what the globs found is
//! within. So a daemon needs no right to read what its users may read, and a job does not change over its restarts.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{Elements, FILE_BYTES_MAX, Job, JobError, array::ArrayError};

/// What globs have found, by the key that says them.
type Found = BTreeMap<String, Vec<String>>;

/// A job file with all that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submission {
    /// Names the file in errors.
    pub file: PathBuf,
    /// Its text.
    pub text: String,
    /// `name=value` for parameters.
    #[serde(default)]
    pub settings: Vec<String>,
    /// From where relative paths are taken.
    pub folder: PathBuf,
    /// The files that its globs found, by the keys of these.
    #[serde(default)]
    pub found: Found,
}

impl Submission {
    /// Reads a job file, checks it, and looks up what its globs find.
    pub fn load(file: &Path, settings: &[String], folder: &Path) -> Result<(Submission, Job), JobError> {
        let text = super::read(file)?;
        let found = RefCell::default();
        let job = Job::of_text(file, &text, settings, Files::Look { folder, found: &found })?;
        let (file, settings, folder) = (file.to_owned(), settings.to_vec(), folder.to_owned());
        Ok((Submission { file, text, settings, folder, found: found.into_inner() }, job))
    }

    /// The job; what comes from outside is checked as a file is.
    pub fn job(&self) -> Result<Job, JobError> {
        let bytes = self.text.len() as u64;
        if bytes > FILE_BYTES_MAX {
            return Err(JobError::TooLarge { file: self.file.clone(), bytes });
        }
        let files = Files::Given { folder: &self.folder, found: &self.found };
        Job::of_text(&self.file, &self.text, &self.settings, files)
    }
}

/// Where the files of globs come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Files<'a> {
    /// From the disk; what is found is noted.
    Look { folder: &'a Path, found: &'a RefCell<Found> },
    /// From whoever looked before.
    Given { folder: &'a Path, found: &'a Found },
}

impl Files<'_> {
    /// From where relative paths are taken.
    pub(super) fn folder(&self) -> &Path {
        match self {
            Files::Look { folder, .. } | Files::Given { folder, .. } => folder,
        }
    }

    /// The files of the glob that stands at this key.
    pub(super) fn glob(&self, key: &str, pattern: &str, exclude: &[String]) -> Result<Elements, ArrayError> {
        match self {
            Files::Look { folder, found } => {
                let elements = Elements::glob(folder, pattern, exclude)?;
                if let Elements::Files(files) = &elements {
                    found.borrow_mut().insert(key.to_owned(), files.clone());
                }
                Ok(elements)
            }
            Files::Given { found, .. } => {
                let files = found.get(key).filter(|files| files.iter().all(|file| file.starts_with('/')));
                let elements = Elements::Files(files.cloned().ok_or(ArrayError::NotFound)?);
                elements.check(false).map(|()| elements)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_job_is_the_same_when_its_files_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.txt", "b.txt"] {
            std::fs::write(dir.path().join(name), "x").unwrap();
        }
        let file = dir.path().join("job.toml");
        let text = "name = \"j\"\noutput = \"out\"\n[params]\nkind = \"md\"\n[stage.one]\ncommand = \"cat ${item}\"\n\
                    array = { glob = \"*.${kind}\" }\n[stage.two]\nafter_each = [\"one\"]\ncommand = \"true\"\n\
                    [stage.three]\ncommand = \"true\"\n[stage.three.array.axes]\nfile = { glob = \"a.*\" }\n\
                    level = { range = [1, 2] }\n";
        std::fs::write(&file, text).unwrap();
        let (submission, job) = Submission::load(&file, &["kind=txt".to_owned()], dir.path()).unwrap();
        assert_eq!(job.tasks(), 6);
        drop(dir);
        let sent = serde_json::to_string(&submission).unwrap();
        let got: Submission = serde_json::from_str(&sent).unwrap();
        assert_eq!(got.job().unwrap(), job);

        let wrong = Submission { found: BTreeMap::new(), ..got.clone() }.job().unwrap_err().to_string();
        assert!(wrong.contains("job.toml:7:18: stage.one.array.glob: the files that it finds"), "{wrong}");
        let relative = got.found.keys().map(|key| (key.clone(), vec!["../x".to_owned()])).collect();
        Submission { found: relative, ..got }.job().unwrap_err();
    }
}
