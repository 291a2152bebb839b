//! Records as bytes: `length: u32 LE, crc32 of the payload: u32 LE, payload`, behind a line that names the format.

use apportion_proto::v1::CheckpointRecord;
use apportion_types::convert::ConvertError;
use prost::Message as _;

/// The first bytes of every log.
pub(super) const HEADER: &[u8] = b"apportion log 1\n";

const PREFIX: usize = 8;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// The longest payload: above the longest task group, so that a length beyond it is damage.
const PAYLOAD_BYTES_MAX: usize = 32 << 20;

/// Appends a record.
pub(super) fn append(record: &CheckpointRecord, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; PREFIX]);
    record.encode(bytes).expect("a vector grows as needed");
    let (prefix, payload) = bytes[start..].split_at_mut(PREFIX);
    assert!(payload.len() <= PAYLOAD_BYTES_MAX, "a record is bounded by the limits of what it holds");
    let length = u32::try_from(payload.len()).expect("checked above");
    prefix[..4].copy_from_slice(&length.to_le_bytes());
    prefix[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
}

/// What lies behind the last whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// How much.
    pub(super) bytes: u64,
    /// True when it is more than one write that was cut off: whole records may have been there.
    pub(super) damaged: bool,
}

/// The records of a log, each with its offset.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Frames<'a> {
    /// None when the bytes are not a log. Of an empty file or a cut-off header nothing was ever promised.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Self> {
        if HEADER.starts_with(bytes) {
            return Some(Self { bytes: &[], at: 0 });
        }
        bytes.starts_with(HEADER).then_some(Self { bytes, at: HEADER.len() })
    }

    /// The next whole record. One that is whole, but is no record, is an error.
    pub(super) fn next(&mut self) -> Option<(u64, Result<CheckpointRecord, ConvertError>)> {
        let payload = whole(self.bytes.get(self.at..)?)?;
        let offset = self.at as u64;
        self.at += PREFIX + payload.len();
        Some((offset, CheckpointRecord::decode(payload).map_err(|error| ConvertError::new("", error))))
    }

    /// What is left when [`Frames::next`] gives nothing more.
    pub(super) fn tail(&self) -> Tail {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        // A write that was cut off leaves a record without its end, or zeros where sectors did not get to the disk.
        let cut_off = rest.len() < PREFIX || {
            let length = length(rest);
            (length <= PAYLOAD_BYTES_MAX && PREFIX + length > rest.len()) || self.misses_a_sector(length)
        };
        // What went to the disk together got there in any order. A record that was written later proves that this one was there: a flipped
        // length looks like a cut-off record too.
        let later = |from: usize| {
            whole(&rest[from..]).is_some_and(|payload| {
                !CheckpointRecord::decode(payload).is_ok_and(|record| record.continues)
            })
        };
        let damaged = !rest.is_empty() && (!cut_off || (1..rest.len()).any(later));
        Tail { bytes: rest.len() as u64, damaged }
    }

    /// True when one of the sectors in which the record here lies was never written: a log only grows, so there are zeros.
    fn misses_a_sector(&self, length: usize) -> bool {
        let end = self.bytes.len().min(self.at.saturating_add(PREFIX).saturating_add(length));
        let mut sectors = (self.at / SECTOR..end.div_ceil(SECTOR)).map(|sector| {
            let start = self.at.max(sector * SECTOR);
            &self.bytes[start..self.bytes.len().min((sector + 1) * SECTOR)]
        });
        sectors.any(|sector| sector.iter().all(|byte| *byte == 0))
    }
}

fn length(bytes: &[u8]) -> usize {
    bytes[..4].try_into().map_or(usize::MAX, |length| u32::from_le_bytes(length) as usize)
}

/// The payload of the whole record at the start of the bytes.
fn whole(bytes: &[u8]) -> Option<&[u8]> {
    let prefix = bytes.get(..PREFIX)?;
    let length = length(prefix);
    let payload = bytes.get(PREFIX..PREFIX.checked_add(length)?)?;
    let sum = crc32fast::hash(payload).to_le_bytes();
    // No record is empty, but zeros would be a whole empty one.
    (length > 0 && length <= PAYLOAD_BYTES_MAX && prefix[4..] == sum).then_some(payload)
}
