//! A cluster to be simulated: who is in it, what its tasks do, what goes wrong.

use std::{collections::BTreeMap, fmt, time::Duration};

use apportion_agent_core as agent;
use apportion_allocator::HierarchicalConfig;
use apportion_master_core as master;
use apportion_sdk::Scheduler;
use apportion_types::{AgentCapability, AgentInfo, Resources, TaskInfo};
use fastrand::Rng;

use crate::{
    check,
    fault::{Chaos, Fault, Timed},
    history::History,
    machine::Behaviour,
    network::{Delays, Network},
    process::{Framework, Handle, Program},
    sim::Sim,
    world::{Agent, FrameworkProcess, MasterProcess, Odds, Parts, Workload, World},
    write::{KillAt, Writes},
};

/// A cluster that has not started.
///
/// Without a word it has no agents and no frameworks, the default settings of a real one, a data center's network, true clocks, tasks
/// that run for a second and succeed, and nothing goes wrong.
pub struct Cluster {
    agents: Vec<AgentInfo>,
    /// What the agents lend at most, by their numbers.
    lends: BTreeMap<usize, Resources>,
    pub(crate) frameworks: Vec<Box<dyn Program>>,
    master: master::Config,
    allocator: HierarchicalConfig,
    configure_agents: Box<dyn Fn(&mut agent::Config)>,
    workload: Workload,
    delays: Delays,
    skew_max: Duration,
    odds: Odds,
    chaos: Chaos,
    script: Vec<Timed>,
    starts_within: Duration,
    kill_at: Option<KillAt>,
}

impl Default for Cluster {
    fn default() -> Self {
        Self::new()
    }
}

impl Cluster {
    /// A cluster of nobody.
    pub fn new() -> Self {
        Self {
            agents: Vec::new(),
            lends: BTreeMap::new(),
            frameworks: Vec::new(),
            master: master::Config::new(""),
            allocator: HierarchicalConfig::default(),
            configure_agents: Box::new(|_| {}),
            workload: Box::new(|_, _| Behaviour::succeeds_after(Duration::from_secs(1))),
            delays: Delays::default(),
            skew_max: Duration::ZERO,
            odds: Odds { launch_fails_ppm: 0, signal_fails_ppm: 0 },
            chaos: Chaos::NONE,
            script: Vec::new(),
            starts_within: Duration::from_millis(100),
            kill_at: None,
        }
    }

    /// So many more agents, each with these resources.
    ///
    /// # Panics
    ///
    /// When the resources are none, such as `cpus:4;mem:8192`.
    pub fn agents(self, count: usize, resources: &str) -> Self {
        self.agents_with(count, resources, &[])
    }

    /// So many more agents, each with these resources and attributes.
    ///
    /// # Panics
    ///
    /// When the resources are none, such as `cpus:4;mem:8192`.
    pub fn agents_with(mut self, count: usize, resources: &str, attributes: &[(&str, &str)]) -> Self {
        let resources: Resources =
            resources.parse().unwrap_or_else(|error| panic!("resources `{resources}`: {error}"));
        let attributes: BTreeMap<_, _> =
            attributes.iter().map(|(name, value)| (String::from(*name), String::from(*value))).collect();
        for _ in 0..count {
            let hostname = format!("host-{}", self.agents.len());
            self.agents.push(AgentInfo {
                address: format!("{hostname}:5051"),
                hostname,
                resources: resources.clone(),
                attributes: attributes.clone(),
                domain: None,
                unenforced: Vec::new(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                capabilities: AgentCapability::ALL.into(),
                work_dir_id: format!("work-dir-{}", self.agents.len()),
            });
        }
        self
    }

    /// One more agent, as it describes itself.
    pub fn agent(mut self, info: AgentInfo) -> Self {
        self.agents.push(info);
        self
    }

    /// The last agent lends up to so much of what stands idle; how much of it changes while things go wrong.
    pub fn lending(mut self, most: Resources) -> Self {
        if let Some(last) = self.agents.len().checked_sub(1) {
            self.lends.insert(last, most);
        }
        self
    }

    /// One more framework; the handle names it in the running simulation.
    pub fn add<S: Scheduler + 'static>(&mut self, framework: Framework<S>) -> Handle<S> {
        self.frameworks.push(Box::new(framework));
        Handle::new(self.frameworks.len() - 1)
    }

    /// One more framework, to which nobody will speak.
    pub fn framework<S: Scheduler + 'static>(mut self, framework: Framework<S>) -> Self {
        self.add(framework);
        self
    }

    /// Decides what each task does when it is launched.
    pub fn workload(mut self, workload: impl FnMut(&TaskInfo, &mut Rng) -> Behaviour + 'static) -> Self {
        self.workload = Box::new(workload);
        self
    }

    /// One more fault, at a time from the start of the run.
    pub fn fault(mut self, at: Duration, fault: Fault) -> Self {
        self.script.push(Timed { at, fault });
        self
    }

    /// Several faults at once, at a time from the start of the run.
    pub fn faults(mut self, at: Duration, faults: impl IntoIterator<Item = Fault>) -> Self {
        self.script.extend(faults.into_iter().map(|fault| Timed { at, fault }));
        self
    }

    /// Faults by probability, beside those of the script.
    pub fn chaos(mut self, chaos: Chaos) -> Self {
        self.chaos = chaos;
        self
    }

    /// A process is killed at one of the run's persisted writes, and another starts a second later with what was stored. How many
    /// there are, a run without it tells: [`Sim::writes`].
    pub fn kill_at(mut self, write: KillAt) -> Self {
        self.kill_at = Some(write);
        self
    }

    /// How long messages take.
    pub fn delays(mut self, delays: Delays) -> Self {
        self.delays = delays;
        self
    }

    /// Each process's clock is wrong by up to so much, and by up to a thousandth too fast or too slow.
    pub fn clock_skew(mut self, most: Duration) -> Self {
        self.skew_max = most;
        self
    }

    /// So many launches in a million fail for the machine's sake.
    pub fn launches_fail(mut self, per_million: u32) -> Self {
        self.odds.launch_fails_ppm = per_million;
        self
    }

    /// So many signals in a million do not get through.
    pub fn signals_fail(mut self, per_million: u32) -> Self {
        self.odds.signal_fails_ppm = per_million;
        self
    }

    /// Processes begin within so long; 100 ms when not given.
    pub fn starts_within(mut self, most: Duration) -> Self {
        self.starts_within = most;
        self
    }

    /// Changes the master's settings, but for its name.
    pub fn master(mut self, change: impl FnOnce(&mut master::Config)) -> Self {
        change(&mut self.master);
        self
    }

    /// Changes the allocator's settings.
    pub fn allocator(mut self, change: impl FnOnce(&mut HierarchicalConfig)) -> Self {
        change(&mut self.allocator);
        self
    }

    /// Changes the settings of every agent.
    pub fn configure_agents(mut self, change: impl Fn(&mut agent::Config) + 'static) -> Self {
        self.configure_agents = Box::new(change);
        self
    }

    /// Starts it. One seed gives one run, to the byte.
    pub fn start(self, seed: u64) -> Sim {
        let script = self.script_of(seed);
        self.start_as(seed, script, History::default(), check::all())
    }

    /// Starts it, and keeps what happens as text ([`Sim::history`]); several times slower.
    pub fn start_with_history(self, seed: u64) -> Sim {
        let script = self.script_of(seed);
        self.start_as(seed, script, History::kept(), check::all())
    }

    /// Starts it without holding it to any property, and so faster: for what only wants to know what such a cluster would do.
    pub fn start_unchecked(self, seed: u64) -> Sim {
        let script = self.script_of(seed);
        self.start_as(seed, script, History::default(), Vec::new())
    }

    pub(crate) fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// Leaves out all but the first agents.
    pub(crate) fn keep_agents(&mut self, count: usize) {
        self.agents.truncate(count);
    }

    /// The faults that a seed brings, in order.
    pub fn script_of(&self, seed: u64) -> Vec<Timed> {
        let mut script = self.chaos.script(seed, self.agents.len(), self.frameworks.len());
        script.extend(self.script.iter().cloned());
        script.sort_by_key(|timed| timed.at);
        script
    }

    pub(crate) fn start_as(
        self,
        seed: u64,
        script: Vec<Timed>,
        history: History,
        checks: Vec<Box<dyn check::Check>>,
    ) -> Sim {
        let agents: Vec<Agent> = self
            .agents
            .into_iter()
            .enumerate()
            .map(|(number, info)| {
                let mut config = agent::Config::new(info);
                (self.configure_agents)(&mut config);
                let mut agent = Agent::new(config);
                agent.lends = self.lends.get(&number).cloned().unwrap_or_default();
                agent
            })
            .collect();
        let network = Network::new(self.delays, agents.len(), self.frameworks.len());
        Sim::new(World::new(Parts {
            seed,
            master: MasterProcess::new(self.master, self.allocator),
            agents,
            frameworks: self.frameworks.into_iter().map(FrameworkProcess::new).collect(),
            network,
            workload: self.workload,
            odds: self.odds,
            skew_max: self.skew_max,
            script,
            checks,
            history,
            starts_within: self.starts_within,
            writes: Writes::new(self.kill_at),
        }))
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("agents", &self.agents.len())
            .field("frameworks", &self.frameworks.len())
            .finish_non_exhaustive()
    }
}
