//! How long to wait before the next try to reach a master.

use std::time::Duration;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The pause before the `attempt`th try in a row (from 0), between half and all of 100 ms, doubled each time up to a minute.
///
/// The first tries are fast, so that a cluster that starts as a whole is up at once; `random`, any number, spreads the agents of a
/// cluster whose master returns.
pub fn reconnect_pause(attempt: u32, random: u64) -> Duration {
    let whole = PAUSE_MIN.saturating_mul(1 << attempt.min(16)).min(PAUSE_MAX);
    let half = whole / 2;
    half + half.mul_f64((random % 1024) as f64 / 1023.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_within_bounds_and_are_spread() {
        assert_eq!(reconnect_pause(0, 0), Duration::from_millis(50));
        assert_eq!(reconnect_pause(0, 1023), Duration::from_millis(100));
        for attempt in 0..100 {
            for random in [0, 1, 511, 1023, u64::MAX] {
                let pause = reconnect_pause(attempt, random);
                assert!((PAUSE_MIN / 2..=PAUSE_MAX).contains(&pause), "{attempt} {random} {pause:?}");
            }
            assert!(reconnect_pause(attempt + 1, 7) >= reconnect_pause(attempt, 7));
        }
        assert!(reconnect_pause(u32::MAX, 0) >= PAUSE_MAX / 2);
    }
}
