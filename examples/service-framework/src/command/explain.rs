//! How it is shown why a service is as it is.

use std::time::Duration;

use humantime::format_duration;

use crate::{
    scale::plot,
    state::{Explained, ScalingView},
};

/// Changes that are shown.
const CHANGES_SHOWN: usize = 10;

/// For people.
pub(super) fn text(explained: &Explained) -> String {
    let Explained { service, replicas, ready, .. } = explained;
    let mut lines = vec![format!("{service}: {ready} of {replicas} replicas are ready")];
    if let Some(why) = &explained.unserved {
        lines.push(format!("  clients do not reach it, or not all of its replicas: {why}"));
    }
    if !explained.waits_for.is_empty() {
        lines.push(format!("  it is started when `{}` is complete", explained.waits_for.join("`, `")));
    }
    for (replica, millis) in &explained.pauses {
        lines.push(format!("  replica {replica} ended, and starts again in {}", span(*millis * 1000)));
    }
    if let Some(end) = &explained.trouble.last_end {
        lines.push(format!("  {} ago: {}", span(explained.at_us.saturating_sub(end.at_us)), end.what));
    }
    if let Some(why) = &explained.trouble.given_up {
        lines.push(format!("  the revision before was given up: {why}"));
    }
    for waiting in &explained.waiting {
        let (count, role) = (waiting.replicas, &waiting.role);
        lines.push(format!(
            "  {count} of revision {} wait for an offer for role {role} with {}",
            waiting.revision, waiting.needs
        ));
    }
    if let Some(why) = &explained.trouble.impossible {
        lines.push(format!("    it fits nowhere: {why}"));
    }
    lines.extend(explained.offers.iter().map(|line| format!("    the master: {line}")));
    match &explained.scaling {
        None => lines
            .push("  it has no [scale]: as many are kept as its description says, or was ordered".to_owned()),
        Some(scaling) => scaled(explained.at_us, scaling, &mut lines),
    }
    lines.join("\n")
}

fn scaled(now_us: u64, scaling: &ScalingView, lines: &mut Vec<String>) {
    let ago = |at_us: u64| format!("{} ago", span(now_us.saturating_sub(at_us)));
    let scale = &scaling.scale;
    let interval = format_duration(scale.interval);
    lines.push(format!("  scaled from {} to {} replicas, measured every {interval}", scale.min, scale.max));
    match scaling.decisions.last() {
        None => lines.push("  nothing was measured yet".to_owned()),
        Some(last) => {
            lines.push(format!("  {}: {last:#}", ago(last.at.as_micros())));
            lines.extend(last.said.iter().map(|said| format!("    {said}")));
        }
    }
    if let Some(millis) = scaling.stands_in_ms {
        let after = span(millis * 1000);
        lines.push(format!(
            "  that has stood for long enough in {after}, if nothing else is measured until then"
        ));
    }
    if !scaling.changes.is_empty() {
        lines.push("  changed:".to_owned());
    }
    for change in scaling.changes.iter().rev().take(CHANGES_SHOWN) {
        lines.push(format!("    {}: {}", ago(change.changed.at_us), change.why));
    }
}

/// As a picture.
pub(super) fn picture(explained: &Explained) -> String {
    plot::svg(&explained.service, explained.scaling.iter().flat_map(|scaling| &scaling.decisions))
}

/// To the second: nobody waits for less.
fn span(micros: u64) -> String {
    format_duration(Duration::from_secs(micros / 1_000_000)).to_string()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use apportion_sdk::Time;

    use super::*;
    use crate::{
        scale::Measured,
        spec::Spec,
        state::{End, Services},
    };

    #[test]
    fn what_holds_a_service_back_is_told_in_lines() {
        let text_of = "name = 'web'\ncommand = 'serve'\nreplicas = 4\n[scale]\nmax = 9\n[[scale.rule]]\nmetric = 'cpu'\ntarget = 0.5\n";
        let spec = Arc::new(Spec::parse(std::path::Path::new("web.toml"), text_of).unwrap());
        let mut services = Services::default();
        let now = Time::from_micros(60_000_000);
        services.apply(vec![spec], false, Time::ZERO, &mut Vec::new()).unwrap();
        let measured = Measured { service: "web".into(), used: BTreeMap::new(), ..Measured::default() };
        services.measured(&[measured], Time::from_micros(50_000_000), &mut Vec::new());
        let mut explained = services.explain("web", now).unwrap();
        explained.trouble.impossible = Some("the only agent could not run one".to_owned());
        explained.trouble.last_end =
            Some(End { what: "replica 0 ended: no such file".to_owned(), at_us: 57_000_000 });
        explained.offers = vec!["role *: no agent is registered".to_owned()];
        explained.unserved = Some("cannot listen".to_owned());
        let expected = "\
web: 0 of 4 replicas are ready
  clients do not reach it, or not all of its replicas: cannot listen
  3s ago: replica 0 ended: no such file
  4 of revision 1 wait for an offer for role * with cpus:0.1;mem:64
    it fits nowhere: the only agent could not run one
    the master: role *: no agent is registered
  scaled from 1 to 9 replicas, measured every 15s
  10s ago: 4 replicas stay: nothing is measured
    cpu at 0.5 for each: not known: no replica is ready";
        assert_eq!(text(&explained), expected);
        assert!(picture(&explained).contains("<svg"));
        let told: Explained = serde_json::from_str(&serde_json::to_string(&explained).unwrap()).unwrap();
        assert_eq!(told, explained);
        assert!(services.explain("db", now).is_err());
    }
}
