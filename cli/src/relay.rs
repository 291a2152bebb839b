//! What runs elsewhere writes here: its output to ours, its errors to ours.

use std::{io, process::ExitCode};

use anyhow::Context as _;
use tokio::{
    io::{AsyncWriteExt as _, Stderr, Stdout},
    signal::unix::{SignalKind, signal},
};

use crate::output::Closed;

/// Both outputs of this process. Neither blocks the runtime: whoever reads may be slow, and signals are heard all the same.
pub(crate) struct Relay {
    stdout: Stdout,
    stderr: Stderr,
}

impl Relay {
    pub(crate) fn new() -> Relay {
        Relay { stdout: tokio::io::stdout(), stderr: tokio::io::stderr() }
    }

    /// Writes to standard output, at once.
    pub(crate) async fn output(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        let written = async {
            self.stdout.write_all(bytes).await?;
            self.stdout.flush().await
        };
        match written.await {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
            written => written.context("writing to standard output"),
        }
    }

    /// The same to standard error; that nobody watches is no error.
    pub(crate) async fn errors(&mut self, bytes: &[u8]) {
        let _ = self.stderr.write_all(bytes).await;
        let _ = self.stderr.flush().await;
    }
}

/// As a shell would give it.
pub(crate) fn of_signal(signal: i32) -> ExitCode {
    of_code(128 + signal)
}

/// All that a parent hears of a code are its lowest bits.
pub(crate) fn of_code(code: i32) -> ExitCode {
    ExitCode::from((code & 0xff) as u8)
}

/// The number of the first signal that asks this process to end.
pub(crate) async fn asked_to_end() -> io::Result<i32> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(tokio::select! {
        _ = hangup.recv() => 1,
        _ = interrupt.recv() => 2,
        _ = quit.recv() => 3,
        _ = terminate.recv() => 15,
    })
}
