//! Replicas by what is measured.

use std::time::Duration;

use apportion_service::{
    balancer::Listener,
    scale::{Aim, Measured, Metric, Rule, Scale, Traffic},
    scheduler::Order,
    spec::Spec,
};
use apportion_sim::{Chaos, Failure, Fault, Sim, check, find_at_every_write};

use crate::program::{LONG, Program, ports_are_used_once, same, three_agents, web};

/// Each replica bears ten requests each second; fewer must be enough for ten seconds.
fn scaled(min: u32) -> Spec {
    let scale = Scale {
        min,
        max: 9,
        up_step: 9,
        down_step: 9,
        up_after: Duration::ZERO,
        down_after: Duration::from_secs(10),
        idle_after: Duration::from_secs(10),
        interval: Duration::from_secs(1),
        rules: vec![Rule { metric: Metric::Requests, aim: Aim::Target(10.0), predict: None }],
    };
    // No client is ever led there: replicas that are to go are killed when their drain is over.
    let balancer = Listener::new(([127, 0, 0, 1], 80).into());
    Spec { scale: Some(scale), balancer: Some(balancer), ..web(3) }
}

fn measured(requests_per_second: f64) -> Order {
    let traffic = Traffic { requests_per_second, busy: requests_per_second > 0.0, ..Traffic::default() };
    Order::Measured(vec![Measured { service: "web".into(), traffic: Some(traffic), ..Measured::default() }])
}

/// Measures each second, as far as there is a scheduler to be told.
fn load(sim: &mut Sim, program: &Program, requests_per_second: f64, seconds: u32) -> Result<(), Failure> {
    for _ in 0..seconds {
        sim.run_for(Duration::from_secs(1))?;
        if sim.scheduler(program.scheduler).is_some() {
            program.order(sim, measured(requests_per_second));
        }
    }
    Ok(())
}

/// Up and down by load, while the scheduler, the network and the agents have a bad day: the number that comes of it is that of the load, and
/// that many run.
#[test]
fn a_service_is_scaled_by_its_load_whoever_dies() {
    let build = || {
        let chaos = Chaos { framework_crashes: 6.0, ..Chaos::bad_day(Duration::from_secs(60)) };
        let mut cluster = three_agents().chaos(chaos);
        let program = Program::of(&mut cluster, scaled(1));
        (cluster, program)
    };
    check(0..40, build, |sim, program| {
        for requests in [65.0, 15.0, 88.0] {
            load(sim, program, requests, 25)?;
            let replicas = program.table().apps.get("web").map_or(1, |web| web.replicas());
            same(sim, "within the bounds", (1..=9).contains(&replicas), true)?;
            ports_are_used_once(sim)?;
        }
        sim.run_until_idle(LONG)?;
        for (requests, replicas) in [(65.0, 7), (15.0, 2), (4.0, 1), (900.0, 9)] {
            // What starts has to be ready first, and each change is followed by the next measurement.
            load(sim, program, requests, 60)?;
            program.at_rest(sim, replicas)?;
        }
        Ok(())
    });
}

/// What sleeps is woken, and sleeps on over a crash.
#[test]
fn a_service_that_sleeps_is_woken_by_whoever_waits() {
    let build = || {
        let mut cluster = three_agents();
        let program = Program::of(&mut cluster, scaled(0));
        (cluster, program)
    };
    check(0..20, build, |sim, program| {
        program.until_running(sim, 3)?;
        sim.run_for(Duration::from_secs(15))?;
        load(sim, program, 0.0, 40)?;
        program.at_rest(sim, 0)?;
        sim.inflict(Fault::framework_dies(0, Duration::from_secs(1)));
        sim.run_for(Duration::from_secs(3))?;
        load(sim, program, 0.0, 20)?;
        program.at_rest(sim, 0)?;
        program.order(sim, Order::Wanted { service: "web".into() });
        program.at_rest(sim, 1)
    });
}

/// The scheduler is killed before, and after, each of its writes: what was decided is done or it was never decided, and no replica is one too
/// many.
#[test]
fn a_scheduler_that_is_killed_at_any_write_scales_no_further_than_it_decided() {
    let build = || {
        let mut cluster = three_agents();
        let program = Program::of(&mut cluster, scaled(1));
        (cluster, program)
    };
    let searched = find_at_every_write(0..2, build, |sim, program| {
        load(sim, program, 55.0, 30)?;
        same(sim, "no more than the load needs", sim.running().count() <= 6, true)?;
        load(sim, program, 15.0, 40)?;
        program.at_rest(sim, 2)
    });
    let searched = searched.unwrap_or_else(|found| panic!("{found}"));
    assert!(searched.runs > 2 * searched.seeds, "{searched:?}");
}
