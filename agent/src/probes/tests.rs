use std::{collections::BTreeMap, net::Ipv4Addr};

use apportion_containerizer::{ContainerSpec, Fake, Limits};
use apportion_types::Command;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

struct World {
    probes: Probes,
    happened: mpsc::UnboundedReceiver<Event>,
    number: u64,
}

impl World {
    fn new(containerizer: Fake) -> Self {
        let (events, happened) = mpsc::unbounded_channel();
        Self { probes: Probes::new(Arc::new(containerizer), events), happened, number: 0 }
    }

    fn begin(&mut self, container: &str, probe: Probe, timeout: Duration) {
        self.number += 1;
        let key = (ContainerId(container.to_owned()), ProbeKind::Health, self.number);
        self.probes.ask(key, Some(Ipv4Addr::LOCALHOST.into()), probe, timeout);
    }

    async fn answer(&mut self) -> (u64, Answer) {
        match self.happened.recv().await.unwrap() {
            Event::Probed { number, result, message, .. } => (number, (result, message)),
            other => panic!("{other:?}"),
        }
    }

    async fn ask(&mut self, probe: Probe) -> Answer {
        self.begin("c", probe, Duration::from_secs(60));
        let (number, answer) = self.answer().await;
        assert_eq!(number, self.number);
        answer
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A port that nobody listens on.
async fn closed_port() -> u16 {
    listener().await.1
}

fn http(port: u16, headers: &[(&str, &str)]) -> Probe {
    let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Probe::Http { port, path: "/health?deep=1".to_owned(), headers }
}

/// Answers one connection with these bytes, and returns what it was asked.
async fn serves(listener: TcpListener, answer: Vec<u8>) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        asked.push(stream.read_u8().await.unwrap());
    }
    let _ = stream.write_all(&answer).await;
    String::from_utf8(asked).unwrap()
}

#[tokio::test]
async fn a_port_is_connected_to_or_not() {
    let mut world = World::new(Fake::new(Vec::new()));
    let (listener, port) = listener().await;
    let (result, heard) = world.ask(Probe::Tcp { port }).await;
    assert_eq!(result, CheckResult::Connected(true), "{heard}");
    drop(listener);
    let (result, heard) = world.ask(Probe::Tcp { port }).await;
    assert_eq!(result, CheckResult::Connected(false));
    assert!(heard.contains(&port.to_string()) && heard.contains("refused"), "{heard}");
}

#[tokio::test]
async fn a_status_is_the_answer_and_nothing_is_followed() {
    let mut world = World::new(Fake::new(Vec::new()));
    for (line, status) in
        [("200 OK", 200), ("302 Found\r\nlocation: http://192.0.2.1/", 302), ("503 No", 503)]
    {
        let (listener, port) = listener().await;
        let answer = format!("HTTP/1.1 {line}\r\ncontent-length: 1000000\r\n\r\n").into_bytes();
        let served = tokio::spawn(serves(listener, answer));
        let headers = [("Host", "service.example"), ("X-Probe", "a b")];
        let (result, heard) = world.ask(http(port, &headers)).await;
        assert_eq!(result, CheckResult::HttpStatus(status), "{heard}");
        let asked = served.await.unwrap();
        assert!(asked.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("host: service.example\r\n") && asked.contains("x-probe: a b\r\n"), "{asked}");
        assert!(!asked.contains("127.0.0.1"), "{asked}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_said() {
    let mut world = World::new(Fake::new(Vec::new()));
    let port = closed_port().await;
    let (result, heard) = world.ask(http(port, &[])).await;
    assert_eq!(result, CheckResult::Unanswered);
    assert!(heard.contains("refused"), "{heard}");
    let endless = [b"HTTP/1.1 200 OK\r\nx: ".to_vec(), vec![b'a'; 1 << 20]].concat();
    for answer in [b"SSH-2.0-OpenSSH\r\n\r\n".to_vec(), Vec::new(), endless] {
        let (listener, port) = listener().await;
        tokio::spawn(serves(listener, answer));
        let (result, heard) = world.ask(http(port, &[])).await;
        assert_eq!(result, CheckResult::Unanswered, "{heard}");
    }
    let (result, heard) = world.ask(Probe::Grpc { port, service: String::new() }).await;
    assert_eq!(result, CheckResult::Unanswered);
    assert!(heard.contains("no connection"), "{heard}");
}

#[tokio::test]
async fn one_who_says_nothing_has_his_time() {
    let mut world = World::new(Fake::new(Vec::new()));
    let (_listener, port) = listener().await;
    world.begin("c", http(port, &[]), Duration::from_millis(100));
    let (_, (result, heard)) = world.answer().await;
    assert_eq!((result, heard.as_str()), (CheckResult::Unanswered, "no answer within 100ms"));
}

#[tokio::test]
async fn a_health_service_says_what_it_serves() {
    let mut world = World::new(Fake::new(Vec::new()));
    let (listener, port) = listener().await;
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter.set_service_status("ready", tonic_health::ServingStatus::Serving).await;
    reporter.set_service_status("starting", tonic_health::ServingStatus::NotServing).await;
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    let server = tokio::spawn(server);
    for (service, serves) in [("ready", true), ("starting", false), ("unknown", false), ("", true)] {
        let (result, heard) = world.ask(Probe::Grpc { port, service: service.to_owned() }).await;
        assert_eq!(result, CheckResult::Serving(serves), "{service}: {heard}");
    }
    server.abort();
}

async fn fake_with_container(id: &str) -> Fake {
    let fake = Fake::new(Vec::new());
    let limits = Limits {
        cpus_request_milli: 1000,
        cpus_limit_milli: None,
        memory_request_bytes: 1 << 20,
        memory_limit_bytes: None,
        swap_max_bytes: 0,
        pids_max: None,
        io: apportion_types::IoLimits::NONE,
        cores: None,
        huge_pages: apportion_types::HugePages::NONE,
    };
    let spec = ContainerSpec {
        id: apportion_containerizer::ContainerId(id.to_owned()),
        argv: vec!["work".to_owned()],
        env: BTreeMap::new(),
        sandbox: "/nowhere".into(),
        output: None,
        root: None,
        user: None,
        working_dir: None,
        mounts: Vec::new(),
        rlimits: Vec::new(),
        persistent: Vec::new(),
        network: None,
        limits,
        tethered: false,
    };
    fake.launch(spec).await.unwrap();
    fake
}

fn command(argv: &[&str]) -> Probe {
    Probe::Command(Command { argv: argv.iter().map(ToString::to_string).collect(), env: BTreeMap::new() })
}

#[tokio::test]
async fn a_command_is_judged_by_its_end() {
    let mut world = World::new(fake_with_container("c").await);
    assert_eq!(world.ask(command(&["exit", "0"])).await, (CheckResult::Exit(0), "exit code 0".to_owned()));
    assert_eq!(world.ask(command(&["exit", "3"])).await.0, CheckResult::Exit(3));
    let (result, heard) = world.ask(command(&["echo", "all", "well"])).await;
    assert_eq!((result, heard.as_str()), (CheckResult::Exit(0), "exit code 0: all well"));
    let (result, heard) = world.ask(command(&["missing"])).await;
    assert_eq!(result, CheckResult::Unanswered);
    assert!(heard.contains("missing"), "{heard}");
}

#[tokio::test]
async fn nobody_waits_for_what_a_forgotten_container_would_say() {
    let mut world = World::new(fake_with_container("c").await);
    let (_listener, port) = listener().await;
    world.begin("gone", http(port, &[]), Duration::from_secs(3600));
    world.probes.forget(&ContainerId("gone".to_owned()));
    assert_eq!(world.ask(command(&["exit", "0"])).await.0, CheckResult::Exit(0));
    drop(world.probes);
    assert!(world.happened.recv().await.is_none(), "the task is gone with what it held");
}

#[tokio::test]
async fn hanging_commands_leave_connections_alone() {
    let mut world = World::new(fake_with_container("c").await);
    for _ in 0..2 * limits::COMMAND_PROBES_MAX {
        world.begin("c", command(&["sleep"]), Duration::from_secs(3600));
    }
    let (_listener, port) = listener().await;
    assert_eq!(world.ask(Probe::Tcp { port }).await.0, CheckResult::Connected(true));
}
