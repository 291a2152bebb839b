//! Whether there is a program to be executed, and a folder to start it in: said as of a native container, where runtimes have words of
//! their own, or learn it when it is too late to say it.

use std::{
    fs::{self, File},
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{FileType, OFlags, fstat},
    io::Errno,
};

use super::super::{
    image, mounts,
    place::{self, Links},
    task,
};
use crate::{
    folder::{Failure, Order},
    runtime::DEFAULT_PATH,
};

/// What the runtime lays over the root later. What is named there must not be: to a runtime's own process it may mean something of the
/// host, such as a descriptor that is open there.
const LATER: [&str; 3] = ["proc", "sys", "dev"];

/// As much of a program as tells what it is.
const HEAD_BYTES: u64 = 256;

/// Where the command is started, as the container sees it.
pub(super) fn working_dir(order: &Order, sandbox: &Path) -> PathBuf {
    let inside = image::sandbox_inside(order, sandbox);
    order.spec.working_dir.as_ref().map_or(inside.to_owned(), |path| inside.join(path))
}

/// Refuses a working directory or a program that is not in the root laid at `at`, or cannot be executed by anybody.
pub(super) fn check(order: &Order, root: &OwnedFd, at: &Path, sandbox: &Path) -> Result<(), Failure> {
    let spec = &order.spec;
    let working_dir = working_dir(order, sandbox);
    if let Some(path) = &spec.working_dir {
        let folder = place::open_as(root, &working_dir, Links::Inside, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|e| Failure::working_dir(path, e))?;
        let real =
            fs::read_link(mounts::by_descriptor(&folder)).map_err(|e| Failure::working_dir(path, e))?;
        if let Some(later) = LATER.iter().find(|later| real.starts_with(at.join(later))) {
            let what = format!("it is in /{later}, which an OCI runtime lays over the root");
            return Err(Failure::working_dir(path, what));
        }
    }
    let Some(name) = spec.argv.first() else { return Ok(()) };
    if name.contains('/') {
        let not_found =
            |_| Failure::CommandNotFound { command: name.clone(), searched: "the file system".to_owned() };
        let Some(program) = open(root, &working_dir.join(name)).map_err(not_found)? else {
            return Err(Failure::PermissionDenied { program: name.clone() });
        };
        return can_be_executed(root, name, program);
    }
    let path = spec.env.get("PATH").map_or(DEFAULT_PATH, String::as_str);
    let mut denied = None;
    for candidate in path.split(':').map(|folder| working_dir.join(folder).join(name)) {
        match open(root, &candidate) {
            Ok(Some(program)) => return can_be_executed(root, &candidate.display().to_string(), program),
            Ok(None) => _ = denied.get_or_insert(candidate),
            Err(_) => {}
        }
    }
    Err(match denied {
        Some(program) => Failure::PermissionDenied { program: program.display().to_string() },
        None => Failure::CommandNotFound { command: name.clone(), searched: format!("PATH={path}") },
    })
}

/// Opens a program; none when it is no file, or one that nobody may execute.
fn open(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, Errno> {
    let found = fstat(place::open(root, path, Links::Inside)?)?;
    if !FileType::from_raw_mode(found.st_mode).is_file() || found.st_mode & 0o111 == 0 {
        return Ok(None);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    place::open_as(root, path, Links::Inside, flags).map(Some)
}

/// Looks at a program's beginning, as the kernel does.
fn can_be_executed(root: &OwnedFd, name: &str, program: OwnedFd) -> Result<(), Failure> {
    let mut head = Vec::new();
    if File::from(program).take(HEAD_BYTES).read_to_end(&mut head).is_err() {
        // Left to the runtime.
        return Ok(());
    }
    let errno = match head.strip_prefix(b"#!") {
        Some(line) => {
            let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let line = String::from_utf8_lossy(line);
            let interpreter = line.split_ascii_whitespace().next().unwrap_or_default();
            match place::open(root, Path::new(interpreter), Links::Inside) {
                Err(Errno::NOENT) if interpreter.starts_with('/') => libc::ENOENT,
                _ => return Ok(()),
            }
        }
        None if head.starts_with(b"\x7fELF") || knows_other_programs() => return Ok(()),
        None => libc::ENOEXEC,
    };
    let hint = task::hint(errno).to_owned();
    Err(Failure::NotExecutable { program: name.to_owned(), hint, errno })
}

/// True where the kernel was told of programs of further kinds.
fn knows_other_programs() -> bool {
    // It always has `register` and `status`.
    fs::read_dir("/proc/sys/fs/binfmt_misc").is_ok_and(|entries| entries.count() > 2)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn what_is_no_program_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(File::open(dir.path()).unwrap());
        let make = |name: &str, text: &str, mode| {
            fs::write(dir.path().join(name), text).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        make("sh", "\x7fELF", 0o755);
        make("data", "\x7fELF", 0o644);
        make("good", "#! /sh -e\n", 0o755);
        make("bad", "#!/none\n", 0o755);
        symlink("/etc/passwd", dir.path().join("out")).unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        let errno = |name: &str| {
            let program = open(&root, Path::new(name)).unwrap().unwrap();
            match can_be_executed(&root, name, program) {
                Ok(()) => 0,
                Err(Failure::NotExecutable { errno, .. }) => errno,
                Err(other) => panic!("{other:?}"),
            }
        };
        assert_eq!([errno("sh"), errno("good"), errno("bad")], [0, 0, libc::ENOENT]);
        for name in ["data", "folder"] {
            assert!(open(&root, Path::new(name)).unwrap().is_none(), "{name}");
        }
        for name in ["none", "out"] {
            assert_eq!(open(&root, Path::new(name)).err(), Some(Errno::NOENT), "{name}");
        }
    }
}
