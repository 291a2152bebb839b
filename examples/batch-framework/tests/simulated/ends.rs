//! What becomes of tasks.

use std::time::Duration;

use apportion_batch::{
    job::Job,
    scheduler::{News, Order},
    state::{Class, Outcome},
};
use apportion_sim::{Behaviour, Chaos, Cluster, Ending, OnTerm, check};

use crate::program::{Begun, LONG, Program, job, number, outcomes, same, takes_its_time, three_agents};

/// Links are cut, machines start anew, the master dies: not one of the 50 tasks has a retry to spend on it, and all succeed.
#[test]
fn what_is_lost_on_a_bad_day_costs_no_retry() {
    let build = || {
        let chaos =
            Chaos { framework_crashes: 0.0, out_of_memory: 0.0, ..Chaos::bad_day(Duration::from_secs(90)) };
        let mut cluster = three_agents().workload(takes_its_time).signals_fail(10_000).chaos(chaos);
        let program = Program::of(&mut cluster, job().count(50));
        (cluster, program)
    };
    check(0..30, build, |sim, program| {
        let job = program.to_the_end(sim)?;
        same(sim, "outcomes", outcomes(&job), vec![Outcome::Succeeded; 50])?;
        same(sim, "failures", job.tasks().iter().map(|task| task.failures).sum(), 0)
    });
}

/// Every fourth task succeeds at once, the next after one failure, and so on; the job allows two. A change of the master and broken
/// connections lose attempts that had not begun, but neither forget a failure nor count one twice.
#[test]
fn a_task_that_fails_is_tried_again_as_often_as_the_job_says() {
    const TASKS: usize = 40;
    let build = || {
        let begun = Begun::none(TASKS);
        let counting = begun.clone();
        let chaos = Chaos {
            lasts: Duration::from_secs(60),
            longest: Duration::from_secs(10),
            breaks: 10.0,
            master_crashes: 2.0,
            ..Chaos::NONE
        };
        // Nobody is given up, so that each end is heard of.
        let patient = three_agents().master(|config| config.agent_reregister_timeout = LONG);
        let mut cluster = patient.chaos(chaos).workload(move |task, rng| {
            let runs_for = Duration::from_millis(rng.u64(1_000..20_000));
            let fails = counting.count(task) < number(task) as u32 % 4;
            Behaviour::exits(runs_for, if fails { 3 } else { 0 })
        });
        let program = Program::of(&mut cluster, job().count(TASKS).retries(2));
        (cluster, (program, begun))
    };
    check(0..20, build, |sim, (program, begun)| {
        let job = program.to_the_end(sim)?;
        for (position, (task, begun)) in job.tasks().iter().zip(begun.all()).enumerate() {
            let end = task.end().expect("the job is done");
            let (outcome, failures) = match (position as u32 + 1) % 4 {
                3 => (Outcome::Failed, 3),
                failures => (Outcome::Succeeded, failures),
            };
            same(sim, &task.name, (end.outcome, task.failures), (outcome, failures))?;
            let succeeded = u32::from(outcome == Outcome::Succeeded);
            same(sim, "attempts that machines began", begun, failures + succeeded)?;
            same(sim, "attempts", task.launches, begun + task.losses)?;
            if outcome == Outcome::Failed {
                same(sim, "why it failed", end.why.as_str(), "exit code 3")?;
            }
        }
        Ok(())
    });
}

/// A task that needs more memory than it asked for does so each time; the summary is to say what to change.
#[test]
fn a_task_that_is_out_of_memory_says_so() {
    let build = || {
        let mut cluster = three_agents().workload(|_, _| Behaviour {
            ends: Ending::OutOfMemory,
            ..Behaviour::succeeds_after(Duration::from_secs(1))
        });
        let program = Program::of(&mut cluster, job().retries(1));
        (cluster, program)
    };
    check(0..20, build, |sim, program| {
        program.until_up(sim)?;
        sim.run_until(LONG, "the job is done", |sim| program.state(sim).is_done())?;
        let again = program.news().into_iter().find_map(|news| match news {
            News::Again { name, why } => Some((name, why)),
            _ => None,
        });
        let told = ("j-0001".to_owned(), "over its 128 MiB of memory; retry 1 of 1".to_owned());
        same(sim, "what is told of the first attempt", again, Some(told))?;
        let end = program.state(sim).tasks()[0].end().expect("the job is done");
        same(
            sim,
            "why it failed",
            (end.outcome, end.why.as_str()),
            (Outcome::Failed, "over its 128 MiB of memory"),
        )
    });
}

/// A task that hangs does not even hear TERM, and every fifth signal is lost; still it is gone soon after its time is over, and it is
/// not tried again.
#[test]
fn a_task_that_hangs_is_killed_when_its_time_is_over() {
    let build = || {
        let chaos = Chaos {
            lasts: Duration::from_secs(60),
            longest: Duration::from_secs(10),
            breaks: 6.0,
            master_crashes: 2.0,
            ..Chaos::NONE
        };
        let mut cluster =
            three_agents().chaos(chaos).signals_fail(200_000).workload(|task, _| match number(task) {
                1..=3 => Behaviour { on_term: OnTerm::Hangs, ..Behaviour::runs() },
                _ => Behaviour::succeeds_after(Duration::from_secs(10)),
            });
        let limited =
            job().count(6).retries(5).timeout(Duration::from_secs(30)).kill_grace(Duration::from_secs(2));
        let program = Program::of(&mut cluster, limited);
        (cluster, program)
    };
    check(0..40, build, |sim, program| {
        let job = program.to_the_end(sim)?;
        let expected: Vec<_> =
            [[Outcome::TimedOut; 3], [Outcome::Succeeded; 3]].into_iter().flatten().collect();
        same(sim, "outcomes", outcomes(&job), expected)?;
        let end = job.tasks()[0].end().expect("the job is done");
        same(sim, "why it ended", end.why.as_str(), "ran longer than 30s")
    });
}

/// Nothing is launched on agents that are too small, and an operator can see at the master why.
#[test]
fn a_task_that_no_agent_has_room_for_is_not_launched() {
    let build = || {
        let begun = Begun::none(2);
        let counting = begun.clone();
        let mut cluster = Cluster::new().agents(3, "cpus:4;mem:4096").workload(move |task, _| {
            counting.count(task);
            Behaviour::runs()
        });
        let large =
            Job::builder("j").command(["work", "${index}"]).resources("cpus:8;mem:128".parse().unwrap());
        let program = Program::of(&mut cluster, large.count(2));
        (cluster, (program, begun))
    };
    check(0..20, build, |sim, (program, begun)| {
        sim.run_for(Duration::from_secs(60))?;
        same(sim, "what machines began", begun.all(), vec![0; 2])?;
        let framework = sim.framework_id(program.scheduler).expect("it has had a minute");
        let declined = &sim.master().frameworks[framework].declined;
        // Each agent was offered, refused, and after the few seconds of a refusal offered again.
        let times = declined.get("too small").copied().unwrap_or_default();
        same(sim, "reasons of declines", declined.len(), 1)?;
        same(sim, &format!("{times} declines are at least two for each agent"), times >= 6, true)?;

        // The program finds that no agent will ever do, unless it was told to wait.
        program.tell(
            sim,
            Order::GiveUp(
                Class { stage: 0, step: 0 },
                "8 cpus are wanted, the largest agent has 4".to_owned(),
            ),
        );
        let job = program.to_the_end(sim)?;
        same(sim, "outcomes", outcomes(&job), vec![Outcome::Unplaceable; 2])
    });
}
