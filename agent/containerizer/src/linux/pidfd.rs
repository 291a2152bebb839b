//! Awaiting the end of a process that need not be a child. For the agent's side; beside the runner's code because of its
//! one unsafe line.

#![allow(unsafe_code)]

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Returns when the process behind this descriptor has ended, whether or not anybody has reaped it.
pub async fn ended(pidfd: OwnedFd) -> io::Result<()> {
    // SAFETY: an `OwnedFd` returns the same descriptor each time and closes it only when dropped, which `AsyncFd` does after
    // it has taken it out of the runtime's poll.
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    let watched = watched.map_err(|e| e.into_parts().1)?;
    let _ready = watched.readable().await?;
    Ok(())
}
