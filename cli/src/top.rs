//! `apportion top`: what tasks use now.

use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, stdout},
    time::Duration,
};

use apportion_sdk::{
    operator::{AgentState, AgentSummary},
    sandbox::{self, TaskUsage},
};
use apportion_types::{
    AgentId, FrameworkId, TaskId,
    pressure::{Pressure, Stalls},
    text::chain,
};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::{
    client::{self, Client},
    output::{self, Format},
    table::{Table, bytes},
    terminal,
};

/// Show what tasks use now: processors, memory, processes
///
/// Processor time is shown as a rate, between two looks: 1.0 is one processor. Memory is what is charged to the task, with what it
/// has cached of files. PSI is the part of the last ten seconds in which some process of the task waited for a processor, for memory
/// or for a disk. In a terminal the list is renewed until Ctrl-C; elsewhere each look is written behind the one before.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// End after the first two looks
    #[arg(long)]
    once: bool,
    /// Between two looks
    #[arg(long, value_name = "DURATION", default_value = "2s", value_parser = crate::value::flag::<Duration>)]
    interval: Duration,
    /// What the tasks are sorted by, the most first
    #[arg(long, value_enum, default_value_t)]
    sort: Sort,
    /// Only tasks of this agent
    #[arg(long, value_name = "ID")]
    agent: Option<AgentId>,
    /// Only tasks of this framework
    #[arg(long, value_name = "ID")]
    framework: Option<FrameworkId>,
    #[command(flatten)]
    client: client::Args,
}

/// An order of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Sort {
    /// By processor time.
    #[default]
    Cpu,
    /// By memory.
    Mem,
    /// By processes and threads.
    Pids,
    /// By what it waits for most.
    Pressure,
}

/// A task in the list.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Line {
    task_id: String,
    framework_id: String,
    agent_id: String,
    /// Processors used since the look before; none of a task that was not there then.
    cpus: Option<f64>,
    cpus_limit: Option<f64>,
    memory_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
    pids: Option<u64>,
    pids_max: Option<u64>,
    pressure: Pressure,
}

/// Whose tasks to show; everybody's when none.
struct Wanted {
    agent: Option<AgentId>,
    framework: Option<FrameworkId>,
}

/// What was seen in one look.
type Seen = BTreeMap<(AgentId, FrameworkId, TaskId), TaskUsage>;

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Args { once, interval, sort: by, agent, framework, client } = args;
    let Some(client) = client.start()? else { return Ok(()) };
    let wanted = Wanted { agent, framework };
    let renew = !once && client.output == Format::Text && stdout().is_terminal();
    let mut before = look(&client, &wanted).await?;
    loop {
        tokio::time::sleep(interval).await;
        let now = look(&client, &wanted).await?;
        let mut lines = lines(&before, &now);
        sort(&mut lines, by);
        if renew {
            let (rows, _) = terminal::size();
            // Home, and nothing below: what was there before is written over without a flicker.
            let screen = text(&lines)
                .lines()
                .take(usize::from(rows.max(2)) - 1)
                .fold(String::new(), |all, line| all + line + "\x1b[K\r\n");
            output::write(format!("\x1b[H{screen}\x1b[J").as_bytes())?;
        } else {
            output::answer(client.output, &lines, |lines| text(lines))?;
        }
        if once {
            return Ok(());
        }
        before = now;
    }
}

/// Asks all agents at once. One that does not answer is named, and left out.
async fn look(client: &Client, wanted: &Wanted) -> anyhow::Result<Seen> {
    let agents = client.connect().await?.ask(|operator| operator.agents()).await?;
    let asked = agents.into_iter().filter(|agent| {
        agent.state == AgentState::Active && wanted.agent.as_ref().is_none_or(|id| *id == agent.agent_id)
    });
    let mut answers = JoinSet::new();
    for AgentSummary { agent_id, info, .. } in asked {
        let (timeout, framework) = (client.timeout, wanted.framework.clone());
        answers.spawn(async move {
            let usage =
                tokio::time::timeout(timeout, sandbox::usage(&info.address, framework.as_ref())).await;
            let usage = match usage {
                Ok(Ok(usage)) => Ok(usage),
                Ok(Err(error)) => Err(chain(&error)),
                Err(_) => Err(client::late(&format!("the agent at {}", info.address), timeout)),
            };
            (agent_id, usage)
        });
    }
    let mut seen = Seen::new();
    while let Some(answer) = answers.join_next().await {
        match answer? {
            (agent_id, Ok(tasks)) => seen.extend(
                tasks
                    .into_iter()
                    .map(|task| ((agent_id.clone(), task.framework_id.clone(), task.task_id.clone()), task)),
            ),
            (_, Err(why)) => output::say(&format!("apportion: {why}")),
        }
    }
    Ok(seen)
}

fn lines(before: &Seen, now: &Seen) -> Vec<Line> {
    let line = |(key, task): (&(AgentId, FrameworkId, TaskId), &TaskUsage)| {
        let (agent_id, framework_id, task_id) = key;
        let since = before.get(key).filter(|before| before.container_id == task.container_id);
        let cpus = since.and_then(|before| {
            let passed =
                task.at.as_micros().checked_sub(before.at.as_micros()).filter(|passed| *passed > 0)?;
            Some(task.cpu_us.saturating_sub(before.cpu_us) as f64 / passed as f64)
        });
        Line {
            task_id: task_id.to_string(),
            framework_id: framework_id.to_string(),
            agent_id: agent_id.to_string(),
            cpus,
            cpus_limit: task.cpus_limit_milli.map(|milli| milli as f64 / 1000.0),
            memory_bytes: task.memory_bytes,
            memory_limit_bytes: task.memory_limit_bytes,
            pids: task.pids,
            pids_max: task.pids_max,
            pressure: task.pressure,
        }
    };
    now.iter().map(line).collect()
}

fn sort(lines: &mut [Line], by: Sort) {
    lines.sort_by(|a, b| {
        let order = match by {
            Sort::Cpu => b.cpus.unwrap_or(0.0).total_cmp(&a.cpus.unwrap_or(0.0)),
            Sort::Mem => b.memory_bytes.cmp(&a.memory_bytes),
            Sort::Pids => b.pids.cmp(&a.pids),
            Sort::Pressure => worst(&b.pressure).cmp(&worst(&a.pressure)),
        };
        order.then_with(|| (&a.framework_id, &a.task_id).cmp(&(&b.framework_id, &b.task_id)))
    });
}

fn recent(stalls: Stalls) -> u32 {
    stalls.some.avg10_basis_points
}

fn worst(Pressure { cpu, memory, io }: &Pressure) -> Option<u32> {
    [*cpu, *memory, *io].into_iter().flatten().map(recent).max()
}

fn text(lines: &[Line]) -> String {
    if lines.is_empty() {
        return "no tasks are running\n".to_owned();
    }
    let mut table = Table::new(&[
        "TASK",
        "FRAMEWORK",
        "AGENT",
        ">CPUS",
        ">OF",
        ">MEM",
        ">OF",
        ">PIDS",
        ">OF",
        ">CPU-PSI",
        ">MEM-PSI",
        ">IO-PSI",
    ]);
    let dash = || "-".to_owned();
    for line in lines {
        let cpus = |cpus: Option<f64>| cpus.map_or_else(dash, |cpus| format!("{cpus:.2}"));
        let size = |size: Option<u64>| size.map_or_else(dash, bytes);
        let psi = |stalls: Option<Stalls>| {
            stalls.map_or_else(dash, |stalls| format!("{:.1}%", f64::from(recent(stalls)) / 100.0))
        };
        let count = |count: Option<u64>| count.map_or_else(dash, |count| count.to_string());
        table.row([
            line.task_id.clone(),
            line.framework_id.clone(),
            line.agent_id.clone(),
            cpus(line.cpus),
            cpus(line.cpus_limit),
            size(line.memory_bytes),
            size(line.memory_limit_bytes),
            count(line.pids),
            count(line.pids_max),
            psi(line.pressure.cpu),
            psi(line.pressure.memory),
            psi(line.pressure.io),
        ]);
    }
    table.to_string()
}

#[cfg(test)]
mod tests {
    use apportion_types::{Time, pressure::Stall};

    use super::*;

    fn seen(container_id: &str, at_us: u64, cpu_us: u64) -> Seen {
        let id = |name: &str| {
            (AgentId::new("a").unwrap(), FrameworkId::new("f").unwrap(), TaskId::new(name).unwrap())
        };
        let usage = TaskUsage {
            framework_id: id("t").1,
            task_id: id("t").2,
            container_id: container_id.to_owned(),
            at: Time::from_micros(at_us),
            cpu_us,
            memory_bytes: Some(3 << 20),
            memory_peak_bytes: Some(4 << 20),
            pids: Some(2),
            cpus_limit_milli: Some(1500),
            memory_limit_bytes: Some(1 << 30),
            pids_max: Some(1024),
            pressure: Pressure::default(),
        };
        [(id("t"), usage)].into_iter().collect()
    }

    #[test]
    fn processor_time_is_a_rate_of_the_same_container() {
        let rate = |before: &Seen| lines(before, &seen("c", 3_000_000, 2_500_000))[0].cpus;
        assert_eq!(rate(&seen("c", 1_000_000, 2_000_000)), Some(0.25));
        assert_eq!(rate(&seen("another", 1_000_000, 9_000_000)), None);
        assert_eq!(rate(&seen("c", 3_000_000, 2_500_000)), None, "no time has passed");
        assert_eq!(rate(&Seen::new()), None);
    }

    #[test]
    fn pressure_that_is_not_known_is_not_none() {
        let mut line = lines(&Seen::new(), &seen("c", 1, 1)).remove(0);
        let known = |basis_points| {
            let some = Stall { avg10_basis_points: basis_points, ..Stall::default() };
            Some(Stalls { some, full: None })
        };
        line.pressure = Pressure { cpu: known(1234), memory: known(0), io: None };
        let shown = text(std::slice::from_ref(&line));
        let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row[row.len() - 3..], ["12.3%", "0.0%", "-"], "{shown}");
        let unknown = Line { pressure: Pressure::default(), ..line.clone() };
        let mut all = vec![unknown, line.clone()];
        sort(&mut all, Sort::Pressure);
        assert_eq!(all[0], line);
    }

    #[test]
    fn the_most_is_first() {
        let line = |task_id: &str, cpus, memory_bytes| Line {
            task_id: task_id.to_owned(),
            cpus,
            memory_bytes,
            ..lines(&Seen::new(), &seen("c", 1, 1)).remove(0)
        };
        let mut all =
            vec![line("a", Some(0.5), Some(1)), line("b", None, Some(3)), line("c", Some(1.5), Some(2))];
        let order = |all: &[Line]| all.iter().map(|line| line.task_id.clone()).collect::<String>();
        sort(&mut all, Sort::Cpu);
        assert_eq!(order(&all), "cab");
        sort(&mut all, Sort::Mem);
        assert_eq!(order(&all), "bca");
        assert!(text(&all).lines().count() == 4 && text(&all).contains("1.50"), "{}", text(&all));
    }
}
