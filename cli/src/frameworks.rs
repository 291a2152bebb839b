//! `apportion frameworks`: who takes offers, what it has, and why it declined.

use std::collections::BTreeMap;

use apportion_sdk::operator::{FrameworkState, FrameworkSummary};
use apportion_types::{
    Role,
    document::{Framework, Held},
};
use serde::Serialize;

use crate::{
    client,
    output::answer,
    table::{Table, age, cpus, mem, shortened},
};

pub(crate) async fn run(args: client::Args) -> anyhow::Result<()> {
    let Some(client) = args.start()? else { return Ok(()) };
    let frameworks = client.connect().await?.frameworks().await?;
    let listing = Listing { frameworks: frameworks.into_iter().map(document).collect() };
    answer(client.output, &listing, Listing::text)
}

/// What `-o json` gives.
#[derive(Debug, Serialize)]
struct Listing {
    frameworks: Vec<Framework>,
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
            let role = |role: &Role| match framework.suppressed_roles.contains(role) {
                true => format!("{role} (suppressed)"),
                false => role.to_string(),
            };
            let roles: Vec<String> = framework.roles.iter().map(role).collect();
            let offered = &framework.held.offered.0;
            table.row([
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
            ..Default::default()
        };
        Listing { frameworks: vec![document(FrameworkSummary::try_from(summary).unwrap())] }
    }

    #[test]
    fn a_table_shows_the_commonest_reason() {
        let listing = listing();
        let expected = "\
FRAMEWORK  NAME   STATE         ROLES                 TASKS  CPUS    MEM  OFFERED  SINCE  DECLINED
f1         batch  disconnected  etl,web (suppressed)      1     1  64MiB        -  0s     5: too small (+1 more)
";
        assert_eq!(listing.text(), expected);
        assert_eq!(serde_json::to_value(&listing).unwrap()["frameworks"][0]["framework_id"], "f1");
        assert!(Listing { frameworks: vec![] }.text().starts_with("no frameworks have subscribed"));
        assert_eq!(declined(&[(String::new(), 1)].into()), "1: no reason given");
    }
}
