//! A scheduler that does what scheduler.proto asks of one, when told to.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use apportion_master_core::{ConnId, Event};
use apportion_types::{
    AgentId, Command, FrameworkId, FrameworkInfo, OfferId, OperationId, Resources, Role, TaskId, TaskInfo,
    UpdateId,
    protocol::scheduler::{
        Accept, Call, DeclineCode, DeclineReason, ErrorCode, Event as SchedulerEvent, InvalidTask,
        OfferOperation,
    },
};

use super::{Cluster, model};

pub(crate) struct Scheduler {
    number: usize,
    pub(super) conn: Option<ConnId>,
    pub(super) framework_id: Option<FrameworkId>,
    pub(super) inbox: VecDeque<SchedulerEvent>,
    /// Offers that it believes to have, oldest first.
    pub(super) offers: VecDeque<Held>,
    /// Updates that it has yet to acknowledge.
    updates: VecDeque<(AgentId, TaskId, UpdateId)>,
    /// Of operations.
    pub(super) operations: VecDeque<(AgentId, OperationId, UpdateId)>,
}

/// An offer that a scheduler has.
pub(super) struct Held {
    pub(super) offer_id: OfferId,
    pub(super) resources: Resources,
    pub(super) role: Role,
}

pub(super) fn task_id(number: u8) -> TaskId {
    TaskId::new(format!("t{number}")).unwrap()
}

pub(super) fn task_info(number: u8, size: u8) -> TaskInfo {
    let resources = match size {
        0 => "cpus:0.5;mem:32".parse().unwrap(),
        1 => "cpus:1;mem:64;ports:[31000-31001]".parse().unwrap(),
        2 => "cpus:2;mem:512".parse().unwrap(),
        3 => "ports:[31003-31004]".parse().unwrap(),
        4 => "cpus:4".parse().unwrap(),
        5 => "cpus:100".parse().unwrap(),
        _ => Resources::new(),
    };
    TaskInfo {
        task_id: task_id(number),
        name: String::new(),
        resources,
        limits: if size == 6 { "disk:1".parse().unwrap() } else { Resources::new() },
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

pub(super) fn framework_info(variant: u8) -> FrameworkInfo {
    let roles: &[&str] = match variant {
        1 => &["*", "eng/ads"],
        2 => &["eng"],
        3 => &[],
        _ => &["*"],
    };
    FrameworkInfo {
        name: String::new(),
        principal: if variant == 4 { "q" } else { "p" }.to_owned(),
        roles: roles.iter().map(|role| Role::new(role).unwrap()).collect(),
        failover_timeout: Duration::from_secs(if variant == 5 { 0 } else { 6 }),
        labels: BTreeMap::new(),
    }
}

fn refuse(choice: u8) -> Option<Duration> {
    [None, Some(Duration::ZERO), Some(Duration::from_millis(100)), Some(Duration::MAX)]
        [usize::from(choice % 4)]
}

impl Scheduler {
    pub(super) fn new(number: usize) -> Self {
        let (inbox, offers, updates) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { number, conn: None, framework_id: None, inbox, offers, updates, operations: VecDeque::new() }
    }

    pub(super) fn stream_ended(&mut self) {
        // What stands before the end is still read: there it says why.
        while let Some(event) = self.inbox.pop_front() {
            self.hear(event);
        }
        self.conn = None;
        self.offers.clear();
        self.updates.clear();
        self.operations.clear();
    }

    fn hear(&mut self, event: SchedulerEvent) {
        match event {
            SchedulerEvent::Subscribed { framework_id, .. } => self.framework_id = Some(framework_id),
            SchedulerEvent::Offers(offers) => {
                let held = |offer: apportion_types::Offer| Held {
                    offer_id: offer.offer_id,
                    resources: offer.resources,
                    role: offer.role,
                };
                self.offers.extend(offers.into_iter().map(held))
            }
            SchedulerEvent::Rescind(id) => self.offers.retain(|offer| offer.offer_id != id),
            SchedulerEvent::Update(status) => {
                if let (Some(agent_id), Some(update_id)) = (status.agent_id, status.update_id) {
                    self.updates.push_back((agent_id, status.task_id, update_id));
                }
            }
            SchedulerEvent::OperationUpdate(status) => {
                if let (Some(agent_id), Some(update_id)) = (status.agent_id, status.update_id) {
                    self.operations.push_back((agent_id, status.operation_id, update_id));
                }
            }
            SchedulerEvent::Error { code: ErrorCode::Removed | ErrorCode::Refused, .. } => {
                self.framework_id = None
            }
            _ => {}
        }
    }
}

impl Cluster {
    pub(super) fn scheduler_call(&mut self, framework: usize, call: Call) {
        let conn = self.schedulers[framework].conn;
        let conn = conn.unwrap_or_else(|| self.conn());
        self.happen(Event::SchedulerCall { conn, call_id: 1, call });
    }

    pub(super) fn subscribe(&mut self, framework: usize, fresh: bool, variant: u8) {
        let conn = self.conn();
        let scheduler = &mut self.schedulers[framework];
        let number = scheduler.number;
        let again = variant == 6;
        if !again {
            scheduler.stream_ended();
            scheduler.conn = Some(conn);
        }
        let framework_id = match variant {
            _ if fresh => None,
            7 => FrameworkId::new(format!("m0-F000{number}")).ok(),
            8 => FrameworkId::new("m1-F0099").ok(),
            _ => scheduler.framework_id.clone(),
        };
        let suppressed = if variant == 9 { vec![Role::default()] } else { Vec::new() };
        self.scheduler_call(
            framework,
            Call::Subscribe {
                info: framework_info(variant),
                framework_id,
                suppressed,
                options: model::options(variant, number),
            },
        );
    }

    pub(super) fn scheduler_breaks(&mut self, framework: usize) {
        if let Some(conn) = self.schedulers[framework].conn {
            self.schedulers[framework].stream_ended();
            self.happen(Event::SchedulerClosed { conn });
        }
    }

    pub(super) fn scheduler_hears(&mut self, framework: usize) {
        while let Some(event) = self.schedulers[framework].inbox.pop_front() {
            self.schedulers[framework].hear(event);
        }
    }

    pub(super) fn accept(&mut self, framework: usize, offers: usize, tasks: &[(u8, u8)], choice: u8) {
        if self.schedulers[framework].conn.is_none() {
            self.subscribe(framework, false, 0);
        }
        self.scheduler_hears(framework);
        let scheduler = &mut self.schedulers[framework];
        let offers = scheduler
            .offers
            .drain(..offers.min(scheduler.offers.len()))
            .map(|offer| offer.offer_id)
            .collect();
        let tasks = tasks.iter().map(|(number, size)| match size {
            7 if *number == 0 => Err(InvalidTask { task_id: None, message: "no id".to_owned() }),
            7 => Err(InvalidTask { task_id: Some(task_id(*number)), message: "no command".to_owned() }),
            _ => Ok(task_info(*number, *size)),
        });
        let tasks = tasks.collect();
        self.scheduler_call(
            framework,
            Call::Accept(Accept {
                offers,
                operations: vec![OfferOperation::Launch(tasks)],
                refuse: refuse(choice),
            }),
        );
    }

    pub(super) fn accept_any(&mut self, framework: usize, offers: &[usize], task: u8) {
        let any = |number: &usize| OfferId::new(format!("m1-O{number:08}")).unwrap();
        let offers = offers.iter().map(any).collect();
        self.scheduler_call(framework, Call::Accept(Accept::launch(offers, vec![task_info(task, 0)], None)));
    }

    pub(super) fn decline(&mut self, framework: usize, choice: u8) {
        let offers =
            self.schedulers[framework].offers.pop_front().into_iter().map(|offer| offer.offer_id).collect();
        let reason = DeclineReason { code: DeclineCode::TooSmall, detail: format!("by {choice}") };
        self.scheduler_call(framework, Call::Decline { offers, refuse: refuse(choice), reason });
    }

    /// Acknowledges the oldest update; false when there is none.
    pub(super) fn acknowledge(&mut self, framework: usize) -> bool {
        self.scheduler_hears(framework);
        let Some((agent_id, task_id, update_id)) = self.schedulers[framework].updates.pop_front() else {
            return false;
        };
        self.scheduler_call(framework, Call::Acknowledge { agent_id, task_id, update_id });
        true
    }

    pub(super) fn call(&mut self, framework: usize, kind: u8, task: u8) {
        let agent_id = self.agents[usize::from(task) % 3].agent_id.clone();
        let roles = || vec![Role::new(if task == 0 { "nobody" } else { "*" }).unwrap()];
        let call = match kind {
            0 => Call::Suppress { roles: Vec::new() },
            1 => Call::Suppress { roles: roles() },
            2 => Call::Revive { roles: Vec::new() },
            3 => Call::Revive { roles: roles() },
            4 => Call::Reconcile { tasks: Vec::new() },
            5 => Call::Reconcile { tasks: vec![(task_id(task), agent_id), (task_id(task), None)] },
            6 if task == 0 => Call::Teardown,
            7 => Call::Acknowledge {
                agent_id: AgentId::new("m1-A0001").unwrap(),
                task_id: task_id(task),
                update_id: UpdateId::new(1, 1),
            },
            _ => Call::Kill { task_id: task_id(task), grace: refuse(kind) },
        };
        self.scheduler_call(framework, call);
    }
}
