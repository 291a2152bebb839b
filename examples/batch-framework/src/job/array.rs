//! The elements of a job, one task for each: files that match a pattern, a list, or numbers.

use std::path::{Component, Path, PathBuf};

/// Tasks of one job: as many as the master holds of one framework at a time.
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
    /// Each element of one axis with each of every other; at least one axis. Those of the last follow each other.
    Product(Vec<Axis>),
}

/// One of the lists of which a product is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// As `${name}` it stands for this axis' part of an element.
    pub name: String,
    /// Its elements: texts, files or numbers.
    pub elements: Elements,
}

/// Between the parts of an element of a product, where it is shown as one text.
const BETWEEN_PARTS: &str = ",";

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
    /// Nobody has looked them up.
    #[error("the files that it finds are not sent along, as absolute paths; submit the job again")]
    NotFound,
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
            Elements::Single | Elements::Numbers { .. } | Elements::Product(_) => {
                let before = (0..self.count()).map(|position| self.item(position));
                *self = Elements::Texts(before.chain(more).collect());
            }
        }
        Ok(())
    }

    /// Each element of one axis with each of every other.
    pub(super) fn product(axes: Vec<Axis>) -> Result<Self, ArrayError> {
        // No axis has more than TASKS_MAX elements, but there may be many axes.
        let count = axes.iter().fold(1u64, |count, axis| count.saturating_mul(axis.elements.count() as u64));
        match count > TASKS_MAX as u64 {
            true => Err(ArrayError::TooMany { count }),
            false => Ok(Elements::Product(axes)),
        }
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
            Elements::Product(axes) => axes.iter().map(|axis| axis.elements.count()).product(),
        }
    }

    /// The text of one, counted from 0; empty when there is no array.
    pub fn item(&self, position: usize) -> String {
        match self {
            Elements::Single => String::new(),
            Elements::Texts(texts) | Elements::Files(texts) => texts[position].clone(),
            Elements::Numbers { first, .. } => (first + position as i64).to_string(),
            Elements::Product(_) => self.parts(position).join(BETWEEN_PARTS),
        }
    }

    /// What one of a product is made of, by axis; nothing of any other.
    pub(super) fn parts(&self, position: usize) -> Vec<String> {
        self.axes().iter().zip(self.digits(position)).map(|(axis, at)| axis.elements.item(at)).collect()
    }

    /// The files that one is, or is made of.
    pub fn files(&self, position: usize) -> Vec<&str> {
        match self {
            Elements::Files(files) => vec![&files[position]],
            Elements::Product(axes) => {
                let parts = axes.iter().zip(self.digits(position));
                parts.flat_map(|(axis, at)| axis.elements.files(at)).collect()
            }
            Elements::Single | Elements::Texts(_) | Elements::Numbers { .. } => Vec::new(),
        }
    }

    /// The axes of a product; of any other none.
    pub fn axes(&self) -> &[Axis] {
        match self {
            Elements::Product(axes) => axes,
            _ => &[],
        }
    }

    /// Where one of a product is on each axis: the digits of its position, in a system where each place has a base of its own.
    fn digits(&self, position: usize) -> Vec<usize> {
        let mut rest = position;
        let mut digits: Vec<_> = self
            .axes()
            .iter()
            .rev()
            .map(|axis| {
                let count = axis.elements.count();
                let digit = rest % count;
                rest /= count;
                digit
            })
            .collect();
        digits.reverse();
        digits
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
    #[test]
    fn a_product_has_each_with_each_the_last_axis_fastest() {
        let axis = |name: &str, elements| Axis { name: name.to_owned(), elements };
        let files = Elements::Files(vec!["/a".to_owned(), "/b".to_owned()]);
        let product =
            Elements::product(vec![axis("file", files), axis("level", Elements::range(&[7, 9]).unwrap())]);
        let product = product.unwrap();
        assert_eq!(product.count(), 6);
        let items: Vec<_> = (0..6).map(|at| product.item(at)).collect();
        assert_eq!(items, ["/a,7", "/a,8", "/a,9", "/b,7", "/b,8", "/b,9"]);
        assert_eq!((product.parts(4), product.files(4)), (vec!["/b".to_owned(), "8".to_owned()], vec!["/b"]));
        let many = |name: &str| axis(name, Elements::range(&[1, 1_000]).unwrap());
        let message = Elements::product(vec![many("a"), many("b")]).unwrap_err().to_string();
        assert!(message.starts_with("1000000 elements, but a job has at most 100000"), "{message}");
        let endless = (0..40).map(|number| many(&number.to_string())).collect();
        assert!(Elements::product(endless).is_err());
    }
}
