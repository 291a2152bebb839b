//! What a process takes for the time.

use std::time::Duration;

use apportion_types::Time;

/// When a simulation begins, on the true clock.
pub(crate) const START: Time = Time::from_micros(1_000_000_000_000_000);

/// A clock that is wrong by an offset, and goes too fast or too slow; it never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    /// Microseconds.
    offset: i64,
    /// Parts in a million.
    drift: i64,
}

impl Clock {
    pub(crate) const TRUE: Clock = Clock { offset: 0, drift: 0 };

    /// A clock that is wrong by up to so much, and by up to a thousandth too fast or too slow.
    pub(crate) fn skewed(rng: &mut fastrand::Rng, skew_max: Duration) -> Self {
        let most =
            i64::try_from(skew_max.as_micros()).unwrap_or(i64::MAX / 2).min(START.as_micros() as i64 / 2);
        if most == 0 {
            return Clock::TRUE;
        }
        Clock { offset: rng.i64(-most..=most), drift: rng.i64(-1_000..=1_000) }
    }

    /// What it shows at a true time.
    pub(crate) fn shows(self, at: Time) -> Time {
        if self == Clock::TRUE {
            return at;
        }
        let elapsed = i128::from(at.as_micros()) - i128::from(START.as_micros());
        let drifted = elapsed + (elapsed * i128::from(self.drift)).div_euclid(1_000_000);
        let shown = i128::from(START.as_micros()) + i128::from(self.offset) + drifted;
        Time::from_micros(u64::try_from(shown.max(0)).unwrap_or(u64::MAX))
    }

    /// The first true time at which it shows this, or later.
    pub(crate) fn when_it_shows(self, shown: Time) -> Time {
        if self == Clock::TRUE {
            return shown;
        }
        let wanted = i128::from(shown.as_micros()) - i128::from(START.as_micros()) - i128::from(self.offset);
        let elapsed = (wanted * 1_000_000).div_euclid(1_000_000 + i128::from(self.drift));
        let at = |elapsed: i128| {
            let at = i128::from(START.as_micros()) + elapsed;
            Time::from_micros(u64::try_from(at.max(0)).unwrap_or(u64::MAX))
        };
        // Rounding leaves it at most a few microseconds early.
        (elapsed..=elapsed + 3).map(at).find(|at| self.shows(*at) >= shown).unwrap_or_else(|| at(elapsed + 4))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_when_it_is_said_to_and_not_before() {
        let mut rng = crate::random::stream(1, 1);
        for _ in 0..2_000 {
            let clock = Clock::skewed(&mut rng, Duration::from_secs(60));
            let at = START + Duration::from_micros(rng.u64(0..10_000_000_000));
            let shown = clock.shows(at);
            let when = clock.when_it_shows(shown);
            assert!(when <= at && clock.shows(when) >= shown, "{clock:?} at {at}: {shown}, {when}");
            assert!(clock.shows(Time::from_micros(when.as_micros() - 1)) < shown, "{clock:?} at {at}");
        }
    }
}
