//! What can go wrong, and when: a script of faults, written by hand or drawn from a seed.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{network::Peer, random};

/// Something that goes wrong, with its own end: leaving any of them out leaves a script that makes sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// Nothing gets through to a peer, from it, or both; it heals after a time. What is under way waits.
    Cut {
        /// Whose link.
        peer: Peer,
        /// Which way.
        ways: Ways,
        /// For how long.
        lasts: Duration,
    },
    /// A peer's connection breaks; some of what is under way is lost.
    Break {
        /// Whose.
        peer: Peer,
    },
    /// A peer's link is slower.
    Slow {
        /// Whose.
        peer: Peer,
        /// How many times.
        times: u32,
        /// For how long.
        lasts: Duration,
    },
    /// A process dies on the spot, and starts anew after a time with what it had really stored.
    Crash {
        /// Whose.
        process: Process,
        /// For how long there is none.
        down: Duration,
    },
    /// An agent's machine starts anew: its process dies, and every container with it.
    Reboot {
        /// The agent.
        agent: usize,
        /// From the end to the new process.
        down: Duration,
    },
    /// The next write of an agent's log fails; that ends the process.
    DiskFails {
        /// The agent.
        agent: usize,
        /// From the end to the new process.
        down: Duration,
    },
    /// An operator has an agent deactivated for a time, or until that is possible.
    Deactivate {
        /// The agent.
        agent: usize,
        /// After how long he reactivates it.
        lasts: Duration,
    },
    /// An operator has an agent drained, and reactivated when it is and that time is over.
    Drain {
        /// The agent.
        agent: usize,
        /// After how long he reactivates it at the earliest.
        lasts: Duration,
    },
    /// An operator declares an agent gone; its machine begins anew, as another agent.
    Gone {
        /// The agent.
        agent: usize,
    },
    /// A task that runs is killed by the kernel for want of memory.
    OutOfMemory {
        /// The agent.
        agent: usize,
        /// Which of its running containers, modulo their number.
        container: usize,
    },
}

impl Fault {
    /// A peer and the master do not hear each other for a time.
    pub fn cut(peer: Peer, lasts: Duration) -> Self {
        Fault::Cut { peer, ways: Ways::Both, lasts }
    }

    /// The master dies; another takes its place after a time.
    pub fn master_dies(down: Duration) -> Self {
        Fault::Crash { process: Process::Master, down }
    }

    /// An agent's process dies, and a new one begins after a time; its tasks run on.
    pub fn agent_dies(agent: usize, down: Duration) -> Self {
        Fault::Crash { process: Process::Agent(agent), down }
    }

    /// A framework's process dies, and a new one begins after a time; its tasks run on.
    pub fn framework_dies(framework: usize, down: Duration) -> Self {
        Fault::Crash { process: Process::Framework(framework), down }
    }
}

/// Which way a link is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ways {
    /// Neither hears the other.
    Both,
    /// The master does not hear the peer.
    ToMaster,
    /// The peer does not hear the master.
    FromMaster,
}

/// A process that can crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Process {
    /// The master.
    Master,
    /// An agent, by its number.
    Agent(usize),
    /// A framework, by its number.
    Framework(usize),
}

/// A fault and when it happens, from the start of the run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// When.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

impl Timed {
    /// When it is over, and what it did is undone.
    pub fn over(&self) -> Duration {
        let lasts = match self.fault {
            Fault::Cut { lasts, .. }
            | Fault::Slow { lasts, .. }
            | Fault::Deactivate { lasts, .. }
            | Fault::Drain { lasts, .. } => lasts,
            Fault::Crash { down, .. } | Fault::Reboot { down, .. } | Fault::DiskFails { down, .. } => down,
            Fault::Break { .. } | Fault::Gone { .. } | Fault::OutOfMemory { .. } => Duration::ZERO,
        };
        self.at + lasts
    }
}

/// Faults by probability: how often each kind happens in a minute, in the whole cluster.
#[derive(Debug, Clone, PartialEq)]
pub struct Chaos {
    /// From the start of the run, faults begin for so long.
    pub lasts: Duration,
    /// The longest that one holds.
    pub longest: Duration,
    /// Links cut, per minute.
    pub cuts: f64,
    /// Connections broken.
    pub breaks: f64,
    /// Links slowed, up to 100 times.
    pub slow: f64,
    /// Crashes of the master.
    pub master_crashes: f64,
    /// Crashes of agents.
    pub agent_crashes: f64,
    /// Reboots of agents' machines.
    pub reboots: f64,
    /// Failures of agents' disks.
    pub disk_failures: f64,
    /// Crashes of frameworks.
    pub framework_crashes: f64,
    /// Tasks killed for want of memory.
    pub out_of_memory: f64,
    /// Agents that an operator takes out of use: deactivated, drained, or gone.
    pub out_of_use: f64,
}

impl Chaos {
    /// Nothing goes wrong.
    pub const NONE: Chaos = Chaos {
        lasts: Duration::ZERO,
        longest: Duration::ZERO,
        cuts: 0.0,
        breaks: 0.0,
        slow: 0.0,
        master_crashes: 0.0,
        agent_crashes: 0.0,
        reboots: 0.0,
        disk_failures: 0.0,
        framework_crashes: 0.0,
        out_of_memory: 0.0,
        out_of_use: 0.0,
    };

    /// A bad day, all of it within so long. No operator makes it worse.
    pub fn bad_day(lasts: Duration) -> Self {
        Self {
            lasts,
            longest: Duration::from_secs(30),
            cuts: 4.0,
            breaks: 4.0,
            slow: 2.0,
            master_crashes: 1.0,
            agent_crashes: 3.0,
            reboots: 0.5,
            disk_failures: 0.5,
            framework_crashes: 1.0,
            out_of_memory: 1.0,
            out_of_use: 0.0,
        }
    }

    /// The script that a seed draws for a cluster of this size, in order of time.
    pub(crate) fn script(&self, seed: u64, agents: usize, frameworks: usize) -> Vec<Timed> {
        let mut rng = random::stream(seed, 5);
        let mut script = Vec::new();
        let minutes = self.lasts.as_secs_f64() / 60.0;
        let kinds: [(f64, Kind); 10] = [
            (self.cuts, Kind::Cut),
            (self.breaks, Kind::Break),
            (self.slow, Kind::Slow),
            (self.master_crashes, Kind::MasterCrash),
            (self.agent_crashes, Kind::AgentCrash),
            (self.reboots, Kind::Reboot),
            (self.disk_failures, Kind::DiskFails),
            (self.framework_crashes, Kind::FrameworkCrash),
            (self.out_of_memory, Kind::OutOfMemory),
            (self.out_of_use, Kind::OutOfUse),
        ];
        for (per_minute, kind) in kinds {
            let expected = (per_minute * minutes).max(0.0);
            let count = expected.floor() as usize + usize::from(rng.f64() < expected.fract());
            for _ in 0..count {
                let at = random::between(&mut rng, Duration::ZERO, self.lasts);
                script.extend(self.draw(&mut rng, kind, agents, frameworks).map(|fault| Timed { at, fault }));
            }
        }
        script.sort_by_key(|timed| timed.at);
        script
    }

    fn draw(&self, rng: &mut fastrand::Rng, kind: Kind, agents: usize, frameworks: usize) -> Option<Fault> {
        // Short ones and long ones are equally likely: they find different bugs.
        let longest = self.longest.as_micros().max(2) as f64;
        let lasts = Duration::from_micros(longest.powf(0.5 + rng.f64() / 2.0) as u64);
        let agent = (agents > 0).then(|| rng.usize(0..agents));
        let framework = (frameworks > 0).then(|| rng.usize(0..frameworks));
        // Frameworks are few; without a share of their own they would hardly ever be hit.
        let peer = match (agent, framework) {
            (Some(agent), Some(_)) if rng.u8(0..4) > 0 => Peer::Agent(agent),
            (_, Some(framework)) => Peer::Framework(framework),
            (Some(agent), None) => Peer::Agent(agent),
            (None, None) => return None,
        };
        Some(match kind {
            Kind::Cut => {
                let ways = [Ways::Both, Ways::ToMaster, Ways::FromMaster][rng.usize(0..3)];
                Fault::Cut { peer, ways, lasts }
            }
            Kind::Break => Fault::Break { peer },
            Kind::Slow => Fault::Slow { peer, times: rng.u32(2..=100), lasts },
            Kind::MasterCrash => Fault::Crash { process: Process::Master, down: lasts },
            Kind::AgentCrash => Fault::Crash { process: Process::Agent(agent?), down: lasts },
            Kind::Reboot => Fault::Reboot { agent: agent?, down: lasts },
            Kind::DiskFails => Fault::DiskFails { agent: agent?, down: lasts },
            Kind::FrameworkCrash => Fault::Crash { process: Process::Framework(framework?), down: lasts },
            Kind::OutOfMemory => Fault::OutOfMemory { agent: agent?, container: rng.usize(0..64) },
            Kind::OutOfUse => match rng.u8(0..5) {
                0 | 1 => Fault::Deactivate { agent: agent?, lasts },
                2 | 3 => Fault::Drain { agent: agent?, lasts },
                _ => Fault::Gone { agent: agent? },
            },
        })
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Cut,
    Break,
    Slow,
    MasterCrash,
    AgentCrash,
    Reboot,
    DiskFails,
    FrameworkCrash,
    OutOfMemory,
    OutOfUse,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Agent(agent) => write!(f, "agent {agent}"),
            Peer::Framework(framework) => write!(f, "framework {framework}"),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Process::Master => f.write_str("master"),
            Process::Agent(agent) => write!(f, "agent {agent}"),
            Process::Framework(framework) => write!(f, "framework {framework}"),
        }
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ways::Both => "both",
            Ways::ToMaster => "to-master",
            Ways::FromMaster => "from-master",
        })
    }
}

/// As a line of a scenario has it.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Cut { peer, ways, lasts } => write!(f, "cut {peer} {ways} for {lasts:?}"),
            Fault::Break { peer } => write!(f, "break {peer}"),
            Fault::Slow { peer, times, lasts } => write!(f, "slow {peer} {times} times for {lasts:?}"),
            Fault::Crash { process, down } => write!(f, "crash {process} for {down:?}"),
            Fault::Reboot { agent, down } => write!(f, "reboot agent {agent} for {down:?}"),
            Fault::DiskFails { agent, down } => write!(f, "fail-disk agent {agent} for {down:?}"),
            Fault::Deactivate { agent, lasts } => write!(f, "deactivate agent {agent} for {lasts:?}"),
            Fault::Drain { agent, lasts } => write!(f, "drain agent {agent} for {lasts:?}"),
            Fault::Gone { agent } => write!(f, "gone agent {agent}"),
            Fault::OutOfMemory { agent, container } => write!(f, "out-of-memory agent {agent} {container}"),
        }
    }
}
