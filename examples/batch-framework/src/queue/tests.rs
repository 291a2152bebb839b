//! A queue on a toy cluster of one machine: fair, nobody starves, and equal input gives equal output.

use proptest::prelude::*;

use super::*;
use apportion_sdk::Resources;

/// A job of equal tasks.
#[derive(Debug, Clone)]
struct Work {
    ticket: Ticket,
    size: Resources,
    /// How many steps of time a task takes.
    takes: u32,
    tasks: usize,
}

fn work(user: &str, priority: i32, size: &str, takes: u32, tasks: usize) -> Work {
    let ticket = Ticket { user: user.to_owned(), priority };
    Work { ticket, size: size.parse().unwrap(), takes, tasks }
}

/// A machine on which tasks run for some steps.
#[derive(Debug)]
struct Toy {
    queue: Queue,
    jobs: BTreeMap<JobId, Work>,
    total: Resources,
    free: Resources,
    running: Vec<(JobId, u32)>,
    /// Steps for which a job has found no room.
    waited: BTreeMap<JobId, u32>,
    launched: Vec<JobId>,
}

/// Steps until a job holds the others back.
const PATIENCE: u32 = 20;

impl Toy {
    fn new(total: &str, settings: Settings, jobs: impl IntoIterator<Item = Work>) -> Toy {
        let total: Resources = total.parse().unwrap();
        let (queue, free) = (Queue::new(settings), total.clone());
        let mut toy = Toy {
            queue,
            jobs: BTreeMap::new(),
            total,
            free,
            running: Vec::new(),
            waited: BTreeMap::new(),
            launched: Vec::new(),
        };
        jobs.into_iter().for_each(|work| _ = toy.submit(work));
        toy
    }

    fn submit(&mut self, work: Work) -> JobId {
        let id = JobId(self.jobs.len() as u64 + 1);
        self.queue.enter(id, work.ticket.clone());
        self.jobs.insert(id, work);
        id
    }

    fn has_room(&self, user: &str, more: usize) -> Result<(), Full> {
        let running = |id| self.running.iter().filter(|(job, _)| *job == id).count();
        self.queue.has_room(user, more, |id| self.jobs[&id].tasks + running(id))
    }

    fn held(&self) -> BTreeMap<String, Held> {
        let mut held: BTreeMap<String, Held> = BTreeMap::new();
        for (id, _) in &self.running {
            let work = &self.jobs[id];
            held.entry(work.ticket.user.clone()).or_default().add(&work.size);
        }
        held
    }

    fn share(&self, user: &str) -> Share {
        let held = self.held().remove(user).unwrap_or_default();
        Share::of(&held.resources, &self.total, self.queue.weight(user))
    }

    /// Fills the machine, in the queue's order.
    fn fill(&mut self) {
        let waiting = self.jobs.iter().filter(|(_, work)| work.tasks > 0);
        let wishes: Vec<_> = waiting
            .map(|(id, _)| Wish {
                job: *id,
                overdue: self.waited.get(id).is_some_and(|waited| *waited > PATIENCE),
            })
            .collect();
        let mut round = self.queue.round(wishes, self.held(), self.total.clone());
        while let Some(id) = round.next() {
            let work = self.jobs.get_mut(&id).unwrap();
            if work.tasks == 0 {
                round.served();
            } else if self.free.contains(&work.size) {
                self.free.saturating_sub(&work.size);
                work.tasks -= 1;
                self.running.push((id, work.takes));
                self.launched.push(id);
                self.waited.remove(&id);
                round.launched(&work.size, 1);
            } else {
                *self.waited.entry(id).or_default() += 1;
                round.no_room();
            }
        }
        self.queue.finish(round);
    }

    /// Time passes.
    fn step(&mut self) {
        self.fill();
        for (_, left) in &mut self.running {
            *left -= 1;
        }
        let ended: Vec<_> = self.running.extract_if(.., |(_, left)| *left == 0).collect();
        for (id, _) in ended {
            self.free += &self.jobs[&id].size;
        }
        for (id, work) in &self.jobs {
            if work.tasks == 0 && !self.running.iter().any(|(other, _)| other == id) {
                self.queue.leave(*id);
            }
        }
    }
}

/// The example of the paper: 9 cpus and 18 GB, one user's tasks need much memory, the other's many cpus.
#[test]
fn dominant_shares_are_equal() {
    let jobs = [work("a", 0, "cpus:1;mem:4", 9, 99), work("b", 0, "cpus:3;mem:1", 9, 99)];
    let mut toy = Toy::new("cpus:9;mem:18", Settings::default(), jobs);
    toy.fill();
    let of = |id| toy.launched.iter().filter(|launched| **launched == JobId(id)).count();
    assert_eq!((of(1), of(2)), (3, 2), "two thirds of the memory, two thirds of the cpus");
}

#[test]
fn a_weight_is_so_many_times_as_much() {
    let settings = Settings { weights: [("a".to_owned(), 3)].into(), ..Settings::default() };
    let jobs = [work("a", 0, "cpus:1", 9, 99), work("b", 0, "cpus:1", 9, 99)];
    let mut toy = Toy::new("cpus:40", settings, jobs);
    toy.fill();
    let of = |id| toy.launched.iter().filter(|launched| **launched == JobId(id)).count();
    assert_eq!((of(1), of(2)), (30, 10));
}

#[test]
fn of_one_user_priority_decides_and_then_who_came_first() {
    let jobs = [work("a", 0, "cpus:1", 9, 2), work("a", 5, "cpus:1", 9, 2), work("a", 0, "cpus:1", 9, 2)];
    let mut toy = Toy::new("cpus:5", Settings::default(), jobs);
    toy.fill();
    assert_eq!(toy.launched, [2, 2, 1, 1, 3].map(JobId));
}

#[test]
fn no_priority_takes_anything_from_another_user() {
    let jobs = [work("a", 1_000, "cpus:1", 9, 9), work("b", 0, "cpus:1", 9, 9)];
    let mut toy = Toy::new("cpus:4", Settings::default(), jobs);
    toy.fill();
    assert_eq!(toy.launched, [1, 2, 1, 2].map(JobId));
}

#[test]
fn limits_hold() {
    let settings = Settings { jobs_max: 3, jobs_per_user: 2, tasks_per_user: 4, ..Settings::default() };
    let mut toy = Toy::new("cpus:99", settings, [work("a", 0, "cpus:1", 9, 9), work("a", 0, "cpus:1", 9, 9)]);
    toy.fill();
    assert_eq!(toy.launched.len(), 4);
    let full = toy.has_room("a", 1).unwrap_err().to_string();
    assert!(full.starts_with("user `a` has 2 jobs that have not ended"), "{full}");
    toy.has_room("b", 1).unwrap();
    toy.submit(work("b", 0, "cpus:1", 9, 9));
    let full = toy.has_room("c", 1).unwrap_err().to_string();
    assert!(full.starts_with("3 jobs are in the queue"), "{full}");
    toy.queue.leave(JobId(1));
    toy.has_room("a", 1).unwrap();
}

#[test]
fn tasks_are_limited_as_jobs_are() {
    let settings = Settings { queued_tasks_max: 20, queued_tasks_per_user: 12, ..Settings::default() };
    let mut toy = Toy::new("cpus:3", settings, [work("a", 0, "cpus:1", 9, 4), work("a", 0, "cpus:1", 9, 6)]);
    toy.has_room("a", 2).unwrap();
    toy.fill();
    let full = toy.has_room("a", 3).unwrap_err();
    assert_eq!(
        full,
        Full::TasksOfUser { user: "a".into(), queued: 10, more: 3, most: 12 },
        "what runs counts"
    );
    assert!(full.to_string().contains("more than the 12 that they may (--user-queued-tasks-max)"), "{full}");
    toy.submit(work("b", 0, "cpus:1", 9, 8));
    toy.has_room("b", 2).unwrap();
    let full = toy.has_room("b", 3).unwrap_err();
    assert_eq!(full, Full::Tasks { queued: 18, more: 3, most: 20 });
    assert!(full.to_string().contains("more than the 20 that it takes (--queued-tasks-max)"), "{full}");
    // Each that has ended makes room for another.
    (0..9).for_each(|_| toy.step());
    toy.has_room("a", 5).unwrap();
    toy.has_room("c", 5).unwrap();
    assert!(toy.has_room("a", 6).is_err() && toy.has_room("c", 6).is_err());
    toy.queue.settings.queued_tasks_max = 1;
    toy.has_room("c", 0).unwrap();
}

/// One that needs the whole machine, beside those that always have something small.
#[test]
fn what_is_large_gets_its_turn_beside_what_is_small() {
    let mut toy = Toy::new("cpus:8", Settings::default(), [work("a", 0, "cpus:8", 1, 1)]);
    // Small ones run from the beginning, and never end all at once.
    toy.jobs.get_mut(&JobId(1)).unwrap().tasks = 0;
    for takes in [3, 4, 5, 7] {
        toy.submit(work("b", 0, "cpus:1", takes, 100_000));
    }
    toy.step();
    toy.jobs.get_mut(&JobId(1)).unwrap().tasks = 1;
    toy.queue.enter(JobId(1), Ticket { user: "a".into(), priority: 0 });
    for _ in 0..PATIENCE + 10 {
        toy.step();
    }
    assert!(toy.launched.contains(&JobId(1)), "it waits still");
    let after = toy.launched.len();
    toy.step();
    assert!(toy.launched.len() > after, "the others go on");
}

fn some_work() -> impl Strategy<Value = Work> {
    let size = (1..5i64, 1..5i64).prop_map(|(cpus, mem)| format!("cpus:{cpus};mem:{mem}"));
    (0..4usize, -2..3i32, size, 1..5u32, 1..12usize).prop_map(|(user, priority, size, takes, tasks)| {
        work(["a", "b", "c", "d"][user], priority, &size, takes, tasks)
    })
}

proptest! {
    /// While two users both have more than there is room for, neither is ahead by more than the last task that was launched.
    #[test]
    fn who_always_has_work_gets_equal_shares(sizes in prop::collection::vec((1..6i64, 1..6i64, 1..4u32), 2..5)) {
        let weights: BTreeMap<_, _> =
            sizes.iter().enumerate().map(|(user, (_, _, weight))| (format!("u{user}"), *weight)).collect();
        let jobs = sizes.iter().enumerate().map(|(user, (cpus, mem, _))| {
            work(&format!("u{user}"), 0, &format!("cpus:{cpus};mem:{mem}"), 9, 10_000)
        });
        let settings = Settings { weights, ..Settings::default() };
        let mut toy = Toy::new("cpus:500;mem:500", settings, jobs);
        toy.fill();
        let step = |user: usize| {
            let (cpus, mem, weight) = sizes[user];
            Share::of(&format!("cpus:{cpus};mem:{mem}").parse().unwrap(), &toy.total, weight).0
        };
        let shares: Vec<u64> = (0..sizes.len()).map(|user| toy.share(&format!("u{user}")).0).collect();
        for one in 0..sizes.len() {
            for other in 0..sizes.len() {
                // Who is behind found no room any more: so much less is free than a task of theirs.
                let room = step(other) + step(one) + 2;
                let full = !toy.free.contains(&toy.jobs[&JobId(other as u64 + 1)].size);
                prop_assert!(shares[one] <= shares[other] + room || full && other != one, "{shares:?}");
            }
        }
        let least = (0..sizes.len()).min_by_key(|user| shares[*user]).unwrap();
        prop_assert!(!toy.free.contains(&toy.jobs[&JobId(least as u64 + 1)].size), "whoever has the least would have been next");
    }

    /// Every task of every job runs in the end, never more than there is room for.
    #[test]
    fn everything_ends(jobs in prop::collection::vec(some_work(), 1..12)) {
        let tasks: usize = jobs.iter().map(|work| work.tasks).sum();
        let mut toy = Toy::new("cpus:5;mem:5", Settings::default(), jobs);
        let most = 5 * tasks + PATIENCE as usize * 12;
        for _ in 0..most {
            toy.step();
        }
        prop_assert_eq!(toy.launched.len(), tasks);
        prop_assert_eq!(toy.queue.tickets().count(), 0);
        prop_assert_eq!(toy.free, toy.total);
    }

    /// A job begins in bounded time, however much others bring all the time.
    #[test]
    fn nobody_starves(late in some_work(), others in prop::collection::vec(some_work(), 1..6)) {
        let endless = others.into_iter().map(|work| Work { tasks: usize::MAX, ..work });
        let endless = endless.filter(|work| work.ticket.user != late.ticket.user);
        let mut toy = Toy::new("cpus:5;mem:5", Settings::default(), endless);
        (0..10).for_each(|_| toy.step());
        let id = toy.submit(Work { tasks: 1, ..late });
        (0..PATIENCE * 3 + 30).for_each(|_| toy.step());
        prop_assert!(toy.launched.contains(&id));
    }

    /// It does not matter in which order the same jobs with the same numbers are told.
    #[test]
    fn equal_input_gives_equal_output(jobs in prop::collection::vec(some_work(), 1..10), seed in any::<prop::sample::Index>()) {
        let mut one = Toy::new("cpus:7;mem:7", Settings::default(), jobs.clone());
        let mut other = Toy::new("cpus:7;mem:7", Settings::default(), jobs.clone());
        // The other one hears of them anew, from the middle on.
        let from = seed.index(jobs.len()) as u64;
        other.queue = Queue::new(Settings::default());
        let numbers = (from..jobs.len() as u64).chain(0..from);
        numbers.for_each(|index| other.queue.enter(JobId(index + 1), jobs[index as usize].ticket.clone()));
        (0..200).for_each(|_| { one.step(); other.step(); });
        prop_assert_eq!(one.launched, other.launched);
    }
}
