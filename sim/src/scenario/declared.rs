//! What a scenario declares before its first command, and the cluster that comes of it.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{AgentCapability, AgentInfo, FaultDomain, Resources};

use super::{
    chance, fault,
    framework::Spec,
    settings::Settings,
    words::{DURATION_MAX, Line, Mistake, Parsed, Word},
};
use crate::{
    Cluster,
    fault::{Chaos, Timed},
    machine::Behaviour,
    network::Delays,
};

/// Agents of one scenario: ten times the largest cluster that anybody has reported.
const AGENTS_MAX: usize = 100_000;

/// Frameworks of one scenario.
const FRAMEWORKS_MAX: usize = 1_000;

/// The most that a clock may be wrong.
const SKEW_MAX: Duration = Duration::from_secs(30 * 24 * 3600);

/// What a declaration begins with.
pub(super) const KINDS: &[&str] = &[
    "seed",
    "quiet",
    "verbose",
    "agents",
    "framework",
    "role",
    "sorter",
    "set",
    "network",
    "clock-skew",
    "starts-within",
    "launches-fail",
    "signals-fail",
    "chaos",
    "at",
];

/// Who is in the cluster, by which words are faults and commands held to be about somebody.
#[derive(Debug, Default)]
pub(super) struct Cast {
    pub(super) agents: usize,
    pub(super) frameworks: Vec<String>,
}

impl Cast {
    /// An agent's number.
    pub(super) fn agent(&self, word: Word<'_>) -> Parsed<usize> {
        match self.agents {
            0 => Err(word.wrong(
                "is no agent: none is declared above",
                "a line such as `agents 3 cpus:4;mem:4096` first",
            )),
            agents => word.count(0..=agents - 1),
        }
    }

    /// A framework's number, given as such or by its name.
    pub(super) fn framework(&self, word: Word<'_>) -> Parsed<usize> {
        let by_name = self.frameworks.iter().position(|name| name == word.text);
        let by_number = || word.text.parse().ok().filter(|number| *number < self.frameworks.len());
        by_name.or_else(by_number).ok_or_else(|| match self.frameworks.len() {
            0 => word.wrong(
                "is no framework: none is declared above",
                "a line such as `framework left tasks=3` first",
            ),
            _ => word.wrong("is no framework", format!("one of {}", self.frameworks.join(", "))),
        })
    }
}

/// Agents that are alike.
#[derive(Debug)]
struct Agents {
    count: usize,
    resources: Resources,
    attributes: BTreeMap<String, String>,
    domain: Option<FaultDomain>,
    lends: Resources,
}

/// All that is declared.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) cast: Cast,
    pub(super) seed: u64,
    agents: Vec<Agents>,
    frameworks: Vec<Spec>,
    settings: Settings,
    delays: Delays,
    skew: Duration,
    starts_within: Option<Duration>,
    launches_fail_ppm: u32,
    signals_fail_ppm: u32,
    chaos: Chaos,
    script: Vec<Timed>,
}

impl Declared {
    pub(super) fn new() -> Self {
        Self {
            cast: Cast::default(),
            seed: 0,
            agents: Vec::new(),
            frameworks: Vec::new(),
            settings: Settings::new(),
            delays: Delays::default(),
            skew: Duration::ZERO,
            starts_within: None,
            launches_fail_ppm: 0,
            signals_fail_ppm: 0,
            chaos: Chaos::NONE,
            script: Vec::new(),
        }
    }

    /// Reads what stands behind a declaration's first word, `kind`.
    pub(super) fn parse(&mut self, kind: Word<'_>, line: &mut Line<'_>) -> Parsed<()> {
        let all = Duration::ZERO..=DURATION_MAX;
        match kind.text {
            "seed" => self.seed = line.word("the seed")?.number(0..=u64::MAX)?,
            "agents" => self.agents(line)?,
            "framework" => self.framework(line)?,
            "role" => self.settings.role(line)?,
            "sorter" => self.settings.sorter(line)?,
            "set" => self.settings.set(line)?,
            "network" => self.delays = chance::delays(line)?,
            "clock-skew" => {
                self.skew = line.word("how wrong clocks are")?.duration(Duration::ZERO..=SKEW_MAX)?
            }
            "starts-within" => {
                self.starts_within = Some(line.word("within how long processes start")?.duration(all)?);
            }
            "launches-fail" => self.launches_fail_ppm = line.word("how many launches fail")?.percent()?,
            "signals-fail" => self.signals_fail_ppm = line.word("how many signals fail")?.percent()?,
            "chaos" => self.chaos = chance::chaos(line)?,
            "at" => {
                let at = line.word("when, from the start of the run")?.duration(all)?;
                let fault = fault::parse_all(line, &self.cast)?;
                self.script.push(Timed { at, fault });
            }
            _ => return Err(kind.wrong("is no declaration", format!("one of {}", KINDS.join(", ")))),
        }
        line.end()
    }

    fn agents(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        let number = line.word("how many agents")?;
        let room = AGENTS_MAX - self.cast.agents;
        if room == 0 {
            return Err(number.wrong("is too many", format!("at most {AGENTS_MAX} agents in all")));
        }
        let count = number.count(1..=room)?;
        let word = line.word("the resources of each, such as cpus:4;mem:4096")?;
        let resources: Resources = word.read("resources such as cpus:4;mem:4096;ports:[31000-31009]")?;
        if resources.is_empty() {
            return Err(word.wrong("is nothing", "resources such as cpus:4;mem:4096"));
        }
        let (mut attributes, mut domain, mut lends) = (BTreeMap::new(), None, Resources::new());
        for word in line {
            if let Some(place) = word.text.strip_prefix('@') {
                let (region, zone) = place
                    .split_once('/')
                    .filter(|(region, zone)| !region.is_empty() && !zone.is_empty())
                    .ok_or_else(|| word.wrong("is no fault domain", "@REGION/ZONE, such as @eu/a"))?;
                domain = Some(FaultDomain { region: region.to_owned(), zone: zone.to_owned() });
                continue;
            }
            if let Some(lent) = word.text.strip_prefix('+') {
                let lent = Word { text: lent, column: word.column + 1 };
                lends = lent.read("what is lent at most, such as +cpus:2")?;
                continue;
            }
            let (name, value) = word
                .text
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
                .ok_or_else(|| word.wrong("is no attribute", "NAME=VALUE, such as zone=a"))?;
            if attributes.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(word.wrong("is given twice", "each attribute once"));
            }
        }
        self.cast.agents += count;
        self.agents.push(Agents { count, resources, attributes, domain, lends });
        Ok(())
    }

    fn framework(&mut self, line: &mut Line<'_>) -> Parsed<()> {
        let name = line.word("the framework's name")?;
        if self.frameworks.len() >= FRAMEWORKS_MAX {
            return Err(name.wrong("is one too many", format!("at most {FRAMEWORKS_MAX} frameworks")));
        }
        if self.cast.frameworks.iter().any(|known| known == name.text) {
            return Err(name.wrong("is declared twice", "a name of its own for each framework"));
        }
        let spec = Spec::parse(name, line)?;
        self.cast.frameworks.push(spec.name.clone());
        self.frameworks.push(spec);
        Ok(())
    }

    /// What only the whole shows.
    pub(super) fn check(&self) -> Result<(), Mistake> {
        let mistake = |what: &str, expected: &str| Mistake {
            column: 1,
            what: what.to_owned(),
            expected: expected.to_owned(),
        };
        if self.cast.agents == 0 {
            return Err(mistake("no agent is declared", "a line such as `agents 3 cpus:4;mem:4096`"));
        }
        Ok(())
    }

    /// The cluster; each call gives the same.
    pub(super) fn cluster(&self) -> Cluster {
        let mut cluster = self
            .settings
            .apply(Cluster::new())
            .delays(self.delays.clone())
            .clock_skew(self.skew)
            .launches_fail(self.launches_fail_ppm)
            .signals_fail(self.signals_fail_ppm)
            .chaos(self.chaos.clone());
        if let Some(most) = self.starts_within {
            cluster = cluster.starts_within(most);
        }
        let alike = self.agents.iter().flat_map(|agents| std::iter::repeat_n(agents, agents.count));
        for (number, agents) in alike.enumerate() {
            cluster = cluster.agent(AgentInfo {
                hostname: host(number),
                address: format!("{}:5051", host(number)),
                resources: agents.resources.clone(),
                attributes: agents.attributes.clone(),
                domain: agents.domain.clone(),
                unenforced: Vec::new(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                capabilities: AgentCapability::ALL.into(),
                work_dir_id: host(number),
            });
            if !agents.lends.is_empty() {
                cluster = cluster.lending(agents.lends.clone());
            }
        }
        for spec in &self.frameworks {
            cluster.add(spec.framework());
        }
        for timed in &self.script {
            cluster = cluster.fault(timed.at, timed.fault.clone());
        }
        let conduct: BTreeMap<_, _> =
            self.frameworks.iter().map(|spec| (spec.name.clone(), spec.conduct.clone())).collect();
        cluster.workload(move |task, rng| {
            conduct.get(&task.name).map_or_else(Behaviour::runs, |conduct| conduct.draw(task, rng))
        })
    }
}

/// The name of an agent's machine.
pub(super) fn host(number: usize) -> String {
    format!("host-{number}")
}

/// The number of the agent whose machine has this name.
pub(super) fn number_of(host: &str) -> Option<usize> {
    host.strip_prefix("host-")?.parse().ok()
}
