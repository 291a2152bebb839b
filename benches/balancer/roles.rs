//! The replicas and our balancer, each in a process of its own.

use std::{
    convert::Infallible,
    env,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
};

use apportion_service::balancer::{Balancer, Listener, Replica};
use http_body_util::Full;
use hyper::{Response, body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;

/// What makes this program one of them.
pub(crate) const FLAG: &str = "--role";

/// What a replica answers: as much as a small page of JSON.
const ANSWER: [u8; 256] = [b'x'; 256];

/// One that runs until it is dropped.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) port: u16,
}

impl Process {
    /// A replica.
    pub(crate) fn replica() -> Self {
        Self::start(&["replica".to_owned()])
    }

    /// Our balancer in front of these.
    pub(crate) fn balancer(replicas: &[u16]) -> Self {
        let ports = replicas.iter().map(u16::to_string);
        Self::start(&std::iter::once("balancer".to_owned()).chain(ports).collect::<Vec<_>>())
    }

    fn start(role: &[String]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .arg(FLAG)
            .args(role)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Is one of them until whoever started it ends.
pub(crate) fn play(role: &[String]) {
    match role.first().map(String::as_str) {
        Some("replica") => {
            std::thread::spawn(replica);
        }
        Some("balancer") => {
            let listener = Listener::new("127.0.0.1:0".parse().unwrap());
            let balancer = Balancer::start("bench", listener).unwrap();
            let replica = |port: &String| Replica::new(port, format!("127.0.0.1:{port}").parse().unwrap());
            balancer.replace(role[1..].iter().map(replica).collect());
            println!("{}", balancer.address().port());
            until_the_end();
            return;
        }
        _ => panic!("no such role"),
    }
    until_the_end();
}

fn until_the_end() {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn replica() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap().port());
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = stream.set_nodelay(true);
            let service = service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&ANSWER))))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
}
