//! What the words of a scenario mean.

use std::{collections::BTreeMap, time::Duration};

use apportion_types::{Command, FrameworkId, Operation, Resources, TaskId, TaskInfo};

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
    };
    for option in options {
        match option.split_once('=').unwrap() {
            ("limits", text) => info.limits = text.parse().unwrap(),
            ("grace", text) => info.kill_grace = Some(duration(text)),
            ("pids", number) => info.pids_max = Some(number.parse().unwrap()),
            ("env", pair) => {
                let (name, value) = pair.split_once('=').unwrap();
                info.command.env.insert(name.to_owned(), value.to_owned());
            }
            other => panic!("{other:?}"),
        }
    }
    info
}
