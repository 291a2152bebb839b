//! What a task may do with the disk that its sandbox is on.

use serde::{Deserialize, Serialize};

use crate::limits;

/// How much a container may read and write in each second on the disk that its sandbox is on; where none, as much as the disk gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IoLimits {
    /// Bytes read.
    pub read_bytes_per_second: Option<u64>,
    /// Bytes written.
    pub write_bytes_per_second: Option<u64>,
    /// Requests to read, of whatever size the kernel makes them.
    pub read_ops_per_second: Option<u64>,
    /// Requests to write.
    pub write_ops_per_second: Option<u64>,
}

impl IoLimits {
    /// No limit at all.
    pub const NONE: IoLimits = IoLimits {
        read_bytes_per_second: None,
        write_bytes_per_second: None,
        read_ops_per_second: None,
        write_ops_per_second: None,
    };

    /// True when there is no limit.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// The field that is below what a limit may be, and what is wrong with it.
    pub fn refusal(&self) -> Option<(&'static str, String)> {
        let (bytes, ops) = (limits::IO_BYTES_PER_SECOND_MIN, limits::IO_OPS_PER_SECOND_MIN);
        let each = [
            ("read_bytes_per_second", self.read_bytes_per_second, bytes),
            ("write_bytes_per_second", self.write_bytes_per_second, bytes),
            ("read_ops_per_second", self.read_ops_per_second, ops),
            ("write_ops_per_second", self.write_ops_per_second, ops),
        ];
        let low = each.into_iter().find_map(|(field, given, min)| {
            given.filter(|given| *given < min).map(|given| (field, given, min))
        });
        low.map(|(field, given, min)| {
            (field, format!("{given} is less than {min}, the least; leave it out for no limit"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_not_too_low() {
        let (bytes, ops) = (limits::IO_BYTES_PER_SECOND_MIN, limits::IO_OPS_PER_SECOND_MIN);
        let least = IoLimits {
            read_bytes_per_second: Some(bytes),
            write_bytes_per_second: Some(bytes),
            read_ops_per_second: Some(ops),
            write_ops_per_second: Some(ops),
        };
        assert_eq!((least.refusal(), least.is_empty()), (None, false));
        assert_eq!((IoLimits::default().refusal(), IoLimits::default().is_empty()), (None, true));
        for (field, low) in [
            ("read_bytes_per_second", IoLimits { read_bytes_per_second: Some(bytes - 1), ..least }),
            ("write_bytes_per_second", IoLimits { write_bytes_per_second: Some(0), ..least }),
            ("read_ops_per_second", IoLimits { read_ops_per_second: Some(ops - 1), ..least }),
            ("write_ops_per_second", IoLimits { write_ops_per_second: Some(0), ..least }),
        ] {
            let (named, what) = low.refusal().unwrap();
            assert_eq!(named, field);
            assert!(what.contains("is less than"), "{what}");
        }
    }
}
