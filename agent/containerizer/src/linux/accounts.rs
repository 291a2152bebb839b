//! Who a task runs as: `USER[:GROUP]`, looked up in the account files of its own root, as Docker does.

use std::{
    io::{stderr, stdin, stdout},
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, chownat, fchown, fstat, major, openat, statat},
    io::Errno,
    process::{Gid, Uid, getgid, getuid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use super::{image, place};
use crate::folder::{Failure, Isolation, Order};

/// Account files are read whole, and an image may hold any.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The kernel's bound on supplementary groups.
const GROUPS_MAX: usize = 65_536;

/// The kernel's numbers for devices of the kind of `/dev/pts/0`.
const TERMINALS: std::ops::Range<u32> = 136..144;

/// Folders in folders of a sandbox, each of which takes a descriptor while it is looked into.
const DEPTH_MAX: usize = 200;

/// The numbers of a user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Supplementary groups.
    pub(super) groups: Vec<u32>,
}

/// Who the order's task runs as; none for the agent's own user. `roots` are the folders to look in, the first that has a file first.
pub(super) fn of(order: &Order, roots: &[OwnedFd]) -> Result<Option<Account>, Failure> {
    let user = match (&order.spec.user, &order.spec.root) {
        (Some(user), _) => user,
        (None, Some(_)) => "0",
        (None, None) => return Ok(None),
    };
    find(user, |file| {
        let path = Path::new("/etc").join(file);
        for root in roots {
            if let Some(text) = place::read(root, &path, FILE_BYTES_MAX)? {
                return Ok(text);
            }
        }
        Ok(String::new())
    })
    .map(Some)
}

/// The same, from within the container.
pub(super) fn inside(order: &Order) -> Result<Option<Account>, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, "/", flags, Mode::empty()).map_err(|e| Failure::setup("opening the root", e))?;
    of(order, &[root])
}

/// The same, as the layers of its image have it, before they are mounted.
pub(super) fn outside(order: &Order) -> Result<Option<Account>, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folders: Vec<&Path> = match &order.spec.root {
        Some(root) => root.layers.iter().rev().map(AsRef::as_ref).collect(),
        None => vec![Path::new("/")],
    };
    let opened = folders.into_iter().map(|folder| {
        openat(CWD, folder, flags, Mode::empty())
            .map_err(|e| Failure::image(folder, format_args!("cannot be opened: {e}")))
    });
    of(order, &opened.collect::<Result<Vec<_>, _>>()?)
}

/// Gives the sandbox, with all that was fetched into it, to the user of the order's task.
pub(super) fn give_sandbox(order: &Order, sandbox: &Path) -> Result<(), Failure> {
    if order.isolation == Isolation::UserNamespaces || order.spec.user.is_none() || order.trial {
        return Ok(());
    }
    match inside(order)? {
        Some(account) => give(order, &account, image::sandbox_inside(order, sandbox)),
        None => Ok(()),
    }
}

/// Gives a folder of the agent to the user of the order's task, before anything of the container is mounted.
pub(super) fn give_folder(order: &Order, path: &Path) -> Result<(), Failure> {
    if order.isolation == Isolation::UserNamespaces {
        return Ok(());
    }
    outside(order)?.map_or(Ok(()), |account| give(order, &account, path))
}

/// Gives the folder, which is this order's own, to this user.
pub(super) fn give(order: &Order, account: &Account, path: &Path) -> Result<(), Failure> {
    let own = (getuid().as_raw(), getgid().as_raw());
    if own == (account.uid, account.gid) || order.spec.user.is_none() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder =
        openat(CWD, path, flags, Mode::empty()).map_err(|e| Failure::sandbox(path, "opening it", e))?;
    account.own_all(&folder, 0).map_err(|e| match e {
        Errno::PERM => Failure::User {
            user: order.spec.user.clone().unwrap_or_default(),
            what: "cannot be had: the agent runs as an ordinary user, as whom its tasks run too; leave the user out, or run the agent as root".to_owned(),
        },
        e => Failure::sandbox(path, "giving it to the task's user", e),
    })
}

/// Makes the calling process one of the user of the order's task, who also gets its input and output.
pub(super) fn enter(order: &Order) -> Result<(), Failure> {
    // The user namespace of an ordinary user has no other.
    if order.isolation == Isolation::UserNamespaces {
        return Ok(());
    }
    let Some(account) = inside(order)? else { return Ok(()) };
    let own = (getuid().as_raw(), getgid().as_raw());
    if !getuid().is_root() && own == (account.uid, account.gid) {
        return Ok(());
    }
    let entered = account.own_standard().and_then(|()| account.enter());
    entered.map_err(|e| Failure::User {
        user: order.spec.user.clone().unwrap_or_default(),
        what: format!("cannot be changed to: {e}; leave the user out, or run the agent as root"),
    })
}

fn find(user: &str, read: impl Fn(&str) -> Result<String, Errno>) -> Result<Account, Failure> {
    let failed = |what: String| Failure::User { user: user.to_owned(), what };
    let read = |file: &str| {
        read(file)
            .map_err(|e| failed(format!("cannot be looked up: /etc/{file} of its root cannot be read: {e}")))
    };
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    if name.is_empty() || group == Some("") {
        return Err(failed("is not USER or USER:GROUP".to_owned()));
    }
    let passwd = read("passwd")?;
    let entry = accounts(&passwd).find(|entry| entry.name == name).or_else(|| {
        let uid = number(name)?;
        accounts(&passwd).find(|entry| entry.numbers[0] == uid)
    });
    let (uid, own_gid) = match (&entry, number(name)) {
        (Some(entry), _) => (entry.numbers[0], entry.numbers[1]),
        // Not known by name, and as Docker has it then in group 0.
        (None, Some(uid)) => (uid, 0),
        (None, None) => {
            return Err(failed(format!(
                "is unknown: /etc/passwd of its root has no {name:?}; name one that is there, or a number"
            )));
        }
    };
    let Some(group) = group else {
        let groups = match &entry {
            Some(entry) => members(&read("group")?, entry.name),
            None => Vec::new(),
        };
        return Ok(Account { uid, gid: own_gid, groups });
    };
    let text = read("group")?;
    let by_name = lines(&text).find(|fields| fields[0] == group).and_then(|fields| number(fields.get(2)?));
    match by_name.or_else(|| number(group)) {
        Some(gid) => Ok(Account { uid, gid, groups: Vec::new() }),
        None => Err(failed(format!(
            "is unknown: /etc/group of its root has no {group:?}; name one that is there, or a number"
        ))),
    }
}

struct Entry<'a> {
    name: &'a str,
    /// User and group.
    numbers: [u32; 2],
}

/// The lines that say something; others are as good as missing, as they are to the C library.
fn accounts(passwd: &str) -> impl Iterator<Item = Entry<'_>> {
    lines(passwd).filter_map(|fields| {
        let numbers = [number(fields.get(2)?)?, number(fields.get(3)?)?];
        Some(Entry { name: fields[0], numbers })
    })
}

fn members(group: &str, name: &str) -> Vec<u32> {
    let of =
        lines(group).filter(|fields| fields.get(3).is_some_and(|all| all.split(',').any(|one| one == name)));
    of.filter_map(|fields| number(fields.get(2)?)).take(GROUPS_MAX).collect()
}

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split(':').collect())
}

/// The last number stands for none.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

impl Account {
    /// Makes this the user of the calling process, which loses what only root may.
    pub(super) fn enter(&self) -> Result<(), Errno> {
        let gid = Gid::from_raw(self.gid);
        let groups: Vec<Gid> = self.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
        set_thread_groups(&groups)?;
        set_thread_res_gid(gid, gid, gid)?;
        let uid = Uid::from_raw(self.uid);
        set_thread_res_uid(uid, uid, uid)
    }

    /// Gives it the standard descriptors, but for those of devices that others have too.
    fn own_standard(&self) -> Result<(), Errno> {
        for standard in [stdin().as_fd(), stdout().as_fd(), stderr().as_fd()] {
            let found = fstat(standard)?;
            let own = match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile | FileType::Fifo => true,
                FileType::CharacterDevice => TERMINALS.contains(&major(found.st_rdev)),
                _ => false,
            };
            if own {
                fchown(standard, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
            }
        }
        Ok(())
    }

    /// Makes it the owner of a folder with all that is in it, but for what is mounted there.
    fn own_all(&self, folder: &OwnedFd, depth: usize) -> Result<(), Errno> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        fchown(folder, Some(uid), Some(gid))?;
        if depth == DEPTH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let device = fstat(folder)?.st_dev;
        for entry in Dir::read_from(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if [c".", c".."].contains(&name) {
                continue;
            }
            let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if found.st_dev != device {
                continue;
            }
            if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                self.own_all(&openat(folder, name, flags, Mode::empty())?, depth + 1)?;
            } else {
                chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "# users\nroot:x:0:0:root:/root:/bin/sh\nbroken:x:1\nweb:x:33:34::/:\n7:x:70:71::/:\nlast:x:4294967295:0::/:\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nlogs:x:40:web,other\nmore:x:41:other,web\nbad:x:x:web\n";

    fn found(user: &str) -> Result<Account, String> {
        let read = |file: &str| Ok(if file == "passwd" { PASSWD } else { GROUP }.to_owned());
        find(user, read).map_err(|failure| match failure {
            Failure::User { what, .. } => what,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn names_and_numbers() {
        let account = |uid, gid, groups: &[u32]| Ok(Account { uid, gid, groups: groups.to_vec() });
        assert_eq!(found("root"), account(0, 0, &[]));
        assert_eq!(found("web"), account(33, 34, &[40, 41]));
        assert_eq!(found("33"), account(33, 34, &[40, 41]), "known by its number");
        assert_eq!(found("7"), account(70, 71, &[]), "a name goes before a number");
        assert_eq!(found("1234"), account(1234, 0, &[]));
        assert_eq!(found("1234:5678"), account(1234, 5678, &[]));
        assert_eq!(found("web:logs"), account(33, 40, &[]));
    }

    #[test]
    fn who_is_unknown_is_named() {
        for (user, what) in [
            ("nobody", "has no \"nobody\""),
            ("broken", "has no \"broken\""),
            ("last", "has no \"last\""),
            ("4294967295", "has no \"4294967295\""),
            ("-1", "has no \"-1\""),
            ("web:none", "has no \"none\""),
            (":web", "is not USER"),
            ("web:", "is not USER"),
        ] {
            let why = found(user).unwrap_err();
            assert!(why.contains(what), "{user}: {why}");
        }
    }
}
