//! The commands. `a1` and `f1` name peers (and their newest stream; `f1#1` is the first); `A1`, `F1` and `o1` stand for the ids
//! `m1-A0001`, `m1-F0001` and `m1-O00000001`; any other id is written out.
//!
//! ```text
//! config offer_timeout=5s …                  before everything else
//! hold | commit [n] | release                writes wait; n (all) are done; writes are done at once again
//! advance 5s                                 lets time pass
//! view agents|frameworks|tasks|completed|offers|counters|shares|maintenance|inverse
//! shutdown
//! restart m2                                 the next master, with what the registry has; all streams have ended
//! open a1                                    opens a stream, on which nothing is said yet; `same` says it there
//!
//! agent a1 cpus:4;mem:1024 [id=A1|none] [same] [old] [knows=groups] [host=h] [attr=rack:r1] … [total=RESOURCES] [unenforced=images] … [F1/t1=running:cpus:1,u3] …     opens a stream and registers; `old` knows nothing that not every version knows, knows=groups task groups alone
//! status a1 F1/t1 running [latest=finished] [update=u3|none] [reason=command_exited]
//! pong a1 2 | unregister a1 [message] | close a1
//!
//! subscribe f1 [role=r] … [id=F1|none] [same] [principal=p] [failover=60s] [suppress=r] …   opens a stream and subscribes
//! accept f1 o1 … t1=cpus:1;mem:64 [t2=cpus:1^cpus:2] [t9=cpus:1*] [t4=cpus:1~IMAGE] [t5=cpus:1%NETWORK+HOST_PORT+…] [t7=cpus:1>] [t8=cpus:1>t7] [{ t6=cpus:1&g/main/0/1 … }] [t3!problem] [!problem] [refuse=5s] [many=3000]
//! decline f1 o1 … [refuse=5s] [reason=words]
//! suppress f1 [r …] | revive f1 [r …]
//! kill f1 t1 [grace=5s] | ack f1 t1 [agent=A1] [update=u3] | reconcile f1 [t1] [t2@A1] … | teardown f1 | close f1
//!
//! Also what `model.rs` says.
//!
//! operator kill t1 [framework=F1] [grace=5s] | operator teardown F1
//! operator deactivate A1 | operator reactivate A1 | operator drain A1 [gone] [grace=30s] | operator gone A1
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use apportion_master_core::{ConnId, Event, OperatorCall, RateLimit, RequestId};
use apportion_types::{
    AgentCapability, AgentId, AgentInfo, Command, ContainerInfo, Drain, Execution, FrameworkId,
    FrameworkInfo, GroupId, GroupInfo, Image, IoLimits, OfferId, Part, Reason, Resources, Role, Source,
    TaskId, TaskInfo, TaskState, TaskStatus, UpdateId,
    container::{Control, Unenforced},
    network::{Network, PortMapping, Protocol},
    protocol::{
        agent::{AgentMessage, AgentTask},
        scheduler::{Call, DeclineCode, DeclineReason},
    },
};

use super::{STEP, Scenario, model, print};

pub(super) type Parsed<T> = Result<T, String>;

/// The words of a command: those with `=` are options, and may stand more than once.
pub(super) struct Words<'a> {
    pub(super) plain: Vec<&'a str>,
    options: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    pub(super) fn new(words: &[&'a str], known: &[&str]) -> Self {
        let (mut plain, mut options) = (Vec::new(), Vec::new());
        for word in words {
            match word.split_once('=').filter(|(key, _)| known.contains(key)) {
                Some(option) => options.push(option),
                None => plain.push(*word),
            }
        }
        Self { plain, options }
    }

    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        let wanted: Vec<&str> = self.options.iter().filter(|(k, _)| *k == key).map(|(_, v)| *v).collect();
        wanted.into_iter()
    }

    pub(super) fn one(&self, key: &str) -> Option<&'a str> {
        self.all(key).last()
    }

    pub(super) fn duration(&self, key: &str) -> Parsed<Option<Duration>> {
        self.one(key).map(duration).transpose()
    }
}

pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or("a duration has a unit")?;
    let number: u64 = text[..split].parse().map_err(|_| format!("`{text}` is no duration"))?;
    match &text[split..] {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "min" => Ok(Duration::from_secs(number * 60)),
        "d" => Ok(Duration::from_secs(number * 24 * 3600)),
        unit => Err(format!("`{unit}` is no unit of time")),
    }
}

pub(super) fn said<T, E: ToString>(result: Result<T, E>) -> Parsed<T> {
    result.map_err(|problem| problem.to_string())
}

/// `A1` as `m1-A0001`; anything else stands for itself.
fn full(text: &str, kind: char, width: usize) -> String {
    let number = text.strip_prefix(kind).and_then(|digits| digits.parse::<u64>().ok());
    number.map_or(text.to_owned(), |n| format!("m1-{}{n:0width$}", kind.to_ascii_uppercase()))
}

pub(super) fn agent_id(text: &str) -> Parsed<AgentId> {
    said(AgentId::new(full(text, 'A', 4)))
}

pub(super) fn framework_id(text: &str) -> Parsed<FrameworkId> {
    said(FrameworkId::new(full(text, 'F', 4)))
}

pub(super) fn offer_id(text: &str) -> Parsed<OfferId> {
    said(OfferId::new(full(text, 'o', 8)))
}

pub(super) fn inverse_offer_id(text: &str) -> Parsed<OfferId> {
    said(OfferId::new(full(text, 'i', 8)))
}

fn state(text: &str) -> Parsed<TaskState> {
    TaskState::ALL.into_iter().find(|s| s.name() == text).ok_or_else(|| format!("`{text}` is no state"))
}

pub(super) fn update_id(text: &str) -> Parsed<UpdateId> {
    let number = text.strip_prefix('u').and_then(|digits| digits.parse().ok());
    number.map(|n| UpdateId::new(0, n)).ok_or_else(|| format!("`{text}` is no update"))
}

fn roles(words: &[&str]) -> Parsed<Vec<Role>> {
    words.iter().map(|word| said(Role::new(word))).collect()
}

fn framework_info(words: &Words<'_>) -> Parsed<FrameworkInfo> {
    let mut roles = roles(&words.all("role").collect::<Vec<_>>())?;
    if roles.is_empty() {
        roles.push(Role::default());
    }
    Ok(FrameworkInfo {
        name: "a framework".to_owned(),
        principal: words.one("principal").unwrap_or("p").to_owned(),
        roles,
        failover_timeout: words.duration("failover")?.unwrap_or(Duration::from_secs(60)),
        labels: BTreeMap::new(),
    })
}

/// `cpus:1;mem:64`, with `*` for cores of its own, limits after `^`, the MiB that it may write in a second after `|`, an image after `~`, a
/// network and mapped ports after `%`, and at the end the task group as `&NAME/PART/PLACE/MEMBERS`, with `/NETWORK+HOST_PORT` where it has
/// one, or what runs it: `>NAME` of an executor, or `>` when it is one itself.
pub(super) fn task_info(task_id: &str, resources: &str) -> Parsed<TaskInfo> {
    let (resources, executor) = match resources.split_once('>') {
        Some((resources, executor)) => (resources, Some(executor)),
        None => (resources, None),
    };
    let (resources, group) = resources.split_once('&').unwrap_or((resources, ""));
    let (resources, network) = resources.split_once('%').unwrap_or((resources, ""));
    let (resources, image) = resources.split_once('~').unwrap_or((resources, ""));
    let (resources, writes) = resources.split_once('|').unwrap_or((resources, ""));
    let (resources, limits) = resources.split_once('^').unwrap_or((resources, ""));
    let exclusive = resources.strip_suffix('*');
    let (resources, exclusive_cpus) = (exclusive.unwrap_or(resources), exclusive.is_some());
    let image = match image {
        "" => None,
        name => Some(Box::new(Image::new(said(name.parse())?))),
    };
    let io = match writes {
        "" => None,
        mib => {
            let write_bytes_per_second = Some(said(mib.parse::<u64>())? << 20);
            Some(Box::new(IoLimits { write_bytes_per_second, ..IoLimits::NONE }))
        }
    };
    Ok(TaskInfo {
        task_id: said(TaskId::new(task_id))?,
        name: String::new(),
        resources: said(resources.parse())?,
        limits: said(limits.parse())?,
        pids_max: None,
        volumes: Vec::new(),
        command: Command { argv: vec!["true".to_owned()], env: BTreeMap::new() },
        kill_grace: None,
        labels: BTreeMap::new(),
        container: ContainerInfo {
            image,
            io,
            network: self::network(network)?,
            exclusive_cpus,
            ..ContainerInfo::default()
        },
        supervision: Default::default(),
        group: if group.is_empty() { None } else { Some(Box::new(group_info(group)?)) },
        execution: match executor {
            None => Execution::Agent,
            Some("") => Execution::Executor,
            Some(name) => Execution::By(said(TaskId::new(name))?),
        },
    })
}

fn group_info(text: &str) -> Parsed<GroupInfo> {
    let words: Vec<&str> = text.split('/').collect();
    let [name, part, place, members, rest @ ..] = &words[..] else {
        return Err("a group is written &g/init/0/2 or &g/init/0/2/NETWORK".into());
    };
    let part = Part::ALL.into_iter().find(|known| known.name() == *part).ok_or("which part?")?;
    Ok(GroupInfo {
        group_id: said(GroupId::new(name))?,
        part,
        place: said(place.parse())?,
        members: said(members.parse())?,
        network: self::network(rest.first().unwrap_or(&""))?,
    })
}

fn network(text: &str) -> Parsed<Option<Box<Network>>> {
    let mut words = text.split('+');
    let name = words.next().filter(|name| !name.is_empty());
    let mapping = |port: &str| {
        let host_port = said(port.parse())?;
        Ok(PortMapping { host_port, container_port: 80, protocol: Protocol::Tcp })
    };
    let ports = words.map(mapping).collect::<Parsed<_>>()?;
    Ok(name.map(|name| Box::new(Network { ports, ..Network::new(name) })))
}

fn unenforced(name: &str) -> Parsed<Unenforced> {
    let control = Control::ALL.into_iter().find(|control| control.name() == name).ok_or("which control?")?;
    Ok(Unenforced { control, reason: format!("this machine has no {name}") })
}

fn status(
    task_id: &str,
    state: TaskState,
    reason: Option<Reason>,
    update: Option<UpdateId>,
) -> Parsed<TaskStatus> {
    Ok(TaskStatus {
        task_id: said(TaskId::new(task_id))?,
        agent_id: None,
        state,
        reason,
        source: Source::Agent,
        message: String::new(),
        at: apportion_types::Time::ZERO,
        update_id: update,
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    })
}

/// `F1/t1=running:cpus:1,u3`: a task as its agent names it, with the head of its updates.
fn agent_task(word: &str) -> Parsed<AgentTask> {
    let (key, rest) = word.split_once('=').ok_or("a task is written F1/t1=running:cpus:1")?;
    let (framework, task_id) = key.split_once('/').ok_or("a task is named F1/t1")?;
    let (state_text, resources) = rest.split_once(':').ok_or("a state and resources are missing")?;
    let (resources, update) = resources.split_once(',').map_or((resources, None), |(r, u)| (r, Some(u)));
    let state = state(state_text)?;
    let unacknowledged = update.map(|u| status(task_id, state, None, Some(update_id(u)?))).transpose()?;
    Ok(AgentTask {
        framework_id: framework_id(framework)?,
        framework_info: framework_info(&Words::new(&[], &[]))?,
        role: Role::default(),
        info: task_info(task_id, resources)?,
        state,
        unacknowledged,
    })
}

impl Scenario {
    /// Plays one command, and returns what the master did.
    pub(crate) fn command(&mut self, line: &str) -> Parsed<Vec<String>> {
        self.out.clear();
        let words: Vec<&str> = line.split_whitespace().collect();
        let (verb, words) = words.split_first().ok_or("an empty command")?;
        match *verb {
            "config" => {
                for word in words {
                    let (key, value) = word.split_once('=').ok_or("a setting is written key=value")?;
                    let config = self.config();
                    match key {
                        "offer_timeout" => config.offer_timeout = duration(value)?,
                        "agent_reregister_timeout" => config.agent_reregister_timeout = duration(value)?,
                        "agent_ping_interval" => config.agent_ping_interval = duration(value)?,
                        "preemption_grace" => config.preemption_grace = duration(value)?,
                        "rate" => {
                            let (per_second, capacity) =
                                value.split_once(',').ok_or("a rate is written 2,5")?;
                            let per_second_milli = said(per_second.parse::<u64>())? * 1000;
                            config.rate_limit_default =
                                Some(RateLimit { per_second_milli, capacity: said(capacity.parse())? });
                        }
                        "scheduler_heartbeat" => config.scheduler_heartbeat = duration(value)?,
                        "agent_pings_missed_max" => config.agent_pings_missed_max = said(value.parse())?,
                        _ => return Err(format!("`{key}` is no setting")),
                    }
                }
                return Ok(Vec::new());
            }
            "hold" => self.hold = true,
            "release" => self.hold = false,
            "commit" => {
                let count = words.first().map_or(Ok(usize::MAX), |n| said(n.parse()))?;
                for _ in 0..count.min(self.commits.len()) {
                    self.commit();
                }
            }
            "view" => return print::view(self.master(), words.first().ok_or("view of what?")?),
            "advance" => {
                self.advance(duration(words.first().ok_or("by how much?")?)?);
                return Ok(std::mem::take(&mut self.out));
            }
            "shutdown" => self.happen(Event::Shutdown),
            "restart" => self.restart(words.first().ok_or("which master?")?),
            "operator" => self.operator(words)?,
            "open" => {
                self.open(words.first().ok_or("whose stream?")?);
            }
            "close" => {
                let name = words.first().ok_or("whose stream?")?;
                let conn = self.conn(name);
                self.happen(if name.starts_with('a') {
                    Event::AgentClosed { conn }
                } else {
                    Event::SchedulerClosed { conn }
                });
            }
            "agent" | "status" | "pong" | "unregister" | "operation" | "total" | "lend" => {
                self.agent_command(verb, words)?
            }
            _ => self.scheduler_command(verb, words)?,
        }
        self.advance(STEP);
        Ok(std::mem::take(&mut self.out))
    }

    fn operator(&mut self, words: &[&str]) -> Parsed<()> {
        let words = Words::new(words, &["framework", "grace"]);
        let all: Vec<&str> = words.plain.clone();
        let call = match all[..] {
            ["kill", task] => OperatorCall::KillTask {
                framework_id: words.one("framework").map(framework_id).transpose()?,
                task_id: said(TaskId::new(task))?,
                grace: words.duration("grace")?,
            },
            ["teardown", id] => OperatorCall::TeardownFramework { framework_id: framework_id(id)? },
            ["deactivate", id] => OperatorCall::DeactivateAgent { agent_id: agent_id(id)? },
            ["reactivate", id] => OperatorCall::ReactivateAgent { agent_id: agent_id(id)? },
            ["drain", id, ref rest @ ..] => {
                let drain = Drain { grace_max: words.duration("grace")?, mark_gone: rest == ["gone"] };
                OperatorCall::DrainAgent { agent_id: agent_id(id)?, drain }
            }
            ["gone", id] => OperatorCall::MarkAgentGone { agent_id: agent_id(id)? },
            ref words => {
                model::operator(words)?.ok_or("an operator can kill, tear down, set roles and operate")?
            }
        };
        self.requests += 1;
        self.happen(Event::Operator { request: RequestId(self.requests), call });
        Ok(())
    }

    /// The stream to open a session on, and the id that the peer gives.
    fn session(&mut self, name: &str, same: bool) -> ConnId {
        if same { self.conn(name) } else { self.open(name) }
    }

    fn agent_command(&mut self, verb: &str, words: &[&str]) -> Parsed<()> {
        let words = Words::new(
            words,
            &["id", "host", "total", "attr", "latest", "update", "reason", "unenforced", "work-dir", "knows"],
        );
        let (name, rest) = words.plain.split_first().ok_or("which agent?")?;
        let mut conn = None;
        let message = match (verb, rest) {
            ("agent", [resources, rest @ ..]) => {
                let same = rest.contains(&"same");
                let known = self.peers.get(*name).and_then(|peer| peer.agent_id.clone());
                let agent_id = match words.one("id") {
                    Some("none") => None,
                    Some(id) => Some(agent_id(id)?),
                    None => known,
                };
                conn = Some(self.session(name, same));
                let host = words.one("host").unwrap_or(name);
                let resources: Resources = said(resources.parse())?;
                let total = words.one("total").map_or(Ok(resources.clone()), |text| said(text.parse()))?;
                AgentMessage::Register {
                    total,
                    operations: Vec::new(),
                    info: AgentInfo {
                        hostname: host.to_owned(),
                        address: format!("{host}:5051"),
                        resources,
                        attributes: words
                            .all("attr")
                            .filter_map(|word| word.split_once(':'))
                            .map(|(name, text)| (name.to_owned(), text.to_owned()))
                            .collect(),
                        domain: None,
                        unenforced: words.all("unenforced").map(unenforced).collect::<Parsed<_>>()?,
                        version: String::new(),
                        capabilities: match words.one("knows") {
                            _ if rest.contains(&"old") => BTreeSet::new(),
                            Some("groups") => [AgentCapability::TaskGroups].into(),
                            Some(_) => return Err("an agent that is not `old` may say knows=groups".into()),
                            None => AgentCapability::ALL.into(),
                        },
                        work_dir_id: words.one("work-dir").unwrap_or_default().to_owned(),
                    },
                    agent_id,
                    tasks: rest
                        .iter()
                        .filter(|w| !matches!(**w, "same" | "old"))
                        .map(|w| agent_task(w))
                        .collect::<Parsed<_>>()?,
                }
            }
            ("status", [key, state_text]) => {
                let (framework, task_id) = key.split_once('/').ok_or("a task is named F1/t1")?;
                let state_said = state(state_text)?;
                let update = match words.one("update") {
                    Some("none") => None,
                    Some(text) => Some(update_id(text)?),
                    None => {
                        self.updates += 1;
                        Some(UpdateId::new(0, self.updates))
                    }
                };
                let reason = words.one("reason").map(|text| {
                    Reason::ALL
                        .into_iter()
                        .find(|r| r.name() == text)
                        .ok_or_else(|| format!("`{text}` is no reason"))
                });
                AgentMessage::StatusUpdate {
                    framework_id: framework_id(framework)?,
                    status: status(task_id, state_said, reason.transpose()?, update)?,
                    latest_state: words.one("latest").map_or(Ok(state_said), state)?,
                }
            }
            ("pong", [sequence]) => AgentMessage::Pong { sequence: said(sequence.parse())? },
            ("unregister", rest) => AgentMessage::Unregister { message: rest.join(" ") },
            (verb, rest) => model::message(verb, rest)?.ok_or("not understood")?,
        };
        let conn = conn.unwrap_or_else(|| self.conn(name));
        self.happen(Event::AgentMessage { conn, message });
        Ok(())
    }

    fn scheduler_command(&mut self, verb: &str, words: &[&str]) -> Parsed<()> {
        let known = [
            "cap",
            "by",
            "offers_max",
            "min",
            "only",
            "hold",
            "role",
            "id",
            "principal",
            "failover",
            "suppress",
            "refuse",
            "reason",
            "grace",
            "agent",
            "update",
            "many",
        ];
        let words = Words::new(words, &known);
        let (name, rest) = words.plain.split_first().ok_or("which framework?")?;
        let mut conn = None;
        let call = match (verb, rest) {
            ("subscribe", rest) => {
                let known = self.peers.get(*name).and_then(|peer| peer.framework_id.clone());
                let framework_id = match words.one("id") {
                    Some("none") => None,
                    Some(id) => Some(framework_id(id)?),
                    None => known,
                };
                conn = Some(self.session(name, rest.contains(&"same")));
                let suppressed = roles(&words.all("suppress").collect::<Vec<_>>())?;
                let options = model::options(&words)?;
                Call::Subscribe { info: framework_info(&words)?, framework_id, suppressed, options }
            }
            ("update", []) => Call::UpdateFramework {
                info: framework_info(&words)?,
                suppressed: roles(&words.all("suppress").collect::<Vec<_>>())?,
                options: model::options(&words)?,
            },
            ("teardown", []) => Call::Teardown,
            ("accept", rest) => Call::Accept(model::accept(rest, &words)?),
            ("decline", rest) => Call::Decline {
                offers: rest.iter().map(|w| offer_id(w)).collect::<Parsed<_>>()?,
                refuse: words.duration("refuse")?,
                reason: decline_reason(words.one("reason")),
            },
            ("suppress", rest) => Call::Suppress { roles: roles(rest)? },
            ("revive", rest) => Call::Revive { roles: roles(rest)? },
            ("kill", [task]) => {
                Call::Kill { task_id: said(TaskId::new(task))?, grace: words.duration("grace")? }
            }
            ("ack", [task]) => {
                let task_id = said(TaskId::new(task))?;
                let peer = name.split('#').next().and_then(|name| self.peers.get(name));
                let newest = peer.and_then(|peer| peer.updates.get(&task_id).cloned());
                let (agent, update) = newest.unwrap_or((agent_id("A1")?, UpdateId::new(0, 0)));
                Call::Acknowledge {
                    agent_id: words.one("agent").map_or(Ok(agent), agent_id)?,
                    task_id,
                    update_id: words.one("update").map_or(Ok(update), update_id)?,
                }
            }
            ("reconcile", rest) => {
                let mut tasks = Vec::new();
                for word in rest {
                    let (task, agent) = word.split_once('@').map_or((*word, None), |(t, a)| (t, Some(a)));
                    tasks.push((said(TaskId::new(task))?, agent.map(agent_id).transpose()?));
                }
                for number in 0..words.one("many").map_or(Ok(0), |n| said(n.parse::<usize>()))? {
                    tasks.push((said(TaskId::new(format!("t{number}")))?, None));
                }
                Call::Reconcile { tasks }
            }
            (verb, rest) => model::call(verb, rest, &words)?.ok_or("not understood")?,
        };
        let conn = conn.unwrap_or_else(|| self.conn(name));
        self.calls += 1;
        let call_id = self.calls;
        self.happen(Event::SchedulerCall { conn, call_id, call });
        Ok(())
    }
}

fn decline_reason(word: Option<&str>) -> DeclineReason {
    match word {
        None => DeclineReason::new(DeclineCode::NotSaid),
        Some(detail) => DeclineReason { code: DeclineCode::Other, detail: detail.to_owned() },
    }
}
