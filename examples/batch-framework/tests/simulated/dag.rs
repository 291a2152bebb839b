//! Stages that wait for each other, while everything fails: tasks, machines, and the job's own program.

use std::{
    fmt::Write as _,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use apportion_batch::{
    job::{Job, Stage},
    state::{IfFailed, JobState, Outcome},
};
use apportion_sim::{Behaviour, Chaos, Failure, Fault, Sim, check};

use crate::{
    program::{LONG, same, three_agents},
    survival::{is_done, kept, leave},
};

/// A job of a few stages: each waits for some of those before it, in either way, and skips or continues. The same for the same number.
fn random_job(number: u64) -> Job {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |most: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % most
    };
    let mut text = "name = \"j\"\nretry = { limit = 2, never_on = [9] }\n".to_owned();
    let mut sizes = Vec::new();
    for stage in 0..3 + below(4) {
        let size = 1 + below(4);
        let (mut after, mut each) = (Vec::new(), Vec::new());
        for (other, tasks) in sizes.iter().enumerate() {
            match below(4) {
                0 => after.push(format!("\"s{other}\"")),
                1 if *tasks == size => each.push(format!("\"s{other}\"")),
                _ => {}
            }
        }
        let if_failed = if below(3) == 0 { "continue" } else { "skip" };
        let (cpus, memory) = (1 + below(4), 64 + 64 * below(4));
        _ = writeln!(
            text,
            "[stage.s{stage}]\ncommand = [\"work\"]\ncpus = {cpus}\nmemory = {memory}\nif_failed = \"{if_failed}\"\n\
             after = [{}]\nafter_each = [{}]\narray = {{ range = [1, {size}] }}",
            after.join(", "),
            each.join(", "),
        );
        sizes.push(size);
    }
    Job::parse(Path::new("job.toml"), &text, &[], Path::new("/"))
        .unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The positions of the tasks of each stage.
fn positions(job: &Job) -> Vec<std::ops::Range<usize>> {
    let firsts = job.stages().iter().scan(0, |next, stage| {
        *next += stage.tasks();
        Some(*next - stage.tasks()..*next)
    });
    firsts.collect()
}

/// What each task waits for, with the rule of its stage.
fn needs(job: &Job) -> Vec<(Vec<usize>, IfFailed)> {
    let stages = positions(job);
    let of_stage = |(stage, own): (&Stage, &std::ops::Range<usize>)| {
        let of_task = |at: usize| {
            let needs = stage.after.iter().flat_map(|dependency| {
                let other = stages[dependency.stage].clone();
                if dependency.each { other.start + at..other.start + at + 1 } else { other }
            });
            (needs.collect(), stage.if_failed)
        };
        own.clone().map(|position| of_task(position - own.start)).collect::<Vec<_>>()
    };
    job.stages().iter().zip(&stages).flat_map(of_stage).collect()
}

/// The positions of tasks in the order in which machines began them, once for each time.
type Begun = Arc<Mutex<Vec<usize>>>;

fn judge(sim: &Sim, job: &Job, state: &JobState, begun: &[usize]) -> Result<(), Failure> {
    for (position, (needs, if_failed)) in needs(job).into_iter().enumerate() {
        let task = &state.tasks()[position];
        let outcome = |position: usize| state.tasks()[position].end().expect("the job is done").outcome;
        let bad = needs.iter().any(|need| outcome(*need) != Outcome::Succeeded);
        let skipped = outcome(position) == Outcome::Skipped;
        same(sim, &format!("{} was skipped", task.name), skipped, bad && if_failed == IfFailed::Skip)?;
        let first = begun.iter().position(|one| *one == position);
        same(sim, &format!("{} was begun", task.name), first.is_some() && skipped, false)?;
        for need in needs {
            let last = begun.iter().rposition(|one| *one == need);
            let early = first.is_some_and(|first| last.is_some_and(|last| first < last));
            let what = format!("{} began before the last attempt of {}", task.name, state.tasks()[need].name);
            same(sim, &what, early, false)?;
        }
    }
    Ok(())
}

/// Tasks fail at random, the program dies again and again: each task ends as its dependencies demand, and machines begin each attempt once.
#[test]
fn a_dag_survives_the_deaths_of_its_program() {
    for number in 0..12 {
        let build = || {
            let (job, begun) = (random_job(number), Begun::default());
            let names: Vec<_> = (0..job.tasks()).map(|position| job.task_name(position)).collect();
            let counted = begun.clone();
            let mut cluster = three_agents().workload(move |task, rng| {
                let name = task.task_id.as_str().split('.').next().expect("it has a name");
                counted.lock().unwrap().push(names.iter().position(|known| known == name).unwrap());
                let code = match rng.u64(0..10) {
                    0 | 1 => 3,
                    2 => 9,
                    _ => 0,
                };
                Behaviour::exits(Duration::from_millis(rng.u64(100..8_000)), code)
            });
            for death in 0..8 {
                let at = Duration::from_millis(40 + 1_700 * death);
                cluster = cluster.fault(at, Fault::framework_dies(0, Duration::from_millis(300)));
            }
            let chaos = Chaos {
                lasts: Duration::from_secs(40),
                longest: Duration::from_secs(3),
                framework_crashes: 15.0,
                ..Chaos::NONE
            };
            let scheduler = kept(&mut cluster, job.clone());
            (cluster.chaos(chaos), (scheduler, job, begun))
        };
        check(0..6, build, |sim, (scheduler, job, begun)| {
            sim.run_until(LONG, "the job is done", |sim| is_done(sim, *scheduler))?;
            let state = sim.scheduler(*scheduler).expect("it is up").state().clone();
            let begun = begun.lock().unwrap().clone();
            judge(sim, job, &state, &begun)?;
            for (position, task) in state.tasks().iter().enumerate() {
                let times = begun.iter().filter(|one| **one == position).count();
                let succeeded = task.end().expect("the job is done").outcome == Outcome::Succeeded;
                let expected = task.failures + u32::from(succeeded);
                same(sim, &format!("how often {} was begun", task.name), times as u32, expected)?;
            }
            leave(sim, *scheduler)
        });
    }
}

/// Machines, links and the master fail as well: what is lost runs again, and tasks end as their dependencies demand.
#[test]
fn a_dag_survives_a_bad_day() {
    for number in 12..18 {
        let build = || {
            let job = random_job(number);
            let chaos = Chaos { framework_crashes: 4.0, ..Chaos::bad_day(Duration::from_secs(60)) };
            let mut cluster = three_agents().chaos(chaos).workload(|_, rng| {
                let code = if rng.u64(0..6) == 0 { 9 } else { 0 };
                Behaviour::exits(Duration::from_millis(rng.u64(100..8_000)), code)
            });
            let scheduler = kept(&mut cluster, job.clone());
            (cluster, (scheduler, job))
        };
        check(0..6, build, |sim, (scheduler, job)| {
            sim.run_until(LONG, "the job is done", |sim| is_done(sim, *scheduler))?;
            let state = sim.scheduler(*scheduler).expect("it is up").state().clone();
            judge(sim, job, &state, &[])?;
            sim.run_until_idle(LONG)?;
            same(sim, "what runs when the job is done", sim.running().count(), 0)
        });
    }
}
