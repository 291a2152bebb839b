//! What the benchmarks share: medians, and a table that is read in a terminal and pasted into a page.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// How long a call takes, and what it returns.
pub fn timed<T>(call: impl FnOnce() -> T) -> (Duration, T) {
    let start = Instant::now();
    let result = call();
    (start.elapsed(), result)
}

/// How much CPU time a call takes, so that the figures hold on a machine that does other things too; wall time where the
/// kernel does not say.
pub fn cpu_timed<T>(call: impl FnOnce() -> T) -> (Duration, T) {
    let cpu = || {
        // The kernel brings the figure up to date when the thread gives way.
        std::thread::yield_now();
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        Some(Duration::from_nanos(stat.split(' ').next()?.parse().ok()?))
    };
    let before = cpu();
    let (wall, result) = timed(call);
    let spent = before.zip(cpu()).map(|(before, after)| after - before);
    (spent.unwrap_or(wall), result)
}

/// Processor time of this process and of all that it and those below it have waited for; zero where the kernel does not say.
pub fn processor_of_all() -> Duration {
    // The kernel's unit in this file on every architecture that matters here.
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // Behind the name, which may hold anything: user and system time, and both of children.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11).take(4);
    TICK * fields.filter_map(|ticks| ticks.parse::<u32>().ok()).sum::<u32>()
}

/// Bytes of memory that this process holds now; zero where the kernel does not say.
pub fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().split(' ').next()?.parse::<usize>().ok());
    kib.unwrap_or(0) * 1024
}

/// The middle one; the upper of two. Panics when there are none.
pub fn median(mut durations: Vec<Duration>) -> Duration {
    durations.sort();
    durations[durations.len() / 2]
}

/// The smallest that at least so many percent are not above. Panics when there are none.
pub fn percentile(mut durations: Vec<Duration>, percent: usize) -> Duration {
    durations.sort();
    durations[(durations.len() * percent).div_ceil(100).max(1) - 1]
}

/// Milliseconds with three significant digits.
pub fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    match ms {
        _ if ms >= 99.95 => format!("{ms:.0}"),
        _ if ms >= 9.995 => format!("{ms:.1}"),
        _ if ms >= 0.9995 => format!("{ms:.2}"),
        _ => format!("{ms:.4}"),
    }
}

/// Nanoseconds for each of `count`; a dash for none.
pub fn ns_each(duration: Duration, count: usize) -> String {
    match count {
        0 => "-".to_owned(),
        _ => (duration.as_nanos() / count as u128).to_string(),
    }
}

/// Columns with headings; each printed as wide as its widest cell, as a Markdown table.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings and no rows.
    pub fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row; it has as many cells as there are headings.
    pub fn row(&mut self, cells: Vec<String>) {
        assert_eq!(cells.len(), self.rows[0].len(), "each column has a cell");
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths: Vec<usize> = (0..self.rows[0].len())
            .map(|column| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
            .collect();
        for (index, row) in self.rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:>width$} ")?;
            }
            writeln!(f, "|")?;
            if index == 0 {
                for width in &widths {
                    write!(f, "|{:->width$}:", "", width = width + 1)?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let mut table = Table::new(&["a", "long"]);
        table.row(vec!["100".to_owned(), "é".to_owned()]);
        assert_eq!(table.to_string(), "|   a | long |\n|----:|-----:|\n| 100 |    é |\n");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        let all = [5, 1, 3].map(Duration::from_secs);
        assert_eq!(median(all.to_vec()), all[2]);
        assert_eq!(percentile(all.to_vec(), 50), all[2]);
        assert_eq!(percentile(all.to_vec(), 99), all[0]);
        assert_eq!(ms(Duration::from_micros(1234)), "1.23");
        assert_eq!(ns_each(Duration::from_micros(3), 2), "1500");
    }
}
