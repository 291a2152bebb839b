//! What a program tells of itself, for readers that may stop to read.
//!
//! A program that writes its events from the loop that drives its scheduler stands still when the pipe that it writes to is full: it hears of
//! no status and of no signal, because somebody has scrolled back in a pager. Written by [`Lines`] they never hold anything up.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{sync::watch, time::timeout};

/// Bytes of lines that wait for their reader: some tens of thousands of lines.
pub const BYTES_MAX: usize = 8 << 20;

/// How long [`Lines::flush`] waits for a reader that takes nothing.
pub const STALLED_MAX: Duration = Duration::from_secs(1);

/// Lines to a file or a pipe, written by a thread of their own.
///
/// Nobody waits for whoever reads them. While more than [`BYTES_MAX`] wait, lines are left out, until all that wait are read; then a line says
/// how many there were. That nobody reads any more is no error: lines are written in vain then.
pub struct Lines {
    shared: Arc<Shared>,
    /// Changes with each line that is written.
    written: watch::Receiver<()>,
    stalled_max: Duration,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<String>,
    bytes: usize,
    /// Lines that were left out since all were read.
    missed: u64,
    /// One is on its way.
    writing: bool,
    closed: bool,
}

impl Queue {
    fn add(&mut self, line: String) {
        let bytes = self.bytes + line.len();
        // Once some are left out, the gap goes on until it can be told where it is.
        if self.missed > 0 || bytes > BYTES_MAX {
            self.missed += 1;
            return;
        }
        self.bytes = bytes;
        self.lines.push_back(line);
    }

    fn is_empty(&self) -> bool {
        self.lines.is_empty() && self.missed == 0 && !self.writing
    }

    /// What is to be written next.
    fn next(&mut self, missed: &impl Fn(u64) -> String) -> Option<String> {
        if let Some(line) = self.lines.pop_front() {
            self.bytes -= line.len();
            return Some(line);
        }
        let count = std::mem::take(&mut self.missed);
        (count > 0).then(|| missed(count))
    }
}

impl Lines {
    /// Writes to this place; `missed` makes the line that says how many were left out.
    pub fn new(
        mut to: impl Write + Send + 'static,
        missed: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<Lines> {
        let shared = Arc::<Shared>::default();
        let (writes, written) = watch::channel(());
        let queue = Arc::clone(&shared);
        thread::Builder::new().name("lines".to_owned()).spawn(move || {
            while let Some(mut line) = queue.wait(&missed) {
                line.push('\n');
                // Whoever has closed the pipe has read enough.
                _ = to.write_all(line.as_bytes()).and_then(|()| to.flush());
                queue.lock().writing = false;
                writes.send_replace(());
            }
        })?;
        Ok(Lines { shared, written, stalled_max: STALLED_MAX })
    }

    /// Has a line written, without its end; never waits.
    pub fn say(&self, line: String) {
        self.shared.lock().add(line);
        self.shared.changed.notify_one();
    }

    /// Waits until all that was said is written, or until nothing was read for [`STALLED_MAX`]: a program does so before it ends.
    pub async fn flush(&self) {
        let mut written = self.written.clone();
        while !self.shared.lock().is_empty() {
            let Ok(Ok(())) = timeout(self.stalled_max, written.changed()).await else { return };
        }
    }
}

/// The thread ends when it has written what was said.
impl Drop for Lines {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    /// What is to be written next, as soon as there is something; none when nothing more will come.
    fn wait(&self, missed: &impl Fn(u64) -> String) -> Option<String> {
        let mut queue = self.lock();
        loop {
            match queue.next(missed) {
                Some(line) => {
                    queue.writing = true;
                    return Some(line);
                }
                None if queue.closed => return None,
                None => queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A pipe whose reader reads a line when it is told to.
    struct Pipe {
        read: mpsc::Receiver<()>,
        text: mpsc::Sender<String>,
    }

    impl Write for Pipe {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.read.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.text.send(String::from_utf8(data.to_vec()).unwrap()).unwrap();
            Ok(data.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines() -> (Lines, mpsc::Sender<()>, mpsc::Receiver<String>) {
        let ((reader, read), (text, written)) = (mpsc::channel(), mpsc::channel());
        let mut lines = Lines::new(Pipe { read, text }, |missed| format!("{missed} missed")).unwrap();
        // On a busy machine a thread may be kept waiting for longer than a reader may be.
        lines.stalled_max = Duration::from_secs(60);
        (lines, reader, written)
    }

    #[tokio::test]
    async fn a_reader_that_stops_holds_up_nobody_and_hears_how_much_it_missed() {
        let (lines, reader, written) = lines();
        let long = "x".repeat(BYTES_MAX / 4);
        lines.say("first".to_owned());
        reader.send(()).unwrap();
        assert_eq!(written.recv().unwrap(), "first\n");
        (0..20).for_each(|_| lines.say(long.clone()));
        let mut whole = 0;
        let told = loop {
            reader.send(()).unwrap();
            match written.recv().unwrap() {
                line if line.len() > long.len() => whole += 1,
                line => break line,
            }
        };
        assert!((4..=5).contains(&whole), "what waits, and one that is being written: {whole}");
        assert_eq!(told, format!("{} missed\n", 20 - whole));
        lines.say("last".to_owned());
        reader.send(()).unwrap();
        lines.flush().await;
        assert_eq!(written.try_recv().unwrap(), "last\n");
    }

    #[tokio::test]
    async fn a_program_that_ends_waits_for_nobody_who_does_not_read() {
        let (mut lines, reader, written) = lines();
        lines.stalled_max = Duration::from_millis(1);
        (0..3).for_each(|number| lines.say(number.to_string()));
        lines.flush().await;
        assert!(written.try_recv().is_err(), "nobody has read");
        (0..3).for_each(|_| reader.send(()).unwrap());
        drop(lines);
        assert_eq!(written.iter().collect::<String>(), "0\n1\n2\n");
    }

    #[tokio::test]
    async fn a_closed_pipe_is_no_error() {
        let (lines, reader, written) = lines();
        drop((reader, written));
        (0..3).for_each(|number| lines.say(number.to_string()));
        lines.flush().await;
        assert!(lines.shared.lock().is_empty());
    }
}
