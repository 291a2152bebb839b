//! Measures what services are scaled by, beside the scheduler: nothing in it waits for an agent, a balancer or a Prometheus server.
//!
//! The scheduler publishes what is to be measured, and is told what was. Whatever does not answer in time is not known, with the reason.
//!
//! 1. `agents` asks what tasks use.
//! 2. `prometheus` asks queries.
//! 3. [`Balancers`] are asked what they count.
//! 4. [`wake`](wake()) is for services that sleep: there it is not measured, but waited.
//! 5. [`compare`] asks how large the agents are, while replicas wait for offers.

mod agents;
mod balancers;
mod prometheus;
mod sizes;
mod wake;

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::Handle;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use self::agents::Agents;
pub use self::{balancers::Balancers, sizes::compare, wake::wake};
use crate::{
    scale::{Measured, Metric, Subject, Traffic as Counted},
    scheduler::{Order, Request},
};

/// How long anybody may take to answer. Who is asked at one time is asked together, so a silent one delays the others by so much.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// What balancers count.
pub trait Traffic: Send {
    /// Of a service; none when it has no balancer.
    fn of(&mut self, service: &str) -> Option<Counted>;
}

/// Measures for as long as it is polled; ends when the scheduler does.
pub async fn run(
    scheduler: Handle<Request>,
    mut subjects: watch::Receiver<Vec<Subject>>,
    master: &str,
    mut traffic: impl Traffic,
) {
    let mut agents = Agents::of(master);
    // When each service is measured next.
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    loop {
        let all = subjects.borrow_and_update().clone();
        due.retain(|service, _| all.iter().any(|subject| subject.service == *service));
        let now = Instant::now();
        for subject in &all {
            let next = due.entry(subject.service.clone()).or_insert(now);
            // An interval that was made shorter holds at once.
            *next = (*next).min(now + subject.interval);
        }
        let (now_due, later): (Vec<_>, Vec<_>) = all.iter().partition(|it| due[&it.service] <= now);
        if !now_due.is_empty() {
            agents.forget_but(now_due.iter().chain(&later).flat_map(|subject| &subject.tasks));
            let measured = measure(&now_due, &mut agents, &mut traffic).await;
            if scheduler.send(Order::Measured(measured).into()).await.is_err() {
                return;
            }
            for subject in now_due {
                due.insert(subject.service.clone(), now + subject.interval);
            }
        }
        tokio::select! {
            changed = subjects.changed() => if changed.is_err() { return },
            () = until(due.values().min().copied()) => {}
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

async fn measure(subjects: &[&Subject], agents: &mut Agents, traffic: &mut impl Traffic) -> Vec<Measured> {
    let mut queries = JoinSet::new();
    for (index, subject) in subjects.iter().enumerate() {
        for metric in subject.rules.iter().map(|rule| rule.metric.clone()) {
            queries.spawn(async move {
                let Metric::Prometheus { url, query } = &metric else { return None };
                let answer = prometheus::ask(url, query, ANSWER_TIMEOUT).await;
                Some((index, metric, answer))
            });
        }
    }
    let mut used = agents.usage(subjects, ANSWER_TIMEOUT).await;
    let measured = |subject: &&Subject| Measured {
        service: subject.service.clone(),
        used: subject.tasks.iter().filter_map(|(task_id, _)| used.remove_entry(task_id)).collect(),
        traffic: traffic.of(&subject.service),
        answers: Vec::new(),
    };
    let mut all: Vec<Measured> = subjects.iter().map(measured).collect();
    while let Some(Ok(answered)) = queries.join_next().await {
        if let Some((index, metric, answer)) = answered {
            all[index].answers.push((metric, answer));
        }
    }
    all
}
