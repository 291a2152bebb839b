//! `apportion explain framework F`: why it is, or is not, offered something.

use apportion_types::{Resources, document::Explanation};

use crate::{
    agents::named,
    client,
    output::{Format, answer},
    table::{Table, plain},
    value,
};

/// What can be explained.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say why a framework is, or is not, offered something: what the next allocation would do
    Framework(Args),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its id, or a name that it alone has
    framework: String,
    /// Only about this agent: its id, or its host's name where one agent has that
    #[arg(long)]
    agent: Option<String>,
    /// What a task needs, such as `cpus:4;mem:8GiB`
    #[arg(long, value_name = "RESOURCES", value_parser = value::flag::<Resources>)]
    task_needs: Option<Resources>,
    /// The same as `--output json`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: client::Args,
}

pub(crate) async fn run(Command::Framework(args): Command) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let master = client.connect().await?;
    let needs = args.task_needs.unwrap_or_default();
    let agent = match &args.agent {
        Some(text) => Some(named::find(&master, text).await?.id),
        None => None,
    };
    let explanation = master.ask(|it| it.explain(&args.framework, agent.as_ref(), &needs)).await?;
    answer(if args.json { Format::Json } else { client.output }, &explanation, text)
}

fn text(explanation: &Explanation) -> String {
    let name = plain(&explanation.name);
    let mut text = format!("framework {} ({name}) is {}\n", explanation.framework_id, explanation.state);
    for line in &explanation.summary {
        text += &format!("  {}\n", plain(line));
    }
    let mut table = Table::new(&["ROLE", ">SHARE", ">WEIGHT", ">PLACE", "VERDICT", ">AGENTS", "EXAMPLES"]);
    let mut rows = 0;
    for role in &explanation.roles {
        let share =
            format!("{}.{:02}%", role.dominant_share_ppm / 10_000, role.dominant_share_ppm / 100 % 100);
        let weight = apportion_types::resources::Value::Scalar(role.weight_milli.into()).to_string();
        let place = role.place.map_or_else(|| "-".to_owned(), |place| place.to_string());
        let mut row = |verdict: &str, agents: String, examples: String| {
            let head = [role.role.to_string(), share.clone(), weight.clone(), place.clone()];
            table.row(head.into_iter().chain([verdict.to_owned(), agents, examples]));
            rows += 1;
        };
        for obstacle in &role.obstacles {
            row(obstacle.code, "all".to_owned(), obstacle.message.clone());
        }
        for count in &role.verdicts {
            let examples: Vec<&str> = count.examples.iter().map(|each| each.agent_id.as_str()).collect();
            row(count.code, count.agents.to_string(), examples.join(","));
        }
    }
    if rows > 0 {
        text += &format!("\n{table}");
    }
    if !explanation.requests.is_empty() {
        text += "\nIt waits to place:\n";
    }
    for waiting in &explanation.requests {
        text += &format!("  role {}: {} × {}\n", waiting.role, waiting.count, waiting.resources.0);
    }
    if let Some(limit) = explanation.rate_limit {
        let rate = limit.calls_per_second_milli as f64 / 1000.0;
        text += &format!("\nIts principal may make {rate} calls each second, {} at once\n", limit.capacity);
    }
    text
}

#[cfg(test)]
mod tests {
    use apportion_types::document::{AgentVerdict, RoleExplanation, VerdictCount};

    use super::*;

    #[test]
    fn the_lines_come_first_and_the_verdicts_in_a_table() {
        let example = AgentVerdict { agent_id: "a1".parse().unwrap(), message: "why".to_owned() };
        let role = RoleExplanation {
            role: "eng".parse().unwrap(),
            dominant_share_ppm: 250_000,
            weight_milli: 2000,
            place: Some(3),
            ahead: Vec::new(),
            obstacles: Vec::new(),
            verdicts: vec![VerdictCount { code: "filtered", agents: 7, examples: vec![example] }],
        };
        let explanation = Explanation {
            framework_id: "f1".parse().unwrap(),
            name: "batch".to_owned(),
            state: "active",
            summary: vec!["role eng: 7 agents were refused by it".to_owned()],
            offers: 0,
            rate_limit: None,
            roles: vec![role],
            declined: Default::default(),
            decline_samples: Vec::new(),
            requests: Vec::new(),
        };
        let expected = "\
framework f1 (batch) is active
  role eng: 7 agents were refused by it

ROLE   SHARE  WEIGHT  PLACE  VERDICT   AGENTS  EXAMPLES
eng   25.00%       2      3  filtered       7  a1
";
        assert_eq!(text(&explanation), expected);
    }
}
