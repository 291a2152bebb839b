//! What did not succeed, run again.

use super::*;
use crate::job::Job;

fn job() -> Job {
    let text = "name = \"j\"\n[stage.a]\ncommand = \"x\"\narray = { range = [1, 3] }\n\
                [stage.b]\nafter = [\"a\"]\ncommand = \"y\"\n";
    Job::parse("job.toml".as_ref(), text, &[], "/".as_ref()).unwrap()
}

#[test]
fn what_succeeded_stays_and_the_rest_runs_again_under_new_ids() {
    let job = job();
    let mut state = JobState::of(&job).with_ids("7.");
    let mut effects = Vec::new();
    for (position, code) in [(0, 0), (1, 1), (2, 0)] {
        let id = state.next_id(position);
        state.launched(position, host(), at(1));
        state.update(&exited(&id, code), at(2), &mut effects);
    }
    assert_eq!(state.tasks()[3].end().unwrap().outcome, Outcome::Skipped);
    assert!(state.is_done());
    state.take_changed();

    assert_eq!(state.run_again(&job, at(3), &mut effects), 2);
    assert_eq!(state.take_changed(), [1, 3].into(), "what succeeded is not written again");
    let counts = Counts { total: 4, waiting: 2, blocked: 1, succeeded: 2, ..Counts::default() };
    assert_eq!(state.counts(), counts);
    assert_eq!(state.run_again(&job, at(3), &mut effects), 0, "it has not ended");

    let id = state.next_id(1);
    assert_eq!(id.as_str(), "7.j-a-0002.r2");
    state.launched(1, host(), at(4));
    state.update(&exited(&id, 0), at(5), &mut effects);
    let id = state.next_id(3);
    assert_eq!(id.as_str(), "7.j-b-0001", "it was never launched");
    state.launched(3, host(), at(6));
    state.update(&exited(&id, 0), at(7), &mut effects);
    assert!(state.is_done() && state.counts().succeeded == 4);
    assert_eq!(state.run_again(&job, at(8), &mut effects), 0, "there is nothing to run again");
}

#[test]
fn an_interrupted_job_can_be_run_again() {
    let job = job();
    let mut state = JobState::of(&job);
    let mut effects = Vec::new();
    let id = state.next_id(0);
    state.launched(0, host(), at(1));
    state.interrupt(at(2), &mut effects);
    state.update(&status(&id, TaskState::Killed), at(3), &mut effects);
    assert!(state.is_done() && state.is_interrupted());
    assert_eq!(state.run_again(&job, at(4), &mut effects), 4);
    assert!(!state.is_interrupted());
    assert_eq!(state.ready().count(), 1);
    assert_eq!(state.next_id(0).as_str(), "j-a-0001.r2");
    assert_eq!(state.held().count(), 0);
}
