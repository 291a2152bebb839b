//! `apportion watch`: one line for each thing that changes.

use std::time::Duration;

use apportion_sdk::operator::{Change, Position, Told, Watch, Watched};
use serde::Serialize;

use crate::{
    client::{self, Client},
    output::{self, Format},
    table::{plain, shortened},
};

/// After no master answered.
const PAUSE: Duration = Duration::from_millis(500);

/// Watch what changes: everything there is first, then one line for each change
///
/// Of several masters the next one that leads is watched when one is lost: everything there is comes first again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only these: agents, frameworks, tasks, offers, roles
    #[arg(value_enum)]
    kinds: Vec<Kind>,
    /// One JSON document each line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    client: client::Args,
}

/// What can be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    Agents,
    Frameworks,
    Tasks,
    Offers,
    Roles,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let json = args.json || client.output == Format::Json;
    let watched = |kind: &Kind| match kind {
        Kind::Agents => Watched::Agents,
        Kind::Frameworks => Watched::Frameworks,
        Kind::Tasks => Watched::Tasks,
        Kind::Offers => Watched::Offers,
        Kind::Roles => Watched::Roles,
    };
    let kinds: Vec<Watched> = args.kinds.iter().map(watched).collect();
    let mut watch = begin(&client, &kinds, None).await?;
    let mut position = None;
    loop {
        let why = match watch.next().await {
            Ok(Some(told)) => {
                output::write(lines(&told, json).as_bytes())?;
                if told.complete {
                    position = Some(told.position);
                }
                continue;
            }
            // The only one is gone for as long as anybody knows.
            ended if client.master.0.len() == 1 => return Ok(ended.map(|_| ())?),
            Ok(None) => "it has ended the watch".to_owned(),
            Err(error) => error.to_string(),
        };
        output::say(&format!("the master is lost: {why}; trying again"));
        watch = loop {
            match begin(&client, &kinds, position.as_ref()).await {
                Ok(watch) => break watch,
                // Until one leads, however long that takes.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
    }
}

/// Watches what the master that leads knows: from a position on if it is that master's, else everything first.
async fn begin(client: &Client, kinds: &[Watched], since: Option<&Position>) -> anyhow::Result<Watch> {
    client.connect().await?.ask(|it| it.watch(kinds, since)).await
}

/// One change.
#[derive(Debug, Serialize)]
struct Line {
    version: u64,
    /// Of what there was at the beginning.
    snapshot: bool,
    kind: &'static str,
    id: String,
    /// How it is now; `gone` when it is not there any more.
    state: String,
    what: String,
}

fn lines(told: &Told, json: bool) -> String {
    let mut text = String::new();
    for change in &told.changes {
        let (kind, id, state, what) = parts(change);
        let (version, snapshot) = (told.position.version, told.snapshot);
        if json {
            let line = Line { version, snapshot, kind, id, state, what };
            text += &serde_json::to_string(&line).expect("texts and numbers");
        } else {
            let sign = if snapshot { "=" } else { "+" };
            let sign = if state == "gone" { "-" } else { sign };
            text += format!("{sign} {kind:<9} {} {state} {}", plain(&id), plain(&shortened(&what, 120)))
                .trim_end();
        }
        text.push('\n');
    }
    text
}

/// Its kind, its name, how it is, and what else there is to know.
fn parts(change: &Change) -> (&'static str, String, String, String) {
    let gone = |kind, id: String| (kind, id, "gone".to_owned(), String::new());
    match change {
        Change::Agent(agent) => {
            let state = format!("{:?}", agent.state).to_lowercase();
            let what = format!("{} of {}", agent.allocated, agent.total);
            ("agent", agent.agent_id.to_string(), state, what)
        }
        Change::AgentRemoved(id) => gone("agent", id.to_string()),
        Change::Framework(framework) => {
            let state = format!("{:?}", framework.state).to_lowercase();
            let what = format!("{}: {} tasks, {}", framework.info.name, framework.tasks, framework.allocated);
            ("framework", framework.framework_id.to_string(), state, what)
        }
        Change::FrameworkRemoved(id) => gone("framework", id.to_string()),
        Change::Task(task) => {
            let id = format!("{}/{}", task.framework_id, task.info.task_id);
            let message = task.status.as_ref().map(|status| status.message.as_str()).unwrap_or_default();
            let what = format!("on {} {} {message}", task.agent_id, task.info.resources);
            ("task", id, task.state.to_string(), what)
        }
        Change::TaskRemoved(framework, task) => gone("task", format!("{framework}/{task}")),
        Change::Offer(offer) => {
            let what = format!("{} of {} to {}", offer.resources, offer.agent_id, offer.framework_id);
            ("offer", offer.offer_id.to_string(), "outstanding".to_owned(), what)
        }
        Change::OfferRemoved(id) => gone("offer", id.to_string()),
        Change::Role(role) => {
            let limit = role.limit.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
            let weight = apportion_types::resources::Value::Scalar(role.weight_milli.into());
            let guarantee = match role.guarantee.0.is_empty() {
                true => "none".to_owned(),
                false => role.guarantee.0.to_string(),
            };
            let priority = role.priority;
            let what = format!("weight {weight}, priority {priority}, guarantee {guarantee}, limit {limit}");
            ("role", role.role.to_string(), "set".to_owned(), what)
        }
        Change::RoleRemoved(role) => gone("role", role.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use apportion_sdk::operator::Position;
    use apportion_types::document::RoleSettings;

    use super::*;

    #[test]
    fn a_line_says_what_it_is_and_how() {
        let role = RoleSettings::none("eng".parse().unwrap());
        let removed = Change::TaskRemoved("f1".parse().unwrap(), "t1".parse().unwrap());
        let position = Position { master_id: "m1".to_owned(), version: 7 };
        let told =
            Told { position, snapshot: false, complete: true, changes: vec![Change::Role(role), removed] };
        let text =
            "+ role      eng set weight 1, priority 0, guarantee none, limit none\n- task      f1/t1 gone\n";
        assert_eq!(lines(&told, false), text);
        let json = lines(&told, true);
        let line: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
        assert_eq!(
            (&line["version"], &line["kind"], &line["state"]),
            (&7.into(), &"task".into(), &"gone".into())
        );
    }
}
