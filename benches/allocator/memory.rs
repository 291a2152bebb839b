//! The most memory that a process held which did as bracket A does: the allocator, and the caller's own names and offers.

use std::process::Command;

use apportion_allocator::Allocator;
use apportion_types::Role;

use crate::cluster::{Cluster, ports, resources};

/// Has the process fill an allocator, and say what it took.
pub(crate) const ARGUMENT: &str = "--memory";

/// Mesos: peak of the process of the same benchmark, and of an empty one.
const MESOS_MIB: (u64, u64) = (280, 13);

fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

pub(crate) fn fill() {
    let size = |variable| std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let before = peak_kib();
    let mut c = Cluster::new(size("AGENTS"), size("FRAMEWORKS"));
    let role = Role::default();
    c.add_frameworks(&role);
    let total = resources("cpus:2;mem:1024;disk:4096;ports:[31000-32000]");
    let used = resources(&format!("cpus:1;mem:128;disk:1024;{}", ports(4)));
    c.add_agents(&total, Some((&role, &used)));
    let offers = c.allocator.allocate(c.now, usize::MAX);
    let lent = resources("cpus{revocable}:10");
    c.agents.iter().for_each(|agent| c.allocator.set_revocable(agent, &lent));
    let more = c.allocator.allocate(c.now, usize::MAX);
    assert_eq!((offers.len(), more.len()), (c.agents.len(), c.agents.len()), "each agent is offered twice");
    let mib = |kib: Option<u64>| kib.map_or("?".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0));
    println!("{} {}", mib(peak_kib()), mib(before));
}

/// What a process of its own took, for this is not the first thing that this one did.
pub(crate) fn report(quick: bool) -> String {
    let (agents, frameworks) = if quick { (1_000, 200) } else { (10_000, 1_000) };
    let child = std::env::current_exe().and_then(|program| {
        Command::new(program)
            .arg(ARGUMENT)
            .env("AGENTS", agents.to_string())
            .env("FRAMEWORKS", frameworks.to_string())
            .output()
    });
    let said = match child {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return format!("Memory was not measured: {error}."),
    };
    let Some((peak, empty)) = said.split_once(' ') else {
        return "Memory was not measured: the process of its own said nothing.".to_owned();
    };
    let (theirs, theirs_empty) = MESOS_MIB;
    format!(
        "Peak memory of a process at {agents} agents × {frameworks} frameworks: {peak} MiB, of an empty one {empty} MiB. Mesos at\n\
         10000 × 1000: {theirs} MiB, of an empty one {theirs_empty} MiB."
    )
}
