//! A scenario as it goes.

use std::{
    cell::RefCell,
    fmt::{self, Write as _},
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    time::Duration,
};

use super::{
    Detail, Scenario,
    tape::{Recorder, Tape},
};
use crate::{Failure, Sim, check, history::History, shrink};

/// How a scenario went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Its text, with what happened under each command.
    pub text: String,
    /// What went wrong, if anything did.
    pub verdict: Result<(), Broken>,
    /// Virtual time that went by.
    pub simulated: Duration,
    /// Things that happened: a measure of the run's cost.
    pub steps: u64,
}

/// A command at which a scenario went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// The file's name.
    pub file: String,
    /// The command's line in the outcome's text, from 1.
    pub line: usize,
    /// The command.
    pub command: String,
    /// What went wrong.
    pub failure: Failure,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Broken { file, line, command, failure } = self;
        write!(f, "{file}:{line}: `{command}`: {failure}")
    }
}

impl std::error::Error for Broken {}

impl Scenario {
    /// Does with a cluster what the commands say: for [`find`](crate::find), together with [`Scenario::build`].
    pub fn story(&self, sim: &mut Sim) -> Result<(), Failure> {
        for (line, command) in &self.commands {
            let told = command.obey(sim, &mut Vec::new());
            told.map_err(|failure| self.in_context(*line, failure))?;
        }
        Ok(())
    }

    /// An expectation says where it stands; a broken property would be broken by any other commands as well.
    fn in_context(&self, line: usize, failure: Failure) -> Failure {
        if failure.check != "story" {
            return failure;
        }
        Failure { message: format!("`{}`: {}", self.lines[line], failure.message), ..failure }
    }

    /// Plays it to its end, or to the first command at which something goes wrong. The same scenario, seed and detail give the same
    /// text, to the byte. A panic of a core is a failure like any other.
    pub fn run(&self, seed: u64, detail: Detail) -> Outcome {
        let tape = Rc::new(RefCell::new(Tape::new(detail)));
        let mut checks = check::all();
        checks.push(Box::new(Recorder(tape.clone())));
        let cluster = self.build();
        let script = cluster.script_of(seed);
        let mut sim = cluster.start_as(seed, script, History::default(), checks);
        let mut commands = self.commands.iter().peekable();
        let mut text = String::new();
        let mut lines = 0;
        let mut verdict = Ok(());
        for (number, line) in self.lines.iter().enumerate() {
            let _ = writeln!(text, "{line}");
            lines += 1;
            let Some((_, command)) = commands.next_if(|(at, _)| *at == number && verdict.is_ok()) else {
                continue;
            };
            let (at, mut shown) = (lines, Vec::new());
            let told = shrink::quietly(|| {
                panic::catch_unwind(AssertUnwindSafe(|| command.obey(&mut sim, &mut shown)))
            });
            let told = told.unwrap_or_else(|payload| {
                Err(Failure { check: "panic", ..sim.failure(shrink::words(payload.as_ref())) })
            });
            let mut block = tape.borrow_mut().take(sim.now());
            block.append(&mut shown);
            if let Err(failure) = told {
                block.push(format!("WRONG: {failure}"));
                verdict = Err(Broken { file: self.name.clone(), line: at, command: line.clone(), failure });
            }
            for line in block.iter().flat_map(|line| line.lines()) {
                let _ = writeln!(text, "    {line}");
                lines += 1;
            }
        }
        Outcome { text, verdict, simulated: sim.elapsed(), steps: sim.steps() }
    }
}
