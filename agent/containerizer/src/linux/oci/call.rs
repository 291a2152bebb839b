//! Calling the runtime's program.

use std::{
    env,
    ffi::CString,
    fs,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use apportion_types::container::Exit;
use rustix::{
    fs::{Mode, OFlags, open},
    process::{Signal, set_parent_process_death_signal},
};

use super::super::{
    note,
    sys::{self, Copy},
};
use crate::{
    folder::{self, Failure, Process},
    runtime::{self, DEFAULT_PATH, OciRuntime},
};

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
    pub(super) fn create(&self, standard: &[OwnedFd; 3]) -> Result<i32, Failure> {
        let (bundle, pid) = (self.place(), self.place().join("pid"));
        let words = ["--bundle", &bundle.display().to_string(), "--pid-file", &pid.display().to_string()];
        self.call("create", &words, &[], standard.each_ref().map(AsFd::as_fd))?;
        let text = fs::read_to_string(&pid).map_err(|e| Failure::state(&pid, &e))?;
        text.trim().parse().map_err(|_| Failure::Runtime {
            what: format!("{} wrote no process number: {text:?}", self.runtime.name()),
        })
    }

    /// Lets the first process execute its program.
    pub(super) fn start(&self) -> Result<(), Failure> {
        self.quietly("start", &[], &[])
    }

    /// Sends a signal to every process of the container.
    pub(in crate::linux) fn kill_all(&self, signal: &str) -> Result<(), Failure> {
        self.quietly("kill", &["--all"], &[signal])
    }

    /// Has it forget the container, and end it if it still lives. What it cannot do is said in the runner's log: all that matters is
    /// cleared away without it.
    pub(in crate::linux) fn delete(&self) {
        if let Err(failure) = self.quietly("delete", &["--force"], &[]) {
            note(format_args!("{failure:?}"));
        }
    }

    fn quietly(&self, command: &str, before: &[&str], behind: &[&str]) -> Result<(), Failure> {
        let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let null = null.map_err(|e| Failure::setup("opening /dev/null", e))?;
        let log = std::io::stderr();
        self.call(command, before, behind, [null.as_fd(), log.as_fd(), log.as_fd()])
    }

    fn call(
        &self,
        command: &str,
        before: &[&str],
        behind: &[&str],
        standard: [BorrowedFd<'_>; 3],
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
        let child = match sys::copy(0).map_err(started)? {
            Copy::Parent { child } => child,
            Copy::Child => {
                // It goes with the runner, so that nothing is made for which nobody is there any more.
                let _ = set_parent_process_death_signal(Some(Signal::KILL));
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
        match sys::reap(child, true) {
            Some((_, Exit::Code(0))) => Ok(()),
            ended => {
                let said = said(&fs::read_to_string(self.place().join(runtime::LOG)).unwrap_or_default());
                let how = match ended {
                    Some((_, Exit::Code(code))) => format!("ended with {code}"),
                    Some((_, Exit::Signal(signal))) => format!("was ended by signal {signal}"),
                    None => "was lost".to_owned(),
                };
                let name = self.runtime.name();
                Err(Failure::Runtime { what: format!("{name}: `{command}` {how} and said: {said}") })
            }
        }
    }
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
    log.lines().rev().find_map(message).or_else(last).unwrap_or_else(|| "nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            assert_eq!(said(log), expected);
        }
    }
}
