//! The questions that are asked of a running task, and how far each is.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::probe::{Probe, Schedule, Supervision};

use crate::{container::ContainerId, event::ProbeKind};

/// How far one question is.
#[derive(Debug, Default)]
pub(crate) struct Probing {
    /// The number of the probe that is under way.
    pub(crate) asked: Option<u64>,
    /// How many answers in a row were bad and count.
    pub(crate) failures: u32,
    /// What was heard last, for people.
    pub(crate) heard: String,
}

/// The questions of one task that is not asked to end.
pub(crate) type Probings = BTreeMap<ProbeKind, Probing>;

/// What is asked of a task, and when.
pub(crate) fn questions(supervision: &Supervision) -> impl Iterator<Item = (ProbeKind, &Probe, Schedule)> {
    let health =
        supervision.health_check.iter().map(|check| (ProbeKind::Health, &check.probe, check.schedule));
    let check = supervision.check.iter().map(|check| (ProbeKind::Check, &check.probe, check.schedule));
    health.chain(check)
}

/// A part of `span`, the same for the same container, such that those of containers that follow each other lie apart: what begins at
/// once for a thousand tasks is not asked of all at once.
pub(crate) fn spread(container_id: &ContainerId, span: Duration) -> Duration {
    let (incarnation, sequence) = container_id.age().unwrap_or_default();
    // Steps of the golden ratio: whatever the number of containers, they are nearly even.
    let step = (incarnation.wrapping_add(sequence) as u32).wrapping_mul(0x9e37_79b9);
    span.mul_f64(f64::from(step) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_tasks_are_spread_evenly() {
        let mut tenths = [0; 10];
        for sequence in 0..1000 {
            let part = spread(&ContainerId::new(7, sequence), Duration::from_secs(10));
            tenths[(part.as_millis() / 1000).min(9) as usize] += 1;
        }
        assert!(tenths.iter().all(|tenth| (90..=110).contains(tenth)), "{tenths:?}");
    }
}
