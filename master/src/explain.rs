//! Why a framework is, or is not, offered something: the allocator's answer, and what else is known of the framework.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use apportion_allocator::{Explanation, Obstacle, Question, RoleExplanation, Verdict};
use apportion_master_core::{
    OperatorCall, OperatorError, OperatorReply, View,
    view::{FrameworkState, FrameworkView},
};
use apportion_proto::v1;
use apportion_types::{AgentId, FrameworkId, Resources, Time, limits};

use crate::{
    ask::{AskError, Asker, invalid, not_found},
    config::RateLimits,
    metrics::Metrics,
    rpc::wire,
};

/// What is asked: a framework by its id or its name, of one agent or all, for a task of some size.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) framework: String,
    pub(crate) agent: Option<AgentId>,
    pub(crate) needs: Resources,
}

/// What explanations are made of.
#[derive(Clone)]
pub(crate) struct Explainer {
    pub(crate) asker: Asker,
    pub(crate) rates: Arc<RateLimits>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Explainer {
    /// The answer, on the wire.
    pub(crate) async fn explain(
        &self,
        view: Arc<View>,
        asked: Asked,
    ) -> Result<v1::ExplainResponse, AskError> {
        if asked.needs.has_terms() {
            return Err(invalid(format_args!(
                "needs: `{}` is on terms; say how much a task needs, such as `cpus:4;mem:8GiB`",
                asked.needs
            )));
        }
        let framework = find(&view, &asked.framework)?;
        if let Some(agent) = asked.agent.as_ref().filter(|id| !view.agents.contains_key(*id)) {
            return Err(not_found(format!("agent `{agent}`")));
        }
        let explanation = match framework.state {
            // The allocator knows nothing of it any more.
            FrameworkState::Removed => Explanation { roles: Vec::new() },
            _ => {
                let framework = framework.framework_id.clone();
                let question = Question { framework, agent: asked.agent, needs: asked.needs };
                match self.asker.ask(OperatorCall::Explain(question)).await? {
                    OperatorReply::Explained(explanation) => *explanation,
                    other => unreachable!("the core answers what it was asked, not {other:?}"),
                }
            }
        };
        self.count(&explanation);
        let held = |offer: &&Arc<_>| {
            let offer: &apportion_master_core::view::OfferView = offer;
            offer.offer.framework_id == framework.framework_id
        };
        let offers = view.offers.values().filter(held).count() as u64;
        let roles: Vec<v1::RoleExplanation> = explanation.roles.iter().map(role).collect();
        let rate_limit = self.rates.of_principal(&framework.info.principal).map(|limit| v1::RateLimit {
            calls_per_second_milli: limit.per_second_milli,
            capacity: limit.capacity,
        });
        Ok(v1::ExplainResponse {
            framework_id: framework.framework_id.to_string(),
            name: framework.info.name.clone(),
            state: wire::framework_state(framework.state) as i32,
            offers,
            rate_limit,
            summary: summary(framework, &roles, offers),
            roles,
            declined: framework.declined.clone().into_iter().collect(),
            decline_samples: framework.decline_samples.iter().map(wire::decline_sample).collect(),
            requests: wire::requests(framework),
        })
    }

    fn count(&self, explanation: &Explanation) {
        for role in &explanation.roles {
            role.obstacles.iter().for_each(|obstacle| self.metrics.explained(obstacle.code()));
            role.counts.keys().for_each(|code| self.metrics.explained(code));
        }
    }
}

/// The framework of this id, or else the one of this name that is not removed.
fn find<'a>(view: &'a View, text: &str) -> Result<&'a FrameworkView, AskError> {
    if let Some(framework) = FrameworkId::new(text).ok().and_then(|id| view.frameworks.get(&id)) {
        return Ok(framework);
    }
    let named = view.frameworks.values().filter(|framework| framework.info.name == text);
    let (gone, there): (Vec<_>, Vec<_>) = named
        .map(Arc::as_ref)
        .partition(|framework: &&FrameworkView| framework.state == FrameworkState::Removed);
    match (&there[..], &gone[..]) {
        ([one], _) | ([], [one]) => Ok(one),
        ([], _) => {
            let start: String = text.chars().take(64).flat_map(char::escape_debug).collect();
            Err(not_found(format!("framework `{start}`")))
        }
        (several, _) => {
            let ids: Vec<&str> = several.iter().take(10).map(|each| each.framework_id.as_str()).collect();
            let why = format!(
                "`{text}` is the name of {} frameworks: {}; give the id of one",
                several.len(),
                ids.join(", ")
            );
            Err(OperatorError::Conflict { why }.into())
        }
    }
}

fn role(role: &RoleExplanation) -> v1::RoleExplanation {
    let mut examples: BTreeMap<&'static str, Vec<v1::AgentVerdict>> = BTreeMap::new();
    for (agent, verdict) in &role.agents {
        let examples = examples.entry(verdict.code()).or_default();
        if examples.len() < limits::EXPLAIN_EXAMPLES {
            examples.push(v1::AgentVerdict { agent_id: agent.to_string(), message: line(verdict) });
        }
    }
    let count = |(code, agents): (&&'static str, &u64)| v1::VerdictCount {
        code: wire::verdict(code) as i32,
        agents: *agents,
        examples: examples.remove(code).unwrap_or_default(),
    };
    let mut verdicts: Vec<v1::VerdictCount> = role.counts.iter().map(count).collect();
    verdicts.sort_by_key(|count| std::cmp::Reverse(count.agents));
    let obstacle = |obstacle: &Obstacle| v1::Obstacle {
        code: wire::verdict(obstacle.code()) as i32,
        message: why(obstacle),
    };
    let member = |(role, framework): &(apportion_types::Role, FrameworkId)| v1::RoleMember {
        role: role.to_string(),
        framework_id: framework.to_string(),
    };
    v1::RoleExplanation {
        role: role.role.to_string(),
        dominant_share_ppm: role.dominant_share_ppm,
        weight_milli: role.weight.milli(),
        place: role.place.map(|place| place as u64),
        ahead: role.ahead.iter().map(member).collect(),
        obstacles: role.obstacles.iter().map(obstacle).collect(),
        verdicts,
    }
}

/// A verdict in one line, for people.
fn line(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Offered(resources) => format!("the next cycle offers {resources}"),
        Verdict::Behind(framework) => format!("{framework} is before it and takes it"),
        Verdict::Blocked(obstacle) => why(obstacle),
    }
}

/// An obstacle in one line, with times as people read them: the allocator has no calendar.
fn why(obstacle: &Obstacle) -> String {
    match obstacle {
        Obstacle::Filtered { until } => format!("the framework refused as much, {}", end(*until)),
        other => other.to_string(),
    }
}

fn end(until: Time) -> String {
    /// The end of the year 9999, in seconds: what is written with four digits.
    const LAST: u64 = 253_402_300_799;
    match until.as_micros() / 1_000_000 {
        seconds @ ..=LAST => {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            format!("until {}", humantime::format_rfc3339_seconds(at))
        }
        _ => "for ever".to_owned(),
    }
}

/// One line for each thing to know, the most important first.
fn summary(framework: &FrameworkView, roles: &[v1::RoleExplanation], offers: u64) -> Vec<String> {
    if framework.state == FrameworkState::Removed {
        return vec!["the framework was removed; it must subscribe without an id to begin anew".to_owned()];
    }
    let mut lines = Vec::new();
    if offers > 0 {
        lines.push(format!("it holds {offers} offers that it has not answered"));
    }
    for role in roles {
        let name = &role.role;
        lines.extend(role.obstacles.iter().map(|obstacle| format!("role {name}: {}", obstacle.message)));
        for count in &role.verdicts {
            let agents = if count.agents == 1 { "agent" } else { "agents" };
            let example = match &count.examples[..] {
                [] => String::new(),
                [first, ..] => format!("; {}: {}", first.agent_id, first.message),
            };
            lines.push(format!("role {name}: {} {agents} {}{example}", count.agents, phrase(count.code())));
        }
        if let (Some(place), [.., nearest]) = (role.place, &role.ahead[..]) {
            lines.push(format!(
                "role {name}: {} frameworks are before it, the nearest {} in role {}",
                place - 1,
                nearest.framework_id,
                nearest.role
            ));
        }
    }
    let mut declined: Vec<_> = framework.declined.iter().collect();
    declined.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    lines.extend(
        declined.iter().take(3).map(|(reason, times)| format!("it declined {times} offers: {reason}")),
    );
    lines
}

/// What agents of a verdict are, in words.
fn phrase(code: v1::Verdict) -> &'static str {
    match code {
        v1::Verdict::Offered => "would be offered",
        v1::Verdict::Behind => "go to somebody before it",
        v1::Verdict::AgentInactive => "take no part",
        v1::Verdict::NothingFree => "have nothing free for it",
        v1::Verdict::UnderMinimum => "have less than the minimum free",
        v1::Verdict::TooSmall => "have too little free",
        v1::Verdict::Filtered => "were refused by it",
        v1::Verdict::Constraint => "are excluded by its own constraints",
        v1::Verdict::Gpus => "have gpus that it does not say it can use",
        v1::Verdict::Region => "are in another region",
        v1::Verdict::QuotaLimit => "are beyond a quota limit",
        v1::Verdict::Headroom => "must stay free for guarantees",
        _ => "are not offered",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_ends_at_a_time_that_people_read() {
        let filtered = |until| line(&Verdict::Blocked(Obstacle::Filtered { until }));
        let told = filtered(Time::from_micros(1_795_442_400_123_456));
        assert_eq!(told, "the framework refused as much, until 2026-11-23T14:00:00Z");
        assert!(filtered(Time::from_micros(u64::MAX)).ends_with(", for ever"));
    }
}
