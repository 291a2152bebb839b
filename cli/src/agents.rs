//! `apportion agents`: the machines, what is used of each, and what is not enforced on them.

pub(crate) mod named;
mod wishes;

use std::time::Duration;

use apportion_sdk::operator::{AgentState, AgentSummary};
use apportion_types::{
    AgentId, Resources,
    container::Unenforced,
    document::{Agent, Held},
    resources::Name,
};

use crate::{
    list::{self, List},
    output::{self, Format, answer},
    table::{Table, age, count, cpus, mem, plain, shortened},
    unenforced::groups,
};

/// List the agents, what is used of them, and what they cannot enforce; or take them out of use, and back
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<wishes::Command>,
    /// Show everything of this one: its id, or its host's name where one agent has that
    agent: Option<String>,
    #[command(flatten)]
    list: list::Args,
}

const LIST: List<'static, Agent, 10> = List {
    name: "agents",
    heads: ["AGENT", "STATE", "HOST", "DOMAIN", ">CPUS", ">MEM", ">TASKS", "OTHER", "RESERVED", "ATTRIBUTES"],
    empty: "no agents are registered; start one with `apportion agent --master URL`\n",
    row: |agent| {
        let (used, all) = (&agent.held.allocated.0, &agent.total.0);
        [
            agent.agent_id.to_string(),
            state(agent),
            agent.hostname.clone(),
            dash(domain(agent)),
            format!("{} / {}", cpus(used), cpus(all)),
            format!("{} / {}", mem(used), mem(all)),
            agent.held.tasks.to_string(),
            dash(others(&all.unreserved())),
            dash(shortened(&reserved(all).to_string(), 60)),
            dash(attributes(agent)),
        ]
    },
};

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    if let Some(command) = args.command {
        return wishes::run(command).await;
    }
    let Some(client) = args.list.client.start()? else { return Ok(()) };
    let master = client.connect().await?;
    if let Some(text) = &args.agent {
        let agent = document(named::find_listed(&master, text).await?);
        return answer(client.output, &agent, detail);
    }
    let fetch = async |size, after: Option<&str>| master.ask(|it| it.agents_page(size, after)).await;
    // The reasons follow the list.
    let mut unenforced = Vec::new();
    let noted = |agent: AgentSummary| {
        let agent = document(agent);
        unenforced.push((agent.agent_id.clone(), agent.unenforced.clone()));
        agent
    };
    LIST.print(client.output, args.list.limit, fetch, noted).await?;
    if client.output == Format::Text {
        output::write(not_enforced(&unenforced).as_bytes())?;
    }
    Ok(())
}

fn document(agent: AgentSummary) -> Agent {
    let state = match agent.state {
        AgentState::Active => "active",
        AgentState::Disconnected => "disconnected",
        AgentState::Unreachable => "unreachable",
        AgentState::Recovered => "recovered",
        _ => "unknown",
    };
    let held = Held::new(&agent.allocated, &agent.offered, agent.tasks);
    let states = (state, agent.activation);
    Agent::new(agent.agent_id, &agent.info, &agent.total, states, agent.registered_at, held)
}

/// What an operator has made of it, unless it takes no part at all; both when it is away.
fn state(agent: &Agent) -> String {
    match (agent.state, agent.activation) {
        (state, "active") => state.to_owned(),
        ("active", activation) => activation.to_owned(),
        (state, activation) => format!("{state}, {activation}"),
    }
}

/// Everything about one agent.
fn detail(agent: &Agent) -> String {
    let mut table = Table::new(&["AGENT", agent.agent_id.as_str()]);
    let total = &agent.total.0;
    for (what, text) in [
        ("state", state(agent)),
        ("drain", drain(agent)),
        ("host", agent.hostname.clone()),
        ("domain", domain(agent)),
        ("address", agent.address.clone()),
        ("version", agent.version.clone()),
        ("attributes", attributes(agent)),
        ("registered", format!("{} ago", age(agent.registered_at_us))),
        ("total", total.to_string()),
        ("reserved", reserved(total).to_string()),
        ("allocated", agent.held.allocated.0.to_string()),
        ("offered", agent.held.offered.0.to_string()),
        ("tasks", agent.held.tasks.to_string()),
    ] {
        table.row([what.to_owned(), dash(text)]);
    }
    format!("{table}{}", not_enforced(&[(agent.agent_id.clone(), agent.unenforced.clone())]))
}

/// How it is drained, or was.
fn drain(agent: &Agent) -> String {
    let Some(drain) = &agent.drain else { return String::new() };
    let grace = drain.grace_max_ms.map(Duration::from_millis);
    let grace = grace.map(|grace| format!("within {}", humantime::format_duration(grace)));
    let gone = drain.mark_gone.then(|| "then gone".to_owned());
    match [grace, gone].into_iter().flatten().collect::<Vec<_>>() {
        parts if parts.is_empty() => "with the tasks' own grace".to_owned(),
        parts => parts.join(", "),
    }
}

/// Each distinct reason once, with what it concerns and where.
fn not_enforced(all: &[(AgentId, Vec<Unenforced>)]) -> String {
    let agents = all.iter().map(|(id, unenforced)| (id.as_str(), unenforced.as_slice()));
    let mut text = String::new();
    for (at, group) in groups(agents).into_iter().enumerate() {
        let place = match group.agents.len() {
            every if every == all.len() && every > 1 => "on every agent".to_owned(),
            few if few <= 3 => format!("on {}", group.agents.join(", ")),
            many => format!("on {} of them", count(many as u64, "agent")),
        };
        text += if at == 0 { "\nNot enforced:\n" } else { "" };
        text += &format!("  {} ({place}): {}\n", group.controls.join(", "), plain(group.reason));
    }
    text
}

/// Its fault domain as `region/zone`.
fn domain(agent: &Agent) -> String {
    agent.domain.as_ref().map(|domain| format!("{}/{}", domain.region, domain.zone)).unwrap_or_default()
}

fn attributes(agent: &Agent) -> String {
    let pairs: Vec<String> = agent.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    pairs.join(",")
}

/// What is kept for roles.
fn reserved(total: &Resources) -> Resources {
    total.only(|entry| entry.role().is_some())
}

/// What else there is beside cpus and memory, as text: `disk:1024;ports:[31000-32000]`.
fn others(resources: &Resources) -> String {
    let mut rest = Resources::new();
    for (name, value) in resources.iter().filter(|(name, _)| !matches!(name, Name::Cpus | Name::Mem)) {
        rest.insert(name.clone(), value.clone());
    }
    rest.to_string()
}

fn dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
pub(super) mod tests {
    use apportion_proto::v1;

    use apportion_types::{Activation, Drain};

    use super::*;

    fn amounts(text: &str) -> Option<v1::Resources> {
        Some(text.parse::<Resources>().unwrap().into())
    }

    fn agent(id: &str, unenforced: &[(v1::Control, &str)]) -> Agent {
        document(listed(id, unenforced))
    }

    fn listed(id: &str, unenforced: &[(v1::Control, &str)]) -> AgentSummary {
        let unenforced = unenforced.iter();
        let info = v1::AgentInfo {
            hostname: "host".into(),
            address: "127.0.0.1:5051".into(),
            resources: amounts("cpus:4;mem:8GiB;ports:[1-9]"),
            attributes: [("rack".into(), "a".into())].into(),
            unenforced: unenforced
                .map(|(control, reason)| v1::Unenforced {
                    control: *control as i32,
                    reason: (*reason).into(),
                })
                .collect(),
            version: "0.1.0".into(),
            domain: Some(v1::FaultDomain { region: "r".into(), zone: "z".into() }),
            capabilities: Vec::new(),
            work_dir_id: String::new(),
        };
        let summary = v1::AgentSummary {
            agent_id: id.into(),
            info: Some(info),
            state: v1::AgentState::Active as i32,
            registered_at_us: 7,
            allocated: amounts("cpus:1.5;mem:512"),
            offered: None,
            tasks: 3,
            total: amounts("cpus:3;cpus(eng):1;mem:8GiB;ports:[1-9]"),
            revocable: None,
            activation: v1::AgentActivation::Active as i32,
            drain: None,
        };
        AgentSummary::try_from(summary).unwrap()
    }

    /// An agent of which an operator has wished this.
    pub(crate) fn summary(id: &str, activation: Activation) -> AgentSummary {
        let mut summary = listed(id, &[]);
        summary.activation = activation;
        summary
    }

    #[test]
    fn the_state_is_what_an_operator_has_made_of_it() {
        let drain = Drain { grace_max: Some(Duration::from_secs(90)), mark_gone: true };
        let mut away = summary("a1", Activation::Draining(drain));
        assert_eq!(state(&document(away.clone())), "draining");
        away.state = AgentState::Unreachable;
        let agent = document(away);
        assert_eq!(state(&agent), "unreachable, draining");
        assert!(detail(&agent).contains("drain       within 1m 30s, then gone\n"), "{}", detail(&agent));
        assert_eq!(serde_json::to_value(&agent).unwrap()["drain"]["grace_max_ms"], 90_000);
    }

    #[test]
    fn a_table_says_each_missing_control_once() {
        let cpu = (v1::Control::CpuQuota, "no cpu controller");
        let quota = (v1::Control::CpuWeight, "no cpu controller");
        let pids = (v1::Control::Pids, "no pids controller");
        let agents = [agent("a1", &[cpu, quota]), agent("a2", &[cpu, pids])];
        let expected = "\
AGENT  STATE   HOST  DOMAIN     CPUS            MEM  TASKS  OTHER        RESERVED     ATTRIBUTES
a1     active  host  r/z     1.5 / 4  512MiB / 8GiB      3  ports:[1-9]  cpus(eng):1  rack=a
";
        assert_eq!(LIST.text(&agents[..1]), expected);
        let noted = agents.clone().map(|agent| (agent.agent_id, agent.unenforced));
        let expected = "
Not enforced:
  cpu_quota, cpu_weight (on every agent): no cpu controller
  pids (on a2): no pids controller
";
        assert_eq!(not_enforced(&noted), expected);
        assert_eq!(serde_json::to_value(&agents[1]).unwrap()["agent_id"], "a2");
        assert!(LIST.text(&[]).starts_with("no agents are registered"));
        let detail = detail(&agents[0]);
        assert!(detail.contains("total       cpus:3;cpus(eng):1;mem:8192;ports:[1-9]\n"), "{detail}");
        assert!(
            detail.contains("\nreserved    cpus(eng):1\n") && detail.contains("Not enforced"),
            "{detail}"
        );
    }
}
