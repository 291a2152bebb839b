//! What tasks use, asked of their agents.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_sdk::{
    AgentId, FrameworkId, TaskId,
    operator::{Operator, OperatorError},
    sandbox::{self, TaskUsage},
};
use tokio::{task::JoinSet, time::timeout};

use crate::scale::{Subject, Unknown, Used};

/// Agents, and what was measured there before.
pub(super) struct Agents {
    master: String,
    /// Once a leader was found.
    operator: Option<Operator>,
    /// Where they answer. One that does not is asked for again: an agent that starts anew may answer elsewhere.
    addresses: BTreeMap<AgentId, String>,
    before: BTreeMap<TaskId, TaskUsage>,
}

impl Agents {
    pub(super) fn of(master: &str) -> Self {
        let (addresses, before) = (BTreeMap::new(), BTreeMap::new());
        Self { master: master.to_owned(), operator: None, addresses, before }
    }

    /// Forgets what is of no task and no agent that is measured still.
    pub(super) fn forget_but<'a>(&mut self, tasks: impl Iterator<Item = &'a (TaskId, AgentId)>) {
        let (tasks, agents): (BTreeSet<_>, BTreeSet<_>) = tasks.map(|(task, agent)| (task, agent)).unzip();
        self.before.retain(|task_id, _| tasks.contains(task_id));
        self.addresses.retain(|agent_id, _| agents.contains(agent_id));
    }

    /// What each task of these services uses, as far as agents are to be asked for it; all agents are asked together.
    pub(super) async fn usage(
        &mut self,
        subjects: &[&Subject],
        longest: Duration,
    ) -> BTreeMap<TaskId, Result<Used, Unknown>> {
        let mut tasks: BTreeMap<&AgentId, Vec<&TaskId>> = BTreeMap::new();
        let mut framework = None;
        for subject in subjects.iter().filter(|subject| subject.needs_usage()) {
            framework = subject.framework_id.clone();
            for (task_id, agent_id) in &subject.tasks {
                tasks.entry(agent_id).or_default().push(task_id);
            }
        }
        let mut used = BTreeMap::new();
        let Some(framework) = framework else { return used };
        let mut answers = JoinSet::new();
        // Who finds no master for one agent does not look for it again for the next.
        let mut lost = None;
        for (agent_id, tasks) in &tasks {
            let address = match &lost {
                Some(why) if !self.addresses.contains_key(*agent_id) => Err(String::clone(why)),
                _ => self.address(agent_id, longest).await,
            };
            match address {
                Ok(address) => {
                    let (agent_id, framework) = ((*agent_id).clone(), framework.clone());
                    answers.spawn(async move { (agent_id, ask(&address, &framework, longest).await) });
                }
                Err(why) => {
                    used.extend(tasks.iter().map(|task| ((*task).clone(), Err(Unknown::trouble(&why)))));
                    lost = Some(why).filter(|_| self.operator.is_none());
                }
            }
        }
        while let Some(Ok((agent_id, answer))) = answers.join_next().await {
            let tasks = &tasks[&agent_id];
            match answer {
                Ok(found) => {
                    let found: BTreeMap<_, _> =
                        found.into_iter().map(|it| (it.task_id.clone(), it)).collect();
                    used.extend(
                        tasks.iter().map(|task| ((*task).clone(), self.used(task, found.get(*task)))),
                    );
                }
                Err(why) => {
                    self.addresses.remove(&agent_id);
                    used.extend(tasks.iter().map(|task| ((*task).clone(), Err(Unknown::trouble(&why)))));
                }
            }
        }
        used
    }

    async fn address(&mut self, agent_id: &AgentId, longest: Duration) -> Result<String, String> {
        if let Some(address) = self.addresses.get(agent_id) {
            return Ok(address.clone());
        }
        let ask = async {
            let operator = match self.operator.take() {
                Some(operator) => operator,
                None => Operator::connect(&self.master).await?,
            };
            let agent = operator.agent(agent_id).await;
            // Who does not lead any more is not asked again.
            if matches!(agent, Ok(_) | Err(OperatorError::NotFound { .. })) {
                self.operator = Some(operator);
            }
            agent
        };
        let answer = timeout(longest, ask).await;
        let late = || format!("the master at {} did not answer within {longest:?}", self.master);
        let agent = answer.map_err(|_| late())?.map_err(|error| error.to_string())?;
        self.addresses.insert(agent_id.clone(), agent.info.address.clone());
        Ok(agent.info.address)
    }

    /// What a task uses, with what it had used before.
    fn used(&mut self, task_id: &TaskId, now: Option<&TaskUsage>) -> Result<Used, Unknown> {
        let now = now.ok_or_else(|| Unknown::yet("its agent does not know it yet, or not any more"))?;
        let before = self.before.insert(task_id.clone(), now.clone());
        Ok(Used { cpus: before.and_then(|before| cpus(&before, now)), memory_bytes: now.memory_bytes })
    }
}

/// Processors between two measurements of one run of a task.
fn cpus(before: &TaskUsage, now: &TaskUsage) -> Option<f64> {
    let passed = now.at.as_micros().checked_sub(before.at.as_micros()).filter(|passed| *passed > 0)?;
    let same = before.container_id == now.container_id;
    same.then(|| now.cpu_us.saturating_sub(before.cpu_us) as f64 / passed as f64)
}

async fn ask(address: &str, framework: &FrameworkId, longest: Duration) -> Result<Vec<TaskUsage>, String> {
    match timeout(longest, sandbox::usage(address, Some(framework))).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => {
            Err(format!("the agent at {address} did not answer within {longest:?}; is it busy, or cut off?"))
        }
    }
}

#[cfg(test)]
mod tests {
    use apportion_sdk::Time;

    use super::*;

    fn usage(container_id: &str, at_us: u64, cpu_us: u64) -> TaskUsage {
        TaskUsage {
            framework_id: FrameworkId::new("f").unwrap(),
            task_id: TaskId::new("web.0.1").unwrap(),
            container_id: container_id.to_owned(),
            at: Time::from_micros(at_us),
            cpu_us,
            memory_bytes: Some(1),
            memory_peak_bytes: None,
            pids: None,
            pressure: Default::default(),
            cpus_limit_milli: None,
            memory_limit_bytes: None,
            pids_max: None,
        }
    }

    #[test]
    fn processor_time_is_known_from_the_second_measurement_of_a_run_on() {
        let mut agents = Agents::of("nobody");
        let task_id = TaskId::new("web.0.1").unwrap();
        let mut cpus = |usage: TaskUsage| agents.used(&task_id, Some(&usage)).unwrap().cpus;
        assert_eq!(cpus(usage("c", 1_000_000, 5_000_000)), None);
        assert_eq!(cpus(usage("c", 3_000_000, 6_000_000)), Some(0.5));
        assert_eq!(cpus(usage("c", 3_000_000, 6_000_000)), None, "no time has passed");
        assert_eq!(cpus(usage("d", 9_000_000, 1)), None, "another run counts from nothing");
        assert!(!agents.used(&task_id, None).unwrap_err().trouble);
        agents.forget_but(std::iter::empty());
        assert!(agents.before.is_empty());
    }

    #[tokio::test]
    async fn without_a_master_nothing_is_known_and_the_reason_is() {
        let agent = |name: &str| AgentId::new(name).unwrap();
        let task = |name: &str| TaskId::new(name).unwrap();
        let rule = "max = 3\n[[rule]]\nmetric = 'cpu'\ntarget = 1\n";
        let scale = toml::from_str::<crate::scale::spec::ScaleTable>(rule).unwrap().checked(9).unwrap();
        let subject = Subject {
            service: "web".into(),
            interval: Duration::from_secs(1),
            rules: scale.rules,
            framework_id: FrameworkId::new("f").ok(),
            tasks: vec![(task("web.0.1"), agent("a")), (task("web.1.2"), agent("b"))],
            asleep: false,
        };
        // Nobody listens on a port of this machine that was free a moment ago.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut agents = Agents::of(&free.to_string());
        let used = agents.usage(&[&subject], Duration::from_secs(60)).await;
        assert_eq!(used.len(), 2);
        for unknown in used.into_values().map(Result::unwrap_err) {
            assert!(unknown.trouble && unknown.why.contains("no master answers at"), "{unknown:?}");
        }
    }
}
