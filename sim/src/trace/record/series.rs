//! Levels that change at any time, kept as their means over so many equal stretches of it.

/// The integrals of some levels over equal stretches of time. When the stretches become too many, each two become one, so that
/// neither the length of the whole nor the number of changes need be known in advance.
#[derive(Debug, Clone)]
pub(super) struct Series {
    step: u64,
    stretches_max: usize,
    /// For each stretch, level × time of each.
    stretches: Vec<Vec<u128>>,
    end: u64,
}

impl Series {
    /// Of stretches of `step` at first, and never more of them than `stretches_max`, which is even.
    pub(super) fn new(step: u64, stretches_max: usize) -> Self {
        assert!(
            step > 0 && stretches_max > 0 && stretches_max.is_multiple_of(2),
            "stretches are joined by twos"
        );
        Self { step, stretches_max, stretches: Vec::new(), end: 0 }
    }

    /// The levels were these from where the series ends until `until`. They are as many every time.
    pub(super) fn extend(&mut self, until: u64, levels: &[u64]) {
        while self.end < until {
            if self.end == self.step * self.stretches.len() as u64 {
                self.begin(levels.len());
            }
            let stretch_end = self.step * self.stretches.len() as u64;
            let to = until.min(stretch_end);
            let last = self.stretches.last_mut().expect("one was begun");
            assert_eq!(last.len(), levels.len(), "levels are as many every time");
            for (sum, level) in last.iter_mut().zip(levels) {
                *sum += u128::from(*level) * u128::from(to - self.end);
            }
            self.end = to;
        }
    }

    fn begin(&mut self, levels: usize) {
        if self.stretches.len() == self.stretches_max {
            let joined = self.stretches.chunks_exact(2).map(|two| {
                let (first, second) = (&two[0], &two[1]);
                first.iter().zip(second).map(|(a, b)| a + b).collect()
            });
            self.stretches = joined.collect();
            self.step *= 2;
        }
        self.stretches.push(vec![0; levels]);
    }

    /// How long each stretch is; the last may be cut short by the end.
    pub(super) fn step(&self) -> u64 {
        self.step
    }

    /// The means of one of the levels, rounded down.
    pub(super) fn means(&self, level: usize) -> Vec<u64> {
        let begins = (0..).map(|index: u64| index * self.step);
        let means = self.stretches.iter().zip(begins).map(|(stretch, begin)| {
            let length = self.step.min(self.end - begin);
            mean(stretch[level], length)
        });
        means.collect()
    }

    /// The mean of one of the levels over all, rounded down; 0 when nothing was.
    pub(super) fn mean(&self, level: usize) -> u64 {
        mean(self.stretches.iter().map(|stretch| stretch[level]).sum(), self.end)
    }
}

/// What a level was in the mean, when it adds up to `integral` over so long; 0 when that was no time.
pub(super) fn mean(integral: u128, length: u64) -> u64 {
    let mean = integral.checked_div(u128::from(length)).unwrap_or(0);
    u64::try_from(mean).expect("a mean is at most the largest of its levels")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn stretches_hold_means_and_are_joined_when_they_are_too_many() {
        let mut series = Series::new(10, 4);
        series.extend(0, &[9, 9]);
        assert_eq!((series.means(0), series.mean(0)), (vec![], 0));
        series.extend(5, &[100, 1]);
        series.extend(25, &[0, 2]);
        assert_eq!((series.means(0), series.means(1)), (vec![50, 0, 0], vec![1, 2, 2]));
        series.extend(40, &[20, 2]);
        assert_eq!((series.step(), series.means(0)), (10, vec![50, 0, 10, 20]));
        series.extend(41, &[7, 2]);
        assert_eq!((series.step(), series.means(0)), (20, vec![25, 15, 7]));
        assert_eq!(series.mean(0), (500 + 100 + 200 + 7) / 41);
        series.extend(1000, &[7, 2]);
        assert_eq!((series.step(), series.means(1).len()), (320, 4));
    }

    proptest! {
        #[test]
        fn nothing_is_lost_by_joining(changes in prop::collection::vec((0..1000u64, 0..1_000_000u64), 1..60)) {
            let mut series = Series::new(1, 6);
            let (mut now, mut integral) = (0, 0u128);
            for (length, level) in changes {
                now += length;
                integral += u128::from(length * level);
                series.extend(now, &[level]);
                prop_assert!(series.means(0).len() <= 6);
            }
            prop_assert_eq!(series.mean(0), mean(integral, now));
            prop_assert!(series.means(0).len() as u64 == now.div_ceil(series.step()));
        }
    }
}
