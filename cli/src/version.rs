//! `apportion version`.

use serde::Serialize;

use crate::output::{Format, answer};

/// Show the version
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Version {
    version: &'static str,
    protocol: &'static str,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let version = Version { version: env!("CARGO_PKG_VERSION"), protocol: "apportion.v1" };
    answer(args.output, &version, |v| format!("apportion {} (protocol {})\n", v.version, v.protocol))
}
