//! Servers and clients, in whatever namespace they are started.

use std::{
    env,
    ffi::OsString,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

/// How long a connection that is dropped without a word is waited for: longer than any other takes here.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

const GREETING: &[u8] = b"hello";

/// Says something to everybody who connects to a port, until its input ends.
pub(crate) fn serve(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let port: u16 = args.next().unwrap().into_string().unwrap().parse().unwrap();
    let listener = TcpListener::bind(("0.0.0.0", port)).unwrap();
    println!("ready");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(GREETING);
        }
    });
    let _ = io::stdin().read_to_end(&mut Vec::new());
    ExitCode::SUCCESS
}

/// Succeeds when a server says something.
pub(crate) fn connect(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let address: SocketAddr = args.next().unwrap().into_string().unwrap().parse().unwrap();
    if reaches(address) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// True when a server can be talked to from here.
pub(crate) fn reaches(address: SocketAddr) -> bool {
    let heard = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).and_then(|mut stream| {
        stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard)?;
        Ok(heard)
    });
    heard.is_ok_and(|heard| heard == GREETING)
}

/// True when a server can be talked to from a namespace.
pub(crate) fn reaches_from(namespace: &Path, address: SocketAddr) -> bool {
    inside(namespace).args(["connect", &address.to_string()]).status().unwrap().success()
}

/// A server in a namespace; ends when dropped.
pub(crate) struct Server(Child);

impl Server {
    pub(crate) fn start(namespace: &Path, port: u16) -> Server {
        let mut command = inside(namespace);
        command.args(["serve", &port.to_string()]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Server(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

fn inside(namespace: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.display())).arg(env::current_exe().unwrap());
    command
}
