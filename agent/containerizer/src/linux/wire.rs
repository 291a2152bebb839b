//! What the container's first processes say to the runner: setup messages on one socket pair, the exit status on another. And
//! what the agent and the keeper of an executed command say to each other.
//!
//! A socket pair that keeps messages apart, and not a pipe, because it also carries the sender's process number as the
//! receiver's namespace knows it, and descriptors.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use apportion_types::container::Exit;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
    sockopt::set_socket_passcred,
};
use serde::{Deserialize, Serialize};

use crate::folder::Failure;

/// Above any message: paths and commands in a failure are cut to the kernel's bounds on paths and arguments long before.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// The most descriptors of one message: input, output, errors.
const DESCRIPTORS_MAX: usize = 3;

/// One message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Word {
    /// From a task: the sender will now execute its program; only a failure follows, or the end of the stream. From the keeper of
    /// an executed command: it has been; with the message come the agent's ends of its input and output.
    Executing,
    Failed(Failure),
    /// The task has ended.
    Ended(Exit),
}

/// A message and who sent it.
pub(crate) struct Heard {
    pub(crate) word: Word,
    /// The sender's number in the receiver's process namespace.
    pub(crate) pid: Option<i32>,
    /// What came with it.
    pub(crate) descriptors: Vec<OwnedFd>,
}

/// A pair of ends, closed on exec; the first receives.
pub(crate) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
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

    /// The same with descriptors, at most three.
    pub(super) fn send_with(&self, to: BorrowedFd<'_>, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(descriptors)),
            "more descriptors than are received"
        );
        sendmsg(to, &[IoSlice::new(&serde_json::to_vec(self)?)], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

/// The next message; none when the last sender is gone, or with `block` false when there is none yet.
pub(super) fn hear(from: &impl AsFd, block: bool) -> io::Result<Option<Heard>> {
    let flags = if block { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
    match receive(from, flags) {
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
        heard => heard,
    }
}

/// The next message; none when the last sender is gone.
pub(crate) fn receive(from: &impl AsFd, flags: RecvFlags) -> io::Result<Option<Heard>> {
    let mut buffer = vec![0; MESSAGE_BYTES_MAX];
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(&mut buffer)], &mut ancillary, flags)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let (mut pid, mut descriptors) = (None, Vec::new());
    for message in ancillary.drain() {
        match message {
            RecvAncillaryMessage::ScmCredentials(sender) => pid = Some(sender.pid.as_raw_nonzero().get()),
            RecvAncillaryMessage::ScmRights(received) => descriptors.extend(received),
            _ => {}
        }
    }
    Ok(Some(Heard { word: serde_json::from_slice(&buffer[..received.bytes])?, pid, descriptors }))
}

/// The one message that is there, whatever it is, of at most so many bytes.
pub(super) fn receive_bytes(from: &impl AsFd, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes_max];
    let mut none = RecvAncillaryBuffer::default();
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(&mut buffer)], &mut none, RecvFlags::empty())
    })?;
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    buffer.truncate(received.bytes);
    Ok(buffer)
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
