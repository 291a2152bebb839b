//! What goes to standard output: text for people or JSON for programs.

use std::io::{self, Write};

use serde::Serialize;

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people; may change.
    #[default]
    Text,
    /// For programs; fields are only ever added.
    Json,
}

/// Whoever read our output has gone (`apportion tasks | head -1`): nothing is left to do, and nothing to complain of.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(crate) struct Closed;

/// Writes to standard output, at once.
pub(crate) fn write(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        done => done.map_err(|e| anyhow::Error::new(e).context("writing to standard output")),
    }
}

/// Writes a value in the form that is asked for; the text is made only when it is.
pub(crate) fn answer<T: Serialize>(
    format: Format,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let text = match format {
        Format::Text => text(value),
        Format::Json => json(value),
    };
    write(text.as_bytes())
}

/// A value as indented JSON with a line's end.
pub(crate) fn json<T: Serialize>(value: &T) -> String {
    let text = serde_json::to_string_pretty(value)
        .expect("our own values have texts as keys and no infinite numbers");
    text + "\n"
}

/// Says something to whoever watches, on standard error; that nobody does is no error.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
