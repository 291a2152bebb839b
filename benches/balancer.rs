//! The load balancer of the service framework beside haproxy and nginx: requests each second, what they cost, and how long they take.
//!
//! Everybody has one worker, the same two replicas and the same client (wrk), one after another, in turns. On a machine where client,
//! replicas and balancer share the processors, requests each second say how they share them; what counts is how many requests one
//! second of the balancer's own processor time serves.
//!
//! `cargo bench -p apportion-benches --bench balancer -- [--quick]`; for all of it: `apt-get install haproxy nginx wrk`

#![allow(clippy::print_stdout, reason = "a benchmark prints its table")]
#![allow(clippy::unwrap_used, reason = "a benchmark says what went wrong by failing")]

#[path = "balancer/rivals.rs"]
mod rivals;
#[path = "balancer/roles.rs"]
mod roles;
#[path = "balancer/wrk.rs"]
mod wrk;

use std::{env, process::ExitCode};

use apportion_benches::Table;

use crate::{
    rivals::{Rival, installed},
    roles::Process,
    wrk::Load,
};

/// Replicas behind each balancer.
const REPLICAS: usize = 2;

/// Connections of the client: few, where latency is told, and many.
const CONNECTIONS: [usize; 2] = [8, 64];

/// How often everybody has a turn, and for how many seconds.
const TURNS: usize = 3;
const SECONDS: u64 = 6;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // This program starts itself again for the replicas and for our balancer, so that the time of each can be told apart.
    if let Some(role) = arguments.iter().position(|argument| argument == roles::FLAG) {
        roles::play(&arguments[role + 1..]);
        return ExitCode::SUCCESS;
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    if !installed("wrk") {
        println!("skipped: nothing is measured, since wrk is not installed (apt-get install wrk)");
        return ExitCode::SUCCESS;
    }
    let (turns, seconds) = if quick { (1, 1) } else { (TURNS, SECONDS) };
    let replicas: Vec<Process> = (0..REPLICAS).map(|_| Process::replica()).collect();
    let ports: Vec<u16> = replicas.iter().map(|replica| replica.port).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut rivals = vec![Rival::nobody(ports[0]), Rival::ours(&ports)];
    for name in ["haproxy", "nginx"] {
        match installed(name) {
            true => rivals.push(Rival::other(name, &ports, folder.path())),
            false => println!(
                "skipped: {name} is not measured, since it is not installed (apt-get install {name})"
            ),
        }
    }
    let headings = [
        "balancer",
        "connections",
        "requests/s",
        "per cpu-s",
        "of haproxy's",
        "p50 µs",
        "p99 µs",
        "p999 µs",
        "errors",
    ];
    let mut table = Table::new(&headings);
    for connections in CONNECTIONS {
        let mut loads: Vec<Vec<Load>> = vec![Vec::new(); rivals.len()];
        for _ in 0..turns {
            for (rival, loads) in rivals.iter().zip(&mut loads) {
                wrk::run(rival.port, connections, 1, folder.path());
                let before = rival.processor_time();
                let mut load = wrk::run(rival.port, connections, seconds, folder.path());
                load.processor = rival.processor_time() - before;
                loads.push(load);
            }
        }
        // The turn in the middle, by what a request cost.
        let middle = |mut loads: Vec<Load>| {
            loads.sort_by(|one, other| {
                one.per_second_of_processor().total_cmp(&other.per_second_of_processor())
            });
            loads.swap_remove(loads.len() / 2)
        };
        let loads: Vec<Load> = loads.into_iter().map(middle).collect();
        let of = |name: &str| {
            rivals.iter().zip(&loads).find(|(rival, _)| rival.name == name).map(|(_, load)| load)
        };
        for (rival, load) in rivals.iter().zip(&loads) {
            let own = load.per_second_of_processor();
            let share = of("haproxy").map(|haproxy| own / haproxy.per_second_of_processor());
            let is_balancer = rival.name != rivals::NOBODY;
            table.row(vec![
                rival.name.to_owned(),
                connections.to_string(),
                format!("{:.0}", load.per_second()),
                if is_balancer { format!("{own:.0}") } else { "-".to_owned() },
                share.filter(|_| is_balancer).map_or("-".to_owned(), |share| format!("{share:.2}")),
                load.p50_us.to_string(),
                load.p99_us.to_string(),
                load.p999_us.to_string(),
                load.errors.to_string(),
            ]);
        }
    }
    println!("{table}");
    ExitCode::SUCCESS
}
