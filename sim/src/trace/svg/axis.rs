//! Round numbers for the marks of an axis.

/// From 0 to `end` with marks at equal steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Axis {
    /// Where the axis ends; positive.
    pub(super) end: u64,
    /// Where its marks are, and what is written there.
    pub(super) marks: Vec<(u64, String)>,
}

/// The most steps between marks.
const STEPS_MAX: u64 = 6;

/// Units of time, in microseconds, and how many of each people count at once.
const TIME_UNITS: [(u64, &str, &[u64]); 5] = [
    (1000, "ms", &[1, 2, 5, 10, 20, 50, 100, 200, 500]),
    (1_000_000, "s", &[1, 2, 5, 10, 15, 30]),
    (60_000_000, "min", &[1, 2, 5, 10, 15, 30]),
    (3_600_000_000, "h", &[1, 2, 3, 6, 12]),
    (86_400_000_000, "d", &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000]),
];

impl Axis {
    /// Of time, as long as it was.
    pub(super) fn time(end_us: u64) -> Axis {
        let end = end_us.max(1);
        let all = TIME_UNITS
            .iter()
            .flat_map(|(unit, name, counts)| counts.iter().map(move |count| (*unit, *name, *count)));
        let fitting = all.filter(|(unit, _, count)| end / (unit * count) <= STEPS_MAX);
        let (unit, name, count) = fitting.min_by_key(|(unit, _, count)| unit * count).unwrap_or((end, "", 1));
        let marks =
            (0..=end / (unit * count)).map(|step| (step * unit * count, format!("{} {name}", step * count)));
        Axis { end, marks: marks.collect() }
    }

    /// Of shares in millionths, with the next round percentage above the largest at its end.
    pub(super) fn share(largest_ppm: u64) -> Axis {
        // Hundredths of a percent are as fine as anyone reads.
        Axis::round(largest_ppm, 100, |ppm| format!("{} %", decimal(ppm, 10_000)))
    }

    /// Of things counted in thousandths, with the next round number above the largest at its end.
    pub(super) fn count(largest_milli: u64) -> Axis {
        Axis::round(largest_milli, 1000, |milli| grouped(milli / 1000))
    }

    /// Steps of 1, 2 or 5 times a power of ten of `finest`.
    fn round(largest: u64, finest: u64, label: impl Fn(u64) -> String) -> Axis {
        // Beyond that only the last mark is wrong, and nothing that is counted comes near.
        let largest = largest.min(u64::MAX / 16);
        let decades = std::iter::successors(Some(finest), |decade| decade.checked_mul(10));
        let mut steps = decades.flat_map(|decade| [1, 2, 5].map(|digit| decade.saturating_mul(digit)));
        let step =
            steps.find(|step| largest.div_ceil(*step) <= STEPS_MAX).expect("some step is large enough");
        let end = largest.div_ceil(step).max(1);
        Axis { end: step * end, marks: (0..=end).map(|mark| (mark * step, label(mark * step))).collect() }
    }

    /// Where a value lies on the axis: 0 at its start, 1 at its end.
    pub(super) fn place(&self, value: u64) -> f64 {
        value as f64 / self.end as f64
    }
}

/// `number / one` with as many decimals as it needs, of the two that are told.
fn decimal(number: u64, one: u64) -> String {
    let text = format!("{}.{:02}", number / one, number % one * 100 / one);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// `12,345`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(axis: &Axis) -> String {
        let labels: Vec<_> = axis.marks.iter().map(|(_, label)| label.as_str()).collect();
        labels.join(" | ")
    }

    #[test]
    fn times_are_marked_as_people_count_them() {
        for (end_us, marks) in [
            (0, "0 ms"),
            (6_500, "0 ms | 1 ms | 2 ms | 3 ms | 4 ms | 5 ms | 6 ms"),
            (60_000_000, "0 s | 10 s | 20 s | 30 s | 40 s | 50 s | 60 s"),
            (3_599_000_000, "0 min | 10 min | 20 min | 30 min | 40 min | 50 min"),
            (86_400_000_000, "0 h | 6 h | 12 h | 18 h | 24 h"),
            (12_902_960_000_000, "0 d | 50 d | 100 d"),
        ] {
            let axis = Axis::time(end_us);
            assert_eq!((shown(&axis).as_str(), axis.end), (marks, end_us.max(1)));
        }
        assert!(Axis::time(u64::MAX).marks.len() < 1000, "a mark for each of the longest steps");
    }

    #[test]
    fn values_end_at_a_round_number_above_the_largest() {
        for (ppm, marks) in [
            (0, "0 % | 0.01 %"),
            (7_300, "0 % | 0.2 % | 0.4 % | 0.6 % | 0.8 %"),
            (1_000_000, "0 % | 20 % | 40 % | 60 % | 80 % | 100 %"),
            (1_210_000, "0 % | 50 % | 100 % | 150 %"),
        ] {
            assert_eq!(shown(&Axis::share(ppm)), marks);
        }
        assert_eq!(shown(&Axis::count(1)), "0 | 1");
        assert_eq!(shown(&Axis::count(8_152_000)), "0 | 2,000 | 4,000 | 6,000 | 8,000 | 10,000");
        let axis = Axis::count(3_000);
        assert_eq!((axis.end, axis.place(1_500)), (3_000, 0.5));
        assert!(Axis::count(u64::MAX).marks.len() <= 8);
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1000, 1_234_567].map(grouped)[..]);
    }
}
