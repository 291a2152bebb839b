//! Messages as bytes, each behind its length and checksum.

use std::io::{self, Read};

use prost::Message;

const PREFIX: usize = 8;

/// The longest payload, above all that one message of a peer can become: a few megabytes of tasks that cannot be taken, each
/// with the reason. A length beyond it is damage.
const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// True when a message is not longer than a reader would take.
pub(crate) fn fits(message: &impl Message) -> bool {
    message.encoded_len() <= PAYLOAD_BYTES_MAX
}

/// Appends a message; false, and nothing is appended, when it is longer than a reader would take.
#[must_use]
pub(crate) fn append(message: &impl Message, bytes: &mut Vec<u8>) -> bool {
    let length = message.encoded_len();
    if length > PAYLOAD_BYTES_MAX {
        return false;
    }
    let start = bytes.len();
    bytes.extend_from_slice(&[0; PREFIX]);
    message.encode(bytes).expect("a vector grows as needed");
    let (prefix, payload) = bytes[start..].split_at_mut(PREFIX);
    prefix[..4].copy_from_slice(&u32::try_from(length).expect("checked above").to_le_bytes());
    prefix[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    true
}

/// What stands at some place of a journal.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A whole message.
    Payload(Vec<u8>),
    /// Nothing: the last one was the last.
    End,
    /// The start of one.
    Cut,
    /// No message, or one whose checksum is another.
    Damaged,
}

/// Reads the next message, of which so many bytes are taken: its own, when it is whole.
pub(crate) fn read(input: &mut impl Read) -> io::Result<Frame> {
    let prefix = up_to(input, PREFIX)?;
    let Some((length, sum)) = prefix.split_first_chunk::<4>().filter(|_| prefix.len() == PREFIX) else {
        return Ok(if prefix.is_empty() { Frame::End } else { Frame::Cut });
    };
    let length = u32::from_le_bytes(*length) as usize;
    // No message is empty, but zeros would be a whole empty one.
    if length == 0 || length > PAYLOAD_BYTES_MAX {
        return Ok(Frame::Damaged);
    }
    let payload = up_to(input, length)?;
    Ok(match payload.len() == length {
        false => Frame::Cut,
        true if crc32fast::hash(&payload).to_le_bytes() != sum => Frame::Damaged,
        true => Frame::Payload(payload),
    })
}

/// So many bytes, or all that are left. What a length promises is not taken from memory before it is there.
pub(crate) fn up_to(input: &mut impl Read, bytes_max: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(bytes_max as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bytes of a whole message with a payload of so many.
pub(crate) fn framed(payload_bytes: usize) -> u64 {
    (PREFIX + payload_bytes) as u64
}

/// How many of the first bytes are whole messages, when so many of them were written.
pub(crate) fn whole(bytes: &[u8], written: u64) -> usize {
    let mut whole = 0;
    while let Some((length, _)) = bytes[whole..].split_first_chunk::<4>() {
        let next = whole as u64 + framed(u32::from_le_bytes(*length) as usize);
        if next > written || next > bytes.len() as u64 {
            break;
        }
        whole = next as usize;
    }
    whole
}

#[cfg(test)]
mod tests {
    use apportion_proto::v1;

    use super::*;

    #[test]
    fn whole_messages_are_counted() {
        let mut bytes = Vec::new();
        let record = v1::JournalRecord { delta_us: 300, record: None };
        for _ in 0..3 {
            assert!(append(&record, &mut bytes));
        }
        let one = bytes.len() / 3;
        let counted = |written: usize| whole(&bytes, written as u64) / one;
        assert_eq!([0, one - 1, one, 2 * one - 1, 2 * one, 3 * one].map(counted), [0, 0, 1, 1, 2, 3]);
        assert_eq!(whole(&bytes, u64::MAX), bytes.len());
        assert_eq!(whole(b"apportion journal 1\n", u64::MAX), 0, "the first line alone is nothing");
    }
}
