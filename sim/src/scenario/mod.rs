#![doc = include_str!("../../../docs/scenarios.md")]

mod chance;
mod command;
mod condition;
mod declared;
mod fault;
mod framework;
mod jobs;
mod maintain;
mod play;
mod settings;
mod show;
mod tape;
mod words;

pub use self::{
    play::{Broken, Outcome},
    tape::Detail,
    words::ParseError,
};

use apportion_types::text::cut;

use self::{
    command::Command,
    declared::Declared,
    words::{Line, Mistake, Parsed, Word},
};
use crate::{Cluster, KillAt};

/// Bytes of a scenario, output included.
const BYTES_MAX: usize = 16 << 20;

/// A cluster, and what is done with it, as a text describes them.
#[derive(Debug)]
pub struct Scenario {
    name: String,
    /// The text without its output.
    lines: Vec<String>,
    declared: Declared,
    detail: Detail,
    /// In order, each with the number of its line in `lines`.
    commands: Vec<(usize, Command)>,
    kill_at: Option<KillAt>,
}

impl Scenario {
    /// Reads a text; `name` is the file's, and begins what is said of mistakes.
    pub fn parse(name: &str, text: &str) -> Result<Scenario, ParseError> {
        let at = |line: usize, Mistake { column, what, expected }: Mistake| ParseError {
            file: name.to_owned(),
            line,
            column,
            what,
            expected,
        };
        if text.len() > BYTES_MAX {
            let what = format!("the text has {} bytes", text.len());
            return Err(at(1, Mistake { column: 1, what, expected: format!("at most {BYTES_MAX}") }));
        }
        let mut scenario = Scenario {
            name: cut(name.to_owned(), 1_000),
            lines: Vec::new(),
            declared: Declared::new(),
            detail: Detail::default(),
            commands: Vec::new(),
            kill_at: None,
        };
        // True below a command, where its output stands.
        let mut output = false;
        let mut lines = 0;
        for line in text.lines() {
            lines += 1;
            if line.starts_with(char::is_whitespace) && !line.trim().is_empty() {
                if output {
                    continue;
                }
                let word = Line::new(line).next().expect("the line is not empty");
                let what = "is indented, as is the output of a command, but no command stands above";
                return Err(at(lines, word.wrong(what, "a line at the margin")));
            }
            let line = line.trim_end();
            output = scenario.line(line).map_err(|mistake| at(lines, mistake))?;
            scenario.lines.push(line.to_owned());
        }
        scenario.declared.check().map_err(|mistake| at(lines.max(1), mistake))?;
        Ok(scenario)
    }

    /// Reads a line at the margin; true when it is a command.
    fn line(&mut self, text: &str) -> Parsed<bool> {
        let mut line = Line::new(text);
        let Some(kind) = line.next().filter(|word| !word.text.starts_with('#')) else { return Ok(false) };
        if command::KINDS.contains(&kind.text) || fault::KINDS.contains(&kind.text) {
            let command = Command::parse(kind, &mut line, &self.declared.cast)?;
            self.commands.push((self.lines.len(), command));
            return Ok(true);
        }
        self.declare(kind, &mut line)?;
        Ok(false)
    }

    fn declare(&mut self, kind: Word<'_>, line: &mut Line<'_>) -> Parsed<()> {
        if !declared::KINDS.contains(&kind.text) {
            let known = [declared::KINDS, command::KINDS, fault::KINDS].concat().join(", ");
            return Err(kind.wrong("begins no line", format!("one of {known}, or # before a comment")));
        }
        if !self.commands.is_empty() {
            return Err(kind.wrong("is declared too late", "declarations before the first command"));
        }
        match kind.text {
            "quiet" => self.detail = Detail::Counts,
            "verbose" => self.detail = Detail::Everything,
            _ => return self.declared.parse(kind, line),
        }
        line.end()
    }

    /// The file's name, as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The seed that the text states; 0 when it states none.
    pub fn seed(&self) -> u64 {
        self.declared.seed
    }

    /// How much the text wants to be said of what happens.
    pub fn detail(&self) -> Detail {
        self.detail
    }

    /// The cluster, not started; each call gives the same. What is done with it is [`Scenario::story`].
    pub fn build(&self) -> Cluster {
        let cluster = self.declared.cluster();
        match self.kill_at {
            Some(write) => cluster.kill_at(write),
            None => cluster,
        }
    }

    /// From now on a process is killed at this write of the run: see [`Cluster::kill_at`].
    pub fn kill_at(&mut self, write: KillAt) {
        self.kill_at = Some(write);
    }
}
