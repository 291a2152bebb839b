//! What is found in a journal, as text.

use std::time::{Duration, SystemTime};

use apportion_master::replay::Ending;
use apportion_types::{Resources, Time, document::Agent};

use super::answer::{Answer, Given, How, SumAnswer, WhatIfAnswer};
use crate::table::{Table, count, plain};

/// Cycles of which each difference is shown; a long run has too many to be read.
const CYCLES_MAX: usize = 20;

/// The whole answer.
pub(super) fn text(answer: &Answer, how: &How) -> String {
    let sections = [
        head(answer, how),
        agents(answer),
        frameworks(answer),
        shares(answer),
        tasks(answer),
        offers(answer),
        answer.what_if.as_ref().map(|what_if| self::what_if(answer, what_if)).unwrap_or_default(),
    ];
    let filled: Vec<String> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    filled.join("\n")
}

fn head(answer: &Answer, how: &How) -> String {
    let (journal, counts) = (&answer.journal, &answer.counts);
    let how = match how {
        How::Ended(Ending::Complete) => "the master ended there".to_owned(),
        How::Ended(Ending::Incomplete(why)) => {
            format!("the journal stops there, and the master went on: {}", plain(why))
        }
        How::Ended(Ending::Open) => {
            "the journal has no end: its master was killed there, or still runs".to_owned()
        }
        How::Ended(Ending::Until) => "the next comes after the moment asked for".to_owned(),
        How::Broken(_) => "nothing behind it can be read".to_owned(),
    };
    format!(
        "Master {} of apportion {} started at {}.\n{} replayed, up to {} after that; {how}.\n\
         Until then {}, {} made ({} accepted, {} declined, {} rescinded), {} launched.\n",
        plain(&journal.master_id),
        plain(&journal.version),
        time(journal.started_at_us),
        count(journal.events, "event"),
        after(answer, journal.replayed_until_us),
        count(counts.allocation_cycles, "allocation cycle"),
        count(counts.offers_made, "offer"),
        counts.offers_accepted,
        counts.offers_declined,
        counts.offers_rescinded,
        count(counts.tasks_launched, "task"),
    )
}

fn agents(answer: &Answer) -> String {
    let mut table = Table::new(&["AGENT", "STATE", "HOST", ">TASKS", "ALLOCATED", "OFFERED", "FREE"]);
    for agent in &answer.state.agents {
        table.row([
            agent.agent_id.to_string(),
            agent.state.to_owned(),
            agent.hostname.clone(),
            agent.held.tasks.to_string(),
            amounts(&agent.held.allocated.0),
            amounts(&agent.held.offered.0),
            free(agent).map_or_else(|| "-".to_owned(), |free| amounts(&free)),
        ]);
    }
    filled(&table, answer.state.agents.len())
}

/// What is neither allocated nor offered; none when the agent cannot be reached, and nothing of it is anybody's.
fn free(agent: &Agent) -> Option<Resources> {
    let rest = agent.total.0.checked_sub(&agent.held.allocated.0)?.checked_sub(&agent.held.offered.0)?;
    (agent.state != "unreachable").then_some(rest)
}

fn frameworks(answer: &Answer) -> String {
    let mut table = Table::new(&["FRAMEWORK", "NAME", "STATE", "ROLES", ">TASKS", "ALLOCATED", "OFFERED"]);
    for framework in &answer.state.frameworks {
        let roles: Vec<&str> = framework.roles.iter().map(|role| role.as_str()).collect();
        table.row([
            framework.framework_id.to_string(),
            framework.name.clone(),
            framework.state.to_owned(),
            roles.join(","),
            framework.held.tasks.to_string(),
            amounts(&framework.held.allocated.0),
            amounts(&framework.held.offered.0),
        ]);
    }
    filled(&table, answer.state.frameworks.len())
}

fn shares(answer: &Answer) -> String {
    let mut table = Table::new(&["ROLE", "FRAMEWORK", ">SHARE", "HELD OR OFFERED", ">GIVEN"]);
    for share in &answer.shares {
        table.row([
            share.role.to_string(),
            share.framework_id.as_ref().map_or_else(|| "(all)".to_owned(), ToString::to_string),
            format!("{:.2}%", share.dominant_share * 100.0),
            amounts(&share.allocated.0),
            share.allocations.to_string(),
        ]);
    }
    filled(&table, answer.shares.len())
}

fn tasks(answer: &Answer) -> String {
    let mut table = Table::new(&["TASKS IN STATE", ">COUNT"]);
    for (state, count) in &answer.counts.tasks_by_state {
        table.row([(*state).to_owned(), count.to_string()]);
    }
    filled(&table, answer.counts.tasks_by_state.len())
}

fn offers(answer: &Answer) -> String {
    let mut table =
        Table::new(&["OFFER", "FRAMEWORK", "AGENT", "ROLE", "RESOURCES", ">MADE AFTER", ">UNTIL"]);
    for offer in &answer.state.offers {
        table.row([
            offer.offer_id.to_string(),
            offer.framework_id.to_string(),
            offer.agent_id.to_string(),
            offer.role.to_string(),
            amounts(&offer.resources.0),
            after(answer, offer.made_at_us),
            after(answer, offer.expires_at_us),
        ]);
    }
    filled(&table, answer.state.offers.len())
}

fn what_if(answer: &Answer, what_if: &WhatIfAnswer) -> String {
    let set = what_if.set.join(", ");
    let cycles = count(answer.counts.allocation_cycles, "allocation cycle");
    if what_if.cycles.is_empty() {
        return format!("With {set} the same would have been offered in each of the {cycles}.\n");
    }
    let mut text = format!(
        "With {set} something else would have been offered in {} of {cycles}, each seen by itself:\n\n",
        what_if.cycles.len()
    );
    let mut table = Table::new(&[">AFTER", "ONLY", "ROLE", "FRAMEWORK", "AGENT", "RESOURCES"]);
    for cycle in what_if.cycles.iter().take(CYCLES_MAX) {
        let at = after(answer, cycle.at_us);
        let mut row = |only: &str, given: &Given| {
            table.row([
                at.clone(),
                only.to_owned(),
                given.role.to_string(),
                given.framework_id.to_string(),
                given.agent_id.to_string(),
                amounts(&given.resources.0),
            ]);
        };
        cycle.only_in_run.iter().for_each(|given| row("in the run", given));
        cycle.only_with_set.iter().for_each(|given| row("with --set", given));
    }
    text += &table.to_string();
    if let Some(more) = what_if.cycles.len().checked_sub(CYCLES_MAX).filter(|more| *more > 0) {
        text += &format!("… and {} more; -o json has all\n", count(more as u64, "cycle"));
    }
    let mut table = Table::new(&["ROLE", ">ONLY IN THE RUN", "OF", ">ONLY WITH --SET", "OF"]);
    for role in &what_if.roles {
        let cell = |sum: &SumAnswer| (count(sum.offers, "offer"), amounts(&sum.resources.0));
        let (run, set) = (cell(&role.only_in_run), cell(&role.only_with_set));
        table.row([role.role.to_string(), run.0, run.1, set.0, set.1]);
    }
    format!("{text}\n{table}")
}

fn filled(table: &Table, rows: usize) -> String {
    if rows == 0 { String::new() } else { table.to_string() }
}

fn amounts(resources: &Resources) -> String {
    if resources.is_empty() { "-".to_owned() } else { resources.to_string() }
}

/// How long after the master's start.
fn after(answer: &Answer, at: Time) -> String {
    let since = at.since(answer.journal.started_at_us);
    match since {
        short if short < Duration::from_secs(60) => format!("{:.3}s", short.as_secs_f64()),
        long => humantime::format_duration(Duration::from_secs(long.as_secs())).to_string(),
    }
}

/// A time as text.
pub(super) fn time(at: Time) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_micros(at.as_micros());
    humantime::format_rfc3339_micros(at).to_string()
}
