//! The frameworks of scenarios: what they want to run, and how their tasks behave.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use apportion_agent_core::LaunchFailureKind;
use apportion_sdk::{Constraint, Options};
use apportion_types::{Capability, Part, Resources, Role, TaskInfo, limits};
use fastrand::Rng;

use super::{
    jobs::{Jobs, Work},
    words::{DURATION_MAX, Given, Line, Parsed, Word},
};
use crate::{
    machine::{Answers, Behaviour, Ending, OnTerm},
    process::Framework,
    random,
};

/// Tasks of one framework; more of them are told to it as it runs.
pub(super) const TASKS_MAX: usize = 1_000_000;

/// Bytes of a framework's name; it begins every id of its tasks.
const NAME_BYTES_MAX: usize = 40;

/// Ports of one task.
const PORTS_MAX: usize = 1_000;

/// Words that a command would not know from a framework's name.
const RESERVED: &[&str] = &["agent", "agents", "running", "idle"];

const OPTIONS: &[&str] = &[
    "role",
    "tasks",
    "needs",
    "ports",
    "on",
    "starts",
    "lasts",
    "fails",
    "out-of-memory",
    "no-image",
    "health",
    "answers",
    "max",
    "grace",
    "retries",
    "failover",
    "refuse",
    "volume",
    "gang",
    "group",
    "only",
    "capability",
    "offers-max",
];

const FLAGS: &[&str] = &["stored", "forgetful", "hangs", "hoards", "optimistic", "asks", "yields"];

/// MiB of the volume of one task.
const VOLUME_MIB_MAX: u64 = 1_000_000;

/// `NAME:VALUE`.
fn attribute(value: Word<'_>) -> Parsed<(String, String)> {
    let parts = value.text.split_once(':').filter(|(name, _)| !name.is_empty());
    let (name, wanted) = parts
        .ok_or_else(|| value.wrong("is no attribute", "NAME:VALUE, as the agents have it, such as zone:a"))?;
    Ok((name.to_owned(), wanted.to_owned()))
}

/// What tasks answer to those who ask them how they are.
fn answers(value: Word<'_>) -> Parsed<Answers> {
    let all = Duration::from_millis(1)..=DURATION_MAX;
    Ok(match value.text {
        "well" => Answers::Well,
        "badly" => Answers::Badly,
        "never" => Answers::Never,
        text if text.starts_with("turns:") => Answers::InTurns(value.behind("turns:").duration(all)?),
        text if text.starts_with("well:") => Answers::WellAfter(value.behind("well:").duration(all)?),
        _ => {
            return Err(value.wrong("is no answer", "well, badly, never, well:D (after so long), or turns:D"));
        }
    })
}

/// A framework as its line describes it.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) conduct: Conduct,
    roles: Vec<Role>,
    work: Work,
    capabilities: BTreeSet<Capability>,
    /// An attribute that agents must have to be offered at all.
    only: Option<(String, String)>,
    offers_max: Option<u32>,
    remembers: bool,
    failover: Duration,
    refuse: Duration,
}

/// What a framework's tasks do.
#[derive(Debug, Clone)]
pub(super) struct Conduct {
    starts: RangeInclusive<Duration>,
    /// None for tasks that run until they are asked to end.
    lasts: Option<RangeInclusive<Duration>>,
    fails_ppm: u32,
    out_of_memory_ppm: u32,
    hangs: bool,
    no_image_ppm: u32,
    answers: Answers,
}

impl Conduct {
    /// What one task does.
    pub(super) fn draw(&self, task: &TaskInfo, rng: &mut Rng) -> Behaviour {
        let usual = Behaviour::runs();
        let starts_after = random::between(rng, *self.starts.start(), *self.starts.end());
        let serves = task.group.as_ref().is_some_and(|group| group.part == Part::Sidecar);
        let runs_for = self.lasts.as_ref().map(|lasts| random::between(rng, *lasts.start(), *lasts.end()));
        let ends = if random::hits(rng, self.out_of_memory_ppm) {
            Ending::OutOfMemory
        } else if random::hits(rng, self.fails_ppm) {
            Ending::Exit(1)
        } else {
            Ending::Exit(0)
        };
        let on_term = if self.hangs { OnTerm::Hangs } else { usual.on_term };
        let runs_for = runs_for.filter(|_| !serves);
        let fails_to_start = random::hits(rng, self.no_image_ppm).then_some(LaunchFailureKind::Image);
        Behaviour { starts_after, fails_to_start, runs_for, ends, on_term, answers: self.answers }
    }
}

impl Spec {
    /// Reads what stands behind `framework`.
    pub(super) fn parse(name: Word<'_>, line: &mut Line<'_>) -> Parsed<Self> {
        let is_name = name.text.len() <= NAME_BYTES_MAX
            && name.text.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name || RESERVED.contains(&name.text) {
            let expected = format!(
                "a letter, then letters, digits and `_`, at most {NAME_BYTES_MAX}, and none of {}",
                RESERVED.join(", ")
            );
            return Err(name.wrong("is no name of a framework", expected));
        }
        let usual = Behaviour::succeeds_after(Duration::from_secs(1));
        let mut spec = Self {
            name: name.text.to_owned(),
            conduct: Conduct {
                starts: usual.starts_after..=usual.starts_after,
                lasts: usual.runs_for.map(|lasts| lasts..=lasts),
                fails_ppm: 0,
                out_of_memory_ppm: 0,
                hangs: false,
                no_image_ppm: 0,
                answers: usual.answers,
            },
            roles: Vec::new(),
            work: Work::new(name.text),
            capabilities: BTreeSet::new(),
            only: None,
            offers_max: None,
            remembers: true,
            failover: limits::FAILOVER_TIMEOUT_DEFAULT,
            refuse: limits::REFUSE_DEFAULT,
        };
        let mut given = Vec::new();
        for word in line {
            let key = spec.option(word)?;
            if !["role", "capability"].contains(&key) && given.contains(&key) {
                let expected = "each option once; only role= and capability= may be repeated";
                return Err(word.wrong("is given twice", expected));
            }
            given.push(key);
        }
        spec.work.role = spec.roles.first().cloned().unwrap_or_default();
        spec.work
            .check()
            .map_err(|what| name.wrong(format!("has tasks that cannot be: {what}"), "other options"))?;
        Ok(spec)
    }

    /// Reads one word; gives what must not be given again.
    fn option<'a>(&mut self, word: Word<'a>) -> Parsed<&'a str> {
        match word.text {
            "stored" | "forgetful" => {
                self.remembers = word.text == "stored";
                return Ok("stored or forgetful");
            }
            "hangs" => self.conduct.hangs = true,
            "hoards" => self.work.hoards = true,
            "optimistic" => self.work.optimistic = true,
            "asks" => self.work.asks = true,
            "yields" => self.work.yields = true,
            _ if !word.text.contains('=') => {
                let known =
                    format!("{}, or one of {} with a value", FLAGS.join(", "), OPTIONS.join("=, ") + "=");
                return Err(word.wrong("is not known here", known));
            }
            _ => return self.value(word.option(OPTIONS)?),
        }
        Ok(word.text)
    }

    fn value<'a>(&mut self, Given { key, value }: Given<'a>) -> Parsed<&'a str> {
        let all = Duration::ZERO..=DURATION_MAX;
        match key.text {
            "role" => {
                let role: Role = value.read("a role such as eng or eng/ads")?;
                if self.roles.contains(&role) || self.roles.len() >= limits::ROLES_MAX {
                    return Err(value
                        .wrong("is one too many", format!("at most {} different roles", limits::ROLES_MAX)));
                }
                self.roles.push(role);
            }
            "tasks" => self.work.tasks = value.count(0..=TASKS_MAX)?,
            "needs" => self.work.needs = value.read::<Resources>("resources such as cpus:1;mem:128")?,
            "ports" => self.work.ports = value.count(0..=PORTS_MAX)?,
            "on" => self.work.on = Some(attribute(value)?),
            "only" => self.only = Some(attribute(value)?),
            "volume" => self.work.volume_mib = value.number(1..=VOLUME_MIB_MAX)?,
            "gang" => self.work.gang = value.count(1..=TASKS_MAX)?,
            "group" => self.work.group = value.count(1..=limits::GROUP_TASKS_MAX)?,
            "offers-max" => {
                let most = value.number(1..=u64::from(limits::OFFERS_PER_FRAMEWORK_MAX))?;
                self.offers_max = u32::try_from(most).ok();
            }
            "capability" => {
                let name = |capability: &Capability| format!("{capability:?}").to_lowercase();
                let plain = |text: &str| text.replace('_', "");
                let found = Capability::ALL.into_iter().find(|one| name(one) == plain(value.text));
                let expected = "one of revocable_resources, shared_resources, gpu_resources, region_aware, inverse_offers";
                self.capabilities.insert(found.ok_or_else(|| value.wrong("is no capability", expected))?);
            }
            "starts" => self.conduct.starts = value.durations(DURATION_MAX)?,
            "lasts" if value.text == "forever" => self.conduct.lasts = None,
            "lasts" => self.conduct.lasts = Some(value.durations(DURATION_MAX)?),
            "fails" => self.conduct.fails_ppm = value.percent()?,
            "out-of-memory" => self.conduct.out_of_memory_ppm = value.percent()?,
            "no-image" => self.conduct.no_image_ppm = value.percent()?,
            "answers" => self.conduct.answers = answers(value)?,
            "health" => {
                let interval = value.duration(limits::PROBE_INTERVAL_MIN..=limits::PROBE_TIME_MAX)?;
                self.work.health = Some(interval);
            }
            "max" => {
                let most = value.duration(Duration::from_millis(1)..=limits::MAX_COMPLETION_MAX)?;
                self.work.max_completion = Some(most);
            }
            "grace" => self.work.grace = Some(value.duration(Duration::ZERO..=limits::KILL_GRACE_MAX)?),
            "retries" => self.work.retries_max = Some(value.count(0..=TASKS_MAX)?),
            "failover" => self.failover = value.duration(all)?,
            "refuse" => self.refuse = value.duration(all)?,
            known => unreachable!("`{known}` is one of the options"),
        }
        Ok(key.text)
    }

    /// It as a part of a cluster.
    pub(super) fn framework(&self) -> Framework<Jobs> {
        let work = self.work.clone();
        let mut framework = if self.remembers {
            Framework::stored(&self.name, move |store| Jobs::new(work.clone(), store.clone()))
        } else {
            // What it stores is gone with it.
            Framework::new(&self.name, move || Jobs::new(work.clone(), Default::default()))
        };
        for role in &self.roles {
            framework = framework.role(role.as_str());
        }
        let mut options = Options::new();
        for capability in &self.capabilities {
            options = options.capability(*capability);
        }
        if let Some((name, value)) = &self.only {
            options = options.constrain(&self.work.role, [Constraint::attribute(name).is(value)]);
        }
        if let Some(most) = self.offers_max {
            options = options.offers_max(most);
        }
        framework.options(options.build()).failover_timeout(self.failover).refuse_for(self.refuse)
    }
}
