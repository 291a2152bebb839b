//! Networks for real: plugins, the kernel's tables, connections. Everything happens in a network namespace of the test's own.
//!
//! This binary is everything at once: the tests, the helper of namespaces, servers and clients, and an agent that is killed.

// All of this is test code.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod bench;
mod crash;
mod fakes;
#[path = "../support/own_network.rs"]
mod own_network;
mod plugins;
mod roles;
mod shared;
mod talk;

use std::{env, process::ExitCode};

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    match arguments.next().unwrap_or_default().to_str() {
        Some("runner") => return apportion_containerizer::runner_main(arguments),
        Some("serve") => return talk::serve(arguments),
        Some("connect") => return talk::connect(arguments),
        Some("agent") => return crash::agent(arguments),
        _ => {}
    }
    if let Some(code) = own_network::enter() {
        return code;
    }
    let tests = [plugins::tests(), roles::tests(), fakes::tests(), crash::tests(), shared::tests()];
    let mut arguments = Arguments::from_args();
    // They share the namespace, and names of owners.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, tests.into_iter().flatten().collect()).exit_code()
}

fn test(name: &'static str, run: fn(&bench::Bench)) -> Trial {
    Trial::test(name, move || {
        bench::Bench::with(run);
        Ok(())
    })
}
