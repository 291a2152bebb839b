//! Processors that are held and idle, by what the containers have used lately.

use std::collections::{BTreeMap, VecDeque};

use apportion_types::{Resources, Time};

use super::{ResourceEstimator, Sample, TaskSample, cpus};

/// So many intervals count as lately: the busiest of them says what a task needs.
const INTERVALS: usize = 4;

/// Of what the tasks hold, a part is never lent, however idle it is: a task that wakes up has it at once.
const MARGIN_PERCENT: i64 = 20;

/// In tenths of a processor, so that a small change of the load kills nobody.
const STEP_MILLI: i64 = 100;

/// Lends the processors that tasks hold for good and have not used in any of the last four intervals, but for a fifth of what they hold.
///
/// A task counts as busy until it was seen for four intervals, and when its usage is not known. What was lent to a task is not lent
/// again.
#[derive(Debug, Default)]
pub struct IdleCpus {
    tasks: BTreeMap<String, History>,
    samples: usize,
}

/// What a task has used: the processor time at some times, the oldest first.
type History = VecDeque<(Time, u64)>;

impl ResourceEstimator for IdleCpus {
    fn estimate(&mut self, sample: &Sample) -> Option<Resources> {
        self.samples = self.samples.saturating_add(1);
        self.tasks.retain(|container, _| sample.tasks.iter().any(|task| task.container == *container));
        let (mut held, mut idle) = (0_i64, 0_i64);
        for task in &sample.tasks {
            let firm = task.resources.firm().cpus_milli();
            held = held.saturating_add(firm);
            let history = self.tasks.entry(task.container.clone()).or_default();
            idle = idle.saturating_add(firm.saturating_sub(used_milli(history, sample.at, task)).max(0));
        }
        let margin = held.saturating_mul(MARGIN_PERCENT) / 100;
        let lent = cpus((idle - margin).max(0) / STEP_MILLI * STEP_MILLI);
        // Until then all tasks count as busy, also those that have been idle for days.
        (self.samples > INTERVALS).then_some(lent)
    }
}

/// Notes what the task has used by now, and says the most that it used in one of the last intervals.
fn used_milli(history: &mut History, at: Time, task: &TaskSample) -> i64 {
    match task.cpu_us {
        Some(cpu_us) => history.push_back((at, cpu_us)),
        None => history.clear(),
    }
    if history.len() <= INTERVALS {
        return i64::MAX;
    }
    while history.len() > INTERVALS + 1 {
        history.pop_front();
    }
    let steps = history.iter().zip(history.iter().skip(1));
    let used = steps.map(|((from, before), (to, after))| {
        let micros = to.since(*from).as_micros().max(1);
        u128::from(after.saturating_sub(*before)) * 1000 / micros
    });
    i64::try_from(used.max().unwrap_or(u128::MAX)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said after each interval of ten seconds in which tasks, each with what it holds, used so many seconds.
    fn estimates(tasks: &[(&str, &[u64])]) -> Vec<String> {
        let mut estimator = IdleCpus::default();
        let intervals = tasks.iter().map(|(_, used)| used.len()).max().unwrap_or(0);
        (0..intervals)
            .map(|interval| {
                let sampled = tasks.iter().enumerate().filter_map(|(number, (resources, used))| {
                    let cpu_us = 1_000_000 * used.get(..=interval)?.iter().sum::<u64>();
                    let container = number.to_string();
                    Some(TaskSample {
                        container,
                        resources: resources.parse().unwrap(),
                        cpu_us: Some(cpu_us),
                    })
                });
                let at = Time::from_micros(10_000_000 * interval as u64);
                let total = "cpus:8".parse().unwrap();
                let estimate = estimator.estimate(&Sample { at, total, tasks: sampled.collect() });
                estimate.map_or("?".to_owned(), |estimate| estimate.to_string())
            })
            .collect()
    }

    #[test]
    fn what_nobody_used_lately_is_lent_but_for_the_margin() {
        assert_eq!(
            estimates(&[("cpus:4", &[0, 0, 0, 0, 0, 0])]),
            ["?", "?", "?", "?", "cpus:3.2", "cpus:3.2"]
        );
        // Two processors busy in one interval out of four: half of the four is idle.
        assert_eq!(
            estimates(&[("cpus:4", &[0, 0, 20, 0, 0, 0, 0])]),
            ["?", "?", "?", "?", "cpus:1.2", "cpus:1.2", "cpus:3.2"]
        );
        // It takes more than it holds: nothing of the others' is added.
        assert_eq!(estimates(&[("cpus:1", &[90; 5]), ("cpus:1", &[0; 5])]).last().unwrap(), "cpus:0.6");
        assert_eq!(estimates(&[("cpus:1.26;cpus{revocable}:3", &[0; 5])]).last().unwrap(), "cpus:1");
        assert_eq!(estimates(&[("cpus{revocable}:3", &[0; 5])]).last().unwrap(), "");
    }

    #[test]
    fn a_task_that_has_just_come_or_tells_nothing_counts_as_busy() {
        let mut estimator = IdleCpus::default();
        let mut estimate = |seconds: u64, cpu_us| {
            let task = TaskSample { container: "c".to_owned(), resources: "cpus:2".parse().unwrap(), cpu_us };
            let at = Time::from_micros(1_000_000 * seconds);
            estimator.estimate(&Sample { at, total: Resources::new(), tasks: vec![task] })
        };
        for second in 0..4 {
            assert_eq!(estimate(second, Some(0)), None);
        }
        assert_eq!(estimate(4, Some(0)), Some(cpus(1600)));
        assert_eq!(estimate(5, None), Some(cpus(0)));
        assert_eq!(estimate(6, Some(0)), Some(cpus(0)));
    }
}
