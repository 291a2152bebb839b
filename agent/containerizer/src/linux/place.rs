//! Opening and making what lies below a folder, where an image or another container may have laid a link or a pipe in any place.
//!
//! Nothing here leaves the folder that it begins at, whatever is renamed or linked meanwhile: the kernel sees to it (`openat2`,
//! since Linux 5.6). What is opened is mounted on by its descriptor, never again by its path.

use std::{
    fs::File,
    io::Read,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat, openat2},
    io::Errno,
    process::umask,
};

/// What is done about symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// They lead where they would if the folder were the root.
    Inside,
    /// They are errors.
    Refused,
}

/// The kernel gives up on a path while something of it is renamed; it is then to be tried again.
const TRIES: u32 = 64;

/// A folder's mode when it is made.
const FOLDER: Mode = Mode::from_raw_mode(0o755);

/// Opens what lies at `path`, read from the root as well as from the folder, with these flags.
pub(super) fn open_as(below: &impl AsFd, path: &Path, links: Links, flags: OFlags) -> Result<OwnedFd, Errno> {
    let (resolve, path) = match links {
        Links::Inside => (ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS, path),
        Links::Refused => {
            let relative = path.strip_prefix("/").unwrap_or(path);
            let path = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
            (ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS, path)
        }
    };
    for _ in 0..TRIES {
        match openat2(below, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens what lies at `path`, to be mounted on or to be asked about.
pub(super) fn open(below: &impl AsFd, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    open_as(below, path, links, OFlags::PATH)
}

/// Opens the folder at `path`; those that are missing on the way are made, for everybody to read.
pub(super) fn make_folder(below: &impl AsFd, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    make_folder_as(below, path, links, FOLDER)
}

/// The same; what is made is for everybody to write to from the beginning. One that is there keeps its mode.
///
/// Changes the mask of the calling process for a moment: only one with a single thread may ask for it while it makes other files.
pub(super) fn make_open_folder(below: &impl AsFd, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    let mask = umask(Mode::empty());
    let made = make_folder_as(below, path, links, Mode::from_raw_mode(0o777));
    umask(mask);
    made
}

fn make_folder_as(below: &impl AsFd, path: &Path, links: Links, mode: Mode) -> Result<OwnedFd, Errno> {
    match open_as(below, path, links, OFlags::PATH | OFlags::DIRECTORY) {
        Err(Errno::NOENT) => {}
        other => return other,
    }
    let mut so_far = PathBuf::new();
    let mut at: Option<OwnedFd> = None;
    for part in path.components() {
        let name = match part {
            Component::RootDir => continue,
            Component::Normal(name) => name,
            _ => return Err(Errno::INVAL),
        };
        so_far.push(name);
        let open_it = || open_as(below, &so_far, links, OFlags::PATH | OFlags::DIRECTORY);
        let next = match open_it() {
            Err(Errno::NOENT) => {
                let made = match &at {
                    Some(folder) => mkdirat(folder, name, mode),
                    None => mkdirat(below, name, mode),
                };
                match made {
                    // Another container may have made it, or it is a link that leads nowhere, which the opening says.
                    Ok(()) | Err(Errno::EXIST) => open_it()?,
                    Err(errno) => return Err(errno),
                }
            }
            other => other?,
        };
        at = Some(next);
    }
    at.ok_or(Errno::INVAL)
}

/// Opens the file at `path`, to be mounted on; it is made, empty, when it is missing, with the folders on the way.
pub(super) fn make_file(below: &impl AsFd, path: &Path, links: Links) -> Result<OwnedFd, Errno> {
    match open(below, path, links) {
        Ok(found) => return if is(&found, FileType::Directory)? { Err(Errno::ISDIR) } else { Ok(found) },
        Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    let name = path.file_name().ok_or(Errno::INVAL)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) if parent != Path::new("/") => {
            openat(&make_folder(below, parent, links)?, name, flags, mode).map(drop)?;
        }
        _ => openat(below, name, flags, mode).map(drop)?,
    }
    open(below, path, links)
}

/// True when this is what the descriptor stands for.
pub(super) fn is(what: &OwnedFd, kind: FileType) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(what)?.st_mode) == kind)
}

/// The text of a plain file, links followed inside; none when there is no such file. What is no plain file, or longer than
/// `bytes_max`, is an error.
pub(super) fn read(below: &impl AsFd, path: &Path, bytes_max: u64) -> Result<Option<String>, Errno> {
    // NONBLOCK for the open alone: a pipe without a writer would block it.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_as(below, path, Links::Inside, flags) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        other => other?,
    };
    if !is(&file, FileType::RegularFile)? {
        return Err(Errno::INVAL);
    }
    let mut bytes = Vec::new();
    let read = File::from(file).take(bytes_max + 1).read_to_end(&mut bytes);
    let length = read.map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    if length as u64 > bytes_max {
        return Err(Errno::FBIG);
    }
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;

    #[test]
    fn nothing_leads_out_of_the_folder() {
        let place = tempfile::tempdir().unwrap();
        let (inside, outside) = (place.path().join("inside"), place.path().join("outside"));
        fs::create_dir(&inside).unwrap();
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("passwd"), "secret").unwrap();
        symlink(&outside, inside.join("absolute")).unwrap();
        symlink("../outside", inside.join("relative")).unwrap();
        symlink("/proc/self/root", inside.join("magic")).unwrap();
        fs::write(inside.join("file"), "text").unwrap();
        let root = File::open(&inside).unwrap();
        for path in ["absolute", "relative", "magic"] {
            for links in [Links::Inside, Links::Refused] {
                for path in [path.to_owned(), format!("/{path}"), format!("{path}/made/here")] {
                    let path = Path::new(&path);
                    assert!(make_folder(&root, path, links).is_err(), "{path:?} {links:?}");
                    assert!(make_file(&root, &path.join("x"), links).is_err(), "{path:?} {links:?}");
                }
            }
            assert_eq!(read(&root, &Path::new(path).join("passwd"), 100), Ok(None));
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
        assert_eq!(make_folder(&root, Path::new("file/x"), Links::Inside).err(), Some(Errno::NOTDIR));
        assert_eq!(make_folder(&root, Path::new("/../outside"), Links::Refused).err(), Some(Errno::XDEV));
    }

    #[test]
    fn links_inside_are_followed_where_that_is_asked_for() {
        let place = tempfile::tempdir().unwrap();
        let root = File::open(place.path()).unwrap();
        fs::create_dir(place.path().join("run")).unwrap();
        symlink("/run", place.path().join("link")).unwrap();
        make_folder(&root, Path::new("/link/a/b"), Links::Inside).unwrap();
        make_file(&root, Path::new("/link/c/d"), Links::Inside).unwrap();
        make_file(&root, Path::new("top"), Links::Refused).unwrap();
        assert!(place.path().join("run/a/b").is_dir() && place.path().join("run/c/d").is_file());
        assert_eq!(make_folder(&root, Path::new("/link/a"), Links::Refused).err(), Some(Errno::LOOP));
        assert_eq!(make_file(&root, Path::new("run"), Links::Inside).err(), Some(Errno::ISDIR));
    }

    #[test]
    fn what_is_made_for_everybody_to_write_to_is_so_at_once_and_what_is_there_keeps_its_mode() {
        let place = tempfile::tempdir().unwrap();
        let root = File::open(place.path()).unwrap();
        let mode = |path: &str| fs::metadata(place.path().join(path)).unwrap().permissions().mode() & 0o7777;
        make_open_folder(&root, Path::new("a/b"), Links::Refused).unwrap();
        assert_eq!((mode("a"), mode("a/b")), (0o777, 0o777));
        fs::set_permissions(place.path().join("a/b"), Permissions::from_mode(0o1770)).unwrap();
        make_open_folder(&root, Path::new("a/b/c"), Links::Refused).unwrap();
        make_open_folder(&root, Path::new("a/b"), Links::Refused).unwrap();
        assert_eq!((mode("a/b"), mode("a/b/c")), (0o1770, 0o777));
        symlink("/", place.path().join("a/link")).unwrap();
        let linked = make_open_folder(&root, Path::new("a/link"), Links::Refused);
        assert_eq!(linked.err(), Some(Errno::LOOP));
    }

    #[test]
    fn only_short_plain_files_are_read() {
        let place = tempfile::tempdir().unwrap();
        let root = File::open(place.path()).unwrap();
        let pipe = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(&root, "pipe", FileType::Fifo, pipe, 0).unwrap();
        fs::write(place.path().join("file"), "1234").unwrap();
        assert_eq!(read(&root, Path::new("/file"), 4), Ok(Some("1234".into())));
        assert_eq!(read(&root, Path::new("/file"), 3), Err(Errno::FBIG));
        assert_eq!(read(&root, Path::new("/pipe"), 4), Err(Errno::INVAL));
        assert_eq!(read(&root, Path::new("/none/x"), 4), Ok(None));
    }
}
