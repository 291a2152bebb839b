//! `ListFiles` and `WriteFile`: the folders of a sandbox, and files that are put there.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use apportion_proto::v1::{
    FileInfo, FileKind, ListFilesResponse, WriteFileRequest, WriteFileResponse, WriteFileStart,
    write_file_request::Request,
};
use apportion_types::{limits, text::chain};
use rustix::{
    fs::{
        AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, fchmod, fchown, fstat, mkdirat, openat,
        readlinkat, renameat, statat, unlinkat,
    },
    io::Errno,
};
use tokio::{fs::File, io::AsyncWriteExt as _};
use tonic::{Status, Streaming};

use super::{
    open::{self, OpenError},
    sandbox::refused,
};

/// Files of one answer.
const FILES_MAX: usize = 1000;

/// What of a mode is kept: a task is to get no set-uid program from here.
const MODE: u32 = 0o777;

/// What a path is, and what is in it, in the order of names.
pub(super) fn list(
    sandbox: &OwnedFd,
    path: &Path,
    after: &[u8],
    most: u32,
) -> Result<ListFilesResponse, OpenError> {
    let most = usize::try_from(most).ok().filter(|most| (1..FILES_MAX).contains(most)).unwrap_or(FILES_MAX);
    let failed = |source| OpenError::System { path: path.display().to_string(), source };
    let (opened, found) = open::look(sandbox, path)?;
    let name = path.file_name().unwrap_or_default();
    let itself = Some(info(name, &found, || readlinkat(&opened, "", Vec::new()).ok()));
    let mut answer = ListFilesResponse { itself, files: Vec::new(), more: false };
    if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
        return Ok(answer);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(&opened, ".", flags, Mode::empty()).map_err(failed)?;
    // The first so many names, of however many there are.
    let mut names: BTreeSet<Vec<u8>> = BTreeSet::new();
    for entry in Dir::read_from(&folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." && name > after {
            names.insert(name.to_owned());
            if names.len() > most {
                answer.more = true;
                names.pop_last();
            }
        }
    }
    for name in names {
        let name = OsStr::from_bytes(&name);
        match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => {
                answer.files.push(info(name, &found, || readlinkat(&folder, name, Vec::new()).ok()));
            }
            // Deleted meanwhile.
            Err(Errno::NOENT) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(answer)
}

fn info(name: &OsStr, found: &Stat, target: impl FnOnce() -> Option<std::ffi::CString>) -> FileInfo {
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Folder,
        FileType::Symlink => FileKind::Link,
        _ => FileKind::Special,
    };
    let target = if kind == FileKind::Link { target().unwrap_or_default() } else { Default::default() };
    let micros = found.st_mtime.saturating_mul(1_000_000).saturating_add_unsigned(found.st_mtime_nsec / 1000);
    FileInfo {
        name: name.as_bytes().to_vec().into(),
        kind: kind.into(),
        size_bytes: u64::try_from(found.st_size).unwrap_or(0),
        mode: found.st_mode & 0o7777,
        modified_us: micros,
        user: found.st_uid,
        group: found.st_gid,
        link_target: target.into_bytes().into(),
    }
}

/// Writes what is asked for, as a whole or not at all. `sandbox` finds that of the task that is named.
pub(super) async fn write(
    mut requests: Streaming<WriteFileRequest>,
    sandbox: impl FnOnce(String, String) -> Result<OwnedFd, Status>,
) -> Result<WriteFileResponse, Status> {
    let Some(WriteFileRequest { request: Some(Request::Start(start)) }) = requests.message().await? else {
        return Err(Status::invalid_argument("the first request says what to write where"));
    };
    let WriteFileStart { framework_id, task_id, path, mode, folder } = start;
    let sandbox = sandbox(framework_id, task_id)?;
    let path = OsStr::from_bytes(&path).to_owned();
    if folder {
        make_folder(&sandbox, Path::new(&path), mode).map_err(|error| failed(&error))?;
        return Ok(WriteFileResponse { size_bytes: 0 });
    }
    let mut draft = Draft::begin(&sandbox, Path::new(&path), mode).map_err(|error| failed(&error))?;
    loop {
        match requests.message().await? {
            Some(WriteFileRequest { request: Some(Request::Data(data)) }) => draft.add(&data).await?,
            Some(WriteFileRequest { request: Some(Request::Finish(_)) }) => return draft.finish().await,
            Some(_) => return Err(Status::invalid_argument("a request that is neither data nor the finish")),
            None => return Err(Status::cancelled("the requests ended without a finish; nothing is written")),
        }
    }
}

fn failed(error: &OpenError) -> Status {
    match error {
        OpenError::System { source: Errno::NOSPC | Errno::DQUOT, .. } => {
            Status::resource_exhausted(format!("{}: the agent's disk is full", chain(error)))
        }
        error => refused(error),
    }
}

/// The folder that is to hold what a path names, and the name there.
fn place<'a>(sandbox: &OwnedFd, path: &'a Path) -> Result<(OwnedFd, &'a OsStr), OpenError> {
    // `a/..` has no name, and `a/.` would have that of `a`.
    let name = path.file_name().filter(|name| path.as_os_str().as_bytes().ends_with(name.as_bytes()));
    let name = name.ok_or_else(|| OpenError::Leaves { path: path.display().to_string() })?;
    Ok((open::folder_beneath(sandbox, path.parent().unwrap_or(Path::new("")))?, name))
}

/// Gives something that was made to the task's user, whom the sandbox belongs to.
fn hand_over(sandbox: &OwnedFd, made: &OwnedFd, mode: u32) -> Result<(), Errno> {
    let (owner, found) = (fstat(sandbox)?, fstat(made)?);
    if (owner.st_uid, owner.st_gid) != (found.st_uid, found.st_gid) {
        fchown(made, Some(Uid::from_raw(owner.st_uid)), Some(Gid::from_raw(owner.st_gid)))?;
    }
    fchmod(made, Mode::from_raw_mode(mode & MODE))
}

/// Makes a folder; one that is there stays as it is.
fn make_folder(sandbox: &OwnedFd, path: &Path, mode: u32) -> Result<(), OpenError> {
    let failed = |source| OpenError::System { path: path.display().to_string(), source };
    let (parent, name) = place(sandbox, path)?;
    match mkdirat(&parent, name, Mode::RWXU) {
        Ok(()) => {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = openat(&parent, name, flags, Mode::empty()).map_err(failed)?;
            hand_over(sandbox, &made, mode).map_err(failed)
        }
        Err(Errno::EXIST) => {
            let found = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            match FileType::from_raw_mode(found.st_mode) {
                FileType::Directory => Ok(()),
                _ => Err(OpenError::NotAFolder { path: path.display().to_string() }),
            }
        }
        Err(e) => Err(failed(e)),
    }
}

/// A file that is not whole yet, under a name of its own beside its place. Dropped, it is deleted.
struct Draft {
    folder: OwnedFd,
    name: String,
    target: OsString,
    path: String,
    file: File,
    size_bytes: u64,
}

impl Draft {
    fn begin(sandbox: &OwnedFd, path: &Path, mode: u32) -> Result<Draft, OpenError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let failed = |source| OpenError::System { path: path.display().to_string(), source };
        let (folder, target) = place(sandbox, path)?;
        match statat(&folder, target, AtFlags::SYMLINK_NOFOLLOW) {
            // A link is replaced, and what it leads to stays as it is.
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => {
                return Err(OpenError::NotAFile { path: path.display().to_string() });
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(e) => return Err(failed(e)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (name, file) = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!(".apportion-draft-{}-{number}", std::process::id());
            match openat(&folder, &name, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => break (name, file),
                Err(Errno::EXIST) => {}
                Err(e) => return Err(failed(e)),
            }
        };
        let handed = hand_over(sandbox, &file, mode);
        let (target, path) = (target.to_owned(), path.display().to_string());
        let file = File::from_std(file.into());
        let draft = Draft { folder, name, target, path, file, size_bytes: 0 };
        handed.map_err(failed)?;
        Ok(draft)
    }

    async fn add(&mut self, data: &[u8]) -> Result<(), Status> {
        self.size_bytes += data.len() as u64;
        if self.size_bytes > limits::SANDBOX_FILE_BYTES_MAX {
            let most = limits::SANDBOX_FILE_BYTES_MAX >> 30;
            return Err(Status::resource_exhausted(format!(
                "{:?} is larger than {most} GiB, the most that is written to a sandbox; have the task fetch it",
                self.path
            )));
        }
        let written = self.file.write_all(data).await;
        written.map_err(|error| self.failed(&error))
    }

    async fn finish(mut self) -> Result<WriteFileResponse, Status> {
        let flushed = self.file.flush().await;
        flushed.map_err(|error| self.failed(&error))?;
        renameat(&self.folder, &self.name, &self.folder, &self.target).map_err(|e| self.failed(&e.into()))?;
        Ok(WriteFileResponse { size_bytes: self.size_bytes })
    }

    fn failed(&self, error: &io::Error) -> Status {
        let source = Errno::from_io_error(error).unwrap_or(Errno::IO);
        failed(&OpenError::System { path: self.path.clone(), source })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What was finished has no such name any more.
        let _ = unlinkat(&self.folder, &self.name, AtFlags::empty());
    }
}

#[cfg(test)]
mod tests;
