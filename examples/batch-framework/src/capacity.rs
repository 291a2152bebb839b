//! Whether any agent could ever run a task of the job.
//!
//! A task that is larger than every agent is never offered what it needs, and a scheduler that only waits looks exactly like
//! a busy cluster. So the totals of the agents are asked for, and the job says which resource is missing, and where the most
//! of it is.

use std::fmt;

use apportion_sdk::{Resources, resources::Value};

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
    needs: Resources,
    agents: usize,
    /// One line for each resource that every agent has too little of; empty when each is somewhere, but never all together.
    short: Vec<String>,
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
        // Ranges and sets have no largest; a scalar does, and the person wants to know how far off the task is.
        let largest = agents
            .iter()
            .max_by_key(|agent| agent.total.milli(name))
            .filter(|_| matches!(value, Value::Scalar(_)));
        Some(match largest.map(|agent| (agent.total.milli(name), &agent.hostname)) {
            Some((milli, hostname)) if milli > 0 => {
                format!(
                    "{wanted} is needed, the most is {} on {hostname}",
                    Resources::scalar(name.clone(), milli)
                )
            }
            _ => format!("{wanted} is needed, and no agent has it"),
        })
    });
    Err(TooLarge { needs: needs.clone(), agents: agents.len(), short: short.collect() })
}

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let agents = if self.agents == 1 {
            "the only agent".to_owned()
        } else {
            format!("any of {} agents", self.agents)
        };
        write!(f, "a task needs {}, more than {agents} has: ", self.needs)?;
        match self.short.as_slice() {
            [] => f.write_str("each resource is there, but no agent has all of them together")?,
            short => f.write_str(&short.join("; "))?,
        }
        f.write_str("; ask for less in [task], or wait for a larger agent with --wait")
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
            verdict("cpus:8;mem:256", &agents),
            "a task needs cpus:8;mem:256, more than any of 2 agents has: cpus:8 is needed, the most is cpus:4 on b; \
             ask for less in [task], or wait for a larger agent with --wait"
        );
        let gpus = verdict("cpus:1;gpus:1", &agents[..1]);
        assert!(
            gpus.contains("more than the only agent has: gpus:1 is needed, and no agent has it;"),
            "{gpus}"
        );
    }

    #[test]
    fn enough_of_each_but_never_together_is_told_as_such() {
        let agents = [agent("a", "cpus:8;mem:512"), agent("b", "cpus:1;mem:4GiB")];
        assert!(verdict("cpus:4;mem:1GiB", &agents).contains("no agent has all of them together"));
    }
}
