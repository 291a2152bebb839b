//! Clients of a service, while everything is done to it that is done to services: none of their requests fails.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::process::{Signal, getpid, kill_process};
use serde_json::Value;

use super::Cluster;
use crate::support::{BOUND, Running, full_pipe, until};

/// A replica: this very program, told to run nothing but this. It says what it is made from.
#[test]
#[ignore = "a program of another test"]
fn replica() {
    let Ok(port) = std::env::var("APPORTION_PORT0") else { return };
    let version = std::env::var("VERSION").unwrap();
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    for stream in listener.incoming() {
        let (mut stream, version) = (stream.unwrap(), version.clone());
        thread::spawn(move || {
            let mut requests = BufReader::new(stream.try_clone().unwrap());
            while let Some(path) =
                head(&mut requests).and_then(|head| head.split(' ').nth(1).map(str::to_owned))
            {
                if path == "/die" {
                    kill_process(getpid(), Signal::KILL).unwrap();
                }
                // One of a kind that does not work says so.
                let status = if path == "/health" && version == "broken" {
                    "503 Service Unavailable"
                } else {
                    "200 OK"
                };
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{version}", version.len());
                if stream.write_all(answer.as_bytes()).is_err() {
                    break;
                }
            }
        });
    }
}

/// The head of a message, or none when the other side has closed.
fn head(stream: &mut impl BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// A connection of a client.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(BOUND))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Asks once: the body of a good answer and whether the connection is there for another request, or what went wrong.
    fn ask(&mut self, method: &str, path: &str) -> Result<(String, bool), String> {
        let failed = |error: std::io::Error| error.to_string();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: web\r\ncontent-length: 0\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).map_err(failed)?;
        let head = head(&mut self.0).ok_or("closed instead of an answer")?;
        let header = |name: &str| {
            let mut lines = head.lines().map(str::to_ascii_lowercase);
            lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let length: usize =
            header("content-length:").and_then(|text| text.parse().ok()).ok_or(head.clone())?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).map_err(failed)?;
        let body = String::from_utf8(body).unwrap();
        let stays = header("connection:").as_deref() != Some("close");
        if head.starts_with("HTTP/1.1 200 ") { Ok((body, stays)) } else { Err(format!("{head}{body}")) }
    }
}

/// Clients that ask without a pause.
struct Clients {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    end: AtomicBool,
    /// Whether requests are of a kind that a balancer may send again, because a replica is about to be killed.
    may_be_repeated: AtomicBool,
    /// Whoever listens is about to be killed: a connection that is open may be cut, and for a while none can be had.
    outage: AtomicBool,
    answered: AtomicUsize,
    cut: AtomicUsize,
    failures: Mutex<Vec<String>>,
    /// What went well last.
    stage: Mutex<&'static str>,
    last: Mutex<String>,
}

impl Clients {
    /// So many connections that stay, and one that is a new one each time.
    fn start(address: SocketAddr, count: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let client = |stays| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.ask(address, stays))
        };
        let threads = (0..count).map(|_| client(true)).chain([client(false)]).collect();
        Self { shared, threads }
    }

    fn answered(&self) -> usize {
        self.shared.answered.load(SeqCst)
    }

    /// Waits for so many more answers.
    fn go_on(&self, what: &'static str) {
        let before = self.answered();
        until(what, || (self.answered() > before + 200).then_some(()));
        *self.shared.stage.lock().unwrap() = what;
    }

    /// Ends them; gives how many requests were answered, and how many were cut with who listened.
    fn end(self) -> (usize, usize) {
        self.shared.end.store(true, SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
        let failures = self.shared.failures.lock().unwrap();
        assert!(failures.is_empty(), "{} failed: {failures:#?}", failures.len());
        (self.shared.answered.load(SeqCst), self.shared.cut.load(SeqCst))
    }
}

/// Whether nobody listens, or nobody did any more when it was tried.
fn gone(error: &std::io::Error) -> bool {
    [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset].contains(&error.kind())
}

impl Shared {
    fn ask(&self, address: SocketAddr, stays: bool) {
        let mut open: Option<Connection> = None;
        while !self.end.load(SeqCst) {
            // What began in an outage may be cut though nobody asks before it is over.
            let began = self.outage.load(SeqCst);
            let outage = || began || self.outage.load(SeqCst);
            let used = open.is_some();
            let mut connection = match open.take().map_or_else(|| Connection::open(address), Ok) {
                Ok(connection) => connection,
                Err(error) if gone(&error) && outage() => {
                    thread::park_timeout(Duration::from_millis(5));
                    continue;
                }
                Err(error) => return self.failed(format!("no connection: {error}")),
            };
            let method = if self.may_be_repeated.load(SeqCst) { "GET" } else { "POST" };
            match connection.ask(method, "/") {
                Ok((body, may_stay)) => {
                    self.answered.fetch_add(1, SeqCst);
                    *self.last.lock().unwrap() = body;
                    open = (stays && may_stay).then_some(connection);
                }
                // A bad answer is none that was cut, and a new connection may have been accepted by nobody yet.
                Err(error) if outage() && !error.starts_with("HTTP/") => {
                    self.cut.fetch_add(usize::from(used), SeqCst);
                }
                Err(error) => self.failed(error),
            }
        }
    }
}

impl Shared {
    fn failed(&self, error: String) {
        let stage = *self.stage.lock().unwrap();
        self.failures.lock().unwrap().push(format!("after `{stage}`: {error}"));
    }
}

/// `service serve` with a service behind a balancer, and another without.
struct Services {
    cluster: Cluster,
    serve: Running,
    state: String,
    address: SocketAddr,
}

impl Services {
    fn start(cluster: Cluster) -> Self {
        let state = cluster.place.path().join("services").to_str().unwrap().to_owned();
        // Somebody else's for a moment, so that nobody has it.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut serve = Self::serve(&cluster, &state);
        serve.line_with("subscribed");
        Self { cluster, serve, state, address }
    }

    fn serve(cluster: &Cluster, state: &str) -> Running {
        cluster.place.start(&[
            "service",
            "serve",
            "--state",
            state,
            "--master",
            &cluster.url,
            "-o",
            "json",
            "--http",
            "127.0.0.1:0",
        ])
    }

    fn order(&self, args: &[&str]) -> Value {
        let mut all = vec!["service"];
        all.extend(args);
        all.extend(["--state", &self.state, "-o", "json"]);
        self.cluster.place.run(&all).expect(0).json()
    }

    /// Applies the service whose replicas say that they are of this version.
    fn apply(&self, version: &str, more: &str) {
        let program = std::env::current_exe().unwrap();
        let text = format!(
            "name = 'web'\nreplicas = 3\nports = 1\ncpus = 0.2\nmemory = '128MiB'\nenv = {{ VERSION = '{version}' }}\n\
             command = ['{}', '{}::replica', '--exact', '--ignored', '--nocapture']\n\
             [balancer]\naddress = '{}'\n\
             [health]\nhttp = '/health'\ndelay = '100ms'\ninterval = '200ms'\nfailures = 0\n\
             [restart]\nmin = '200ms'\n\
             [update]\nmin_healthy = '500ms'\nprogress_deadline = '3s'\n{more}\n",
            program.display(),
            module_path!().split_once("::").unwrap().1,
            self.address,
        );
        let web = self.cluster.place.file("web.toml", &text);
        let other =
            "name = 'clock'\ncommand = 'while true; do date; sleep 1; done'\ncpus = 0.1\nmemory = '16MiB'\n";
        let other = self.cluster.place.file("clock.toml", other);
        self.order(&["apply", web.to_str().unwrap(), other.to_str().unwrap()]);
    }

    /// Applies another service that wants this address; it is said where that stands and why it cannot have it.
    fn refuses(&self, address: SocketAddr, why: &str) {
        let text =
            format!("name = 'shop'\ncommand = 'serve'\nports = 1\n[balancer]\naddress = '{address}'\n");
        let file = self.cluster.place.file("shop.toml", &text);
        let args = ["service", "apply", file.to_str().unwrap(), "--state", &self.state];
        let said = self.cluster.place.run(&args).expect(1).stderr;
        assert!(said.contains(&format!("shop.toml:5:11: balancer.address: {why}")), "{said}");
        assert!(said.contains("nothing has changed") && said.contains("another port"), "{said}");
        assert_eq!(self.order(&["ls"]).as_array().unwrap().len(), 2);
    }

    fn show(&self) -> Value {
        self.order(&["show", "web"])
    }

    /// Waits until as many replicas are ready as this, and nothing else of it is there.
    fn settled(&self, replicas: u64) -> Value {
        until("the replicas are there", || {
            let shown = self.show();
            let there = shown["tasks"].as_array().unwrap().len() as u64;
            (shown["ready"] == replicas && there == replicas && shown["phase"] == "steady").then_some(shown)
        })
    }
}

/// The first of a hundred ports that no other run of this test has, for as long as the last of them is held.
fn ports() -> (u16, TcpListener) {
    let mut bases = (0..100).map(|place| 20_000 + place * 100);
    let held = |base| Some((base, TcpListener::bind(("127.0.0.1", base + 99)).ok()?));
    bases.find_map(held).unwrap()
}

/// Whoever reads its events may have scrolled back in a pager.
#[test]
fn events_that_nobody_reads_hold_up_no_service() {
    let cluster = Cluster::start(&[("a", "cpus:2;mem:1GiB")]);
    let state = cluster.place.path().join("services").to_str().unwrap().to_owned();
    let (_unread, full) = full_pipe();
    let mut command =
        cluster.place.command(&["service", "serve", "--state", &state, "--master", &cluster.url]);
    command.stdout(full);
    let serving = Running::start(command);
    let spec = cluster.place.file("still.toml", "name = 'still'\ncommand = 'sleep 600'\ncpus = 0.1\n");
    let apply = ["service", "apply", spec.to_str().unwrap(), "--state", &state];
    until("orders are taken", || (cluster.place.run(&apply).code() == Some(0)).then_some(()));
    until("its replica runs", || (cluster.tasks("running").len() == 1).then_some(()));
    serving.signal(Signal::TERM);
    serving.end().expect(0);
}

#[test]
fn no_request_fails_whatever_is_done_to_a_service() {
    // Machines of one host: each has ports of its own.
    let (base, _held) = ports();
    let resources = |number: u16| {
        let first = base + number * 30;
        format!("cpus:4;mem:4GiB;ports:[{first}-{}]", first + 29)
    };
    let resources: Vec<_> = (0..3).map(resources).collect();
    let agents: Vec<_> = ["a", "b", "c"].into_iter().zip(resources.iter().map(String::as_str)).collect();
    let mut services = Services::start(Cluster::start(&agents));
    services.apply("one", "");
    services.settled(3);
    until("what the other one writes can be read", || {
        let args = ["service", "logs", "clock", "--state", &services.state];
        services.cluster.place.run(&args).expect(0).stdout.contains(':').then_some(())
    });
    services.refuses(services.address, "service `shop` is to listen on");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    services.refuses(taken.local_addr().unwrap(), "service `shop`: cannot listen on");
    let clients = Clients::start(services.address, 4);
    clients.go_on("a service");

    services.apply("two", "");
    services.serve.line_with(r#""service":"web","event":"updated","revision":2"#);
    services.settled(3);
    clients.go_on("after an update");
    assert!(*clients.shared.last.lock().unwrap() == "two");

    services.order(&["scale", "web", "6"]);
    services.settled(6);
    clients.go_on("six replicas");
    services.order(&["scale", "web", "2"]);
    services.settled(2);
    clients.go_on("two replicas");
    services.order(&["scale", "web", "3"]);
    services.settled(3);

    services.apply("broken", "canary = 1");
    services.serve.line_with(r#""event":"rolled_back""#);
    let shown = services.settled(3);
    assert!(!shown["rejected"].is_null(), "{shown:#}");
    clients.go_on("a canary that failed");

    clients.shared.may_be_repeated.store(true, SeqCst);
    clients.go_on("and nothing is under way that may not be repeated");
    let victim = services.show()["tasks"][0]["endpoint"]["port"].as_u64().unwrap();
    let victim = SocketAddr::from(([127, 0, 0, 1], victim as u16));
    assert!(Connection::open(victim).unwrap().ask("GET", "/die").is_err());
    services.serve.line_with(r#""service":"web","event":"ended""#);
    services.settled(3);
    clients.go_on("a replica that was killed");

    clients.shared.outage.store(true, SeqCst);
    services.serve.signal(Signal::KILL);
    let again = Services::serve(&services.cluster, &services.state);
    std::mem::replace(&mut services.serve, again).end();
    services.serve.line_with(r#""event":"listening""#);
    services.settled(3);
    clients.go_on("a scheduler that was killed");
    clients.shared.outage.store(false, SeqCst);
    clients.shared.may_be_repeated.store(false, SeqCst);
    clients.go_on("and nothing is cut any more");

    let hostname = services.show()["tasks"][0]["hostname"].as_str().unwrap().to_owned();
    let schedule = format!("[[window]]\nmachines = ['{hostname}']\nstart = 'in 5m'\nduration = '1h'\n");
    let schedule = services.cluster.place.file("schedule.toml", &schedule);
    services.cluster.ask(&["maintenance", "schedule", schedule.to_str().unwrap()]);
    until("the machine is left", || {
        let shown = services.show();
        let there = |task: &Value| task["hostname"] == hostname.as_str();
        (!shown["tasks"].as_array().unwrap().iter().any(there) && shown["ready"] == 3).then_some(())
    });
    clients.go_on("a machine that was left");

    let open = clients.threads.len();
    let (answered, cut) = clients.end();
    eprintln!("{answered} requests answered, {cut} cut with the scheduler that was killed");
    assert!(cut <= open, "{cut} of {open} connections");
    services.order(&["rm", "web", "clock"]);
    until("nothing is left", || services.order(&["ls"]).as_array().unwrap().is_empty().then_some(()));
    services.serve.signal(Signal::TERM);
    services.serve.end().expect(0);
}
