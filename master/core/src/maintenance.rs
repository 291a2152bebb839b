//! What is planned of maintenance, and what an operator may make of it. Machines are known by their names alone: whether any agent is there is
//! nothing to the plan.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{MachineId, MachineMode, Time, Unavailability, Window, limits};

use crate::action::OperatorError;

/// The schedule, and the machines that are down.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Maintenance {
    /// As the operator gave it.
    pub windows: Vec<Window>,
    /// Machines whose maintenance was started; each is in a window.
    pub down: BTreeSet<MachineId>,
}

impl Maintenance {
    /// True when nothing is planned.
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty() && self.down.is_empty()
    }

    /// How a machine stands.
    pub fn mode(&self, machine: &MachineId) -> MachineMode {
        if self.down.contains(machine) {
            MachineMode::Down
        } else if self.windows.iter().any(|window| window.machines.contains(machine)) {
            MachineMode::Draining
        } else {
            MachineMode::Up
        }
    }

    /// The windows of every machine that has any, the next one first.
    pub fn by_machine(&self) -> BTreeMap<MachineId, Vec<Unavailability>> {
        let mut machines: BTreeMap<MachineId, Vec<Unavailability>> = BTreeMap::new();
        for window in &self.windows {
            for machine in &window.machines {
                machines.entry(machine.clone()).or_default().push(window.unavailability);
            }
        }
        machines.values_mut().for_each(|windows| windows.sort());
        machines
    }

    /// The same without windows that are over. Those of machines that are down stay: their maintenance ends when the operator says so.
    pub(crate) fn without_past(&self, now: Time) -> Self {
        let mut rest = self.clone();
        for window in &mut rest.windows {
            if window.unavailability.is_over(now) {
                window.machines.retain(|machine| self.down.contains(machine));
            }
        }
        rest.windows.retain(|window| !window.machines.is_empty());
        rest
    }

    /// When the next window is over, of those that end by themselves.
    pub(crate) fn next_end(&self) -> Option<Time> {
        let open = |window: &&Window| window.machines.iter().any(|machine| !self.down.contains(machine));
        self.windows.iter().filter(open).filter_map(|window| window.unavailability.end()).min()
    }

    /// Replaces the whole schedule.
    pub(crate) fn with_schedule(&self, windows: Vec<Window>, now: Time) -> Result<Self, OperatorError> {
        let next = Self { windows, down: self.down.clone() };
        next.judge_form().map_err(|why| OperatorError::Invalid { why })?;
        for (at, window) in next.windows.iter().enumerate() {
            let all_down = window.machines.iter().all(|machine| self.down.contains(machine));
            if window.unavailability.is_over(now) && !all_down {
                let why = format!(
                    "{} is over already; give it a later start or a longer duration, or leave it out",
                    next.name(at)
                );
                return Err(OperatorError::Invalid { why });
            }
        }
        let planned: BTreeSet<&MachineId> = next.windows.iter().flat_map(|window| &window.machines).collect();
        if let Some(machine) = self.down.iter().find(|machine| !planned.contains(machine)) {
            let why = format!(
                "machine `{machine}` is down and in no window of the new schedule; end its maintenance first, with `apportion \
                 maintenance stop {machine}`, or keep its window"
            );
            return Err(OperatorError::Conflict { why });
        }
        Ok(next)
    }

    /// Takes machines down, all or none.
    pub(crate) fn with_started(&self, machines: &BTreeSet<MachineId>) -> Result<Self, OperatorError> {
        let mut next = self.clone();
        for machine in machines {
            let why = match self.mode(machine) {
                MachineMode::Draining => {
                    next.down.insert(machine.clone());
                    continue;
                }
                MachineMode::Down => format!(
                    "machine `{machine}` is down already; `apportion maintenance stop {machine}` ends its maintenance"
                ),
                MachineMode::Up => format!(
                    "machine `{machine}` has no window; plan one first, with `apportion maintenance schedule`"
                ),
            };
            return Err(OperatorError::Conflict { why });
        }
        Ok(next)
    }

    /// Lets machines be up again, all or none. The window that this ends goes, and each that has begun; later ones stay planned.
    pub(crate) fn with_stopped(
        &self,
        machines: &BTreeSet<MachineId>,
        now: Time,
    ) -> Result<Self, OperatorError> {
        let mut next = self.clone();
        let planned = self.by_machine();
        for machine in machines {
            if !next.down.remove(machine) {
                let why = format!(
                    "machine `{machine}` is not down; to give its window up, replace the schedule, with `apportion maintenance \
                     schedule`"
                );
                return Err(OperatorError::Conflict { why });
            }
            let first = planned.get(machine).and_then(|windows| windows.first());
            let ends = |unavailability: &Unavailability| {
                unavailability.start <= now || Some(unavailability) == first
            };
            for window in next.windows.iter_mut().filter(|window| ends(&window.unavailability)) {
                window.machines.remove(machine);
            }
        }
        next.windows.retain(|window| !window.machines.is_empty());
        Ok(next)
    }

    /// Why this can be in no registry, if so.
    pub(crate) fn judge(&self) -> Result<(), String> {
        self.judge_form()?;
        let planned: BTreeSet<&MachineId> = self.windows.iter().flat_map(|window| &window.machines).collect();
        match self.down.iter().find(|machine| !planned.contains(machine)) {
            Some(machine) => Err(format!("machine `{machine}` is down and in no window")),
            None => Ok(()),
        }
    }

    /// Judges what does not depend on the time.
    fn judge_form(&self) -> Result<(), String> {
        if self.windows.len() > limits::MAINTENANCE_WINDOWS_MAX {
            let (count, most) = (self.windows.len(), limits::MAINTENANCE_WINDOWS_MAX);
            return Err(format!(
                "the schedule has {count} windows; at most {most} are allowed: machines of the same time can share one"
            ));
        }
        let machines = || self.windows.iter().flat_map(|window| &window.machines);
        let (count, bytes) =
            machines().fold((0, 0), |(count, bytes), machine| (count + 1, bytes + machine.as_str().len()));
        if count > limits::MAINTENANCE_MACHINES_MAX || bytes > limits::MAINTENANCE_BYTES_MAX {
            let (most, bytes_max) = (limits::MAINTENANCE_MACHINES_MAX, limits::MAINTENANCE_BYTES_MAX);
            return Err(format!(
                "the schedule names {count} machines in {bytes} bytes; at most {most} in {bytes_max} are allowed"
            ));
        }
        if let Some(at) = self.windows.iter().position(|window| window.machines.is_empty()) {
            return Err(format!("window {} names no machine; name one, or leave it out", at + 1));
        }
        let mut order: Vec<(&MachineId, Unavailability, usize)> = Vec::new();
        for (at, window) in self.windows.iter().enumerate() {
            order.extend(window.machines.iter().map(|machine| (machine, window.unavailability, at)));
        }
        order.sort();
        // In order of their starts it is one that follows which overlaps, if any does.
        for pair in order.windows(2) {
            let ((machine, one, at), (other, two, later)) = (pair[0], pair[1]);
            if machine == other && one.overlaps(&two) {
                return Err(format!(
                    "{} and {} overlap for machine `{machine}`; make one window of them, or let the first end before the second starts",
                    self.name(at.min(later)),
                    self.name(at.max(later)),
                ));
            }
        }
        Ok(())
    }

    /// A window, for people.
    fn name(&self, at: usize) -> String {
        let machines = &self.windows[at].machines;
        let first = machines.first().map_or("nothing", MachineId::as_str);
        match machines.len() {
            0 | 1 => format!("window {} (of {first})", at + 1),
            more => format!("window {} (of {first} and {} more)", at + 1, more - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn machine(name: &str) -> MachineId {
        name.parse().unwrap()
    }

    fn window(machines: &[&str], start: u64, seconds: Option<u64>) -> Window {
        let unavailability = Unavailability {
            start: Time::from_micros(start * 1_000_000),
            duration: seconds.map(Duration::from_secs),
        };
        Window { machines: machines.iter().map(|name| machine(name)).collect(), unavailability }
    }

    fn names(names: &[&str]) -> BTreeSet<MachineId> {
        names.iter().map(|name| machine(name)).collect()
    }

    const NOW: Time = Time::from_micros(100_000_000);

    #[test]
    fn windows_of_one_machine_may_follow_each_other_and_not_overlap() {
        let none = Maintenance::default();
        let good = vec![window(&["a", "b"], 200, Some(10)), window(&["a"], 210, None)];
        let planned = none.with_schedule(good, NOW).unwrap();
        assert_eq!(planned.by_machine()[&machine("a")].len(), 2);
        let bad = vec![window(&["x"], 0, None), window(&["a"], 300, None), window(&["b", "a"], 200, None)];
        let why = none.with_schedule(bad, NOW).unwrap_err().to_string();
        assert!(why.contains("window 2 (of a)") && why.contains("window 3 (of a and 1 more)"), "{why}");
        assert!(why.contains("machine `a`"), "{why}");
    }

    #[test]
    fn a_window_that_is_over_is_refused_but_of_machines_that_are_down() {
        let none = Maintenance::default();
        let past = vec![window(&["a"], 50, Some(10))];
        let why = none.with_schedule(past.clone(), NOW).unwrap_err().to_string();
        assert!(why.contains("window 1 (of a) is over already"), "{why}");
        let early = Maintenance { windows: past.clone(), down: BTreeSet::new() };
        let down = early.with_started(&names(&["a"])).unwrap();
        assert_eq!(down.with_schedule(past, NOW).unwrap(), down);
        assert_eq!(down.without_past(NOW), down);
        assert_eq!(early.without_past(NOW), none);
        let why = down.with_schedule(Vec::new(), NOW).unwrap_err().to_string();
        assert!(why.contains("machine `a` is down") && why.contains("maintenance stop a"), "{why}");
    }

    #[test]
    fn a_machine_goes_down_by_its_window_and_comes_up_without_it() {
        let none = Maintenance::default();
        let planned = none
            .with_schedule(vec![window(&["a", "b"], 90, Some(100)), window(&["a"], 300, None)], NOW)
            .unwrap();
        assert!(planned.with_started(&names(&["a", "c"])).is_err(), "c has no window");
        let down = planned.with_started(&names(&["a"])).unwrap();
        assert_eq!(
            (down.mode(&machine("a")), down.mode(&machine("b"))),
            (MachineMode::Down, MachineMode::Draining)
        );
        assert!(
            down.with_started(&names(&["a"])).is_err() && down.with_stopped(&names(&["b"]), NOW).is_err()
        );
        let up = down.with_stopped(&names(&["a"]), NOW).unwrap();
        assert_eq!(up.by_machine()[&machine("a")], [window(&["a"], 300, None).unavailability]);
        assert_eq!(up.by_machine()[&machine("b")].len(), 1);
        // Taken down before its window began, it ends that one all the same.
        let early = up.with_started(&names(&["a"])).unwrap().with_stopped(&names(&["a"]), NOW).unwrap();
        assert_eq!(early.mode(&machine("a")), MachineMode::Up);
    }

    #[test]
    fn the_next_end_is_that_of_a_window_that_ends_by_itself() {
        let planned = Maintenance {
            windows: vec![
                window(&["a"], 90, Some(20)),
                window(&["b"], 90, Some(50)),
                window(&["c"], 0, None),
            ],
            down: names(&["a"]),
        };
        assert_eq!(planned.next_end(), Some(Time::from_micros(140_000_000)));
        assert_eq!(planned.judge(), Ok(()));
        assert!(Maintenance { windows: Vec::new(), down: names(&["a"]) }.judge().is_err());
    }
}
