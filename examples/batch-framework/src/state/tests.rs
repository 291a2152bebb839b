use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use apportion_sdk::{
    AgentId, ContainerStatus, FrameworkId, Reason, Source,
    container::{Exit, Limitation, Usage},
};
use proptest::prelude::*;

use super::*;

mod again;
mod dag;
mod retry;
mod speculate;

/// The size of most tests' tasks.
const ONE: Class = Class { stage: 0, step: 0 };

fn policy(retries: u32, timeout: Option<Duration>) -> Policy {
    Policy { retry: Retry::times(retries), timeout, speculate: None }
}

fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

fn host() -> Host {
    Host {
        agent_id: AgentId::new("a1").unwrap(),
        hostname: "one".into(),
        address: "one:5051".into(),
        framework_id: FrameworkId::new("f1").unwrap(),
    }
}

fn status(id: &TaskId, state: TaskState) -> TaskStatus {
    TaskStatus {
        task_id: id.clone(),
        agent_id: Some(host().agent_id),
        state,
        reason: None,
        source: Source::Agent,
        message: String::new(),
        at: Time::ZERO,
        update_id: None,
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    }
}

fn exited(id: &TaskId, code: i32) -> TaskStatus {
    let state = if code == 0 { TaskState::Finished } else { TaskState::Failed };
    let container = ContainerStatus {
        exit: Some(Exit::Code(code)),
        limitation: None,
        usage: Usage::default(),
        started_at: Time::ZERO,
        finished_at: Time::ZERO,
    };
    TaskStatus { reason: Some(Reason::CommandExited), container: Some(container), ..status(id, state) }
}

fn names(numbers: RangeInclusive<usize>) -> impl Iterator<Item = String> {
    numbers.map(|number| format!("j-{number:04}"))
}

fn job(tasks: usize, policy: Policy) -> JobState {
    let mut job = JobState::open(policy);
    job.add(names(1..=tasks));
    job.close();
    job
}

fn launch(job: &mut JobState, position: usize, now: u64) -> TaskId {
    let id = job.next_id(position);
    job.launched(position, host(), at(now));
    id
}

/// A job of one task, and what was to be done for it so far.
struct One {
    job: JobState,
    effects: Vec<Effect>,
}

impl One {
    fn new(policy: Policy) -> Self {
        Self { job: job(1, policy), effects: Vec::new() }
    }

    fn launch(&mut self, now: u64) -> TaskId {
        launch(&mut self.job, 0, now)
    }

    fn update(&mut self, now: u64, status: &TaskStatus) {
        self.job.update(status, at(now), &mut self.effects);
    }

    fn tick(&mut self, now: u64) {
        self.job.tick(at(now), &mut self.effects);
    }

    fn done(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    fn outcome(&self) -> Option<Outcome> {
        self.job.tasks()[0].end().map(|end| end.outcome)
    }
}

#[test]
fn a_task_that_finishes_has_succeeded_once() {
    let mut one = One::new(Policy::default());
    assert!(one.job.wants_offers());
    let id = one.launch(0);
    assert!(!one.job.wants_offers(), "nothing is ready: no offer is wanted");
    one.update(1, &status(&id, TaskState::Running));
    one.update(2, &exited(&id, 0));
    one.update(3, &exited(&id, 0));
    assert_eq!(one.done(), [Effect::Ended(0)], "the repeated update is no second end");
    assert!(one.job.is_done());
    assert_eq!(one.job.counts(), Counts { total: 1, succeeded: 1, ..Counts::default() });
}

#[test]
fn a_failure_is_retried_after_a_growing_pause_under_a_new_id() {
    let mut one = One::new(policy(2, None));
    let first = one.launch(0);
    one.update(10, &exited(&first, 3));
    assert_eq!(one.done(), [Effect::Again { position: 0, why: "exit code 3; retry 1 of 2".into() }]);
    assert_eq!(one.job.next_deadline(), Some(at(11)));
    assert!(!one.job.wants_offers(), "it pauses");
    one.tick(11);
    let second = one.launch(11);
    assert_eq!((first.as_str(), second.as_str()), ("j-0001", "j-0001.r2"));
    one.update(20, &exited(&second, 3));
    assert_eq!(one.job.next_deadline(), Some(at(22)), "the second pause is twice as long");
    one.tick(22);
    let third = one.launch(22);
    one.done();
    one.update(30, &exited(&third, 3));
    assert_eq!(one.done(), [Effect::Ended(0)]);
    let task = &one.job.tasks()[0];
    assert_eq!((task.launches, task.failures, task.losses), (3, 3, 0));
    assert_eq!(task.end().unwrap().why, "exit code 3");
}

#[test]
fn what_is_lost_runs_again_without_costing_a_retry() {
    use TaskState::*;
    for state in [Dropped, Gone, GoneByOperator, Unreachable, Unknown] {
        let mut one = One::new(Policy::default());
        let first = one.launch(0);
        one.update(1, &status(&first, state));
        assert_eq!(one.outcome(), None, "{state}");
        one.tick(2);
        let second = one.launch(2);
        assert_ne!(first, second);
        one.update(3, &exited(&second, 0));
        assert_eq!(one.outcome(), Some(Outcome::Succeeded));
        let task = &one.job.tasks()[0];
        assert_eq!((task.failures, task.losses), (0, 1), "{state}");
    }
}

#[test]
fn a_task_whose_end_nobody_saw_is_lost_not_failed() {
    let mut one = One::new(Policy::default());
    let first = one.launch(0);
    one.update(1, &status(&first, TaskState::Running));
    let unseen = TaskStatus { reason: Some(Reason::ContainerLost), ..status(&first, TaskState::Failed) };
    one.update(2, &unseen);
    assert_eq!(one.outcome(), None, "it has no retry to spend");
    let task = &one.job.tasks()[0];
    assert_eq!((task.failures, task.losses), (0, 1));
}

#[test]
fn an_attempt_that_returns_after_it_was_given_up_is_killed() {
    let mut one = One::new(Policy::default());
    let first = one.launch(0);
    one.update(1, &status(&first, TaskState::Unreachable));
    one.tick(2);
    one.launch(2);
    one.done();
    one.update(3, &status(&first, TaskState::Running));
    assert_eq!(one.done(), [Effect::Kill(first.clone())]);
    one.update(4, &status(&first, TaskState::Killed));
    assert_eq!(one.done(), [], "its end is no news");
    assert_eq!(one.job.counts().active, 1);
}

#[test]
fn too_long_a_run_is_killed_and_not_tried_again() {
    let mut one = One::new(policy(5, Some(Duration::from_secs(60))));
    let id = one.launch(0);
    assert_eq!(one.job.next_deadline(), None, "the time counts from its start, not from its launch");
    one.update(100, &status(&id, TaskState::Running));
    one.update(130, &status(&id, TaskState::Running));
    assert_eq!(one.job.next_deadline(), Some(at(160)));
    one.tick(160);
    assert_eq!(one.done(), [Effect::Kill(id.clone())]);
    one.tick(190);
    assert_eq!(one.done(), [], "the SDK sees to it that the kill arrives");
    one.update(191, &status(&id, TaskState::Killed));
    assert_eq!(one.done(), [Effect::Ended(0)]);
    assert_eq!(one.outcome(), Some(Outcome::TimedOut));
    assert_eq!(one.job.tasks()[0].end().unwrap().why, "ran longer than 1m");
    assert_eq!(one.job.next_deadline(), None);
}

#[test]
fn what_an_operator_kills_stays_killed_and_what_is_invalid_is_not_tried_again() {
    for (state, outcome) in [(TaskState::Killed, Outcome::Killed), (TaskState::Error, Outcome::Invalid)] {
        let mut one = One::new(policy(5, None));
        let id = one.launch(0);
        one.update(1, &status(&id, state));
        assert_eq!(one.outcome(), Some(outcome));
    }
}

#[test]
fn what_is_killed_for_others_is_tried_again_and_costs_no_retry() {
    for reason in [Reason::Preempted, Reason::AgentDraining] {
        let mut one = One::new(policy(0, None));
        let id = one.launch(0);
        one.update(1, &TaskStatus { reason: Some(reason), ..status(&id, TaskState::Killed) });
        assert_eq!(one.outcome(), None, "{reason}");
        assert_eq!((one.job.tasks()[0].failures, one.job.tasks()[0].losses), (0, 1), "{reason}");
    }
}

#[test]
fn an_interrupted_job_kills_what_runs_and_launches_nothing_more() {
    let mut job = job(3, policy(3, None));
    let mut effects = Vec::new();
    let first = launch(&mut job, 0, 0);
    let second = launch(&mut job, 1, 0);
    job.interrupt(at(1), &mut effects);
    assert_eq!(effects, [Effect::Ended(2), Effect::Kill(first.clone()), Effect::Kill(second.clone())]);
    assert!(!job.wants_offers());
    effects.clear();
    job.update(&exited(&first, 0), at(2), &mut effects);
    job.update(&exited(&second, 1), at(2), &mut effects);
    assert!(job.is_done());
    let outcomes: Vec<_> = job.tasks().iter().map(|task| task.end().unwrap().outcome).collect();
    assert_eq!(outcomes, [Outcome::Succeeded, Outcome::Failed, Outcome::Interrupted]);
}

#[test]
fn giving_up_ends_what_waits_and_lets_run_what_runs() {
    let mut job = job(3, policy(3, None));
    let mut effects = Vec::new();
    let running = launch(&mut job, 0, 0);
    let paused = launch(&mut job, 1, 0);
    job.update(&exited(&paused, 1), at(1), &mut effects);
    effects.clear();
    job.give_up(ONE, "too large", &mut effects);
    assert_eq!(effects, [Effect::Ended(1), Effect::Ended(2)]);
    assert_eq!(job.next_deadline(), None, "no pause is left over");
    job.update(&exited(&running, 0), at(2), &mut effects);
    assert!(job.is_done());
    assert_eq!(job.tasks()[2].end().unwrap().why, "too large");
}

#[test]
fn an_open_job_takes_tasks_and_is_done_only_when_it_is_closed() {
    let mut job = JobState::open(Policy::default());
    let mut effects = Vec::new();
    assert!(!job.wants_offers() && !job.is_done(), "nothing to do is not the end");
    job.add(names(1..=1));
    let first = launch(&mut job, 0, 0);
    job.update(&exited(&first, 0), at(1), &mut effects);
    assert!(!job.is_done() && !job.wants_offers());
    job.add(names(2..=3));
    assert_eq!(job.counts(), Counts { total: 3, waiting: 2, succeeded: 1, ..Counts::default() });
    let second = launch(&mut job, 1, 2);
    job.close();
    job.update(&exited(&second, 0), at(3), &mut effects);
    assert!(!job.is_done(), "one waits");
    let third = launch(&mut job, 2, 3);
    job.update(&exited(&third, 0), at(4), &mut effects);
    assert!(job.is_done());
    assert_eq!(effects, [Effect::Ended(0), Effect::Ended(1), Effect::Ended(2)]);

    let mut job = JobState::open(Policy::default());
    job.interrupt(at(1), &mut effects);
    assert!(job.is_done() && !job.is_open(), "an interrupted job takes nothing more");
}

#[test]
fn what_cannot_be_described_is_invalid() {
    let mut one = One::new(policy(5, None));
    one.job.reject(0, "holds a zero byte".into(), &mut one.effects);
    assert_eq!(one.done(), [Effect::Ended(0)]);
    assert_eq!(one.outcome(), Some(Outcome::Invalid));
    assert!(one.job.is_done());
}

#[test]
fn the_cause_of_an_end_is_told_in_a_few_words() {
    let id = TaskId::new("t").unwrap();
    assert_eq!(cause(&exited(&id, 7)), "exit code 7");
    let mut memory = TaskStatus { reason: Some(Reason::ContainerLimitationMemory), ..exited(&id, 137) };
    memory.container.as_mut().unwrap().limitation = Some(Limitation::Memory { limit_bytes: 64 << 20 });
    assert_eq!(cause(&memory), "over its 64 MiB of memory");
    let refused = TaskStatus { message: "no such program".into(), ..status(&id, TaskState::Failed) };
    assert_eq!(cause(&refused), "no such program");
    assert_eq!(cause(&status(&id, TaskState::Gone)), "gone");
}

/// What may happen in a cluster.
#[derive(Debug, Clone)]
enum Move {
    Launch,
    /// News of one of all attempts so far, the old ones too.
    News(prop::sample::Index, TaskState),
    Wait(u64),
    Interrupt,
    GiveUp,
    /// More tasks come, while they may.
    Add(usize),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let news = (any::<prop::sample::Index>(), prop::sample::select(TaskState::ALL.to_vec()));
    let one = prop_oneof![
        8 => Just(Move::Launch),
        12 => news.prop_map(|(which, state)| Move::News(which, state)),
        4 => (0u64..90).prop_map(Move::Wait),
        1 => prop::bool::weighted(0.2).prop_map(|hit| if hit { Move::Interrupt } else { Move::Wait(1) }),
        1 => prop::bool::weighted(0.2).prop_map(|hit| if hit { Move::GiveUp } else { Move::Wait(1) }),
        2 => (0usize..4).prop_map(Move::Add),
    ];
    prop::collection::vec(one, 0..200)
}

/// The job and everything that was said by it, checked after each step.
struct World {
    job: JobState,
    retries: u32,
    now: u64,
    ids: Vec<TaskId>,
    ended: Vec<u32>,
}

impl World {
    fn step(&mut self, next: &Move) {
        let mut effects = Vec::new();
        match next {
            Move::Launch => {
                if let Some(position) = self.job.next_ready(ONE) {
                    assert!(!self.job.is_interrupted(), "an interrupted job launched something");
                    self.ids.push(launch(&mut self.job, position, self.now));
                }
                for position in self.job.copies_wanted().clone() {
                    self.ids.push(self.job.next_id(position));
                    self.job.copied(position, host(), at(self.now));
                }
            }
            Move::News(which, state) if !self.ids.is_empty() => {
                let status = status(which.get(&self.ids), *state);
                self.job.update(&status, at(self.now), &mut effects);
            }
            Move::News(..) => {}
            Move::Wait(seconds) => {
                self.now += seconds;
                self.job.tick(at(self.now), &mut effects);
            }
            Move::Interrupt => self.job.interrupt(at(self.now), &mut effects),
            Move::GiveUp => self.job.give_up(ONE, "too large", &mut effects),
            Move::Add(more) if self.job.is_open() => {
                let before = self.ended.len();
                self.ended.resize(before + more, 0);
                self.job.add(names(before + 1..=before + more));
            }
            Move::Add(_) => {}
        }
        for effect in effects {
            match effect {
                Effect::Ended(position) => self.ended[position] += 1,
                Effect::Kill(id) => assert!(self.ids.contains(&id), "kills what was never launched"),
                Effect::Again { .. } | Effect::Copy { .. } => {}
            }
        }
        self.check();
    }

    fn check(&self) {
        let counts = self.job.counts();
        assert_eq!(counts.waiting + counts.active + counts.ended(), counts.total);
        assert_eq!(self.job.waiting().next().is_some(), counts.waiting > 0);
        let attempts: usize = self.job.tasks().iter().map(|task| task.attempts().count()).sum();
        assert_eq!(self.job.live().count(), attempts);
        assert_eq!(self.job.attempts().count(), attempts);
        assert!(
            self.job.next_deadline().is_none_or(|due| due > at(self.now))
                || counts.active > 0
                || counts.waiting > 0
        );
        for (position, task) in self.job.tasks().iter().enumerate() {
            assert_eq!(self.ended[position], u32::from(task.end().is_some()), "{} ended once", task.name);
            assert!(task.failures <= self.retries + 1, "{} was tried too often", task.name);
            assert!(task.failures + task.losses <= task.launches);
        }
        let launches: u64 = self.job.tasks().iter().map(|task| u64::from(task.launches)).sum();
        assert_eq!(self.job.launches(), launches);
        let different: BTreeSet<_> = self.ids.iter().collect();
        assert_eq!(different.len(), self.ids.len(), "a task id was used twice");
    }
}

proptest! {
    #[test]
    fn every_task_ends_exactly_once_whatever_the_cluster_does(
        tasks in 1usize..8,
        retries in 0u32..3,
        timeout in prop::option::of(1u64..60),
        copies in any::<bool>(),
        moves in moves(),
    ) {
        let rule = Speculate { after: 1.1, share: 0.1, at_least: Duration::from_secs(1) };
        let speculate = copies.then_some(rule);
        let policy = Policy { speculate, ..policy(retries, timeout.map(Duration::from_secs)) };
        let mut world =
            World { job: JobState::open(policy), retries, now: 0, ids: Vec::new(), ended: Vec::new() };
        world.step(&Move::Add(tasks));
        for next in &moves {
            world.step(next);
        }
        world.job.close();
        let tasks = world.ended.len();
        // From here on the cluster behaves: whatever is launched finishes, and every task comes to its end.
        for _ in 0..=tasks * 2 {
            for id in world.job.live().cloned().collect::<Vec<_>>() {
                let index = world.ids.iter().position(|known| *known == id).unwrap();
                let mut effects = Vec::new();
                world.job.update(&exited(&world.ids[index], 0), at(world.now), &mut effects);
                for effect in effects {
                    if let Effect::Ended(position) = effect {
                        world.ended[position] += 1;
                    }
                }
            }
            world.step(&Move::Wait(PAUSE_MAX.as_secs()));
            while world.job.next_ready(ONE).is_some() {
                world.step(&Move::Launch);
            }
        }
        prop_assert!(world.job.is_done(), "{:?}", world.job.counts());
        prop_assert_eq!(world.job.next_deadline(), None);
        prop_assert!(world.ended.iter().all(|ends| *ends == 1));
    }
}

#[test]
fn a_clock_that_was_set_back_keeps_nothing_waiting() {
    let mut before = job(2, policy(1, Some(Duration::from_secs(10))));
    let (failed, running) = (launch(&mut before, 0, 5_000), launch(&mut before, 1, 5_000));
    before.update(&exited(&failed, 1), at(5_000), &mut Vec::new());
    before.update(&status(&running, TaskState::Running), at(5_000), &mut Vec::new());
    let mut after = job(2, policy(1, Some(Duration::from_secs(10))));
    for (position, task) in before.tasks().iter().enumerate() {
        after.restore(position, task.clone(), at(100));
    }
    assert_eq!(after.next_deadline(), Some(at(110)));
    after.tick(at(160), &mut Vec::new());
    assert_eq!(after.next_ready(ONE), Some(0));
}
