//! The sockets of a listener, apart from who accepts on them: an address can be had before anybody serves there, and be handed on.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{Mutex, PoisonError},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{StartError, config::Listener};

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 4096;

/// Sockets that listen on one address, one for each worker. Whoever connects before a [`Balancer`](super::Balancer) is started on them waits.
#[derive(Debug)]
pub struct Sockets {
    address: SocketAddr,
    /// Nobody accepts on these themselves: they are what is copied for workers.
    sockets: Mutex<Vec<TcpListener>>,
}

impl Sockets {
    /// Opens those of a listener.
    pub fn open(app: &str, listener: &Listener) -> Result<Self, StartError> {
        let mut address = listener.address;
        let mut sockets = Vec::new();
        for place in 0..listener.workers.max(1) {
            let failed = |source| StartError::Listen { app: app.to_owned(), address, source };
            let socket = listen(address, place == 0, listener.workers > 1).map_err(failed)?;
            // The first may have been given a free port; the others share it.
            address = socket.local_addr().map_err(failed)?;
            sockets.push(socket);
        }
        Ok(Self { address, sockets: Mutex::new(sockets) })
    }

    /// Where they listen, with the port that was given.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Copies for so many workers: each has one, and each socket has somebody, for what connects to one that nobody serves is lost.
    pub(super) fn deal(&self, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hands: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for turn in 0..workers.max(sockets.len()) {
            hands[turn % workers].push(sockets[turn % sockets.len()].try_clone()?);
        }
        Ok(hands)
    }

    /// The same ones, for somebody who takes over.
    pub(super) fn again(&self) -> io::Result<Self> {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner);
        let copies: io::Result<Vec<_>> = sockets.iter().map(TcpListener::try_clone).collect();
        Ok(Self { address: self.address, sockets: Mutex::new(copies?) })
    }

    /// Lets go of the address, as soon as nobody else has it.
    pub(super) fn close(&self) {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// Opens one socket. The first of an address has it from nobody else, not even from somebody who would share it; then `shared` lets others join.
fn listen(address: SocketAddr, first: bool, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(!first)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(shared)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_shares_an_address_by_accident() {
        let of = |address, workers| Listener { workers, ..Listener::new(address) };
        for workers in [1, 3] {
            let free = of(([127, 0, 0, 1], 0).into(), workers);
            let sockets = Sockets::open("web", &free).unwrap();
            for others in [1, 3] {
                let refused = Sockets::open("shop", &of(sockets.address(), others)).unwrap_err().to_string();
                assert!(refused.contains("cannot listen on") && refused.contains("for shop"), "{refused}");
            }
            assert_eq!(sockets.deal(workers).unwrap().len(), workers);
            drop(sockets);
        }
    }
}
