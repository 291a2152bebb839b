//! What the words of a scenario mean.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{
    Command, Execution, FrameworkId, GroupId, GroupInfo, IoLimits, Network, Operation, Part, Resources,
    TaskId, TaskInfo,
    probe::{Check, CheckResult, HealthCheck, Probe},
};

pub(crate) fn duration(text: &str) -> Duration {
    let (number, unit) =
        text.split_at(text.find(|c: char| c.is_alphabetic()).expect("a duration has a unit"));
    let number: u64 = number.parse().unwrap();
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "min" => Duration::from_secs(60 * number),
        _ => panic!("unit `{unit}`"),
    }
}

pub(crate) fn framework(text: &str) -> FrameworkId {
    FrameworkId::new(text).unwrap()
}

pub(crate) fn task(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

pub(crate) fn resources(text: &str) -> Resources {
    text.replace('\u{1}', " ").parse().unwrap()
}

pub(crate) fn operation(words: &[&str]) -> Operation {
    match *words {
        ["reserve", text] => Operation::Reserve { resources: resources(text) },
        ["unreserve", text] => Operation::Unreserve { resources: resources(text) },
        ["create", text] => Operation::Create { volumes: resources(text) },
        ["destroy", text] => Operation::Destroy { volumes: resources(text) },
        ["grow", volume, "by", disk] => {
            Operation::Grow { volume: resources(volume), addition: resources(disk) }
        }
        ["shrink", volume, "by", mib] => {
            let subtract_milli = 1000 * mib.parse::<i64>().unwrap();
            Operation::Shrink { volume: resources(volume), subtract_milli }
        }
        _ => panic!("operation `{}`", words.join(" ")),
    }
}

pub(crate) fn task_info(words: &[&str]) -> TaskInfo {
    let (id, resources, options) = match words {
        [id, resources, options @ ..] => (id, resources, options),
        _ => panic!("a task has a name and resources"),
    };
    let mut info = TaskInfo {
        task_id: task(id),
        name: (*id).to_owned(),
        resources: self::resources(resources),
        limits: Resources::new(),
        pids_max: None,
        volumes: Vec::new(),
        command: Command { argv: vec!["work".to_owned()], env: BTreeMap::new() },
        kill_grace: None,
        labels: BTreeMap::new(),
        container: Default::default(),
        supervision: Default::default(),
        group: None,
        execution: Default::default(),
    };
    for option in options {
        if *option == "executor" {
            info.execution = Execution::Executor;
            continue;
        }
        if *option == "exclusive" {
            info.container.exclusive_cpus = true;
            continue;
        }
        match option.split_once('=').unwrap() {
            ("limits", text) => info.limits = text.parse().unwrap(),
            ("grace", text) => info.kill_grace = Some(duration(text)),
            ("pids", number) => info.pids_max = Some(number.parse().unwrap()),
            ("writes", mib) => {
                let write_bytes_per_second = Some(mib.parse::<u64>().unwrap() << 20);
                info.container.io = Some(Box::new(IoLimits { write_bytes_per_second, ..IoLimits::NONE }));
            }
            ("env", pair) => {
                let (name, value) = pair.split_once('=').unwrap();
                info.command.env.insert(name.to_owned(), value.to_owned());
            }
            ("group", text) => info.group = Some(Box::new(group(text))),
            ("by", name) => info.execution = Execution::By(task(name)),
            ("max", text) => info.supervision.max_completion = Some(duration(text)),
            ("health", text) => info.supervision.health_check = Some(Box::new(health_check(text))),
            ("check", text) => {
                let HealthCheck { probe, schedule, .. } = health_check(text);
                info.supervision.check = Some(Box::new(Check { probe, schedule }));
            }
            other => panic!("{other:?}"),
        }
    }
    info
}

fn group(text: &str) -> GroupInfo {
    let [name, part, place, members, ref rest @ ..] = text.split('/').collect::<Vec<_>>()[..] else {
        panic!("a group is written g/init/0/3, or g/init/0/3/NETWORK")
    };
    GroupInfo {
        group_id: GroupId::new(name).unwrap(),
        part: Part::ALL.into_iter().find(|known| known.name() == part).unwrap(),
        place: place.parse().unwrap(),
        members: members.parse().unwrap(),
        network: rest.first().map(|name| Box::new(Network::new(*name))),
    }
}

fn health_check(text: &str) -> HealthCheck {
    let mut check = HealthCheck::new(Probe::Tcp { port: 31000 });
    for part in text.split(',') {
        match part.split_once(':').unwrap() {
            ("delay", text) => check.schedule.delay = duration(text),
            ("interval", text) => check.schedule.interval = duration(text),
            ("timeout", text) => check.schedule.timeout = duration(text),
            ("grace", text) => check.grace = duration(text),
            ("failures", number) => check.failures_max = number.parse().unwrap(),
            other => panic!("{other:?}"),
        }
    }
    check
}

pub(crate) fn check_result(text: &str) -> CheckResult {
    match text.split_once('=') {
        Some(("exit", code)) => CheckResult::Exit(code.parse().unwrap()),
        Some(("http", status)) => CheckResult::HttpStatus(status.parse().unwrap()),
        None if text == "connected" => CheckResult::Connected(true),
        None if text == "refused" => CheckResult::Connected(false),
        None if text == "none" => CheckResult::Unanswered,
        _ => panic!("answer `{text}`"),
    }
}
