//! Replicas with tasks that run before them and beside them.

use std::{collections::BTreeSet, time::Duration};

use apportion_sdk::Part;
use apportion_service::spec::{Helper, Spec};
use apportion_sim::{Behaviour, Chaos, check};

use crate::program::{LONG, Program, same, three_agents, web};

/// Whatever fails, be it a task before a replica, an agent, or the scheduler: each replica ends up with its sidecar, and nothing else runs.
#[test]
fn a_replica_runs_with_its_sidecar() {
    let build = || {
        let chaos = Chaos { framework_crashes: 6.0, ..Chaos::bad_day(Duration::from_secs(60)) };
        let mut cluster = three_agents().chaos(chaos).workload(|task, rng| {
            let of = task.group.as_ref().expect("each is of a group");
            let runs_for = Duration::from_millis(rng.u64(10..2_000));
            match of.part {
                Part::Init => Behaviour::exits(runs_for, i32::from(rng.u8(0..4) == 0)),
                Part::Sidecar | Part::Main => Behaviour::runs(),
            }
        });
        let spec = Spec {
            init: vec![Helper::new("fetch", ["fetch"]), Helper::new("check", ["check"])],
            sidecars: vec![Helper::new("log", ["log"])],
            ..web(5)
        };
        let program = Program::of(&mut cluster, spec);
        (cluster, program)
    };
    check(0..40, build, |sim, program| {
        sim.run_until_idle(LONG)?;
        let table = program.table();
        same(sim, "replicas of the table", table.placed.len(), 5)?;
        let mains = table.placed.keys().map(ToString::to_string);
        let expected: BTreeSet<_> = mains.flat_map(|main| [format!("{main}.log"), main]).collect();
        let running = sim.running().map(|(_, (_, task_id))| task_id.to_string()).collect();
        same(sim, "tasks that run", running, expected)
    });
}
