//! Calling the runtime's program.

use std::{
    env,
    ffi::CString,
    fs::File,
    io::{Read, Seek, SeekFrom},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use apportion_types::container::Exit;
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Signal, getpid, getppid, set_parent_process_death_signal},
};

use super::{
    super::{
        note,
        output::Outputs,
        sys::{self, Copy},
    },
    wait::{self, Reaping},
};
use crate::{
    folder::{self, Failure, Process},
    runtime::{self, DEFAULT_PATH, OciRuntime},
};

/// How long a command that makes or starts may take; less than [`crate::LAUNCH_TIMEOUT`], so that it is the runtime that is named.
const START_TIMEOUT: Duration = Duration::from_secs(25);

/// How long one that ends may take: the end of a task must not wait for a runtime that hangs.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// How much of the runtime's log is looked at.
const LOG_BYTES: u64 = 64 << 10;

/// How much of what it said is passed on.
const SAID_CHARS: usize = 1024;

/// The runtime, as it is called for one container.
pub(in crate::linux) struct Runtime {
    runtime: OciRuntime,
    /// The container's folder.
    folder: PathBuf,
    name: String,
}

impl Runtime {
    /// For the container whose folder this process is in, and of which `runner` is the runner.
    pub(super) fn new(runtime: &OciRuntime, runner: Process) -> Result<Runtime, Failure> {
        let folder = env::current_dir().map_err(|e| Failure::state(Path::new("."), &e))?;
        Ok(Runtime { runtime: runtime.clone(), folder, name: runtime::name_of(runner) })
    }

    /// Enters the container's folder again.
    pub(super) fn return_to_folder(&self) -> Result<(), Failure> {
        env::set_current_dir(&self.folder).map_err(|e| Failure::state(&self.folder, &e))
    }

    /// The folder of what is the runtime's.
    pub(super) fn place(&self) -> PathBuf {
        self.folder.join(folder::RUNTIME)
    }

    /// Makes the container from the bundle in its place, with these for input, output and errors; returns its first process, which
    /// waits to be started.
    ///
    /// What comes to `outputs` meanwhile is kept.
    pub(super) fn create(&self, standard: &[OwnedFd; 3], outputs: &mut Outputs) -> Result<i32, Failure> {
        let (bundle, pid) = (self.place(), self.place().join("pid"));
        let words = ["--bundle", &bundle.display().to_string(), "--pid-file", &pid.display().to_string()];
        let standard = standard.each_ref().map(AsFd::as_fd);
        self.call("create", [&words, &[]], standard, Reaping::Own, outputs)?;
        let text = read_tail(&pid, SAID_CHARS as u64);
        // Never this machine's process 1, nor what a signal would take for a group.
        text.trim().parse().ok().filter(|pid| *pid > 1).ok_or_else(|| Failure::Runtime {
            what: format!("{} wrote no process number: {:?}", self.runtime.name(), cut(&text)),
        })
    }

    /// Lets the first process execute its program.
    pub(super) fn start(&self) -> Result<(), Failure> {
        self.quietly("start", [&[], &[]], Reaping::Own)
    }

    /// Sends a signal to every process of the container.
    pub(in crate::linux) fn kill_all(&self, signal: &str) -> Result<(), Failure> {
        self.quietly("kill", [&["--all"], &[signal]], Reaping::Own)
    }

    /// Has it forget the container, and end it if it still lives. What it cannot do is said in the runner's log: all that matters is
    /// cleared away without it.
    pub(in crate::linux) fn delete(&self) {
        // What it ends are this process's children, and some runtimes wait until these are reaped.
        if let Err(failure) = self.quietly("delete", [&["--force"], &[]], Reaping::All) {
            note(format_args!("{failure:?}"));
        }
    }

    fn quietly(&self, command: &str, around: [&[&str]; 2], reaping: Reaping) -> Result<(), Failure> {
        let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let null = null.map_err(|e| Failure::setup("opening /dev/null", e))?;
        let log = std::io::stderr();
        self.call(command, around, [null.as_fd(), log.as_fd(), log.as_fd()], reaping, &mut Outputs::none())
    }

    /// Runs a command, with these words before and behind the container's name.
    fn call(
        &self,
        command: &str,
        [before, behind]: [&[&str]; 2],
        standard: [BorrowedFd<'_>; 3],
        reaping: Reaping,
        outputs: &mut Outputs,
    ) -> Result<(), Failure> {
        let started = |e| Failure::setup(format!("starting {}", self.runtime.program.display()), e);
        let text = |text: &[u8]| CString::new(text).map_err(|e| started(e.into()));
        let program = text(self.runtime.program.as_os_str().as_bytes())?;
        let words = self.runtime.arguments(&self.folder);
        let words = words.iter().map(String::as_str).chain([command]).chain(before.iter().copied());
        let words = words.chain([self.name.as_str()]).chain(behind.iter().copied());
        let words: Vec<CString> = words.map(|word| text(word.as_bytes())).collect::<Result<_, _>>()?;
        let argv: Vec<CString> = std::iter::once(program.clone()).chain(words).collect();
        let env = [text(format!("PATH={DEFAULT_PATH}").as_bytes())?];
        let limit = if ["create", "start"].contains(&command) { START_TIMEOUT } else { END_TIMEOUT };
        let runner = getpid();
        let child = match sys::copy(0).map_err(started)? {
            Copy::Parent { child } => child,
            Copy::Child => {
                // It goes with the runner, so that nothing is made for which nobody is there any more.
                let _ = set_parent_process_death_signal(Some(Signal::KILL));
                if getppid() != Some(runner) {
                    sys::exit_now(127);
                }
                sys::leave_session_keys();
                let connected =
                    standard.iter().zip(0..).all(|(from, to)| sys::replace_standard(*from, to).is_ok());
                if connected {
                    sys::close_all_on_exec();
                    sys::reset_signals();
                    sys::execute(&program, &argv, &env);
                }
                sys::exit_now(127)
            }
        };
        let how = match wait::ended(child, reaping, limit, outputs) {
            Some(Exit::Code(0)) => return Ok(()),
            Some(Exit::Code(code)) => format!("ended with {code}"),
            Some(Exit::Signal(signal)) => format!("was ended by signal {signal}"),
            None => format!("took longer than {limit:?}"),
        };
        let said = said(&read_tail(&self.place().join(runtime::LOG), LOG_BYTES));
        let name = self.runtime.name();
        Err(Failure::Runtime { what: format!("{name}: `{command}` {how} and said: {said}") })
    }
}

/// The end of a file that may have any length; empty when there is none.
fn read_tail(path: &Path, bytes_max: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(bytes_max)))?;
        let mut bytes = Vec::new();
        file.take(bytes_max).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).into_owned()
}

/// As much as fits into a message.
fn cut(text: &str) -> String {
    text.trim().chars().take(SAID_CHARS).collect()
}

/// The last error that a runtime wrote to its log, or its last line where it keeps to no form that is known.
fn said(log: &str) -> String {
    let message = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        let is_error = line["level"].as_str().is_some_and(|level| level.eq_ignore_ascii_case("error"));
        let text = line["msg"].as_str().or_else(|| line["fields"]["message"].as_str())?;
        is_error.then(|| text.trim().to_owned())
    };
    let last = || log.lines().rfind(|line| !line.trim().is_empty()).map(str::to_owned);
    log.lines().rev().find_map(message).or_else(last).map_or_else(|| "nothing".to_owned(), |said| cut(&said))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_file_the_end_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        assert_eq!(read_tail(&path, 3), "");
        std::fs::write(&path, "0123456789").unwrap();
        assert_eq!((read_tail(&path, 3), read_tail(&path, 30)), ("789".into(), "0123456789".into()));
    }

    #[test]
    fn what_runtimes_say() {
        for (log, expected) in [
            ("", "nothing"),
            (
                "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\" no \\n\"}\n{\"level\":\"warning\",\"msg\":\"x\"}\n",
                "no",
            ),
            ("{\"timestamp\":\"t\",\"level\":\"ERROR\",\"fields\":{\"message\":\"bad\"}}\n", "bad"),
            ("plain words\n\n", "plain words"),
            (&"x".repeat(5000), &"x".repeat(SAID_CHARS)),
        ] {
            assert_eq!(said(log), expected);
        }
    }
}
