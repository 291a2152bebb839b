//! `apportion agents deactivate|reactivate|drain|gone`: agents are taken out of use, and back.

use std::{
    io::{self, BufRead as _, Write as _},
    time::Duration,
};

use anyhow::{Context as _, bail};
use apportion_sdk::operator::{AgentState, AgentSummary};
use apportion_types::{Activation, Drain};
use serde::Serialize;

use super::named::{self, Agent};
use crate::{
    Usage,
    client::{self, Client, Master},
    output::{self, Format},
    table::count,
    terminal, value,
};

/// How often it is asked how far a drain is.
const ASKED_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Have nothing of agents offered any more; their tasks run on
    Deactivate(Named),
    /// Have agents offered again that were deactivated or are drained
    Reactivate(Named),
    Drain(DrainArgs),
    Gone(GoneArgs),
}

#[derive(Debug, clap::Args)]
#[group(skip)]
pub(super) struct Named {
    /// The agents: their ids as `apportion agents` shows them, or their hosts' names where one agent has that
    #[arg(required = true, value_name = "AGENT")]
    agents: Vec<String>,
    #[command(flatten)]
    client: client::Args,
}

/// Have nothing of agents offered any more, and their tasks killed
///
/// An agent that is away is drained when it returns. Once it is drained it stays so until it is reactivated.
#[derive(Debug, clap::Args)]
pub(super) struct DrainArgs {
    /// The most from TERM to KILL: shortens what a task wishes, and counts where it wishes nothing [default: each task's own]
    #[arg(long, value_name = "DURATION", value_parser = value::flag::<Duration>)]
    grace: Option<Duration>,
    /// Declare the agents gone for ever once they are drained; their tasks end as gone by an operator's word
    #[arg(long)]
    mark_gone: bool,
    /// Wait until they are drained, and say how many tasks are left meanwhile
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    named: Named,
}

/// Declare agents gone for ever: their tasks are gone, and they never return
///
/// An agent that still runs is told to kill its tasks and to end. Its machine may take part again as a new agent, with an empty work directory.
#[derive(Debug, clap::Args)]
pub(super) struct GoneArgs {
    /// Do not ask whether that is meant
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    named: Named,
}

/// What `-o json` gives of each agent.
#[derive(Debug, Serialize)]
struct Answer {
    agent_id: String,
    activation: &'static str,
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Deactivate(named) => {
            each(named, "deactivated", async |master, agent| {
                master.ask(|operator| operator.deactivate_agent(&agent.id)).await
            })
            .await
        }
        Command::Reactivate(named) => {
            each(named, "active", async |master, agent| {
                master.ask(|operator| operator.reactivate_agent(&agent.id)).await
            })
            .await
        }
        Command::Drain(args) => drain(args).await,
        Command::Gone(args) => gone(args).await,
    }
}

/// Finds all that are named before anything is done with one.
async fn begin(named: Named) -> anyhow::Result<Option<(Client, Master, Vec<Agent>)>> {
    let Some(client) = named.client.start()? else { return Ok(None) };
    let master = client.connect().await?;
    let mut agents = Vec::new();
    for text in &named.agents {
        agents.push(named::find(&master, text).await?);
    }
    Ok(Some((client, master, agents)))
}

/// Does something with each agent, after which it is so.
async fn each(
    named: Named,
    activation: &'static str,
    wish: impl AsyncFn(&Master, &Agent) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let Some((client, master, agents)) = begin(named).await? else { return Ok(()) };
    let mut answers = Answers::new(&client);
    for agent in &agents {
        wish(&master, agent).await?;
        answers.add(agent, activation)?;
    }
    answers.end()
}

/// What was done, told as it is done; as JSON when all is.
struct Answers {
    format: Format,
    all: Vec<Answer>,
}

impl Answers {
    fn new(client: &Client) -> Self {
        Self { format: client.output, all: Vec::new() }
    }

    fn add(&mut self, agent: &Agent, activation: &'static str) -> anyhow::Result<()> {
        self.all.push(Answer { agent_id: agent.id.to_string(), activation });
        match self.format {
            Format::Text => output::write(format!("agent {} is {activation}\n", agent.name()).as_bytes()),
            Format::Json => Ok(()),
        }
    }

    fn end(self) -> anyhow::Result<()> {
        match self.format {
            Format::Text => Ok(()),
            Format::Json => output::answer(self.format, &self.all, |_| String::new()),
        }
    }
}

async fn drain(args: DrainArgs) -> anyhow::Result<()> {
    let DrainArgs { grace: grace_max, mark_gone, wait, named } = args;
    let Some((client, master, agents)) = begin(named).await? else { return Ok(()) };
    let drain = Drain { grace_max, mark_gone };
    let mut answers = Answers::new(&client);
    for agent in &agents {
        master.ask(|operator| operator.drain_agent(&agent.id, drain)).await?;
        if !wait {
            answers.add(agent, "draining")?;
        }
    }
    if wait {
        let mut left = agents;
        let mut said = vec![String::new(); left.len()];
        while !left.is_empty() {
            let mut at = 0;
            while at < left.len() {
                match progress(&left[at], named::listed(&master, &left[at].id).await?, mark_gone)? {
                    Progress::Done(activation) => {
                        said.remove(at);
                        answers.add(&left.remove(at), activation)?;
                    }
                    Progress::Waits(line) => {
                        if said[at] != line {
                            output::say(&line);
                            said[at] = line;
                        }
                        at += 1;
                    }
                }
            }
            if !left.is_empty() {
                tokio::time::sleep(ASKED_EVERY).await;
            }
        }
    }
    answers.end()
}

/// How far a drain is.
#[derive(Debug, PartialEq, Eq)]
enum Progress {
    /// It is over, and the agent is so.
    Done(&'static str),
    /// It goes on; for people.
    Waits(String),
}

fn progress(agent: &Agent, listed: Option<AgentSummary>, mark_gone: bool) -> anyhow::Result<Progress> {
    let name = agent.name();
    let Some(listed) = listed else {
        return match mark_gone {
            true => Ok(Progress::Done("gone")),
            false => bail!("agent {name} was removed before it was drained"),
        };
    };
    Ok(match (listed.activation, listed.state) {
        (Activation::Drained(_), _) => Progress::Done("drained"),
        (Activation::Active | Activation::Deactivated, _) => {
            bail!("agent {name} is not drained any more: somebody has reactivated it")
        }
        (Activation::Draining(_), AgentState::Active) if listed.tasks == 0 => {
            Progress::Waits(format!("agent {name}: no task is left, their ends are to be acknowledged"))
        }
        (Activation::Draining(_), AgentState::Active) => {
            Progress::Waits(format!("agent {name}: {} left", count(listed.tasks, "task")))
        }
        (Activation::Draining(_), _) => {
            let remedy = format!("if it never does, `apportion agents gone {}`", agent.id);
            Progress::Waits(format!(
                "agent {name} is not connected, and is drained when it returns; {remedy}"
            ))
        }
    })
}

async fn gone(args: GoneArgs) -> anyhow::Result<()> {
    let GoneArgs { yes, named } = args;
    let Some((client, master, agents)) = begin(named).await? else { return Ok(()) };
    if !yes {
        confirm(&agents)?;
    }
    let mut answers = Answers::new(&client);
    for agent in &agents {
        master.ask(|operator| operator.mark_agent_gone(&agent.id)).await?;
        answers.add(agent, "gone")?;
    }
    answers.end()
}

/// Asks whoever types whether that is meant.
fn confirm(agents: &[Agent]) -> anyhow::Result<()> {
    let names: Vec<String> = agents.iter().map(Agent::name).collect();
    let names = names.join(", ");
    if !terminal::typed() {
        let why = format!(
            "{names} would be gone for ever, and nobody is there to be asked; say --yes if that is meant"
        );
        return Err(Usage(why).into());
    }
    let tasks = agents.iter().filter_map(|agent| agent.listed.as_ref()).map(|listed| listed.tasks).sum();
    let question = format!("{names} with {} will be gone for ever. Go on? [y/N] ", count(tasks, "task"));
    let mut err = io::stderr().lock();
    err.write_all(question.as_bytes()).and_then(|()| err.flush()).context("asking")?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).context("reading the answer")?;
    match line.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => bail!("nothing was done"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::tests::summary;

    fn agent(listed: Option<AgentSummary>) -> Agent {
        Agent { id: "a1".parse().unwrap(), listed }
    }

    #[test]
    fn a_drain_says_what_it_waits_for_and_ends_when_the_agent_is_as_wished() {
        let named = agent(Some(summary("a1", Activation::Active)));
        let of = |activation, gone| progress(&named, Some(summary("a1", activation)), gone);
        let drain = Drain::default();
        let waits = Progress::Waits("agent a1 (host): 3 tasks left".into());
        assert_eq!(of(Activation::Draining(drain), false).unwrap(), waits);
        let mut idle = summary("a1", Activation::Draining(drain));
        idle.tasks = 0;
        let Ok(Progress::Waits(line)) = progress(&named, Some(idle.clone()), false) else {
            panic!("it is over")
        };
        assert!(line.ends_with("their ends are to be acknowledged"), "{line}");
        idle.state = AgentState::Unreachable;
        let Ok(Progress::Waits(line)) = progress(&named, Some(idle), false) else { panic!("it is over") };
        assert!(line.ends_with("`apportion agents gone a1`"), "{line}");
        assert_eq!(of(Activation::Drained(drain), false).unwrap(), Progress::Done("drained"));
        assert_eq!(progress(&named, None, true).unwrap(), Progress::Done("gone"));
        assert!(progress(&named, None, false).is_err(), "it was removed");
        assert!(of(Activation::Active, false).is_err(), "it was reactivated");
    }

    #[test]
    fn an_agent_that_is_not_listed_goes_by_its_id() {
        assert_eq!(agent(None).name(), "a1");
    }
}
