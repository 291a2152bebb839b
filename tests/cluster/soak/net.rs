//! Machines that are network namespaces of this one, with one network between them, of which links are cut and slowed down.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::fd::AsFd as _,
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The machines, and the last number of the address of each.
pub(super) const MACHINES: [(&str, u8); 12] = [
    ("m0", 11),
    ("m1", 12),
    ("m2", 13),
    ("e0", 21),
    ("e1", 22),
    ("e2", 23),
    ("a0", 31),
    ("a1", 32),
    ("a2", 33),
    ("batch", 41),
    ("service", 42),
    // Whoever asks for the test; nothing happens to it.
    ("operator", 51),
];

/// How slow a slow link is: some tens of small messages each second, and a fifth of a second for a large one.
const SLOW: [&str; 7] = ["tbf", "rate", "64kbit", "burst", "2000", "latency", "3s"];

/// The same where the kernel can.
const LATE: [&str; 4] = ["netem", "delay", "150ms", "100ms"];

/// Where a machine is.
pub(super) fn address(machine: &str) -> Ipv4Addr {
    let (_, last) = MACHINES.iter().find(|(name, _)| *name == machine).expect("a machine");
    Ipv4Addr::new(10, 77, 0, *last)
}

/// The machines. Dropped, they are gone.
pub(super) struct Net {
    prefix: String,
    /// At which machine what of which other one is dropped.
    deaf: Vec<(&'static str, &'static str)>,
    /// What makes links slow here.
    slow: &'static [&'static str],
}

impl Net {
    /// All machines, each connected with all others. Says what is missing where that cannot be.
    pub(super) fn make() -> Result<Net, String> {
        let mut net =
            Net { prefix: format!("apportion-soak-{}", std::process::id()), deaf: Vec::new(), slow: &SLOW };
        let switch = net.space("switch");
        tool("ip", &["netns", "add", &switch])?;
        tool("ip", &["-n", &switch, "link", "add", "bridge", "type", "bridge"])?;
        tool("ip", &["-n", &switch, "link", "set", "bridge", "up"])?;
        for (machine, _) in MACHINES {
            let space = net.space(machine);
            tool("ip", &["netns", "add", &space])?;
            let port = ["type", "veth", "peer", "name", "eth0", "netns", &space];
            tool("ip", &[&["-n", &switch, "link", "add", machine][..], &port].concat())?;
            tool("ip", &["-n", &switch, "link", "set", machine, "master", "bridge", "up"])?;
            let address = format!("{}/24", address(machine));
            tool("ip", &["-n", &space, "address", "add", &address, "dev", "eth0"])?;
            tool("ip", &["-n", &space, "link", "set", "eth0", "up"])?;
            tool("ip", &["-n", &space, "link", "set", "lo", "up"])?;
        }
        net.filter("operator").map_err(|why| format!("packets cannot be filtered: {why}"))?;
        if net.shape("operator", &LATE).is_ok() {
            net.slow = &LATE;
        } else {
            net.shape("operator", &SLOW).map_err(|why| format!("links cannot be slow: {why}"))?;
        }
        net.even("operator");
        Ok(net)
    }

    /// What slow links are here.
    pub(super) fn describe(&self) -> String {
        self.slow.join(" ")
    }

    fn space(&self, machine: &str) -> String {
        format!("{}-{machine}", self.prefix)
    }

    /// A program on a machine; a process of its own from the start, with the machine's network and nothing else of it.
    pub(super) fn command(&self, machine: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.space(machine))).arg(program);
        command
    }

    /// Asks something over HTTP on the operator's machine; none unless it is answered in time. Ends at the answer's end, or when it says so.
    pub(super) fn http(
        &self,
        to: (&str, u16),
        path: &str,
        body: Option<&str>,
        whole: impl Fn(&str) -> bool + Send + 'static,
    ) -> Option<String> {
        let space = format!("/run/netns/{}", self.space("operator"));
        let to = SocketAddr::from((address(to.0), to.1));
        let request = match body {
            None => format!("GET {path} HTTP/1.0\r\n\r\n"),
            Some(body) => format!("POST {path} HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
        };
        let asked = move || -> Option<String> {
            let space = fs::File::open(space).ok()?;
            // Of this thread alone.
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).ok()?;
            let time = Duration::from_secs(2);
            let mut stream = TcpStream::connect_timeout(&to, time).ok()?;
            stream.set_read_timeout(Some(time)).ok()?;
            stream.write_all(request.as_bytes()).ok()?;
            let (mut text, mut bytes) = (String::new(), [0; 1 << 16]);
            loop {
                match stream.read(&mut bytes).ok()? {
                    0 => return Some(text),
                    read => text += &String::from_utf8_lossy(&bytes[..read]),
                }
                if whole(&text) {
                    return Some(text);
                }
            }
        };
        thread::spawn(asked).join().ok()?
    }

    /// From now on one machine hears nothing of another.
    pub(super) fn cut(&mut self, from: &'static str, to: &'static str) {
        self.deaf.push((to, from));
        self.filter(to).unwrap();
    }

    /// Undoes that once.
    pub(super) fn mend(&mut self, from: &'static str, to: &'static str) {
        if let Some(at) = self.deaf.iter().position(|pair| *pair == (to, from)) {
            self.deaf.remove(at);
        }
        self.filter(to).unwrap();
    }

    fn filter(&self, machine: &str) -> Result<(), String> {
        let from = self.deaf.iter().filter(|(at, _)| *at == machine).map(|(_, from)| address(from));
        let rules: String = from.map(|from| format!("ip saddr {from} drop\n")).collect();
        let rules = format!(
            "flush ruleset\ntable ip soak {{\nchain heard {{\ntype filter hook input priority 0;\n{rules}}}\n}}\n"
        );
        let mut command = self.command(machine, "nft");
        let mut nft = command
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|e| e.to_string())?;
        nft.stdin.take().expect("it is piped").write_all(rules.as_bytes()).map_err(|e| e.to_string())?;
        judge("nft", nft.wait_with_output())
    }

    /// Takes a machine off the network, or puts it on again.
    pub(super) fn plug(&self, machine: &str, on: bool) {
        let state = if on { "up" } else { "down" };
        tool("ip", &["-n", &self.space("switch"), "link", "set", machine, state]).unwrap();
    }

    /// Makes what a machine sends slow.
    pub(super) fn slow(&self, machine: &str) {
        // One that is slow already stays so.
        let _ = self.shape(machine, self.slow);
    }

    /// What it sends is as fast as ever.
    pub(super) fn even(&self, machine: &str) {
        let _ = self
            .command(machine, "tc")
            .args(["qdisc", "del", "dev", "eth0", "root"])
            .stderr(Stdio::null())
            .status();
    }

    fn shape(&self, machine: &str, how: &[&str]) -> Result<(), String> {
        let mut command = self.command(machine, "tc");
        judge("tc", command.args(["qdisc", "add", "dev", "eth0", "root"]).args(how).output())
    }

    /// What there is of these machines.
    pub(super) fn left(prefix: &str) -> Vec<String> {
        let spaces = fs::read_dir("/run/netns").into_iter().flatten().flatten();
        let names = spaces.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    pub(super) fn prefix(&self) -> String {
        self.space("")
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for name in Net::left(&self.prefix()) {
            let _ = tool("ip", &["netns", "delete", &name]);
        }
    }
}

fn tool(program: &str, args: &[&str]) -> Result<(), String> {
    judge(program, Command::new(program).args(args).output())
        .map_err(|why| format!("`{program} {}`: {why}", args.join(" ")))
}

fn judge(program: &str, output: std::io::Result<Output>) -> Result<(), String> {
    match output {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Err(format!("{program}: {error}")),
    }
}
