//! The program around the scheduler: begins the job, keeps the news, and leaves when everything is done.

use std::{
    cell::RefCell,
    fmt::Debug,
    sync::{Arc, Mutex},
    time::Duration,
};

use apportion_batch::{
    job::{Builder, Job},
    scheduler::{BatchScheduler, News, Order},
    state::{JobState, Outcome},
};
use apportion_sdk::{Stop, TaskInfo};
use apportion_sim::{Behaviour, Cluster, Failure, Framework, Handle, Rng, Sim};
use tokio::sync::mpsc;

/// No story lasts longer.
pub(crate) const LONG: Duration = Duration::from_secs(4 * 3600);

/// The job of most stories: its tasks know their number, and ten of them fit on an agent of [`three_agents`].
pub(crate) fn job() -> Builder {
    Job::builder("j").command(["work", "${index}"]).resources("cpus:1;mem:128".parse().unwrap())
}

/// Room for 30 tasks of [`job`]. The master misses an agent after some 10 s, and gives it up after 20 s more.
pub(crate) fn three_agents() -> Cluster {
    Cluster::new().agents(3, "cpus:10;mem:4096").clock_skew(Duration::from_secs(2)).master(|config| {
        config.agent_ping_interval = Duration::from_secs(3);
        config.agent_pings_missed_max = 3;
        config.agent_reregister_timeout = Duration::from_secs(20);
    })
}

/// Which task of the job this is, from 1.
pub(crate) fn number(task: &TaskInfo) -> usize {
    task.command.argv[1].parse().unwrap()
}

/// A task that runs for between one and twenty seconds.
pub(crate) fn takes_its_time(_: &TaskInfo, rng: &mut Rng) -> Behaviour {
    Behaviour::succeeds_after(Duration::from_millis(rng.u64(1_000..20_000)))
}

/// How often machines began each task, by its number less one: the truth that a scheduler knows by hearsay only.
#[derive(Debug, Clone)]
pub(crate) struct Begun(Arc<Mutex<Vec<u32>>>);

impl Begun {
    pub(crate) fn none(tasks: usize) -> Self {
        Self(Arc::new(Mutex::new(vec![0; tasks])))
    }

    /// Counts one more, and says how many there were before.
    pub(crate) fn count(&self, task: &TaskInfo) -> u32 {
        let begun = &mut self.0.lock().unwrap()[number(task) - 1];
        *begun += 1;
        *begun - 1
    }

    pub(crate) fn all(&self) -> Vec<u32> {
        self.0.lock().unwrap().clone()
    }
}

/// A job of a simulated cluster.
pub(crate) struct Program {
    pub(crate) scheduler: Handle<BatchScheduler>,
    news: RefCell<mpsc::UnboundedReceiver<News>>,
}

impl Program {
    /// Adds the job to a cluster.
    pub(crate) fn of(cluster: &mut Cluster, job: Builder) -> Self {
        let job = Arc::new(job.build().unwrap());
        let (sender, news) = mpsc::unbounded_channel();
        let framework =
            Framework::new(job.name.clone(), move || BatchScheduler::new(Arc::clone(&job), sender.clone()))
                .failover_timeout(Duration::from_secs(60));
        Self { scheduler: cluster.add(framework), news: RefCell::new(news) }
    }

    /// The job as its scheduler knows it. No story looks while the process is down.
    pub(crate) fn state<'a>(&self, sim: &'a Sim) -> &'a JobState {
        sim.scheduler(self.scheduler).expect("the job's process is up").state()
    }

    pub(crate) fn tell(&self, sim: &mut Sim, order: Order) {
        sim.tell(self.scheduler, order);
    }

    /// The news since this was asked last.
    pub(crate) fn news(&self) -> Vec<News> {
        let mut news = self.news.borrow_mut();
        std::iter::from_fn(|| news.try_recv().ok()).collect()
    }

    /// Waits for the job's process, which hears no order before it is there.
    pub(crate) fn until_up(&self, sim: &mut Sim) -> Result<(), Failure> {
        sim.run_until(LONG, "the job's process is up", |sim| sim.scheduler(self.scheduler).is_some())
    }

    /// Waits until every task is on an agent and runs there.
    pub(crate) fn until_all_run(&self, sim: &mut Sim, tasks: usize) -> Result<(), Failure> {
        sim.run_until(LONG, "every task runs", |sim| sim.running().count() == tasks)
    }

    /// Lets the job come to its end and leaves, as `apportion batch run` does. Whatever the story: each task has ended once, and when
    /// everybody is back nothing of the job runs, even before it leaves.
    pub(crate) fn to_the_end(&self, sim: &mut Sim) -> Result<JobState, Failure> {
        self.until_up(sim)?;
        sim.run_until(LONG, "the job is done", |sim| self.state(sim).is_done())?;
        sim.run_until_idle(LONG)?;
        same(sim, "what runs when the job is done", sim.running().collect(), vec![])?;

        self.tell(sim, Order::Leave);
        sim.run_until_idle(LONG)?;
        same(sim, "how the framework ended", sim.ended(self.scheduler), Some(Stop::Teardown))?;

        let (mut ends, mut counts, mut known) = (Vec::new(), None, None);
        for news in self.news() {
            match news {
                News::Ended { position, .. } => ends.push(position),
                News::Moved(moved) => counts = Some(moved),
                News::Leaving(state) => known = Some(*state),
                _ => {}
            }
        }
        let state = known.ok_or_else(|| sim.failure("the job was not told when it left"))?;
        ends.sort_unstable();
        same(sim, "tasks by their ends", ends, (0..state.tasks().len()).collect())?;
        same(sim, "the last counts told", counts.unwrap_or_default(), state.counts())?;
        Ok(state)
    }
}

/// How each task ended.
pub(crate) fn outcomes(job: &JobState) -> Vec<Outcome> {
    job.tasks().iter().map(|task| task.end().expect("the job is done").outcome).collect()
}

/// Fails the story when something is not as expected.
pub(crate) fn same<T: PartialEq + Debug>(sim: &Sim, what: &str, seen: T, expected: T) -> Result<(), Failure> {
    if seen == expected {
        return Ok(());
    }
    Err(sim.failure(format!("{what}: {seen:?}, expected {expected:?}")))
}
