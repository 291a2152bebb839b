//! Finds the hierarchies among what is mounted.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use super::{Controller, Layout};

/// One line of `/proc/self/mountinfo`, as far as it matters here.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    /// Of the file system, however often it is mounted.
    device: &'a str,
    point: PathBuf,
    kind: &'a str,
    options: &'a str,
}

fn parse_line(line: &str) -> Option<Mount<'_>> {
    let (before, after) = line.split_once(" - ")?;
    let mut before = before.split(' ');
    let (device, point) = (before.nth(2)?, before.nth(1)?);
    let mut after = after.split(' ');
    let kind = after.next()?;
    let options = after.nth(1)?;
    Some(Mount { device, point: unescape(point), kind, options })
}

/// The kernel writes space, tab, newline and backslash as a backslash and three octal digits.
pub(crate) fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = (bytes[at] == b'\\')
            .then(|| bytes.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// The mount points of all mounts, in the order of the text.
pub(crate) fn points(mountinfo: &str) -> impl Iterator<Item = PathBuf> {
    mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape)
}

fn controller(name: &str) -> Option<Controller> {
    Some(match name {
        "cpu" => Controller::Cpu,
        "cpuacct" => Controller::Cpuacct,
        "memory" => Controller::Memory,
        "cpuset" => Controller::Cpuset,
        "blkio" | "io" => Controller::Io,
        "hugetlb" => Controller::Hugetlb,
        "pids" => Controller::Pids,
        "freezer" => Controller::Freezer,
        _ => return None,
    })
}

/// The layout described by the text of `mountinfo`; `controllers_of` reads a version 2 root's `cgroup.controllers`.
///
/// A controller is taken where it is first found. The freezer is left out where version 2 can kill a whole group by itself:
/// each further hierarchy costs every launch a move.
pub(super) fn layout(mountinfo: &str, controllers_of: impl Fn(&Path) -> Option<String>) -> Layout {
    let mut layout = Layout::default();
    let mut seen = BTreeSet::new();
    for mount in mountinfo.lines().filter_map(parse_line) {
        let names: Vec<Controller> = match mount.kind {
            "cgroup" => mount.options.split(',').filter_map(controller).collect(),
            "cgroup2" if layout.v2.is_none() => {
                let text = controllers_of(&mount.point).unwrap_or_default();
                text.split_whitespace().filter_map(controller).collect()
            }
            _ => continue,
        };
        let new: BTreeSet<Controller> = names.into_iter().filter(|c| seen.insert(*c)).collect();
        if mount.kind == "cgroup2" {
            layout.v2 = Some((mount.point, new));
        } else if !new.is_empty() {
            layout.v1.insert(mount.point, new);
        }
    }
    if layout.v2.is_some() {
        layout.leave_out(Controller::Freezer);
    }
    layout
}

/// The mount points of version 1 hierarchies that are not in the layout, each once.
pub(super) fn others(mountinfo: &str, layout: &Layout) -> Vec<PathBuf> {
    let v1 = || mountinfo.lines().filter_map(parse_line).filter(|mount| mount.kind == "cgroup");
    let taken = v1().filter(|mount| layout.v1.contains_key(&mount.point));
    let mut seen: BTreeSet<&str> = taken.map(|mount| mount.device).collect();
    v1().filter(|mount| seen.insert(mount.device)).map(|mount| mount.point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(controllers: &[Controller]) -> BTreeSet<Controller> {
        controllers.iter().copied().collect()
    }

    #[test]
    fn pure_v2() {
        let text = "25 20 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = layout(text, |_| Some("cpuset cpu io memory hugetlb pids rdma\n".into()));
        assert!(found.v1.is_empty());
        let (mount, controllers) = found.v2.unwrap();
        assert_eq!(mount, Path::new("/sys/fs/cgroup"));
        assert_eq!(
            controllers,
            set(&[
                Controller::Cpu,
                Controller::Memory,
                Controller::Pids,
                Controller::Cpuset,
                Controller::Io,
                Controller::Hugetlb
            ])
        );
    }

    #[test]
    fn hybrid_with_separate_cpu_and_cpuacct() {
        let text = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime - cgroup cgroup rw,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";
        let found = layout(text, |_| Some("hugetlb\n".into()));
        assert_eq!(found.v1.len(), 4, "{found:?}");
        assert_eq!(found.v1[Path::new("/sys/fs/cgroup/cpuacct")], set(&[Controller::Cpuacct]));
        assert_eq!(found.v2, Some(("/sys/fs/cgroup/unified".into(), set(&[Controller::Hugetlb]))));
        assert!(!found.has(Controller::Freezer), "cgroup.kill replaces it");
        assert_eq!(found.driver().name(), "hybrid");
        let again =
            text.replace("41 31", "40 31 0:37 / /mnt/again rw - cgroup cgroup rw,name=systemd\n41 31");
        let others = others(&again, &found);
        assert_eq!(others, ["/sys/fs/cgroup/freezer", "/sys/fs/cgroup/systemd"].map(PathBuf::from));
    }

    #[test]
    fn pure_v1_keeps_the_freezer_and_comounts() {
        let text = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 master:1 - cgroup cgroup rw,cpu,cpuacct
33 31 0:29 / /mnt/again rw - cgroup cgroup rw,cpu,cpuacct
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
";
        let found = layout(text, |_| None);
        assert_eq!(found.v1.len(), 2, "the second mount of one hierarchy is not used");
        assert!(found.has(Controller::Freezer) && found.has(Controller::Cpu));
        assert!(!found.has(Controller::Memory));
        assert_eq!(found.driver().name(), "v1");
    }

    #[test]
    fn garbage_is_passed_over() {
        for text in ["", "\n", "a b c", "1 2 3 4 5 6 - cgroup", " - - - ", "1 2 3 4 /x 6 - cgroup y rw,what"]
        {
            assert_eq!(layout(text, |_| None), Layout::default(), "{text:?}");
        }
    }

    #[test]
    fn escapes_in_mount_points() {
        assert_eq!(unescape("/a\\040b\\134c"), Path::new("/a b\\c"));
        assert_eq!(unescape("/ends\\04"), Path::new("/ends\\04"));
        assert_eq!(unescape("/not\\999"), Path::new("/not\\999"));
    }
}
