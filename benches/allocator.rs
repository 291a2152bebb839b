//! The allocator alone, in the shapes and brackets of Mesos' own benchmarks of its allocator, beside Mesos' figures.
//!
//! `cargo bench -p apportion-benches --bench allocator -- [--quick] [--quotas | AGENTSxFRAMEWORKS …]`; with `--quotas` only what has sizes
//! of its own: quotas, mixed frameworks, memory.
//!
//! Each row is one bracket: what its timer covers stands at its function. Processor time, medians.

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

#[path = "allocator/brackets.rs"]
mod brackets;
#[path = "allocator/cluster.rs"]
mod cluster;
#[path = "allocator/memory.rs"]
mod memory;
#[path = "allocator/mesos.rs"]
mod mesos;
#[path = "allocator/mixed.rs"]
mod mixed;
#[path = "allocator/quota.rs"]
mod quota;

use std::time::Duration;

use apportion_benches::{Table, median, ns_each};

const SIZES: [(usize, usize); 8] = [
    (1_000, 50),
    (1_000, 1_000),
    (10_000, 1),
    (10_000, 50),
    (10_000, 200),
    (10_000, 1_000),
    (50_000, 1_000),
    (50_000, 6_000),
];
const QUICK: [(usize, usize); 2] = [(1_000, 50), (1_000, 1_000)];

/// How often each shape is built and measured.
const RUNS: usize = 3;

/// What one bracket took each time, and how many offers it made.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    bracket: &'static str,
    size: (usize, usize),
    offers: usize,
    took: Vec<Duration>,
}

/// Rows by bracket and size, in the order in which they first came.
#[derive(Debug, Default)]
pub(crate) struct Rows(Vec<Row>);

impl Rows {
    pub(crate) fn note(
        &mut self,
        bracket: &'static str,
        size: (usize, usize),
        offers: usize,
        took: Duration,
    ) {
        match self.0.iter_mut().find(|row| (row.bracket, row.size) == (bracket, size)) {
            Some(row) => row.took.push(took),
            None => self.0.push(Row { bracket, size, offers, took: vec![took] }),
        }
    }

    fn table(self) -> Table {
        let headings =
            ["bracket", "agents", "frameworks", "offers", "Mesos ms", "ours ms", "times faster", "ns/offer"];
        let mut table = Table::new(&headings);
        for Row { bracket, size, offers, took } in self.0 {
            let ours = median(took);
            let theirs = mesos::median_ms(bracket, size);
            let ratio = theirs.map(|theirs| theirs / (ours.as_secs_f64() * 1e3));
            table.row(vec![
                bracket.to_owned(),
                size.0.to_string(),
                size.1.to_string(),
                offers.to_string(),
                theirs.map_or("-".to_owned(), |theirs| theirs.to_string()),
                digits(ours.as_secs_f64() * 1e3),
                ratio.map_or("-".to_owned(), times),
                ns_each(ours, offers),
            ]);
        }
        table
    }
}

/// At least two significant ones, however small it is.
fn digits(number: f64) -> String {
    match number {
        _ if number >= 99.5 => format!("{number:.0}"),
        _ if number >= 9.95 => format!("{number:.1}"),
        _ if number >= 0.995 => format!("{number:.2}"),
        _ if number >= 0.00095 => format!("{number:.4}"),
        _ => format!("{number:.6}"),
    }
}

/// How many times faster; beyond a million, that one looks at nothing where the other looks at everything.
fn times(ratio: f64) -> String {
    if ratio > 1e6 { "> 1000000".to_owned() } else { digits(ratio) }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == memory::ARGUMENT) {
        memory::fill();
        return;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let named: Vec<(usize, usize)> = arguments
        .iter()
        .filter_map(|argument| argument.split_once('x'))
        .filter_map(|(agents, frameworks)| Some((agents.parse().ok()?, frameworks.parse().ok()?)))
        .collect();
    let only_quotas = arguments.iter().any(|argument| argument == "--quotas");
    let sizes = match () {
        () if only_quotas => Vec::new(),
        () if !named.is_empty() => named.clone(),
        () if quick => QUICK.to_vec(),
        () => SIZES.to_vec(),
    };
    let (runs, mut rows) = (if quick { 1 } else { RUNS }, Rows::default());
    for size in sizes {
        for _ in 0..runs {
            brackets::all(size, &mut rows);
        }
    }
    if named.is_empty() {
        for _ in 0..runs {
            quota::all(quick, &mut rows);
            mixed::all(&mut rows);
        }
    }
    println!(
        "Processor time of one thread, medians of {runs} runs or more. Mesos: apache/mesos c1b42f79, -O2, medians of the same"
    );
    println!("brackets on two Xeon processors, processor time where it was taken, not in this run.\n");
    println!("{}", rows.table());
    if named.is_empty() {
        println!("{}", memory::report(quick));
    }
}
