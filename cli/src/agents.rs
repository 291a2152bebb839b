//! `apportion agents`: the machines, what is used of each, and what is not enforced on them.

use apportion_sdk::operator::{AgentState, AgentSummary};
use apportion_types::{
    Resources,
    document::{Agent, Held},
    resources::Name,
};
use serde::Serialize;

use crate::{
    client,
    output::answer,
    table::{Table, count, cpus, mem, plain},
    unenforced::groups,
};

pub(crate) async fn run(args: client::Args) -> anyhow::Result<()> {
    let Some(client) = args.start()? else { return Ok(()) };
    let agents = client.connect().await?.agents().await?;
    let listing = Listing { agents: agents.into_iter().map(document).collect() };
    answer(client.output, &listing, Listing::text)
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Listing {
    agents: Vec<Agent>,
}

fn document(agent: AgentSummary) -> Agent {
    let state = match agent.state {
        AgentState::Active => "active",
        AgentState::Disconnected => "disconnected",
        AgentState::Unreachable => "unreachable",
        _ => "unknown",
    };
    let held = Held::new(&agent.allocated, &agent.offered, agent.tasks);
    Agent::new(agent.agent_id, &agent.info, &agent.total, state, agent.registered_at, held)
}

impl Listing {
    fn text(&self) -> String {
        if self.agents.is_empty() {
            return "no agents are registered; start one with `apportion agent --master URL`\n".to_owned();
        }
        let mut table =
            Table::new(&["AGENT", "STATE", "HOST", ">CPUS", ">MEM", ">TASKS", "OTHER", "ATTRIBUTES"]);
        for agent in &self.agents {
            let (used, all) = (&agent.held.allocated.0, &agent.total.0);
            let attributes: Vec<String> =
                agent.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
            table.row([
                agent.agent_id.to_string(),
                agent.state.to_owned(),
                agent.hostname.clone(),
                format!("{} / {}", cpus(used), cpus(all)),
                format!("{} / {}", mem(used), mem(all)),
                agent.held.tasks.to_string(),
                dash(others(all)),
                dash(attributes.join(",")),
            ]);
        }
        format!("{table}{}", self.not_enforced())
    }

    /// Each distinct reason once, with what it concerns and where.
    fn not_enforced(&self) -> String {
        let agents = self.agents.iter().map(|agent| (agent.agent_id.as_str(), agent.unenforced.as_slice()));
        let mut text = String::new();
        for (at, group) in groups(agents).into_iter().enumerate() {
            let place = match group.agents.len() {
                all if all == self.agents.len() && all > 1 => "on every agent".to_owned(),
                few if few <= 3 => format!("on {}", group.agents.join(", ")),
                many => format!("on {} of them", count(many as u64, "agent")),
            };
            text += if at == 0 { "\nNot enforced:\n" } else { "" };
            text += &format!("  {} ({place}): {}\n", group.controls.join(", "), plain(group.reason));
        }
        text
    }
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
mod tests {
    use apportion_proto::v1;

    use super::*;

    fn amounts(text: &str) -> Option<v1::Resources> {
        Some(text.parse::<Resources>().unwrap().into())
    }

    fn agent(id: &str, unenforced: &[(v1::Control, &str)]) -> Agent {
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
            domain: None,
        };
        let summary = v1::AgentSummary {
            agent_id: id.into(),
            info: Some(info),
            state: v1::AgentState::Active as i32,
            registered_at_us: 7,
            allocated: amounts("cpus:1.5;mem:512"),
            offered: None,
            tasks: 3,
            total: amounts("cpus:4;mem:8GiB;ports:[1-9]"),
            revocable: None,
        };
        document(AgentSummary::try_from(summary).unwrap())
    }

    #[test]
    fn a_table_says_each_missing_control_once() {
        let cpu = (v1::Control::CpuQuota, "no cpu controller");
        let quota = (v1::Control::CpuWeight, "no cpu controller");
        let pids = (v1::Control::Pids, "no pids controller");
        let listing = Listing { agents: vec![agent("a1", &[cpu, quota]), agent("a2", &[cpu, pids])] };
        let expected = "\
AGENT  STATE   HOST     CPUS            MEM  TASKS  OTHER        ATTRIBUTES
a1     active  host  1.5 / 4  512MiB / 8GiB      3  ports:[1-9]  rack=a
a2     active  host  1.5 / 4  512MiB / 8GiB      3  ports:[1-9]  rack=a

Not enforced:
  cpu_quota, cpu_weight (on every agent): no cpu controller
  pids (on a2): no pids controller
";
        assert_eq!(listing.text(), expected);
        assert_eq!(serde_json::to_value(&listing).unwrap()["agents"][1]["agent_id"], "a2");
        assert!(Listing { agents: vec![] }.text().starts_with("no agents are registered"));
    }
}
