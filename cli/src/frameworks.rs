//! `apportion frameworks`: who takes offers, what it has, and why it declined.

use std::collections::BTreeMap;

use apportion_sdk::operator::{FrameworkState, FrameworkSummary};
use serde::Serialize;

use crate::{
    amounts::Amounts,
    client,
    output::answer,
    table::{Table, age, cpus, mem, shortened},
};

/// List the frameworks, what they have, and why they declined offers
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    client: client::Args,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let frameworks = client.connect().await?.frameworks().await?;
    let listing = Listing { frameworks: frameworks.into_iter().map(Framework::from).collect() };
    answer(client.output, &listing, Listing::text)
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Listing {
    frameworks: Vec<Framework>,
}

#[derive(Debug, Serialize)]
struct Framework {
    framework_id: String,
    name: String,
    principal: String,
    state: &'static str,
    roles: Vec<String>,
    suppressed_roles: Vec<String>,
    failover_timeout_ms: u64,
    subscribed_at_us: u64,
    labels: BTreeMap<String, String>,
    allocated: Amounts,
    offered: Amounts,
    tasks: u64,
    /// Why it declined offers, and how often.
    declined: BTreeMap<String, u64>,
}

impl From<FrameworkSummary> for Framework {
    fn from(framework: FrameworkSummary) -> Framework {
        let info = framework.info;
        Framework {
            framework_id: framework.framework_id.to_string(),
            name: info.name,
            principal: info.principal,
            state: match framework.state {
                FrameworkState::Active => "active",
                FrameworkState::Disconnected => "disconnected",
                FrameworkState::Removed => "removed",
                _ => "unknown",
            },
            roles: info.roles.iter().map(ToString::to_string).collect(),
            suppressed_roles: framework.suppressed_roles.iter().map(ToString::to_string).collect(),
            failover_timeout_ms: u64::try_from(info.failover_timeout.as_millis()).unwrap_or(u64::MAX),
            subscribed_at_us: framework.subscribed_at.as_micros(),
            labels: info.labels,
            allocated: Amounts(framework.allocated),
            offered: Amounts(framework.offered),
            tasks: framework.tasks,
            declined: framework.declined,
        }
    }
}

impl Listing {
    fn text(&self) -> String {
        if self.frameworks.is_empty() {
            return "no frameworks have subscribed; run one with `apportion batch run JOB.toml`\n".to_owned();
        }
        let heads = [
            "FRAMEWORK",
            "NAME",
            "STATE",
            "ROLES",
            ">TASKS",
            ">CPUS",
            ">MEM",
            ">OFFERED",
            "SINCE",
            "DECLINED",
        ];
        let mut table = Table::new(&heads);
        for framework in &self.frameworks {
            let role = |role: &String| match framework.suppressed_roles.contains(role) {
                true => format!("{role} (suppressed)"),
                false => role.clone(),
            };
            let roles: Vec<String> = framework.roles.iter().map(role).collect();
            let offered = &framework.offered.0;
            table.row([
                framework.framework_id.clone(),
                framework.name.clone(),
                framework.state.to_owned(),
                roles.join(","),
                framework.tasks.to_string(),
                cpus(&framework.allocated.0),
                mem(&framework.allocated.0),
                if offered.is_empty() {
                    "-".to_owned()
                } else {
                    format!("{} cpus, {}", cpus(offered), mem(offered))
                },
                age(framework.subscribed_at_us),
                declined(&framework.declined),
            ]);
        }
        table.to_string()
    }
}

/// The most frequent reason, and how many others there are: `5: too small (+2 reasons)`.
fn declined(reasons: &BTreeMap<String, u64>) -> String {
    let Some((reason, times)) = reasons.iter().max_by_key(|(_, times)| **times) else {
        return "-".to_owned();
    };
    let reason = if reason.is_empty() { "no reason given" } else { reason };
    let others = if reasons.len() > 1 { format!(" (+{} more)", reasons.len() - 1) } else { String::new() };
    format!("{times}: {}{others}", shortened(reason, 60))
}

#[cfg(test)]
mod tests {
    use apportion_proto::v1;
    use serde_json::json;

    use super::*;

    fn listing() -> Listing {
        let info = v1::FrameworkInfo {
            name: "batch".into(),
            principal: "ann".into(),
            roles: vec!["etl".into(), "web".into()],
            failover_timeout_ms: Some(5000),
            labels: [("job".into(), "x".into())].into(),
        };
        let summary = v1::FrameworkSummary {
            framework_id: "f1".into(),
            info: Some(info),
            state: v1::FrameworkState::Disconnected as i32,
            subscribed_at_us: u64::MAX / 2,
            suppressed_roles: vec!["web".into()],
            allocated: Some("cpus:1;mem:64".parse::<apportion_types::Resources>().unwrap().into()),
            offered: None,
            tasks: 1,
            declined: [("too small".into(), 5), ("far".into(), 2)].into(),
        };
        Listing { frameworks: vec![FrameworkSummary::try_from(summary).unwrap().into()] }
    }

    #[test]
    fn a_table_shows_the_commonest_reason() {
        let listing = listing();
        let expected = "\
FRAMEWORK  NAME   STATE         ROLES                 TASKS  CPUS    MEM  OFFERED  SINCE  DECLINED
f1         batch  disconnected  etl,web (suppressed)      1     1  64MiB        -  0s     5: too small (+1 more)
";
        assert_eq!(listing.text(), expected);
        assert!(Listing { frameworks: vec![] }.text().starts_with("no frameworks have subscribed"));
        assert_eq!(declined(&[(String::new(), 1)].into()), "1: no reason given");
    }

    #[test]
    fn json_keeps_its_form() {
        let listing = listing();
        let expected = json!({"frameworks": [{
            "framework_id": "f1", "name": "batch", "state": "disconnected", "principal": "ann", "roles": ["etl", "web"],
            "suppressed_roles": ["web"], "subscribed_at_us": u64::MAX / 2, "failover_timeout_ms": 5000,
            "allocated": {"text": "cpus:1;mem:64", "scalars": {"cpus": 1.0, "mem": 64.0}},
            "offered": {"text": "", "scalars": {}}, "tasks": 1, "declined": {"far": 2, "too small": 5},
            "labels": {"job": "x"},
        }]});
        assert_eq!(serde_json::to_value(&listing).unwrap(), expected);
    }
}
