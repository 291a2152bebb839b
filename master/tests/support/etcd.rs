//! A real etcd, for tests: its members are processes of their own on loopback, with their data in a temporary folder.

use std::{
    env,
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Far beyond what it takes on a machine that is busy with other work.
const BOUND: Duration = Duration::from_secs(60);

/// How often other ports are tried when somebody else takes those that were free.
const TRIES: u32 = 5;

/// A cluster of etcd. Dropped, its processes end.
pub(crate) struct Etcd {
    members: Vec<Member>,
    folder: tempfile::TempDir,
}

struct Member {
    port: u16,
    process: Child,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Etcd {
    /// Starts so many members with these flags, and returns when each serves. None, with a word of it, where etcd is not installed.
    pub(crate) fn start(test: &str, members: usize, flags: &[&str]) -> Option<Etcd> {
        let installed =
            Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if installed.is_err() {
            let strict = env::var_os("APPORTION_NO_SKIP").is_some_and(|value| value != "0");
            assert!(!strict, "{test} needs the package etcd-server, and APPORTION_NO_SKIP is set");
            eprintln!("skipped: {test} needs the package etcd-server");
            return None;
        }
        let started = (0..TRIES).find_map(|_| Self::try_start(members, flags));
        Some(started.expect("etcd serves on ports that were free"))
    }

    /// None when a member ends before it serves.
    fn try_start(members: usize, flags: &[&str]) -> Option<Etcd> {
        let folder = tempfile::Builder::new().prefix("apportion-etcd-").tempdir().unwrap();
        // Held until all are chosen, so that none is chosen twice.
        let listeners: Vec<TcpListener> =
            (0..members * 2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (clients, peers) = ports.split_at(members);
        let cluster: Vec<String> =
            peers.iter().enumerate().map(|(at, port)| format!("m{at}={}", url(*port))).collect();
        let spawn = |at: usize| {
            let log = File::create(folder.path().join(format!("m{at}.log"))).unwrap();
            let process = Command::new("etcd")
                .arg(format!("--name=m{at}"))
                .arg(format!("--data-dir={}", folder.path().join(format!("m{at}")).display()))
                .arg(format!("--listen-client-urls={}", url(clients[at])))
                .arg(format!("--advertise-client-urls={}", url(clients[at])))
                .arg(format!("--listen-peer-urls={}", url(peers[at])))
                .arg(format!("--initial-advertise-peer-urls={}", url(peers[at])))
                .arg(format!("--initial-cluster={}", cluster.join(",")))
                // On a machine that is busy with other work nobody is to be taken for gone too soon.
                .args(["--heartbeat-interval=200", "--election-timeout=2000"])
                .args(flags)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap();
            Member { port: clients[at], process }
        };
        let mut etcd = Etcd { members: (0..members).map(spawn).collect(), folder };
        let begun = Instant::now();
        while !etcd.members.iter().all(|member| serves(member.port)) {
            if etcd.members.iter_mut().any(|member| member.process.try_wait().unwrap().is_some()) {
                return None;
            }
            let logs = etcd.folder.path().display();
            assert!(begun.elapsed() < BOUND, "etcd does not serve within {BOUND:?}; its logs are in {logs}");
            thread::park_timeout(Duration::from_millis(20));
        }
        // What serves may be somebody else's, who was first on the port: then ours has ended.
        let ended = etcd.members.iter_mut().any(|member| member.process.try_wait().unwrap().is_some());
        (!ended).then_some(etcd)
    }

    /// Where its members are, with commas between them.
    pub(crate) fn endpoints(&self) -> String {
        self.members.iter().map(|member| format!("127.0.0.1:{}", member.port)).collect::<Vec<_>>().join(",")
    }

    /// Removes the key that says who leads the cluster `default`, as somebody may by mistake.
    #[allow(dead_code, reason = "not every suite that includes this does so")]
    pub(crate) fn remove_leader(&self) {
        // `/apportion/default/leader` in base64, as the gateway of etcd wants it.
        let body = r#"{"key":"L2FwcG9ydGlvbi9kZWZhdWx0L2xlYWRlcg=="}"#;
        let mut stream = TcpStream::connect(("127.0.0.1", self.members[0].port)).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let length = body.len();
        write!(stream, "POST /v3/kv/deleterange HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("\"deleted\":\"1\""), "{answer}");
    }

    /// Kills one of its members.
    #[allow(dead_code, reason = "not every suite that includes this does so")]
    pub(crate) fn kill(&mut self, member: usize) {
        let process = &mut self.members[member].process;
        process.kill().unwrap();
        process.wait().unwrap();
    }
}

/// True once a member says that it is healthy: it knows a leader.
fn serves(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(BOUND))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"health\":\"true\""))
}
