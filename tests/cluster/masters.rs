//! Several masters on a real etcd, of which one leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::{Signal, WaitOptions, waitpid};

use super::Cluster;
use crate::{
    etcd::Etcd,
    support::{BOUND, Place, Running, port, until},
};

/// A master on a port of its own, and where it is.
fn start(place: &Place, etcd: &str) -> (Running, String) {
    start_with(place, etcd, &["--leader-lease", "10s"])
}

fn start_with(place: &Place, etcd: &str, settings: &[&str]) -> (Running, String) {
    let args = ["master", "--listen", "127.0.0.1:0", "--etcd", etcd, "--log", "info"];
    let mut master = place.start(&[&args[..], settings].concat());
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
    // Only then has each of its threads stopped.
    let stopped = waitpid(Some(first.pid()), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(stopped.1.stopped());
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

#[test]
fn agents_and_jobs_go_on_under_the_next_leader() {
    let Some(etcd) = Etcd::start("a cluster whose leader is killed", 3, &[]) else { return };
    let place = Place::new();
    let (mut first, address) = start(&place, &etcd.endpoints());
    first.error_with("serving");
    let (mut second, next) = start(&place, &etcd.endpoints());
    second.error_with("another master leads");
    // The stand-by is named first: everybody goes where it sends them.
    let url = format!("http://{next},http://{address}");
    let agents = [("a", "cpus:2;mem:1GiB"), ("b", "cpus:2;mem:1GiB")];
    let (settings, mounted) = (&[][..], Vec::new());
    let mut cluster = Cluster { place, url, settings, agents: BTreeMap::new(), mounted, master: second };
    for (name, resources) in agents {
        cluster.start_agent(name, resources);
    }
    let job = "name = 'steady'\n[array]\nrange = [1, 8]\n[task]\n\
         command = 'until [ -e go ]; do sleep 0.05; done; echo done'\ncpus = 0.5\nmemory = '32MiB'\n";
    let job = cluster.submit("steady", job, &[]);
    until("all run", || (cluster.tasks("running").len() == 8).then_some(()));
    let sandboxes: Vec<_> = agents.iter().flat_map(|(name, _)| cluster.sandboxes(name)).collect();
    assert_eq!(sandboxes.len(), 8);

    first.kill();
    // Half end while nobody leads.
    for sandbox in &sandboxes[..4] {
        fs::write(sandbox.join("go"), "").unwrap();
    }
    cluster.master.error_with("serving");
    // Both agents are back.
    until("ends that no master saw are told, and what runs", || {
        let count = |state| cluster.tasks(state).len();
        (count("finished") == 4 && count("running") == 4).then_some(())
    });
    for sandbox in &sandboxes[4..] {
        fs::write(sandbox.join("go"), "").unwrap();
    }
    let summary = job.end().expect(0).json();
    assert_eq!(summary["totals"]["succeeded"], 8, "{summary:#}");
}

#[test]
fn a_watch_goes_on_with_the_next_leader() {
    let Some(etcd) = Etcd::start("a watch of a leader that is killed", 3, &[]) else { return };
    let place = Place::new();
    let (mut first, address) = start(&place, &etcd.endpoints());
    first.error_with("serving");
    let (mut second, next) = start(&place, &etcd.endpoints());
    second.error_with("another master leads");
    let masters = format!("http://{address},http://{next}");
    let set =
        |role: &str| place.run(&["roles", "set", role, "--weight", "3", "--master", &masters]).expect(0);
    set("eng");
    let mut watch = place.start(&["watch", "roles", "--master", &masters]);
    assert!(watch.line_with("eng").starts_with("= role"));
    first.kill();
    watch.error_with("trying again");
    second.error_with("serving");
    // All that there is comes first again, then what is new.
    assert!(watch.line_with("eng").starts_with("= role"));
    set("ops");
    assert!(watch.line_with("ops").starts_with("+ role"));
}

#[test]
fn the_next_leader_offers_again_after_the_default_lease() {
    const ROUNDS: usize = 3;
    // One that was lost sooner is a link that flaps, after which agents and frameworks wait longer.
    const STOOD: Duration = Duration::from_secs(11);
    let Some(etcd) = Etcd::start("the time of a failover", 3, &[]) else { return };
    let place = Place::new();
    let mut masters: Vec<(Running, String)> =
        (0..3).map(|_| start_with(&place, &etcd.endpoints(), &[])).collect();
    masters[0].0.error_with("serving");
    // One that is killed starts again where it was.
    let url = masters.iter().map(|(_, address)| format!("http://{address}")).collect::<Vec<_>>().join(",");
    let (settings, mounted) = (&[][..], Vec::new());
    // Never asked.
    let master = place.start(&["master", "--listen", "127.0.0.1:0"]);
    let mut cluster = Cluster { place, url, settings, agents: BTreeMap::new(), mounted, master };
    cluster.start_agent("a", "cpus:1;mem:1GiB");
    // One after the other; each waits for its file.
    let job = format!(
        "name = 'line'\n[array]\nrange = [1, {}]\n[task]\ncommand = 'until [ -e go ]; do sleep 0.01; done'\n\
         cpus = 1\nmemory = '32MiB'\n",
        ROUNDS + 1
    );
    let job = cluster.submit("line", &job, &[]);
    let mut known = BTreeSet::new();
    let mut next = |cluster: &Cluster| {
        until("the next task runs", || {
            let new = cluster
                .sandboxes("a")
                .into_iter()
                .find(|sandbox| sandbox.join("stdout").exists() && !known.contains(sandbox))?;
            known.insert(new.clone());
            Some(new)
        })
    };
    let mut running = next(&cluster);
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        until("it is known to run", || (cluster.tasks("running").len() == 1).then_some(()));
        let runs = Instant::now();
        until("connections have stood", || (runs.elapsed() > STOOD).then_some(()));
        let at = masters.iter().position(|(_, address)| healthy(address)).unwrap();
        let killed = Instant::now();
        masters[at].0.kill();
        fs::write(running.join("go"), "").unwrap();
        until("another one leads", || masters.iter().any(|(_, address)| healthy(address)).then_some(()));
        let leads = killed.elapsed();
        running = next(&cluster);
        times.push((leads, killed.elapsed()));
        let (leader, address) = &mut masters[at];
        let listen = address.clone();
        let args = ["master", "--listen", &listen, "--etcd", &etcd.endpoints(), "--log", "info"];
        *leader = cluster.place.start(&args);
        leader.error_with("standing by");
    }
    println!(
        "from the leader's death until another one leads, and until it has launched a task: {times:.1?}"
    );
    fs::write(running.join("go"), "").unwrap();
    assert_eq!(job.end().expect(0).json()["totals"]["succeeded"], ROUNDS + 1);
}

/// Whether this master leads.
fn healthy(address: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").unwrap();
    rest(stream).contains(" 200 ")
}
