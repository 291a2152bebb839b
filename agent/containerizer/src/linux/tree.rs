//! Ending processes by their descent, where no process namespace holds them together.

use std::{collections::BTreeSet, io, thread, time::Duration};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid},
};

use super::sys;
use crate::procfs;

/// How soon processes are looked for again that could not be seen.
const UNSEEN_PAUSE: Duration = Duration::from_millis(100);

fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    !matches!(waitid(WaitId::All, look), Err(Errno::CHILD))
}

fn me() -> i32 {
    std::process::id() as i32
}

fn send(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        // Gone meanwhile, or changed its user: nothing that we could do about it.
        let _ = kill_process(pid, signal);
    }
}

/// Sends a signal to every process below `root`; to none where `/proc` cannot be read.
pub(super) fn signal_below(root: i32, signal: Signal) {
    procfs::descendants(root).unwrap_or_default().into_keys().for_each(|pid| send(pid, signal));
}

/// Kills every process below `root`, all stopped first so that none forks away meanwhile.
///
/// One may still escape that was being forked; callers repeat it until nothing is left. On error those are killed that could be seen.
pub(super) fn kill_below(root: i32) -> io::Result<()> {
    kill_seen(|| Ok(procfs::descendants(root)?.into_keys().collect()))
}

/// Kills those that are seen, looking until there are none but what was seen before. Nobody stays stopped, whatever fails.
fn kill_seen(mut look: impl FnMut() -> io::Result<Vec<i32>>) -> io::Result<()> {
    let mut stopped = BTreeSet::new();
    let all_seen = loop {
        let fresh: Vec<i32> = match look() {
            Ok(below) => below.into_iter().filter(|pid| stopped.insert(*pid)).collect(),
            Err(error) => break Err(error),
        };
        if fresh.is_empty() {
            break Ok(());
        }
        fresh.into_iter().for_each(|pid| send(pid, Signal::STOP));
    };
    stopped.into_iter().for_each(|pid| send(pid, Signal::KILL));
    all_seen
}

/// Kills and reaps everything below this process, which must be a child subreaper; returns when nothing is left.
pub(super) fn end_all_below_me() {
    loop {
        match kill_below(me()) {
            // Each of them is a child of this process by now, or will be when its parent is reaped.
            Ok(()) if sys::reap(-1, true).is_none() => return,
            Ok(()) => {}
            // Not all were killed, so that no end is waited for.
            Err(_) if !has_children() => return,
            Err(_) => thread::sleep(UNSEEN_PAUSE),
        }
        while sys::reap(-1, false).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn what_was_stopped_is_killed_also_when_no_more_can_be_seen() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = child.id() as i32;
        let mut looks = [Ok(vec![pid]), Err(io::ErrorKind::OutOfMemory.into())].into_iter();
        kill_seen(|| looks.next().unwrap()).unwrap_err();
        // Being stopped is told before the end, if it is not killed.
        let either = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
        let told = waitid(WaitId::Pid(Pid::from_raw(pid).unwrap()), either).unwrap().unwrap();
        let _ = child.kill();
        child.wait().unwrap();
        assert!(told.killed() && !told.stopped(), "it was left stopped");
    }
}
