//! Deletion of folders whose content somebody else chose: however deep, whatever their modes, and never through a link.

use std::{ffi::CStr, io, os::fd::AsFd, path::Path};

use rustix::{
    fs::{self, AtFlags, CWD, Dir, FileType, Mode, OFlags},
    io::Errno,
};

/// What a folder that stands in the way of the deletion is called meanwhile.
const MOVED: &str = ".removing-";

/// Deletes a folder and all that is in it; one that is not there is no error. Links are deleted, not followed.
///
/// It holds two folders open at a time, however deep they are: what lies deeper is moved up and deleted there.
pub fn remove_folder(path: &Path) -> io::Result<()> {
    match remove_at(CWD, path) {
        Err(Errno::NOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

/// The same, of a folder in an open one.
pub(crate) fn remove_at<P: rustix::path::Arg + Copy>(folder: impl AsFd, name: P) -> rustix::io::Result<()> {
    let folder = folder.as_fd();
    match fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => {}
        removed => return removed,
    }
    let top = open(folder, name)?;
    let mut moved = 0_u64;
    while empty_once(&top, &mut moved)? {}
    fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}

/// Deletes what can be deleted and moves the rest a level up; true when something was moved.
fn empty_once(top: &impl AsFd, moved: &mut u64) -> rustix::io::Result<bool> {
    let mut again = false;
    for entry in Dir::read_from(top)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_itself_or_parent(name) || unlink(top, name, entry.file_type())? {
            continue;
        }
        let inner = open(top, name)?;
        for entry in Dir::read_from(&inner)? {
            let entry = entry?;
            if !is_itself_or_parent(entry.file_name())
                && !unlink(&inner, entry.file_name(), entry.file_type())?
            {
                move_up(&inner, entry.file_name(), top, moved)?;
                again = true;
            }
        }
        fs::unlinkat(top, name, AtFlags::REMOVEDIR)?;
    }
    Ok(again)
}

fn is_itself_or_parent(name: &CStr) -> bool {
    matches!(name.to_bytes(), b"." | b"..")
}

/// Deletes a file or an empty folder; false for one that is not empty.
fn unlink(folder: &impl AsFd, name: &CStr, kind: FileType) -> rustix::io::Result<bool> {
    if !matches!(kind, FileType::Directory | FileType::Unknown) {
        return fs::unlinkat(folder, name, AtFlags::empty()).map(|()| true);
    }
    match fs::unlinkat(folder, name, AtFlags::REMOVEDIR) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(Errno::NOTDIR) => fs::unlinkat(folder, name, AtFlags::empty()).map(|()| true),
        Err(error) => Err(error),
    }
}

fn move_up(from: &impl AsFd, name: &CStr, to: &impl AsFd, moved: &mut u64) -> rustix::io::Result<()> {
    // Its owner may not be allowed to change what it holds, and being moved changes its `..`.
    drop(open(from, name)?);
    loop {
        *moved += 1;
        match fs::renameat(from, name, to, format!("{MOVED}{moved}")) {
            // The name is taken by something that lies there.
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOTDIR) => {}
            renamed => return renamed,
        }
    }
}

/// Opens a folder whose owner need not be allowed to.
fn open<P: rustix::path::Arg + Copy>(folder: impl AsFd, name: P) -> rustix::io::Result<std::os::fd::OwnedFd> {
    let folder = folder.as_fd();
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = match fs::openat(folder, name, flags | OFlags::RDONLY, Mode::empty()) {
        Err(Errno::ACCESS) => {
            fs::chmodat(folder, name, Mode::RWXU, AtFlags::empty())?;
            fs::openat(folder, name, flags | OFlags::RDONLY, Mode::empty())?
        }
        opened => opened?,
    };
    if fs::fstat(&opened)?.st_mode & 0o300 != 0o300 {
        fs::fchmod(&opened, Mode::RWXU)?;
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use super::*;

    #[test]
    fn deep_closed_and_linked() {
        let place = tempfile::tempdir().unwrap();
        let kept = place.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "").unwrap();
        let top = place.path().join("top");
        fs::create_dir(&top).unwrap();
        symlink(&kept, top.join("link")).unwrap();
        fs::create_dir(top.join(format!("{MOVED}1"))).unwrap();
        fs::write(top.join(format!("{MOVED}1/x")), "").unwrap();
        fs::write(top.join(format!("{MOVED}2")), "").unwrap();
        // Deeper than any path, and with names in the way.
        let mut folder = rustix::fs::openat(CWD, &top, OFlags::DIRECTORY, Mode::empty()).unwrap();
        let long = "d".repeat(250);
        for _ in 0..40 {
            rustix::fs::mkdirat(&folder, &long, Mode::RWXU).unwrap();
            rustix::fs::mkdirat(&folder, "beside", Mode::empty()).unwrap();
            folder = rustix::fs::openat(&folder, &long, OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        let closed = place.path().join("top").join(&long);
        fs::set_permissions(&closed, Permissions::from_mode(0o000)).unwrap();
        remove_folder(&top).unwrap();
        assert!(!top.exists() && kept.join("file").exists());
        remove_folder(&top).unwrap();
    }

    #[test]
    fn a_link_in_place_of_the_folder_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("kept")).unwrap();
        fs::write(place.path().join("kept/file"), "").unwrap();
        symlink("kept", place.path().join("link")).unwrap();
        assert!(remove_folder(&place.path().join("link")).is_err());
        assert!(place.path().join("kept/file").exists());
    }
}
