//! Mesos' `AddAndUpdateSlave`, `PersistentVolumes`, `DeclineOffers`, `AllocatorBacklog`, `SuppressOffers`, and what its `FullSort` does
//! to the sorter alone.

use apportion_allocator::Allocator;
use apportion_benches::cpu_timed;
use apportion_types::{Resources, Role, limits};

use crate::{
    Rows,
    cluster::{Cluster, ports, resources},
};

/// Cycles for the median of one that offers everything.
const CYCLES: usize = 6;

/// Rounds of declining that are reported, by how often every agent was declined.
const ROUNDS: [(usize, &str); 3] =
    [(1, "C declined once"), (11, "C declined 11 times"), (41, "C declined 41 times")];

type Size = (usize, usize);

pub(crate) fn all(size: Size, rows: &mut Rows) {
    add_and_update(size, rows);
    full_cycles(size, rows);
    declines(size, rows);
    books(size, rows);
    backlog(size, rows);
    suppress(size, rows);
}

/// A: all frameworks added; all agents added, a part of each in use, and what is free offered; all agents lend, and that is offered.
fn add_and_update(size: Size, rows: &mut Rows) {
    let mut c = Cluster::new(size.0, size.1);
    let role = Role::default();
    let total = resources("cpus:2;mem:1024;disk:4096;ports:[31000-32000]");
    let used = resources(&format!("cpus:1;mem:128;disk:1024;{}", ports(4)));
    let lent = resources("cpus{revocable}:10");
    let (took, ()) = cpu_timed(|| c.add_frameworks(&role));
    rows.note("A add frameworks", size, 0, took);
    let (took, offers) = cpu_timed(|| {
        c.add_agents(&total, Some((&role, &used)));
        c.allocator.allocate(c.now, usize::MAX)
    });
    assert_eq!(offers.len(), size.0, "each agent is offered");
    rows.note("A add agents", size, offers.len(), took);
    let (took, offers) = cpu_timed(|| {
        c.agents.iter().for_each(|agent| c.allocator.set_revocable(agent, &lent));
        c.allocator.allocate(c.now, usize::MAX)
    });
    assert_eq!(offers.len(), size.0, "each agent is offered again");
    rows.note("A agents lend", size, offers.len(), took);
}

fn volumes(used: bool) -> Resources {
    let ports = ports(16);
    match used {
        false => resources(
            "cpus(test):24;mem(test):4096;disk(test):3072;disk(test)[v=v]:1024;ports(test):[31000-32000]",
        ),
        true => resources(&format!(
            "cpus(test):16;mem(test):1024;disk(test):1024;{}",
            ports.replace("ports:", "ports(test):")
        )),
    }
}

/// B: all agents added; then cycles, each of which offers every agent, while what was offered is recovered outside.
fn full_cycles(size: Size, rows: &mut Rows) {
    let mut c = Cluster::new(size.0, size.1);
    let role: Role = "test".parse().expect("it is a role");
    let (total, used) = (volumes(false), volumes(true));
    c.add_frameworks(&role);
    let (took, mut offers) = cpu_timed(|| {
        c.add_agents(&total, Some((&role, &used)));
        c.allocator.allocate(c.now, usize::MAX)
    });
    rows.note("B add agents with volumes", size, offers.len(), took);
    for _ in 0..CYCLES {
        c.give_back(&offers, None);
        let (took, next) = c.cycle();
        assert_eq!(next.len(), size.0, "each agent is offered");
        rows.note("B full cycle", size, next.len(), took);
        offers = next;
    }
}

/// C: the cycle after every offer was declined for ever, round after round, and the one that finds nobody left.
fn declines(size: Size, rows: &mut Rows) {
    let mut c = Cluster::new(size.0, size.1);
    let role = Role::default();
    let total = resources("cpus:24;mem:4096;disk:4096;ports:[31000-32000]");
    let used = resources(&format!("cpus:16;mem:1024;disk:1024;{}", ports(16)));
    c.add_frameworks(&role);
    c.add_agents(&total, Some((&role, &used)));
    let (took, mut offers) = c.cycle();
    rows.note("C first cycle", size, offers.len(), took);
    // With very many frameworks it would take hours until each has declined everything.
    let last = if size.0 * size.1 > 1_000_000 { 42 } else { size.1 };
    for round in 1..=last {
        c.give_back(&offers, Some(limits::REFUSE_MAX));
        let (took, next) = c.cycle();
        if let Some((_, bracket)) = ROUNDS.iter().find(|(reported, _)| *reported == round)
            && round < size.1
        {
            rows.note(bracket, size, next.len(), took);
        }
        offers = next;
    }
    if last == size.1 {
        assert!(offers.is_empty(), "everybody has declined everything");
        rows.note("C all declined", size, 0, c.empty_cycle());
    }
}

/// D: what is given on every agent, and taken back, and the agents' end. Mesos' figures are those of its sorter alone.
fn books(size: Size, rows: &mut Rows) {
    let mut c = Cluster::new(size.0, size.1);
    let role = Role::default();
    let total = resources("cpus:24;mem:4096;disk:4096;ports:[31000-40000]");
    let used = resources(&format!("cpus:16;mem:2014;disk:1024;{}", ports(100)));
    c.add_frameworks(&role);
    c.add_agents(&total, None);
    let (agents, frameworks) = (c.agents.clone(), c.frameworks.clone());
    let pairs = || agents.iter().zip(frameworks.iter().cycle());
    let (took, ()) = cpu_timed(|| {
        pairs().for_each(|(agent, framework)| c.allocator.charge(framework, &role, agent, &used));
    });
    rows.note("D charge", size, 0, took);
    let (took, ()) = cpu_timed(|| {
        pairs().for_each(|(agent, framework)| c.allocator.recover(framework, &role, agent, &used, None));
    });
    rows.note("D recover", size, 0, took);
    let (took, ()) = cpu_timed(|| c.agents.iter().for_each(|agent| c.allocator.remove_agent(agent)));
    rows.note("D remove agents", size, 0, took);
}

/// E: idle agents added and offered; then every framework revives, with nothing left to offer.
fn backlog(size: Size, rows: &mut Rows) {
    let mut c = Cluster::new(size.0, size.1);
    let role = Role::default();
    let total = resources("cpus:24;mem:4096;disk:4096;ports:[31000-32000]");
    c.add_frameworks(&role);
    let (took, offers) = cpu_timed(|| {
        c.add_agents(&total, None);
        c.allocator.allocate(c.now, usize::MAX)
    });
    rows.note("E add idle agents", size, offers.len(), took);
    let (took, offers) = cpu_timed(|| {
        for framework in &c.frameworks {
            c.allocator.revive(framework, &[]);
        }
        c.allocator.allocate(c.now, usize::MAX)
    });
    assert!(offers.is_empty(), "nothing is left to offer");
    rows.note("E all revive", size, 0, took);
}

/// F: before each cycle a further fifth of the frameworks suppresses, and all offers come back.
fn suppress(size: Size, rows: &mut Rows) {
    let mut c = Cluster::new(size.0, size.1);
    let role = Role::default();
    let total = resources("cpus:24;mem:4096;disk:4096;ports:[31000-32000]");
    let used = resources(&format!("cpus:16;mem:1024;disk:1024;{}", ports(16)));
    c.add_frameworks(&role);
    c.add_agents(&total, Some((&role, &used)));
    let (_, mut offers) = c.cycle();
    for fifth in 0..4 {
        c.give_back(&offers, None);
        let some = c.frameworks.len() * fifth / 5..c.frameworks.len() * (fifth + 1) / 5;
        c.frameworks[some].iter().for_each(|framework| c.allocator.suppress(framework, &[]));
        let (took, next) = c.cycle();
        rows.note("F some suppressed", size, next.len(), took);
        offers = next;
    }
}
