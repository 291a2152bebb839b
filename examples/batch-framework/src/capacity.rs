//! Whether any agent could ever run a task of the job.
//!
//! A task that is larger than every agent is never offered what it needs, and a scheduler that only waits looks exactly like
//! a busy cluster. So the totals of the agents are asked for, and the job says which resource is missing, and where the most
//! of it is.

use std::{fmt, time::Duration};

use apportion_sdk::{
    Resources, Time,
    operator::{AgentState, Operator, OperatorError},
    resources::{Name, Value, milli_mib_to_bytes},
};

use crate::summary;

/// How long a verdict must stand before a job that has launched nothing yet is given up: the agents of a cluster that is
/// being started register one after the other.
pub const PATIENCE_FIRST: Duration = Duration::from_secs(2);

/// The same for a job of which something was launched, so that a large enough agent was there: after a change of master it
/// may take a while to be listed again.
pub const PATIENCE_LATER: Duration = Duration::from_secs(60);

/// An agent's whole resources, used or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Size {
    /// Its host's name.
    pub hostname: String,
    /// All that it has.
    pub total: Resources,
}

/// Why no agent can run a task of the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TooLarge {
    agents: usize,
    /// Of a gang: how many of its tasks wait, how many there would be room for, and what is missing for the others.
    gang: Option<(usize, usize, Resources)>,
    /// One line for each resource that every agent has too little of; empty when each is somewhere, but never all together.
    short: Vec<String>,
}

/// Asks a master for the agents that it counts on, and gives the connection back for the next time. One that is unreachable
/// may never return, so that a task does not wait for it.
pub async fn sizes(operator: Option<Operator>, master: &str) -> Result<(Operator, Vec<Size>), OperatorError> {
    let operator = match operator {
        Some(operator) => operator,
        None => Operator::connect(master).await?,
    };
    let agents = operator.agents().await?.into_iter().filter(|agent| agent.state != AgentState::Unreachable);
    let sizes =
        agents.map(|agent| Size { hostname: agent.info.hostname, total: agent.info.resources }).collect();
    Ok((operator, sizes))
}

/// Compares what a task needs with every agent. No agent at all is no verdict: they may be about to register.
pub fn check(needs: &Resources, agents: &[Size]) -> Result<(), TooLarge> {
    if agents.is_empty() || agents.iter().any(|agent| agent.total.contains(needs)) {
        return Ok(());
    }
    let short = needs.iter().filter_map(|(name, value)| {
        let wanted = Resources::of(name.clone(), value.clone());
        if agents.iter().any(|agent| agent.total.contains(&wanted)) {
            return None;
        }
        let largest = agents.iter().max_by_key(|agent| agent.total.milli(name))?;
        // Ranges and sets have no largest; a scalar does, and the person wants to know how far off the task is.
        Some(match (value, largest.total.milli(name)) {
            (Value::Scalar(milli), most) if most > 0 => {
                let (needed, most) = (amount(name, *milli), amount(name, most));
                format!("{name} {needed} is needed, the most is {most} on {}", largest.hostname)
            }
            _ => format!("{wanted} is needed, and no agent has it"),
        })
    });
    Err(TooLarge { agents: agents.len(), gang: None, short: short.collect() })
}

/// Compares what so many tasks need that start together with all agents, each of which could run one of them.
pub fn check_gang(needs: &Resources, together: usize, agents: &[Size]) -> Result<(), TooLarge> {
    if agents.is_empty() || together <= 1 {
        return Ok(());
    }
    let mut room = 0;
    for agent in agents {
        let mut left = agent.total.clone();
        while room < together && left.contains(needs) {
            left.saturating_sub(needs);
            room += 1;
        }
    }
    if room == together {
        return Ok(());
    }
    let mut missing = Resources::new();
    (room..together).for_each(|_| missing += needs);
    Err(TooLarge { agents: agents.len(), gang: Some((together, room, missing)), short: Vec::new() })
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents = if self.agents == 1 {
            "the only agent".to_owned()
        } else {
            format!("each of the {} agents", self.agents)
        };
        if let Some((tasks, room, missing)) = &self.gang {
            let all = if self.agents == 1 { agents } else { format!("all {} agents", self.agents) };
            return write!(
                f,
                "a gang of {tasks} tasks is larger than {all}: there is room for {room} of them, and `{missing}` is missing for the others"
            );
        }
        write!(f, "a task is larger than {agents}: ")?;
        match self.short.as_slice() {
            [] => f.write_str("each resource is there, but no agent has all of them together"),
            short => f.write_str(&short.join("; ")),
        }
    }
}

/// An amount as a person would write it in a job file.
fn amount(name: &Name, milli: i64) -> String {
    match name.is_bytes() {
        true => summary::bytes(milli_mib_to_bytes(milli)),
        false => Value::Scalar(milli).to_string(),
    }
}

/// What is to be done about a verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Tell the person; said once for each sentence.
    Say(String),
    /// End what waits.
    GiveUp(String),
}

/// Looks at the agents again and again while tasks wait.
#[derive(Debug, Default)]
pub struct Watch {
    /// Never give up: the person expects a larger agent.
    wait: bool,
    /// What else a person may do.
    remedy: &'static str,
    /// Since when no agent is large enough, and why none is.
    since: Option<Time>,
    verdict: Option<String>,
    said: Option<String>,
}

impl Watch {
    /// `wait` is whether to wait for ever, and only say so.
    pub fn new(wait: bool) -> Self {
        Self {
            wait,
            remedy: "ask for less in [task], or wait for a larger agent with --wait",
            ..Self::default()
        }
    }

    /// The same for a job of a queue, where another flag says to wait.
    pub fn of_queue(wait: bool) -> Self {
        let remedy = "ask for less in the job file, or submit it with --wait-for-agents";
        Self { remedy, ..Self::new(wait) }
    }

    /// Compares again, for tasks of which so many start together. `launched` is whether anything of the job ever was.
    pub fn look(
        &mut self,
        (needs, together): (&Resources, usize),
        agents: &[Size],
        launched: bool,
        now: Time,
    ) -> Option<Advice> {
        let too_large = match check(needs, agents).and_then(|()| check_gang(needs, together, agents)) {
            Err(too_large) => too_large.to_string(),
            Ok(()) => {
                (self.since, self.verdict) = (None, None);
                let none = "no agent is registered; waiting for one".to_owned();
                return if agents.is_empty() { self.say(none) } else { None };
            }
        };
        self.verdict = Some(too_large.clone());
        let patience = if launched { PATIENCE_LATER } else { PATIENCE_FIRST };
        if now.since(*self.since.get_or_insert(now)) < patience {
            return None;
        }
        match self.wait {
            true => self.say(format!("waiting for a larger agent: {too_large}")),
            false => Some(Advice::GiveUp(format!("{too_large}; {}", self.remedy))),
        }
    }

    /// Why no agent is large enough, as it was seen last; it may not have stood for long.
    pub fn verdict(&self) -> Option<&str> {
        self.verdict.as_deref()
    }

    fn say(&mut self, what: String) -> Option<Advice> {
        let new = self.said.as_ref() != Some(&what);
        self.said = Some(what.clone());
        new.then_some(Advice::Say(what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(hostname: &str, total: &str) -> Size {
        Size { hostname: hostname.to_owned(), total: total.parse().unwrap() }
    }

    fn verdict(needs: &str, agents: &[Size]) -> String {
        check(&needs.parse().unwrap(), agents).unwrap_err().to_string()
    }

    #[test]
    fn what_fits_one_agent_is_no_verdict() {
        let agents = [agent("a", "cpus:1;mem:512"), agent("b", "cpus:4;mem:2GiB")];
        assert_eq!(check(&"cpus:4;mem:2GiB".parse().unwrap(), &agents), Ok(()));
        assert_eq!(
            check(&"cpus:400".parse().unwrap(), &[]),
            Ok(()),
            "without agents there is nothing to compare with"
        );
    }

    #[test]
    fn the_resource_and_the_largest_agent_are_named() {
        let agents = [agent("a", "cpus:1;mem:512"), agent("b", "cpus:4;mem:2GiB")];
        assert_eq!(
            verdict("cpus:8;mem:4GiB", &agents),
            "a task is larger than each of the 2 agents: cpus 8 is needed, the most is 4 on b; mem 4.0GiB is needed, the \
             most is 2.0GiB on b"
        );
        let gpus = verdict("cpus:1;gpus:1", &agents[..1]);
        assert!(gpus.contains("larger than the only agent: gpus:1 is needed, and no agent has it"), "{gpus}");
    }

    #[test]
    fn enough_of_each_but_never_together_is_told_as_such() {
        let agents = [agent("a", "cpus:8;mem:512"), agent("b", "cpus:1;mem:4GiB")];
        assert!(verdict("cpus:4;mem:1GiB", &agents).contains("no agent has all of them together"));
    }

    #[test]
    fn a_verdict_must_stand_before_it_counts() {
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let needs: Resources = "cpus:8".parse().unwrap();
        let (small, large) = ([agent("a", "cpus:1")], [agent("a", "cpus:8")]);
        let mut watch = Watch::new(false);
        assert_eq!(watch.look((&needs, 1), &small, false, at(0)), None, "others may be about to register");
        assert_eq!(watch.look((&needs, 1), &large, false, at(1)), None);
        assert_eq!(watch.look((&needs, 1), &small, true, at(2)), None, "it begins anew");
        assert_eq!(watch.look((&needs, 1), &small, true, at(61)), None);
        let Some(Advice::GiveUp(why)) = watch.look((&needs, 1), &small, true, at(62)) else {
            panic!("it has stood long enough")
        };
        assert!(
            why.ends_with(
                "the most is 1 on a; ask for less in [task], or wait for a larger agent with --wait"
            ),
            "{why}"
        );
    }

    #[test]
    fn a_gang_is_compared_with_all_agents_together() {
        let agents = [agent("a", "cpus:4;mem:512"), agent("b", "cpus:3;mem:4GiB")];
        let needs: Resources = "cpus:2;mem:256".parse().unwrap();
        assert_eq!(check_gang(&needs, 3, &agents), Ok(()));
        assert_eq!(
            check_gang(&needs, 5, &agents).unwrap_err().to_string(),
            "a gang of 5 tasks is larger than all 2 agents: there is room for 3 of them, and `cpus:4;mem:512` is missing for the others"
        );
        assert_eq!(check_gang(&needs, 5, &[]), Ok(()), "they may be about to register");
    }

    #[test]
    fn who_waits_is_told_why_once() {
        let at = |seconds: u64| Time::from_micros(seconds * 1_000_000);
        let needs: Resources = "cpus:8".parse().unwrap();
        let small = [agent("a", "cpus:1")];
        let mut watch = Watch::new(true);
        assert_eq!(
            watch.look((&needs, 1), &[], false, at(0)),
            Some(Advice::Say("no agent is registered; waiting for one".into()))
        );
        assert_eq!(watch.look((&needs, 1), &[], false, at(1)), None);
        assert_eq!(watch.look((&needs, 1), &small, false, at(2)), None);
        let Some(Advice::Say(why)) = watch.look((&needs, 1), &small, false, at(4)) else {
            panic!("it is to be said")
        };
        assert!(
            why.starts_with("waiting for a larger agent: a task is larger than the only agent: cpus 8"),
            "{why}"
        );
        assert_eq!(watch.look((&needs, 1), &small, false, at(100)), None);
    }
}
