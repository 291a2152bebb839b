//! The processes of plugins, as they are found again: also those that an earlier process of the agent has started.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

/// What plugins, and what they start, have in their environment.
const VARIABLE: &str = "APPORTION_PLUGIN_MARK";

/// Bytes of chance in a mark.
const MARK_BYTES: usize = 16;

/// Between two looks for processes.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How long processes that were killed may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The mark of the plugins that are asked about an owner. Nobody but the agent and they know it: who chooses the environment of a process,
/// as tasks do, cannot have it taken for a plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark(String);

impl Mark {
    /// One that was never there before.
    pub(crate) fn new() -> io::Result<Mark> {
        let mut bytes = [0; MARK_BYTES];
        File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        Ok(Mark(bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })))
    }

    /// The variable that a plugin is to have in its environment.
    pub(crate) fn variable(&self) -> (&str, &str) {
        (VARIABLE, &self.0)
    }

    /// Waits for plugins that an earlier process of the agent has started, and ends them when they take longer than they may.
    ///
    /// They are let finish, because some that are cut off do not find again what they have left.
    pub(crate) async fn finish(&self, owner: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.all().next().is_some() {
            if Instant::now() >= deadline {
                return self.end(owner).await;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Ends whatever has this mark.
    pub(crate) async fn end(&self, owner: &str) {
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            let found = self.kill_all();
            if found == 0 {
                return;
            }
            if Instant::now() >= deadline {
                tracing::warn!(owner, processes = found, "plugins that were killed do not end");
                return;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Kills the processes that have this mark; how many there were.
    fn kill_all(&self) -> usize {
        let processes = self.all().inspect(|process| {
            // One that has ended meanwhile is no error.
            let _ = pidfd_send_signal(process, Signal::KILL);
        });
        processes.count()
    }

    /// The processes that have this mark.
    fn all(&self) -> impl Iterator<Item = OwnedFd> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(Pid::from_raw).filter(|pid| self.is_on(*pid)).filter_map(|pid| {
            let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
            // Looked at again behind the descriptor: the number may have become another's.
            self.is_on(pid).then_some(process)
        })
    }

    fn is_on(&self, pid: Pid) -> bool {
        let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
        let mut text = Vec::new();
        let read = File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut text));
        let wanted = format!("{VARIABLE}={}", self.0);
        read.is_ok() && text.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    }
}
