//! Runs a busy cluster under one seed after the other until a property is broken, or the time is up: what `cargo xtask mutants` builds
//! once, and runs for each mutation.
//!
//! `seeds FROM TO SECONDS` prints one line: `broken SEED CHECK: MESSAGE`, or `clean SEEDS`.

#![allow(clippy::print_stdout, reason = "its one line is its result")]

mod cluster;
mod executors;
mod scheduler;

use std::{
    any::Any,
    env, panic,
    time::{Duration, Instant},
};

use apportion_sim::Failure;

const USAGE: &str = "usage: seeds FROM TO SECONDS";

fn main() {
    let args: Vec<u64> = env::args().skip(1).map(|arg| arg.parse().expect(USAGE)).collect();
    let &[from, to, seconds] = args.as_slice() else { panic!("{USAGE}") };
    // A core that breaks an assertion is a result like any other.
    panic::set_hook(Box::new(|_| {}));
    let until = now() + Duration::from_secs(seconds);
    let mut clean = 0;
    for seed in from..to {
        match panic::catch_unwind(|| cluster::run(seed)) {
            Ok(Ok(())) => clean += 1,
            Ok(Err(Failure { check, message, .. })) => return broken(seed, check, &message),
            Err(payload) => return broken(seed, "panic", &text_of(payload.as_ref())),
        }
        if now() >= until {
            break;
        }
    }
    println!("clean {clean}");
}

#[expect(clippy::disallowed_methods, reason = "decides when to stop, never what happens in a run")]
fn now() -> Instant {
    Instant::now()
}

fn broken(seed: u64, check: &str, message: &str) {
    println!("broken {seed} {check}: {}", message.replace('\n', " "));
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("something that is no text").to_owned()
}
