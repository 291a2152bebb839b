//! The same replica for the same key, as long as it is there: consistent hashing.
//!
//! Each replica stands at many points of a ring; a key belongs to the next point. When a replica leaves, its keys alone move.

use super::Choice;

/// Points of a replica of weight 1: with so many the largest share is about a fifth above the mean.
const POINTS: u32 = 160;

/// The most points of one replica, so that weights of thousands do not make a ring of millions.
const POINTS_MAX: u32 = 16 * POINTS;

/// The points in order, each with the place of its replica.
#[derive(Debug)]
pub struct Ring {
    points: Vec<(u64, u32)>,
}

impl Ring {
    pub(super) fn new(members: &[(&str, u32)]) -> Self {
        let mut points = Vec::new();
        for (place, (id, weight)) in members.iter().enumerate() {
            let own = hash(id.as_bytes());
            for point in 0..POINTS.saturating_mul((*weight).max(1)).min(POINTS_MAX) {
                points.push((mix(own ^ mix(u64::from(point) + 1)), place as u32));
            }
        }
        points.sort_unstable();
        Self { points }
    }

    pub(super) fn pick(&self, among: &impl Choice, key: u64) -> Option<usize> {
        let start = self.points.partition_point(|(point, _)| *point < key);
        let around = self.points[start..].iter().chain(&self.points[..start]);
        around.map(|(_, place)| *place as usize).find(|place| *place < among.len() && among.usable(*place))
    }
}

/// Where something stands on the ring. The same on every machine and after every restart, which the hash of the standard
/// library does not promise: FNV-1a, with its bits mixed since neighbours would stand together.
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

/// The finaliser of splitmix64.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
