//! Replicas are replaced by others.

use std::time::Duration;

use apportion_service::{
    balancer::Listener,
    scheduler::Order,
    spec::{Share, Spec, Update},
    state::Phase,
};
use apportion_sim::{Behaviour, Chaos, Failure, Sim, check};

use crate::program::{LONG, Program, same, three_agents, web};

/// Another description of the service of every story.
fn other(replicas: u32, word: &str, update: Update) -> Spec {
    Spec { argv: vec![word.to_owned(), "${port0}".to_owned()], update, ..web(replicas) }
}

/// A service that clients are led to. Whoever is to say when they have finished says nothing here: then their time is up.
fn balanced(spec: Spec) -> Spec {
    Spec { balancer: Some(Listener::new(([127, 0, 0, 1], 80).into())), ..spec }
}

fn until_steady(sim: &mut Sim, program: &Program, target: u64) -> Result<(), Failure> {
    sim.run_until(LONG, &format!("revision {target} is complete"), |_| {
        let table = program.table();
        table.apps.get("web").is_some_and(|web| web.phase == Phase::Steady && web.target == target)
    })
}

/// A scheduler that dies over and over while it replaces six replicas: never runs one too many, and never one too few.
#[test]
fn an_update_goes_on_where_it_was_when_its_scheduler_dies() {
    let build = || {
        let mut cluster = three_agents();
        let program = Program::of(&mut cluster, web(6));
        let chaos = Chaos {
            lasts: Duration::from_secs(180),
            longest: Duration::from_secs(5),
            framework_crashes: 20.0,
            ..Chaos::NONE
        };
        (cluster.chaos(chaos), program)
    };
    check(0..40, build, |sim, program| {
        until_steady(sim, program, 1)?;
        sim.run_until(LONG, "the scheduler is up", |sim| sim.scheduler(program.scheduler).is_some())?;
        program.apply(sim, other(6, "serve-better", Update::default()));
        let (mut most, mut fewest) = (0, usize::MAX);
        let mut told_again = false;
        loop {
            let done = sim.run_until(LONG, "the update is complete, or was never heard of", |sim| {
                let running = sim.running().count();
                (most, fewest) = (most.max(running), fewest.min(running));
                let web = program.table().apps["web"].clone();
                // One that was down when it was told does not know.
                let unheard = !told_again && web.target == 1 && sim.elapsed() > Duration::from_secs(300);
                unheard || web.phase == Phase::Steady && web.target == 2
            });
            done?;
            if program.table().apps["web"].target == 2 {
                break;
            }
            told_again = true;
            program.apply(sim, other(6, "serve-better", Update::default()));
        }
        same(sim, "no more than seven ran", most <= 7, true)?;
        same(sim, "no fewer than six ran", fewest >= 6, true)?;
        program.at_rest(sim, 6)?;
        let all_new = program.table().placed.values().all(|placed| placed.revision == 2);
        same(sim, "all have the new revision", all_new, true)
    });
}

/// Everything at once; the update ends all the same.
#[test]
fn an_update_survives_a_bad_day() {
    let build = || {
        let chaos = Chaos { framework_crashes: 4.0, ..Chaos::bad_day(Duration::from_secs(120)) };
        let mut cluster = three_agents().chaos(chaos).launches_fail(20_000).signals_fail(20_000);
        let update = Update { max_unavailable: Share::Percent(34), ..Update::default() };
        let program = Program::of(&mut cluster, balanced(other(6, "serve-better", update)));
        (cluster, program)
    };
    check(0..40, build, |sim, program| {
        let update = Update { max_unavailable: Share::Percent(34), ..Update::default() };
        for word in ["serve", "serve-best"] {
            sim.run_until(LONG, "the scheduler is up", |sim| sim.scheduler(program.scheduler).is_some())?;
            program.apply(sim, balanced(other(6, word, update)));
            sim.run_for(Duration::from_secs(30))?;
        }
        program.at_rest(sim, 6)?;
        let table = program.table();
        let web = &table.apps["web"];
        same(sim, "the phase at rest", web.phase, Phase::Steady)?;
        let same_revision = table.placed.values().all(|placed| placed.revision == web.target);
        same(sim, "all have the target", same_revision, true)
    });
}

/// A revision whose replicas do not last is given up, with the old replicas left alone meanwhile.
#[test]
fn a_revision_that_does_not_work_is_rolled_back() {
    let build = || {
        let mut cluster = three_agents().workload(|task, rng| match task.command.argv[0].as_str() {
            "broken" => Behaviour::exits(Duration::from_millis(rng.u64(10..3_000)), 1),
            _ => Behaviour::runs(),
        });
        let program = Program::of(&mut cluster, web(6));
        (cluster, program)
    };
    for canary in [Share::Count(0), Share::Count(2), Share::ALL] {
        check(0..15, build, |sim, program| {
            let update = Update { canary, progress_deadline: Duration::from_secs(60), ..Update::default() };
            until_steady(sim, program, 1)?;
            let before: Vec<_> = program.table().placed.into_keys().collect();
            program.apply(sim, other(6, "broken", update));
            sim.run_until(LONG, "it is given up", |_| program.table().apps["web"].rejected == Some(2))?;
            until_steady(sim, program, 1)?;
            program.at_rest(sim, 6)?;
            same(sim, "what runs, and what ran before", program.table().placed.into_keys().collect(), before)
        });
    }
}

/// Canaries are tried beside the old ones, which go when they are promoted.
#[test]
fn canaries_are_promoted() {
    let build = || {
        let mut cluster = three_agents();
        let program = Program::of(&mut cluster, web(3));
        (cluster, program)
    };
    check(0..20, build, |sim, program| {
        until_steady(sim, program, 1)?;
        let update = Update { canary: Share::Count(2), ..Update::default() };
        program.apply(sim, other(3, "serve-better", update));
        sim.run_for(Duration::from_secs(120))?;
        same(sim, "what runs beside the old ones", sim.running().count(), 5)?;
        program.order(sim, Order::Promote { service: "web".into() });
        until_steady(sim, program, 2)?;
        program.at_rest(sim, 3)?;
        program.order(sim, Order::RollBack { service: "web".into(), to: None });
        until_steady(sim, program, 1)?;
        program.at_rest(sim, 3)?;
        program.order(sim, Order::Remove { services: vec!["web".into()] });
        sim.run_until_idle(LONG)?;
        same(sim, "what runs of it", sim.running().count(), 0)?;
        same(sim, "what is known of it", program.table().apps.len() + program.table().placed.len(), 0)
    });
}
