//! The commands of a scenario, read and obeyed.

use std::{collections::BTreeMap, time::Duration};

use apportion_master_core::{OperatorError, RoleChange};
use apportion_sdk::Stop;
use apportion_types::{Operation, Resources, Role, limits};

use super::{
    condition::{Condition, Who, framework_view},
    declared::Cast,
    fault,
    framework::TASKS_MAX,
    jobs::Told,
    maintain,
    settings::role_change,
    show::{self, Show},
    words::{DURATION_MAX, Line, Parsed, Word},
};
use crate::{
    Failure, Sim,
    fault::{Fault, Process},
    network::Peer,
};

/// How long is waited for something when a line does not say.
const WITHIN: Duration = Duration::from_secs(600);

/// What a command begins with, beside faults.
pub(super) const KINDS: &[&str] =
    &["run", "expect", "show", "kill", "tell", "stop", "teardown", "roles", "operate", "maintain"];

/// Something that is done with the running cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    /// Lets so much time go by.
    RunFor(Duration),
    /// Lets time go by until nothing more is going to happen.
    RunUntilIdle { within: Duration },
    /// Lets time go by until something is so.
    RunUntil { condition: Condition, within: Duration },
    /// Something must be so now.
    Expect(Condition),
    /// Shows how things stand.
    Show(Show),
    /// Asks the master to end a task.
    Kill { who: Who, task: usize, grace: Option<Duration> },
    /// Tells a scheduler something.
    Tell { who: Who, told: Told },
    /// Ends a framework's run as its program does.
    Stop { who: Who, stop: Stop },
    /// Asks the master to end a framework for ever.
    Teardown(Who),
    /// Asks the master to set something for a role.
    Roles { role: Role, change: RoleChange, force: bool },
    /// Asks the master for an operation on an agent's resources.
    Operate { agent: usize, operation: Operation },
    /// For so long an operator plans maintenance, starts and stops it, at random; then lets all machines be up.
    Maintain(Duration),
    /// Something goes wrong now.
    Fault(Fault),
}

impl Command {
    /// Reads what stands behind a command's first word, `kind`.
    pub(super) fn parse(kind: Word<'_>, line: &mut Line<'_>, cast: &Cast) -> Parsed<Command> {
        let command = match kind.text {
            "run" => run(line, cast)?,
            "expect" => Command::Expect(Condition::parse(line, cast)?),
            "show" => Command::Show(Show::parse(line)?),
            "kill" => {
                let who = Who::parse(line, cast)?;
                let task = task(line)?;
                let grace = line.next().map(|word| {
                    word.option(&["grace"])?.value.duration(Duration::ZERO..=limits::KILL_GRACE_MAX)
                });
                Command::Kill { who, task, grace: grace.transpose()? }
            }
            "tell" => tell(line, cast)?,
            "stop" => {
                const EXPECTED: &str = "`disconnect` or `teardown`";
                let who = Who::parse(line, cast)?;
                let word = line.word(EXPECTED)?;
                let stop = match word.text {
                    "disconnect" => Stop::Disconnect,
                    "teardown" => Stop::Teardown,
                    _ => return Err(word.wrong("is no way to stop", EXPECTED)),
                };
                Command::Stop { who, stop }
            }
            "teardown" => Command::Teardown(Who::parse(line, cast)?),
            "roles" => {
                let force = line.takes("force");
                let (role, change) = role_change(line)?;
                Command::Roles { role, change, force }
            }
            "operate" => operate(line, cast)?,
            "maintain" => Command::Maintain(
                line.word("for how long, such as 60s")?.duration(Duration::ZERO..=DURATION_MAX)?,
            ),
            _ => Command::Fault(fault::parse(kind, line, cast)?),
        };
        line.end()?;
        Ok(command)
    }

    /// Does it, and adds what there is to show beside what happened.
    pub(super) fn obey(&self, sim: &mut Sim, out: &mut Vec<String>) -> Result<(), Failure> {
        match self {
            Command::RunFor(duration) => sim.run_for(*duration)?,
            Command::RunUntilIdle { within } => sim.run_until_idle(*within)?,
            Command::RunUntil { condition, within } => {
                sim.run_until(*within, &condition.to_string(), |sim| condition.holds(sim))?;
            }
            Command::Expect(condition) => {
                if !condition.holds(sim) {
                    return Err(sim.failure(format!("it is {}", condition.instead(sim))));
                }
            }
            Command::Show(what) => out.extend(show::lines(*what, sim)),
            Command::Kill { who, task, grace } => {
                let Some(id) = sim.scheduler(who.handle()).and_then(|jobs| jobs.id(*task)) else {
                    return Err(
                        sim.failure(format!("{} has no task {task}, or its process is down", who.name))
                    );
                };
                let framework_id = framework_view(sim, &who.name).map(|view| view.framework_id.clone());
                let answered = sim.kill(framework_id, id, *grace);
                out.push(answer(sim, answered));
            }
            Command::Tell { who, .. } | Command::Stop { who, .. }
                if sim.scheduler(who.handle()).is_none() =>
            {
                return Err(sim.failure(format!("the process of {} is down, and hears nothing", who.name)));
            }
            Command::Tell { who, told } => sim.tell(who.handle(), told.clone()),
            Command::Stop { who, stop } => sim.stop(who.handle(), *stop),
            Command::Teardown(who) => {
                let Some(id) = framework_view(sim, &who.name).map(|view| view.framework_id.clone()) else {
                    return Err(sim.failure(format!("the master does not know {}", who.name)));
                };
                let answered = sim.teardown(id);
                out.push(answer(sim, answered));
            }
            Command::Roles { role, change, force } => {
                let changes = BTreeMap::from([(role.clone(), change.clone())]);
                let answered = sim.update_roles(changes, *force);
                out.push(answer(sim, answered));
            }
            Command::Operate { agent, .. } if *agent >= sim.world().agents.len() => {
                return Err(sim.failure(format!("there is no agent {agent}")));
            }
            Command::Operate { agent, operation } => {
                let answered = sim.operate(*agent, operation.clone());
                out.push(answer(sim, answered));
            }
            Command::Maintain(lasts) => maintain::obey(sim, *lasts)?,
            Command::Fault(fault) => {
                // Fewer agents than declared are there when a failure is made smaller.
                if let Some(agent) = agent_of(fault).filter(|agent| *agent >= sim.world().agents.len()) {
                    return Err(sim.failure(format!("there is no agent {agent}")));
                }
                sim.inflict(fault.clone());
            }
        }
        Ok(())
    }
}

fn run(line: &mut Line<'_>, cast: &Cast) -> Parsed<Command> {
    let all = Duration::ZERO..=DURATION_MAX;
    if !line.takes("until") {
        return Ok(Command::RunFor(line.word("how long, such as 10s, or `until`")?.duration(all)?));
    }
    let condition = if line.takes("idle") { None } else { Some(Condition::parse(line, cast)?) };
    let within = if line.takes("within") { line.word("how long at most")?.duration(all)? } else { WITHIN };
    Ok(match condition {
        None => Command::RunUntilIdle { within },
        Some(condition) => Command::RunUntil { condition, within },
    })
}

fn tell(line: &mut Line<'_>, cast: &Cast) -> Parsed<Command> {
    const EXPECTED: &str = "`more N` or `kill TASK`";
    let who = Who::parse(line, cast)?;
    let word = line.word(EXPECTED)?;
    let told = match word.text {
        "more" => Told::More(line.word("how many tasks")?.count(1..=TASKS_MAX)?),
        "kill" => Told::Kill(task(line)?),
        _ => return Err(word.wrong("is nothing that a framework is told", EXPECTED)),
    };
    Ok(Command::Tell { who, told })
}

fn operate(line: &mut Line<'_>, cast: &Cast) -> Parsed<Command> {
    const EXPECTED: &str = "`reserve`, `unreserve`, `create` or `destroy`";
    line.keyword("agent")?;
    let agent = cast.agent(line.word("the agent's number")?)?;
    let word = line.word(EXPECTED)?;
    let resources = line.word("the resources, such as cpus(+eng@ann):2")?;
    let resources: Resources = resources.read("resources on their terms, such as cpus(+eng@ann):2")?;
    let operation = match word.text {
        "reserve" => Operation::Reserve { resources },
        "unreserve" => Operation::Unreserve { resources },
        "create" => Operation::Create { volumes: resources },
        "destroy" => Operation::Destroy { volumes: resources },
        _ => return Err(word.wrong("is no operation", EXPECTED)),
    };
    Ok(Command::Operate { agent, operation })
}

fn task(line: &mut Line<'_>) -> Parsed<usize> {
    line.word("the task's number, from 0")?.count(0..=TASKS_MAX)
}

fn agent_of(fault: &Fault) -> Option<usize> {
    match *fault {
        Fault::Cut { peer: Peer::Agent(agent), .. }
        | Fault::Break { peer: Peer::Agent(agent) }
        | Fault::Slow { peer: Peer::Agent(agent), .. }
        | Fault::Crash { process: Process::Agent(agent), .. }
        | Fault::Reboot { agent, .. }
        | Fault::DiskFails { agent, .. }
        | Fault::Deactivate { agent, .. }
        | Fault::Drain { agent, .. }
        | Fault::Gone { agent }
        | Fault::OutOfMemory { agent, .. } => Some(agent),
        _ => None,
    }
}

/// What an operator is answered.
fn answer<T>(sim: &Sim, answered: Option<Result<T, OperatorError>>) -> String {
    match answered {
        Some(Ok(_)) => "answer: done".to_owned(),
        Some(Err(error)) => format!("answer: refused, {error}"),
        None if sim.world().master.core.is_some() => "answer: when the registry has it".to_owned(),
        None => "answer: none, there is no master".to_owned(),
    }
}
