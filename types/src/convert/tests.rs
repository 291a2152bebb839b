use std::time::Duration;

use apportion_proto::v1::{
    self, resource::Value as WireValue, scheduler_service_connect_request::Call as WireCall,
};
use proptest::prelude::*;
use prost::Message;

use super::{strategies, *};
use crate::{
    AgentCapability, AgentInfo, Capability, FrameworkOptions, OperationState, Reason, Resources, Source,
    TaskId, TaskInfo, TaskState, TaskStatus,
    container::Control,
    limits,
    protocol::{
        agent::{AgentMessage, MasterMessage, RefuseCode},
        executor::{ExecutorCall, ExecutorRefuseCode},
        scheduler::{Call, ClaimRefusal, ErrorCode, InvalidTask, Refusal},
    },
};

/// Encodes to bytes, decodes, converts back.
fn over_the_wire<T, W>(value: &T) -> Result<T, ConvertError>
where
    W: Message + Default + for<'a> From<&'a T>,
    T: TryFrom<W, Error = ConvertError>,
{
    let bytes = W::from(value).encode_to_vec();
    T::try_from(W::decode(bytes.as_slice()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn resources_round_trip(value in strategies::resources()) {
        prop_assert_eq!(over_the_wire::<_, v1::Resources>(&value), Ok(value));
    }

    #[test]
    fn self_descriptions_and_offers_round_trip(
        framework in strategies::framework_info(),
        agent in strategies::agent_info(),
        offer in strategies::offer(),
    ) {
        prop_assert_eq!(over_the_wire::<_, v1::FrameworkInfo>(&framework), Ok(framework));
        prop_assert_eq!(over_the_wire::<_, v1::AgentInfo>(&agent), Ok(agent));
        prop_assert_eq!(over_the_wire::<_, v1::Offer>(&offer), Ok(offer));
    }

    #[test]
    fn tasks_round_trip(
        info in strategies::task_info(),
        status in strategies::task_status(),
        container in strategies::container_status(),
    ) {
        prop_assert_eq!(over_the_wire::<_, v1::TaskInfo>(&info), Ok(info));
        prop_assert_eq!(over_the_wire::<_, v1::TaskStatus>(&status), Ok(status));
        prop_assert_eq!(over_the_wire::<_, v1::ContainerStatus>(&container), Ok(container));
    }

    #[test]
    fn calls_round_trip(call in strategies::call(), call_id: u64) {
        let bytes = scheduler_request(call_id, call.clone()).encode_to_vec();
        let request = v1::SchedulerServiceConnectRequest::decode(bytes.as_slice()).unwrap();
        prop_assert_eq!(request.call_id, call_id);
        prop_assert_eq!(Call::try_from(request), Ok(call));
    }

    #[test]
    fn events_and_messages_round_trip(
        event in strategies::event(),
        from_agent in strategies::agent_message(),
        to_agent in strategies::master_message(),
    ) {
        prop_assert_eq!(over_the_wire::<_, v1::SchedulerServiceConnectResponse>(&event), Ok(event));
        prop_assert_eq!(over_the_wire::<_, v1::AgentServiceConnectRequest>(&from_agent), Ok(from_agent));
        prop_assert_eq!(over_the_wire::<_, v1::AgentServiceConnectResponse>(&to_agent), Ok(to_agent));
    }

    #[test]
    fn what_executors_say_and_hear_round_trips(
        from_executor in strategies::executor_call(),
        to_executor in strategies::executor_event(),
    ) {
        prop_assert_eq!(over_the_wire::<_, v1::ExecutorServiceConnectRequest>(&from_executor), Ok(from_executor));
        prop_assert_eq!(over_the_wire::<_, v1::ExecutorServiceConnectResponse>(&to_executor), Ok(to_executor));
    }

    #[test]
    fn no_bytes_panic_and_every_refusal_is_short(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let refusals = [
            v1::SchedulerServiceConnectRequest::decode(bytes.as_slice()).ok().and_then(|wire| Call::try_from(wire).err()),
            v1::AgentServiceConnectRequest::decode(bytes.as_slice())
                .ok()
                .and_then(|wire| AgentMessage::try_from(wire).err()),
            v1::ExecutorServiceConnectRequest::decode(bytes.as_slice())
                .ok()
                .and_then(|wire| ExecutorCall::try_from(wire).err()),
        ];
        for refusal in refusals.into_iter().flatten() {
            prop_assert!(refusal.to_string().len() < 2000 && !refusal.to_string().contains('\0'), "{}", refusal);
        }
    }
}

#[test]
fn every_known_number_of_an_enum_converts_and_every_other_is_named_or_what_it_counts_as() {
    fn check<T: Copy + PartialEq + std::fmt::Debug>(
        last: i32,
        later: Option<T>,
        from: impl Fn(&str, i32) -> Result<T, ConvertError>,
        to: impl Fn(T) -> i32,
    ) {
        for number in 1..=last {
            assert_eq!(to(from("x", number).unwrap()), number);
        }
        assert_eq!(from("x", 0).unwrap_err().to_string(), "x: is not set");
        for number in [-1, last + 1, i32::MAX] {
            match (from("a.x", number), later) {
                (Ok(value), Some(later)) => assert!(value == later && number > 0),
                (Ok(value), None) => panic!("{number} is {value:?}"),
                (Err(error), _) => {
                    assert!(later.is_none() || number < 0);
                    assert!(error.field == "a.x" && error.what.contains(&number.to_string()), "{error}");
                }
            }
        }
    }
    check(13, None, task_state, |value: TaskState| v1::TaskState::from(value) as i32);
    check(37, None, reason, |value: Reason| v1::Reason::from(value) as i32);
    check(2, None, source, |value: Source| v1::Source::from(value) as i32);
    check(15, None, control, |value: Control| v1::Control::from(value) as i32);
    check(6, Some(Refusal::Invalid), refusal, |value: Refusal| v1::RefusalCode::from(value) as i32);
    check(5, Some(ErrorCode::Refused), error_code, |value: ErrorCode| v1::ErrorCode::from(value) as i32);
    check(7, None, operation_state, |value: OperationState| v1::OperationState::from(value) as i32);
    check(5, None, capability, |value: Capability| v1::Capability::from(value) as i32);
    check(5, None, agent_capability, |value: AgentCapability| v1::AgentCapability::from(value) as i32);
    check(5, Some(ClaimRefusal::NotAllowed), claim_refusal, |value: ClaimRefusal| {
        v1::ClaimRefusal::from(value) as i32
    });
    check(5, Some(ExecutorRefuseCode::Invalid), executor_refuse_code, |value: ExecutorRefuseCode| {
        v1::ExecutorRefuseCode::from(value) as i32
    });
    check(7, Some(RefuseCode::Invalid), refuse_code, |value: RefuseCode| v1::RefuseCode::from(value) as i32);
}

fn wire_resource(name: &str, value: Option<WireValue>) -> v1::Resource {
    v1::Resource { name: name.to_owned(), value, terms: None }
}

fn wire_ranges(ranges: impl IntoIterator<Item = (u64, u64)>) -> Option<WireValue> {
    let ranges = ranges.into_iter().map(|(first, last)| v1::Range { first, last }).collect();
    Some(WireValue::Ranges(v1::Ranges { ranges }))
}

fn wire_set(members: &[&str]) -> Option<WireValue> {
    Some(WireValue::Set(v1::Set { members: members.iter().map(|member| (*member).to_owned()).collect() }))
}

#[test]
fn resources_that_break_a_rule_are_refused_by_name() {
    let scalar = |milli| Some(WireValue::ScalarMilli(milli));
    let refusals = [
        (vec![wire_resource("cpus", scalar(-1))], "cpus: is negative: -1 thousandths"),
        (
            vec![wire_resource("cpus", scalar(limits::SCALAR_MILLI_MAX + 1))],
            "cpus: 10000000000001 thousandths",
        ),
        (vec![wire_resource("cpus", scalar(i64::MIN))], "cpus: is negative"),
        (vec![wire_resource("cpus", scalar(1)), wire_resource("cpus", scalar(0))], "cpus: is given twice"),
        (
            vec![wire_resource("cpus", scalar(1)), wire_resource("1", scalar(1))],
            "[1].name: `1` is not a name",
        ),
        (vec![wire_resource("a\0b", scalar(1))], "[0].name: `a\\0b` is not a name"),
        (vec![wire_resource(&"x".repeat(1 << 20), scalar(1))], "1048586 bytes are more"),
        (vec![wire_resource(&"x".repeat(65), scalar(1))], "is not a name"),
        (vec![wire_resource("", scalar(1))], "[0].name: `` is not a name"),
        (vec![wire_resource("cpus", None)], "cpus: has no value"),
        (vec![wire_resource("ports", scalar(1))], "ports: ports are ranges"),
        (vec![wire_resource("ports", wire_set(&["1"]))], "ports: ports are ranges"),
        (vec![wire_resource("ports", wire_ranges([(2, 1)]))], "ports: the range 2-1 ends before it begins"),
        (
            vec![wire_resource("ports", wire_ranges((0..5000).map(|n| (2 * n, 2 * n))))],
            "ports: 5000 disjoint ranges are more",
        ),
        (vec![wire_resource("zone", wire_set(&["a", "a"]))], "zone: `a` is in the set twice"),
        (vec![wire_resource("zone", wire_set(&[""]))], "zone: `` is not a member"),
        (vec![wire_resource("zone", wire_set(&["a;cpus:9"]))], "zone: `a;cpus:9` is not a member"),
        (vec![wire_resource("zone", wire_set(&[&"ab".repeat(200_000)]))], "bytes are more"),
        (
            (0..65).map(|n| wire_resource(&format!("n{n}"), scalar(1))).collect(),
            "65 resources are more than the most that is allowed, 64",
        ),
    ];
    for (resources, expected) in refusals {
        let error = Resources::try_from(v1::Resources { resources }).unwrap_err().to_string();
        assert!(error.contains(expected) && error.len() < 300, "{error} instead of {expected}");
    }
    let many = vec![wire_resource("ports", wire_ranges((0..5000).map(|n| (n, n))))];
    assert_eq!(Resources::try_from(v1::Resources { resources: many }).unwrap().to_string(), "ports:[0-4999]");
}

fn framework() -> v1::FrameworkInfo {
    v1::FrameworkInfo { name: "f".to_owned(), roles: vec!["*".to_owned()], ..Default::default() }
}

fn subscribe(info: v1::FrameworkInfo) -> Result<Call, ConvertError> {
    let call = WireCall::Subscribe(v1::Subscribe { framework_info: Some(info), ..Default::default() });
    Call::try_from(v1::SchedulerServiceConnectRequest { call_id: 1, call: Some(call) })
}

#[test]
fn frameworks_that_break_a_rule_are_refused_by_path() {
    let roles = |roles: &[&str]| v1::FrameworkInfo {
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        ..framework()
    };
    let many: Vec<String> = (0..65).map(|n| format!("r{n}")).collect();
    let year_ms = limits::FAILOVER_TIMEOUT_MAX.as_millis() as u64;
    let refusals = [
        (roles(&[]), "subscribe.framework_info.roles: is empty"),
        (roles(&["a", "b", "a"]), "subscribe.framework_info.roles[2]: role `a` is given twice"),
        (roles(&["a", "a b"]), "subscribe.framework_info.roles[1]: role `a b`"),
        (roles(&["a/../b"]), "subscribe.framework_info.roles[0]"),
        (v1::FrameworkInfo { roles: many, ..framework() }, "subscribe.framework_info.roles: 65 are more"),
        (
            v1::FrameworkInfo { failover_timeout_ms: Some(year_ms + 1), ..framework() },
            "subscribe.framework_info.failover_timeout_ms: 31536000001 ms is more",
        ),
        (
            v1::FrameworkInfo { failover_timeout_ms: Some(u64::MAX), ..framework() },
            "subscribe.framework_info.failover_timeout_ms: 18446744073709551615 ms is more",
        ),
        (
            v1::FrameworkInfo { name: "n".repeat(1 << 20), ..framework() },
            "subscribe.framework_info.name, principal and labels: 1048576 bytes",
        ),
    ];
    for (info, expected) in refusals {
        let error = subscribe(info).unwrap_err().to_string();
        assert!(error.starts_with(expected) && error.len() < 400, "{error} instead of {expected}");
    }
    let Ok(Call::Subscribe { info, .. }) = subscribe(framework()) else { panic!("a good one is taken") };
    assert_eq!(info.failover_timeout, limits::FAILOVER_TIMEOUT_DEFAULT);
    let missing = v1::SchedulerServiceConnectRequest {
        call_id: 1,
        call: Some(WireCall::Subscribe(v1::Subscribe::default())),
    };
    assert_eq!(Call::try_from(missing).unwrap_err().to_string(), "subscribe.framework_info: is missing");
}

#[test]
fn an_agent_may_know_more_than_its_master() {
    let wire = v1::AgentInfo {
        hostname: "h".to_owned(),
        address: "h:1".to_owned(),
        resources: Some(v1::Resources::default()),
        capabilities: vec![0, 1, i32::MAX, 1],
        ..Default::default()
    };
    let info = crate::AgentInfo::try_from(wire).unwrap();
    assert_eq!(info.capabilities, [AgentCapability::TaskGroups].into());
}

#[test]
fn agents_that_break_a_rule_are_refused_by_path() {
    let good = v1::AgentInfo {
        hostname: "h".to_owned(),
        address: "h:1".to_owned(),
        resources: Some(v1::Resources::default()),
        ..Default::default()
    };
    let register = |info: v1::AgentInfo| {
        let register = v1::Register { agent_info: Some(info), ..Default::default() };
        let message = Some(v1::agent_service_connect_request::Message::Register(register));
        AgentMessage::try_from(v1::AgentServiceConnectRequest { message })
    };
    assert!(register(good.clone()).is_ok());
    let unenforced = v1::Unenforced { control: 0, reason: String::new() };
    let negative = v1::Resources { resources: vec![wire_resource("mem", Some(WireValue::ScalarMilli(-5)))] };
    let refusals = [
        (v1::AgentInfo { hostname: String::new(), ..good.clone() }, "register.agent_info.hostname: is empty"),
        (
            v1::AgentInfo { address: "h".to_owned(), ..good.clone() },
            "register.agent_info.address: `h` is not `host:port`",
        ),
        (v1::AgentInfo { address: ":1".to_owned(), ..good.clone() }, "register.agent_info.address: `:1`"),
        (
            v1::AgentInfo { address: "h:70000".to_owned(), ..good.clone() },
            "register.agent_info.address: `h:70000`",
        ),
        (v1::AgentInfo { resources: None, ..good.clone() }, "register.agent_info.resources: is missing"),
        (
            v1::AgentInfo { resources: Some(negative), ..good.clone() },
            "register.agent_info.resources.mem: is negative",
        ),
        (
            v1::AgentInfo { unenforced: vec![unenforced.clone()], ..good.clone() },
            "register.agent_info.unenforced[0].control: is not set",
        ),
        (
            v1::AgentInfo { unenforced: vec![unenforced; Control::ALL.len() + 1], ..good.clone() },
            "register.agent_info.unenforced: names a control twice",
        ),
        (
            v1::AgentInfo { attributes: [("a".to_owned(), "x".repeat(1 << 20))].into(), ..good },
            "register.agent_info.hostname, address, attributes, reasons, version and work_dir_id: 1048581 bytes",
        ),
    ];
    for (info, expected) in refusals {
        let error = register(info).unwrap_err().to_string();
        assert!(error.starts_with(expected) && error.len() < 400, "{error} instead of {expected}");
    }
}

fn wire_task() -> v1::TaskInfo {
    v1::TaskInfo {
        task_id: "t".to_owned(),
        command: Some(v1::Command { argv: vec!["/bin/true".to_owned()], ..Default::default() }),
        ..Default::default()
    }
}

fn accept(tasks: Vec<v1::TaskInfo>) -> Call {
    let operation = v1::operation::Operation::Launch(v1::Launch { tasks });
    let operations = vec![v1::Operation { operation: Some(operation), operation_id: None }];
    let accept = v1::Accept { offer_ids: vec!["o".to_owned()], operations, filters: None };
    let request = v1::SchedulerServiceConnectRequest { call_id: 1, call: Some(WireCall::Accept(accept)) };
    Call::try_from(request).unwrap()
}

fn refused_task(wire: v1::TaskInfo) -> InvalidTask {
    let Call::Accept(taken) = accept(vec![wire_task(), wire]) else { panic!("an accept stays one") };
    let tasks: Vec<_> = taken.tasks().collect();
    let [Ok(_), Err(invalid)] = tasks[..] else { panic!("only the second is bad: {tasks:?}") };
    invalid.clone()
}

#[test]
fn a_bad_task_keeps_its_place_and_its_id_while_the_others_go_on() {
    let command = |argv: &[&str], env: &[(&str, &str)]| {
        let argv = argv.iter().map(|text| (*text).to_owned()).collect();
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        v1::TaskInfo { command: Some(v1::Command { argv, env }), ..wire_task() }
    };
    let limited = |resources: &str, limits: &str| v1::TaskInfo {
        resources: Some(resources.parse::<Resources>().unwrap().into()),
        limits: Some(limits.parse::<Resources>().unwrap().into()),
        ..wire_task()
    };
    let exclusive = |resources: &str| v1::TaskInfo {
        container: Some(v1::ContainerInfo { exclusive_cpus: true, ..Default::default() }),
        ..limited(resources, "")
    };
    let cpus = v1::Resources { resources: vec![wire_resource("cpus", Some(WireValue::ScalarMilli(-1)))] };
    let long = "x".repeat(limits::TASK_BYTES_MAX);
    let volumes = |paths: &[&str]| {
        let volume = |path: &&str| v1::Volume {
            source: Some(v1::volume::Source::HostPath((*path).to_owned())),
            ..Default::default()
        };
        let volumes = paths.iter().map(volume).collect();
        v1::TaskInfo { volumes, ..wire_task() }
    };
    for (wire, expected) in [
        (v1::TaskInfo { command: None, ..wire_task() }, "command: is missing"),
        (command(&[], &[]), "command.argv: names no program"),
        (command(&["", "a"], &[]), "command.argv: names no program"),
        (command(&["a", "b\0"], &[]), "command.argv[1]: holds a NUL"),
        (command(&["a"], &[("", "x")]), "command.env[``]: the name is empty"),
        (command(&["a"], &[("A=B", "x")]), "command.env[`A=B`]: the name holds `=`"),
        (command(&["a"], &[("A\0", "x")]), "command.env[`A\\0`]: the name holds"),
        (command(&["a"], &[("A", "\0")]), "command.env[`A`]: the value holds a NUL"),
        (command(&["a", &long], &[]), "name, command, labels, volumes, container and checks: 131075 bytes"),
        (
            v1::TaskInfo { name: long.clone(), ..wire_task() },
            "name, command, labels, volumes, container and checks: 131082 bytes",
        ),
        (v1::TaskInfo { pids_max: Some(0), ..wire_task() }, "pids_max: is 0"),
        (
            v1::TaskInfo {
                container: Some(v1::ContainerInfo {
                    io: Some(v1::IoLimits { write_bytes_per_second: Some(1), ..Default::default() }),
                    ..Default::default()
                }),
                ..wire_task()
            },
            "container.io.write_bytes_per_second: 1 is less than 65536, the least; leave it out",
        ),
        (volumes(&["/data", "data"]), "volumes[1].host_path: `data` is not the path of a volume"),
        (volumes(&["/"]), "volumes[0].host_path: `/` is not"),
        (volumes(&["/tmp/../etc"]), "volumes[0].host_path: `/tmp/../etc` is not"),
        (volumes(&["/a"; 65]), "volumes: 65 are more than the 64 of a task"),
        (
            v1::TaskInfo { kill_grace_ms: Some(86_400_001), ..wire_task() },
            "kill_grace_ms: 86400001 ms is more",
        ),
        (v1::TaskInfo { resources: Some(cpus), ..wire_task() }, "resources.cpus: is negative"),
        (limited("cpus:1", "gpus:1"), "limits.gpus: cannot be limited apart"),
        (limited("cpus:1", "cpus:[1-2]"), "limits.cpus: cannot be limited apart"),
        (limited("cpus:1", "cpus:0.5"), "limits.cpus: 0.5 is below what is asked for, cpus:1"),
        (exclusive("cpus:1.5"), "container.exclusive_cpus: cores of its own are whole ones"),
        (exclusive("mem:64"), "container.exclusive_cpus: cores of its own are whole ones"),
        (exclusive("cpus{revocable}:1"), "container.exclusive_cpus: what is lent cannot be cores"),
    ] {
        let invalid = refused_task(wire);
        assert_eq!(invalid.task_id, Some(TaskId::new("t").unwrap()));
        let expected = format!("accept.tasks[1].{expected}");
        assert!(invalid.message.starts_with(&expected), "{} instead of {expected}", invalid.message);
    }
    for id in ["", "a/b", "a\0b", "..", "-x", " ", &"x".repeat(1 << 20)] {
        let invalid = refused_task(v1::TaskInfo { task_id: id.to_owned(), ..wire_task() });
        assert_eq!(invalid.task_id, None);
        assert!(invalid.message.starts_with("accept.tasks[1].task_id: task id"), "{}", invalid.message);
        assert!(invalid.message.len() < 300 && !invalid.message.contains('\0'), "{}", invalid.message);
    }
    // Sent on as it is, it is refused again.
    let Call::Accept(taken) = accept(vec![v1::TaskInfo { command: None, ..wire_task() }]) else { panic!() };
    let Ok(Call::Accept(again)) = Call::try_from(scheduler_request(1, Call::Accept(taken))) else { panic!() };
    let tasks: Vec<_> = again.tasks().collect();
    assert_eq!(tasks[0].as_ref().unwrap_err().task_id, Some(TaskId::new("t").unwrap()));
}

#[test]
fn what_an_executor_runs_has_no_container_of_its_own() {
    let by = || v1::TaskInfo { executor_task_id: Some("e".to_owned()), ..wire_task() };
    let container = |container: v1::ContainerInfo| v1::TaskInfo { container: Some(container), ..by() };
    let text = |text: &str| text.to_owned();
    let volume = v1::Volume { source: Some(v1::volume::Source::HostPath(text("/a"))), ..Default::default() };
    let probe =
        v1::Probe { probe: Some(v1::probe::Probe::Tcp(v1::TcpProbe { port: 1 })), ..Default::default() };
    let group = v1::GroupInfo { group_id: text("g"), part: 3, place: 0, members: 1, network: None };
    let stored: Resources = "disk(eng)[data=data]:5".parse().unwrap();
    let ready = TaskInfo::try_from(v1::TaskInfo { command: Some(Default::default()), ..by() }).unwrap();
    assert_eq!(ready.executor(), Some(&TaskId::new("e").unwrap()), "and needs no program");
    assert!(TaskInfo::try_from(v1::TaskInfo { executor: true, ..wire_task() }).unwrap().is_executor());
    for (wire, expected) in [
        (v1::TaskInfo { executor: true, ..by() }, "executor_task_id: is set of a task that is an executor"),
        (
            v1::TaskInfo { executor_task_id: Some(text("t")), ..wire_task() },
            "executor_task_id: is `t`, the task",
        ),
        (
            v1::TaskInfo { executor_task_id: Some(text("")), ..wire_task() },
            "executor_task_id: task id is empty",
        ),
        (
            v1::TaskInfo { executor: true, command: Some(Default::default()), ..wire_task() },
            "command.argv: names no program",
        ),
        (
            v1::TaskInfo { executor: true, group: Some(group.clone()), ..wire_task() },
            "group: is set of an executor",
        ),
        (v1::TaskInfo { group: Some(group), ..by() }, "group: is set, and executor `e` runs"),
        (v1::TaskInfo { volumes: vec![volume], ..by() }, "volumes: is set, and executor `e` runs"),
        (
            container(v1::ContainerInfo { user: text("u"), ..Default::default() }),
            "container.user: is set, and executor `e` runs",
        ),
        (
            container(v1::ContainerInfo {
                image: Some(v1::Image { reference: text("a"), ..Default::default() }),
                ..Default::default()
            }),
            "container.image: is set, and executor `e` runs",
        ),
        (
            container(v1::ContainerInfo { swap_bytes: 1, ..Default::default() }),
            "container.swap_bytes: is set, and executor `e` runs",
        ),
        (
            container(v1::ContainerInfo {
                io: Some(v1::IoLimits { read_ops_per_second: Some(100), ..Default::default() }),
                ..Default::default()
            }),
            "container.io: is set, and executor `e` runs",
        ),
        (
            container(v1::ContainerInfo { exclusive_cpus: true, ..Default::default() }),
            "container.exclusive_cpus: is set, and executor `e` runs",
        ),
        (
            v1::TaskInfo {
                health_check: Some(v1::HealthCheck { probe: Some(probe.clone()), ..Default::default() }),
                ..by()
            },
            "health_check: is set, and executor `e` runs",
        ),
        (
            v1::TaskInfo { check: Some(v1::Check { probe: Some(probe) }), ..by() },
            "check: is set, and executor `e` runs",
        ),
        (v1::TaskInfo { resources: Some(stored.into()), ..by() }, "resources: hold a volume"),
    ] {
        let error = TaskInfo::try_from(wire).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error} instead of {expected}");
    }
}

#[test]
fn what_executors_may_not_say_is_refused_by_path() {
    use v1::executor_service_connect_request::Message;
    let update = |state: v1::TaskState| v1::ExecutorUpdate {
        run_id: "1-1".to_owned(),
        update_id: vec![0; 16].into(),
        state: state as i32,
        ..Default::default()
    };
    let many = v1::ExecutorSubscribe {
        run_ids: vec!["1-1".to_owned(); limits::EXECUTOR_TASKS_MAX + 1],
        ..Default::default()
    };
    let loud = v1::ExecutorSubscribe {
        unacknowledged: vec![update(v1::TaskState::Running); limits::EXECUTOR_UPDATES_MAX + 1],
        ..Default::default()
    };
    let wrong = v1::ExecutorSubscribe {
        unacknowledged: vec![v1::ExecutorUpdate {
            update_id: Default::default(),
            ..update(v1::TaskState::Failed)
        }],
        ..Default::default()
    };
    for (message, expected) in [
        (None, "message: is missing"),
        (
            Some(Message::Update(update(v1::TaskState::Gone))),
            "update.state: `gone` is not for an executor to tell",
        ),
        (Some(Message::Update(update(v1::TaskState::Unspecified))), "update.state: is not set"),
        (Some(Message::Subscribe(many)), "subscribe.run_ids: 1001 are more than the 1000 of an executor"),
        (Some(Message::Subscribe(loud)), "subscribe.unacknowledged: 1001 are more than the 1000"),
        (
            Some(Message::Update(v1::ExecutorUpdate {
                run_id: "a/b".to_owned(),
                ..update(v1::TaskState::Failed)
            })),
            "update.run_id: run id",
        ),
        (Some(Message::Subscribe(wrong)), "subscribe.unacknowledged[0].update_id: has 0 bytes"),
    ] {
        let error = ExecutorCall::try_from(v1::ExecutorServiceConnectRequest { message }).unwrap_err();
        assert!(error.to_string().starts_with(expected), "{error} instead of {expected}");
    }
}

#[test]
fn calls_that_break_a_rule_are_refused_by_path() {
    let text = |text: &str| text.to_owned();
    let filters = |refuse_ms| Some(v1::Filters { refuse_ms });
    let nothing = v1::Operation::default();
    let bad_agent = v1::ReconcileTask { task_id: text("t"), agent_id: Some(text("")) };
    let acknowledge =
        v1::Acknowledge { agent_id: text("a"), task_id: text("t"), update_id: vec![1, 2].into() };
    let year_ms = limits::REFUSE_MAX.as_millis() as u64;
    let refusals = [
        (
            WireCall::Accept(v1::Accept { offer_ids: vec![text("o"), text("")], ..Default::default() }),
            "accept.offer_ids[1]: offer id is empty",
        ),
        (
            WireCall::Accept(v1::Accept { operations: vec![nothing], ..Default::default() }),
            "accept.operations[0].operation: is missing",
        ),
        (
            WireCall::Accept(v1::Accept { filters: filters(Some(year_ms + 1)), ..Default::default() }),
            "accept.filters.refuse_ms: 31536000001 ms is more",
        ),
        (
            WireCall::Decline(v1::Decline { filters: filters(Some(u64::MAX)), ..Default::default() }),
            "decline.filters.refuse_ms: 18446744073709551615 ms is more",
        ),
        (
            WireCall::Decline(v1::Decline { offer_ids: vec![text("a/b")], ..Default::default() }),
            "decline.offer_ids[0]",
        ),
        (WireCall::Suppress(v1::Suppress { roles: vec![text("")] }), "suppress.roles[0]: role ``"),
        (
            WireCall::Revive(v1::Revive { roles: vec![text("*"), text("a//b")] }),
            "revive.roles[1]: role `a//b`",
        ),
        (WireCall::Kill(v1::Kill { task_id: text("a\nb"), grace_ms: None }), "kill.task_id: task id `a\\nb`"),
        (WireCall::Kill(v1::Kill { task_id: text("a"), grace_ms: Some(u64::MAX) }), "kill.grace_ms: "),
        (WireCall::Acknowledge(acknowledge), "acknowledge.update_id: has 2 bytes instead of 16"),
        (WireCall::Acknowledge(v1::Acknowledge::default()), "acknowledge.agent_id: agent id is empty"),
        (
            WireCall::Reconcile(v1::Reconcile { tasks: vec![bad_agent] }),
            "reconcile.tasks[0].agent_id: agent id is empty",
        ),
        (
            WireCall::Reconcile(v1::Reconcile { tasks: vec![v1::ReconcileTask::default()] }),
            "reconcile.tasks[0].task_id: task id is empty",
        ),
    ];
    for (call, expected) in refusals {
        let request = v1::SchedulerServiceConnectRequest { call_id: 1, call: Some(call) };
        let error = Call::try_from(request).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error} instead of {expected}");
    }
    let error = Call::try_from(v1::SchedulerServiceConnectRequest { call_id: 1, call: None }).unwrap_err();
    assert_eq!(error.field, "call");
}

#[test]
fn statuses_are_cut_rather_than_lost_but_never_guessed() {
    let wire = v1::TaskStatus {
        task_id: "t".to_owned(),
        state: v1::TaskState::Running as i32,
        source: v1::Source::Agent as i32,
        message: "ä".repeat(limits::STATUS_MESSAGE_BYTES_MAX),
        ..Default::default()
    };
    let status = TaskStatus::try_from(wire.clone()).unwrap();
    assert!(status.message.len() <= limits::STATUS_MESSAGE_BYTES_MAX && status.message.ends_with("ä…"));
    let refusals = [
        (v1::TaskStatus { state: 0, ..wire.clone() }, "state: is not set"),
        (v1::TaskStatus { state: 99, ..wire.clone() }, "state: 99 is not a number of TaskState known here"),
        (v1::TaskStatus { source: 0, ..wire.clone() }, "source: is not set"),
        (v1::TaskStatus { update_id: Some(vec![0; 17].into()), ..wire.clone() }, "update_id: has 17 bytes"),
        (v1::TaskStatus { agent_id: Some(String::new()), ..wire }, "agent_id: agent id is empty"),
    ];
    for (wire, expected) in refusals {
        let error = TaskStatus::try_from(wire).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error} instead of {expected}");
    }
}

#[test]
fn a_farewell_of_an_agent_is_cut_as_every_framework_hears_it() {
    let farewell = v1::Unregister { message: "x".repeat(1 << 20) };
    let wire = v1::AgentServiceConnectRequest {
        message: Some(v1::agent_service_connect_request::Message::Unregister(farewell)),
    };
    let AgentMessage::Unregister { message } = AgentMessage::try_from(wire).unwrap() else {
        panic!("it says farewell")
    };
    assert_eq!(message.len(), limits::STATUS_MESSAGE_BYTES_MAX);
}

#[test]
fn durations_are_rounded_up_to_milliseconds() {
    assert_eq!(millis(Duration::ZERO), 0);
    assert_eq!(millis(Duration::from_nanos(1)), 1);
    assert_eq!(millis(Duration::from_micros(1001)), 2);
    assert_eq!(millis(Duration::MAX), u64::MAX);
}

/// What a later version says of why something is so is no reason to end a stream with it.
#[test]
fn what_only_a_later_version_knows_is_passed_over_where_nothing_depends_on_it() {
    let status = v1::TaskStatus {
        task_id: "t".to_owned(),
        state: v1::TaskState::Failed as i32,
        source: v1::Source::Agent as i32,
        reason: 9999,
        message: "as people read it".to_owned(),
        ..Default::default()
    };
    let status = TaskStatus::try_from(status).unwrap();
    assert_eq!((status.reason, status.message.as_str()), (None, "as people read it"));

    let kill =
        v1::KillTask { framework_id: "f".to_owned(), task_id: "t".to_owned(), grace_ms: None, reason: 9999 };
    let wire = v1::AgentServiceConnectResponse {
        message: Some(v1::agent_service_connect_response::Message::KillTask(kill)),
    };
    let MasterMessage::KillTask { reason, .. } = MasterMessage::try_from(wire).unwrap() else {
        panic!("it is a kill")
    };
    assert_eq!(reason, Reason::KilledByOperator);

    let options = v1::FrameworkOptions { capabilities: vec![1, 9999], ..Default::default() };
    assert_eq!(FrameworkOptions::try_from(options).unwrap().capabilities.len(), 1);
    assert_eq!(decline_code(9999), crate::protocol::scheduler::DeclineCode::Other);

    let unenforced = |control| v1::Unenforced { control, reason: "why".to_owned() };
    let agent = v1::AgentInfo {
        hostname: "h".to_owned(),
        address: "h:1".to_owned(),
        resources: Some(v1::Resources::default()),
        unenforced: vec![unenforced(9999), unenforced(v1::Control::Swap as i32)],
        capabilities: vec![9999, 1],
        ..Default::default()
    };
    let agent = AgentInfo::try_from(agent).unwrap();
    assert_eq!((agent.unenforced.len(), agent.capabilities.len()), (1, 1));
}
