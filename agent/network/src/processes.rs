//! The processes of plugins and of helpers, as they are found again: also those that an earlier process of the agent has started.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _},
    os::fd::OwnedFd,
    time::Duration,
};

use apportion_containerizer::process_ended;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use crate::{blocking, plugin::Verb};

/// What plugins, and what they start, have in their environment.
const VARIABLE: &str = "APPORTION_PLUGIN_MARK";

/// What helpers of the agent's own have there.
const HELPER: &str = "APPORTION_HELPER_MARK";

/// Bytes of chance in a mark.
const MARK_BYTES: usize = 16;

/// Between two looks for processes that cannot be watched.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// How long processes that were killed may take to be gone.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// The mark of the plugins that are asked about an owner, and of helpers that work for it. Nobody but the agent and they know it: who
/// chooses the environment of a process, as tasks do, cannot have it taken for one of them.
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
    pub(crate) fn of_plugin(&self) -> (&str, &str) {
        (VARIABLE, &self.0)
    }

    /// The variable that a helper of the agent's own is to have in its environment.
    pub(crate) fn of_helper(&self) -> (&str, &str) {
        (HELPER, &self.0)
    }

    /// Waits for plugins that an earlier process of the agent has started, for this verb or for any, and ends them when they take longer
    /// than they may.
    ///
    /// They are let finish, because some that are cut off do not find again what they have left.
    pub(crate) async fn finish(&self, owner: &str, verb: Option<Verb>, patience: Duration) {
        let finished = async {
            loop {
                let found = self.plugins(verb).await;
                if found.is_empty() {
                    return;
                }
                all_ended(found).await;
            }
        };
        if timeout(patience, finished).await.is_err() {
            self.end(owner, verb).await;
        }
    }

    /// Ends the plugins that have this mark, for this verb or for any, with what they have started. What an earlier verb has left to run
    /// for the owner, such as a client of DHCP, is for plugins to end.
    pub(crate) async fn end(&self, owner: &str, verb: Option<Verb>) {
        let ended = async {
            loop {
                let found = self.plugins(verb).await;
                if found.is_empty() {
                    return;
                }
                kill(&found);
                all_ended(found).await;
            }
        };
        if timeout(END_TIMEOUT, ended).await.is_err() {
            tracing::warn!(owner, "plugins that were killed do not end");
        }
    }

    async fn plugins(&self, verb: Option<Verb>) -> Vec<OwnedFd> {
        let mark = format!("{VARIABLE}={}", self.0);
        let verb = verb.map(|verb| format!("{}={}", Verb::VARIABLE, verb.word()));
        let has = |variables: &[&[u8]], wanted: &str| variables.contains(&wanted.as_bytes());
        blocking(move || {
            find(|variables| has(variables, &mark) && verb.as_deref().is_none_or(|verb| has(variables, verb)))
        })
        .await
    }
}

/// Ends the helpers that an earlier process of the agent has started for owners of these marks: they would do late what was to be done
/// then, over what is done now.
pub(crate) async fn end_helpers(marks: Vec<Mark>) {
    if marks.is_empty() {
        return;
    }
    let marks: BTreeSet<String> = marks.into_iter().map(|Mark(mark)| format!("{HELPER}={mark}")).collect();
    let found = blocking(move || {
        let is = |variable: &&[u8]| str::from_utf8(variable).is_ok_and(|text| marks.contains(text));
        find(|variables| variables.iter().any(is))
    });
    let ended = async {
        let found = found.await;
        kill(&found);
        all_ended(found).await;
    };
    if timeout(END_TIMEOUT, ended).await.is_err() {
        tracing::warn!("helpers of an earlier agent that were killed do not end");
    }
}

/// Kills these processes; one that has ended meanwhile is no error.
fn kill(processes: &[OwnedFd]) {
    for process in processes {
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}

/// Returns when these processes have ended.
async fn all_ended(processes: Vec<OwnedFd>) {
    for process in processes {
        if process_ended(process).await.is_err() {
            // It cannot be watched for want of something; whoever asks looks again.
            sleep(LOOK_INTERVAL).await;
        }
    }
}

/// The processes of which the environment is such. Blocks.
fn find(is: impl Fn(&[&[u8]]) -> bool) -> Vec<OwnedFd> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let pids = pids.filter_map(Pid::from_raw).filter(|pid| environment_is(*pid, &is));
    let found = pids.filter_map(|pid| {
        let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at again behind the descriptor: the number may have become another's.
        environment_is(pid, &is).then_some(process)
    });
    found.collect()
}

fn environment_is(pid: Pid, is: &impl Fn(&[&[u8]]) -> bool) -> bool {
    let path = format!("/proc/{}/environ", pid.as_raw_nonzero());
    let mut text = Vec::new();
    let read = File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut text));
    read.is_ok() && is(&text.split(|byte| *byte == 0).collect::<Vec<_>>())
}
