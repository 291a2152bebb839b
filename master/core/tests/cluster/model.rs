//! The rest of the offer model, as the random sequences use it: operations, gangs, leases, claims, requests, roles.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use apportion_allocator::{Question, Quota, Weight};
use apportion_master_core::{Event, OperatorCall, RequestId, RoleChange};
use apportion_types::{
    AgentId, Capability, Drain, FrameworkId, FrameworkOptions, GroupId, GroupInfo, Operation, OperationId,
    Part, Resources, Role, TaskInfo, VolumeId,
    protocol::scheduler::{Accept, Call, Claim, OfferOperation, ResourceRequest},
    resources::{Name, PersistentVolume, Reservation, Terms, Value},
};

use super::{
    Cluster,
    scheduler::{Held, framework_info, task_info},
};

/// How many kinds of calls [`Cluster::model`] makes.
pub(super) const KINDS: u8 = 17;

/// Several schedulers have the same name, and some of them stand by for one another.
pub(super) fn options(choice: u8, scheduler: usize) -> Box<FrameworkOptions> {
    let capabilities = match choice % 3 {
        0 => Default::default(),
        _ => Capability::ALL.into_iter().collect(),
    };
    let offers_max = (choice % 5 == 4).then_some(1);
    let stand_by = (choice % 4 == 1).then(|| format!("s{scheduler}"));
    Box::new(FrameworkOptions { capabilities, offers_max, stand_by, ..FrameworkOptions::default() })
}

fn disk(terms: Terms, milli: i64) -> Resources {
    let mut disk = Resources::new();
    disk.insert_on(Name::Disk, Some(Arc::new(terms)), Value::Scalar(milli));
    disk
}

fn volume(role: &Role, number: u8) -> Terms {
    let id = VolumeId::new(format!("v{}", number % 3)).unwrap();
    let volume = PersistentVolume { id, path: "data".to_owned(), shared: number.is_multiple_of(2) };
    Terms { reservations: vec![Reservation::by(role.clone(), "p")], volume: Some(volume), revocable: false }
}

impl Cluster {
    /// A scheduler launches a task group and a task beside it, of which any may be in use, and not fit.
    fn group(&mut self, framework: usize, number: u8) {
        let Some(offer) = self.schedulers[framework].offers.pop_front() else { return };
        let member = |place: u32| {
            let group_id = GroupId::new(format!("g{}", number % 2)).unwrap();
            let part = if place == 0 { Part::Init } else { Part::Main };
            let group = GroupInfo { group_id, part, place, members: 2, network: None };
            let task = number.wrapping_add(place as u8) % 8;
            Ok(TaskInfo { group: Some(Box::new(group)), ..task_info(task, number % 4) })
        };
        let operations = vec![
            OfferOperation::LaunchGroup(vec![member(0), member(1)]),
            OfferOperation::Launch(vec![Ok(task_info(number, 0))]),
        ];
        let accept = Accept { offers: vec![offer.offer_id], operations, refuse: None };
        self.scheduler_call(framework, Call::Accept(accept));
    }

    /// A scheduler calls what is not an ordinary launch.
    pub(super) fn model(&mut self, framework: usize, kind: u8, number: u8) {
        self.scheduler_hears(framework);
        if kind == 16 {
            return self.group(framework, number);
        }
        let operation_id = number.is_multiple_of(2).then(|| OperationId::new(format!("op{number}")).unwrap());
        let convert = |operation| OfferOperation::Convert { id: operation_id.clone(), operation };
        let launch = |task: u8| OfferOperation::Launch(vec![Ok(task_info(task, task % 3))]);
        let call = match kind {
            0..6 => {
                let Some(offer) = self.schedulers[framework].offers.pop_front() else { return };
                let Held { offer_id, resources, role, .. } = offer;
                let plain = |text: &str| text.parse::<Resources>().unwrap();
                let reserve = Reservation::by(role.clone(), if number == 7 { "somebody" } else { "p" });
                let reserved =
                    Terms { reservations: vec![Reservation::by(role.clone(), "p")], ..Terms::default() };
                let volumes = resources.only(|entry| entry.volume().is_some());
                let operations = match kind {
                    0 => vec![
                        convert(Operation::Reserve { resources: plain("cpus:1;mem:64").reserve(&reserve) }),
                        launch(number),
                    ],
                    1 => {
                        let ours =
                            resources.only(|entry| entry.role() == Some(&role) && entry.volume().is_none());
                        vec![launch(number), convert(Operation::Unreserve { resources: ours })]
                    }
                    2 => vec![
                        OfferOperation::Convert {
                            id: None,
                            operation: Operation::Reserve { resources: plain("disk:10").reserve(&reserve) },
                        },
                        convert(Operation::Create { volumes: disk(volume(&role, number), 10_000) }),
                        OfferOperation::Launch(vec![Ok(apportion_types::TaskInfo {
                            resources: plain("cpus:0.5") + &disk(volume(&role, number), 10_000),
                            ..task_info(number, 0)
                        })]),
                    ],
                    3 => vec![convert(Operation::Destroy { volumes })],
                    4 => vec![
                        OfferOperation::Convert {
                            id: None,
                            operation: Operation::Reserve { resources: plain("disk:5").reserve(&reserve) },
                        },
                        convert(Operation::Grow { volume: volumes, addition: disk(reserved, 5_000) }),
                    ],
                    _ => vec![convert(Operation::Shrink { volume: volumes, subtract_milli: 1_000 })],
                };
                Call::Accept(Accept { offers: vec![offer_id], operations, refuse: None })
            }
            6 => {
                let count = self.schedulers[framework].offers.len().min(2 + usize::from(number % 2));
                let offers: Vec<Held> = self.schedulers[framework].offers.drain(..count).collect();
                let accept = |(index, offer): (usize, Held)| {
                    let task = number.wrapping_add(index as u8) % 8;
                    Accept { offers: vec![offer.offer_id], operations: vec![launch(task)], refuse: None }
                };
                Call::Gang { accepts: offers.into_iter().enumerate().map(accept).collect() }
            }
            7 => {
                let offers =
                    self.schedulers[framework].offers.iter().map(|offer| offer.offer_id.clone()).collect();
                Call::Lease { offers, hold: Duration::from_secs(5) }
            }
            8 => Call::UpdateFramework {
                info: framework_info(number % 5),
                suppressed: Vec::new(),
                options: options(number, framework),
            },
            9 => {
                let resources = if number < 2 { Resources::new() } else { "cpus:3;mem:128".parse().unwrap() };
                let role = framework_info(framework as u8).roles[0].clone();
                let requests =
                    if number < 5 { Vec::new() } else { vec![ResourceRequest { resources, count: 1 }] };
                Call::Request { role, requests }
            }
            10 => Call::WatchFree { on: number < 6 },
            11 | 12 => {
                let claim = |index: u8| {
                    let agent_id = self.agents[usize::from(index) % 3].agent_id.clone()?;
                    Some(Claim { agent_id, tasks: vec![Ok(task_info((number + index) % 8, number % 4))] })
                };
                let claims = (0..=number % 3).filter_map(claim).collect();
                let role = framework_info(framework as u8).roles[0].clone();
                Call::Commit { role, claims, all_or_nothing: kind == 11 }
            }
            13 => Call::ReconcileOperations { operations: vec![(OperationId::new("op2").unwrap(), None)] },
            14 => Call::ReconcileOperations { operations: Vec::new() },
            _ => {
                let Some((agent_id, operation_id, update_id)) =
                    self.schedulers[framework].operations.pop_front()
                else {
                    return;
                };
                Call::AcknowledgeOperation { agent_id, operation_id, update_id }
            }
        };
        self.scheduler_call(framework, call);
    }

    /// An operator sets or asks for what concerns the offer model.
    pub(super) fn operator_model(&mut self, kind: u8, number: u8) {
        let role = Role::new(["*", "eng", "eng/ads"][usize::from(number) % 3]).unwrap();
        let agent_id = self.agents[usize::from(number) % 3].agent_id.clone();
        let agent_id = agent_id.unwrap_or_else(|| AgentId::new("nobody").unwrap());
        let roles = |change| OperatorCall::UpdateRoles {
            changes: BTreeMap::from([(role.clone(), change)]),
            force: number.is_multiple_of(2),
        };
        let reserved =
            "cpus:1".parse::<Resources>().unwrap().reserve(&Reservation::by(Role::new("eng").unwrap(), "op"));
        let call = match kind {
            0 => roles(RoleChange {
                weight: Weight::from_milli(u32::from(number) * 500 + 1),
                ..RoleChange::default()
            }),
            1 => roles(RoleChange { priority: Some(i32::from(number) - 3), ..RoleChange::default() }),
            2 => {
                let guarantee =
                    if number > 4 { Resources::new() } else { format!("cpus:{number}").parse().unwrap() };
                let limit = number.is_multiple_of(3).then(|| format!("cpus:{}", number + 2).parse().unwrap());
                roles(RoleChange { quota: Some(Quota { guarantee, limit }), ..RoleChange::default() })
            }
            3 => OperatorCall::Operate { agent_id, operation: Operation::Reserve { resources: reserved } },
            4 => OperatorCall::Operate { agent_id, operation: Operation::Unreserve { resources: reserved } },
            5 => OperatorCall::Shares,
            6 => OperatorCall::DeactivateAgent { agent_id },
            7..=10 => OperatorCall::ReactivateAgent { agent_id },
            11 => {
                let drain = Drain { grace_max: None, mark_gone: number.is_multiple_of(4) };
                OperatorCall::DrainAgent { agent_id, drain }
            }
            12 if number.is_multiple_of(4) => OperatorCall::MarkAgentGone { agent_id },
            _ => OperatorCall::Explain(Question {
                framework: self.schedulers[usize::from(number) % 3]
                    .framework_id
                    .clone()
                    .unwrap_or_else(|| FrameworkId::new("x").unwrap()),
                agent: None,
                needs: "cpus:1".parse().unwrap(),
            }),
        };
        self.requests += 1;
        self.happen(Event::Operator { request: RequestId(self.requests), call });
    }
}
