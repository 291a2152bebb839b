//! The elements of a job, one task for each: files that match a pattern, a list, or numbers.

use std::path::{Component, Path, PathBuf};

/// Tasks of one job. The master holds a million for one framework; a job takes a tenth of that, so that jobs may run
/// beside each other.
pub const TASKS_MAX: usize = 100_000;

/// What the tasks of a job differ in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// No array: one task, and no `${item}`.
    Single,
    /// The texts of a list.
    Texts(Vec<String>),
    /// The absolute paths of files.
    Files(Vec<String>),
    /// The integers from `first` to `last`, both among them.
    Numbers {
        /// The first.
        first: i64,
        /// The last.
        last: i64,
    },
}

/// Why there are no elements.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArrayError {
    /// The pattern breaks the rules of patterns.
    #[error("`{pattern}` is not a pattern: {source}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// No file has such a name.
    #[error("`{pattern}` matches no file{excluded}; is the folder right, and does it hold such files?")]
    NoFile {
        /// The pattern, absolute.
        pattern: String,
        /// How many were taken away again, when some were.
        excluded: String,
    },
    /// A folder below the pattern could not be read.
    #[error("cannot list {path}: {source}; leave it out with a narrower pattern")]
    Unreadable {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A path that is no text can be neither an argument nor a variable of a task.
    #[error("the name of {path:?} is not UTF-8, and tasks are described in UTF-8; rename it or leave it out")]
    NotText {
        /// The path.
        path: PathBuf,
    },
    /// More than a job may have.
    #[error("{count} elements, but a job has at most {TASKS_MAX} tasks; split it")]
    TooMany {
        /// How many, or one more than the limit.
        count: u64,
    },
    /// Nothing in it.
    #[error("the list is empty; give at least one element")]
    EmptyList,
    /// Not a first and a last.
    #[error("a range has a first and a last element, as in [1, 100], but {count} are given")]
    Ends {
        /// How many.
        count: usize,
    },
    /// The wrong way round.
    #[error("the range ends at {last}, before it begins at {first}; both ends belong to it")]
    Backwards {
        /// The first.
        first: i64,
        /// The last.
        last: i64,
    },
}

impl Elements {
    /// The texts of a list, as they stand.
    pub(super) fn list(texts: Vec<String>) -> Result<Self, ArrayError> {
        let list = Elements::Texts(texts);
        list.check(false).map(|()| list)
    }

    /// Whether there are neither too many, nor too few for a job that gets no more.
    pub(super) fn check(&self, open: bool) -> Result<(), ArrayError> {
        match self.count() {
            0 if !open => Err(ArrayError::EmptyList),
            0..=TASKS_MAX => Ok(()),
            more => Err(ArrayError::TooMany { count: more as u64 }),
        }
    }

    /// Adds texts at the end; where there were none so far, the others become texts too.
    pub(super) fn extend(&mut self, more: Vec<String>) -> Result<(), ArrayError> {
        let count = self.count() + more.len();
        if count > TASKS_MAX {
            return Err(ArrayError::TooMany { count: count as u64 });
        }
        match self {
            Elements::Texts(texts) | Elements::Files(texts) => texts.extend(more),
            Elements::Single | Elements::Numbers { .. } => {
                let before = (0..self.count()).map(|position| self.item(position));
                *self = Elements::Texts(before.chain(more).collect());
            }
        }
        Ok(())
    }

    /// The integers of a range.
    pub(super) fn range(ends: &[i64]) -> Result<Self, ArrayError> {
        let &[first, last] = ends else { return Err(ArrayError::Ends { count: ends.len() }) };
        if last < first {
            return Err(ArrayError::Backwards { first, last });
        }
        match last.abs_diff(first).saturating_add(1) {
            count if count > TASKS_MAX as u64 => Err(ArrayError::TooMany { count }),
            _ => Ok(Elements::Numbers { first, last }),
        }
    }

    /// The regular files that match `pattern` and none of `exclude`, sorted, as absolute paths: a task's working folder is
    /// its own sandbox, where a relative path means nothing. Hidden files and folders need a pattern that names their dot,
    /// as in a shell.
    pub(super) fn glob(folder: &Path, pattern: &str, exclude: &[String]) -> Result<Self, ArrayError> {
        let refuse = |pattern: &str| {
            let pattern = pattern.to_owned();
            move |source| ArrayError::Pattern { pattern, source }
        };
        let pattern = absolute(folder, pattern);
        let exclude: Vec<_> = exclude
            .iter()
            .map(|text| glob::Pattern::new(&absolute(folder, text)).map_err(refuse(text)))
            .collect::<Result<_, _>>()?;
        let like_a_shell = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        // What leaves files out must reach what a shell's pattern would not: `**/target/**` with all that is hidden below.
        let reaching = glob::MatchOptions { require_literal_leading_dot: false, ..like_a_shell };

        let mut excluded = 0;
        let mut files = Vec::new();
        for path in glob::glob_with(&pattern, like_a_shell).map_err(refuse(&pattern))? {
            let path = path.map_err(|error| ArrayError::Unreadable {
                path: error.path().to_owned(),
                source: error.into(),
            })?;
            if !path.is_file() {
                continue;
            }
            if exclude.iter().any(|pattern| pattern.matches_path_with(&path, reaching)) {
                excluded += 1;
                continue;
            }
            if files.len() == TASKS_MAX {
                return Err(ArrayError::TooMany { count: TASKS_MAX as u64 + 1 });
            }
            files.push(
                path.into_os_string()
                    .into_string()
                    .map_err(|path| ArrayError::NotText { path: path.into() })?,
            );
        }
        if files.is_empty() {
            let excluded =
                if excluded == 0 { String::new() } else { format!(" but {excluded} excluded ones") };
            return Err(ArrayError::NoFile { pattern, excluded });
        }
        files.sort_unstable();
        Ok(Elements::Files(files))
    }

    /// How many there are; at least one, but for a list that is yet to be filled.
    pub fn count(&self) -> usize {
        match self {
            Elements::Single => 1,
            Elements::Texts(texts) | Elements::Files(texts) => texts.len(),
            Elements::Numbers { first, last } => {
                usize::try_from(last.abs_diff(*first)).expect("a range is checked against TASKS_MAX") + 1
            }
        }
    }

    /// The text of one, counted from 0; empty when there is no array.
    pub fn item(&self, position: usize) -> String {
        match self {
            Elements::Single => String::new(),
            Elements::Texts(texts) | Elements::Files(texts) => texts[position].clone(),
            Elements::Numbers { first, .. } => (first + position as i64).to_string(),
        }
    }

    /// The file of one, when each is a file.
    pub fn file(&self, position: usize) -> Option<&str> {
        match self {
            Elements::Files(files) => Some(&files[position]),
            Elements::Single | Elements::Texts(_) | Elements::Numbers { .. } => None,
        }
    }
}

/// A pattern as an absolute one without `.` and `..` components. The folder in front is no pattern, whatever brackets it holds.
fn absolute(folder: &Path, pattern: &str) -> String {
    let mut whole = String::new();
    if !pattern.starts_with('/') {
        for component in folder.components() {
            if let Component::Normal(name) = component {
                whole.push('/');
                whole.push_str(&glob::Pattern::escape(&name.to_string_lossy()));
            }
        }
    }
    for component in pattern.split('/').filter(|component| !matches!(*component, "" | ".")) {
        if component == ".." {
            whole.truncate(whole.rfind('/').unwrap_or(0));
        } else {
            whole.push('/');
            whole.push_str(component);
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::Builder::new().prefix("a[b]").tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "x").unwrap();
        }
        folder
    }

    fn names(folder: &Path, pattern: &str, exclude: &[&str]) -> Vec<String> {
        let exclude: Vec<_> = exclude.iter().map(|text| (*text).to_owned()).collect();
        let Elements::Files(paths) = Elements::glob(folder, pattern, &exclude).unwrap() else {
            panic!("files")
        };
        let prefix = format!("{}/", folder.display());
        paths.iter().map(|path| path.strip_prefix(&prefix).unwrap_or(path).to_owned()).collect()
    }

    #[test]
    fn relative_patterns_are_taken_from_the_folder_and_only_files_match() {
        let folder = files(&[
            "b.rs",
            "a.rs",
            "src/deep/c.rs",
            "d.txt",
            ".hidden/e.rs",
            "target/f.rs",
            "target/.g/h.rs",
        ]);
        assert_eq!(names(folder.path(), "*.rs", &[]), ["a.rs", "b.rs"]);
        assert_eq!(names(folder.path(), "./**/*.rs", &["target/**"]), ["a.rs", "b.rs", "src/deep/c.rs"]);
        assert_eq!(names(folder.path(), "./././src/**/*", &[]), ["src/deep/c.rs"], "folders are no elements");
        let above = names(&folder.path().join("src"), "../d.*", &[]);
        assert_eq!(above, [folder.path().join("d.txt").display().to_string()], "without the dots");
        assert_eq!(names(folder.path(), ".hidden/*", &[]), [".hidden/e.rs"]);
        let pattern = format!("{}/*.txt", glob::Pattern::escape(&folder.path().display().to_string()));
        assert_eq!(
            names(Path::new("/nowhere"), &pattern, &[]).len(),
            1,
            "an absolute pattern stays what it is"
        );
    }

    #[test]
    fn an_empty_glob_names_the_pattern() {
        let folder = files(&["a.rs"]);
        let message = Elements::glob(Path::new("/srv"), "x/*.none", &[]).unwrap_err().to_string();
        assert!(message.starts_with("`/srv/x/*.none` matches no file; is the folder right"), "{message}");
        let message = Elements::glob(folder.path(), "*.rs", &["a*".to_owned()]).unwrap_err().to_string();
        assert!(message.contains("matches no file but 1 excluded ones"), "{message}");
        let message = Elements::glob(folder.path(), "a**b", &[]).unwrap_err().to_string();
        assert!(message.contains("is not a pattern"), "{message}");
    }

    #[test]
    fn ranges_hold_both_ends_and_are_bounded() {
        let numbers = Elements::range(&[-1, 2]).unwrap();
        assert_eq!(numbers.count(), 4);
        assert_eq!((0..4).map(|at| numbers.item(at)).collect::<Vec<_>>(), ["-1", "0", "1", "2"]);
        let message = Elements::range(&[5, 1]).unwrap_err().to_string();
        assert!(message.contains("ends at 1, before it begins at 5"), "{message}");
        for ends in [[1, 1 + TASKS_MAX as i64], [i64::MIN, i64::MAX]] {
            assert!(matches!(Elements::range(&ends), Err(ArrayError::TooMany { .. })));
        }
        assert!(Elements::range(&[1, TASKS_MAX as i64]).is_ok());
    }

    #[test]
    fn an_empty_list_is_refused() {
        assert!(matches!(Elements::list(Vec::new()), Err(ArrayError::EmptyList)));
        assert_eq!(Elements::list(vec!["a".to_owned()]).unwrap().item(0), "a");
    }
}
