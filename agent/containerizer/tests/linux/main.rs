//! Real containers, run as root, as an ordinary user, and without namespaces.
//!
//! This binary is everything at once: the tests, the runner, agents that can be killed, and the tasks.

// All of this is test code.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod attempts;
mod bench;
mod escapes;
mod exec;
mod facts;
mod images;
mod isolation;
mod lifecycle;
mod limits;
mod network;
mod output;
mod runc;
mod runtimes;
mod survival;
mod tasks;
mod usage;
mod users;
mod volumes;

use std::{
    env,
    ffi::OsString,
    process::{Command, ExitCode},
};

use libtest_mimic::{Arguments, Failed, Trial};

use bench::{Bench, Mode};

/// One behaviour, and where it is to be seen.
struct Scenario {
    name: &'static str,
    modes: &'static [Mode],
    run: fn(&Bench),
}

fn scenarios() -> Vec<Scenario> {
    let all = [
        lifecycle::scenarios(),
        limits::scenarios(),
        isolation::scenarios(),
        images::scenarios(),
        escapes::scenarios(),
        runc::scenarios(),
        runtimes::scenarios(),
        volumes::scenarios(),
        survival::scenarios(),
        exec::scenarios(),
        network::scenarios(),
        output::scenarios(),
        usage::scenarios(),
        users::scenarios(),
    ];
    all.into_iter().flatten().collect()
}

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let first = args.next().unwrap_or_default();
    match first.to_str() {
        Some("runner") => apportion_containerizer::runner_main(args),
        Some("runner-on-old-kernel") => attempts::without_new_calls(args),
        Some("runner-without-namespaces") => attempts::without_namespaces(args),
        Some("task") => tasks::main(args),
        Some("agent") => survival::agent(args),
        Some("scenario") => one(args),
        _ => tests(),
    }
}

fn tests() -> ExitCode {
    let root = rustix::process::geteuid().is_root();
    // Before nobody wants to use it.
    bench::folder();
    let required = env::var_os("APPORTION_NO_SKIP").is_some_and(|value| value != "0");
    let mut trials = Vec::new();
    for scenario in scenarios() {
        for mode in scenario.modes {
            let name = format!("{}::{}", mode.name(), scenario.name);
            let (run, label) = (scenario.run, scenario.name);
            let trial = match mode {
                Mode::Root | Mode::OldKernel | Mode::Mapped | Mode::Oci | Mode::Runsc
                    if !root && required =>
                {
                    Trial::test(name, || {
                        Err(Failed::from("needs root, and APPORTION_NO_SKIP forbids to skip it"))
                    })
                }
                mode if root && !bench::has_maker(*mode) && required => Trial::test(name, || {
                    Err(Failed::from("needs the OCI runtime, and APPORTION_NO_SKIP forbids to skip it"))
                }),
                mode if root && !bench::has_maker(*mode) => {
                    eprintln!("{name}: skipped: needs the OCI runtime {}", bench::maker(*mode));
                    Trial::test(name, || Ok(())).with_ignored_flag(true)
                }
                Mode::Root | Mode::OldKernel | Mode::Mapped | Mode::Oci | Mode::Runsc if !root => {
                    eprintln!("{name}: skipped: needs root");
                    Trial::test(name, || Ok(())).with_ignored_flag(true)
                }
                // Each as nobody, in a process of its own.
                Mode::User | Mode::Bare if root => Trial::test(name, move || as_nobody(*mode, label)),
                _ => Trial::test(name, move || {
                    Bench::with(*mode, run);
                    Ok(())
                }),
            };
            trials.push(trial);
        }
    }
    let mut arguments = Arguments::from_args();
    // The tests are processes more than threads; more at once only make them wait for each other.
    arguments.test_threads.get_or_insert(4);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn as_nobody(mode: Mode, scenario: &str) -> Result<(), Failed> {
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(env::current_exe()?)
        .args(["scenario", mode.name(), scenario])
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into())
}

fn one(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let (mode, name) = (args.next().unwrap(), args.next().unwrap());
    let mode = Mode::ALL.into_iter().find(|m| mode == m.name()).unwrap();
    let scenario = scenarios().into_iter().find(|s| name == s.name).unwrap();
    Bench::with(mode, scenario.run);
    ExitCode::SUCCESS
}
