//! The batch scheduler held to what every scheduler promises.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use apportion_batch::{
    job::{Builder, Job, Submission},
    output::Fetched,
    queue::Settings,
    scheduler::{BatchScheduler, Order},
    serve::{
        keep::QueueKeeper,
        order::{Order as QueueOrder, Submit},
        scheduler::{Keeping, News, QueueScheduler},
    },
};
use apportion_sdk::{Capability, Options, Time};
use apportion_sim::conformance::Conformance;
use tokio::sync::mpsc;

/// It stores nothing: a job whose program dies is begun anew. The program leaves when the job is done.
fn conformance(job: Builder) -> Conformance<BatchScheduler> {
    let job = Arc::new(job.build().unwrap());
    // Nobody listens to the news.
    Conformance::new(move || BatchScheduler::new(Arc::clone(&job), mpsc::unbounded_channel().0))
        .framework(|framework| {
            framework.options(Options::new().capability(Capability::InverseOffers).build())
        })
        .messages(|sim, batch| {
            let done = sim.scheduler(batch).is_some_and(|batch| batch.state().is_done());
            if done && sim.ended(batch).is_none() {
                sim.tell(batch, Order::Leave);
            }
        })
}

fn job() -> Builder {
    Job::builder("job").command(["work", "${index}"]).resources("cpus:1;mem:128".parse().unwrap()).count(5)
}

#[test]
fn a_job_keeps_every_promise() {
    conformance(job().retries(2)).run().assert_ok();
}

#[test]
fn a_gang_keeps_every_promise() {
    // Small enough for the one agent that each history has.
    let resources = "cpus:0.5;mem:64".parse().unwrap();
    conformance(job().resources(resources).retries(2).gang()).seed(4).run().assert_ok();
}

#[test]
fn a_job_whose_tasks_may_take_seconds_only_keeps_every_promise() {
    conformance(job().timeout(std::time::Duration::from_secs(6))).seed(2).run().assert_ok();
}

/// A queue whose users submit a few jobs, and fetch what these leave at once.
#[test]
fn a_queue_keeps_every_promise() {
    let news: Rc<RefCell<Vec<mpsc::UnboundedReceiver<News>>>> = Rc::default();
    let told = Rc::clone(&news);
    let queue = Conformance::stored(move |store| {
        let (sender, receiver) = mpsc::unbounded_channel();
        told.borrow_mut().push(receiver);
        let kept = QueueKeeper::open(store.clone(), Time::ZERO).unwrap();
        QueueScheduler::new(Settings::default(), Keeping::default(), kept, sender)
    });
    let queue = queue.seed(3).messages(move |sim, queue| {
        let mut fetched = Vec::new();
        // Of histories before this one nobody tells anything any more.
        news.borrow_mut().retain(|news| !news.is_closed() || !news.is_empty());
        for news in news.borrow_mut().iter_mut() {
            while let Ok(news) = news.try_recv() {
                if let News::Fetch { id, position, .. } = news {
                    fetched.push((id, position, Fetched::default()));
                }
            }
        }
        let known = sim.scheduler(queue).map(|queue| queue.jobs().count());
        if known.is_some() && !fetched.is_empty() {
            sim.tell(queue, QueueOrder::Fetched(fetched).into());
        }
        if let Some(user) = known.and_then(|known| ["ann", "bob", "cyd"].get(known)) {
            sim.tell(queue, QueueOrder::Submit(Box::new(wanted(user))).into());
        }
    });
    queue.run().assert_ok();
}

fn wanted(user: &str) -> Submit {
    let gang = if user == "cyd" { "gang = true\n" } else { "" };
    let text = format!(
        "name = \"{user}\"\n[stage.work]\n{gang}retries = 2\ncpus = 0.25\nmemory = 64\ncommand = [\"work\", \"${{index}}\"]\narray = {{ range = [1, 3] }}\n"
    );
    let submission = Submission {
        file: "job.toml".into(),
        text,
        settings: Vec::new(),
        folder: "/srv".into(),
        found: BTreeMap::new(),
    };
    let job = submission.job().unwrap();
    Submit { user: user.to_owned(), runs_as: None, priority: 0, waits: false, submission, job }
}
