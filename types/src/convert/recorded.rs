//! Messages as earlier versions wrote them are read as they were meant, and are written so still.
//!
//! `RECORD_FORMAT=NAME cargo test -p apportion-types recorded` records what this version writes as `recorded/NAME`, a line for each
//! message: its type, and its bytes. That is done once for each release, and what is there never changes.

use std::{collections::BTreeMap, env, fmt::Debug, fmt::Write as _, fs, path::PathBuf};

use apportion_proto::v1;
use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use prost::Message;

use super::{ConvertError, scheduler_request, strategies};
use crate::protocol::{
    agent::{AgentMessage, MasterMessage},
    executor::{ExecutorCall, ExecutorEvent},
    scheduler::{Call, Event},
};

/// So many of each kind of message.
const EACH: usize = 3;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/convert/recorded")
}

/// The same message goes through here and comes out as it was, also when a later version has added a field to it.
fn same<T, W>(bytes: &[u8], to_wire: impl Fn(T) -> W) -> Result<(), String>
where
    W: Message + Default + PartialEq + Debug,
    T: TryFrom<W, Error = ConvertError>,
{
    let recorded = W::decode(bytes).map_err(|error| error.to_string())?;
    let mut later = bytes.to_vec();
    // Field 15000, a varint.
    later.extend([0xc0, 0xa9, 0x07, 0x01]);
    for bytes in [bytes, &later] {
        let read = W::decode(bytes).map_err(|error| error.to_string())?;
        let written = to_wire(T::try_from(read).map_err(|error| error.to_string())?);
        if written != recorded {
            return Err(format!("{recorded:?} is written as {written:?} now"));
        }
    }
    Ok(())
}

fn check(kind: &str, bytes: &[u8]) -> Result<(), String> {
    match kind {
        "call" => {
            let number = v1::SchedulerServiceConnectRequest::decode(bytes).map_or(0, |wire| wire.call_id);
            same(bytes, |call: Call| scheduler_request(number, call))
        }
        "event" => same::<Event, _>(bytes, v1::SchedulerServiceConnectResponse::from),
        "from-agent" => same::<AgentMessage, _>(bytes, v1::AgentServiceConnectRequest::from),
        "to-agent" => same::<MasterMessage, _>(bytes, v1::AgentServiceConnectResponse::from),
        "from-executor" => same::<ExecutorCall, _>(bytes, v1::ExecutorServiceConnectRequest::from),
        "to-executor" => same::<ExecutorEvent, _>(bytes, v1::ExecutorServiceConnectResponse::from),
        _ => Err("there is no such message".to_owned()),
    }
}

/// Some of each kind of message that a strategy makes, by the number of its kind on the wire.
fn some<T: Debug, W: Message>(strategy: impl Strategy<Value = T>, to_wire: impl Fn(T) -> W) -> Vec<Vec<u8>> {
    let mut runner = TestRunner::deterministic();
    let mut made: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for _ in 0..2000 {
        let value = strategy.new_tree(&mut runner).unwrap().current();
        let bytes = to_wire(value).encode_to_vec();
        let kind = prost::encoding::decode_varint(&mut bytes.as_slice()).unwrap();
        let made = made.entry(kind).or_default();
        if made.len() < EACH && bytes.len() < 2000 && !made.contains(&bytes) {
            made.push(bytes);
        }
    }
    made.into_values().flatten().collect()
}

fn record() -> String {
    let groups = [
        ("call", some(strategies::call(), |call| scheduler_request(0, call))),
        ("event", some(strategies::event(), v1::SchedulerServiceConnectResponse::from)),
        ("from-agent", some(strategies::agent_message(), v1::AgentServiceConnectRequest::from)),
        ("to-agent", some(strategies::master_message(), v1::AgentServiceConnectResponse::from)),
        ("from-executor", some(strategies::executor_call(), v1::ExecutorServiceConnectRequest::from)),
        ("to-executor", some(strategies::executor_event(), v1::ExecutorServiceConnectResponse::from)),
    ];
    let mut text = String::new();
    for (kind, messages) in groups {
        for bytes in messages {
            let hex = bytes.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").unwrap();
                hex
            });
            writeln!(text, "{kind} {hex}").unwrap();
        }
    }
    text
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[test]
fn what_earlier_versions_wrote_is_read_as_they_meant_it() {
    if let Some(name) = env::var_os("RECORD_FORMAT") {
        fs::create_dir_all(folder()).unwrap();
        fs::write(folder().join(name), record()).unwrap();
    }
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        for (number, line) in fs::read_to_string(&path).unwrap().lines().enumerate() {
            let (kind, hex) = line.split_once(' ').unwrap();
            *kinds.entry(kind.to_owned()).or_default() += 1;
            if let Err(why) = check(kind, &bytes(hex)) {
                panic!("{}:{}: {kind}: {why}", path.display(), number + 1);
            }
        }
    }
    assert!(kinds.len() == 6 && kinds.values().all(|count| *count >= 2 * EACH), "{kinds:?}");
}
