//! The scheduler as a master sees it: offers and statuses in, calls out, by the SDK's harness.

use std::{path::Path, time::Duration};

use apportion_sdk::{TaskState, protocol::Call, store, testing::Harness};

use super::*;

struct Cluster {
    harness: Harness<BatchScheduler>,
    news: mpsc::UnboundedReceiver<News>,
}

impl Cluster {
    fn new(lines: &str) -> Self {
        let text = format!("name = \"j\"\n[task]\ncommand = \"echo ${{index}}\"\n{lines}");
        Self::of(Job::parse(Path::new("job.toml"), &text, &[], Path::new("/")).unwrap())
    }

    fn of(job: Job) -> Self {
        let (sender, news) = mpsc::unbounded_channel();
        let harness = Harness::new(BatchScheduler::new(Arc::new(job), sender));
        Self { harness, news }
    }

    fn launched(&mut self) -> Vec<String> {
        self.harness.launched().iter().map(|task| task.task_id.to_string()).collect()
    }

    fn ends(&mut self) -> Vec<(usize, crate::state::Outcome)> {
        let mut ends = Vec::new();
        while let Ok(news) = self.news.try_recv() {
            if let News::Ended { position, end } = news {
                ends.push((position, end.outcome));
            }
        }
        ends
    }
}

#[test]
fn the_agent_that_is_filled_best_is_filled_first() {
    let mut cluster = Cluster::new("cpus = 1\nmemory = 100\n[array]\nrange = [1, 4]\n");
    cluster.harness.offers(&[("large", "cpus:16;mem:6400"), ("small", "cpus:2;mem:200")]);
    let accepts: Vec<_> = cluster
        .harness
        .calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Accept(accept) => {
                Some(accept.tasks().flatten().map(|task| task.task_id.to_string()).collect::<Vec<_>>())
            }
            _ => None,
        })
        .collect();
    let expected: [Vec<_>; 2] = [vec!["j-0003", "j-0004"], vec!["j-0001", "j-0002"]];
    assert_eq!(accepts, expected, "two on the small one, which is full then, two on the large one");
}

#[test]
fn offers_are_wanted_only_while_a_task_waits() {
    let mut cluster = Cluster::new("retries = 1\n");
    cluster.harness.offer("a", "cpus:4;mem:4000");
    let calls = cluster.harness.calls();
    assert!(calls.iter().any(|call| matches!(call, Call::Suppress { .. })), "{calls:?}");
    cluster.harness.update("a", "j-0001", TaskState::Failed);
    let calls = cluster.harness.calls();
    assert!(!calls.iter().any(|call| matches!(call, Call::Revive { .. })), "it pauses: {calls:?}");
    cluster.harness.advance(Duration::from_secs(2));
    let calls = cluster.harness.calls();
    assert!(calls.iter().any(|call| matches!(call, Call::Revive { .. })), "the pause is over: {calls:?}");
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.launched(), ["j-0001.r2"]);
}

#[test]
fn an_accept_that_is_full_leaves_the_rest_for_the_next_offer() {
    let mut cluster = Cluster::new("cpus = 0.01\nmemory = 1\n[array]\nrange = [1, 2500]\n");
    cluster.harness.offer("a", "cpus:100;mem:100000");
    assert_eq!(cluster.launched().len(), apportion_sdk::limits::TASKS_PER_ACCEPT_MAX);
    cluster.harness.offer("a", "cpus:80;mem:98000");
    let rest = cluster.launched();
    assert_eq!((rest.len(), rest[0].as_str(), rest[499].as_str()), (500, "j-2001", "j-2500"));
}

#[test]
fn an_accept_that_is_full_does_not_keep_tasks_from_other_agents() {
    let mut cluster = Cluster::new("cpus = 0.01\nmemory = 1\n[array]\nrange = [1, 2500]\n");
    cluster.harness.offers(&[("a", "cpus:100;mem:100000"), ("b", "cpus:100;mem:100000")]);
    assert_eq!(cluster.launched().len(), 2500);
}

#[test]
fn an_element_that_no_process_can_be_given_fails_alone() {
    let mut cluster =
        Cluster::new("env = { A = \"${item}\" }\n[array]\nlist = [\"a\", \"b\\u0000\", \"c\"]\n");
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.launched(), ["j-0001", "j-0003"]);
    assert_eq!(cluster.ends(), [(1, crate::state::Outcome::Invalid)]);
}

fn elements(texts: &[&str]) -> Order {
    Order::Add(texts.iter().map(|text| (*text).to_owned()).collect())
}

#[test]
fn what_cannot_be_added_is_said_and_not_done() {
    let refused = |cluster: &mut Cluster| {
        std::iter::from_fn(|| cluster.news.try_recv().ok())
            .find_map(|news| if let News::NotAdded(why) = news { Some(why) } else { None })
            .unwrap()
    };
    let mut closed = Cluster::new("");
    closed.harness.message(elements(&["a"]));
    assert!(refused(&mut closed).contains("the job takes no more elements"));
    assert_eq!(closed.harness.scheduler().state().tasks().len(), 1);

    let mut open = Cluster::of(Job::builder("j").command(["true"]).count(1).open().build().unwrap());
    open.harness.message(Order::Add(vec![String::new(); crate::job::TASKS_MAX]));
    assert!(refused(&mut open).contains("100001 elements"));
    assert_eq!(open.harness.scheduler().state().tasks().len(), 1);
}

#[test]
fn attempts_that_were_given_up_are_asked_for_too() {
    let calls = Cluster::new("").harness.calls();
    assert!(
        calls.iter().any(|call| matches!(call, Call::Reconcile { tasks } if tasks.is_empty())),
        "{calls:?}"
    );
}

/// A store that is full.
#[derive(Debug, Default, Clone)]
struct Full {
    kept: store::Memory,
    full: Arc<std::sync::atomic::AtomicBool>,
}

impl store::Store for Full {
    fn load(&self) -> Result<store::Kept, StoreError> {
        self.kept.load()
    }

    fn save(&mut self, changes: store::Changes) -> Result<(), StoreError> {
        if self.full.load(std::sync::atomic::Ordering::Relaxed) {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(StoreError::Io { path: "state".into(), source });
        }
        self.kept.save(changes)
    }
}

#[test]
fn what_cannot_be_written_down_has_not_happened() {
    let job = || Arc::new(Job::builder("j").command(["true"]).count(2).build().unwrap());
    for launched in [false, true] {
        let store = Full::default();
        let (keeper, kept) = Keeper::open(store.clone(), &job(), Time::ZERO).unwrap();
        let (news, _) = mpsc::unbounded_channel();
        let mut harness = Harness::new(BatchScheduler::kept(job(), (keeper, kept.state), news));
        let fill = || store.full.store(true, std::sync::atomic::Ordering::Relaxed);
        if launched {
            harness.offer("a", "cpus:4;mem:4000");
            assert_eq!(harness.launched().len(), 2);
            harness.calls();
            fill();
            harness.update("a", "j-0001", TaskState::Finished);
            let calls = harness.calls();
            assert!(!calls.iter().any(|call| matches!(call, Call::Acknowledge { .. })), "{calls:?}");
        } else {
            fill();
            harness.offer("a", "cpus:4;mem:4000");
            assert!(harness.launched().is_empty());
        }
        assert_eq!(harness.end(), Some(&Ok(Stop::Abort)));
    }
}

#[test]
fn nothing_is_placed_that_would_not_end_before_its_machine_is_taken_away() {
    let window = |seconds| apportion_sdk::Unavailability {
        start: Time::ZERO + Duration::from_secs(seconds),
        duration: Some(Duration::from_secs(60)),
    };
    let array = "cpus = 1\nmemory = 100\n[array]\nrange = [1, 4]\n";
    let limited = "timeout = \"100s\"\nkill_grace = \"5s\"\n";
    for (lines, too_near, far_enough) in [(limited, 104, 110), ("", 3599, 3700)] {
        let mut cluster = Cluster::new(&format!("{lines}{array}"));
        cluster.harness.offer_before("a", "cpus:8;mem:8000", window(too_near));
        assert_eq!(cluster.launched(), [""; 0], "{lines}");
        cluster.harness.offer_before("b", "cpus:8;mem:8000", window(far_enough));
        assert_eq!(cluster.launched().len(), 4, "{lines}");
        cluster.harness.calls();
        let asked = cluster.harness.ask_to_leave("b", "cpus:4;mem:400", window(far_enough));
        let expected = Call::AcceptInverseOffers { inverse_offers: vec![asked], refuse: None };
        assert_eq!(cluster.harness.calls(), [expected]);
    }
}

fn gang(tasks: usize) -> Job {
    let resources = "cpus:2;mem:100".parse().unwrap();
    Job::builder("j")
        .command(["rank", "${index}"])
        .resources(resources)
        .count(tasks)
        .retries(1)
        .gang()
        .build()
        .unwrap()
}

#[test]
fn a_gang_starts_on_several_agents_together_or_not_at_all() {
    let mut cluster = Cluster::of(gang(4));
    cluster.harness.offer("a", "cpus:6;mem:4000");
    let calls = cluster.harness.calls();
    assert!(calls.iter().any(|call| matches!(call, Call::Decline { .. })), "nothing is held: {calls:?}");
    assert!(
        !calls.iter().any(|call| matches!(call, Call::Accept { .. })),
        "three of four would fit: {calls:?}"
    );

    cluster.harness.advance(Duration::from_secs(3));
    let calls = cluster.harness.calls();
    assert!(
        calls.iter().any(|call| matches!(call, Call::Revive { .. })),
        "it asks for all at once: {calls:?}"
    );
    cluster.harness.offers(&[("a", "cpus:6;mem:4000"), ("b", "cpus:3;mem:4000")]);
    assert_eq!(cluster.launched().len(), 4);
    let state = cluster.harness.scheduler().state();
    let on = |agent: &str| state.attempts().filter(|attempt| attempt.host.agent_id.as_str() == agent).count();
    assert_eq!((on("a"), on("b")), (3, 1));
}

#[test]
fn members_of_a_gang_that_start_again_do_so_together() {
    let mut cluster = Cluster::of(gang(3));
    cluster.harness.offer("a", "cpus:6;mem:4000");
    assert_eq!(cluster.launched().len(), 3);
    cluster.harness.update("a", "j-0001", TaskState::Failed);
    cluster.harness.advance(Duration::from_millis(900));
    cluster.harness.update("a", "j-0002", TaskState::Failed);
    cluster.harness.advance(Duration::from_millis(200));
    cluster.harness.offer("a", "cpus:6;mem:4000");
    assert_eq!(cluster.launched(), [""; 0], "the pause of the other is not over");
    cluster.harness.advance(Duration::from_secs(1));
    cluster.harness.offer("a", "cpus:6;mem:4000");
    assert_eq!(cluster.launched(), ["j-0001.r2", "j-0002.r2"], "the third one runs");
}

#[test]
fn of_a_gang_that_runs_in_part_only_the_rest_asks_for_room_and_is_given_up() {
    let told = |cluster: &mut Cluster| {
        let news = std::iter::from_fn(|| cluster.news.try_recv().ok());
        news.filter_map(|news| if let News::Waiting(waits) = news { Some(waits) } else { None }).last()
    };
    let class = |step| Class { stage: 0, step };
    let mut cluster = Cluster::of(gang(4));
    cluster.harness.offer("a", "cpus:1;mem:4000");
    assert_eq!(told(&mut cluster).unwrap(), [(class(0), 4)]);
    cluster.harness.offer("a", "cpus:8;mem:4000");
    assert_eq!(told(&mut cluster).unwrap(), []);
    cluster.harness.update("a", "j-0001", TaskState::Gone);
    assert_eq!(told(&mut cluster).unwrap(), [(class(0), 1)]);
    cluster.harness.update("a", "j-0003", TaskState::Gone);
    assert_eq!(told(&mut cluster).unwrap(), [(class(0), 2)]);
    // Whatever size the verdict was about: none of what waits can start without the others.
    cluster.harness.message(Order::GiveUp(class(1), "no room".into()));
    let unplaceable = crate::state::Outcome::Unplaceable;
    assert_eq!(cluster.ends(), [(0, unplaceable), (2, unplaceable)]);
    assert_eq!(cluster.harness.scheduler().state().counts().active, 2, "the others run on");
}

#[test]
fn a_gang_that_no_accept_can_carry_is_given_up() {
    let job = Job::builder("j").command(["rank"]).resources("cpus:0.01;mem:1".parse().unwrap());
    let mut cluster = Cluster::of(job.count(2001).gang().build().unwrap());
    cluster.harness.offer("a", "cpus:100;mem:100000");
    assert_eq!(cluster.launched(), [""; 0]);
    assert!(cluster.ends().iter().all(|(_, outcome)| *outcome == crate::state::Outcome::Unplaceable));
    assert!(cluster.harness.scheduler().state().is_done());
}

#[test]
fn a_gang_that_finds_no_room_asks_ever_more_seldom() {
    let mut cluster = Cluster::of(gang(4));
    cluster.harness.offer("a", "cpus:6;mem:4000");
    cluster.harness.calls();
    let mut revives = 0;
    for _ in 0..600 {
        cluster.harness.advance(Duration::from_secs(1));
        let calls = cluster.harness.calls();
        revives += calls.iter().filter(|call| matches!(call, Call::Revive { .. })).count();
    }
    assert!((7..=11).contains(&revives), "{revives}");
}
