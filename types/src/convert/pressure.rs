//! How much containers wait for what they lack.

use apportion_proto::v1;

use crate::pressure::{Pressure, Stall, Stalls};

impl From<Pressure> for v1::Pressure {
    fn from(Pressure { cpu, memory, io }: Pressure) -> Self {
        Self { cpu: cpu.map(Into::into), memory: memory.map(Into::into), io: io.map(Into::into) }
    }
}

impl From<v1::Pressure> for Pressure {
    fn from(v1::Pressure { cpu, memory, io }: v1::Pressure) -> Self {
        // What says nothing was not counted.
        let stalls = |wire: Option<v1::Stalls>| {
            let v1::Stalls { some, full } = wire?;
            Some(Stalls { some: some?.into(), full: full.map(Into::into) })
        };
        Self { cpu: stalls(cpu), memory: stalls(memory), io: stalls(io) }
    }
}

impl From<Stalls> for v1::Stalls {
    fn from(Stalls { some, full }: Stalls) -> Self {
        Self { some: Some(some.into()), full: full.map(Into::into) }
    }
}

impl From<Stall> for v1::Stall {
    fn from(stall: Stall) -> Self {
        let Stall { avg10_basis_points, avg60_basis_points, avg300_basis_points, total_us } = stall;
        Self { avg10_basis_points, avg60_basis_points, avg300_basis_points, total_us }
    }
}

impl From<v1::Stall> for Stall {
    fn from(wire: v1::Stall) -> Self {
        let v1::Stall { avg10_basis_points, avg60_basis_points, avg300_basis_points, total_us } = wire;
        Self { avg10_basis_points, avg60_basis_points, avg300_basis_points, total_us }
    }
}
