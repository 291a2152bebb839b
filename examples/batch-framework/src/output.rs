//! The standard output of tasks: its last line for the summary, and all of it when the job asks for that.

use std::path::PathBuf;

/// Bytes of the end of a stream in which its last line is looked for.
pub const TAIL_BYTES: usize = 4096;

/// Characters of a last line that are kept.
pub const LINE_CHARS_MAX: usize = 200;

/// What was fetched of the output of one task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fetched {
    /// The last line of its standard output; of a task that failed without any, of its standard error.
    pub tail: Option<String>,
    /// The file that holds its whole standard output.
    pub file: Option<PathBuf>,
    /// Why it could not be fetched, or saved.
    pub error: Option<String>,
}

/// The last line that is not blank, without what would disturb a terminal, and shortened.
pub fn last_line(bytes: &[u8]) -> Option<String> {
    let tail = &bytes[bytes.len().saturating_sub(TAIL_BYTES)..];
    let text = String::from_utf8_lossy(tail);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    // Only what is left of a longer line may be there; that is said by the dots as well.
    let mut printable = line.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = printable.by_ref().take(LINE_CHARS_MAX).collect();
    if printable.next().is_some() {
        short.push('…');
    }
    Some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_is_the_last_that_says_something() {
        assert_eq!(last_line(b"one\ntwo\n\n  \n").as_deref(), Some("two"));
        assert_eq!(last_line(b"no end of line").as_deref(), Some("no end of line"));
        assert_eq!(last_line(b""), None);
        assert_eq!(last_line(b"\n \n"), None);
    }

    #[test]
    fn what_a_task_prints_cannot_take_over_a_terminal() {
        assert_eq!(last_line(b"a\x1b[2Jb\tc\xff").as_deref(), Some("a [2Jb c\u{fffd}"));
    }

    #[test]
    fn long_lines_are_cut() {
        let line = last_line(&vec![b'x'; 1 << 20]).unwrap();
        assert_eq!(line.chars().count(), LINE_CHARS_MAX + 1);
        assert!(line.ends_with('…'));
    }
}
