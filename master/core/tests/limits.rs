//! Limits that a peer can reach are answered.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

use std::{collections::BTreeMap, time::Duration};

use apportion_master_core::{Action, Actions, Config, ConnId, Event, Master};
use apportion_types::{
    AgentCapability, AgentInfo, Command, FrameworkId, FrameworkInfo, GroupInfo, OfferId, Part, Reason,
    Resources, Role, TaskId, TaskInfo, TaskState, Time, limits,
    protocol::{
        agent::{AgentMessage, AgentTask},
        scheduler::{
            Accept, Call, DeclineCode, DeclineReason, Event as SchedulerEvent, InvalidTask, OfferOperation,
            Refusal,
        },
    },
};

const AGENT: ConnId = ConnId(1);
const SCHEDULER: ConnId = ConnId(2);

struct Peers {
    master: Master,
    now: Time,
}

impl Peers {
    fn new(master: Master) -> Self {
        Self { master, now: Time::ZERO }
    }

    fn happen(&mut self, event: Event) -> Actions {
        let mut actions = Actions::new();
        self.master.handle(self.now, event, &mut actions);
        let commits: Vec<_> = actions
            .iter()
            .filter_map(|a| match a {
                Action::Commit { commit, .. } => Some(*commit),
                _ => None,
            })
            .collect();
        commits
            .into_iter()
            .for_each(|commit| self.master.handle(self.now, Event::Committed { commit }, &mut actions));
        actions
    }

    fn call(&mut self, call: Call) -> Actions {
        self.happen(Event::SchedulerCall { conn: SCHEDULER, call_id: 7, call })
    }

    fn register(&mut self, conn: ConnId, resources: &str) {
        self.register_with(conn, resources, Vec::new());
    }

    /// Registers an agent that brings tasks of an earlier master.
    fn register_with(&mut self, conn: ConnId, resources: &str, tasks: Vec<AgentTask>) {
        let info = AgentInfo {
            hostname: "h".to_owned(),
            address: "h:1".to_owned(),
            resources: resources.parse().unwrap(),
            attributes: BTreeMap::new(),
            domain: None,
            unenforced: Vec::new(),
            version: String::new(),
            capabilities: AgentCapability::ALL.into(),
            work_dir_id: String::new(),
        };
        let message = AgentMessage::Register {
            total: info.resources.clone(),
            info,
            agent_id: (!tasks.is_empty()).then(|| "m0-A0001".parse().unwrap()),
            tasks,
            operations: Vec::new(),
        };
        self.happen(Event::AgentMessage { conn, message });
    }

    fn subscribe(&mut self) {
        let (info, options) = (framework_info(), Box::default());
        self.call(Call::Subscribe { info, framework_id: None, suppressed: Vec::new(), options });
    }

    fn tick(&mut self) -> Actions {
        self.now = self.master.next_deadline().expect("something is due").max(self.now);
        self.happen(Event::Tick)
    }
}

fn framework_info() -> FrameworkInfo {
    FrameworkInfo {
        name: String::new(),
        principal: String::new(),
        roles: vec![Role::default()],
        failover_timeout: Duration::from_secs(60),
        labels: BTreeMap::new(),
    }
}

fn task(number: usize) -> TaskInfo {
    TaskInfo {
        task_id: TaskId::new(format!("t{number}")).unwrap(),
        name: String::new(),
        resources: "cpus:0.001".parse().unwrap(),
        limits: Resources::new(),
        pids_max: None,
        volumes: Vec::new(),
        command: Command { argv: Vec::new(), env: BTreeMap::new() },
        kill_grace: None,
        labels: BTreeMap::new(),
        container: Default::default(),
        supervision: Default::default(),
        group: None,
        execution: Default::default(),
    }
}

fn refusals(actions: &Actions) -> Vec<Refusal> {
    let code = |action: &Action| match action {
        Action::ToScheduler { event: SchedulerEvent::Refused { code, .. }, .. } => Some(*code),
        _ => None,
    };
    actions.iter().filter_map(code).collect()
}

#[test]
fn an_accept_of_too_many_tasks_is_refused_and_each_task_is_answered() {
    let mut peers = Peers::new(Master::new(Config::new("m"), Time::ZERO));
    peers.register(AGENT, "cpus:8");
    peers.subscribe();
    peers.tick();
    let view = peers.master.view();
    let offers: Vec<OfferId> = view.offers.keys().cloned().collect();
    assert_eq!(offers.len(), 1);
    let tasks = (0..=limits::TASKS_PER_ACCEPT_MAX).map(|number| Ok(task(number))).collect();
    let actions = peers.call(accept(offers, tasks));
    assert_eq!(refusals(&actions), [Refusal::Limit]);
    let errors = actions.iter().filter(|action| {
        matches!(action, Action::ToScheduler { event: SchedulerEvent::Update(s), .. } if s.state == TaskState::Error)
    });
    assert_eq!(errors.count(), limits::TASKS_PER_ACCEPT_MAX + 1);
    // The offer is consumed, and what it held is offered again at once.
    assert!(peers.master.view().offers.is_empty());
    peers.tick();
    assert_eq!(peers.master.view().offers.len(), 1);

    let offers: Vec<OfferId> = peers.master.view().offers.keys().cloned().collect();
    let tasks = (0..limits::TASKS_PER_ACCEPT_MAX).map(|number| Ok(task(number))).collect();
    let actions = peers.call(accept(offers, tasks));
    assert_eq!(refusals(&actions), []);
    assert_eq!(peers.master.view().tasks.len(), limits::TASKS_PER_ACCEPT_MAX);
}

/// A framework that has all the tasks that it may have but for one, on an agent that brings them.
fn nearly_full() -> Peers {
    let mut peers = Peers::new(Master::new(Config::new("m"), Time::ZERO));
    let framework_id: FrameworkId = "m0-F0001".parse().unwrap();
    let told = |number| AgentTask {
        framework_id: framework_id.clone(),
        framework_info: framework_info(),
        role: Role::default(),
        info: task(number),
        state: TaskState::Running,
        unacknowledged: None,
    };
    peers.register_with(AGENT, "cpus:200", (1..limits::TASKS_PER_FRAMEWORK_MAX).map(told).collect());
    let framework_id = Some(framework_id);
    let (info, options) = (framework_info(), Box::default());
    peers.call(Call::Subscribe { info, framework_id, suppressed: Vec::new(), options });
    peers.tick();
    peers
}

#[test]
fn a_task_group_that_its_framework_has_no_room_for_is_refused_by_the_limit() {
    let mut peers = nearly_full();
    let member = |place: u32| {
        let (group_id, part) = ("g".parse().unwrap(), Part::Main);
        let group = Some(Box::new(GroupInfo { group_id, part, place, members: 2, network: None }));
        let task_id = format!("new{place}").parse().unwrap();
        Ok(TaskInfo { task_id, group, ..task(0) })
    };
    let offers = peers.master.view().offers.keys().cloned().collect();
    let operations = vec![OfferOperation::LaunchGroup(vec![member(0), member(1)])];
    let actions = peers.call(Call::Accept(Accept { offers, operations, refuse: None }));
    assert_eq!(refusals(&actions), [Refusal::Limit]);
    let invalid = actions.iter().filter(|action| {
        matches!(action, Action::ToScheduler { event: SchedulerEvent::Update(status), .. }
            if status.reason == Some(Reason::TaskGroupInvalid))
    });
    assert_eq!(invalid.count(), 2);
    assert_eq!(peers.master.view().tasks.len(), limits::TASKS_PER_FRAMEWORK_MAX - 1);
}

#[test]
fn calls_that_name_too_much_are_refused_and_nothing_is_done() {
    let mut peers = Peers::new(Master::new(Config::new("m"), Time::ZERO));
    peers.register(AGENT, "cpus:8");
    peers.subscribe();
    peers.tick();
    let offer = peers.master.view().offers.keys().next().cloned().unwrap();
    let offers = vec![offer; limits::OFFERS_PER_CALL_MAX + 1];
    let refuse = None;
    let actions = peers.call(Call::Decline {
        offers: offers.clone(),
        refuse,
        reason: DeclineReason::new(DeclineCode::NotSaid),
    });
    assert_eq!(refusals(&actions), [Refusal::Limit]);
    let actions = peers.call(Call::Accept(Accept { offers, operations: Vec::new(), refuse }));
    assert_eq!(refusals(&actions), [Refusal::Limit]);
    let tasks = vec![(task(0).task_id, None); limits::RECONCILE_TASKS_MAX + 1];
    assert_eq!(refusals(&peers.call(Call::Reconcile { tasks })), [Refusal::Limit]);
    assert_eq!(peers.master.view().offers.len(), 1);
}

#[test]
fn reasons_to_decline_are_counted_up_to_a_bound() {
    let mut peers = Peers::new(Master::new(Config::new("m"), Time::ZERO));
    peers.register(AGENT, "cpus:8");
    peers.subscribe();
    for number in 0..40 {
        peers.tick();
        let offers = peers.master.view().offers.keys().cloned().collect();
        // Long enough to be cut, in the middle of a character.
        let reason = format!("{number}{}", "ä".repeat(200));
        let reason = DeclineReason { code: DeclineCode::Other, detail: reason };
        peers.call(Call::Decline { offers, refuse: Some(Duration::ZERO), reason });
    }
    let view = peers.master.view();
    let declined = &view.frameworks.values().next().unwrap().declined;
    assert_eq!(declined.len(), 32);
    assert_eq!(declined.values().sum::<u64>(), 40);
    assert_eq!(declined["other"], 9);
    assert!(declined.keys().all(|reason| reason.len() <= 128));
}

#[test]
fn a_cycle_stops_at_its_bound_and_goes_on_at_once() {
    let offers = |actions: &Actions| -> usize {
        let sizes = actions.iter().filter_map(|action| match action {
            Action::ToScheduler { event: SchedulerEvent::Offers(offers), .. } => Some(offers.len()),
            _ => None,
        });
        sizes.sum()
    };
    let config = Config { offers_per_cycle_max: 20, ..Config::new("m") };
    let mut peers = Peers::new(Master::new(config, Time::ZERO));
    peers.subscribe();
    for agent in 0..25 {
        peers.register(ConnId(100 + agent), "cpus:1");
    }
    assert_eq!(offers(&peers.tick()), 20);
    let before = peers.now;
    assert_eq!(offers(&peers.tick()), 5);
    assert_eq!(peers.now, before);
    assert_eq!(peers.master.view().offers.len(), 25);
    assert!(peers.master.view().offers.keys().is_sorted());
}

/// What a task asks for and an agent has may fill hundreds of KiB when it is written out.
#[test]
fn what_is_said_of_a_task_is_short_however_long_its_description() {
    let mut peers = Peers::new(Master::new(Config::new("m"), Time::ZERO));
    peers.register(AGENT, "cpus:8");
    peers.subscribe();
    peers.tick();
    let offers = peers.master.view().offers.keys().cloned().collect();
    let ports: Vec<String> = (0..limits::RANGES_MAX).map(|n| format!("{0}-{0}", n * 1_000_000)).collect();
    let resources = format!("cpus:1;ports:[{}]", ports.join(",")).parse().unwrap();
    let tasks = vec![Ok(TaskInfo { resources, ..task(0) })];
    let actions = peers.call(accept(offers, tasks));
    let status = actions.iter().find_map(|action| match action {
        Action::ToScheduler { event: SchedulerEvent::Update(status), .. } => Some(status),
        _ => None,
    });
    let status = status.expect("the task is answered");
    assert_eq!(status.state, TaskState::Error);
    assert!(status.message.starts_with("task `t0` needs"), "{}", status.message);
    assert!(status.message.len() <= limits::STATUS_MESSAGE_BYTES_MAX, "{} bytes", status.message.len());
}

fn accept(offers: Vec<OfferId>, tasks: Vec<Result<TaskInfo, InvalidTask>>) -> Call {
    Call::Accept(Accept { offers, operations: vec![OfferOperation::Launch(tasks)], refuse: None })
}
