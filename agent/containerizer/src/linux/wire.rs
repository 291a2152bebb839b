//! What the container's first processes say to the runner: setup messages on one socket pair, the exit status on another.
//!
//! A socket pair that keeps messages apart, and not a pipe, because it also carries the sender's process number as the
//! receiver's namespace knows it.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use apportion_types::container::Exit;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, SocketFlags, SocketType,
    recvmsg, send, socketpair, sockopt::set_socket_passcred,
};
use serde::{Deserialize, Serialize};

use crate::folder::Failure;

/// Above any message: paths and commands in a failure are cut to the kernel's bounds on paths and arguments long before.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// One message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    /// The sender will now execute the task's program; only a failure follows, or the end of the stream.
    Executing,
    Failed(Failure),
    /// The task has ended.
    Ended(Exit),
}

/// A message and who sent it.
pub(super) struct Heard {
    pub(super) word: Word,
    /// The sender's number in the receiver's process namespace.
    pub(super) pid: Option<i32>,
}

/// A pair of ends, closed on exec; the first receives.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let (receiver, sender) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    set_socket_passcred(&receiver, true)?;
    Ok((receiver, sender))
}

impl Word {
    pub(super) fn send(&self, to: BorrowedFd<'_>) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(self)?;
        if bytes.len() > MESSAGE_BYTES_MAX {
            // Only a failure can be that long, for its command or path.
            let step = "reporting a failure: it is too long to report".to_owned();
            bytes = serde_json::to_vec(&Word::Failed(Failure::Setup {
                step,
                control: None,
                errno: libc::EMSGSIZE,
            }))?;
        }
        send(to, &bytes, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// The next message; none when the last sender is gone, or with `block` false when there is none yet.
pub(super) fn hear(from: &impl AsFd, block: bool) -> io::Result<Option<Heard>> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = if block { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    let received = loop {
        match recvmsg(from, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags) {
            Ok(received) => break received,
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    };
    if received.bytes == 0 {
        return Ok(None);
    }
    let pid = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => Some(sender.pid.as_raw_nonzero().get()),
        _ => None,
    });
    Ok(Some(Heard { word: serde_json::from_slice(&buffer[..received.bytes])?, pid }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_its_sender_and_the_end_is_seen() {
        let (receiver, sender) = pair().unwrap();
        assert!(hear(&receiver, false).unwrap().is_none());
        Word::Ended(Exit::Signal(9)).send(sender.as_fd()).unwrap();
        let long = Failure::setup("x".repeat(MESSAGE_BYTES_MAX), io::Error::from_raw_os_error(libc::EPERM));
        Word::Failed(long).send(sender.as_fd()).unwrap();
        drop(sender);
        let heard = hear(&receiver, true).unwrap().unwrap();
        assert!(matches!(heard.word, Word::Ended(Exit::Signal(9))));
        assert_eq!(heard.pid, Some(std::process::id() as i32));
        let heard = hear(&receiver, true).unwrap().unwrap();
        assert!(matches!(heard.word, Word::Failed(Failure::Setup { errno: libc::EMSGSIZE, .. })));
        assert!(hear(&receiver, true).unwrap().is_none());
    }
}
