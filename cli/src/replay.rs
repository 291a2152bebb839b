//! `apportion replay`: what a recorded master knew at some moment, and what other settings would have offered.

mod answer;
mod change;
mod show;
mod until;

use std::path::PathBuf;

use apportion_master::{
    journal::Journal,
    replay::{Replay, ReplayError, WhatIf},
};

use self::{
    answer::{Answer, How, WhatIfAnswer},
    change::Change,
    until::Until,
};
use crate::output::{self, Format};

/// Show what a master that ran with --journal knew at some moment, and what other settings would have offered
///
/// A journal that was cut or damaged is replayed up to there; then the exit code is 1.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The journal
    #[arg(value_name = "JOURNAL")]
    journal: PathBuf,
    /// The moment: how long after the master's start, such as `90s`, or a time such as `2026-01-31T12:00:00Z` [default: the end]
    #[arg(long, value_name = "T", value_parser = Until::parse)]
    until: Option<Until>,
    /// Also show what would have been offered with another setting: `weight.ROLE=2`, `quota.ROLE=cpus:4;mem:8GiB` or
    /// `quota.ROLE=none`, `allocator=drf` or `allocator=random`; may be given several times
    #[arg(long = "set", value_name = "SETTING=VALUE", value_parser = Change::parse)]
    set: Vec<Change>,
    /// The form of the answer
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    // A replay only computes, so it has a thread of its own, and an interrupt ends the process meanwhile.
    tokio::task::spawn_blocking(move || replay(&args)).await?
}

fn replay(args: &Args) -> anyhow::Result<()> {
    let mut journal = Journal::open(&args.journal)?;
    let header = journal.header().clone();
    let until = args.until.map(|until| until.time(header.started_at)).transpose()?;
    let (mut replay, what_if) = if args.set.is_empty() {
        (Replay::new(&header), None)
    } else {
        let mut other = header.allocator.clone();
        args.set.iter().for_each(|change| change.make(&mut other));
        let (replay, what_if) = WhatIf::new(&header, other);
        (replay, Some(what_if))
    };
    let (how, failed) = match replay.run(&mut journal, until) {
        Ok(ending) => (How::Ended(ending), None),
        // What was read before stays good, so it is shown.
        Err(ReplayError::Journal(error)) => (How::Broken(error.to_string()), Some(error)),
        Err(error) => return Err(error.into()),
    };
    let what_if = what_if.map(|what_if| WhatIfAnswer::new(&args.set, what_if.cycles()));
    let answer = Answer::new(&args.journal, &replay, &how, what_if);
    output::answer(args.output, &answer, |answer| show::text(answer, &how))?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}
