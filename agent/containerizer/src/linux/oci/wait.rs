//! Waiting for a command of the runtime: never for ever, because a runtime may hang, and with an eye on what it prints.

use std::{
    iter,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use apportion_types::container::Exit;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open},
};

use super::super::{output::Outputs, sys};

/// Whose ends are taken while a command runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reaping {
    /// The command's.
    Own,
    /// Of whatever is a child of this process: nobody else will want to know them.
    All,
}

/// Between two looks for the ends of other children.
const PAUSE: Duration = Duration::from_millis(10);

/// How the command ended, a child of this process; none when it was killed because it took longer than `limit`.
///
/// What is written to `outputs` meanwhile is kept: a full pipe would have it wait for us.
pub(super) fn ended(child: i32, reaping: Reaping, limit: Duration, outputs: &mut Outputs) -> Option<Exit> {
    let start = Instant::now();
    let pid = Pid::from_raw(child);
    let pidfd = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    loop {
        let reaped = match reaping {
            Reaping::Own => sys::reap(child, false),
            Reaping::All => iter::from_fn(|| sys::reap(-1, false)).find(|(pid, _)| *pid == child),
        };
        if let Some((_, exit)) = reaped {
            return Some(exit);
        }
        let left = limit.saturating_sub(start.elapsed());
        if left.is_zero() {
            // Not reaped yet, so that the number is still its own.
            let _ = pid.map(|pid| kill_process(pid, Signal::KILL));
            sys::reap(child, true);
            return None;
        }
        let alone = reaping == Reaping::Own && pidfd.is_some();
        let pause = if alone { left } else { left.min(PAUSE) };
        let input = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds: Vec<PollFd<'_>> =
            pidfd.iter().map(AsFd::as_fd).chain(outputs.descriptors()).map(input).collect();
        let polled = poll(&mut fds, Timespec::try_from(pause).ok().as_ref());
        let ready: Vec<bool> = fds
            .iter()
            .skip(usize::from(pidfd.is_some()))
            .map(|fd| polled.is_ok() && !fd.revents().is_empty())
            .collect();
        outputs.keep(&ready);
    }
}
