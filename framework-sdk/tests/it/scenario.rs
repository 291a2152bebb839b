//! Text scenarios: what happens to the driver, and what it says and does.
//!
//! Each line of a file in `scenarios/` that is not indented is something that happens; the indented lines below it are what came
//! of it: `>` told to the scheduler, `<` done by the driver. `UPDATE_EXPECT=1` rewrites them. `do …` lines are carried out by the
//! scheduler in its next callback.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, mem,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex},
    task::{Context as Poller, Poll, Waker},
    time::Duration,
};

use apportion_sdk::{
    AgentId, Claimed, Context, DeclineReason, FrameworkId, FrameworkInfo, FrameworkOptions, FreeView, Gang,
    Offer, OfferId, OperationId, OperationState, OperationStatus, Reason, Refused, Role, Scheduler, Source,
    Stop, Subscription, Task, TaskId, TaskInfo, TaskState, TaskStatus, Time, UpdateId, async_trait,
    driver::{Action, Config, Engine, Input},
    ids::VolumeId,
    protocol::{
        Accept, Call, ClaimRefusal, ClaimResult, ErrorCode, Event, FreeState, InvalidTask, OfferOperation,
        Preemption, Refusal, ResourceRequest,
    },
    resources::PersistentVolume,
    testing,
};

/// Does what the script says, and notes what it is told.
#[derive(Default)]
struct Scripted {
    log: Arc<Mutex<Vec<String>>>,
    script: Vec<String>,
    kept: BTreeMap<String, Offer>,
    idle: bool,
    known: Vec<(TaskId, Option<AgentId>)>,
    known_operations: Vec<OperationId>,
    gang: Gang,
    view: FreeView,
}

impl Scripted {
    fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }

    /// Carries out the script; offers that it does not keep are dropped at the end.
    fn act(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        let mut offers: BTreeMap<String, Offer> =
            offers.into_iter().map(|offer| (offer.id().to_string(), offer)).collect();
        for line in mem::take(&mut self.script) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["launch", offer, task, resources] => {
                    let offer = offers.get_mut(*offer).or(self.kept.get_mut(*offer)).expect("an offer held");
                    let task = Task::new(*task).command(["true"]).resources(&resources.parse().unwrap());
                    if let Err(error) = offer.launch(task.build().unwrap()) {
                        self.note(format!("{error}"));
                    }
                }
                ["keep", id] => {
                    self.kept.insert((*id).to_owned(), offers.remove(*id).expect("an offer at hand"));
                }
                ["drop", id] => drop(self.kept.remove(*id).expect("an offer kept")),
                ["merge", into, from] => {
                    let from = offers.remove(*from).or(self.kept.remove(*from)).expect("an offer held");
                    offers
                        .get_mut(*into)
                        .or(self.kept.get_mut(*into))
                        .unwrap()
                        .merge(from)
                        .expect("one agent");
                }
                ["ports", offer, count] => {
                    let ports = offers.get_mut(*offer).unwrap().take_ports(count.parse().unwrap());
                    self.note(format!("ports {ports:?}"));
                }
                ["decline", offer, reason] => {
                    offers.remove(*offer).unwrap().decline((*reason).to_owned());
                }
                ["decline", offer, reason, refuse] => {
                    offers.remove(*offer).unwrap().decline_for(duration(refuse), (*reason).to_owned());
                }
                ["kill", task] => cx.kill(&TaskId::new(task).unwrap(), None),
                ["kill", task, grace] => cx.kill(&TaskId::new(task).unwrap(), Some(duration(grace))),
                ["reconcile", tasks @ ..] => cx.reconcile(tasks.iter().map(|task| known(task))),
                ["reconcile-all"] => cx.reconcile_all(),
                ["reserve", offer, resources, id @ ..] => {
                    let offer = offers.get_mut(*offer).or(self.kept.get_mut(*offer)).expect("an offer held");
                    let no_labels: [(String, String); 0] = [];
                    match (offer.reserve(&resources.parse().unwrap(), no_labels), id) {
                        (Ok(made), [id]) => drop(made.named(OperationId::new(id).unwrap())),
                        (Ok(_), _) => {}
                        (Err(error), _) => self.note(error.to_string()),
                    }
                }
                ["volume", what, offer, volume, mib] => {
                    let offer = offers.get_mut(*offer).or(self.kept.get_mut(*offer)).expect("an offer held");
                    let (id, mib) = (VolumeId::new(volume).unwrap(), mib.parse().unwrap());
                    let made = match *what {
                        "create" => {
                            let volume = PersistentVolume { id, path: "data".to_owned(), shared: false };
                            offer.create_volume(volume, mib)
                        }
                        "destroy" => offer.destroy(&id),
                        "grow" => offer.grow(&id, mib),
                        "shrink" => offer.shrink(&id, mib),
                        _ => panic!("nothing is done to volumes by `{what}`"),
                    };
                    if let Err(error) = made {
                        self.note(error.to_string());
                    }
                }
                ["hold", offer, hold] => {
                    let offer = offers.get_mut(*offer).or(self.kept.get_mut(*offer)).expect("an offer held");
                    offer.hold_for(duration(hold));
                }
                ["gang", ids @ ..] => {
                    for id in ids {
                        self.gang.add(offers.remove(*id).or(self.kept.remove(*id)).expect("an offer held"));
                    }
                }
                ["gang-commit"] => mem::take(&mut self.gang).commit().expect("it is small"),
                ["gang-drop"] => drop(mem::take(&mut self.gang)),
                ["reconcile-operations", ids @ ..] => {
                    cx.reconcile_operations(ids.iter().map(|id| (OperationId::new(id).unwrap(), None)));
                }
                ["offers-max", most] => {
                    let options =
                        FrameworkOptions { offers_max: Some(most.parse().unwrap()), ..cx.options().clone() };
                    cx.update_framework(cx.info().clone(), options);
                }
                ["wishes"] => self.note(format!("at most {:?} offers", cx.options().offers_max)),
                ["request", role, count, resources] => {
                    let resources = resources.parse().unwrap();
                    let request = ResourceRequest { resources, count: count.parse().unwrap() };
                    cx.request(&Role::new(role).unwrap(), vec![request]);
                }
                ["request", role] => cx.request(&Role::new(role).unwrap(), Vec::new()),
                ["watch", on] => cx.watch_free(on.parse().unwrap()),
                ["claim", all, claims @ ..] => {
                    let claims = claims.chunks(3).map(|claim| {
                        let task =
                            Task::new(claim[1]).command(["true"]).resources(&claim[2].parse().unwrap());
                        let (agent_id, tasks) =
                            (AgentId::new(claim[0]).unwrap(), vec![task.build().unwrap()]);
                        self.view.claim(&Role::default(), &agent_id, tasks).expect("it is free")
                    });
                    let claims = claims.collect();
                    cx.commit(&Role::default(), claims, all.parse().unwrap());
                }
                ["revive"] => cx.revive(),
                ["wake", after] => cx.wake_after(duration(after)),
                ["stop", stop] => cx.stop(self::stop(stop)),
                _ => panic!("the scheduler cannot `do {line}`"),
            }
        }
    }
}

#[async_trait]
impl Scheduler for Scripted {
    type Message = String;

    async fn offers(&mut self, cx: &mut Context<'_>, offers: Vec<Offer>) {
        let list: Vec<String> = offers
            .iter()
            .map(|offer| format!("{}@{} {}", offer.id(), offer.agent_id(), offer.resources()))
            .collect();
        self.note(format!("offers {}", list.join(", ")));
        self.act(cx, offers);
    }

    async fn update(&mut self, cx: &mut Context<'_>, status: TaskStatus) {
        let reason = status.reason.map(|reason| format!(" {reason}")).unwrap_or_default();
        let message = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
        self.note(format!("update {} {}{reason}{message}", status.task_id, status.state));
        self.act(cx, Vec::new());
    }

    async fn subscribed(&mut self, cx: &mut Context<'_>, subscription: Subscription) {
        self.note(format!("subscribed {} resumed={}", subscription.framework_id, subscription.resumed));
        self.act(cx, Vec::new());
    }

    async fn standing_by(&mut self, cx: &mut Context<'_>, framework: FrameworkId) {
        self.note(format!("standing by for {framework}"));
        self.act(cx, Vec::new());
    }

    async fn disconnected(&mut self, cx: &mut Context<'_>, why: String) {
        self.note(format!("disconnected: {why}"));
        self.act(cx, Vec::new());
    }

    async fn rescinded(&mut self, cx: &mut Context<'_>, offer: OfferId) {
        self.note(format!("rescinded {offer}"));
        self.act(cx, Vec::new());
    }

    async fn operation(&mut self, cx: &mut Context<'_>, status: OperationStatus) {
        let message = if status.message.is_empty() { String::new() } else { format!(": {}", status.message) };
        self.note(format!("operation {} {}{message}", status.operation_id, status.state));
        self.act(cx, Vec::new());
    }

    async fn preempt(&mut self, cx: &mut Context<'_>, preemption: Preemption) {
        self.note(format!("preempt {} on {}", preemption.resources, preemption.agent_id));
        self.act(cx, Vec::new());
    }

    async fn free(&mut self, cx: &mut Context<'_>, free: &FreeState) {
        self.view.apply(free);
        let free: Vec<String> = self.view.agents().map(|(agent, free)| format!("{agent} {free}")).collect();
        self.note(format!("free at {}: {}", self.view.version(), free.join(", ")));
        self.act(cx, Vec::new());
    }

    async fn committed(&mut self, cx: &mut Context<'_>, claims: Vec<Claimed>) {
        for claim in claims {
            let result = match claim.result {
                ClaimResult::Taken => "taken".to_owned(),
                ClaimResult::Refused { message, .. } => message,
            };
            self.note(format!("claim on {}: {result}", claim.agent_id));
        }
        self.act(cx, Vec::new());
    }

    async fn agent_lost(&mut self, cx: &mut Context<'_>, agent: AgentId, message: String) {
        self.note(format!("agent-lost {agent}: {message}"));
        self.act(cx, Vec::new());
    }

    async fn message(&mut self, cx: &mut Context<'_>, message: String) {
        self.note(format!("message {message}"));
        self.act(cx, Vec::new());
    }

    async fn woken(&mut self, cx: &mut Context<'_>) {
        self.note("woken".to_owned());
        self.act(cx, Vec::new());
    }

    async fn refused(&mut self, cx: &mut Context<'_>, refused: Refused) {
        self.note(format!("refused {:?} {:?}: {}", refused.call, refused.code, refused.message));
        self.act(cx, Vec::new());
    }

    fn wants_offers(&self) -> bool {
        !self.idle
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.known.clone()
    }

    fn operations(&self) -> Vec<(OperationId, Option<AgentId>)> {
        self.known_operations.iter().map(|id| (id.clone(), None)).collect()
    }
}

struct World {
    engine: Engine<Scripted>,
    now: Time,
    out: String,
}

impl World {
    fn new(stand_by: Option<&str>) -> Self {
        let info = FrameworkInfo {
            name: "test".to_owned(),
            principal: "test".to_owned(),
            roles: vec![Role::new("*").unwrap(), Role::new("eng").unwrap()],
            failover_timeout: Duration::from_secs(600),
            labels: BTreeMap::new(),
        };
        let mut config = Config::new(info, "master-0:5050");
        config.masters.push("master-1:5050".to_owned());
        config.options.stand_by = stand_by.map(str::to_owned);
        Self {
            engine: Engine::new(config, Scripted::default()),
            now: Time::from_micros(1_000_000),
            out: String::new(),
        }
    }

    fn input(&mut self, input: Input<String>) {
        let mut actions = Vec::new();
        {
            let handled = pin!(self.engine.handle(self.now, input, &mut actions));
            let ready = handled.poll(&mut Poller::from_waker(Waker::noop()));
            assert!(matches!(ready, Poll::Ready(())), "the scripted scheduler never waits");
        }
        for line in mem::take(&mut *self.engine.scheduler().log.lock().unwrap()) {
            writeln!(self.out, "  > {line}").unwrap();
        }
        for action in actions {
            writeln!(self.out, "  < {}", shown(&action)).unwrap();
        }
    }

    fn event(&mut self, event: Event) {
        self.input(Input::Event(event));
    }

    fn advance(&mut self, by: Duration) {
        let until = self.now + by;
        while let Some(deadline) = self.engine.next_deadline().filter(|deadline| *deadline <= until) {
            let before = self.now;
            self.now = self.now.max(deadline);
            let length = self.out.len();
            self.input(Input::Tick);
            if self.out.len() > length {
                let at = format!("  at +{:?}\n", self.now.since(before));
                self.out.insert_str(length, &at);
            }
            assert!(self.engine.next_deadline() != Some(deadline), "a deadline that is met is gone");
        }
        self.now = until;
    }

    fn line(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["stand-by", name] => *self = World { out: mem::take(&mut self.out), ..World::new(Some(name)) },
            ["start"] => self.input(Input::Start),
            ["connected"] => self.input(Input::Connected),
            ["ended", why @ ..] => self.input(Input::Disconnected { clean: true, why: why.join(" ") }),
            ["broken", why @ ..] => self.input(Input::Disconnected { clean: false, why: why.join(" ") }),
            ["subscribed", id] => self.event(Event::Subscribed {
                framework_id: FrameworkId::new(id).unwrap(),
                heartbeat_interval: Duration::from_secs(15),
                master_id: "m".to_owned(),
            }),
            ["standing-by", id] => self.event(Event::StandingBy {
                framework_id: FrameworkId::new(id).unwrap(),
                heartbeat_interval: Duration::from_secs(15),
            }),
            ["heartbeat"] => self.event(Event::Heartbeat),
            ["offers", offers @ ..] => self.event(Event::Offers(offers.chunks(2).map(offer).collect())),
            ["rescind", id] => self.event(Event::Rescind(OfferId::new(id).unwrap())),
            ["update", task, state, rest @ ..] => self.event(Event::Update(status(task, state, rest))),
            ["operation", id, state, rest @ ..] => self.event(Event::OperationUpdate(OperationStatus {
                operation_id: OperationId::new(id).unwrap(),
                agent_id: rest.first().map(|_| AgentId::new("a1").unwrap()),
                state: OperationState::ALL.into_iter().find(|each| each.to_string() == *state).unwrap(),
                reason: None,
                message: String::new(),
                at: Time::ZERO,
                update_id: rest.first().map(|id| UpdateId::new(0, id[1..].parse().unwrap())),
            })),
            ["preempt", agent, resources] => {
                self.event(Event::Preempt(testing::preemption(agent, resources, &[], "prod")));
            }
            ["free", version, agents @ ..] => {
                let snapshot = agents.first() == Some(&"snapshot");
                let pairs: Vec<(&str, &str)> =
                    agents[usize::from(snapshot)..].chunks(2).map(|pair| (pair[0], pair[1])).collect();
                self.event(Event::Free(testing::free(version.parse().unwrap(), snapshot, &pairs)));
            }
            ["committed", call_id, results @ ..] => self.event(Event::Committed {
                call_id: call_id.parse().unwrap(),
                claims: results.iter().map(|result| result_of(result)).collect(),
            }),
            ["knows-operations", ids @ ..] => {
                self.engine.scheduler_mut().known_operations =
                    ids.iter().map(|id| OperationId::new(id).unwrap()).collect();
            }
            ["agent-lost", agent, message @ ..] => self.event(Event::AgentLost {
                agent_id: AgentId::new(agent).unwrap(),
                message: message.join(" "),
            }),
            ["refused", call_id, code, message @ ..] => self.event(Event::Refused {
                call_id: call_id.parse().unwrap(),
                code: match *code {
                    "invalid" => Refusal::Invalid,
                    "limit" => Refusal::Limit,
                    "not-found" => Refusal::NotFound,
                    _ => panic!("no refusal `{code}`"),
                },
                message: message.join(" "),
            }),
            ["error", code, message @ ..] => self.event(Event::Error {
                code: match *code {
                    "failed-over" => ErrorCode::FailedOver,
                    "removed" => ErrorCode::Removed,
                    "refused" => ErrorCode::Refused,
                    "too-slow" => ErrorCode::TooSlow,
                    "shutting-down" => ErrorCode::ShuttingDown,
                    _ => panic!("no error `{code}`"),
                },
                message: message.join(" "),
            }),
            ["message", text] => self.input(Input::Message((*text).to_owned())),
            ["stop", stop] => self.input(Input::Stop(self::stop(stop))),
            ["tick"] => self.input(Input::Tick),
            ["after", by] => self.advance(duration(by)),
            ["idle", idle] => self.engine.scheduler_mut().idle = idle.parse().unwrap(),
            ["knows", tasks @ ..] => {
                self.engine.scheduler_mut().known = tasks.iter().map(|task| known(task)).collect();
            }
            ["do", rest @ ..] => self.engine.scheduler_mut().script.push(rest.join(" ")),
            ["outside-drop", id] => drop(self.engine.scheduler_mut().kept.remove(*id).unwrap()),
            _ => panic!("nothing happens by `{line}`"),
        }
    }
}

fn known(text: &str) -> (TaskId, Option<AgentId>) {
    match text.split_once('@') {
        Some((task, agent)) => (TaskId::new(task).unwrap(), Some(AgentId::new(agent).unwrap())),
        None => (TaskId::new(text).unwrap(), None),
    }
}

fn result_of(text: &str) -> ClaimResult {
    let code = match text {
        "taken" => return ClaimResult::Taken,
        "not-free" => ClaimRefusal::NotFree,
        "all-or-nothing" => ClaimRefusal::AllOrNothing,
        _ => panic!("no result `{text}`"),
    };
    ClaimResult::Refused { code, message: text.to_owned(), winner: None }
}

fn duration(text: &str) -> Duration {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).expect("a unit");
    let number: u64 = text[..split].parse().expect("a number");
    match &text[split..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        unit => panic!("no unit `{unit}`"),
    }
}

fn stop(text: &str) -> Stop {
    match text {
        "teardown" => Stop::Teardown,
        "disconnect" => Stop::Disconnect,
        "abort" => Stop::Abort,
        _ => panic!("no stop `{text}`"),
    }
}

/// `o1@a1 cpus:1`
fn offer(words: &[&str]) -> apportion_types::Offer {
    let (id, agent) = words[0].split_once('@').expect("offer@agent");
    apportion_types::Offer {
        unavailability: None,
        offer_id: OfferId::new(id).unwrap(),
        framework_id: FrameworkId::new("f1").unwrap(),
        agent_id: AgentId::new(agent).unwrap(),
        role: if words[1].contains("eng") { Role::new("eng").unwrap() } else { Role::default() },
        resources: words[1].parse().unwrap(),
        place: Arc::new(apportion_types::Place {
            hostname: agent.to_owned(),
            address: format!("{agent}:5051"),
            ..Default::default()
        }),
    }
}

/// `t1@a1 running #7`: with an update id; `t1@a1 running reconciled`.
fn status(task: &str, state: &str, rest: &[&str]) -> TaskStatus {
    let (task_id, agent_id) = known(task);
    let mut status = TaskStatus {
        task_id,
        agent_id,
        state: TaskState::ALL.into_iter().find(|each| each.name() == state).expect("a state"),
        reason: None,
        source: Source::Master,
        message: String::new(),
        at: Time::ZERO,
        update_id: None,
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    };
    match rest {
        [] => {}
        ["reconciled"] => status.reason = Some(Reason::Reconciliation),
        [id] => {
            status.source = Source::Agent;
            status.update_id = Some(UpdateId::new(0, id.strip_prefix('#').unwrap().parse().unwrap()));
        }
        _ => panic!("no status of `{rest:?}`"),
    }
    status
}

fn launched(tasks: &[Result<TaskInfo, InvalidTask>]) -> String {
    let tasks = tasks.iter().map(|task| task.as_ref().unwrap());
    let shown = tasks.map(|task| match task.resources.has_terms() {
        true => format!("{} ({})", task.task_id, task.resources),
        false => task.task_id.to_string(),
    });
    format!("launch {}", shown.collect::<Vec<_>>().join(","))
}

fn steps(accept: &Accept) -> String {
    let steps = accept.operations.iter().map(|step| match step {
        OfferOperation::Launch(tasks) => launched(tasks),
        OfferOperation::LaunchGroup(tasks) => format!("group of {}", launched(tasks)),
        OfferOperation::Convert { id: Some(id), operation } => format!("{operation} as {id}"),
        OfferOperation::Convert { id: None, operation } => operation.to_string(),
    });
    steps.collect::<Vec<_>>().join(", ")
}

fn shown(action: &Action) -> String {
    let list = |items: Vec<String>| if items.is_empty() { "-".to_owned() } else { items.join(",") };
    let ids = |offers: &[OfferId]| list(offers.iter().map(ToString::to_string).collect());
    let roles = |roles: &[Role]| list(roles.iter().map(ToString::to_string).collect());
    let refuse = |refuse: &Option<Duration>| refuse.map_or("-".to_owned(), |refuse| format!("{refuse:?}"));
    let (call_id, call) = match action {
        Action::Send { call_id, call } => (call_id, call),
        Action::Connect { master } => return format!("connect to {master}"),
        Action::Close => return "close".to_owned(),
        Action::End(Ok(stop)) => return format!("end: {stop:?}"),
        Action::End(Err(error)) => return format!("end: {error}"),
        _ => panic!("a new kind of action"),
    };
    let call = match call {
        Call::Subscribe { framework_id, suppressed, options, .. } => {
            let id = framework_id.as_ref().map_or("-", FrameworkId::as_str);
            let most = options.offers_max.map(|most| format!(" offers_max={most}")).unwrap_or_default();
            let by = options.stand_by.as_ref().map(|name| format!(" by={name}")).unwrap_or_default();
            format!("subscribe id={id} suppressed={}{most}{by}", roles(suppressed))
        }
        Call::Teardown => "teardown".to_owned(),
        Call::Accept(accept) => {
            format!("accept {} {} refuse {}", ids(&accept.offers), steps(accept), refuse(&accept.refuse))
        }
        Call::Gang { accepts } => {
            let parts = accepts.iter().map(|accept| format!("{} {}", ids(&accept.offers), steps(accept)));
            format!("gang {}", parts.collect::<Vec<_>>().join("; "))
        }
        Call::Lease { offers, hold } => format!("lease {} {hold:?}", ids(offers)),
        Call::UpdateFramework { options, suppressed, .. } => {
            format!("update_framework offers_max={:?} suppressed={}", options.offers_max, roles(suppressed))
        }
        Call::AcknowledgeOperation { agent_id, operation_id, .. } => {
            format!("acknowledge_operation {operation_id}@{agent_id}")
        }
        Call::ReconcileOperations { operations } => {
            format!(
                "reconcile_operations {}",
                list(operations.iter().map(|(id, _)| id.to_string()).collect())
            )
        }
        Call::Request { role, requests } => {
            let requests = requests.iter().map(|one| format!("{} of {}", one.count, one.resources));
            format!("request {role} {}", list(requests.collect()))
        }
        Call::AcceptInverseOffers { inverse_offers, refuse: again } => {
            format!("accept_inverse_offers {} again {}", ids(inverse_offers), refuse(again))
        }
        Call::DeclineInverseOffers { inverse_offers, refuse: again, reason } => {
            format!("decline_inverse_offers {} ({reason}) again {}", ids(inverse_offers), refuse(again))
        }
        Call::WatchFree { on } => format!("watch_free {on}"),
        Call::Commit { claims, all_or_nothing, .. } => {
            let claims = claims.iter().map(|claim| format!("{} {}", claim.agent_id, launched(&claim.tasks)));
            format!("commit {} all={all_or_nothing}", claims.collect::<Vec<_>>().join("; "))
        }
        Call::Decline { offers, refuse: filter, reason } => {
            let reason = DeclineReason::from(reason.clone());
            format!("decline {} ({reason}) refuse {}", ids(offers), refuse(filter))
        }
        Call::Suppress { roles: of } => format!("suppress {}", roles(of)),
        Call::Revive { roles: of } => format!("revive {}", roles(of)),
        Call::Kill { task_id, grace } => format!("kill {task_id} grace {}", refuse(grace)),
        Call::Acknowledge { agent_id, task_id, update_id } => {
            format!(
                "acknowledge {task_id}@{agent_id} #{}",
                u64::from_be_bytes(update_id.0[8..].try_into().unwrap())
            )
        }
        Call::Reconcile { tasks } => {
            let tasks = tasks.iter().map(|(task, agent)| match agent {
                Some(agent) => format!("{task}@{agent}"),
                None => task.to_string(),
            });
            format!("reconcile {}", list(tasks.collect()))
        }
    };
    format!("#{call_id} {call}")
}

#[test]
fn the_driver_does_as_the_scenarios_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/scenarios");
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no scenarios in {}", folder.display());
    let mut wrong = Vec::new();
    for path in paths {
        let expected = fs::read_to_string(&path).unwrap();
        let mut world = World::new(None);
        for line in expected.lines().filter(|line| !line.starts_with("  ")) {
            writeln!(world.out, "{line}").unwrap();
            if !line.is_empty() && !line.starts_with('#') {
                world.line(line);
            }
        }
        if world.out == expected {
            continue;
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, world.out).unwrap();
        } else {
            let different =
                world.out.lines().zip(expected.lines()).position(|(found, expected)| found != expected);
            let line = different.unwrap_or(world.out.lines().count().min(expected.lines().count())) + 1;
            wrong.push(format!("{}:{line} differs; all that happened:\n{}", path.display(), world.out));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_EXPECT=1 rewrites the files", wrong.join("\n"));
}
