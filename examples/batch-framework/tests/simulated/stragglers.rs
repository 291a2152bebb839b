//! Second copies of what takes long.

use std::time::Duration;

use apportion_batch::state::{Fate, Outcome, Speculate};
use apportion_sim::{Behaviour, Chaos, check};

use crate::program::{Begun, Program, job, number, outcomes, same, three_agents};

/// Two tasks of twenty hang wherever they are begun first. Each is begun once more, elsewhere; that counts, and what hangs is killed. So the job
/// ends, though nobody has limited the time of its tasks.
#[test]
fn what_hangs_is_overtaken_by_its_copy() {
    let build = || {
        let begun = Begun::none(20);
        let counting = begun.clone();
        let mut cluster = three_agents().workload(move |task, rng| {
            let hangs = counting.count(task) == 0 && [7, 15].contains(&number(task));
            let ends = Behaviour::succeeds_after(Duration::from_millis(rng.u64(3_000..6_000)));
            if hangs { Behaviour::runs() } else { ends }
        });
        let rule = Speculate { after: 1.5, share: 0.75, at_least: Duration::from_secs(2) };
        let program = Program::of(&mut cluster, job().count(20).speculate(rule));
        (cluster, (program, begun))
    };
    check(0..30, build, |sim, (program, begun)| {
        let job = program.to_the_end(sim)?;
        same(sim, "outcomes", outcomes(&job), vec![Outcome::Succeeded; 20])?;
        let begun = begun.all();
        for slow in [6, 14] {
            let task = &job.tasks()[slow];
            same(sim, "attempts that machines began", begun[slow], 2)?;
            same(sim, "failures and losses", (task.failures, task.losses), (0, 0))?;
            same(sim, "what became of the first", task.past[0].fate, Fate::Superseded)?;
            let last = task.end().and_then(|end| end.last.as_ref()).expect("it was launched");
            same(sim, "the copy was on the same agent", last.host.hostname == task.past[0].hostname, false)?;
        }
        Ok(())
    });
}

/// On a bad day copies are lost as well; each task ends once all the same, and nothing is left running.
#[test]
fn copies_survive_a_bad_day() {
    let build = || {
        let chaos = Chaos { framework_crashes: 0.0, ..Chaos::bad_day(Duration::from_secs(60)) };
        let mut cluster = three_agents().chaos(chaos).workload(|_, rng| {
            let long = rng.u64(0..5) == 0;
            Behaviour::succeeds_after(Duration::from_millis(
                rng.u64(2_000..4_000) * if long { 10 } else { 1 },
            ))
        });
        let rule = Speculate { after: 1.5, share: 0.5, at_least: Duration::from_secs(2) };
        let program = Program::of(&mut cluster, job().count(30).retries(20).speculate(rule));
        (cluster, program)
    };
    check(0..30, build, |sim, program| {
        let job = program.to_the_end(sim)?;
        same(sim, "outcomes", outcomes(&job), vec![Outcome::Succeeded; 30])
    });
}
