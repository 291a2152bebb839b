//! Eight complaints of starvation, as users of frameworks on Mesos made them, each as a story in which a needy framework must be
//! offered what it needs before so many seconds have passed.
//!
//! The clock goes on by whole seconds. In each, cycles run as long as one gives something, as they do when they follow events, up to
//! as many as a coalescing master runs in a second.

use std::collections::BTreeMap;

use apportion_types::limits;

use super::*;

/// What a framework does with an offer.
#[derive(Debug, Clone)]
enum Habit {
    /// Gives every offer back, to be left alone for so many seconds.
    Declines(u64),
    /// Never answers; the master takes the offer back when its time is over.
    Silent,
    /// Launches as many tasks on each offer as it wants and fit, and refuses the rest for so many seconds. A task ends after so many.
    Works { task: &'static str, wants: usize, refuses: u64, runs: Option<u64> },
}

struct Member {
    habit: Habit,
    launched: usize,
}

/// Something of an allocation that comes back when its time is over: an offer that nobody answered, or a task.
struct Held {
    since: u64,
    until: u64,
    is_offer: bool,
    what: Allocation,
}

struct Story {
    cluster: Cluster,
    members: BTreeMap<FrameworkId, Member>,
    held: Vec<Held>,
    second: u64,
    /// How many offers each was made.
    offers: BTreeMap<FrameworkId, usize>,
}

/// Cycles in a second: they follow each other by no less than the time in which changes are gathered, and answers take a while.
const CYCLES: usize = 50;

impl Story {
    fn new(agents: usize, total: &str) -> Self {
        let cluster = Cluster::default().agents(agents, total);
        Self { cluster, members: BTreeMap::new(), held: Vec::new(), second: 0, offers: BTreeMap::new() }
    }

    fn member(mut self, id: &str, of: &str, habit: Habit) -> Self {
        self.cluster = self.cluster.framework(id, of);
        self.members.insert(framework(id), Member { habit, launched: 0 });
        self
    }

    /// A framework that has a task's worth of an agent already, so that it is not the poorest.
    fn running(mut self, id: &str, of: &str, on: &str, what: &str, habit: Habit) -> Self {
        self = self.member(id, of, habit);
        self.cluster.0.charge(&framework(id), &role(of), &agent(on), &resources(what));
        self
    }

    fn launched(&self, id: &str) -> usize {
        self.members[&framework(id)].launched
    }

    /// In which second the framework has launched so many tasks; it must be one of the first `within`.
    fn launches(&mut self, id: &str, tasks: usize, within: u64) -> u64 {
        while self.launched(id) < tasks {
            assert!(
                self.second < within,
                "{id} has {} of {tasks} tasks after {within} s; offers made: {:?}",
                self.launched(id),
                self.offers
            );
            self.one_second();
        }
        self.second
    }

    fn one_second(&mut self) {
        self.release();
        for _ in 0..CYCLES {
            let given = self.cluster.0.allocate(at(self.second), ALL);
            if given.is_empty() {
                break;
            }
            for one in given {
                self.answer(one);
            }
        }
        self.cluster.0.check();
        self.second += 1;
    }

    /// Takes back what was held for its time.
    fn release(&mut self) {
        let held = std::mem::take(&mut self.held).into_iter();
        let (over, held): (Vec<Held>, Vec<Held>) = held.partition(|held| held.until <= self.second);
        self.held = held;
        for Held { is_offer, what, .. } in over {
            if is_offer {
                self.cluster.0.offers_closed(&what.framework, 1);
            }
            let refused = is_offer.then(|| at(self.second) + limits::REFUSE_DEFAULT);
            self.cluster.0.recover(&what.framework, &what.role, &what.agent, &what.resources, refused);
        }
    }

    fn answer(&mut self, offer: Allocation) {
        *self.offers.entry(offer.framework.clone()).or_default() += 1;
        let member = self.members.get_mut(&offer.framework).expect("it is in the story");
        let (rest, refuses) = match member.habit {
            Habit::Silent => {
                let until = self.second + limits::OFFER_TIMEOUT.as_secs();
                self.held.push(Held { since: self.second, until, is_offer: true, what: offer });
                return;
            }
            Habit::Declines(refuses) => (offer.resources.clone(), refuses),
            Habit::Works { task, wants, refuses, runs } => {
                let (task, mut rest) = (resources(task), offer.resources.clone());
                while let Some(less) = rest.checked_sub(&task).filter(|_| member.launched < wants) {
                    rest = less;
                    member.launched += 1;
                    let what = Allocation { resources: task.clone(), ..offer.clone() };
                    let until = runs.map_or(u64::MAX, |runs| self.second + runs);
                    self.held.push(Held { since: self.second, until, is_offer: false, what });
                }
                (rest, refuses)
            }
        };
        self.cluster.0.offers_closed(&offer.framework, 1);
        let until = at(self.second + refuses);
        self.cluster.0.recover(&offer.framework, &offer.role, &offer.agent, &rest, Some(until));
    }

    /// The longest that something has been held as an offer.
    fn longest_offer(&self) -> u64 {
        let offers = self.held.iter().filter(|held| held.is_offer);
        offers.map(|held| self.second - held.since).max().unwrap_or(0)
    }
}

const WORKER: Habit = Habit::Works { task: "cpus:2;mem:1024", wants: usize::MAX, refuses: 5, runs: None };

/// marathon#1931: with many frameworks of the default filter of 5 s, those that are asked last were never offered anything.
#[test]
fn many_idle_frameworks_that_decline_for_five_seconds() {
    let mut story = Story::new(5, "cpus:4;mem:4096");
    for number in 0..60 {
        story = story.member(&format!("idle{number:02}"), "*", Habit::Declines(5));
    }
    story = story.running("needy", "*", "a1", "cpus:2;mem:1024", WORKER);
    story.launches("needy", 9, 5);
}

/// mesos-plugin#49: a framework that keeps more offers than it uses leaves others none. Here it keeps no more than its bound, and
/// those for no longer than the time-out.
#[test]
fn a_hoarder_at_its_bound() {
    let mut story = Story::new(6, "cpus:2;mem:1024").member("hoarder", "*", Habit::Silent);
    let options = FrameworkOptions { offers_max: Some(2), ..FrameworkOptions::default() };
    let (id, none) = (framework("hoarder"), BTreeSet::new());
    let wants = Wants { roles: &[role("*")], suppressed: &none, options: &options };
    story.cluster.0.set_framework_wants(&id, wants);
    story = story.running("needy", "*", "a1", "cpus:2;mem:1024", WORKER);
    story.launches("needy", 3, 1);
    assert_eq!(story.held.iter().filter(|held| held.is_offer).count(), 2, "what the hoarder may hold");
    story.launches("needy", 5, 32);
}

/// elasticsearch#575: a framework that never answers has everything, for ever.
#[test]
fn a_framework_that_never_answers() {
    let mut story = Story::new(4, "cpus:2;mem:1024").member("silent", "*", Habit::Silent);
    story = story.running("needy", "*", "a1", "cpus:2;mem:1024", WORKER);
    story.cluster.0.charge(&framework("needy"), &role("*"), &agent("a2"), &resources("cpus:2;mem:1024"));
    story.one_second();
    assert_eq!(
        story.offers.get(&framework("needy")),
        None,
        "the silent one is the poorer, and has all of it"
    );
    story.launches("needy", 2, 31);
    assert!(story.longest_offer() <= 30);
}

/// storm#132: declined for a moment, an offer comes back to the same framework before anybody else is asked.
#[test]
fn a_poor_decliner_with_short_filters() {
    for refuses in [0, 1] {
        let mut story = Story::new(2, "cpus:4;mem:4096").member("storm", "*", Habit::Declines(refuses));
        story = story.running("needy", "*", "a1", "cpus:4;mem:4096", WORKER);
        story.launches("needy", 2, 2);
    }
}

/// sssp#8: a framework with nothing to run, and so the lowest share of all, stands in front of every other in its role.
#[test]
fn an_idle_framework_in_a_poor_role() {
    let mut story = Story::new(4, "cpus:2;mem:1024").member("idle", "poor", Habit::Declines(5));
    story = story.running("needy", "rich", "a1", "cpus:2;mem:1024", WORKER);
    story.launches("needy", 3, 1);
}

/// spark#10924: small applications that come and go keep a low share, and what ends is theirs again before the large one is asked.
#[test]
fn large_tasks_beside_many_small_ones() {
    let small = Habit::Works { task: "cpus:1;mem:64", wants: 40, refuses: 5, runs: Some(3) };
    let mut story = Story::new(4, "cpus:8;mem:8192");
    for number in 0..12 {
        story = story.member(&format!("small{number:02}"), "*", small.clone());
    }
    let large = Habit::Works { task: "cpus:6;mem:4096", wants: 2, refuses: 5, runs: None };
    story = story.running("large", "*", "a1", "cpus:1;mem:64", large);
    // Nobody is preempted: it is offered a whole agent when the small ones are done, and none of them is left over.
    story.launches("large", 2, 160);
    assert!((0..12).all(|number| story.launched(&format!("small{number:02}")) > 0));
}

/// chronos#381: two frameworks that want the same agents; each must get its half, whoever answers faster.
#[test]
fn two_frameworks_fighting_over_the_same_agents() {
    let mut story =
        Story::new(8, "cpus:4;mem:4096").member("chronos", "*", WORKER).member("marathon", "*", WORKER);
    story.launches("chronos", 8, 10);
    story.launches("marathon", 8, 10);
    assert_eq!((story.launched("chronos"), story.launched("marathon")), (8, 8));
}

/// Fenzo#51: a picky framework takes one kind of agent only, and refuses the others for long; it must neither keep those from others
/// nor be kept from its own.
#[test]
fn a_picky_framework() {
    let picky = Habit::Works { task: "cpus:2;mem:1024;gpus:1", wants: 1, refuses: 600, runs: None };
    let mut story = Story::new(6, "cpus:2;mem:1024").member("picky", "*", picky);
    story.cluster.0.add_agent(&agent("g1"), &place(), &resources("cpus:2;mem:1024;gpus:1"));
    story = story.running("needy", "*", "a1", "cpus:2;mem:1024", WORKER);
    for number in 0..10 {
        story = story.member(&format!("idle{number}"), "*", Habit::Declines(5));
    }
    story.launches("picky", 1, 2);
    story.launches("needy", 5, 2);
}
