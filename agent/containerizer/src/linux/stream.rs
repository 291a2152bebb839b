//! Reading and writing descriptors that came from elsewhere, in the agent's runtime. Beside the runner's code because of its one
//! unsafe line.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::OwnedFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::{fs::OFlags, io::Errno};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

/// A pipe's end, a terminal's master, or a socket of messages. Clones share it; it is closed with the last one.
#[derive(Clone)]
pub(crate) struct Stream(Arc<AsyncFd<OwnedFd>>);

impl Stream {
    /// For reading alone, or for writing too. From here on nothing blocks on it.
    pub(crate) fn new(descriptor: OwnedFd, interest: Interest) -> io::Result<Stream> {
        let flags = rustix::fs::fcntl_getfl(&descriptor)?;
        rustix::fs::fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK)?;
        // SAFETY: an `OwnedFd` returns the same descriptor each time and closes it only when dropped, which `AsyncFd` does after
        // it has taken it out of the runtime's poll.
        let watched = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
        Ok(Stream(Arc::new(watched.map_err(|e| e.into_parts().1)?)))
    }

    /// The descriptor itself, for what is neither reading nor writing.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        self.0.get_ref()
    }

    /// Does something once the descriptor can be read, and again as long as it then cannot.
    pub(crate) async fn when_readable<T>(
        &self,
        mut act: impl FnMut(&OwnedFd) -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.async_io(Interest::READABLE, |descriptor| act(descriptor)).await
    }
}

/// Reads what there is, 0 bytes at the end.
fn read_to_the_end(descriptor: &OwnedFd, into: &mut [u8]) -> Result<usize, Errno> {
    // A terminal says `EIO` when nobody has its other side open any more, and may say it first when the last was written and closed
    // while the kernel looked. Said twice, nothing is left.
    match rustix::io::read(descriptor, &mut *into) {
        Err(Errno::IO) => match rustix::io::read(descriptor, into) {
            Err(Errno::IO) => Ok(0),
            read => read,
        },
        read => read,
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            let unfilled = buffer.initialize_unfilled();
            match ready.try_io(|watched| Ok(read_to_the_end(watched.get_ref(), unfilled)?)) {
                Ok(Ok(read)) => buffer.advance(read),
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => continue,
                Ok(Err(e)) => return Poll::Ready(Err(e)),
                Err(_would_block) => continue,
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            match ready.try_io(|watched| Ok(rustix::io::write(watched.get_ref(), bytes)?)) {
                Ok(Err(e)) if e.kind() == io::ErrorKind::Interrupted => {}
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What ends a pipe is that nobody has it open; whoever shuts it down drops it.
        Poll::Ready(Ok(()))
    }
}
