//! What may be expected of a cluster, and waited for.

use std::fmt;

use apportion_master_core::view::{AgentState, AgentView, FrameworkState, FrameworkView};

use super::{
    declared::{Cast, host},
    jobs::{Jobs, Stage, parts},
    words::{Counts, Line, Parsed},
};
use crate::{Sim, process::Handle};

/// Something that is so or is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Condition {
    /// So many commands really run.
    Running(Counts),
    /// So many agents are active for the master.
    Agents(Counts),
    /// An agent is in this state for the master.
    Agent(usize, &'static str),
    /// So many of a framework's commands really run.
    FrameworkRunning(Who, Counts),
    /// A framework has so many tasks at this stage.
    Tasks(Who, Stage, Counts),
    /// A framework is in this state for the master.
    Framework(Who, &'static str),
}

/// A framework.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) number: usize,
    pub(super) name: String,
}

impl Who {
    pub(super) fn handle(&self) -> Handle<Jobs> {
        Handle::new(self.number)
    }

    pub(super) fn parse(line: &mut Line<'_>, cast: &Cast) -> Parsed<Who> {
        let number = cast.framework(line.word("a framework's name")?)?;
        Ok(Who { number, name: cast.frameworks[number].clone() })
    }
}

/// What a look at the cluster gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    Count(u64),
    State(&'static str),
    /// Its process is down.
    Down,
}

/// Not known to the master, or forgotten.
const UNKNOWN: &str = "unknown";

const AGENT_STATES: &[&str] = &["active", "disconnected", "unreachable", "recovered", UNKNOWN];
const FRAMEWORK_STATES: &[&str] = &["active", "disconnected", "removed", UNKNOWN];

pub(super) fn agent_state(agent: Option<&AgentView>) -> &'static str {
    match agent.map(|agent| agent.state) {
        Some(AgentState::Active) => "active",
        Some(AgentState::Disconnected) => "disconnected",
        Some(AgentState::Unreachable) => "unreachable",
        Some(AgentState::Recovered) => "recovered",
        None => UNKNOWN,
    }
}

pub(super) fn framework_state(framework: Option<&FrameworkView>) -> &'static str {
    match framework.map(|framework| framework.state) {
        Some(FrameworkState::Active) => "active",
        Some(FrameworkState::Disconnected) => "disconnected",
        Some(FrameworkState::Removed) => "removed",
        None => UNKNOWN,
    }
}

/// An agent as the master sees it.
pub(super) fn agent_view(sim: &Sim, number: usize) -> Option<&AgentView> {
    let host = host(number);
    sim.master().agents.values().find(|agent| agent.info.hostname == host).map(|agent| &**agent)
}

/// A framework as the master sees it; of several that had its name, the newest.
pub(super) fn framework_view<'a>(sim: &'a Sim, name: &str) -> Option<&'a FrameworkView> {
    let named = sim.master().frameworks.values().filter(|framework| framework.info.name == name);
    named.max_by_key(|framework| framework.subscribed_at).map(|framework| &**framework)
}

impl Condition {
    /// Reads all that is left of a line, up to `within`.
    pub(super) fn parse(line: &mut Line<'_>, cast: &Cast) -> Parsed<Condition> {
        let first = line.clone().word("what, such as `left finished 10`, `running 3` or `agent 0 active`")?;
        const HOW_MANY: &str = "how many: N, N..M, N.. or ..M";
        match first.text {
            "running" => {
                line.next();
                Ok(Condition::Running(line.word(HOW_MANY)?.counts()?))
            }
            "agents" => {
                line.next();
                Ok(Condition::Agents(line.word(HOW_MANY)?.counts()?))
            }
            "agent" => {
                line.next();
                let number = cast.agent(line.word("the agent's number")?)?;
                Ok(Condition::Agent(number, state(line, AGENT_STATES)?))
            }
            _ => {
                let who = Who::parse(line, cast)?;
                let stages = Stage::ALL.map(Stage::name).join(", ");
                let states = FRAMEWORK_STATES.join(", ");
                let word =
                    line.word(format!("one of running, {stages} with a number, or one of {states}"))?;
                if let Some(stage) = Stage::ALL.into_iter().find(|stage| stage.name() == word.text) {
                    Ok(Condition::Tasks(who, stage, line.word(HOW_MANY)?.counts()?))
                } else if let Some(state) = FRAMEWORK_STATES.iter().find(|state| **state == word.text) {
                    Ok(Condition::Framework(who, state))
                } else if word.text == "running" {
                    Ok(Condition::FrameworkRunning(who, line.word(HOW_MANY)?.counts()?))
                } else {
                    Err(word.wrong(
                        "is nothing that a framework has or is",
                        format!("one of running, {stages}, {states}"),
                    ))
                }
            }
        }
    }

    fn look(&self, sim: &Sim) -> Seen {
        match self {
            Condition::Running(_) => Seen::Count(sim.running().count() as u64),
            Condition::Agents(_) => {
                let agents = sim.master().agents.values();
                Seen::Count(agents.filter(|agent| agent.state == AgentState::Active).count() as u64)
            }
            Condition::Agent(number, _) => Seen::State(agent_state(agent_view(sim, *number))),
            Condition::FrameworkRunning(who, _) => {
                let is_its = |id| parts(id).is_some_and(|(name, ..)| name == who.name);
                Seen::Count(sim.running().filter(|(_, (_, id))| is_its(id)).count() as u64)
            }
            Condition::Tasks(who, stage, _) => {
                sim.scheduler(who.handle()).map_or(Seen::Down, |jobs| Seen::Count(jobs.count(*stage)))
            }
            Condition::Framework(who, _) => Seen::State(framework_state(framework_view(sim, &who.name))),
        }
    }

    pub(super) fn holds(&self, sim: &Sim) -> bool {
        match (self, self.look(sim)) {
            (
                Condition::Running(counts)
                | Condition::Agents(counts)
                | Condition::FrameworkRunning(_, counts)
                | Condition::Tasks(_, _, counts),
                Seen::Count(count),
            ) => counts.contains(count),
            (Condition::Agent(_, wanted) | Condition::Framework(_, wanted), Seen::State(state)) => {
                state == *wanted
            }
            _ => false,
        }
    }

    /// What is so instead, for people.
    pub(super) fn instead(&self, sim: &Sim) -> String {
        match self.look(sim) {
            Seen::Count(count) => count.to_string(),
            Seen::State(state) => state.to_owned(),
            Seen::Down => "unknown, for its process is down".to_owned(),
        }
    }
}

fn state(line: &mut Line<'_>, states: &'static [&'static str]) -> Parsed<&'static str> {
    let expected = format!("one of {}", states.join(", "));
    let word = line.word(&expected)?;
    states
        .iter()
        .find(|state| **state == word.text)
        .copied()
        .ok_or_else(|| word.wrong("is no state", expected))
}

/// In the words of a scenario.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Condition::Running(counts) => write!(f, "running {counts}"),
            Condition::Agents(counts) => write!(f, "agents {counts}"),
            Condition::Agent(number, state) => write!(f, "agent {number} {state}"),
            Condition::FrameworkRunning(who, counts) => write!(f, "{} running {counts}", who.name),
            Condition::Tasks(who, stage, counts) => write!(f, "{} {} {counts}", who.name, stage.name()),
            Condition::Framework(who, state) => write!(f, "{} {state}", who.name),
        }
    }
}
