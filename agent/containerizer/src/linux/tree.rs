//! Ending processes by their descent, where no process namespace holds them together.

use std::collections::BTreeSet;

use rustix::process::{Pid, Signal, kill_process};

use super::sys;
use crate::procfs;

fn me() -> i32 {
    std::process::id() as i32
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // Gone meanwhile, or changed its user: nothing that we could do about it.
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to every process below `root`.
pub(super) fn signal_below(root: i32, signal: Signal) {
    procfs::descendants(root).into_keys().for_each(|pid| send(pid, signal));
}

/// Kills every process below `root`, all stopped first so that none forks away meanwhile.
///
/// One may still escape that was being forked; callers repeat it until nothing is left.
pub(super) fn kill_below(root: i32) {
    let mut stopped = BTreeSet::new();
    loop {
        let fresh: Vec<i32> =
            procfs::descendants(root).into_keys().filter(|pid| stopped.insert(*pid)).collect();
        if fresh.is_empty() {
            break;
        }
        fresh.into_iter().for_each(|pid| send(pid, Signal::STOP));
    }
    stopped.into_iter().for_each(|pid| send(pid, Signal::KILL));
}

/// Kills and reaps everything below this process, which must be a child subreaper; returns when nothing is left.
pub(super) fn end_all_below_me() {
    loop {
        kill_below(me());
        // Each of them is a child of this process by now, or will be when its parent is reaped.
        if sys::reap(-1, true).is_none() {
            return;
        }
        while sys::reap(-1, false).is_some() {}
    }
}
