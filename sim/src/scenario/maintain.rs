//! An operator who plans maintenance, starts and stops it, at random.

use std::{collections::BTreeSet, time::Duration};

use apportion_master_core::OperatorCall;
use apportion_types::{MachineId, Unavailability, Window};

use crate::{Failure, Sim, random};

/// What a stream of chance is for.
const PURPOSE: u64 = 41;

/// How often it is tried to let all machines be up: masters may be away for a while.
const TRIES: usize = 1000;

/// Does so for a time, and in the end lets all machines be up and plans nothing more.
pub(super) fn obey(sim: &mut Sim, lasts: Duration) -> Result<(), Failure> {
    let mut rng = random::stream(sim.world().seed, PURPOSE);
    let end = sim.world().elapsed() + lasts;
    while sim.world().elapsed() < end {
        let pause = random::between(&mut rng, Duration::from_millis(100), Duration::from_secs(6));
        sim.run_for(pause.min(end - sim.world().elapsed()))?;
        let agents = sim.world().agents.len();
        let machine = |rng: &mut fastrand::Rng| -> MachineId {
            format!("host-{}", rng.usize(0..agents.max(1))).parse().expect("a good name")
        };
        let call = match rng.u8(0..4) {
            0 | 1 => OperatorCall::UpdateSchedule { windows: schedule(sim, &mut rng, machine) },
            2 => OperatorCall::StartMaintenance { machines: [machine(&mut rng)].into() },
            _ => OperatorCall::StopMaintenance { machines: [machine(&mut rng)].into() },
        };
        sim.world_mut().operate(call);
    }
    for _ in 0..TRIES {
        let master = &sim.world().master;
        // What was ordered last may be on its way yet.
        if master.core.is_some() && !master.writes_maintenance() && sim.master().maintenance.is_empty() {
            return Ok(());
        }
        let machines = sim.master().maintenance.down.clone();
        if !machines.is_empty() {
            sim.world_mut().operate(OperatorCall::StopMaintenance { machines });
        }
        sim.run_for(Duration::from_secs(1))?;
        sim.world_mut().operate(OperatorCall::UpdateSchedule { windows: Vec::new() });
        sim.run_for(Duration::from_secs(1))?;
    }
    Err(sim.failure("what is planned of maintenance is not given up, however often the operator says so"))
}

/// Windows of some machines, soon and short, some of them open.
fn schedule(
    sim: &Sim,
    rng: &mut fastrand::Rng,
    machine: impl Fn(&mut fastrand::Rng) -> MachineId,
) -> Vec<Window> {
    // Those that are down must stay.
    let mut left: BTreeSet<MachineId> = (0..rng.usize(0..3)).map(|_| machine(rng)).collect();
    left.extend(sim.master().maintenance.down.iter().cloned());
    let mut windows = Vec::new();
    while let Some(first) = left.pop_first() {
        let start = sim.world().now + random::between(rng, Duration::ZERO, Duration::from_secs(15));
        let duration =
            rng.bool().then(|| random::between(rng, Duration::from_secs(1), Duration::from_secs(20)));
        let mut machines = BTreeSet::from([first]);
        if rng.bool() {
            machines.extend(left.pop_first());
        }
        windows.push(Window { machines, unavailability: Unavailability { start, duration } });
    }
    windows
}
