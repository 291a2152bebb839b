//! From what was asked of agents, balancers and Prometheus to what rules go by.

use std::{collections::BTreeMap, time::Duration};

use apportion_sdk::{AgentId, FrameworkId, Resources, TaskId};

use super::{Mean, Metric, Rule};

/// What is to be measured of a service.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// The service.
    pub service: String,
    /// How often.
    pub interval: Duration,
    /// By these rules.
    pub rules: Vec<Rule>,
    /// The framework whose tasks they are; none before it was ever subscribed.
    pub framework_id: Option<FrameworkId>,
    /// The tasks that are ready, and where.
    pub tasks: Vec<(TaskId, AgentId)>,
    /// Whether it has no replica until somebody asks for one.
    pub asleep: bool,
}

impl Subject {
    /// Whether agents have to be asked.
    pub fn needs_usage(&self) -> bool {
        self.rules
            .iter()
            .any(|rule| matches!(rule.metric, Metric::Cpu | Metric::Memory | Metric::Utilisation))
    }
}

/// What was measured of a service.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Measured {
    /// The service.
    pub service: String,
    /// What its tasks used; of each that was asked for.
    pub used: BTreeMap<TaskId, Result<Used, Unknown>>,
    /// What its balancer says; none when it has none.
    pub traffic: Option<Traffic>,
    /// What Prometheus answered, and to which question: descriptions may change while it is asked.
    pub answers: Vec<(Metric, Result<f64, String>)>,
}

/// What a task uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Used {
    /// Processors, since it was asked before.
    pub cpus: Option<f64>,
    /// Bytes of memory now.
    pub memory_bytes: Option<u64>,
}

/// What a balancer says of a service.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Traffic {
    /// Requests each second.
    pub requests_per_second: f64,
    /// The time within which 99 of 100 requests were answered lately, in seconds; 0 when there were none, for then nobody waited.
    pub latency: f64,
    /// Requests that wait, or are worked on.
    pub queue: u32,
    /// Whether anything was asked since it was measured before, or is under way.
    pub busy: bool,
}

/// Why something is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// Why, and what to do.
    pub why: String,
    /// Whether somebody should know: not when it will be known in a moment anyway.
    pub trouble: bool,
}

impl Unknown {
    /// Nothing is wrong; it is too early.
    pub fn yet(why: impl Into<String>) -> Self {
        Self { why: why.into(), trouble: false }
    }

    /// Somebody has to do something.
    pub fn trouble(why: impl Into<String>) -> Self {
        Self { why: why.into(), trouble: true }
    }
}

/// A replica that is ready, and what it asked for.
#[derive(Debug, Clone, Copy)]
pub struct Replica<'a> {
    /// Its task.
    pub task_id: &'a TaskId,
    /// What each of its kind asks for.
    pub asked: &'a Resources,
}

impl Measured {
    /// What a rule goes by, of replicas that are ready.
    pub fn mean(&self, rule: &Rule, ready: &[Replica<'_>]) -> Result<Mean, Unknown> {
        if ready.is_empty() {
            return Err(Unknown::yet("no replica is ready"));
        }
        let of = u32::try_from(ready.len()).unwrap_or(u32::MAX);
        let each = |all: f64| Mean { value: all / f64::from(of), of };
        let traffic = || {
            let why = "no balancer counts what is asked of it; give it a [balancer]";
            self.traffic.ok_or_else(|| Unknown::trouble(why))
        };
        match &rule.metric {
            Metric::Cpu => self.parts(ready, cpu_part),
            Metric::Memory => self.parts(ready, memory_part),
            Metric::Utilisation => self
                .parts(ready, |asked, used| Ok((cpu_part(asked, used)? + memory_part(asked, used)?) / 2.0)),
            Metric::Requests => Ok(each(traffic()?.requests_per_second)),
            Metric::Latency => Ok(Mean { value: traffic()?.latency, of }),
            Metric::Queue => Ok(each(f64::from(traffic()?.queue))),
            Metric::Prometheus { .. } => match self.answers.iter().find(|(asked, _)| *asked == rule.metric) {
                Some((_, Ok(all))) => Ok(each(*all)),
                Some((_, Err(why))) => Err(Unknown::trouble(why)),
                None => Err(Unknown::yet("it was not asked for yet")),
            },
        }
    }

    /// The mean over those for which it is known, of what each uses as a part of what it asked for.
    fn parts(
        &self,
        ready: &[Replica<'_>],
        part: impl Fn(&Resources, Used) -> Result<f64, Unknown>,
    ) -> Result<Mean, Unknown> {
        let (mut sum, mut of, mut unknown) = (0.0, 0, None);
        for replica in ready {
            let used = match self.used.get(replica.task_id) {
                Some(used) => used.clone(),
                None => Err(Unknown::yet("it has just become ready")),
            };
            match used.and_then(|used| part(replica.asked, used)) {
                Ok(part) => (sum, of) = (sum + part, of + 1),
                // What somebody can do something about is the better reason.
                Err(why) if unknown.as_ref().is_none_or(|known: &Unknown| !known.trouble) => {
                    unknown = Some(why)
                }
                Err(_) => {}
            }
        }
        match (of, unknown) {
            (0, Some(unknown)) => Err(unknown),
            (of, _) => Ok(Mean { value: sum / f64::from(of.max(1)), of }),
        }
    }
}

fn cpu_part(asked: &Resources, used: Used) -> Result<f64, Unknown> {
    let cpus =
        used.cpus.ok_or_else(|| Unknown::yet("processor time is known from the second measurement on"))?;
    match asked.cpus_milli() {
        milli if milli > 0 => Ok(cpus / (milli as f64 / 1000.0)),
        _ => {
            Err(Unknown::trouble("replicas ask for no cpus, of which a part could be told; give them `cpus`"))
        }
    }
}

fn memory_part(asked: &Resources, used: Used) -> Result<f64, Unknown> {
    let why = "its agent does not measure memory; it needs cgroups for that";
    let bytes = used.memory_bytes.ok_or_else(|| Unknown::trouble(why))?;
    match asked.mem_milli() {
        // Thousandths of MiB.
        milli if milli > 0 => Ok(bytes as f64 / (milli as f64 / 1000.0 * f64::from(1 << 20))),
        _ => Err(Unknown::trouble(
            "replicas ask for no memory, of which a part could be told; give them `memory`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Aim;

    fn rule(metric: Metric) -> Rule {
        Rule { metric, aim: Aim::Target(0.5), predict: None }
    }

    fn task(name: &str) -> TaskId {
        TaskId::new(name).unwrap()
    }

    #[test]
    fn parts_are_of_what_was_asked_for_and_what_is_not_known_is_not_none() {
        let asked: Resources = "cpus:0.5;mem:64".parse().unwrap();
        let (a, b) = (task("web.0.1"), task("web.1.2"));
        let ready = [&a, &b].map(|task_id| Replica { task_id, asked: &asked });
        let mut measured = Measured::default();
        let mean = |measured: &Measured, metric: Metric| measured.mean(&rule(metric), &ready);
        assert!(!mean(&measured, Metric::Cpu).unwrap_err().trouble, "it is too early");
        measured.used.insert(a.clone(), Ok(Used { cpus: Some(0.25), memory_bytes: Some(16 << 20) }));
        measured.used.insert(b.clone(), Ok(Used { cpus: None, memory_bytes: Some(48 << 20) }));
        assert_eq!(mean(&measured, Metric::Cpu), Ok(Mean { value: 0.5, of: 1 }));
        assert_eq!(mean(&measured, Metric::Memory), Ok(Mean { value: 0.5, of: 2 }));
        assert_eq!(mean(&measured, Metric::Utilisation), Ok(Mean { value: 0.375, of: 1 }));
        for task in [&a, &b] {
            measured.used.insert(task.clone(), Err(Unknown::trouble("agent one: refused")));
        }
        assert_eq!(mean(&measured, Metric::Cpu), Err(Unknown::trouble("agent one: refused")));
        assert!(mean(&measured, Metric::Requests).unwrap_err().why.contains("give it a [balancer]"));
    }

    #[test]
    fn what_all_bear_is_shared_out_among_those_that_are_ready() {
        let asked = Resources::new();
        let (a, b) = (task("web.0.1"), task("web.1.2"));
        let ready = [&a, &b].map(|task_id| Replica { task_id, asked: &asked });
        let traffic = Traffic { requests_per_second: 30.0, latency: 0.2, queue: 5, busy: true };
        let query = |query: &str| Metric::Prometheus { url: "http://p".into(), query: query.into() };
        let measured = Measured {
            traffic: Some(traffic),
            answers: vec![(query("up"), Ok(7.0)), (query("down"), Err("it is down".to_owned()))],
            ..Measured::default()
        };
        let mean = |metric: Metric| measured.mean(&rule(metric), &ready).map(|mean| mean.value);
        assert_eq!(mean(Metric::Requests), Ok(15.0));
        assert_eq!(mean(Metric::Latency), Ok(0.2));
        assert_eq!(mean(Metric::Queue), Ok(2.5));
        assert_eq!(mean(query("up")), Ok(3.5));
        assert_eq!(mean(query("down")), Err(Unknown::trouble("it is down")));
        assert!(measured.mean(&rule(query("up")), &[]).is_err(), "nobody bears it");
    }
}
