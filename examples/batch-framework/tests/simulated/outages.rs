//! What happens while somebody is away.

use std::{collections::BTreeMap, time::Duration};

use apportion_batch::state::Outcome;
use apportion_sim::{Behaviour, Fault, Peer, Sim, check};

use crate::program::{Begun, LONG, Program, job, outcomes, same, three_agents};

/// A master that changes does not disturb a task: not one is begun a second time.
#[test]
fn tasks_run_on_while_the_master_changes() {
    let build = || {
        let begun = Begun::none(30);
        let counting = begun.clone();
        // Agents may take their time to find the new master.
        let patient = three_agents().master(|config| config.agent_reregister_timeout = LONG);
        let mut cluster = patient.workload(move |task, rng| {
            counting.count(task);
            Behaviour::succeeds_after(Duration::from_millis(rng.u64(10_000..60_000)))
        });
        let program = Program::of(&mut cluster, job().count(30));
        (cluster, (program, begun))
    };
    check(0..40, build, |sim, (program, begun)| {
        program.until_all_run(sim, 30)?;
        for _ in 0..3 {
            sim.inflict(Fault::master_dies(Duration::from_secs(5)));
            sim.run_for(Duration::from_secs(10))?;
        }
        let job = program.to_the_end(sim)?;
        same(sim, "outcomes", outcomes(&job), vec![Outcome::Succeeded; 30])?;
        same(sim, "what machines began", begun.all(), vec![1; 30])
    });
}

/// An agent that is cut off for too long loses its tasks to the others, and when it returns it is told to end them: the work is not
/// done twice for longer than need be.
#[test]
fn an_agent_that_was_given_up_loses_its_tasks() {
    let build = || {
        let mut cluster = three_agents().workload(|_, _| Behaviour::succeeds_after(Duration::from_secs(300)));
        let program = Program::of(&mut cluster, job().count(20));
        (cluster, program)
    };
    check(0..30, build, |sim, program| {
        program.until_all_run(sim, 20)?;
        // Best fit has filled two of the three.
        let here = |sim: &Sim, agent| sim.running().filter(|(number, _)| *number == agent).count();
        let agent = (0..3).find(|agent| here(sim, *agent) > 0).expect("tasks run somewhere");
        let lost = here(sim, agent) as u32;
        sim.inflict(Fault::cut(Peer::Agent(agent), Duration::from_secs(90)));
        sim.run_for(Duration::from_secs(60))?;
        let twice = sim.running().count() as u32;
        same(sim, "those that run, with those that nobody can reach", twice, 20 + lost)?;

        sim.run_for(Duration::from_secs(90))?;
        let mut running = BTreeMap::<_, u32>::new();
        for (_, (_, task_id)) in sim.running() {
            let task = task_id.as_str().split('.').next().expect("ids begin with the task's name");
            *running.entry(task.to_owned()).or_default() += 1;
        }
        same(sim, "how often each runs", running.into_values().collect(), vec![1; 20])?;

        let job = program.to_the_end(sim)?;
        same(sim, "outcomes", outcomes(&job), vec![Outcome::Succeeded; 20])?;
        same(sim, "losses", job.tasks().iter().map(|task| task.losses).sum(), lost)
    });
}

/// The same, but when the agent returns the job is cut off itself, and nobody tells it: it asks when it is back. Also when the master
/// changes meanwhile, so that the new one has never heard of the attempts, and says so.
#[test]
fn what_returns_while_the_job_is_cut_off_is_found() {
    let build = || {
        // The driver opens another connection when it has missed five heartbeats.
        let cluster = three_agents().master(|config| config.scheduler_heartbeat = Duration::from_secs(1));
        let mut cluster = cluster.workload(|_, _| Behaviour::succeeds_after(Duration::from_secs(300)));
        let program = Program::of(&mut cluster, job().count(20));
        (cluster, program)
    };
    for master_changes in [false, true] {
        check(0..12, build, |sim, program| {
            program.until_all_run(sim, 20)?;
            let (agent, _) = sim.running().next().expect("all run");
            let cut = |peer, seconds| Fault::cut(peer, Duration::from_secs(seconds));
            sim.inflict(cut(Peer::Agent(agent), 60));
            if master_changes {
                sim.inflict(Fault::master_dies(Duration::from_secs(1)));
            }
            sim.run_for(Duration::from_secs(55))?;
            sim.inflict(cut(Peer::Framework(0), 55));
            sim.run_for(Duration::from_secs(120))?;
            same(sim, "what runs when all are back", sim.running().count(), 20)?;
            program.to_the_end(sim).map(|_| ())
        });
    }
}

/// A job keeps nothing: when its process dies its tasks end with the failover time-out, and whoever runs it again begins at the
/// beginning.
#[test]
fn a_job_whose_process_dies_leaves_nothing_behind() {
    let build = || {
        let mut cluster = three_agents().workload(|_, _| Behaviour::succeeds_after(Duration::from_secs(100)));
        let program = Program::of(&mut cluster, job().count(30));
        (cluster, program)
    };
    check(0..20, build, |sim, program| {
        program.until_all_run(sim, 30)?;
        sim.inflict(Fault::framework_dies(0, Duration::from_secs(300)));
        sim.run_for(Duration::from_secs(50))?;
        same(sim, "what runs before the time-out", sim.running().count(), 30)?;
        sim.run_for(Duration::from_secs(15))?;
        same(sim, "what runs after it", sim.running().count(), 0)?;

        drop(program.news());
        sim.run_until(LONG, "it is run again", |sim| sim.scheduler(program.scheduler).is_some())?;
        let job = program.to_the_end(sim)?;
        same(sim, "outcomes", outcomes(&job), vec![Outcome::Succeeded; 30])
    });
}
