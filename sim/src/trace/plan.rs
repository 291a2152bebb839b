//! What frameworks are told, and when.

use std::{collections::BTreeMap, time::Duration};

use super::{Ends, Group, Options, Task, Wanted};

/// Some tasks of a group come, or are no longer wanted, at one time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// From the start of the replay.
    pub(super) at: Duration,
    pub(super) group: usize,
    pub(super) wanted: Wanted,
}

/// Everything that frameworks are told, in order, and when the replay ends at the latest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) changes: Vec<Change>,
    pub(super) end: Duration,
}

impl Plan {
    /// For all groups of which `runnable` is true. The first task of the trace comes at the start.
    pub(super) fn new(
        tasks: &[Task],
        groups: &[Group],
        runnable: &[bool],
        ends: Ends,
        options: &Options,
    ) -> Plan {
        let first = tasks.iter().map(|task| task.created).min().unwrap_or_default();
        let comes = |task: &Task| whole_micros((task.created - first) / options.load.get());
        let end = whole_micros(tasks.iter().map(comes).max().unwrap_or_default() + options.tail);
        // For each time and group, how many come and how many go.
        let mut steps: BTreeMap<(Duration, usize), (u32, u32)> = BTreeMap::new();
        for (index, group) in groups.iter().enumerate().filter(|(index, _)| runnable[*index]) {
            for task in group.tasks.iter().map(|task| &tasks[*task]) {
                let at = comes(task);
                steps.entry((at, index)).or_default().0 += 1;
                if ends == Ends::WhenTold && at + task.duration <= end {
                    steps.entry((at + task.duration, index)).or_default().1 += 1;
                }
            }
        }
        let mut wanted = vec![0; groups.len()];
        let mut changes = Vec::new();
        for ((at, group), (come, go)) in steps {
            // Those that come first, for a task may be gone at once.
            for now in [wanted[group] + come, wanted[group] + come - go] {
                let before = std::mem::replace(&mut wanted[group], now);
                if before != now {
                    changes.push(Change { at, group, wanted: Wanted { before, now } });
                }
            }
        }
        Plan { changes, end }
    }

    /// The group that wants the most at once, and how many.
    pub(super) fn most(&self) -> Option<(usize, u32)> {
        self.changes.iter().map(|change| (change.group, change.wanted.now)).max_by_key(|(_, wanted)| *wanted)
    }
}

/// Virtual time has nothing finer, and would never come to a part of one.
fn whole_micros(duration: Duration) -> Duration {
    duration - Duration::from_nanos(u64::from(duration.subsec_nanos() % 1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{group::group, tasks};

    /// Each change as `seconds group before>now`.
    fn planned(ends: Ends, load: u32) -> Vec<String> {
        let text = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time,scheduled_time\n\
                    a,1000,1,0,0,,LS,100,130,110\n\
                    b,1000,1,0,0,,LS,100,400,100\n\
                    c,2000,1,0,0,,LS,110,110,110\n\
                    d,1000,1,0,0,,LS,120,150,\n\
                    e,9000,1,0,0,,LS,120,150,\n";
        let tasks = tasks::parse("t", text).unwrap();
        let options =
            Options { load: load.try_into().unwrap(), tail: Duration::from_secs(200), ..Options::default() };
        let plan = Plan::new(&tasks, &group(&tasks), &[true, true, false], ends, &options);
        let changes = plan.changes.iter().map(|Change { at, group, wanted }| {
            format!("{} {group} {}>{}", at.as_secs(), wanted.before, wanted.now)
        });
        changes.chain([format!("{} end, {:?}", plan.end.as_secs(), plan.most())]).collect()
    }

    #[test]
    fn tasks_that_end_by_themselves_only_come() {
        let all = ["0 0 0>2", "10 1 0>1", "20 0 2>3", "220 end, Some((0, 3))"];
        assert_eq!(planned(Ends::Itself, 1), all);
        let all = ["0 0 0>2", "1 1 0>1", "2 0 2>3", "202 end, Some((0, 3))"];
        assert_eq!(planned(Ends::Itself, 10), all);
    }

    #[test]
    fn nothing_is_planned_between_two_microseconds() {
        let tasks = [Duration::ZERO, Duration::from_secs(1)].map(|created| Task {
            name: "t".to_owned(),
            role: "ls".parse().unwrap(),
            resources: "cpus:1".parse().unwrap(),
            models: Default::default(),
            created,
            duration: Duration::from_secs(1),
        });
        let load = 3.try_into().unwrap();
        let options = Options { load, tail: Duration::from_nanos(1_500), ..Options::default() };
        let plan = Plan::new(&tasks, &group(&tasks), &[true], Ends::Itself, &options);
        let last = Duration::from_micros(333_333);
        assert_eq!((plan.changes[1].at, plan.end), (last, last + Duration::from_micros(1)));
    }

    #[test]
    fn others_go_when_they_ran_for_as_long_as_in_the_trace() {
        let all =
            ["0 0 0>2", "10 1 0>1", "10 1 1>0", "20 0 2>3", "20 0 3>2", "50 0 2>1", "220 end, Some((0, 3))"];
        assert_eq!(planned(Ends::WhenTold, 1), all);
        let all =
            ["0 0 0>2", "1 1 0>1", "1 1 1>0", "2 0 2>3", "20 0 3>2", "32 0 2>1", "202 end, Some((0, 3))"];
        assert_eq!(planned(Ends::WhenTold, 10), all);
    }
}
