//! A replay for people: `-o json` has all of it, and the picture how it went.

use std::time::Duration;

use apportion_sim::trace::{Level, PerKind, Progress, Report, Waits};

use crate::{
    sim::pace,
    table::{Table, span},
};

/// How far a replay is.
pub(super) fn line(far: Progress) -> String {
    let tasks = far.tasks;
    format!(
        "{} in: {} running, {} waiting, {} finished",
        span(far.simulated),
        tasks.running,
        tasks.waiting,
        tasks.finished
    )
}

/// A report.
pub(super) fn text(report: &Report) -> String {
    let (tasks, offers) = (&report.tasks, &report.offers);
    let simulated = Duration::from_micros(report.simulated_us);
    let took = Duration::from_micros(report.wall_us.unwrap_or_default());
    let mut text = format!(
        "{} nodes, {} tasks of {} kinds as {} frameworks, load {}, seed {}\n\
         tasks   {} placed ({} running, {} finished), {} waiting, {} withdrawn, {} fit nowhere\n\
         waited  {}\n\
         offers  {} made, {} accepted, {} declined, {} rescinded\n\
         time    {} in all: {}\n\n",
        report.nodes,
        tasks.total,
        report.groups,
        report.framework,
        report.options.load,
        report.options.seed,
        tasks.placed,
        tasks.running,
        tasks.finished,
        tasks.waiting,
        tasks.withdrawn,
        tasks.rejected,
        waited(report.wait),
        offers.made,
        offers.accepted,
        offers.declined,
        offers.rescinded,
        span(simulated),
        pace(simulated, took),
    );
    let mut kinds = Table::new(&["OF ALL", ">CPUS", ">MEM", ">GPUS"]);
    let mean = |level: Level| level.mean_ppm;
    let peak = |level: Level| level.peak_ppm;
    kinds.row(shares("used, mean", &report.used, mean));
    kinds.row(shares("used, peak", &report.used, peak));
    kinds.row(shares("free and of no use, mean", &report.fragmentation, mean));
    let mut roles = Table::new(&["ROLE", ">TASKS", ">PLACED", ">WAITED, 99%", ">SHARE, MEAN", ">PEAK"]);
    for role in &report.roles {
        roles.row([
            role.role.to_string(),
            role.tasks.total.to_string(),
            role.tasks.placed.to_string(),
            role.wait.map_or_else(|| "-".to_owned(), |wait| wait_text(wait.p99_us)),
            percent(role.dominant_share.mean_ppm),
            percent(role.dominant_share.peak_ppm),
        ]);
    }
    text += &format!("{kinds}\n{roles}");
    if let Some(jain_ppm) = report.fairness.jain_ppm {
        let contended = span(Duration::from_micros(report.fairness.contended_us));
        text += &format!(
            "\nroles competed for {contended}; the evenness of their shares then (Jain) was {:.3} of 1\n",
            jain_ppm as f64 / 1e6
        );
    }
    text
}

fn shares(name: &str, levels: &PerKind<Level>, of: impl Fn(Level) -> u64) -> [String; 4] {
    [name.to_owned(), percent(of(levels.cpus)), percent(of(levels.mem)), percent(of(levels.gpus))]
}

fn waited(wait: Option<Waits>) -> String {
    wait.map_or_else(
        || "nobody was placed".to_owned(),
        |Waits { p50_us, p90_us, p99_us, max_us }| {
            let [p50, p90, p99, max] = [p50_us, p90_us, p99_us, max_us].map(wait_text);
            format!("half at most {p50}, 90% {p90}, 99% {p99}, all {max}")
        },
    )
}

/// Milliseconds where they count.
fn wait_text(micros: u64) -> String {
    match micros {
        0..10_000_000 => format!("{:.3}s", micros as f64 / 1e6),
        _ => span(Duration::from_micros(micros)),
    }
}

fn percent(ppm: u64) -> String {
    format!("{:.1}%", ppm as f64 / 1e4)
}
