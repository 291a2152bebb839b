//! What an offer does when it is dropped, whatever drops it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use apportion_sdk::{
    Context, DoesNotFit, Offer, Scheduler, Stop, Task, TaskInfo, TaskStatus, async_trait,
    limits::TASKS_PER_ACCEPT_MAX,
    placement::{best_fit, first_fit, fits, worst_fit},
    protocol::{Accept, Call, Event},
    testing::Harness,
};

/// Keeps what it is offered, for the test to play with.
#[derive(Default)]
struct Keeper {
    kept: Vec<Offer>,
    panic: bool,
}

#[async_trait]
impl Scheduler for Keeper {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, mut offers: Vec<Offer>) {
        if self.panic {
            offers[0].launch(task("t", "cpus:1")).unwrap();
            panic!("with an offer in hand");
        }
        self.kept.append(&mut offers);
    }

    async fn update(&mut self, _cx: &mut Context<'_>, _status: TaskStatus) {}
}

fn task(id: &str, resources: &str) -> TaskInfo {
    Task::new(id).command(["true"]).resources(&resources.parse().unwrap()).build().unwrap()
}

fn harness(offers: &[(&str, &str)]) -> (Harness<Keeper>, Vec<Offer>) {
    let mut harness = Harness::new(Keeper::default());
    harness.offers(offers);
    let kept = std::mem::take(&mut harness.scheduler_mut().kept);
    harness.calls();
    (harness, kept)
}

#[test]
fn an_offer_is_spent_as_far_as_it_goes_and_no_further() {
    let (mut harness, mut offers) = harness(&[("a1", "cpus:2;mem:100;ports:[1-3]")]);
    let offer = &mut offers[0];
    assert_eq!(offer.take_ports(2), Some(vec![1, 2]));
    assert_eq!(offer.resources().to_string(), "cpus:2;mem:100;ports:[3-3]");
    offer.launch(task("t1", "cpus:1.5;mem:60;ports:[1-2]")).unwrap();
    assert_eq!(offer.resources().to_string(), "cpus:0.5;mem:40;ports:[3-3]");
    let DoesNotFit { task: back, missing, agent_id, .. } =
        offer.launch(task("t2", "cpus:1;mem:30;ports:[2-3]")).unwrap_err();
    assert_eq!((back.task_id.as_str(), agent_id.as_str()), ("t2", "a1"));
    assert_eq!(missing.to_string(), "cpus:0.5;ports:[2-2]");
    assert_eq!(offer.resources().to_string(), "cpus:0.5;mem:40;ports:[3-3]", "nothing was changed");
    assert_eq!((offer.take_ports(2), offer.take_ports(0)), (None, Some(vec![])));
    drop(offers);
    harness.flush();
    assert_eq!(harness.launched().len(), 1);
}

#[test]
fn an_accept_that_can_carry_no_more_says_so() {
    let (mut harness, mut offers) = harness(&[("a1", "cpus:10000"), ("a2", "cpus:10000")]);
    for number in 0..TASKS_PER_ACCEPT_MAX {
        offers[0].launch(task(&format!("t{number}"), "cpus:0.1")).unwrap();
    }
    let full = offers[0].launch(task("one-more", "cpus:0.1")).unwrap_err();
    assert!(full.missing.is_empty() && full.to_string().contains("no more tasks"), "{full}");

    let long = |number: u32| {
        Task::new(format!("long-{number}")).command(["x".repeat(100 << 10)]).cpus(0.1).build().unwrap()
    };
    let carried = (0..).take_while(|number| offers[1].launch(long(*number)).is_ok()).count();
    drop(offers);
    harness.flush();
    let calls = harness.calls();
    assert!(
        matches!(&calls[0], Call::Accept(accept) if accept.refuse == Some(Duration::ZERO)),
        "the rest comes back at once"
    );
    for call in calls {
        let bytes = prost_len(call);
        assert!(bytes <= apportion_sdk::limits::MESSAGE_BYTES_MAX, "{bytes}");
    }
    assert!((30..=36).contains(&carried), "{carried} tasks of 100 KiB in 3.5 MiB");
}

fn prost_len(call: Call) -> usize {
    use apportion_types::convert::scheduler_request;
    prost::Message::encoded_len(&scheduler_request(1, call))
}

#[test]
fn offers_of_one_agent_become_one_accept() {
    let (mut harness, offers) = harness(&[("a1", "cpus:1"), ("a2", "cpus:1"), ("a1", "cpus:2")]);
    let mut offers = Offer::by_agent(offers);
    assert_eq!(offers.len(), 2);
    assert_eq!(offers[0].ids().len(), 2);
    offers[0].launch(task("t1", "cpus:3")).unwrap();
    let other = offers.pop().unwrap();
    let apart = offers[0].merge(other).unwrap_err();
    drop(apart);
    drop(offers);
    harness.flush();
    let calls = harness.calls();
    let [Call::Accept(Accept { offers: accepted, .. }), Call::Decline { offers: declined, .. }] =
        calls.as_slice()
    else {
        panic!("{calls:?}");
    };
    assert_eq!((accepted.len(), declined.len()), (2, 1));
}

#[test]
fn a_declined_offer_still_launches_what_was_placed() {
    let (mut harness, mut offers) = harness(&[("a1", "cpus:2")]);
    let mut offer = offers.pop().unwrap();
    offer.launch(task("t1", "cpus:1")).unwrap();
    offer.decline("enough");
    harness.flush();
    assert_eq!(harness.launched().len(), 1);
}

#[test]
fn an_offer_dropped_while_unwinding_or_after_the_end_does_nothing() {
    let mut harness = Harness::new(Keeper { panic: true, ..Keeper::default() });
    let panicked = catch_unwind(AssertUnwindSafe(|| harness.offer("a1", "cpus:2")));
    assert!(panicked.is_err(), "a panic is not swallowed, and the drop adds none");

    let (mut harness, mut offers) = self::harness(&[("a1", "cpus:2"), ("a2", "cpus:2")]);
    harness.stop(Stop::Disconnect);
    assert!(matches!(harness.end(), Some(Ok(Stop::Disconnect))));
    drop(offers.pop());
    harness.flush();
    assert_eq!(harness.calls(), []);
    drop(harness);
    drop(offers);
}

#[test]
fn best_fit_keeps_large_offers_and_worst_fit_spreads() {
    let (_harness, offers) = harness(&[
        ("a1", "cpus:8;mem:8000"),
        ("a2", "cpus:2;mem:2000"),
        ("a3", "cpus:1;mem:9000"),
        ("a4", "cpus:2;mem:2000"),
        ("a5", "cpus:16;mem:100"),
    ]);
    let wanted = "cpus:2;mem:1000".parse().unwrap();
    assert_eq!(best_fit(&offers, &wanted), Some(1), "the first of the tightest");
    assert_eq!(worst_fit(&offers, &wanted), Some(0));
    assert_eq!(first_fit(&offers, &wanted), Some(0));
    assert!(!fits(&offers[2], &wanted) && !fits(&offers[4], &wanted));
    assert_eq!(best_fit(&offers, &"gpus:1".parse().unwrap()), None);
    assert_eq!(worst_fit(&offers, &"cpus:17".parse().unwrap()), None);
    // What asks for nothing fits like anything else.
    assert_eq!(best_fit(&offers, &Default::default()), Some(1));
}

/// Asks to be woken, and counts.
#[derive(Default)]
struct Sleeper {
    woken: u32,
    lost: u32,
}

#[async_trait]
impl Scheduler for Sleeper {
    type Message = Duration;

    async fn offers(&mut self, _cx: &mut Context<'_>, _offers: Vec<Offer>) {}

    async fn update(&mut self, _cx: &mut Context<'_>, _status: TaskStatus) {}

    async fn message(&mut self, cx: &mut Context<'_>, after: Duration) {
        cx.wake_after(after);
    }

    async fn woken(&mut self, _cx: &mut Context<'_>) {
        self.woken += 1;
    }

    async fn disconnected(&mut self, _cx: &mut Context<'_>, _why: String) {
        self.lost += 1;
    }
}

#[test]
fn a_harness_lets_time_pass_without_losing_the_connection() {
    let mut harness = Harness::new(Sleeper::default());
    harness.message(Duration::from_secs(3600));
    let before = harness.now();
    harness.advance(Duration::from_secs(3599));
    assert_eq!((harness.scheduler().woken, harness.scheduler().lost), (0, 0));
    harness.advance(Duration::from_secs(1));
    assert_eq!((harness.scheduler().woken, harness.scheduler().lost), (1, 0));
    assert_eq!(harness.now().since(before), Duration::from_secs(3600));

    harness.disconnect("the test wishes it");
    assert_eq!(harness.scheduler().lost, 1);
    assert!(!harness.is_connecting());
    harness.advance(Duration::from_secs(1));
    harness.connect();
    harness.subscribe();
    assert!(matches!(harness.calls().as_slice(), [.., Call::Subscribe { framework_id: Some(_), .. }]));
}

#[test]
fn an_offer_used_after_its_rescind_is_counted() {
    let mut harness = Harness::new(Keeper::default());
    let kept = harness.offer("a1", "cpus:2");
    let void = harness.offer("a1", "cpus:2");
    harness.event(Event::Rescind(void));
    let mut offers = std::mem::take(&mut harness.scheduler_mut().kept);
    drop(offers.pop());
    let mut good = offers.remove(0);
    assert_eq!(*good.id(), kept);
    good.launch(task("t1", "cpus:1")).unwrap();
    drop(good);
    harness.flush();
    assert_eq!(harness.launched_on_void(), 0, "what is given back, or used in time, is no mistake");

    let void = harness.offer("a1", "cpus:2");
    harness.event(Event::Rescind(void));
    let mut offer = harness.scheduler_mut().kept.pop().unwrap();
    offer.launch(task("t2", "cpus:1")).unwrap();
    offer.launch(task("t3", "cpus:1")).unwrap();
    drop(offer);
    harness.flush();
    assert_eq!(harness.launched_on_void(), 2);
}
