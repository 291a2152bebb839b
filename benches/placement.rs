//! Placement alone: queues of 10,000 tasks onto 1,500 machines, by each policy and by the planner; and the study of policies on a
//! recorded cluster.
//!
//! `cargo bench -p apportion-benches --bench placement -- [--quick] [--study FOLDER]`; with `--study` it writes `placement.md`'s table
//! and picture into the folder, and measures nothing.

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]

#[path = "placement/cluster.rs"]
mod cluster;
#[path = "placement/draw.rs"]
mod draw;
#[path = "placement/planner.rs"]
mod planner;
#[path = "placement/published.rs"]
mod published;
#[path = "placement/queues.rs"]
mod queues;
#[path = "placement/study.rs"]
mod study;

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    if let Some(at) = arguments.iter().position(|argument| argument == "--study") {
        let folder = arguments.get(at + 1).map_or("docs", String::as_str);
        return study::write(folder.as_ref(), quick);
    }
    queues::measure(quick);
    planner::measure(quick);
    Ok(())
}
