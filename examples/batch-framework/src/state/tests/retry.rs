//! Which failures are tried again, when, and with how much memory.

use super::*;

fn of_memory(id: &TaskId) -> TaskStatus {
    let mut status = TaskStatus { reason: Some(Reason::ContainerLimitationMemory), ..exited(id, 137) };
    status.container.as_mut().unwrap().limitation = Some(Limitation::Memory { limit_bytes: 64 << 20 });
    status
}

fn retry(on: On) -> Policy {
    Policy { retry: Retry { on, ..Retry::times(5) }, timeout: None, speculate: None }
}

/// Whether a task that ended so is tried again.
fn again(policy: &Policy, ends: impl Fn(&TaskId) -> TaskStatus) -> bool {
    let mut one = One::new(policy.clone());
    let id = one.launch(0);
    one.update(1, &ends(&id));
    one.outcome().is_none()
}

#[test]
fn only_what_is_named_is_tried_again_or_all_but_that() {
    let named = BTreeSet::from([Cause::Code(75), Cause::Memory]);
    let cannot_start =
        |id: &TaskId| TaskStatus { reason: Some(Reason::ImageNotAvailable), ..status(id, TaskState::Failed) };
    for (on, code_75, code_1, memory, start) in [
        (On::Any, true, true, true, true),
        (On::Only(named.clone()), true, false, true, false),
        (On::Never(named), false, true, false, true),
    ] {
        let policy = retry(on);
        assert_eq!(again(&policy, |id| exited(id, 75)), code_75, "{policy:?}");
        assert_eq!(again(&policy, |id| exited(id, 1)), code_1, "{policy:?}");
        assert_eq!(again(&policy, of_memory), memory, "{policy:?}");
        assert_eq!(again(&policy, cannot_start), start, "{policy:?}");
        assert!(again(&policy, |id| status(id, TaskState::Gone)), "what is lost is no failure");
    }
}

#[test]
fn running_too_long_is_tried_again_only_when_it_is_named() {
    for (on, tried) in [
        (On::Any, false),
        (On::Never([Cause::Disk].into()), false),
        (On::Only([Cause::Timeout].into()), true),
    ] {
        let policy = Policy { timeout: Some(Duration::from_secs(10)), ..retry(on) };
        let mut one = One::new(policy.clone());
        let id = one.launch(0);
        one.update(0, &status(&id, TaskState::Running));
        one.tick(10);
        one.update(11, &status(&id, TaskState::Killed));
        assert_eq!(one.outcome().is_none(), tried, "{policy:?}");
        assert_eq!(one.job.tasks()[0].failures, 1);
        let told = one.done().pop();
        let why = "ran longer than 10s; retry 1 of 5".to_owned();
        assert_eq!(told, Some(if tried { Effect::Again { position: 0, why } } else { Effect::Ended(0) }));
    }
}

#[test]
fn pauses_begin_and_end_as_the_job_says() {
    let retry =
        Retry { backoff: Duration::from_secs(10), backoff_max: Duration::from_secs(25), ..Retry::times(9) };
    let mut one = One::new(Policy { retry, timeout: None, speculate: None });
    let mut now = 0;
    for pause in [10, 20, 25, 25] {
        let id = one.launch(now);
        one.update(now, &exited(&id, 1));
        now += pause;
        assert_eq!(one.job.next_deadline(), Some(at(now)));
        one.tick(now);
    }
    // What is lost has pauses of its own: no failure is made longer or shorter by it.
    let id = one.launch(now);
    one.update(now, &status(&id, TaskState::Gone));
    assert_eq!(one.job.next_deadline(), Some(at(now + 1)));
}

#[test]
fn memory_grows_after_it_was_too_little_and_only_then() {
    let policy = Policy {
        retry: Retry { memory_milli: vec![64_000, 128_000, 200_000], ..Retry::times(9) },
        timeout: None,
        speculate: None,
    };
    let mut one = One::new(policy);
    let step = |step| Class { stage: 0, step };
    assert_eq!(one.job.waiting().collect::<Vec<_>>(), [(step(0), 1)]);
    let id = one.launch(0);
    one.update(0, &exited(&id, 3));
    one.done();
    one.tick(100);
    let id = one.launch(100);
    one.update(100, &of_memory(&id));
    let why = "over its 64 MiB of memory; retry 2 of 9, with 128 MiB".to_owned();
    assert_eq!(one.done(), [Effect::Again { position: 0, why }]);
    assert_eq!(one.job.waiting().collect::<Vec<_>>(), [(step(1), 1)], "it waits for a larger offer");
    one.tick(200);
    assert_eq!(one.job.ready().collect::<Vec<_>>(), [step(1)]);
    let id = one.launch(200);
    one.update(200, &status(&id, TaskState::Gone));
    one.tick(300);
    let id = one.launch(300);
    one.update(300, &of_memory(&id));
    one.tick(400);
    let id = one.launch(400);
    one.update(400, &of_memory(&id));
    assert_eq!(one.outcome(), Some(Outcome::Failed), "it had the most that it may have");
    assert_eq!((one.job.tasks()[0].failures, one.job.tasks()[0].memory_step), (4, 2));
}
