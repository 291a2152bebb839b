//! Several masters on a real etcd, of which one leads.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
};

use rustix::process::Signal;

use crate::{
    etcd::Etcd,
    support::{BOUND, Place, Running, port},
};

/// A master on a port of its own, and where it is.
fn start(place: &Place, etcd: &str) -> (Running, String) {
    let args = ["master", "--listen", "127.0.0.1:0", "--etcd", etcd, "--leader-lease", "2s", "--log", "info"];
    let mut master = place.start(&args);
    let port = port(&master.error_with("standing by"));
    (master, format!("127.0.0.1:{port}"))
}

/// A connection on which a first question was answered: the master has it before it is stopped.
fn connected(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"ok\n") {
        let mut byte = [0];
        assert_eq!(stream.read(&mut byte).unwrap(), 1, "{}", String::from_utf8_lossy(&answer));
        answer.extend(byte);
    }
    stream
}

/// All that still comes on a connection.
fn rest(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn weights(place: &Place, etcd: &str) -> Vec<(String, String)> {
    let kept = place.run(&["registry", "inspect", "--etcd", etcd, "-o", "json"]).expect(0).json();
    let text = |value: &serde_json::Value| value.as_str().map_or(value.to_string(), str::to_owned);
    let roles = kept["roles"].as_array().unwrap().iter();
    roles.map(|role| (text(&role["role"]), text(&role["weight_milli"]))).collect()
}

#[test]
fn a_leader_that_was_paused_past_its_time_sends_and_writes_nothing_more() {
    let Some(etcd) = Etcd::start("a paused leader", 3, &[]) else { return };
    let (etcd, place) = (etcd.endpoints(), Place::new());
    let (mut first, address) = start(&place, &etcd);
    first.error_with("serving");
    let (mut second, next) = start(&place, &etcd);
    second.error_with("another master leads");
    place.run(&["roles", "set", "eng", "--weight", "3", "--master", &format!("http://{address}")]).expect(0);
    let (mut reader, mut writer) = (connected(&address), connected(&address));

    first.signal(Signal::STOP);
    // The system takes them on; the master finds them when it goes on.
    reader.write_all(b"GET /api/v1/cluster HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let change = r#"{"changes": [{"role": "stale", "weight": "2"}]}"#;
    let length = change.len();
    let post = "POST /api/v1/roles HTTP/1.1\r\nhost: x\r\ncontent-type: application/json";
    write!(writer, "{post}\r\ncontent-length: {length}\r\n\r\n{change}").unwrap();
    second.error_with("serving");
    place.run(&["roles", "set", "eng", "--weight", "5", "--master", &format!("http://{next}")]).expect(0);

    first.signal(Signal::CONT);
    assert_eq!((rest(reader).as_str(), rest(writer).as_str()), ("", ""));
    let ended = first.end().expect(1);
    assert!(ended.stderr.contains("leads no longer"), "{}", ended.stderr);
    assert_eq!(weights(&place, &etcd), [("eng".to_owned(), "5000".to_owned())]);
    // The one that leads heard nothing of it.
    place.run(&["roles", "set", "ops", "--weight", "2", "--master", &format!("http://{next}")]).expect(0);
}

#[test]
fn a_stand_by_leads_when_the_leader_is_killed_and_a_third_of_etcd_with_it() {
    let Some(mut etcd) = Etcd::start("a killed leader", 3, &[]) else { return };
    let (endpoints, place) = (etcd.endpoints(), Place::new());
    let (mut first, address) = start(&place, &endpoints);
    first.error_with("serving");
    let (mut second, next) = start(&place, &endpoints);
    second.error_with("another master leads");
    place.run(&["roles", "set", "eng", "--weight", "3", "--master", &format!("http://{address}")]).expect(0);
    first.kill();
    etcd.kill(0);
    second.error_with("serving");
    place.run(&["roles", "set", "ops", "--weight", "2", "--master", &format!("http://{next}")]).expect(0);
    let role = |name: &str, weight: &str| (name.to_owned(), weight.to_owned());
    assert_eq!(weights(&place, &endpoints), [role("eng", "3000"), role("ops", "2000")]);
    // One that ends in order makes room at once.
    let (mut third, _) = start(&place, &endpoints);
    third.error_with("another master leads");
    second.signal(Signal::TERM);
    second.end().expect(0);
    third.error_with("serving");
}
