//! Replicas come and go.

use std::time::Duration;

use apportion_sim::{Behaviour, Chaos, Fault, Peer, check};

use crate::program::{LONG, Program, by_agent, same, three_agents, web};

/// So that losing one agent costs the least.
#[test]
fn replicas_are_spread_over_the_agents() {
    let build = || {
        let mut cluster = three_agents();
        let program = Program::of(&mut cluster, web(0));
        (cluster, program)
    };
    check(0..40, build, |sim, program| {
        // When the agents are all there: what comes first is not moved later.
        sim.run_until(LONG, "everybody is there", |sim| {
            sim.master().agents.len() == 3 && sim.framework_id(program.scheduler).is_some()
        })?;
        program.scale(sim, 6);
        program.at_rest(sim, 6)?;
        same(sim, "replicas on each agent", by_agent(sim), vec![2; 3])
    });
}

/// Each of the first six tasks ends by itself, well or not. Their places are taken by others, until there are six that stay.
#[test]
fn a_replica_that_ends_is_replaced() {
    let build = || {
        let mut cluster = three_agents().workload(|task, rng| {
            let launch: u32 = task.task_id.as_str().rsplit('.').next().unwrap().parse().unwrap();
            let runs_for = Duration::from_millis(rng.u64(100..30_000));
            if launch <= 6 { Behaviour::exits(runs_for, rng.i32(0..2)) } else { Behaviour::runs() }
        });
        let program = Program::of(&mut cluster, web(6));
        (cluster, program)
    };
    check(0..40, build, |sim, program| {
        program.at_rest(sim, 6)?;
        same(sim, "launches", program.table().launches, 12)
    });
}

/// A replica that can never run is tried with growing pauses, not as often as offers come.
#[test]
fn a_replica_that_ends_at_once_is_not_started_without_end() {
    let build = || {
        let mut cluster = three_agents().workload(|_, _| Behaviour::exits(Duration::from_millis(1), 1));
        let program = Program::of(&mut cluster, web(1));
        (cluster, program)
    };
    check(0..20, build, |sim, program| {
        sim.run_for(Duration::from_secs(60))?;
        // At 0, 1, 3, 7, 15 seconds, and then every 8.
        let launches = program.table().launches;
        same(sim, &format!("{launches} launches are nine or ten"), (9..=10).contains(&launches), true)
    });
}

/// A replica that nobody can reach is given up after a while; when its agent returns, it is the one that has to go.
#[test]
fn a_replica_on_a_lost_agent_is_replaced_and_killed_when_it_returns() {
    let build = || {
        let mut cluster = three_agents();
        let program = Program::of(&mut cluster, web(3));
        (cluster, program)
    };
    check(0..40, build, |sim, program| {
        program.until_running(sim, 3)?;
        let agent = by_agent(sim).iter().position(|running| *running > 0).expect("three run");
        let before = by_agent(sim)[agent];
        sim.inflict(Fault::cut(Peer::Agent(agent), Duration::from_secs(90)));
        sim.run_for(Duration::from_secs(80))?;
        same(sim, "what runs beside those out of reach", sim.running().count(), 3 + before)?;
        same(sim, "tasks given up", program.table().strays.len(), before)?;

        program.at_rest(sim, 3)?;
        same(sim, "replicas on the agent that returned", by_agent(sim)[agent], 0)
    });
}

/// A machine that starts anew has lost its replicas for good: nobody waits for them.
#[test]
fn replicas_of_a_machine_that_starts_anew_are_launched_again() {
    let build = || {
        let mut cluster = three_agents();
        let program = Program::of(&mut cluster, web(6));
        (cluster, program)
    };
    check(0..40, build, |sim, program| {
        program.until_running(sim, 6)?;
        for agent in 0..3 {
            sim.inflict(Fault::Reboot { agent, down: Duration::from_secs(5) });
            program.until_running(sim, 6)?;
        }
        program.at_rest(sim, 6)
    });
}

/// Up, down, to none and back, while the network and the agents have a bad day.
#[test]
fn a_service_is_scaled_while_it_runs() {
    let build = || {
        let chaos = Chaos { framework_crashes: 6.0, ..Chaos::bad_day(Duration::from_secs(60)) };
        let mut cluster = three_agents().chaos(chaos);
        let program = Program::of(&mut cluster, web(3));
        (cluster, program)
    };
    check(0..40, build, |sim, program| {
        for replicas in [7, 2, 9, 0, 5] {
            // An order to a process that is down is lost, as a program's would be.
            sim.run_until(LONG, "the scheduler is up", |sim| sim.scheduler(program.scheduler).is_some())?;
            program.scale(sim, replicas);
            sim.run_for(Duration::from_secs(10))?;
        }
        program.at_rest(sim, 5)?;
        for replicas in [0, 4] {
            program.scale(sim, replicas);
            program.at_rest(sim, replicas)?;
        }
        Ok(())
    });
}
