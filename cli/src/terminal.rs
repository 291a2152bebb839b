//! The terminal that this process was started from.

use std::io::{self, IsTerminal as _, stderr, stdin, stdout};

use rustix::termios::{OptionalActions, Termios, Winsize, tcgetattr, tcgetwinsize, tcsetattr};

/// What a terminal without a size of its own is taken for, in rows and columns.
const SIZE_DEFAULT: (u16, u16) = (24, 80);

/// A terminal on standard input that passes on every key as it is pressed, Ctrl-C too. Dropped, it is as it was.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Fails when standard input is no terminal.
    pub(crate) fn begin() -> io::Result<Raw> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &self.before);
    }
}

/// Rows and columns of the terminal: of whichever standard stream is one.
pub(crate) fn size() -> (u16, u16) {
    let sizes = [tcgetwinsize(stdin()), tcgetwinsize(stdout()), tcgetwinsize(stderr())];
    let size = sizes.into_iter().flatten().find(|size| size.ws_row > 0 && size.ws_col > 0);
    size.map_or(SIZE_DEFAULT, |Winsize { ws_row, ws_col, .. }| (ws_row, ws_col))
}

/// True when somebody can type.
pub(crate) fn typed() -> bool {
    stdin().is_terminal()
}
