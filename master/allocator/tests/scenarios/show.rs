//! Answers as one line each.

use apportion_allocator::{Allocation, ClaimDenied, Explanation, RoleExplanation, Share, Verdict};
use apportion_types::Resources;

pub(crate) fn amount(resources: &Resources) -> String {
    if resources.is_empty() { "nothing".to_owned() } else { resources.to_string() }
}

pub(crate) fn allocation(one: &Allocation) -> String {
    format!("{} {} {} {}", one.framework, one.role, one.agent, one.resources)
}

pub(crate) fn denied(denied: &ClaimDenied) -> String {
    let winner = denied.winner.as_ref().map_or(String::new(), |winner| format!(" (first {winner})"));
    format!("{:?}: {}{winner}", denied.code, denied.message)
}

pub(crate) fn share(share: &Share) -> String {
    let who = match &share.framework {
        Some(framework) => format!("{} {framework}", share.role),
        None => share.role.to_string(),
    };
    let (ppm, times) = (share.dominant_share_ppm, share.allocations);
    format!("{who}: {ppm} ppm in {times} allocations, {}", amount(&share.allocated))
}

pub(crate) fn explanation(explanation: &Explanation) -> Vec<String> {
    explanation.roles.iter().flat_map(role).collect()
}

fn role(one: &RoleExplanation) -> Vec<String> {
    let mut place = one.place.map_or("no place".to_owned(), |place| format!("place {place}"));
    if !one.ahead.is_empty() {
        let ahead: Vec<String> =
            one.ahead.iter().map(|(role, framework)| format!("{role} {framework}")).collect();
        place += &format!(" behind {}", ahead.join(", "));
    }
    let (ppm, weight) = (one.dominant_share_ppm, one.weight);
    let mut lines = vec![format!("{}: {ppm} ppm of weight {weight}, {place}", one.role)];
    lines.extend(one.obstacles.iter().map(|obstacle| format!("  {}: {obstacle}", obstacle.code())));
    for (agent, verdict) in &one.agents {
        lines.push(match verdict {
            Verdict::Offered(what) => format!("  {agent} offered: {what}"),
            Verdict::Behind(first) => format!("  {agent} behind: {first} comes before it"),
            Verdict::Blocked(obstacle) => format!("  {agent} {}: {obstacle}", obstacle.code()),
        });
    }
    let counts: Vec<String> = one.counts.iter().map(|(code, count)| format!("{count} {code}")).collect();
    if !counts.is_empty() {
        lines.push(format!("  in all {}", counts.join(", ")));
    }
    lines
}
