//! What the program asks for.

use std::time::Duration;

use apportion_batch::{
    scheduler::{News, Order},
    state::Outcome,
};
use apportion_sim::{Behaviour, Chaos, Fault, check};

use crate::program::{LONG, Program, job, outcomes, same, takes_its_time, three_agents};

/// At whatever moment it comes: before the master is found, while tasks are on their way, while they run, while some pause before
/// another attempt, and while the master is away.
#[test]
fn an_interrupt_ends_everything_at_any_moment() {
    let build = || {
        let mut cluster = three_agents()
            .workload(|_, rng| {
                let code = if rng.bool() { 0 } else { 1 };
                Behaviour::exits(Duration::from_millis(rng.u64(1_000..20_000)), code)
            })
            .fault(Duration::from_secs(12), Fault::master_dies(Duration::from_secs(5)));
        let program = Program::of(&mut cluster, job().count(50).retries(10));
        (cluster, program)
    };
    for millis in [0, 10, 30, 60, 1_000, 5_000, 11_999, 14_000, 20_000] {
        check(0..6, build, |sim, program| {
            program.until_up(sim)?;
            sim.run_for(Duration::from_millis(millis))?;
            program.tell(sim, Order::Interrupt);
            // Nobody waits for the tasks; but a master that is back has first to hear from its agents.
            sim.run_until(Duration::from_secs(60), "the job is done", |sim| program.state(sim).is_done())?;
            let job = program.to_the_end(sim)?;
            for outcome in outcomes(&job) {
                let expected = matches!(outcome, Outcome::Interrupted | Outcome::Succeeded | Outcome::Failed);
                same(sim, &format!("{outcome:?} is an end of an interrupted job"), expected, true)?;
            }
            same(sim, "interrupted", job.is_interrupted(), true)
        });
    }
}

/// A program that finds its work as it goes: it begins with nothing, adds, and says when that was all.
#[test]
fn an_open_job_runs_what_is_added_until_it_is_closed() {
    let build = || {
        let chaos =
            Chaos { framework_crashes: 0.0, out_of_memory: 0.0, ..Chaos::bad_day(Duration::from_secs(60)) };
        let mut cluster = three_agents().workload(takes_its_time).chaos(chaos);
        let program = Program::of(&mut cluster, job().open());
        (cluster, program)
    };
    let elements =
        |numbers: std::ops::Range<usize>| Order::Add(numbers.map(|number| number.to_string()).collect());
    check(0..40, build, |sim, program| {
        program.until_up(sim)?;
        program.tell(sim, elements(0..5));
        for wave in 1..4 {
            sim.run_for(Duration::from_secs(10))?;
            program.tell(sim, elements(wave * 5..wave * 5 + 5));
        }
        sim.run_until(LONG, "what was added has ended", |sim| program.state(sim).counts().ended() == 20)?;
        same(sim, "done, though more may come", program.state(sim).is_done(), false)?;

        program.tell(sim, elements(20..30));
        program.tell(sim, Order::Close);
        program.tell(sim, elements(30..40));
        same(sim, "done, though the last have not run", program.state(sim).is_done(), false)?;
        let told = program.news();
        same(sim, "the last were too late", matches!(told.last(), Some(News::NotAdded(_))), true)?;

        sim.run_until(LONG, "the job is done", |sim| program.state(sim).is_done())?;
        same(sim, "outcomes", outcomes(program.state(sim)), vec![Outcome::Succeeded; 30])
    });
}

/// Who leaves early leaves nothing behind.
#[test]
fn leaving_ends_what_still_runs() {
    let build = || {
        let mut cluster = three_agents().workload(|_, _| Behaviour::runs());
        let program = Program::of(&mut cluster, job().count(20));
        (cluster, program)
    };
    check(0..20, build, |sim, program| {
        program.until_all_run(sim, 20)?;
        program.tell(sim, Order::Leave);
        sim.run_until(Duration::from_secs(10), "nothing runs", |sim| sim.running().next().is_none())?;
        sim.run_until_idle(LONG)
    });
}
