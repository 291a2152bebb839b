//! Runs the real binary, with an environment and a temporary folder of its own, and never for ever.

use std::{
    fs,
    io::{BufRead as _, BufReader, PipeReader, PipeWriter, Read, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use rustix::fs::OFlags;

/// Far beyond what anything here takes on a machine that is busy with other work.
pub(crate) const BOUND: Duration = Duration::from_secs(120);

/// A folder for everything that a test makes; `TMPDIR` of the commands that it runs.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place { folder: tempfile::Builder::new().prefix("apportion-test-").tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// The folder of all temporary folders of the commands; nothing else is in it.
    pub(crate) fn tmp(&self) -> PathBuf {
        let tmp = self.path().join("tmp");
        fs::create_dir_all(&tmp).unwrap();
        tmp
    }

    /// The binary, knowing no settings but those of the test.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.prepared(Command::new(env!("CARGO_BIN_EXE_apportion")), args)
    }

    /// The same, started by something else.
    pub(crate) fn prepared(&self, mut command: Command, args: &[&str]) -> Command {
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("APPORTION_") {
                command.env_remove(name);
            }
        }
        command.env_remove("RUST_LOG").env("APPORTION_CONFIG", "/dev/null").env("TMPDIR", self.tmp());
        command
            .args(args)
            .current_dir(self.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        Running::start(self.command(args)).end()
    }

    /// Begins to run it.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        Running::start(self.command(args))
    }

    /// Begins to run it as what a shell becomes that has run this.
    pub(crate) fn start_after(&self, script: &str, args: &[&str]) -> Running {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", &format!("{script}; exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_apportion")]);
        Running::start(self.prepared(shell, args))
    }
}

impl Ended {
    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Fails with everything it said unless it ended with this code.
    pub(crate) fn expect(self, code: i32) -> Ended {
        assert_eq!(self.code(), Some(code), "{self:#?}");
        self
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// A command that runs; killed when dropped.
pub(crate) struct Running {
    child: Child,
    stdout: Lines,
    stderr: Lines,
}

/// What a stream has said, line by line.
struct Lines {
    lines: Receiver<String>,
    seen: String,
}

impl Lines {
    fn of(stream: impl Read + Send + 'static) -> Lines {
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
                line.clear();
            }
        });
        Lines { lines, seen: String::new() }
    }

    /// The next line, or none at the stream's end.
    fn next(&mut self) -> Option<String> {
        match self.lines.recv_timeout(BOUND) {
            Ok(line) => {
                self.seen += &line;
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("nothing more was said within {BOUND:?} after:\n{}", self.seen)
            }
        }
    }

    fn rest(&mut self) -> String {
        while self.next().is_some() {}
        std::mem::take(&mut self.seen)
    }
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Running {
        let mut child = command.spawn().unwrap();
        let stdout = match child.stdout.take() {
            Some(stdout) => Lines::of(stdout),
            // The test has the other end itself.
            None => Lines::of(std::io::empty()),
        };
        let stderr = Lines::of(child.stderr.take().unwrap());
        Running { child, stdout, stderr }
    }

    pub(crate) fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// The first line of standard output that holds a text; at its end, everything is said and the test fails.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        while let Some(line) = self.stdout.next() {
            if line.contains(text) {
                return line;
            }
        }
        let errors = self.stderr.rest();
        panic!("it ended without saying `{text}`:\n{}{errors}", self.stdout.seen);
    }

    /// The same for standard error.
    pub(crate) fn error_with(&mut self, text: &str) -> String {
        while let Some(line) = self.stderr.next() {
            if line.contains(text) {
                return line;
            }
        }
        panic!("it ended without saying `{text}`:\n{}{}", self.stderr.seen, self.stdout.rest());
    }

    /// Kills it, and returns when it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        let (stdout, stderr) = (self.stdout.rest(), self.stderr.rest());
        Ended { status: self.child.wait().unwrap(), stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks again and again until something is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < BOUND, "not within {BOUND:?}: {what}");
        thread::park_timeout(Duration::from_millis(20));
    }
}

/// A pipe that takes nothing more, and the end that nobody reads.
pub(crate) fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    // Whoever gets the end shares this with us.
    rustix::fs::fcntl_setfl(&writer, OFlags::empty()).unwrap();
    (reader, writer)
}

/// The port in `…127.0.0.1:PORT…`.
pub(crate) fn port(line: &str) -> u16 {
    let behind = line.split("127.0.0.1:").nth(1).unwrap_or_else(|| panic!("an address in {line}"));
    behind.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
}
