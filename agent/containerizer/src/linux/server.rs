//! The runner's Unix socket: a few words, one per line, answered one line each.
//!
//! | request | answer |
//! |---|---|
//! | `term`, `kill` | `ok` once the signal was sent to every process of the container |
//! | `usage` | `Reading` as JSON |
//! | `wait` | `Termination` as JSON, when the container has ended |
//! | anything else | `error …`, and the connection is closed |
//!
//! Only the agent's user can open the folder that it is in. Still nothing that a client does may harm the runner: clients are
//! bounded in number and in what they may send, and none is waited for.

use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::Path,
};

/// An agent uses one connection for each call that is under way; operators come on top.
const CLIENTS_MAX: usize = 32;

/// The longest request is far below.
const LINE_BYTES_MAX: usize = 64;

/// What a client asks of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    Term,
    Kill,
    Usage,
}

struct Client {
    stream: UnixStream,
    unread: Vec<u8>,
    waits: bool,
}

impl Client {
    /// False when it cannot be told without waiting: then it is not worth keeping.
    fn tell(&mut self, line: &str) -> bool {
        let line = format!("{line}\n");
        matches!(self.stream.write(line.as_bytes()), Ok(n) if n == line.len())
    }

    /// Reads what is there and answers it; false when the connection is to be closed.
    fn serve(&mut self, answer: &mut dyn FnMut(Request) -> String) -> bool {
        let mut buffer = [0; LINE_BYTES_MAX];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => self.unread.extend_from_slice(&buffer[..n]),
            Err(e) => return matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
        while let Some(end) = self.unread.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let keep = match line.trim_ascii() {
                b"term" => self.tell(&answer(Request::Term)),
                b"kill" => self.tell(&answer(Request::Kill)),
                b"usage" => self.tell(&answer(Request::Usage)),
                b"wait" => {
                    self.waits = true;
                    true
                }
                _ => {
                    self.tell("error: say term, kill, usage or wait");
                    false
                }
            };
            if !keep {
                return false;
            }
        }
        if self.unread.len() > LINE_BYTES_MAX {
            self.tell("error: line too long");
            return false;
        }
        true
    }
}

/// The socket and who is connected to it.
pub(super) struct Server {
    listener: UnixListener,
    clients: Vec<Client>,
}

impl Server {
    /// Listens at a path that no file has yet.
    pub(super) fn listen(path: &Path) -> io::Result<Server> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Server { listener, clients: Vec::new() })
    }

    /// What to poll for input: the listener first, then the clients.
    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.listener.as_fd()).chain(self.clients.iter().map(|client| client.stream.as_fd()))
    }

    /// Serves those whose place in [`Server::descriptors`] is marked as ready.
    pub(super) fn serve(&mut self, ready: &[bool], answer: &mut dyn FnMut(Request) -> String) {
        let mut at = 0;
        self.clients.retain_mut(|client| {
            at += 1;
            !ready.get(at).copied().unwrap_or(false) || client.serve(answer)
        });
        if ready.first().copied().unwrap_or(false) {
            self.accept();
        }
    }

    fn accept(&mut self) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if self.clients.len() == CLIENTS_MAX {
            // The longest connected one gives way, those that wait for the end last.
            let oldest = self.clients.iter().position(|client| !client.waits).unwrap_or(0);
            self.clients.remove(oldest);
        }
        self.clients.push(Client { stream, unread: Vec::new(), waits: false });
    }

    /// Answers everybody who waits for the end, and closes.
    pub(super) fn finish(mut self, path: &Path, termination: &str) {
        let _ = fs::remove_file(path);
        for client in self.clients.iter_mut().filter(|client| client.waits) {
            client.tell(termination);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufRead;

    use super::*;

    /// Serves whatever is ready until nobody is.
    fn turn(server: &mut Server) {
        for _ in 0..4 {
            let ready = vec![true; server.descriptors().count()];
            server.serve(&ready, &mut |request| format!("{request:?}"));
        }
    }

    fn line(stream: &UnixStream) -> String {
        let mut line = String::new();
        io::BufReader::new(stream).read_line(&mut line).unwrap();
        line
    }

    #[test]
    fn answers_and_garbage() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mut server = Server::listen(&path).unwrap();
        let mut good = UnixStream::connect(&path).unwrap();
        good.write_all(b"usage\n").unwrap();
        let mut waits = UnixStream::connect(&path).unwrap();
        waits.write_all(b"wa").unwrap();
        turn(&mut server);
        waits.write_all(b"it\n").unwrap();
        let mut bad = UnixStream::connect(&path).unwrap();
        bad.write_all(b"\xff\0what\nkill\n").unwrap();
        let mut long = UnixStream::connect(&path).unwrap();
        long.write_all(&[b'x'; 1000]).unwrap();
        drop(UnixStream::connect(&path).unwrap());
        for _ in 0..20 {
            turn(&mut server);
        }
        assert_eq!(line(&good), "Usage\n");
        assert!(line(&bad).starts_with("error"));
        assert!(line(&long).starts_with("error"));
        assert_eq!(server.clients.len(), 2, "those that misbehaved or left are gone");
        server.finish(&path, "{}");
        assert_eq!(line(&waits), "{}\n");
        assert!(!path.exists());
    }

    #[test]
    fn too_many_clients_push_out_the_idle_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let mut server = Server::listen(&path).unwrap();
        let mut waits = UnixStream::connect(&path).unwrap();
        waits.write_all(b"wait\n").unwrap();
        turn(&mut server);
        let idle: Vec<UnixStream> = (0..CLIENTS_MAX + 5)
            .map(|_| {
                let stream = UnixStream::connect(&path).unwrap();
                turn(&mut server);
                stream
            })
            .collect();
        assert_eq!(server.clients.len(), CLIENTS_MAX);
        assert!(server.clients[0].waits);
        let mut newest = idle.into_iter().next_back().unwrap();
        newest.write_all(b"term\n").unwrap();
        turn(&mut server);
        assert_eq!(line(&newest), "Term\n");
    }
}
