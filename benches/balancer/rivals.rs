//! Who is measured: nobody in between, ours, haproxy and nginx, each with one worker.

use std::{
    env, fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::roles::Process;

/// What the row without a balancer is called.
pub(crate) const NOBODY: &str = "none";

/// How long one may take to start.
const START: Duration = Duration::from_secs(10);

/// One of them, as long as it is not dropped.
pub(crate) struct Rival {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    runs: Runs,
}

enum Runs {
    Nothing,
    Ours(Process),
    Other(Child),
}

/// Whether a program is there.
pub(crate) fn installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    // Where Debian has servers, which is not on everybody's path.
    let folders = env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.into_iter().any(|folder| folder.join(program).is_file())
}

fn command(program: &str) -> Command {
    let here = Path::new("/usr/sbin").join(program);
    Command::new(if here.is_file() { here.as_os_str() } else { program.as_ref() })
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Rival {
    /// The client asks a replica itself.
    pub(crate) fn nobody(port: u16) -> Self {
        Self { name: NOBODY, port, runs: Runs::Nothing }
    }

    /// Ours.
    pub(crate) fn ours(replicas: &[u16]) -> Self {
        let process = Process::balancer(replicas);
        Self { name: "ours", port: process.port, runs: Runs::Ours(process) }
    }

    /// haproxy or nginx.
    pub(crate) fn other(name: &'static str, replicas: &[u16], folder: &Path) -> Self {
        let port = free_port();
        let file = folder.join(name);
        let mut command = command(name);
        if name == "haproxy" {
            fs::write(&file, haproxy(port, replicas)).unwrap();
            command.arg("-db").arg("-f").arg(&file);
        } else {
            fs::write(&file, nginx(port, replicas, folder)).unwrap();
            command.arg("-p").arg(folder).arg("-c").arg(&file).args(["-e", "stderr"]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(began.elapsed() < START, "{name} does not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { name, port, runs: Runs::Other(child) }
    }

    /// What it has used of the processor, with the processes that it started.
    pub(crate) fn processor_time(&self) -> Duration {
        match &self.runs {
            Runs::Nothing => Duration::ZERO,
            Runs::Ours(process) => of_process(process.child.id()),
            Runs::Other(child) => of_process(child.id()),
        }
    }
}

fn of_process(id: u32) -> Duration {
    // The kernel's unit in this file on every architecture that matters here.
    const TICK: Duration = Duration::from_millis(10);
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace().skip(11).take(2);
    let own = TICK * fields.filter_map(|ticks| ticks.parse::<u32>().ok()).sum::<u32>();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    own + children
        .split_ascii_whitespace()
        .filter_map(|child| child.parse().ok())
        .map(of_process)
        .sum::<Duration>()
}

impl Drop for Rival {
    fn drop(&mut self) {
        if let Runs::Other(child) = &mut self.runs {
            // TERM, so that nginx ends its worker as well.
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

fn haproxy(port: u16, replicas: &[u16]) -> String {
    let servers: String =
        replicas.iter().map(|port| format!("  server s{port} 127.0.0.1:{port}\n")).collect();
    format!(
        "global\n  nbthread 1\n  maxconn 4000\n\
         defaults\n  mode http\n  timeout connect 2s\n  timeout client 30s\n  timeout server 60s\n  option forwardfor\n  \
         http-reuse always\n\
         frontend client\n  bind 127.0.0.1:{port}\n  default_backend replicas\n\
         backend replicas\n  balance roundrobin\n{servers}"
    )
}

fn nginx(port: u16, replicas: &[u16], folder: &Path) -> String {
    let servers: String = replicas.iter().map(|port| format!("server 127.0.0.1:{port}; ")).collect();
    let folder = folder.display();
    format!(
        "daemon off; worker_processes 1; pid {folder}/pid; error_log stderr crit;\n\
         events {{ worker_connections 4000; }}\n\
         http {{ access_log off; keepalive_requests 1000000000;\n\
         upstream replicas {{ {servers} keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://replicas; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }} }}\n"
    )
}
