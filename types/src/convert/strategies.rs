//! Arbitrary values of every type that crosses the wire.

mod brief;
mod executor;

use std::{net::IpAddr, sync::Arc, time::Duration};

use proptest::{collection, option, prelude::*};

pub(super) use brief::task_info;
pub(super) use executor::{executor_call, executor_event};

use crate::{
    AgentCapability, AgentId, AgentInfo, Capability, CheckResult, Command, ContainerInfo, ContainerStatus,
    Drain, Execution, FaultDomain, Findings, FrameworkId, FrameworkInfo, FrameworkOptions, GroupId,
    GroupInfo, Image, InverseOffer, Offer, OfferConstraints, OfferId, Operation, OperationId, OperationState,
    OperationStatus, Part, Place, Reason, Resources, Role, RunId, Source, Supervision, TaskId, TaskInfo,
    TaskState, TaskStatus, Time, Unavailability, UpdateId, Volume, VolumeId, VolumeSource,
    constraints::{Constraint, Pattern, Predicate, Selector},
    container::{Control, Exit, Limitation, Unenforced, Usage},
    container_info::{Artifact, Rlimit, RlimitResource},
    image::PullPolicy,
    limits,
    network::{Cidr, Direction, Network, Peer, PortMapping, PortRange, Protocol, Rule, Verdict},
    probe::{Check, HealthCheck, Probe, Schedule},
    protocol::{
        agent::{AgentMessage, AgentOperation, AgentTask, MasterMessage, RefuseCode},
        executor::{ExecutorCall, ExecutorEvent, ExecutorRefuseCode, ExecutorUpdate},
        scheduler::{
            Accept, Call, Claim, ClaimRefusal, ClaimResult, DeclineCode, DeclineReason, ErrorCode, Event,
            FreeAgent, FreeState, OfferOperation, Preemption, Refusal, ResourceRequest,
        },
    },
    resources::{Dynamic, Name, PersistentVolume, Ranges, Reservation, Terms, Value},
};

macro_rules! ids {
    ($($function:ident: $id:ident),*) => {$(
        fn $function() -> impl Strategy<Value = $id> {
            "[a-zä][a-z0-9ß_.-]{0,20}".prop_map(|text| $id::new(text).unwrap())
        }
    )*};
}

ids!(
    framework_id: FrameworkId,
    agent_id: AgentId,
    offer_id: OfferId,
    task_id: TaskId,
    operation_id: OperationId,
    volume_id: VolumeId,
    group_id: GroupId,
    run_id: RunId
);

fn role() -> impl Strategy<Value = Role> {
    "(\\*|[a-z]{1,3}(/[a-z]{1,3}){0,2})".prop_map(|text| Role::new(text).unwrap())
}

fn roles(least: usize) -> impl Strategy<Value = Vec<Role>> {
    collection::btree_set(role(), least..4).prop_map(|roles| roles.into_iter().collect())
}

fn update_id() -> impl Strategy<Value = UpdateId> {
    any::<[u8; 16]>().prop_map(UpdateId)
}

fn time() -> impl Strategy<Value = Time> {
    any::<u64>().prop_map(Time::from_micros)
}

fn millis(most: Duration) -> impl Strategy<Value = Duration> {
    (0..=most.as_millis() as u64).prop_map(Duration::from_millis)
}

fn texts() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    collection::btree_map("\\PC{0,8}", ".{0,8}", 0..4)
}

pub(super) fn resources() -> impl Strategy<Value = Resources> {
    let scalar = (0..=limits::SCALAR_MILLI_MAX).prop_map(Value::Scalar);
    let ranges = collection::vec((any::<u64>(), 0..9u64), 0..5).prop_map(|ranges| {
        Value::Ranges(
            ranges.into_iter().map(|(first, count)| (first, first.saturating_add(count))).collect::<Ranges>(),
        )
    });
    let set = collection::btree_set("[a-z0-9/ä]{1,5}", 0..4)
        .prop_map(|set| Value::Set(Box::new(set.into_iter().map(Arc::from).collect())));
    let custom = prop_oneof![scalar.clone(), ranges.clone(), set];
    let known = prop_oneof![Just(Name::Cpus), Just(Name::Mem), Just(Name::Disk), Just(Name::Gpus)];
    let on_terms = collection::vec((terms(), 1..1000i64), 0..3);
    (
        collection::btree_map(known, scalar, 0..4),
        collection::btree_map("[A-Z][a-z0-9_.-]{0,9}", custom, 0..4),
        option::of(ranges),
        on_terms,
    )
        .prop_map(|(known, custom, ports, on_terms)| {
            let mut all = Resources::new();
            for (terms, milli) in on_terms {
                let there = all.entries().any(|entry| entry.terms() == Some(&terms));
                if !there {
                    all.insert_on(Name::Disk, Some(Arc::new(terms)), Value::Scalar(milli));
                }
            }
            known.into_iter().for_each(|(name, value)| all.insert(name, value));
            custom.into_iter().for_each(|(name, value)| all.insert(Name::new(&name).unwrap(), value));
            ports.into_iter().for_each(|ports| all.insert(Name::Ports, ports));
            all
        })
}

/// Terms that disk can be on.
pub(super) fn terms() -> impl Strategy<Value = Terms> {
    let dynamic = || (".{0,8}", texts()).prop_map(|(principal, labels)| Some(Dynamic { principal, labels }));
    let step = || ("[a-z;:(]{1,3}", dynamic());
    let reservations = (prop_oneof![Just(None), dynamic()], "[a-z]{1,3}", collection::vec(step(), 0..3))
        .prop_map(|(dynamic, top, steps)| {
            let mut path = top;
            let mut reservations = vec![Reservation { role: Role::new(&path).unwrap(), dynamic }];
            for (name, dynamic) in steps {
                path = format!("{path}/{name}");
                reservations.push(Reservation { role: Role::new(&path).unwrap(), dynamic });
            }
            reservations
        });
    let volume = (volume_id(), "[a-z]{1,3}(/[a-zA-Z ;\\]=]{1,3}){0,2}", any::<bool>())
        .prop_map(|(id, path, shared)| PersistentVolume { id, path, shared });
    prop_oneof![
        Just(Terms { revocable: true, ..Terms::default() }),
        (reservations, option::of(volume)).prop_map(|(reservations, volume)| Terms {
            reservations,
            volume,
            revocable: false
        }),
    ]
}

pub(super) fn framework_options() -> impl Strategy<Value = FrameworkOptions> {
    let selector = prop_oneof![
        Just(Selector::Hostname),
        Just(Selector::Region),
        Just(Selector::Zone),
        "[a-z]{1,4}".prop_map(Selector::Attribute),
    ];
    let predicate = prop_oneof![
        Just(Predicate::Exists),
        ".{0,8}".prop_map(Predicate::Equals),
        "[a-z]{1,4}(\\.\\*)?".prop_map(|text| Predicate::Matches(Pattern::new(text).unwrap())),
    ];
    let constraint = (selector, predicate, any::<bool>())
        .prop_map(|(selector, predicate, negated)| Constraint { selector, predicate, negated });
    let groups = collection::vec(collection::vec(constraint, 0..3), 1..3)
        .prop_map(|groups| OfferConstraints { groups });
    (
        collection::btree_set(proptest::sample::select(&Capability::ALL[..]), 0..4),
        collection::btree_map(role(), groups, 0..3),
        collection::btree_map(role(), collection::vec(resources(), 0..3), 0..3),
        option::of(1..u32::MAX),
        option::of("\\PC{1,8}"),
    )
        .prop_map(|(capabilities, constraints, min_allocatable, offers_max, stand_by)| {
            FrameworkOptions { capabilities, constraints, min_allocatable, offers_max, stand_by }
        })
}

fn domain() -> impl Strategy<Value = Option<FaultDomain>> {
    option::of((".{1,8}", ".{1,8}").prop_map(|(region, zone)| FaultDomain { region, zone }))
}

pub(super) fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        resources().prop_map(|resources| Operation::Reserve { resources }),
        resources().prop_map(|resources| Operation::Unreserve { resources }),
        resources().prop_map(|volumes| Operation::Create { volumes }),
        resources().prop_map(|volumes| Operation::Destroy { volumes }),
        (resources(), resources()).prop_map(|(volume, addition)| Operation::Grow { volume, addition }),
        (resources(), any::<i64>())
            .prop_map(|(volume, subtract_milli)| Operation::Shrink { volume, subtract_milli }),
    ]
}

pub(super) fn operation_status() -> impl Strategy<Value = OperationStatus> {
    (
        operation_id(),
        option::of(agent_id()),
        proptest::sample::select(&OperationState::ALL[..]),
        option::of(reason()),
        ".{0,8}",
        time(),
        option::of(update_id()),
    )
        .prop_map(|(operation_id, agent_id, state, reason, message, at, update_id)| OperationStatus {
            operation_id,
            agent_id,
            state,
            reason,
            message,
            at,
            update_id,
        })
}

pub(super) fn framework_info() -> impl Strategy<Value = FrameworkInfo> {
    (".{0,8}", ".{0,8}", roles(1), millis(limits::FAILOVER_TIMEOUT_MAX), texts()).prop_map(
        |(name, principal, roles, failover_timeout, labels)| FrameworkInfo {
            name,
            principal,
            roles,
            failover_timeout,
            labels,
        },
    )
}

pub(super) fn agent_info() -> impl Strategy<Value = AgentInfo> {
    let control = proptest::sample::select(&Control::ALL[..]);
    let unenforced = (control, ".{0,8}").prop_map(|(control, reason)| Unenforced { control, reason });
    (
        ".{1,8}",
        "[a-z]{1,8}:[1-9][0-9]{0,3}",
        resources(),
        texts(),
        domain(),
        collection::vec(unenforced, 0..3),
        ".{0,8}",
        collection::btree_set(proptest::sample::select(&AgentCapability::ALL[..]), 0..=1),
        ".{0,8}",
    )
        .prop_map(
            |(
                hostname,
                address,
                resources,
                attributes,
                domain,
                unenforced,
                version,
                capabilities,
                work_dir_id,
            )| {
                AgentInfo {
                    work_dir_id,
                    hostname,
                    address,
                    resources,
                    attributes,
                    domain,
                    unenforced,
                    version,
                    capabilities,
                }
            },
        )
}

fn place() -> impl Strategy<Value = Place> {
    (".{0,8}", ".{0,8}", texts(), domain()).prop_map(|(hostname, address, attributes, domain)| Place {
        hostname,
        address,
        attributes,
        domain,
    })
}

pub(super) fn offer() -> impl Strategy<Value = Offer> {
    (offer_id(), framework_id(), agent_id(), role(), resources(), place(), option::of(unavailability()))
        .prop_map(|(offer_id, framework_id, agent_id, role, resources, place, unavailability)| {
            let place = Arc::new(place);
            Offer { offer_id, framework_id, agent_id, role, resources, place, unavailability }
        })
}

fn unavailability() -> impl Strategy<Value = Unavailability> {
    let duration = option::of((1_u64..=u64::MAX).prop_map(Duration::from_millis));
    (time(), duration).prop_map(|(start, duration)| Unavailability { start, duration })
}

fn inverse_offer() -> impl Strategy<Value = InverseOffer> {
    (offer_id(), framework_id(), agent_id(), unavailability(), resources()).prop_map(
        |(inverse_offer_id, framework_id, agent_id, unavailability, resources)| InverseOffer {
            inverse_offer_id,
            framework_id,
            agent_id,
            unavailability,
            resources,
        },
    )
}

fn findings() -> impl Strategy<Value = Findings> {
    let result = prop_oneof![
        any::<i32>().prop_map(CheckResult::Exit),
        any::<u16>().prop_map(CheckResult::HttpStatus),
        any::<bool>().prop_map(CheckResult::Connected),
        any::<bool>().prop_map(CheckResult::Serving),
        Just(CheckResult::Unanswered),
    ];
    (any::<Option<bool>>(), option::of(result)).prop_map(|(healthy, check)| Findings { healthy, check })
}

pub(super) fn container_status() -> impl Strategy<Value = ContainerStatus> {
    let exit = prop_oneof![any::<i32>().prop_map(Exit::Code), any::<i32>().prop_map(Exit::Signal)];
    let limitation = prop_oneof![
        any::<u64>().prop_map(|limit_bytes| Limitation::Disk { limit_bytes }),
        any::<u64>().prop_map(|limit_bytes| Limitation::Memory { limit_bytes }),
        (1..=u16::MAX).prop_map(|port| Limitation::Port { port }),
    ];
    let usage = (any::<u64>(), any::<Option<u64>>())
        .prop_map(|(cpu_us, memory_peak_bytes)| Usage { cpu_us, memory_peak_bytes });
    (option::of(exit), option::of(limitation), usage, time(), time()).prop_map(
        |(exit, limitation, usage, started_at, finished_at)| ContainerStatus {
            exit,
            limitation,
            usage,
            started_at,
            finished_at,
        },
    )
}

fn task_state() -> impl Strategy<Value = TaskState> {
    proptest::sample::select(&TaskState::ALL[..])
}

fn reason() -> impl Strategy<Value = Reason> {
    proptest::sample::select(&Reason::ALL[..])
}

pub(super) fn task_status() -> impl Strategy<Value = TaskStatus> {
    (
        task_id(),
        option::of(agent_id()),
        task_state(),
        option::of(reason()),
        prop_oneof![Just(Source::Master), Just(Source::Agent)],
        ".{0,8}",
        time(),
        option::of(update_id()),
        (option::of(container_status()), findings(), collection::vec(any::<IpAddr>(), 0..3)),
    )
        .prop_map(|(task_id, agent_id, state, reason, source, message, at, update_id, rest)| {
            let (container, findings, addresses) = rest;
            TaskStatus {
                task_id,
                agent_id,
                state,
                reason,
                source,
                message,
                at,
                update_id,
                container,
                findings,
                addresses,
            }
        })
}

fn accept() -> impl Strategy<Value = Accept> {
    let each = prop_oneof![
        collection::vec(task_info().prop_map(Ok), 0..3).prop_map(OfferOperation::Launch),
        collection::vec(task_info().prop_map(Ok), 0..3).prop_map(OfferOperation::LaunchGroup),
        (option::of(operation_id()), operation())
            .prop_map(|(id, operation)| OfferOperation::Convert { id, operation }),
    ];
    let offers = collection::vec(offer_id(), 0..4);
    (offers, collection::vec(each, 0..3), option::of(millis(limits::REFUSE_MAX)))
        .prop_map(|(offers, operations, refuse)| Accept { offers, operations, refuse })
}

pub(super) fn call() -> impl Strategy<Value = Call> {
    let offers = || collection::vec(offer_id(), 0..4);
    let refuse = || option::of(millis(limits::REFUSE_MAX));
    let decline = (proptest::sample::select(&DeclineCode::ALL[..]), ".{0,8}")
        .prop_map(|(code, detail)| DeclineReason { code, detail });
    let some = resources().prop_filter("something", |resources| !resources.is_empty());
    let request = (some, 1..u32::MAX).prop_map(|(resources, count)| ResourceRequest { resources, count });
    let claim = (agent_id(), collection::vec(task_info().prop_map(Ok), 0..3))
        .prop_map(|(agent_id, tasks)| Claim { agent_id, tasks });
    prop_oneof![
        (framework_info(), option::of(framework_id()), roles(0), framework_options()).prop_map(
            |(info, framework_id, suppressed, options)| Call::Subscribe {
                info,
                framework_id,
                suppressed,
                options: Box::new(options)
            }
        ),
        (framework_info(), roles(0), framework_options()).prop_map(|(info, suppressed, options)| {
            Call::UpdateFramework { info, suppressed, options: Box::new(options) }
        }),
        Just(Call::Teardown),
        accept().prop_map(Call::Accept),
        collection::vec(accept(), 0..3).prop_map(|accepts| Call::Gang { accepts }),
        (offers(), millis(limits::LEASE_MAX)).prop_map(|(offers, hold)| Call::Lease { offers, hold }),
        (agent_id(), operation_id(), update_id()).prop_map(|(agent_id, operation_id, update_id)| {
            Call::AcknowledgeOperation { agent_id, operation_id, update_id }
        }),
        collection::vec((operation_id(), option::of(agent_id())), 0..4)
            .prop_map(|operations| Call::ReconcileOperations { operations }),
        (role(), collection::vec(request, 0..3))
            .prop_map(|(role, requests)| Call::Request { role, requests }),
        any::<bool>().prop_map(|on| Call::WatchFree { on }),
        (role(), collection::vec(claim, 0..3), any::<bool>())
            .prop_map(|(role, claims, all_or_nothing)| Call::Commit { role, claims, all_or_nothing }),
        (offers(), refuse(), decline).prop_map(|(offers, refuse, reason)| Call::Decline {
            offers,
            refuse,
            reason
        }),
        (offers(), refuse())
            .prop_map(|(inverse_offers, refuse)| Call::AcceptInverseOffers { inverse_offers, refuse }),
        (offers(), refuse(), ".{0,8}").prop_map(|(inverse_offers, refuse, reason)| {
            Call::DeclineInverseOffers { inverse_offers, refuse, reason }
        }),
        roles(0).prop_map(|roles| Call::Suppress { roles }),
        roles(0).prop_map(|roles| Call::Revive { roles }),
        (task_id(), option::of(millis(limits::KILL_GRACE_MAX)))
            .prop_map(|(task_id, grace)| Call::Kill { task_id, grace }),
        (agent_id(), task_id(), update_id()).prop_map(|(agent_id, task_id, update_id)| Call::Acknowledge {
            agent_id,
            task_id,
            update_id
        }),
        collection::vec((task_id(), option::of(agent_id())), 0..4)
            .prop_map(|tasks| Call::Reconcile { tasks }),
    ]
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    let refusal = proptest::sample::select(vec![
        Refusal::Invalid,
        Refusal::OutOfOrder,
        Refusal::InvalidOffers,
        Refusal::Limit,
        Refusal::NotFound,
        Refusal::RateLimited,
    ]);
    let claim_refusal = proptest::sample::select(vec![
        ClaimRefusal::NotFree,
        ClaimRefusal::Fairness,
        ClaimRefusal::Quota,
        ClaimRefusal::NotAllowed,
        ClaimRefusal::AllOrNothing,
    ]);
    let claim = prop_oneof![
        Just(ClaimResult::Taken),
        (claim_refusal, ".{0,8}", option::of(framework_id()))
            .prop_map(|(code, message, winner)| ClaimResult::Refused { code, message, winner }),
    ];
    let free = (agent_id(), resources(), option::of(place())).prop_map(|(agent_id, free, place)| FreeAgent {
        agent_id,
        free,
        place: place.map(Arc::new),
    });
    let preemption = (agent_id(), resources(), collection::vec(task_id(), 0..3), time(), role()).prop_map(
        |(agent_id, resources, tasks, at, for_role)| Preemption { agent_id, resources, tasks, at, for_role },
    );
    let error = proptest::sample::select(vec![
        ErrorCode::FailedOver,
        ErrorCode::Removed,
        ErrorCode::Refused,
        ErrorCode::TooSlow,
        ErrorCode::ShuttingDown,
    ]);
    prop_oneof![
        (framework_id(), millis(Duration::MAX.min(Duration::from_millis(u64::MAX))), ".{0,8}").prop_map(
            |(framework_id, heartbeat_interval, master_id)| Event::Subscribed {
                framework_id,
                heartbeat_interval,
                master_id
            }
        ),
        collection::vec(offer(), 0..3).prop_map(Event::Offers),
        offer_id().prop_map(Event::Rescind),
        collection::vec(inverse_offer(), 0..3).prop_map(Event::InverseOffers),
        offer_id().prop_map(Event::RescindInverseOffer),
        task_status().prop_map(Event::Update),
        operation_status().prop_map(Event::OperationUpdate),
        preemption.prop_map(Event::Preempt),
        (any::<u64>(), any::<bool>(), collection::vec(free, 0..3))
            .prop_map(|(version, snapshot, agents)| Event::Free(FreeState { version, snapshot, agents })),
        (any::<u64>(), collection::vec(claim, 0..3))
            .prop_map(|(call_id, claims)| Event::Committed { call_id, claims }),
        (agent_id(), ".{0,8}").prop_map(|(agent_id, message)| Event::AgentLost { agent_id, message }),
        (any::<u64>(), refusal, ".{0,8}").prop_map(|(call_id, code, message)| Event::Refused {
            call_id,
            code,
            message
        }),
        (error, ".{0,8}").prop_map(|(code, message)| Event::Error { code, message }),
        Just(Event::Heartbeat),
        (framework_id(), millis(Duration::from_secs(1000))).prop_map(|(framework_id, heartbeat_interval)| {
            Event::StandingBy { framework_id, heartbeat_interval }
        }),
    ]
}

fn agent_task() -> impl Strategy<Value = AgentTask> {
    (framework_id(), framework_info(), role(), task_info(), task_state(), option::of(task_status())).prop_map(
        |(framework_id, framework_info, role, info, state, unacknowledged)| AgentTask {
            framework_id,
            framework_info,
            role,
            info,
            state,
            unacknowledged,
        },
    )
}

fn agent_operation() -> impl Strategy<Value = AgentOperation> {
    (framework_id(), operation_status())
        .prop_map(|(framework_id, status)| AgentOperation { framework_id, status })
}

/// What is not lent.
fn settled(resources: &Resources) -> Resources {
    resources.only(|entry| !entry.is_revocable())
}

pub(super) fn agent_message() -> impl Strategy<Value = AgentMessage> {
    prop_oneof![
        (
            agent_info(),
            option::of(agent_id()),
            resources(),
            collection::vec(agent_task(), 0..3),
            collection::vec(agent_operation(), 0..3)
        )
            .prop_map(|(info, agent_id, total, tasks, operations)| AgentMessage::Register {
                info,
                agent_id,
                total: settled(&total),
                tasks,
                operations
            }),
        agent_operation().prop_map(AgentMessage::OperationUpdate),
        (resources(), any::<u64>())
            .prop_map(|(total, applied)| AgentMessage::Total { total: settled(&total), applied }),
        resources().prop_map(|revocable| AgentMessage::Oversubscribed { revocable: revocable.revocable() }),
        (framework_id(), task_status(), task_state()).prop_map(|(framework_id, status, latest_state)| {
            AgentMessage::StatusUpdate { framework_id, status, latest_state }
        }),
        any::<u64>().prop_map(|sequence| AgentMessage::Pong { sequence }),
        ".{0,8}".prop_map(|message| AgentMessage::Unregister { message }),
    ]
}

fn drain() -> impl Strategy<Value = Drain> {
    let grace_max = option::of(millis(limits::KILL_GRACE_MAX));
    (grace_max, any::<bool>()).prop_map(|(grace_max, mark_gone)| Drain { grace_max, mark_gone })
}

pub(super) fn master_message() -> impl Strategy<Value = MasterMessage> {
    let refuse = proptest::sample::select(vec![
        RefuseCode::Invalid,
        RefuseCode::Removed,
        RefuseCode::Replaced,
        RefuseCode::TooSlow,
        RefuseCode::ShuttingDown,
        RefuseCode::Gone,
        RefuseCode::Maintenance,
    ]);
    prop_oneof![
        (
            agent_id(),
            ".{0,8}",
            millis(limits::FAILOVER_TIMEOUT_MAX),
            collection::vec((framework_id(), task_id()), 0..3),
            option::of(drain())
        )
            .prop_map(|(agent_id, master_id, ping_timeout, missing_tasks, drain)| {
                MasterMessage::Registered { agent_id, master_id, ping_timeout, missing_tasks, drain }
            }),
        option::of(drain()).prop_map(MasterMessage::Drain),
        any::<u64>().prop_map(|sequence| MasterMessage::Ping { sequence }),
        (framework_id(), framework_info(), role(), collection::vec(task_info(), 0..3)).prop_map(
            |(framework_id, framework_info, role, tasks)| MasterMessage::RunTasks {
                framework_id,
                framework_info: Arc::new(framework_info),
                role,
                tasks: tasks.into_iter().map(Arc::new).collect(),
            }
        ),
        (framework_id(), task_id(), option::of(millis(limits::KILL_GRACE_MAX)), reason()).prop_map(
            |(framework_id, task_id, grace, reason)| MasterMessage::KillTask {
                framework_id,
                task_id,
                grace,
                reason
            }
        ),
        (framework_id(), task_id(), update_id()).prop_map(|(framework_id, task_id, update_id)| {
            MasterMessage::AcknowledgeUpdate { framework_id, task_id, update_id }
        }),
        framework_id().prop_map(|framework_id| MasterMessage::RemoveFramework { framework_id }),
        (option::of(framework_id()), option::of(operation_id()), operation()).prop_map(
            |(framework_id, operation_id, operation)| MasterMessage::Apply {
                framework_id,
                operation_id,
                operation
            }
        ),
        (framework_id(), operation_id(), update_id()).prop_map(|(framework_id, operation_id, update_id)| {
            MasterMessage::AcknowledgeOperation { framework_id, operation_id, update_id }
        }),
        (refuse, ".{0,8}").prop_map(|(code, message)| MasterMessage::Refuse { code, message }),
    ]
}
