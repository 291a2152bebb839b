//! What `/proc` says of processes.

use std::{collections::BTreeMap, fs, sync::OnceLock};

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

/// The process of this number, if there is one.
pub(crate) fn stat(pid: i32) -> Option<Stat> {
    // Lossy: a name need not be UTF-8.
    parse_stat(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
}

/// Every process that can be seen.
pub(crate) fn all() -> BTreeMap<i32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// The processes below `root`, at any depth, without those that have ended.
pub(crate) fn descendants(root: i32) -> BTreeMap<i32, Stat> {
    below(&all(), root)
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
pub(crate) fn boot_id() -> String {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    })
    .clone()
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
        let stat = stat(me).unwrap();
        assert!(!stat.ended && stat.threads >= 1 && stat.start_ticks > 0);
        assert!(descendants(stat.parent).contains_key(&me));
        assert!(peak_bytes(me).unwrap() > 4096);
        assert_eq!(boot_id(), boot_id());
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
