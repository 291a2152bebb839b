//! `apportion frameworks`: who takes offers, what it has, and why it declined.

use std::collections::BTreeMap;

use apportion_sdk::operator::{FrameworkState, FrameworkSummary};
use apportion_types::{
    Capability, Role,
    constraints::Constraint,
    document::{Framework, Held},
};
use serde::Serialize;

use crate::{
    list::{self, List},
    table::{age, cpus, mem, shortened},
};

const LIST: List<'static, Listed, 11> = List {
    name: "frameworks",
    heads: [
        "FRAMEWORK",
        "NAME",
        "STATE",
        "ROLES",
        ">TASKS",
        ">CPUS",
        ">MEM",
        ">OFFERED",
        "SINCE",
        "OPTIONS",
        "DECLINED",
    ],
    empty: "no frameworks have subscribed; run one with `apportion batch run JOB.toml`\n",
    row: |Listed { framework, options }| {
        let role = |role: &Role| match framework.suppressed_roles.contains(role) {
            true => format!("{role} (suppressed)"),
            false => role.to_string(),
        };
        let roles: Vec<String> = framework.roles.iter().map(role).collect();
        let offered = &framework.held.offered.0;
        [
            framework.framework_id.to_string(),
            framework.name.clone(),
            framework.state.to_owned(),
            roles.join(","),
            framework.held.tasks.to_string(),
            cpus(&framework.held.allocated.0),
            mem(&framework.held.allocated.0),
            if offered.is_empty() {
                "-".to_owned()
            } else {
                format!("{} cpus, {}", cpus(offered), mem(offered))
            },
            age(framework.subscribed_at_us),
            options.summary(),
            declined(&framework.declined),
        ]
    },
};

pub(crate) async fn run(args: list::Args) -> anyhow::Result<()> {
    let Some(client) = args.client.start()? else { return Ok(()) };
    let master = client.connect().await?;
    let fetch = async |size, after: Option<&str>| master.ask(|it| it.frameworks_page(size, after)).await;
    LIST.print(client.output, args.limit, fetch, listed).await.map(|_| ())
}

/// A framework, and what it wishes of offers.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    framework: Framework,
    options: Options,
}

/// What a framework wishes of offers.
#[derive(Debug, Serialize)]
struct Options {
    capabilities: Vec<Capability>,
    /// By role, each an alternative.
    constraints: BTreeMap<Role, Vec<String>>,
    offers_max: Option<u32>,
}

impl Options {
    fn summary(&self) -> String {
        let mut parts: Vec<String> = self.capabilities.iter().map(name).collect();
        parts.extend(self.constraints.iter().map(|(role, any)| format!("{role}: {}", any.join(" or "))));
        parts.extend(self.offers_max.map(|most| format!("at most {most} offers")));
        if parts.is_empty() { "-".to_owned() } else { shortened(&parts.join("; "), 80) }
    }
}

/// The name of a capability, as in JSON.
fn name(capability: &Capability) -> String {
    match serde_json::to_value(capability) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{capability:?}"),
    }
}

fn listed(framework: FrameworkSummary) -> Listed {
    let group = |group: &Vec<Constraint>| {
        let texts: Vec<String> = group.iter().map(ToString::to_string).collect();
        texts.join(" and ")
    };
    let constraints = framework.options.constraints.iter();
    let constraints =
        constraints.map(|(role, any)| (role.clone(), any.groups.iter().map(group).collect())).collect();
    let options = Options {
        capabilities: framework.options.capabilities.iter().copied().collect(),
        constraints,
        offers_max: framework.options.offers_max,
    };
    Listed { framework: document(framework), options }
}

fn document(framework: FrameworkSummary) -> Framework {
    let state = match framework.state {
        FrameworkState::Active => "active",
        FrameworkState::Disconnected => "disconnected",
        FrameworkState::Removed => "removed",
        _ => "unknown",
    };
    Framework::new(
        framework.framework_id,
        &framework.info,
        state,
        framework.subscribed_at,
        &framework.suppressed_roles,
        Held::new(&framework.allocated, &framework.offered, framework.tasks),
        &framework.declined,
    )
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

    use super::*;

    fn framework() -> Listed {
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
            options: Some(v1::FrameworkOptions {
                capabilities: vec![v1::Capability::GpuResources as i32],
                offers_max: Some(7),
                ..Default::default()
            }),
            ..Default::default()
        };
        listed(FrameworkSummary::try_from(summary).unwrap())
    }

    #[test]
    fn a_table_shows_the_commonest_reason() {
        let expected = "\
FRAMEWORK  NAME   STATE         ROLES                 TASKS  CPUS    MEM  OFFERED  SINCE  OPTIONS                          DECLINED
f1         batch  disconnected  etl,web (suppressed)      1     1  64MiB        -  0s     gpu_resources; at most 7 offers  5: too small (+1 more)
";
        assert_eq!(LIST.text(&[framework()]), expected);
        let document = serde_json::to_value(framework()).unwrap();
        assert_eq!(
            (&document["framework_id"], &document["options"]["offers_max"]),
            (&"f1".into(), &7.into())
        );
        assert!(LIST.text(&[]).starts_with("no frameworks have subscribed"));
        assert_eq!(declined(&[(String::new(), 1)].into()), "1: no reason given");
    }
}
