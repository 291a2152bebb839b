//! Faults in the words in which they are shown.

use std::time::Duration;

use super::{
    declared::Cast,
    words::{DURATION_MAX, Line, Mistake, Parsed, Word},
};
use crate::{
    fault::{Fault, Process, Ways},
    network::Peer,
};

/// How many times slower a link may be.
const SLOWER_MAX: u64 = 1_000;

/// What a fault begins with.
pub(super) const KINDS: &[&str] =
    &["cut", "break", "slow", "crash", "reboot", "fail-disk", "out-of-memory", "deactivate", "drain", "gone"];

/// Reads what stands behind the fault's first word, `kind`.
pub(super) fn parse(kind: Word<'_>, line: &mut Line<'_>, cast: &Cast) -> Parsed<Fault> {
    let fault = match kind.text {
        "cut" => Fault::Cut { peer: peer(line, cast)?, ways: ways(line)?, lasts: lasts(line)? },
        "break" => Fault::Break { peer: peer(line, cast)? },
        "slow" => {
            let peer = peer(line, cast)?;
            let times = line.word("how many times slower")?.number(2..=SLOWER_MAX)?;
            line.keyword("times")?;
            Fault::Slow {
                peer,
                times: u32::try_from(times).expect("it is within bounds"),
                lasts: lasts(line)?,
            }
        }
        "crash" => Fault::Crash { process: process(line, cast)?, down: lasts(line)? },
        "reboot" => Fault::Reboot { agent: agent(line, cast)?, down: lasts(line)? },
        "fail-disk" => Fault::DiskFails { agent: agent(line, cast)?, down: lasts(line)? },
        "deactivate" => Fault::Deactivate { agent: agent(line, cast)?, lasts: lasts(line)? },
        "drain" => Fault::Drain { agent: agent(line, cast)?, lasts: lasts(line)? },
        "gone" => Fault::Gone { agent: agent(line, cast)? },
        "out-of-memory" => {
            let agent = agent(line, cast)?;
            let container =
                line.word("which of its running containers, from 0")?.count(0..=usize::MAX / 2)?;
            Fault::OutOfMemory { agent, container }
        }
        _ => return Err(kind.wrong("is no fault", format!("one of {}", KINDS.join(", ")))),
    };
    line.end()?;
    Ok(fault)
}

fn peer(line: &mut Line<'_>, cast: &Cast) -> Parsed<Peer> {
    const EXPECTED: &str = "`agent N` or `framework NAME`";
    let word = line.word(EXPECTED)?;
    match word.text {
        "agent" => Ok(Peer::Agent(cast.agent(line.word("the agent's number")?)?)),
        "framework" => Ok(Peer::Framework(cast.framework(line.word("the framework's name")?)?)),
        _ => Err(word.wrong("has no link", EXPECTED)),
    }
}

fn process(line: &mut Line<'_>, cast: &Cast) -> Parsed<Process> {
    const EXPECTED: &str = "`master`, `agent N` or `framework NAME`";
    if line.takes("master") {
        return Ok(Process::Master);
    }
    let word = line.clone().word(EXPECTED)?;
    peer(line, cast).map(Process::from).map_err(|mistake| match word.text {
        "agent" | "framework" => mistake,
        _ => word.wrong("is no process", EXPECTED),
    })
}

fn agent(line: &mut Line<'_>, cast: &Cast) -> Parsed<usize> {
    line.keyword("agent")?;
    cast.agent(line.word("the agent's number")?)
}

fn ways(line: &mut Line<'_>) -> Parsed<Ways> {
    const EXPECTED: &str = "`both`, `to-master` or `from-master`";
    let word = line.word(EXPECTED)?;
    let ways = [Ways::Both, Ways::ToMaster, Ways::FromMaster];
    let found = ways.into_iter().find(|ways| ways.to_string() == word.text);
    found.ok_or_else(|| word.wrong("is no way of a link", EXPECTED))
}

fn lasts(line: &mut Line<'_>) -> Parsed<Duration> {
    line.keyword("for")?;
    line.word("how long it lasts")?.duration(Duration::ZERO..=DURATION_MAX)
}

/// A fault by its text alone, and nothing behind it.
pub(super) fn parse_all(line: &mut Line<'_>, cast: &Cast) -> Result<Fault, Mistake> {
    let kind = line.word(format!("a fault: {}", KINDS.join(", ")))?;
    parse(kind, line, cast)
}
