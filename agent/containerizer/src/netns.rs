//! Network namespaces that are files, made and entered by helpers: a process with threads cannot do it for itself.

use std::{
    ffi::OsString,
    fs, io,
    path::Path,
    process::{Output, Stdio},
};

use rustix::{
    fs::{FsWord, statfs},
    mount::{UnmountFlags, unmount},
};
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::linux::NETNS;

/// The file system of namespaces (linux/magic.h).
const NSFS_MAGIC: FsWord = 0x6e73_6673;

/// Network namespaces of this machine that are files.
#[derive(Debug, Clone)]
pub struct NetworkNamespaces {
    /// As [`crate::NativeConfig::runner`].
    runner: Vec<OsString>,
    /// What helpers have in their environment beside the agent's.
    mark: Option<(String, String)>,
}

impl NetworkNamespaces {
    /// With the command that calls [`crate::runner_main`].
    pub fn new(runner: Vec<OsString>) -> Self {
        Self { runner, mark: None }
    }

    /// The same, of which helpers have this variable in their environment: by that those are found which outlive an agent that is killed.
    #[must_use]
    pub fn marked(&self, (name, value): (&str, &str)) -> Self {
        Self { mark: Some((name.to_owned(), value.to_owned())), ..self.clone() }
    }

    /// Makes a namespace with a loopback and nothing else, at a path where there must be nothing yet. It lives until
    /// [`NetworkNamespaces::remove`], or the end of the machine; takes root.
    pub async fn make(&self, file: &Path) -> io::Result<()> {
        let output = self.helper("make", file).kill_on_drop(true).stdin(Stdio::null()).output().await?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(said(&output))),
        }
    }

    /// Runs a program of this machine in a namespace, gives it this input, and waits for its end, which it does not outlive the caller's
    /// interest in.
    pub async fn run_in(&self, file: &Path, program: &[&str], input: &str) -> io::Result<Output> {
        let mut command = self.helper("enter", file);
        command.args(program).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().expect("it was asked for");
        let input = input.to_owned();
        let write = async move {
            // A program that does not want it all says why by itself.
            let _ = stdin.write_all(input.as_bytes()).await;
            drop(stdin);
        };
        let ((), output) = tokio::join!(write, child.wait_with_output());
        output
    }

    /// True while there is a namespace at this path: a file on which one was mounted in an earlier life of the machine is none.
    pub fn is_one(file: &Path) -> bool {
        statfs(file).is_ok_and(|of| of.f_type == NSFS_MAGIC)
    }

    /// Removes what [`NetworkNamespaces::make`] made, or has begun to make; what is not there is no error. Processes that are in it stay
    /// in it until they end.
    pub fn remove(file: &Path) -> io::Result<()> {
        while Self::is_one(file) {
            unmount(file, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        }
        match fs::remove_file(file) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn helper(&self, word: &str, file: &Path) -> Command {
        let (program, words) = self.runner.split_first().expect("a runner is a program");
        let mut command = Command::new(program);
        command.args(words).args([NETNS, word]).arg(file).current_dir("/").envs(self.mark.clone());
        command
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}
