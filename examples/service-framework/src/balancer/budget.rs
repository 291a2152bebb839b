//! How many retries there may be: a share of the requests of the last ten seconds, as in Finagle and linkerd.
//!
//! A fixed number of attempts for each request multiplies the load exactly when replicas have too much of it. A share adds no
//! more than that share, whatever happens.

/// Over how many seconds requests and retries are weighed.
const WINDOW_SECONDS: usize = 10;

/// In thousandths of a retry, so that sums of a ratio are exact.
const RETRY: i64 = 1000;

/// What may still be sent again. Time comes in, in seconds of any clock that does not go back.
#[derive(Debug)]
pub struct Budget {
    ratio_milli: i64,
    reserve_milli: i64,
    /// What each of the last seconds brought or cost.
    seconds: [i64; WINDOW_SECONDS],
    newest: u64,
}

impl Budget {
    /// For each request `ratio` of a retry, and `min_per_second` in any case.
    pub fn new(ratio: f64, min_per_second: u32) -> Self {
        Self {
            ratio_milli: (ratio * RETRY as f64) as i64,
            reserve_milli: i64::from(min_per_second) * RETRY * WINDOW_SECONDS as i64,
            seconds: [0; WINDOW_SECONDS],
            newest: 0,
        }
    }

    /// A request came.
    pub fn deposit(&mut self, now: u64) {
        *self.second(now) += self.ratio_milli;
    }

    /// Takes a retry, when there is one.
    pub fn withdraw(&mut self, now: u64) -> bool {
        self.second(now);
        let left: i64 = self.reserve_milli + self.seconds.iter().sum::<i64>();
        if left < RETRY {
            return false;
        }
        *self.second(now) -= RETRY;
        true
    }

    /// The slot of this second; those of seconds that are too long ago begin anew.
    fn second(&mut self, now: u64) -> &mut i64 {
        let passed = now.saturating_sub(self.newest).min(WINDOW_SECONDS as u64);
        for step in 1..=passed {
            self.seconds[((self.newest + step) % WINDOW_SECONDS as u64) as usize] = 0;
        }
        // After a longer pause every slot is 0, so which of them is the newest does not matter.
        self.newest = self.newest.max(now);
        &mut self.seconds[(self.newest % WINDOW_SECONDS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_fifth_of_the_requests_is_sent_again() {
        let mut budget = Budget::new(0.2, 0);
        assert!(!budget.withdraw(100), "nothing came yet");
        for _ in 0..50 {
            budget.deposit(100);
        }
        assert_eq!((0..50).filter(|_| budget.withdraw(101)).count(), 10);
    }

    #[test]
    fn requests_are_forgotten() {
        let mut budget = Budget::new(1.0, 0);
        budget.deposit(5);
        assert!(!budget.withdraw(15));
        budget.deposit(20);
        assert!(budget.withdraw(29));
    }

    #[test]
    fn few_requests_have_a_reserve() {
        let mut budget = Budget::new(0.2, 1);
        assert_eq!((0..50).filter(|_| budget.withdraw(7)).count(), 10);
        assert_eq!((0..50).filter(|_| budget.withdraw(17)).count(), 10, "it is back after ten seconds");
    }

    proptest! {
        /// Over any ten seconds there are at most as many retries as ratio and reserve give for twice that time.
        #[test]
        fn never_more_than_the_share(steps in proptest::collection::vec((0u64..3, any::<bool>()), 1..400)) {
            let mut budget = Budget::new(0.5, 1);
            let (mut now, mut requests, mut retries) = (0, 0i64, 0i64);
            for (pause, request) in steps {
                now += pause;
                if request {
                    budget.deposit(now);
                    requests += 1;
                } else if budget.withdraw(now) {
                    retries += 1;
                }
                let reserve = (now as i64 / WINDOW_SECONDS as i64 + 1) * 2 * WINDOW_SECONDS as i64;
                prop_assert!(retries <= requests / 2 + reserve + 1);
            }
        }
    }
}
