//! What `/proc` says of processes.

use std::{collections::BTreeMap, fs, io, sync::OnceLock};

use rustix::io::Errno;

/// The kernel reports times to user space in this unit on every architecture that matters here.
const TICK_US: u64 = 10_000;

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) parent: i32,
    pub(crate) session: i32,
    /// True for a zombie: it has ended and was not reaped.
    pub(crate) ended: bool,
    pub(crate) threads: u64,
    /// Its own processor time and that of the children that it reaped.
    pub(crate) cpu_us: u64,
    /// Since boot.
    pub(crate) start_ticks: u64,
}

/// Parses the text of `/proc/PID/stat`; the name in it may hold anything, also parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let ticks = (11..=14).map(number).sum::<Option<u64>>()?;
    Some(Stat {
        ended: matches!(*fields.first()?, "Z" | "X" | "x"),
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        cpu_us: ticks.saturating_mul(TICK_US),
        threads: number(17)?,
        start_ticks: number(19)?,
    })
}

/// The process of this number, if there is one. An error says nothing of it: whoever has no descriptor left sees no process.
pub(crate) fn stat(pid: i32) -> io::Result<Option<Stat>> {
    match fs::read(format!("/proc/{pid}/stat")) {
        // Lossy: a name need not be UTF-8.
        Ok(bytes) => Ok(parse_stat(&String::from_utf8_lossy(&bytes))),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// True when the machine or this process is short of descriptors or memory.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

/// What `/proc` says of a process that is no more: also while its file is read.
fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH))
}

/// Every process that can be seen: not those of others where they are hidden.
pub(crate) fn all() -> io::Result<BTreeMap<i32, Stat>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        match stat(pid) {
            Ok(stat) => found.extend(stat.map(|stat| (pid, stat))),
            Err(error) if is_shortage(&error) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(found)
}

/// The processes below `root`, at any depth, without those that have ended.
pub(crate) fn descendants(root: i32) -> io::Result<BTreeMap<i32, Stat>> {
    Ok(below(&all()?, root))
}

fn below(all: &BTreeMap<i32, Stat>, root: i32) -> BTreeMap<i32, Stat> {
    let mut found = BTreeMap::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for (pid, stat) in all.iter().filter(|(_, stat)| stat.parent == parent) {
            if !found.contains_key(pid) && *pid != root {
                found.insert(*pid, *stat);
                parents.push(*pid);
            }
        }
    }
    found.retain(|_, stat: &mut Stat| !stat.ended);
    found
}

/// The most memory that a process held at once.
pub(crate) fn peak_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Names this boot of the machine; empty where the kernel does not say.
pub(crate) fn boot_id() -> io::Result<&'static str> {
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id);
    }
    let id = match fs::read_to_string("/proc/sys/kernel/random/boot_id") {
        Ok(id) => id.trim().to_owned(),
        Err(error) if is_shortage(&error) => return Err(error),
        Err(_) => String::new(),
    };
    Ok(ID.get_or_init(|| id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces() {
        let text = "42 (a) (b c) S 7 42 40 0 -1 4194560 100 200 0 0 11 12 13 14 20 0 3 0 987654 1 2 3";
        let stat = parse_stat(text).unwrap();
        assert_eq!(
            stat,
            Stat { parent: 7, session: 40, ended: false, threads: 3, cpu_us: 500_000, start_ticks: 987_654 }
        );
        assert!(parse_stat(&text.replace(" S ", " Z ")).unwrap().ended);
    }

    #[test]
    fn garbage_is_no_process() {
        for text in ["", ")", "1 (x)", "1 (x) S", "1 (x) S a b c d e f g h i j k l m n o p q r s t"] {
            assert_eq!(parse_stat(text), None, "{text:?}");
        }
    }

    #[test]
    fn oneself() {
        let me = std::process::id() as i32;
        let stat = stat(me).unwrap().unwrap();
        assert!(!stat.ended && stat.threads >= 1 && stat.start_ticks > 0);
        assert!(descendants(stat.parent).unwrap().contains_key(&me));
        assert!(peak_bytes(me).unwrap() > 4096);
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
    }

    #[test]
    fn descent_is_followed_through_the_dead() {
        let at = |parent, ended| Stat { parent, session: 1, ended, threads: 1, cpu_us: 0, start_ticks: 1 };
        let all = BTreeMap::from([
            (1, at(0, false)),
            (2, at(1, false)),
            (3, at(2, true)),
            (4, at(3, false)),
            (9, at(1, false)),
        ]);
        assert_eq!(below(&all, 2).into_keys().collect::<Vec<_>>(), [4]);
        assert_eq!(below(&all, 0).into_keys().collect::<Vec<_>>(), [1, 2, 4, 9]);
    }
}
