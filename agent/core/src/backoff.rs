//! How long to wait before the next try to reach a master.

use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// While masters answer that they stand by, one of them leads within a few seconds: longer pauses would outlast its election.
const LEADER_PAUSE_MAX: Duration = Duration::from_secs(1);

/// A registration that stood for so long was no failure; one that fell at once is one more.
const STOOD_MIN: Duration = Duration::from_secs(10);

/// The pauses between tries: 100 ms, doubled up to a minute, until a registration has stood for ten seconds.
///
/// The first tries are fast, so that a cluster that starts as a whole is up at once.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    /// How many masters in a row stood by.
    waits: u32,
}

impl Backoff {
    /// How many tries in a row have failed.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The pause after a try whose registration stood for so long (zero: never), between half and all of what it is by rights;
    /// `random`, any number, spreads the agents of a cluster whose master returns.
    pub fn pause(&mut self, stood: Duration, random: u64) -> Duration {
        if stood >= STOOD_MIN {
            self.failures = 0;
        }
        self.waits = 0;
        let whole = doubled(self.failures).min(PAUSE_MAX);
        self.failures = self.failures.saturating_add(1);
        spread(whole, random)
    }

    /// The pause after a try that a master answered which stands by. That is no failure.
    pub fn pause_for_leader(&mut self, random: u64) -> Duration {
        let whole = doubled(self.waits).min(LEADER_PAUSE_MAX);
        self.waits = self.waits.saturating_add(1);
        spread(whole, random)
    }
}

fn doubled(times: u32) -> Duration {
    PAUSE_MIN.saturating_mul(1 << times.min(16))
}

/// Between half and all of it.
fn spread(whole: Duration, random: u64) -> Duration {
    let half = whole / 2;
    half + half.mul_f64((random % 1024) as f64 / 1023.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_bounds_and_are_spread() {
        let after = |failures, random| Backoff { failures, waits: 0 }.pause(Duration::ZERO, random);
        assert_eq!(after(0, 0), Duration::from_millis(50));
        assert_eq!(after(0, 1023), Duration::from_millis(100));
        for failures in 0..100 {
            for random in [0, 1, 511, 1023, u64::MAX] {
                let pause = after(failures, random);
                assert!((PAUSE_MIN / 2..=PAUSE_MAX).contains(&pause), "{failures} {random} {pause:?}");
            }
            assert!(after(failures + 1, 7) >= after(failures, 7));
        }
        assert!(after(u32::MAX, 0) >= PAUSE_MAX / 2);
    }

    #[test]
    fn only_a_registration_that_stood_ends_the_doubling() {
        let mut backoff = Backoff::default();
        let mut pause = |stood_ms| backoff.pause(Duration::from_millis(stood_ms), 1023).as_millis();
        assert_eq!([pause(0), pause(50), pause(9_999), pause(10_000), pause(1)], [100, 200, 400, 100, 200]);
    }

    #[test]
    fn an_election_is_waited_for_with_short_pauses() {
        let mut backoff = Backoff { failures: 9, waits: 0 };
        let pauses: Vec<u128> = (0..6).map(|_| backoff.pause_for_leader(1023).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1000, 1000]);
        assert_eq!((backoff.failures(), backoff.pause_for_leader(0).as_millis()), (9, 500));
        backoff.pause(Duration::ZERO, 0);
        assert_eq!(backoff.pause_for_leader(1023).as_millis(), 100);
    }
}
