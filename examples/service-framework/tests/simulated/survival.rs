//! What a service survives, and what it does not.

use std::time::Duration;

use apportion_sdk::Stop;
use apportion_sim::{Chaos, Fault, check};

use crate::program::{Begun, LONG, Program, ports_are_used_once, same, three_agents, web};

/// Plan, write, act: a scheduler that dies at any moment, over and over, never launches one too many, and forgets none.
#[test]
fn a_scheduler_that_dies_at_any_moment_goes_on_where_it_was() {
    let build = || {
        // Half of them within the second in which everything is launched.
        let mut cluster = three_agents();
        for number in 0..20 {
            cluster = cluster.fault(
                Duration::from_millis(50 * number),
                Fault::framework_dies(0, Duration::from_millis(7)),
            );
        }
        let chaos = Chaos {
            lasts: Duration::from_secs(60),
            longest: Duration::from_secs(5),
            framework_crashes: 20.0,
            ..Chaos::NONE
        };
        let program = Program::of(&mut cluster, web(6));
        (cluster.chaos(chaos), program)
    };
    check(0..60, build, |sim, program| {
        let (mut most, mut clash) = (0, None);
        sim.run_until(LONG, "the bad minute is over", |sim| {
            let running = sim.running().count();
            if running > most {
                most = running;
                clash = clash.take().or_else(|| ports_are_used_once(sim).err());
            }
            sim.elapsed() > Duration::from_secs(70)
        })?;
        clash.map_or(Ok(()), Err)?;
        same(sim, "the most that ever ran", most, 6)?;
        program.at_rest(sim, 6)
    });
}

/// A master that changes does not disturb a replica: none is begun a second time.
#[test]
fn replicas_run_on_while_the_master_changes() {
    let build = || {
        let begun = Begun::default();
        // Agents may take their time to find the new master.
        let patient = three_agents().master(|config| config.agent_reregister_timeout = LONG);
        let mut cluster = patient.workload(begun.counting());
        let program = Program::of(&mut cluster, web(6));
        (cluster, (program, begun))
    };
    check(0..40, build, |sim, (program, begun)| {
        program.until_running(sim, 6)?;
        for seconds in [1, 5, 15] {
            sim.inflict(Fault::master_dies(Duration::from_secs(seconds)));
            sim.run_for(Duration::from_secs(30))?;
        }
        program.at_rest(sim, 6)?;
        same(sim, "what machines began", begun.count(), 6)
    });
}

/// Everything at once, and in the end it is as if nothing had been.
#[test]
fn a_service_survives_a_bad_day() {
    let build = || {
        let chaos = Chaos { framework_crashes: 4.0, ..Chaos::bad_day(Duration::from_secs(120)) };
        let mut cluster = three_agents().chaos(chaos).launches_fail(20_000).signals_fail(20_000);
        let program = Program::of(&mut cluster, web(6));
        (cluster, program)
    };
    check(0..60, build, |sim, program| program.at_rest(sim, 6));
}

/// A scheduler that stays away for too long finds its replicas gone. Its id is refused; the program keeps what is to be run, and a new
/// framework takes the place of the old one.
#[test]
fn a_scheduler_that_was_away_for_too_long_begins_anew() {
    let build = || {
        let begun = Begun::default();
        let mut cluster = three_agents().workload(begun.counting());
        let program = Program::of(&mut cluster, web(6));
        (cluster, (program, begun))
    };
    check(0..20, build, |sim, (program, begun)| {
        program.until_running(sim, 6)?;
        program.scale(sim, 7);
        program.until_running(sim, 7)?;
        let before = program.table().framework_id;
        sim.inflict(Fault::framework_dies(0, Duration::from_secs(180)));
        sim.run_for(Duration::from_secs(110))?;
        same(sim, "what runs before the time-out", sim.running().count(), 7)?;
        sim.run_for(Duration::from_secs(20))?;
        same(sim, "what runs after it", sim.running().count(), 0)?;

        sim.run_until(LONG, "it is run again", |sim| sim.scheduler(program.scheduler).is_some())?;
        sim.run_until(LONG, "its id is refused", |sim| sim.scheduler(program.scheduler).is_none())?;
        program.begin_anew();
        program.at_rest(sim, 7)?;
        same(sim, "the same framework", program.table().framework_id == before, false)?;
        same(sim, "what machines began", begun.count(), 14)
    });
}

/// `--stop` ends a service whether its scheduler is there or not.
#[test]
fn a_service_that_is_torn_down_leaves_nothing_behind() {
    let build = || {
        let mut cluster = three_agents();
        let program = Program::of(&mut cluster, web(6));
        (cluster, program)
    };
    check(0..20, build, |sim, program| {
        program.until_running(sim, 6)?;
        sim.stop(program.scheduler, Stop::Teardown);
        sim.run_until_idle(LONG)?;
        same(sim, "what runs", sim.running().count(), 0)
    });
    check(0..20, build, |sim, program| {
        program.until_running(sim, 6)?;
        sim.inflict(Fault::framework_dies(0, Duration::from_secs(60)));
        let framework_id = program.table().framework_id.expect("it has been subscribed");
        sim.teardown(framework_id);
        sim.run_until(Duration::from_secs(10), "nothing runs", |sim| sim.running().next().is_none())
    });
}
