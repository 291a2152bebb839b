//! The checks of this repository: `cargo xtask verify` runs them all and writes nothing, `cargo xtask fix` mends what a tool can.

#![allow(clippy::print_stdout, reason = "a tool says what it does")]

mod docs;
mod house;
mod mutants;
mod purity;
mod shell;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::shell::{cargo, optional_tool};

const USAGE: &str = "usage: cargo xtask COMMAND

  verify      every check below, in this order; writes nothing
  fix         formats, and applies what clippy can mend

  format      rustfmt
  lint        clippy, warnings are errors
  purity      the cores know no runtime and no clock, each crate only what it may, unsafe code in one place
  names       paths and type names in the documents still exist
  proto       the wire format follows the usual conventions (needs buf)
  docs        the API documentation builds without warnings
  test        every test: what the README calls

  mutants [NAME…] [--seeds N]
              puts known bugs back, one at a time: the simulator must find each under N seeds (2000); not part of verify
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<()> {
    match args {
        ["verify"] => {
            for step in [format, purity::check, docs::names, proto, lint, documentation, test] {
                step()?;
            }
            println!("verify: all checks passed");
            Ok(())
        }
        ["fix"] => {
            cargo(&["fmt", "--all"])?;
            cargo(&["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"])?;
            cargo(&["fmt", "--all"])
        }
        ["format"] => format(),
        ["lint"] => lint(),
        ["purity"] => purity::check(),
        ["names"] => docs::names(),
        ["proto"] => proto(),
        ["docs"] => documentation(),
        ["test"] => test(),
        ["mutants", args @ ..] => mutants::run(args),
        _ => bail!("{USAGE}"),
    }
}

fn format() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])
}

fn lint() -> Result<()> {
    cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    // The workspace as a whole switches every feature on; a simulator has the SDK without.
    cargo(&["clippy", "--locked", "-p", "apportion-sdk", "--no-default-features", "--", "-D", "warnings"])
}

fn documentation() -> Result<()> {
    shell::cargo_with(&[("RUSTDOCFLAGS", "-D warnings")], &["doc", "--locked", "--workspace", "--no-deps"])
}

fn test() -> Result<()> {
    cargo(&["test", "--locked", "--workspace"])
}

fn proto() -> Result<()> {
    optional_tool(
        "buf",
        &["lint"],
        "proto",
        "install it, for example with `npm install --global @bufbuild/buf`",
    )
}
