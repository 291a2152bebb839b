//! Stages that wait for each other.

use super::*;

fn after(stage: usize) -> Dependency {
    Dependency { stage, each: false }
}

fn after_each(stage: usize) -> Dependency {
    Dependency { stage, each: true }
}

fn rules(after: &[Dependency], if_failed: IfFailed) -> Rules {
    Rules { after: after.to_vec(), if_failed, ..Rules::default() }
}

fn staged(stages: &[(Rules, usize)]) -> JobState {
    let tasks = stages.iter().map(|(_, tasks)| tasks).sum();
    JobState::staged(stages.to_vec(), names(1..=tasks))
}

/// The positions that could be launched.
fn ready(job: &JobState) -> Vec<usize> {
    job.ready.values().flatten().copied().collect()
}

fn ends(job: &mut JobState, position: usize, code: i32) -> Vec<Effect> {
    let id = launch(job, position, 0);
    let mut effects = Vec::new();
    job.update(&exited(&id, code), at(1), &mut effects);
    effects
}

fn why(job: &JobState, position: usize) -> (Outcome, &str) {
    let end = job.tasks()[position].end().unwrap();
    (end.outcome, end.why.as_str())
}

#[test]
fn a_stage_waits_for_all_of_another_or_each_task_for_its_own() {
    let skip = IfFailed::Skip;
    let mut job =
        staged(&[(rules(&[], skip), 2), (rules(&[after_each(0)], skip), 2), (rules(&[after(1)], skip), 1)]);
    assert_eq!((ready(&job), job.counts().blocked), (vec![0, 1], 3));
    ends(&mut job, 1, 0);
    assert_eq!(ready(&job), [0, 3], "the other of its kind is not waited for");
    ends(&mut job, 3, 0);
    ends(&mut job, 0, 0);
    assert_eq!(ready(&job), [2]);
    assert_eq!(ends(&mut job, 2, 0), [Effect::Ended(2)]);
    assert_eq!(ready(&job), [4]);
    ends(&mut job, 4, 0);
    assert!(job.is_done());
    assert_eq!(job.counts(), Counts { total: 5, succeeded: 5, ..Counts::default() });
}

#[test]
fn what_waits_for_a_failure_is_skipped_at_once_and_so_is_what_waits_for_that() {
    let skip = IfFailed::Skip;
    let mut job = staged(&[
        (rules(&[], skip), 2),
        (rules(&[after_each(0)], skip), 2),
        (rules(&[after(1)], skip), 2),
        (rules(&[], skip), 1),
    ]);
    let effects = ends(&mut job, 0, 3);
    assert_eq!(effects, [0, 2, 4, 5].map(Effect::Ended), "once each, in order");
    assert_eq!(why(&job, 2), (Outcome::Skipped, "j-0001 did not succeed: failed"));
    assert_eq!(why(&job, 4), (Outcome::Skipped, "j-0003 did not succeed: skipped"));
    assert_eq!(ready(&job), [1, 6], "others go on");
    ends(&mut job, 1, 0);
    ends(&mut job, 3, 0);
    ends(&mut job, 6, 0);
    assert!(job.is_done());
    assert_eq!(job.counts(), Counts { total: 7, succeeded: 3, skipped: 3, failed: 1, ..Counts::default() });
}

#[test]
fn a_stage_that_continues_waits_for_the_rest_and_runs() {
    let mut job = staged(&[(rules(&[], IfFailed::Skip), 2), (rules(&[after(0)], IfFailed::Continue), 1)]);
    ends(&mut job, 0, 1);
    assert_eq!(ready(&job), [1]);
    ends(&mut job, 1, 0);
    assert_eq!(ready(&job), [2]);
}

#[test]
fn who_gives_up_or_interrupts_ends_what_waits_for_it_too() {
    let stages = [(rules(&[], IfFailed::Skip), 1), (rules(&[after(0)], IfFailed::Skip), 1)];
    let mut job = staged(&stages);
    let mut effects = Vec::new();
    job.give_up(ONE, "too large", &mut effects);
    assert_eq!((why(&job, 0).0, why(&job, 1).0), (Outcome::Unplaceable, Outcome::Skipped));
    let mut job = staged(&stages);
    job.interrupt(at(1), &mut effects);
    assert_eq!((why(&job, 0).0, why(&job, 1).0), (Outcome::Interrupted, Outcome::Interrupted));
    assert!(job.is_done());
}

/// A stage of many that waits for a stage of many is looked at when that is done, not at each of its ends.
#[test]
fn passing_on_costs_what_it_changes() {
    const MANY: usize = 50_000;
    let mut job = staged(&[
        (rules(&[], IfFailed::Skip), MANY),
        (rules(&[after(0)], IfFailed::Skip), MANY),
        (rules(&[after(1)], IfFailed::Skip), MANY),
    ]);
    let mut effects = Vec::new();
    job.give_up(ONE, "too large", &mut effects);
    assert_eq!(effects.len(), 3 * MANY);
    assert!(job.is_done());
}

/// A random job: each stage waits for some of those before it. Those with the same number of tasks may wait for each of them.
#[derive(Debug, Clone)]
struct Plan(Vec<(Rules, usize)>);

fn plans() -> impl Strategy<Value = Plan> {
    let stage = (1usize..4, prop::collection::vec((any::<bool>(), any::<bool>()), 6), any::<bool>());
    prop::collection::vec(stage, 1..7).prop_map(|stages| {
        let tasks: Vec<_> = stages.iter().map(|(tasks, ..)| *tasks).collect();
        let rules = stages.iter().enumerate().map(|(number, (own, edges, skip))| {
            let after = edges.iter().take(number).enumerate().filter(|(_, (wanted, _))| *wanted);
            let after =
                after.map(|(stage, (_, each))| Dependency { stage, each: *each && tasks[stage] == *own });
            let if_failed = if *skip { IfFailed::Skip } else { IfFailed::Continue };
            let policy = policy(1, None);
            (Rules { policy, after: after.collect(), if_failed, gang: false }, *own)
        });
        Plan(rules.collect())
    })
}

impl Plan {
    /// The tasks that one waits for, told from the rules alone.
    fn needs(&self, position: usize) -> (Vec<usize>, IfFailed) {
        let firsts = self.0.iter().scan(0, |next, (_, tasks)| {
            *next += tasks;
            Some(*next - tasks)
        });
        let firsts: Vec<usize> = firsts.collect();
        let stage = firsts.iter().rposition(|first| *first <= position).unwrap();
        let needs = self.0[stage].0.after.iter().flat_map(|dependency| {
            let (first, tasks) = (firsts[dependency.stage], self.0[dependency.stage].1);
            match dependency.each {
                true => {
                    let own = first + position - firsts[stage];
                    own..own + 1
                }
                false => first..first + tasks,
            }
        });
        (needs.collect(), self.0[stage].0.if_failed)
    }
}

/// What may happen to such a job.
#[derive(Debug, Clone)]
enum Step {
    Launch(usize),
    News(usize, TaskState),
    Wait(u64),
    /// The program dies: all that is left is what was written down.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use TaskState::*;
    let states = prop::sample::select(vec![Running, Finished, Finished, Failed, Failed, Gone, Killed]);
    let step = prop_oneof![
        8 => any::<usize>().prop_map(Step::Launch),
        8 => (any::<usize>(), states).prop_map(|(which, state)| Step::News(which, state)),
        4 => (0u64..90).prop_map(Step::Wait),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..250)
}

proptest! {
    /// Each task ends exactly once; none is launched before what it waits for has ended as it demands; and a task is skipped exactly when
    /// its stage says so and something that it waits for did not succeed.
    #[test]
    fn a_dag_is_kept_whatever_happens(plan in plans(), steps in steps()) {
        let tasks = plan.0.iter().map(|(_, tasks)| tasks).sum();
        let fresh = || JobState::staged(plan.0.clone(), names(1..=tasks));
        let (mut job, mut now, mut ids) = (fresh(), 0, Vec::new());
        let (mut ended, mut disk) = (vec![0; tasks], BTreeMap::new());
        let rest = (0..2 * tasks * 3).flat_map(|_| {
            [Step::Launch(0), Step::News(0, TaskState::Finished), Step::Wait(60)]
        });
        for step in steps.into_iter().chain(rest) {
            let mut effects = Vec::new();
            match step {
                Step::Launch(which) => {
                    let ready = ready(&job);
                    if !ready.is_empty() {
                        let position = ready[which % ready.len()];
                        let (needs, if_failed) = plan.needs(position);
                        for need in needs {
                            let end = job.tasks()[need].end().map(|end| end.outcome);
                            prop_assert!(end.is_some(), "{position} was launched before {need} had ended");
                            prop_assert!(if_failed == IfFailed::Continue || end == Some(Outcome::Succeeded));
                        }
                        ids.push(launch(&mut job, position, now));
                    }
                }
                Step::News(which, state) => {
                    let live: Vec<_> = job.live().cloned().collect();
                    // Sometimes news of an attempt that is long forgotten.
                    let of = if live.is_empty() { &ids } else { &live };
                    if !of.is_empty() {
                        let status = status(&of[which % of.len()], state);
                        job.update(&status, at(now), &mut effects);
                    }
                }
                Step::Wait(seconds) => {
                    now += seconds;
                    job.tick(at(now), &mut effects);
                }
                Step::Restart => {
                    job = fresh();
                    for (position, task) in &disk {
                        job.restore(*position, Task::clone(task), at(now));
                    }
                    job.settle(&mut effects);
                    prop_assert!(effects.is_empty(), "what is known of ends is written down with them: {effects:?}");
                }
            }
            for position in job.take_changed() {
                let task = serde_json::to_vec(&job.tasks()[position]).unwrap();
                disk.insert(position, serde_json::from_slice(&task).unwrap());
            }
            for effect in effects {
                if let Effect::Ended(position) = effect {
                    ended[position] += 1;
                }
            }
            for (position, task) in job.tasks().iter().enumerate() {
                prop_assert_eq!(ended[position], u32::from(task.end().is_some()));
                let (needs, if_failed) = plan.needs(position);
                let bad = needs.iter().any(|need| {
                    job.tasks()[*need].end().is_some_and(|end| end.outcome != Outcome::Succeeded)
                });
                let skipped = task.end().is_some_and(|end| end.outcome == Outcome::Skipped);
                prop_assert_eq!(skipped, bad && if_failed == IfFailed::Skip, "{}", &task.name);
            }
            let counts = job.counts();
            prop_assert_eq!(counts.waiting + counts.active + counts.ended(), tasks);
            prop_assert!(job.waiting.values().sum::<usize>() == counts.waiting);
        }
        prop_assert!(job.is_done(), "{:?}", job.counts());
    }
}
