//! A queue of several users, whose daemon is killed at any moment.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use apportion_batch::{
    job::Submission,
    output::Fetched,
    queue::Settings,
    serve::{
        entry::Phase,
        keep::QueueKeeper,
        order::{Order, Request, Submit},
        peer::Peer,
        scheduler::{Keeping, News, QueueScheduler},
    },
};
use apportion_sdk::{TaskInfo, Time};
use apportion_sim::{Behaviour, Chaos, Cluster, Failure, Fault, Framework, Handle, Sim, check};
use tokio::sync::mpsc;

use crate::program::{LONG, same, takes_its_time, three_agents};

/// What the schedulers of one queue, one after the other, had to tell.
type Told = Rc<RefCell<Vec<mpsc::UnboundedReceiver<News>>>>;

/// The program around a queue, as far as a story needs one.
struct Queue {
    scheduler: Handle<QueueScheduler>,
    news: Told,
}

fn settings() -> Settings {
    Settings { patience: Duration::from_secs(60), ..Settings::default() }
}

impl Queue {
    fn of(cluster: &mut Cluster) -> Self {
        let news = Told::default();
        let told = Rc::clone(&news);
        let framework = Framework::stored("queue", move |store| {
            let (sender, receiver) = mpsc::unbounded_channel();
            told.borrow_mut().push(receiver);
            let kept = QueueKeeper::open(store.clone(), Time::ZERO).unwrap();
            QueueScheduler::new(settings(), Keeping::default(), kept, sender)
        });
        Self { scheduler: cluster.add(framework.failover_timeout(Duration::from_secs(600))), news }
    }

    /// Does what the program does: outputs are fetched, here at once.
    fn serve(&self, sim: &mut Sim) {
        let mut fetched = Vec::new();
        for news in self.news.borrow_mut().iter_mut() {
            while let Ok(news) = news.try_recv() {
                if let News::Fetch { id, position, .. } = news {
                    fetched.push((id, position, Fetched::default()));
                }
            }
        }
        if !fetched.is_empty() && sim.scheduler(self.scheduler).is_some() {
            sim.tell(self.scheduler, Order::Fetched(fetched).into());
        }
    }

    fn is_idle(&self, sim: &Sim) -> bool {
        sim.scheduler(self.scheduler).is_some_and(QueueScheduler::is_idle)
    }

    /// Submits until the job is taken in: whoever submits to a daemon that dies is told nothing, looks, and tries again.
    fn submit(&self, sim: &mut Sim, user: &str, text: &str) -> Result<u64, Failure> {
        let known = |sim: &Sim| sim.scheduler(self.scheduler).map(|queue| queue.jobs().count());
        let up = |sim: &Sim| sim.scheduler(self.scheduler).is_some();
        sim.run_until(LONG, "the queue is up", up)?;
        let before = known(sim).unwrap_or_default();
        loop {
            sim.tell(self.scheduler, submit(user, text));
            sim.run_until(LONG, "the queue is up", up)?;
            sim.run_for(Duration::from_millis(1))?;
            sim.run_until(LONG, "the queue is up", up)?;
            if known(sim).unwrap_or_default() > before {
                return Ok(before as u64 + 1);
            }
        }
    }

    fn until_idle(&self, sim: &mut Sim) -> Result<(), Failure> {
        let begun = sim.elapsed();
        while !self.is_idle(sim) {
            if sim.elapsed() > begun + LONG {
                return Err(sim.failure("jobs are in the queue after a long time"));
            }
            sim.run_for(Duration::from_millis(500))?;
            self.serve(sim);
        }
        sim.run_until_idle(LONG)?;
        same(sim, "what runs when the queue is empty", sim.running().count(), 0)
    }

    fn phases(&self, sim: &Sim) -> Vec<Phase> {
        let queue = sim.scheduler(self.scheduler).expect("it is up");
        queue.jobs().map(|(_, phase, _)| phase).collect()
    }
}

fn submit(user: &str, text: &str) -> Request {
    let submission = Submission {
        file: "job.toml".into(),
        text: text.to_owned(),
        settings: Vec::new(),
        folder: "/srv".into(),
        found: BTreeMap::new(),
    };
    let job = submission.job().unwrap();
    Order::Submit(Box::new(Submit {
        user: user.to_owned(),
        runs_as: None,
        priority: 0,
        waits: false,
        submission,
        job,
    }))
    .into()
}

fn root() -> Peer {
    Peer { user: "root".into(), is_operator: true }
}

const WORK: &str = "name = \"work\"\n[task]\ncommand = [\"work\", \"${index}\"]\n[array]\nrange = [1, 20]\n";

const CHAIN: &str = "name = \"chain\"\n[stage.one]\ncommand = [\"one\", \"${index}\"]\narray = { range = [1, 4] }\n\
                     [stage.two]\nafter = [\"one\"]\ncommand = [\"two\"]\n";

const GANG: &str = "name = \"gang\"\n[stage.ranks]\ngang = true\ncommand = [\"rank\", \"${index}\"]\n\
                    cpus = 4\narray = { range = [1, 5] }\n";

/// How often machines began each task, by the job's number and its name.
#[derive(Debug, Clone, Default)]
struct Begun(Arc<Mutex<BTreeMap<String, u32>>>);

impl Begun {
    fn count(&self, task: &TaskInfo) {
        let id = task.task_id.as_str();
        let whole = id.split(".r").next().unwrap();
        *self.0.lock().unwrap().entry(whole.to_owned()).or_default() += 1;
    }

    fn all(&self) -> BTreeMap<String, u32> {
        self.0.lock().unwrap().clone()
    }
}

/// Whatever the moment: no job is lost, no task runs twice, and every job ends well.
#[test]
fn a_daemon_that_dies_at_any_moment_goes_on_where_it_was() {
    let build = || {
        let begun = Begun::default();
        let counted = begun.clone();
        let mut cluster = three_agents().workload(move |task, rng| {
            counted.count(task);
            takes_its_time(task, rng)
        });
        for number in 0..20 {
            let at = Duration::from_millis(70 * number);
            cluster = cluster.fault(at, Fault::framework_dies(0, Duration::from_millis(7)));
        }
        let chaos = Chaos {
            lasts: Duration::from_secs(60),
            longest: Duration::from_secs(5),
            framework_crashes: 20.0,
            ..Chaos::NONE
        };
        let queue = Queue::of(&mut cluster);
        (cluster.chaos(chaos), (queue, begun))
    };
    check(0..40, build, |sim, (queue, begun)| {
        for (user, text) in [("ann", WORK), ("bob", CHAIN), ("cyd", GANG), ("bob", WORK)] {
            queue.submit(sim, user, text)?;
        }
        queue.until_idle(sim)?;
        same(sim, "how jobs ended", queue.phases(sim), vec![Phase::Succeeded; 4])?;
        let begun = begun.all();
        same(sim, "tasks that were begun", begun.len(), 20 + 5 + 5 + 20)?;
        let twice: Vec<_> = begun.into_iter().filter(|(_, times)| *times != 1).collect();
        same(sim, "tasks that machines began twice", twice, vec![])
    });
}

/// Agents and masters fail as well: what may have been lost runs again, and everything ends.
#[test]
fn a_queue_survives_a_bad_day() {
    let build = || {
        let chaos = Chaos { framework_crashes: 4.0, ..Chaos::bad_day(Duration::from_secs(120)) };
        let mut cluster = three_agents().chaos(chaos).workload(takes_its_time);
        let queue = Queue::of(&mut cluster);
        (cluster, queue)
    };
    let retried = WORK.replace("[array]", "retries = 20\n[array]");
    let gang = GANG.replace("cpus = 4", "cpus = 4\nretries = 20");
    check(0..40, build, move |sim, queue| {
        for (user, text) in [("ann", &retried), ("bob", &gang), ("cyd", &retried)] {
            queue.submit(sim, user, text)?;
        }
        queue.until_idle(sim)?;
        same(sim, "how jobs ended", queue.phases(sim), vec![Phase::Succeeded; 3])
    });
}

/// Beside one who has much and came first, somebody else gets their part at once.
#[test]
fn users_share_a_cluster_that_is_too_small_for_both() {
    let minute = Duration::from_secs(60);
    let build = move || {
        let mut cluster = three_agents().workload(move |_, _| Behaviour::succeeds_after(minute));
        let queue = Queue::of(&mut cluster);
        (cluster, queue)
    };
    let many = WORK.replace("20", "300");
    check(0..10, build, move |sim, queue| {
        queue.submit(sim, "ann", &many)?;
        sim.run_for(minute / 2)?;
        queue.submit(sim, "bob", &many)?;
        sim.run_for(minute)?;
        let of = |sim: &Sim, job: u64| {
            sim.running().filter(|(_, (_, task))| task.as_str().starts_with(&format!("{job}."))).count()
        };
        same(sim, "who runs how much", (of(sim, 1), of(sim, 2)), (15, 15))
    });
}

/// What is cancelled ends, wherever it is, and what is retried runs only what did not succeed.
#[test]
fn a_cancelled_job_ends_and_can_be_run_again() {
    let build = || {
        let begun = Begun::default();
        let counted = begun.clone();
        let mut cluster = three_agents().workload(move |task, rng| {
            counted.count(task);
            takes_its_time(task, rng)
        });
        let queue = Queue::of(&mut cluster);
        (cluster, (queue, begun))
    };
    let cancelled = Cell::new(0);
    check(0..30, build, |sim, (queue, begun)| {
        let job = apportion_batch::queue::JobId(queue.submit(sim, "ann", WORK)?);
        sim.run_for(Duration::from_secs(8))?;
        sim.tell(queue.scheduler, Order::Cancel { job, by: root() }.into());
        queue.until_idle(sim)?;
        let succeeded = |sim: &Sim| {
            let (_, _, state) = sim.scheduler(queue.scheduler).expect("it is up").jobs().next().unwrap();
            state.counts().succeeded
        };
        if queue.phases(sim) != [Phase::Cancelled] {
            return Err(sim.failure("it was cancelled before its slowest task ended"));
        }
        cancelled.set(cancelled.get() + 1);
        let (before, begun_before) = (succeeded(sim), begun.all());
        sim.tell(queue.scheduler, Order::Retry { job, by: root() }.into());
        sim.run_for(Duration::from_millis(1))?;
        queue.until_idle(sim)?;
        same(sim, "how it ended", (queue.phases(sim), succeeded(sim)), (vec![Phase::Succeeded], 20))?;
        let begun = begun.all();
        let again: u32 = begun.values().sum::<u32>() - begun_before.values().sum::<u32>();
        same(sim, "tasks that ran again", again as usize, 20 - before)
    });
    assert!(cancelled.get() > 0);
}
