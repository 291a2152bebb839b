//! Whether a scheduler keeps what every scheduler promises: hundreds of generated histories are played at it, and what it breaks is told
//! with the shortest of them.
//!
//! ```
//! use apportion_sdk::{Context, Offer, Scheduler, Task, TaskState, TaskStatus, async_trait};
//! use apportion_sim::conformance;
//!
//! /// Runs three tasks, each until it has succeeded.
//! struct Three {
//!     waiting: Vec<String>,
//! }
//!
//! #[async_trait]
//! impl Scheduler for Three {
//!     type Message = ();
//!
//!     async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
//!         for mut offer in offers {
//!             while let Some(id) = self.waiting.pop() {
//!                 let task = Task::new(&id).command(["work"]).cpus(1.0).mem_mib(64).build().unwrap();
//!                 if offer.launch(task).is_err() {
//!                     self.waiting.push(id);
//!                     break;
//!                 }
//!             }
//!         }
//!     }
//!
//!     async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
//!         let ended = status.state.is_terminal() || status.state == TaskState::Unknown;
//!         if ended && status.state != TaskState::Finished && !self.waiting.contains(&status.task_id.to_string()) {
//!             self.waiting.push(status.task_id.to_string());
//!         }
//!     }
//!
//!     fn wants_offers(&self) -> bool {
//!         !self.waiting.is_empty()
//!     }
//! }
//!
//! conformance::check(|| Three { waiting: ["a", "b", "c"].map(String::from).to_vec() }).assert_ok();
//! ```
//!
//! # What is played
//!
//! Each history is a run of the real master, the real agents and the real driver in virtual time, with one to three small agents. In the
//! first two nothing goes wrong: tasks end soon, or run until they are asked to end. From then on, by turns:
//!
//! - the scheduler's process dies at its first input, at its second, and so on through everything that it was handed when nothing went
//!   wrong: once before what it asked for is sent, once afterwards; beyond that it dies twice, at any two inputs;
//! - the same, while tasks run until they are asked to end;
//! - anything goes wrong: agents of various sizes, offers that time out, links cut, slow or broken, so that updates come twice, the
//!   master, agents and the scheduler crash, machines start anew, disks fail; tasks start late or not at all, fail, run out of memory,
//!   hang, are killed by an operator, who also plans that machines will be taken away.
//!
//! A history ends when nothing happens any more, or with the first promise broken: mend that, and see what is behind it. A [`Promise`]
//! says what is held; [`Promise::remedy`] what to do. The properties of the cluster itself are held by [`crate::check`].
//!
//! # A scheduler that stores
//!
//! [`check_stored`] hands each process what the one before has stored; one that stores nothing is another framework after a crash, as
//! with [`Framework::new`], so that what it launched ends by itself.
//!
//! # A program around it
//!
//! Where a program tells its scheduler things, a closure plays it:
//!
//! ```no_run
//! # use apportion_sdk::{Context, Offer, Scheduler, TaskStatus, async_trait};
//! # struct Batch; enum Order { Leave }
//! # impl Batch { fn new() -> Self { Batch } fn is_done(&self) -> bool { true } }
//! # #[async_trait] impl Scheduler for Batch { type Message = Order;
//! # async fn offers(&mut self, _: &mut Context<'_>, _: Vec<Offer>) {} async fn update(&mut self, _: &mut Context<'_>, _: TaskStatus) {} }
//! use apportion_sim::conformance::Conformance;
//!
//! Conformance::new(Batch::new)
//!     .histories(500)
//!     .messages(|sim, batch| {
//!         if sim.ended(batch).is_none() && sim.scheduler(batch).is_some_and(Batch::is_done) {
//!             sim.tell(batch, Order::Leave);
//!         }
//!     })
//!     .run()
//!     .assert_ok();
//! ```

mod plan;
mod play;
mod promise;
mod report;
mod shorten;
mod watch;
mod workload;

use std::{collections::BTreeMap, fmt, rc::Rc, time::Duration};

use apportion_sdk::{Resources, Scheduler, TaskInfo};
use fastrand::Rng;

use self::{
    plan::{CALM, Inputs, Plan},
    play::Breach,
    watch::{Bounds, Work},
    workload::Mode,
};
pub use self::{
    promise::Promise,
    report::{Broken, Report},
};
use crate::{Behaviour, Framework, Handle, Sim, Store, history::History, shrink::relevant};

/// Histories that break something; after so many no more are played.
const BREACHES_MAX: u64 = 12;

/// Holds a scheduler that stores nothing to every [`Promise`], over 300 histories.
pub fn check<S: Scheduler + 'static>(make: impl Fn() -> S + 'static) -> Report {
    Conformance::new(make).run()
}

/// Holds a scheduler that stores what must outlive it to every [`Promise`], over 300 histories.
pub fn check_stored<S: Scheduler + 'static>(make: impl Fn(&Store) -> S + 'static) -> Report {
    Conformance::stored(make).run()
}

type Program<S> = Box<dyn Fn(&mut Sim, Handle<S>)>;
type Workload = Rc<dyn Fn(&TaskInfo, &mut Rng) -> Behaviour>;

/// What is played at a scheduler, and what it is held to.
#[must_use = "nothing is played before `run`"]
pub struct Conformance<S> {
    make: Rc<dyn Fn(&Store) -> S>,
    stored: bool,
    histories: u64,
    seed: u64,
    only: Option<u64>,
    agents: Vec<Resources>,
    attributes: BTreeMap<String, String>,
    workload: Option<Workload>,
    framework: Box<dyn Fn(Framework<S>) -> Framework<S>>,
    program: Option<Program<S>>,
    work: Work,
    bounds: Bounds,
}

impl<S: Scheduler + 'static> Conformance<S> {
    /// For a scheduler that stores nothing. `make` must give the same one each time it is called.
    pub fn new(make: impl Fn() -> S + 'static) -> Self {
        let mut conformance = Self::stored(move |_| make());
        conformance.stored = false;
        conformance
    }

    /// For a scheduler that is made of what earlier ones have stored. `make` must give the same one each time it is called with the same
    /// store.
    pub fn stored(make: impl Fn(&Store) -> S + 'static) -> Self {
        let bounds = Bounds {
            hold: Duration::from_secs(5),
            refusals_per_second: 5.0,
            settle: Duration::from_secs(1200),
        };
        Self {
            make: Rc::new(make),
            stored: true,
            histories: 300,
            seed: 1,
            only: None,
            agents: Vec::new(),
            attributes: BTreeMap::new(),
            workload: None,
            framework: Box::new(|framework| framework),
            program: None,
            work: Rc::new(|task| task.name.clone()),
            bounds,
        }
        .agents(3, "cpus:4;mem:8192;disk:20000;ports:[31000-31099]")
    }

    /// How many histories are played; 300 when not given.
    pub fn histories(mut self, histories: u64) -> Self {
        self.histories = histories;
        self
    }

    /// From what they are drawn; 1 when not given. One seed gives the same histories, and the same report to the byte.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Plays only the history of this number, as a report names it, after the calm ones that it is drawn from.
    pub fn only(mut self, history: u64) -> Self {
        self.only = Some(history);
        self
    }

    /// At most so many agents, each with at most these resources: 3 of `cpus:4;mem:8192;disk:20000;ports:[31000-31099]` when not given.
    /// One is always whole. All that a scheduler launches should fit at once, in this many.
    ///
    /// # Panics
    ///
    /// When there are none, or the resources are none.
    pub fn agents(mut self, count: usize, resources: &str) -> Self {
        assert!(count > 0, "a history needs an agent at least");
        let resources: Resources =
            resources.parse().unwrap_or_else(|error| panic!("resources `{resources}`: {error}"));
        self.agents = vec![resources; count];
        self
    }

    /// One more attribute of every agent.
    pub fn attribute(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.attributes.insert(name.into(), value.into());
        self
    }

    /// What tasks do, in every history, in place of what is drawn. Tasks should run for seconds, or until they are asked to end: a
    /// scheduler that launches again what has ended never comes to rest otherwise.
    pub fn workload(mut self, workload: impl Fn(&TaskInfo, &mut Rng) -> Behaviour + 'static) -> Self {
        self.workload = Some(Rc::new(workload));
        self
    }

    /// Changes the framework: its roles, how long it refuses. Its failover time-out is 20 s, so that most crashes are shorter.
    pub fn framework(mut self, change: impl Fn(Framework<S>) -> Framework<S> + 'static) -> Self {
        self.framework = Box::new(change);
        self
    }

    /// Plays the program around the scheduler: called four times in each virtual second, it may look and [`tell`](Sim::tell). It should tell
    /// a thing once, and know by the scheduler's state whether it has: what it tells is lost while the process is down, and a history in
    /// which it keeps talking does not end.
    pub fn messages(mut self, program: impl Fn(&mut Sim, Handle<S>) + 'static) -> Self {
        self.program = Some(Box::new(program));
        self
    }

    /// Says which work a task does: of two tasks of the same work only one may run at a time. A task's name when not given, which is its
    /// id unless it has one of its own.
    pub fn work(mut self, work: impl Fn(&TaskInfo) -> String + 'static) -> Self {
        self.work = Rc::new(work);
        self
    }

    /// How long an offer may be held, neither used nor given back, and an inverse offer be left unanswered; 5 s when not given.
    pub fn hold_at_most(mut self, most: Duration) -> Self {
        self.bounds.hold = most;
        self
    }

    /// How often in a second offers may be refused, suppressed and revived, over ten seconds in which nothing else happens; 5 times when
    /// not given.
    pub fn refuse_at_most(mut self, per_second: f64) -> Self {
        self.bounds.refusals_per_second = per_second;
        self
    }

    /// How long after the last fault the scheduler may go on calling; 20 min when not given.
    pub fn settle_within(mut self, most: Duration) -> Self {
        self.bounds.settle = most;
        self
    }

    /// Plays the histories.
    pub fn run(self) -> Report {
        let mut report = Report { broken: Vec::new(), histories: 0, launches: 0, seed: self.seed };
        let mut breaches = 0;
        let mut inputs = Inputs::default();
        let mut expected = None;
        for number in 0..self.only.map_or(self.histories, |only| only + 1) {
            if number >= CALM && self.only.is_some_and(|only| only != number) {
                continue;
            }
            let plan = Plan::draw(self.seed, number, &self.agents, inputs);
            // What lasts may not fit all at once, and who waits for it has not come to an end: only what ends is counted.
            let counted = expected.filter(|_| plan.mode == Mode::Ending);
            let played = self.play(&plan, counted, History::default());
            report.histories += 1;
            report.launches += played.launches;
            match number {
                0 => {
                    inputs.ending = played.inputs;
                    expected = played.breach.is_none().then_some(played.fulfilled);
                }
                1 => inputs.lasting = played.inputs,
                _ => {}
            }
            let told = self.only.is_none_or(|only| only == number);
            if let Some(breach) = played.breach.filter(|_| told) {
                breaches += 1;
                self.found(&mut report, plan, counted, breach);
                if breaches >= BREACHES_MAX {
                    break;
                }
            }
        }
        report
    }

    fn found(&self, report: &mut Report, plan: Plan, expected: Option<usize>, breach: Breach) {
        if let Some(known) = report.broken.iter_mut().find(|known| known.promise == breach.promise) {
            known.times += 1;
            return;
        }
        let history = plan.number;
        let (plan, breach, lines) = self.shorten(plan, expected, breach);
        report.broken.push(Broken {
            promise: breach.promise,
            trace: relevant(&lines, &breach.what),
            what: breach.what,
            at: breach.at,
            seed: self.seed,
            history,
            times: 1,
            agents: plan.agents.len(),
            troubles: plan.troubles.iter().map(ToString::to_string).collect(),
        });
    }
}

impl<S> fmt::Debug for Conformance<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conformance")
            .field("stored", &self.stored)
            .field("histories", &self.histories)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}
