//! What of the machine is idle although tasks hold it, and can be lent: estimated by turns, and told to the core.

mod usage;

use std::{fmt, str::FromStr, sync::Arc, time::Duration};

use apportion_agent_core::{Event, View};
use apportion_containerizer::{ContainerId, Containerizer};
use apportion_types::{
    Resources, TaskState, Time,
    resources::{Name, Terms, Value},
};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

pub use usage::IdleCpus;

use crate::{
    clock::Clock,
    executors::{is_within, tasks_in},
};

/// Estimates what can be lent.
///
/// What it says is lent as revocable resources beside what the agent has to offer; when it says less than before, the youngest tasks
/// that use the rest are killed. So it should change slowly upwards, and fast downwards.
pub trait ResourceEstimator: Send + 'static {
    /// All that could be lent now, on no terms, whether tasks use it already or not. Called once in each interval. None while that
    /// cannot be said yet: tasks of an earlier process keep what they were lent, and nobody is lent more.
    fn estimate(&mut self, sample: &Sample) -> Option<Resources>;
}

/// What an estimate is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When it was taken.
    pub at: Time,
    /// All that the agent has to offer, without what it lends.
    pub total: Resources,
    /// Tasks that run.
    pub tasks: Vec<TaskSample>,
}

/// What one task holds and uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskSample {
    /// Names its container; never used for another.
    pub container: String,
    /// What it holds.
    pub resources: Resources,
    /// Processor time that it has used so far, in microseconds; none when that cannot be found out.
    pub cpu_us: Option<u64>,
}

/// Which estimator an agent uses, as an operator sets it: `none`, `fixed:RESOURCES` or `usage`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Estimator {
    /// Nothing is lent.
    #[default]
    None,
    /// The same is lent whatever happens.
    Fixed(Resources),
    /// Processors that tasks hold and have not used lately; see [`IdleCpus`].
    Usage,
}

/// Why a text names no estimator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EstimatorError {
    /// There is none of that name.
    #[error("`{text}` is no estimator; give `none`, `usage`, or `fixed:RESOURCES` such as `fixed:cpus:2`")]
    Unknown {
        /// The text.
        text: String,
    },
    /// What it is to lend is none.
    #[error("`{text}` names no resources: {what}; give some such as `fixed:cpus:2`")]
    Resources {
        /// The text.
        text: String,
        /// What is wrong.
        what: String,
    },
}

impl FromStr for Estimator {
    type Err = EstimatorError;

    fn from_str(text: &str) -> Result<Self, EstimatorError> {
        let Some(fixed) = text.strip_prefix("fixed:") else {
            return match text {
                "none" => Ok(Estimator::None),
                "usage" => Ok(Estimator::Usage),
                _ => Err(EstimatorError::Unknown { text: text.to_owned() }),
            };
        };
        let wrong = |what: String| EstimatorError::Resources { text: text.to_owned(), what };
        let resources: Resources = fixed.parse().map_err(|error| wrong(format!("{error}")))?;
        match resources {
            resources if resources.is_empty() => Err(wrong("there is nothing".to_owned())),
            resources if resources.has_terms() => {
                Err(wrong("all that is lent is revocable, and on no other terms".to_owned()))
            }
            resources => Ok(Estimator::Fixed(resources)),
        }
    }
}

impl fmt::Display for Estimator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Estimator::None => f.write_str("none"),
            Estimator::Fixed(resources) => write!(f, "fixed:{resources}"),
            Estimator::Usage => f.write_str("usage"),
        }
    }
}

impl TryFrom<String> for Estimator {
    type Error = EstimatorError;

    fn try_from(text: String) -> Result<Self, EstimatorError> {
        text.parse()
    }
}

impl From<Estimator> for String {
    fn from(estimator: Estimator) -> String {
        estimator.to_string()
    }
}

impl Estimator {
    pub(crate) fn make(&self) -> Option<Box<dyn ResourceEstimator>> {
        match self {
            Estimator::None => None,
            Estimator::Fixed(resources) => Some(Box::new(Always(resources.clone()))),
            Estimator::Usage => Some(Box::new(IdleCpus::default())),
        }
    }
}

/// Says the same whatever happens.
struct Always(Resources);

impl ResourceEstimator for Always {
    fn estimate(&mut self, _: &Sample) -> Option<Resources> {
        Some(self.0.clone())
    }
}

/// Estimates by turns, for as long as somebody listens; without an estimator nothing is lent from the start.
pub(crate) async fn run(
    estimator: Option<Box<dyn ResourceEstimator>>,
    interval: Duration,
    clock: Clock,
    containerizer: Arc<dyn Containerizer>,
    view: watch::Receiver<Arc<View>>,
    events: mpsc::UnboundedSender<Event>,
) {
    let say = |revocable| events.send(Event::Oversubscribed { revocable }).is_ok();
    let Some(mut estimator) = estimator else {
        say(Resources::new());
        return;
    };
    let mut ticks = tokio::time::interval(interval);
    // A machine that was busy is not to be asked twice at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = view.borrow().clone();
        let sample = sample(&seen, clock, &*containerizer).await;
        let estimate = estimator.estimate(&sample);
        if events.is_closed() || estimate.is_some_and(|estimate| !say(revocable(&estimate))) {
            return;
        }
    }
}

async fn sample(view: &View, clock: Clock, containerizer: &dyn Containerizer) -> Sample {
    let running: Vec<_> =
        view.tasks.iter().filter(|(_, task)| task.state == TaskState::Running && !is_within(task)).collect();
    let ids: Vec<ContainerId> =
        running.iter().map(|(_, task)| ContainerId(task.container_id.0.clone())).collect();
    let at = clock.now();
    let readings = containerizer.usage(&ids).await;
    let tasks = running.into_iter().zip(ids).zip(readings).map(|(((key, task), id), reading)| TaskSample {
        container: id.0,
        resources: tasks_in(view, key, task).fold(Resources::new(), |sum, task| sum + &task.info.resources),
        // One that has just ended tells nothing more.
        cpu_us: reading.ok().map(|reading| reading.usage.cpu_us),
    });
    Sample { at, total: view.resources.clone(), tasks: tasks.collect() }
}

/// The same, lent.
fn revocable(resources: &Resources) -> Resources {
    let terms = Arc::new(Terms { revocable: true, ..Terms::default() });
    let mut lent = Resources::new();
    for (name, value) in resources.plain().iter() {
        lent.insert_on(name.clone(), Some(terms.clone()), value.clone());
    }
    lent
}

/// An amount of processors, in thousandths.
fn cpus(milli: i64) -> Resources {
    Resources::of(Name::Cpus, Value::Scalar(milli))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimator_is_named_in_one_word() {
        for text in ["none", "usage", "fixed:cpus:2;mem:512"] {
            assert_eq!(text.parse::<Estimator>().unwrap().to_string(), text);
        }
        for (text, why) in [
            ("", "`` is no estimator; give `none`, `usage`, or"),
            ("most", "`most` is no estimator"),
            ("fixed", "`fixed` is no estimator"),
            ("fixed:", "nothing"),
            ("fixed:cpus:-1", "`fixed:cpus:-1` names no resources"),
            ("fixed:cpus(eng):1", "on no other terms"),
            ("fixed:cpus{revocable}:1", "on no other terms"),
        ] {
            let error = text.parse::<Estimator>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_lent_is_revocable() {
        let lent = revocable(&"cpus:1;mem:64;ports:[1-2]".parse().unwrap());
        assert_eq!(lent.to_string(), "cpus{revocable}:1;mem{revocable}:64;ports{revocable}:[1-2]");
        assert_eq!(lent, lent.revocable());
    }
}
