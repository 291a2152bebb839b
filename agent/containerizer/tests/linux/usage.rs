//! What containers use.

use std::path::Path;

use apportion_containerizer::{ContainerError, ContainerId, Containerizer, Signal};
use apportion_types::{container::Reading, pressure::Pressure};

use crate::{
    Scenario,
    bench::{
        Bench, Mode,
        Mode::{Bare, Oci, Root, User},
        block, until,
    },
    survival::kill,
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "usage", modes: &[Root, User, Bare, Oci], run: usage },
        Scenario { name: "usage_of_many_at_once", modes: &[Root, User], run: many },
        Scenario { name: "usage_without_the_runner", modes: &[Root], run: without_the_runner },
        Scenario { name: "pressure", modes: &[Root, User, Bare, Oci], run: pressure },
    ]
}

fn usage(bench: &Bench) {
    let spec = bench.task(&["use", "300", "32"]);
    bench.launch(&spec);
    bench.line(&spec, "used");
    let reading = bench.usage(&spec.id).unwrap();
    let usage = reading.usage;
    assert!((300_000..30_000_000).contains(&usage.cpu_us), "{usage:?}");
    assert!(usage.memory_peak_bytes.is_some_and(|peak| (32 << 20..256 << 20).contains(&peak)), "{usage:?}");
    let counted = matches!(bench.mode, Mode::Root | Mode::Oci);
    assert_eq!(reading.memory_bytes.is_some_and(|bytes| bytes >= 32 << 20), counted, "{reading:?}");
    assert_eq!(reading.pids.is_some_and(|pids| (1..20).contains(&pids)), counted, "{reading:?}");
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    let end = bench.wait(&spec);
    let (last, end) = (usage, end.usage);
    assert!(end.cpu_us >= last.cpu_us && end.memory_peak_bytes >= last.memory_peak_bytes, "{last:?} {end:?}");
    assert_eq!(bench.usage(&spec.id).unwrap(), Reading::from(end), "also after the end");
}

fn many(bench: &Bench) {
    let specs = [bench.spec(&["sleep", "1000"]), bench.spec(&["true"]), bench.spec(&["sleep", "1000"])];
    specs.iter().for_each(|spec| bench.launch(spec));
    let end = bench.wait(&specs[1]);
    let unknown = ContainerId("unknown".into());
    let mut ids: Vec<ContainerId> = specs.iter().map(|spec| spec.id.clone()).collect();
    ids.insert(1, unknown.clone());
    for round in ["the first time", "again"] {
        let readings = block(bench.native.usage(&ids));
        assert!(matches!(&readings[1], Err(ContainerError::Unknown { id }) if *id == unknown), "{round}");
        assert_eq!(*readings[2].as_ref().unwrap(), Reading::from(end.usage), "{round}");
        assert!(readings[0].is_ok() && readings[3].is_ok() && readings.len() == 4, "{round}: {readings:?}");
    }
    block(bench.native.remove(&specs[1].id)).unwrap();
    assert!(block(bench.native.usage(&ids))[2].is_err(), "forgotten");
    for spec in [&specs[0], &specs[2]] {
        block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
        bench.wait(spec);
    }
}

/// Cgroups are read by whoever asks: a thousand runners need not be woken for that.
fn without_the_runner(bench: &Bench) {
    let spec = bench.spec(&["sleep", "1000"]);
    bench.launch(&spec);
    let runner = &bench.pids(&spec)["runner"];
    kill(runner, rustix::process::Signal::STOP);
    let reading = bench.usage(&spec.id);
    kill(runner, rustix::process::Signal::CONT);
    assert!(reading.unwrap().pids.is_some());
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    bench.wait(&spec);
}

fn pressure(bench: &Bench) {
    // Two that always want a processor, of which they have a fifth.
    let mut spec = bench.sh("while :; do :; done & while :; do :; done");
    spec.limits.cpus_limit_milli = Some(200);
    bench.launch(&spec);
    let now = || bench.usage(&spec.id).unwrap().pressure;
    if matches!(bench.mode, Mode::Root | Mode::Oci) && counted(bench, &spec.id) {
        until("it waited for a processor", || now().cpu.unwrap().some.total_us > 0);
        let Pressure { memory, io, .. } = now();
        assert!(memory.unwrap().full.is_some() && io.unwrap().full.is_some());
    } else {
        assert_eq!(now(), Pressure::default(), "absent, not zero");
    }
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    assert_eq!(Reading::from(bench.wait(&spec).usage), bench.usage(&spec.id).unwrap());
}

/// Whether the kernel counts the pressure of this container, in whichever hierarchy.
fn counted(bench: &Bench, id: &ContainerId) -> bool {
    let group = Path::new(&bench.config.cgroup_parent).join(&id.0);
    let groups = crate::bench::cgroups_of(group.to_str().unwrap());
    groups.iter().any(|group| std::fs::read(group.join("cpu.pressure")).is_ok())
}
