//! `apportion maintenance`: the schedule of windows, and the machines that are taken down by it.

use std::{
    collections::BTreeSet,
    io::Read as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use apportion_types::{
    MachineId, Time, Unavailability, Window,
    document::{InverseOfferState, MachineStatus, MaintenanceSchedule, MaintenanceWindow},
};
use serde::{Deserialize, Serialize};

use crate::{Usage, client, output::answer, table::Table, value};

/// Plan maintenance of machines, take them down, and let them be up again
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Schedule(ScheduleArgs),
    /// Take machines down: their agents end with their tasks, and none may register there
    Start(MachinesArgs),
    /// Let machines that are down be up again
    Stop(MachinesArgs),
    Status(StatusArgs),
}

/// Show the maintenance schedule, or replace it
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file has a section for each window, and is the whole schedule:

    [[window]]
    machines = [\"web-1\", \"web-2\"]      # the host names of their agents
    start = \"2027-01-31T02:00:00Z\"      # or from now: \"in 2h\"
    duration = \"4h\"                     # left out: until `apportion maintenance stop`")]
pub(crate) struct ScheduleArgs {
    /// All windows, as TOML; `-` for standard input
    file: Option<PathBuf>,
    #[command(flatten)]
    client: client::Args,
}

#[derive(Debug, clap::Args)]
pub(crate) struct MachinesArgs {
    /// The host names of their agents
    #[arg(required = true, value_name = "MACHINE")]
    machines: Vec<MachineId>,
    #[command(flatten)]
    client: client::Args,
}

/// Show how machines stand, and what frameworks answered that have something there
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {
    /// Only this one, which may be one that nothing is planned for
    machine: Option<MachineId>,
    #[command(flatten)]
    client: client::Args,
}

/// A schedule as people write it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    window: Vec<toml::Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWindow {
    machines: Vec<String>,
    start: toml::Value,
    duration: Option<String>,
}

pub(crate) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Schedule(ScheduleArgs { file: None, client }) => show(client).await,
        Command::Schedule(ScheduleArgs { file: Some(file), client }) => replace(&file, client).await,
        Command::Start(MachinesArgs { machines, client }) => {
            let Some(client) = client.start()? else { return Ok(()) };
            let machines: BTreeSet<MachineId> = machines.into_iter().collect();
            client.connect().await?.ask(|it| it.start_maintenance(&machines)).await?;
            answer(client.output, &Done { down: Some(&machines), up: None }, |_| said("down", &machines))
        }
        Command::Stop(MachinesArgs { machines, client }) => {
            let Some(client) = client.start()? else { return Ok(()) };
            let machines: BTreeSet<MachineId> = machines.into_iter().collect();
            client.connect().await?.ask(|it| it.stop_maintenance(&machines)).await?;
            answer(client.output, &Done { down: None, up: Some(&machines) }, |_| said("up", &machines))
        }
        Command::Status(StatusArgs { machine, client }) => {
            let Some(client) = client.start()? else { return Ok(()) };
            let machines = client.connect().await?.ask(|it| it.maintenance_status(machine.as_ref())).await?;
            answer(client.output, &Status { machines }, |status| status_text(&status.machines))
        }
    }
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Done<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    down: Option<&'a BTreeSet<MachineId>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up: Option<&'a BTreeSet<MachineId>>,
}

fn said(what: &str, machines: &BTreeSet<MachineId>) -> String {
    let names: Vec<&str> = machines.iter().map(MachineId::as_str).collect();
    format!("{what}: {}\n", names.join(", "))
}

/// What `status -o json` gives.
#[derive(Debug, Serialize)]
struct Status {
    machines: Vec<MachineStatus>,
}

async fn show(client: client::Args) -> anyhow::Result<()> {
    let Some(client) = client.start()? else { return Ok(()) };
    let windows = client.connect().await?.ask(|it| it.maintenance_schedule()).await?;
    let windows = windows.iter().map(MaintenanceWindow::from).collect();
    answer(client.output, &MaintenanceSchedule { windows }, |schedule| schedule_text(&schedule.windows))
}

async fn replace(file: &Path, client: client::Args) -> anyhow::Result<()> {
    let (name, text) = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("reading standard input")?;
        ("standard input".to_owned(), text)
    } else {
        let text = std::fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        (file.display().to_string(), text)
    };
    let now = Time::ZERO + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let windows = windows(&text, now).map_err(|what| Usage(format!("{name}: {what}")))?;
    let Some(client) = client.start()? else { return Ok(()) };
    client.connect().await?.ask(|it| it.update_maintenance_schedule(&windows)).await?;
    let windows = windows.iter().map(MaintenanceWindow::from).collect();
    answer(client.output, &MaintenanceSchedule { windows }, |schedule| schedule_text(&schedule.windows))
}

/// The windows of a schedule that somebody wrote, or what is wrong with which of them.
fn windows(text: &str, now: Time) -> Result<Vec<Window>, String> {
    let written: Written = toml::from_str(text).map_err(|e| e.message().to_owned())?;
    let window = |(at, value): (usize, toml::Value)| {
        window(value, now).map_err(|what| format!("window {}: {what}", at + 1))
    };
    written.window.into_iter().enumerate().map(window).collect()
}

fn window(value: toml::Value, now: Time) -> Result<Window, String> {
    let written: WrittenWindow = value.try_into().map_err(|e: toml::de::Error| e.message().to_owned())?;
    let mut machines = BTreeSet::new();
    for name in &written.machines {
        let machine: MachineId = name.parse().map_err(|e: apportion_types::ids::IdError| e.to_string())?;
        if !machines.insert(machine) {
            return Err(format!("machine `{name}` is named twice; name it once"));
        }
    }
    if machines.is_empty() {
        return Err("it names no machine; name one, or leave the window out".to_owned());
    }
    let start = match written.start {
        toml::Value::String(text) => text,
        toml::Value::Datetime(at) => at.to_string(),
        other => other.to_string(),
    };
    let duration = written.duration.as_deref().map(<Duration as value::Value>::parse).transpose()?;
    if duration == Some(Duration::ZERO) {
        return Err("its duration is nothing; leave it out for a window that stays open".to_owned());
    }
    Ok(Window { machines, unavailability: Unavailability { start: self::start(&start, now)?, duration } })
}

/// A point in time, as people write it.
fn start(text: &str, now: Time) -> Result<Time, String> {
    if let Some(after) = text.strip_prefix("in ") {
        return Ok(now + <Duration as value::Value>::parse(after.trim())?);
    }
    let at = humantime::parse_rfc3339(text).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    at.map(|since| Time::ZERO + since).ok_or_else(|| {
        format!("its start `{text}` is no time; write it as `2027-01-31T02:00:00Z`, or from now as `in 2h`")
    })
}

fn time(at: Time) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_micros(at.as_micros())).to_string()
}

fn length(duration_ms: Option<u64>) -> String {
    duration_ms
        .map_or("open".to_owned(), |ms| humantime::format_duration(Duration::from_millis(ms)).to_string())
}

fn schedule_text(windows: &[MaintenanceWindow]) -> String {
    if windows.is_empty() {
        return "no maintenance is planned\n".to_owned();
    }
    let mut table = Table::new(&["START", "DURATION", "MACHINES"]);
    for window in windows {
        let names: Vec<&str> = window.machines.iter().map(MachineId::as_str).collect();
        table.row([time(window.start_us), length(window.duration_ms), names.join(",")]);
    }
    table.to_string()
}

fn status_text(machines: &[MachineStatus]) -> String {
    if machines.is_empty() {
        return "no maintenance is planned\n".to_owned();
    }
    let mut table = Table::new(&["MACHINE", "MODE", "START", "DURATION", "AGENT", "FRAMEWORK", "ANSWER"]);
    for machine in machines {
        let next = machine.windows.first();
        let mut head = [
            machine.machine.to_string(),
            machine.mode.to_string(),
            next.map_or("-".to_owned(), |window| time(window.start_us)),
            next.map_or("-".to_owned(), |window| length(window.duration_ms)),
        ];
        let mut rows: Vec<[String; 3]> = Vec::new();
        for agent in &machine.agents {
            let mut name = format!("{} ({})", agent.agent_id, agent.state);
            for framework in &agent.frameworks {
                rows.push([
                    std::mem::take(&mut name),
                    framework.framework_id.to_string(),
                    said_of(framework),
                ]);
            }
            if !name.is_empty() {
                rows.push([name, "-".to_owned(), "-".to_owned()]);
            }
        }
        if rows.is_empty() {
            rows.push(["-".to_owned(), "-".to_owned(), "-".to_owned()]);
        }
        for [agent, framework, answer] in rows {
            let [machine, mode, start, duration] = std::mem::take(&mut head);
            table.row([machine, mode, start, duration, agent, framework, answer]);
        }
    }
    table.to_string()
}

fn said_of(framework: &InverseOfferState) -> String {
    match (framework.answer, framework.reason.as_str()) {
        ("not_asked", _) => "not asked: it takes no inverse offers".to_owned(),
        (answer, "") => answer.to_owned(),
        (answer, reason) => format!("{answer}: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use apportion_types::{
        MachineMode, Resources,
        document::{Amounts, MachineAgent, MachineWindow},
    };

    use super::*;

    const NOW: Time = Time::from_micros(1_000_000_000_000_000);

    #[test]
    fn a_schedule_is_read_or_refused_by_its_window() {
        let text = "\
[[window]]
machines = ['web-1', 'web-2']
start = '2027-01-31T02:00:00Z'
duration = '4h'

[[window]]
machines = ['db']
start = 'in 2h'

[[window]]
machines = ['db-2']
start = 2027-01-31T02:00:00Z
";
        let read = windows(text, NOW).unwrap();
        assert_eq!(read[0].machines.len(), 2);
        assert_eq!(read[0].unavailability.duration, Some(Duration::from_secs(4 * 3600)));
        assert_eq!(time(read[0].unavailability.start), "2027-01-31T02:00:00Z");
        assert_eq!(read[1].unavailability.start, NOW + Duration::from_secs(7200));
        assert_eq!(read[2].unavailability, Unavailability { duration: None, ..read[0].unavailability });
        assert_eq!(windows("", NOW).unwrap(), []);
        let good = "[[window]]\nmachines = ['a']\nstart = 'in 1h'\n";
        for (text, what) in [
            ("start = 1", "unknown field `start`"),
            ("[[window]]\nstart = 'in 1h'", "window 2: missing field `machines`"),
            ("[[window]]\nmachines = []\nstart = 'in 1h'", "window 2: it names no machine"),
            ("[[window]]\nmachines = ['a', 'a']\nstart = 'in 1h'", "window 2: machine `a` is named twice"),
            ("[[window]]\nmachines = ['a/b']\nstart = 'in 1h'", "window 2: machine name `a/b`"),
            (
                "[[window]]\nmachines = ['a']\nstart = 'tomorrow'",
                "window 2: its start `tomorrow` is no time; write",
            ),
            ("[[window]]\nmachines = ['a']\nstart = 7", "window 2: its start `7` is no time"),
            (
                "[[window]]\nmachines = ['a']\nstart = 'in 1h'\nduration = '5'",
                "window 2: `5` is not a duration",
            ),
            (
                "[[window]]\nmachines = ['a']\nstart = 'in 1h'\nduration = '0s'",
                "window 2: its duration is nothing",
            ),
            ("[[window]]\nmachines = ['a']\nstart = 'in 1h'\nend = 'x'", "window 2: unknown field `end`"),
        ] {
            let refused = windows(&format!("{good}{text}"), NOW).or_else(|_| windows(text, NOW)).unwrap_err();
            let refused = match what.starts_with("window 2") {
                true => windows(&format!("{good}{text}"), NOW).unwrap_err(),
                false => refused,
            };
            assert!(refused.contains(what), "{text}: {refused}");
        }
    }

    #[test]
    fn who_answered_what_stands_beside_the_machine() {
        let framework = |id: &str, answer, reason: &str| InverseOfferState {
            framework_id: id.parse().unwrap(),
            framework_name: "f".to_owned(),
            answer,
            reason: reason.to_owned(),
            answered_at_us: None,
            inverse_offer_id: None,
            expires_at_us: None,
            resources: Amounts(Resources::new()),
        };
        let machine = |name: &str, mode, agents| MachineStatus {
            machine: name.parse().unwrap(),
            mode,
            windows: vec![MachineWindow { start_us: NOW, duration_ms: Some(7_200_000) }],
            agents,
        };
        let agent = |id: &str, frameworks| MachineAgent {
            agent_id: id.parse().unwrap(),
            state: "active",
            frameworks,
        };
        let expected = "\
MACHINE  MODE      START                 DURATION  AGENT        FRAMEWORK  ANSWER
web-1    draining  2001-09-09T01:46:40Z  2h        a1 (active)  f1         accepted
                                                                f2         declined: no room
                                                   a2 (active)  f3         not asked: it takes no inverse offers
web-2    down      2001-09-09T01:46:40Z  2h        -            -          -
";
        let text = status_text(&[
            machine(
                "web-1",
                MachineMode::Draining,
                vec![
                    agent(
                        "a1",
                        vec![framework("f1", "accepted", ""), framework("f2", "declined", "no room")],
                    ),
                    agent("a2", vec![framework("f3", "not_asked", "")]),
                ],
            ),
            machine("web-2", MachineMode::Down, Vec::new()),
        ]);
        assert_eq!(text, expected);
    }
}
