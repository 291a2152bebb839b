//! Second copies of what takes long.

use super::*;

/// Four tasks of which three have taken 10 s; the last runs since second 0.
struct Slow {
    job: JobState,
    first: TaskId,
    effects: Vec<Effect>,
}

fn slow(policy: Policy) -> Slow {
    let speculate = Some(Speculate { after: 2.0, share: 0.75, at_least: Duration::from_secs(15) });
    let mut job = job(4, Policy { speculate, ..policy });
    let mut effects = Vec::new();
    let ids: Vec<_> = (0..4).map(|position| launch(&mut job, position, 0)).collect();
    for id in &ids {
        job.update(&status(id, TaskState::Running), at(0), &mut effects);
    }
    for id in &ids[..3] {
        job.update(&exited(id, 0), at(10), &mut effects);
    }
    effects.clear();
    Slow { job, first: ids[3].clone(), effects }
}

impl Slow {
    fn copy(&mut self) -> TaskId {
        assert_eq!(self.job.next_deadline(), Some(at(20)), "twice as long as half of the others");
        self.job.tick(at(19), &mut self.effects);
        assert!(self.job.copies_wanted().is_empty());
        self.job.tick(at(20), &mut self.effects);
        let why = "it has run for 20s, half of the others took 10s or less".to_owned();
        assert_eq!(self.done(), [Effect::Copy { position: 3, why }]);
        assert!(self.job.wants_offers());
        assert_eq!(self.job.runs_on(3), Some(&host().agent_id));
        let id = self.job.next_id(3);
        self.job.copied(3, host(), at(21));
        assert!(!self.job.wants_offers());
        self.update(22, &status(&id, TaskState::Running));
        id
    }

    fn update(&mut self, now: u64, status: &TaskStatus) {
        self.job.update(status, at(now), &mut self.effects);
    }

    fn done(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn last(&self) -> &Task {
        &self.job.tasks()[3]
    }
}

#[test]
fn what_ends_first_counts_and_the_other_is_killed() {
    for copy_wins in [true, false] {
        let mut slow = slow(Policy::default());
        let copy = slow.copy();
        assert_eq!(copy.as_str(), "j-0004.r2");
        let (winner, other) = if copy_wins { (copy, slow.first.clone()) } else { (slow.first.clone(), copy) };
        slow.update(30, &exited(&winner, 0));
        assert_eq!(slow.done(), [Effect::Kill(other.clone()), Effect::Ended(3)]);
        slow.update(31, &exited(&other, 0));
        assert_eq!(slow.done(), [], "nothing is counted twice");
        assert!(slow.job.is_done());
        assert_eq!(slow.job.counts().succeeded, 4);
        assert_eq!(slow.last().end().unwrap().last.as_ref().unwrap().id, winner);
        assert_eq!((slow.last().failures, slow.last().losses), (0, 0));
        assert_eq!(slow.last().past[0].fate, Fate::Superseded);
    }
}

#[test]
fn what_becomes_of_one_while_the_other_runs_is_nothing_of_the_task() {
    for state in
        [TaskState::Failed, TaskState::Gone, TaskState::Unreachable, TaskState::Killed, TaskState::Error]
    {
        for copy_ends in [true, false] {
            let mut slow = slow(Policy::default());
            let copy = slow.copy();
            let (ends, stays) =
                if copy_ends { (copy, slow.first.clone()) } else { (slow.first.clone(), copy) };
            slow.update(30, &status(&ends, state));
            assert_eq!(slow.done(), [], "{state}");
            slow.job.tick(at(500), &mut slow.effects);
            assert_eq!(slow.done(), [], "no other copy, however long it takes");
            assert_eq!(slow.last().attempt().unwrap().id, stays);
            assert_eq!((slow.last().failures, slow.last().losses), (0, 0));
            slow.update(600, &exited(&stays, 3));
            assert_eq!(slow.last().end().unwrap().outcome, Outcome::Failed, "alone it counts");
        }
    }
}

#[test]
fn a_copy_is_no_more_time() {
    let mut slow = slow(policy(0, Some(Duration::from_secs(60))));
    let copy = slow.copy();
    slow.job.tick(at(60), &mut slow.effects);
    assert_eq!(slow.done(), [Effect::Kill(slow.first.clone()), Effect::Kill(copy)]);
    let first = slow.first.clone();
    slow.update(61, &status(&first, TaskState::Killed));
    assert_eq!(slow.last().end().unwrap().outcome, Outcome::TimedOut);
}

#[test]
fn the_time_of_a_copy_that_is_left_counts_from_its_own_start() {
    let mut slow = slow(policy(0, Some(Duration::from_secs(60))));
    let copy = slow.copy();
    let first = slow.first.clone();
    slow.update(30, &status(&first, TaskState::Gone));
    assert_eq!(slow.job.next_deadline(), Some(at(82)));
    slow.job.tick(at(82), &mut slow.effects);
    assert_eq!(slow.done(), [Effect::Kill(copy)]);
}

#[test]
fn an_interrupt_kills_both() {
    let mut slow = slow(Policy::default());
    let copy = slow.copy();
    slow.job.interrupt(at(30), &mut slow.effects);
    assert_eq!(slow.done(), [Effect::Kill(copy), Effect::Kill(slow.first.clone())]);
    let first = slow.first.clone();
    slow.update(31, &status(&first, TaskState::Killed));
    assert!(slow.job.is_done());
}

#[test]
fn a_copy_and_the_pace_of_the_others_outlive_the_program() {
    for with_copy in [true, false] {
        let mut slow = slow(Policy::default());
        let policy = slow.job.stages[0].rules.policy.clone();
        let copy = with_copy.then(|| slow.copy());
        let mut again = job(4, policy);
        for (position, task) in slow.job.tasks().iter().enumerate() {
            let written = serde_json::to_vec(task).unwrap();
            again.restore(position, serde_json::from_slice(&written).unwrap(), at(20));
        }
        assert_eq!(again.next_deadline(), (!with_copy).then(|| at(20)));
        let live: Vec<_> = again.live().cloned().collect();
        assert_eq!(live, [Some(slow.first), copy].into_iter().flatten().collect::<Vec<_>>());
    }
}
