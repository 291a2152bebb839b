//! Writes to a registry, beside what the disk and etcd do alone, in the same run on the same disk.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use apportion_benches::Table;
use apportion_master::{
    etcd::{Client, Cluster},
    registry::{Embedded, Etcd, Registry},
};
use apportion_master_core::RegistryOp;

use super::{Failed, agent_id, agent_info};

/// How many changes wait when a commit begins: one alone, and what comes together when many agents do.
const BATCHES: [usize; 3] = [1, 10, 100];

/// About the bytes of one change.
const BLOCK: usize = 512;

/// How long each is tried.
const TIME: Duration = Duration::from_secs(5);

pub(super) async fn writes(scale: usize) -> Result<(), Failed> {
    let time = TIME / u32::try_from(scale)?;
    let folder = tempfile::tempdir()?;
    let mut table = Table::new(&["what", "changes at once", "commits/s", "changes/s"]);
    let mut row = |what: &str, batch: usize, commits: f64| {
        let changes = commits * batch as f64;
        table.row(vec![what.to_owned(), batch.to_string(), format!("{commits:.0}"), format!("{changes:.0}")]);
    };
    let mut file = File::create(folder.path().join("bare"))?;
    let block = [7; BLOCK];
    let bare = rate(time, || {
        file.write_all(&block)?;
        Ok(file.sync_data()?)
    })?;
    row("a block appended to a file, fdatasync", 1, bare);
    let embedded = Embedded::open(&folder.path().join("embedded"))?;
    for batch in BATCHES {
        row("the registry on disk", batch, commits(&embedded, batch, time).await?);
    }
    match Member::start(folder.path())? {
        None => println!("etcd is not installed (package etcd-server), so nothing is said of it."),
        Some(member) => {
            let mut gateway = Gateway::connect(member.port)?;
            let puts = rate(time, || gateway.put(&block))?;
            row("etcd, one member, a bare put (its JSON gateway, one connection)", 1, puts);
            let client = Client::new(&format!("127.0.0.1:{}", member.port).parse()?);
            let registry = Etcd::open_without_master(client, &Cluster::default()).await?;
            for batch in BATCHES {
                row("the registry in etcd, one member", batch, commits(&registry, batch, time).await?);
            }
        }
    }
    println!("{table}");
    Ok(())
}

/// How often in a second.
fn rate(time: Duration, mut call: impl FnMut() -> Result<(), Failed>) -> Result<f64, Failed> {
    let (begun, mut count) = (Instant::now(), 0_u32);
    while begun.elapsed() < time {
        call()?;
        count += 1;
    }
    Ok(f64::from(count) / begun.elapsed().as_secs_f64())
}

async fn commits(registry: &dyn Registry, batch: usize, time: Duration) -> Result<f64, Failed> {
    let (begun, mut count) = (Instant::now(), 0_usize);
    while begun.elapsed() < time {
        let admit = |number: usize| RegistryOp::AdmitAgent {
            agent_id: agent_id((count * batch + number) % 10_000),
            info: agent_info(number),
        };
        registry.commit((0..batch).map(admit).collect()).await?;
        count += 1;
    }
    Ok(count as f64 / begun.elapsed().as_secs_f64())
}

/// One member of etcd. Dropped, it is gone.
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

impl Member {
    /// None where etcd is not installed.
    fn start(folder: &Path) -> Result<Option<Member>, Failed> {
        let listeners = [TcpListener::bind("127.0.0.1:0")?, TcpListener::bind("127.0.0.1:0")?];
        let [port, peers] = [listeners[0].local_addr()?.port(), listeners[1].local_addr()?.port()];
        drop(listeners);
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let started = Command::new("etcd")
            .arg(format!("--data-dir={}", folder.join("etcd").display()))
            .arg(format!("--listen-client-urls={}", url(port)))
            .arg(format!("--advertise-client-urls={}", url(port)))
            .arg(format!("--listen-peer-urls={}", url(peers)))
            .arg(format!("--initial-advertise-peer-urls={}", url(peers)))
            .arg(format!("--initial-cluster=default={}", url(peers)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let member = Member { port, process };
        let begun = Instant::now();
        while Gateway::connect(port).and_then(|mut gateway| gateway.put(b"x")).is_err() {
            if begun.elapsed() > Duration::from_secs(60) {
                return Err("etcd does not serve".into());
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(Some(member))
    }
}

/// A connection on which one put is asked after the other.
struct Gateway(TcpStream);

impl Gateway {
    fn connect(port: u16) -> Result<Gateway, Failed> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        Ok(Gateway(stream))
    }

    fn put(&mut self, value: &[u8]) -> Result<(), Failed> {
        // Any text of four characters in base64 stands for three bytes.
        let value = "YWJj".repeat(value.len() / 3);
        let body = format!("{{\"key\":\"YmFyZQ==\",\"value\":\"{value}\"}}");
        let length = body.len();
        let request =
            format!("POST /v3/kv/put HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
        self.0.write_all(request.as_bytes())?;
        let (mut answer, mut bytes) = (String::new(), [0; 4096]);
        loop {
            let read = self.0.read(&mut bytes)?;
            answer += &String::from_utf8_lossy(&bytes[..read]);
            if !answer.starts_with("HTTP/1.1 200") || read == 0 {
                return Err(format!("etcd does not take a put: {answer}").into());
            }
            // The end of its JSON.
            if answer.trim_end().ends_with('}') {
                return Ok(());
            }
        }
    }
}
