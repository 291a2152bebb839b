//! How many calls each principal may still make: a token bucket each, filled as time passes.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::Time;

use crate::config::RateLimit;

/// The buckets of principals that have called.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    buckets: BTreeMap<String, Bucket>,
}

#[derive(Debug)]
struct Bucket {
    /// Millionths of a call.
    micro_calls: u64,
    at: Time,
}

const CALL: u64 = 1_000_000;

impl Rates {
    /// Takes one call from a principal's bucket; else says how long it takes until there is one.
    pub(crate) fn take(&mut self, now: Time, principal: &str, limit: &RateLimit) -> Result<(), Duration> {
        let full = u64::from(limit.capacity.max(1)).saturating_mul(CALL);
        if !self.buckets.contains_key(principal) {
            self.buckets.insert(principal.to_owned(), Bucket { micro_calls: full, at: now });
        }
        let bucket = self.buckets.get_mut(principal).expect("it was just made");
        // A call a second is a millionth of a call a microsecond; the rate is in thousandths of a call a second.
        let elapsed = now.as_micros() - bucket.at.as_micros();
        let gained = u128::from(elapsed) * u128::from(limit.per_second_milli) / 1000;
        // What is less than a millionth is not lost: the time for it counts until it is one.
        if gained > 0 {
            bucket.at = now;
        }
        bucket.micro_calls =
            u64::try_from(gained).unwrap_or(u64::MAX).saturating_add(bucket.micro_calls).min(full);
        match bucket.micro_calls.checked_sub(CALL) {
            Some(left) => {
                bucket.micro_calls = left;
                Ok(())
            }
            None => {
                let missing = CALL - bucket.micro_calls;
                let micros = (u128::from(missing) * 1000).div_ceil(u128::from(limit.per_second_milli.max(1)));
                Err(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_fills_at_its_rate() {
        let limit = RateLimit { per_second_milli: 2000, capacity: 3 };
        let mut rates = Rates::default();
        let at = |ms: u64| Time::from_micros(1_000_000 + ms * 1000);
        assert_eq!(
            (0..3).map(|_| rates.take(at(0), "ann", &limit)).collect::<Result<Vec<_>, _>>().map(|_| ()),
            Ok(())
        );
        assert_eq!(rates.take(at(0), "ann", &limit), Err(Duration::from_millis(500)));
        assert_eq!(rates.take(at(0), "bob", &limit), Ok(()));
        assert_eq!(rates.take(at(400), "ann", &limit), Err(Duration::from_millis(100)));
        assert_eq!(rates.take(at(500), "ann", &limit), Ok(()));
        assert_eq!(rates.take(at(500), "ann", &limit), Err(Duration::from_millis(500)));
        // Never fuller than full.
        assert!((0..3).all(|_| rates.take(at(100_000), "ann", &limit).is_ok()));
        assert!(rates.take(at(100_000), "ann", &limit).is_err());
    }
}
