//! Pressure: how much of the time processes wait for what they lack, as the kernel counts it for each control group.

use serde::{Deserialize, Serialize};

/// How much the processes of a container waited for what they lacked.
///
/// Each is none where the kernel does not count it: version 1 of control groups never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pressure {
    /// For a processor.
    #[serde(default)]
    pub cpu: Option<Stalls>,
    /// For memory to be reclaimed, or read back.
    #[serde(default)]
    pub memory: Option<Stalls>,
    /// For disks.
    #[serde(default)]
    pub io: Option<Stalls>,
}

/// The time that processes waited for one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stalls {
    /// While at least one of them waited.
    pub some: Stall,
    /// While none of them could go on; none where the kernel does not tell.
    #[serde(default)]
    pub full: Option<Stall>,
}

/// A part of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stall {
    /// Of the last 10 seconds, in hundredths of a percent: 10000 is all of it.
    pub avg10_basis_points: u32,
    /// Of the last minute.
    pub avg60_basis_points: u32,
    /// Of the last 5 minutes.
    pub avg300_basis_points: u32,
    /// In all, since the container was made.
    pub total_us: u64,
}
