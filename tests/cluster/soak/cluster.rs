//! The processes on the machines, and their supervisor: whatever ends is started again.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    clock::Clocks,
    load::{Load, SERVICE},
    net::{Net, address},
    say,
};
use crate::{
    cluster::Mounted,
    support::{Ended, Place, Running},
};

pub(super) const MASTERS: [&str; 3] = ["m0", "m1", "m2"];
pub(super) const MEMBERS: [&str; 3] = ["e0", "e1", "e2"];
pub(super) const AGENTS: [&str; 3] = ["a0", "a1", "a2"];

/// The agent whose disk is small.
pub(super) const SMALL: &str = "a2";

const MASTER_PORT: u16 = 5050;
const ETCD_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// How long after it ended by itself a process is started again.
const AGAIN: Duration = Duration::from_millis(300);

/// How far clocks are off at most, in seconds.
const SHIFT_MAX: i64 = 900;

/// All that there is of a cluster.
pub(super) struct Cluster {
    /// The small disks. Gone before the folder is in which they are.
    _disks: [Mounted; 2],
    pub(super) net: Net,
    pub(super) place: Place,
    /// Logs, journals and what tasks told: kept when the test fails.
    pub(super) evidence: PathBuf,
    clocks: Clocks,
    processes: BTreeMap<&'static str, Process>,
    pub(super) load: Load,
    dice: fastrand::Rng,
    /// Pings that an agent may miss, one each second, before it is given up.
    pings: u32,
    /// Disks that are full, or were a moment ago.
    pub(super) full: BTreeSet<&'static str>,
    /// Who ended by itself, and why, as its log says.
    pub(super) ended: Vec<(&'static str, String)>,
}

/// One that is to run.
struct Process {
    child: Option<Child>,
    starts: u32,
    not_before: Instant,
    /// The test has killed it.
    killed: bool,
}

impl Cluster {
    /// Starts everything, and returns when all of it serves.
    pub(super) fn start(net: Net, clocks: Clocks, place: Place, evidence: PathBuf, seed: u64) -> Cluster {
        for folder in ["logs", "journals"] {
            fs::create_dir_all(evidence.join(folder)).unwrap();
        }
        let disk = |name: &str, size: &str| Mounted::tmpfs(&place.path().join(name), &format!("size={size}"));
        let load = Load::new(&evidence, &place);
        let mut cluster = Cluster {
            _disks: [disk(SMALL, "48m"), disk("batch", "24m")],
            net,
            evidence,
            clocks,
            processes: BTreeMap::new(),
            load,
            pings: if seed.is_multiple_of(2) { 30 } else { 5 },
            dice: fastrand::Rng::with_seed(seed ^ 0x5eed),
            full: BTreeSet::new(),
            ended: Vec::new(),
            place,
        };
        for name in [&MEMBERS[..], &MASTERS, &AGENTS, &["service"]].concat() {
            let process = Process { child: None, starts: 0, not_before: Instant::now(), killed: true };
            cluster.processes.insert(name, process);
        }
        cluster
    }

    /// From now on the batch framework runs too.
    pub(super) fn begin_job(&mut self, tasks: u32) {
        self.load.begin(&self.place, tasks);
        let process = Process { child: None, starts: 0, not_before: Instant::now(), killed: true };
        self.processes.insert("batch", process);
    }

    /// Masters, as agents and frameworks are told.
    fn masters() -> String {
        MASTERS.map(|master| format!("{}:{MASTER_PORT}", address(master))).join(",")
    }

    pub(super) fn members() -> String {
        MEMBERS.map(|member| format!("{}:{ETCD_PORT}", address(member))).join(",")
    }

    pub(super) fn work_dir(&self, agent: &str) -> PathBuf {
        self.place.path().join(agent)
    }

    /// Where an agent's cgroups are.
    pub(super) fn group(&self, agent: &str) -> String {
        format!("{}/{agent}", self.place.path().file_name().unwrap().display())
    }

    /// Starts again what has ended, when its time has come. True once the job has ended.
    pub(super) fn supervise(&mut self) -> bool {
        self.load.look();
        let names: Vec<&'static str> = self.processes.keys().copied().collect();
        let mut over = false;
        for name in names {
            let process = self.processes.get_mut(name).unwrap();
            if let Some(child) = &mut process.child {
                let Some(status) = child.try_wait().unwrap() else { continue };
                process.child = None;
                if name == "batch" && self.load.is_over(process.killed, status, &self.evidence) {
                    self.processes.remove(name);
                    over = true;
                    continue;
                }
                if !process.killed {
                    process.not_before = Instant::now() + AGAIN;
                    self.ended_alone(name, status);
                }
            }
            self.start_again(name);
        }
        over
    }

    fn ended_alone(&mut self, name: &'static str, status: ExitStatus) {
        let said = self.last_words(name);
        say(format_args!("        {name} ended by itself ({status}): {said}"));
        // A disk without room is what may end an agent or a framework; a master ends when it does not lead any more.
        let may = self.full.contains(name) || MASTERS.contains(&name);
        if !may || status.signal().is_some() {
            self.ended.push((name, format!("{status}: {said}")));
        }
    }

    fn last_words(&self, name: &str) -> String {
        let log = fs::read(self.log(name)).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        log.lines().last().unwrap_or_default().to_owned()
    }

    pub(super) fn log(&self, name: &str) -> PathBuf {
        self.evidence.join(format!("logs/{name}.log"))
    }

    fn start_again(&mut self, name: &'static str) {
        let process = &self.processes[name];
        if process.child.is_some() || Instant::now() < process.not_before {
            return;
        }
        let starts = process.starts + 1;
        let mut command = match name {
            name if MEMBERS.contains(&name) => self.etcd(name),
            name if MASTERS.contains(&name) => {
                let listen = format!("{}:{MASTER_PORT}", address(name));
                let journal = self.evidence.join(format!("journals/{name}-{starts}"));
                self.apportion(
                    name,
                    &format!(
                        "master --listen {listen} --etcd {} --leader-lease 3s --log info --journal {} \
                         --agent-ping-interval 1s --agent-pings-missed-max {} --scheduler-heartbeat 2s",
                        Self::members(),
                        journal.display(),
                        self.pings,
                    ),
                )
            }
            name if AGENTS.contains(&name) => self.apportion(
                name,
                &format!(
                    "agent --listen {}:5051 --master {} --hostname {name} --resources cpus:4;mem:2GiB;disk:1GiB \
                     --work-dir {} --cgroup-parent {} --log info --kill-tasks-on-exit",
                    address(name),
                    Self::masters(),
                    self.work_dir(name).display(),
                    self.group(name),
                ),
            ),
            name => {
                let command = match name {
                    "batch" => self.load.job_command(),
                    _ => self.load.service_command(),
                };
                self.apportion(name, &format!("{command} --master {} --log info", Self::masters()))
            }
        };
        let log = File::options().create(true).append(true).open(self.log(name)).unwrap();
        let out = match name {
            // Its summary.
            "batch" => File::create(self.evidence.join("logs/batch.out")).unwrap(),
            _ => log.try_clone().unwrap(),
        };
        let child = command.stderr(log).stdout(out).spawn().unwrap();
        let process = self.processes.get_mut(name).unwrap();
        *process = Process { child: Some(child), starts, not_before: Instant::now(), killed: false };
    }

    /// The binary on a machine with a clock that is off.
    fn apportion(&mut self, machine: &str, args: &str) -> std::process::Command {
        let command = self.net.command(machine, env!("CARGO_BIN_EXE_apportion"));
        let args: Vec<&str> = args.split_whitespace().collect();
        let mut command = self.place.prepared(command, &args);
        let ahead = self.dice.i64(-SHIFT_MAX..=SHIFT_MAX);
        self.clocks.shift(&mut command, ahead);
        command
    }

    fn etcd(&self, name: &str) -> std::process::Command {
        let url = |member: &str, port: u16| format!("http://{}:{port}", address(member));
        let mut command = self.net.command(name, "etcd");
        command
            .arg(format!("--name={name}"))
            .arg(format!("--data-dir={}", self.place.path().join(name).display()))
            .arg(format!("--listen-client-urls={}", url(name, ETCD_PORT)))
            .arg(format!("--advertise-client-urls={}", url(name, ETCD_PORT)))
            .arg(format!("--listen-peer-urls={}", url(name, PEER_PORT)))
            .arg(format!("--initial-advertise-peer-urls={}", url(name, PEER_PORT)))
            .arg(format!(
                "--initial-cluster={}",
                MEMBERS.map(|member| format!("{member}={}", url(member, PEER_PORT))).join(",")
            ))
            // On a machine that is busy with other work nobody is to be taken for gone too soon.
            .args(["--heartbeat-interval=200", "--election-timeout=2000"])
            .stdin(std::process::Stdio::null());
        command
    }

    /// Kills one, which starts again no sooner than after this pause.
    pub(super) fn kill(&mut self, name: &str, pause: Duration) {
        if let Some(process) = self.processes.get_mut(name) {
            process.not_before = Instant::now() + pause;
            if let Some(child) = &mut process.child {
                process.killed = true;
                child.kill().unwrap();
            }
        }
    }

    /// The process as it is now.
    pub(super) fn pid(&self, name: &str) -> Option<Pid> {
        self.processes.get(name)?.child.as_ref().map(Pid::from_child)
    }

    pub(super) fn signal(&self, name: &str, signal: Signal) {
        if let Some(pid) = self.pid(name) {
            // It may have ended; as long as nobody has waited for it the number is its own.
            let _ = kill_process(pid, signal);
        }
    }

    /// The master that leads by etcd's word.
    pub(super) fn leader(&self) -> Option<&'static str> {
        // `/apportion/default/leader` in base64.
        let body = r#"{"key":"L2FwcG9ydGlvbi9kZWZhdWx0L2xlYWRlcg=="}"#;
        MEMBERS.iter().find_map(|member| {
            let answer = self.net.http((member, ETCD_PORT), "/v3/kv/range", Some(body), |_| false)?;
            let value = answer.split("\"value\":\"").nth(1)?.split('"').next()?;
            let leader = String::from_utf8(super::history::base64(value)?).ok()?;
            MASTERS
                .into_iter()
                .find(|master| leader.starts_with(&format!("{}:{MASTER_PORT} ", address(master))))
        })
    }

    /// All that was ever written to etcd, one document each line.
    pub(super) fn history(&self) -> Option<String> {
        let newest = |text: &str| {
            let revision = text.rsplit("\"revision\":\"").next()?.split('"').next()?;
            revision.parse::<i64>().ok()
        };
        MEMBERS.iter().find_map(|member| {
            let ask = |path: &str, body: &str, whole: Box<dyn Fn(&str) -> bool + Send>| {
                self.net.http((member, ETCD_PORT), path, Some(body), whole)
            };
            let last = newest(&ask("/v3/kv/range", r#"{"key":"Lw=="}"#, Box::new(|_| false))?)?;
            // From `/` up to but without `0`, from the first revision on.
            let watch = r#"{"create_request":{"key":"Lw==","range_end":"MA==","start_revision":"1"}}"#;
            let end = format!("\"mod_revision\":\"{last}\"");
            let whole = move |text: &str| text.contains(&end) && text.ends_with('\n');
            ask("/v3/watch", watch, Box::new(whole))
        })
    }

    /// A command of an operator's, to its end.
    pub(super) fn run(&self, args: &[&str]) -> Ended {
        let command = self.net.command("operator", env!("CARGO_BIN_EXE_apportion"));
        Running::start(self.place.prepared(command, args)).end()
    }

    /// What a listing says; none while no master answers.
    pub(super) fn ask(&self, what: &[&str]) -> Option<serde_json::Value> {
        let masters = Self::masters();
        let ended = self.run(&[what, &["--master", &masters, "-o", "json"]].concat());
        ended.status.success().then(|| ended.json())
    }

    /// How often processes were started, by their kind.
    pub(super) fn starts(&self) -> String {
        let starts = |names: &[&str]| names.iter().map(|name| self.processes[name].starts).sum::<u32>();
        format!(
            "started: masters {}, members of etcd {}, agents {}, the service {}",
            starts(&MASTERS),
            starts(&MEMBERS),
            starts(&AGENTS),
            starts(&["service"])
        )
    }

    /// Ends those of these names in order, and says which did not.
    pub(super) fn end(&mut self, names: &[&'static str]) -> Vec<String> {
        let mut wrong = Vec::new();
        for name in names {
            self.signal(name, Signal::TERM);
        }
        for name in names {
            let Some(mut child) = self.processes.remove(name).and_then(|process| process.child) else {
                wrong.push(format!("{name} did not run at the end"));
                continue;
            };
            let status = crate::support::until(&format!("{name} ends"), || child.try_wait().unwrap());
            // etcd ends by the signal itself.
            if !status.success() && !MEMBERS.contains(name) {
                wrong.push(format!("{name} was to end in order: {status}: {}", self.last_words(name)));
            }
        }
        wrong
    }

    /// Ends the service for good.
    pub(super) fn stop_service(&mut self) {
        self.end(&["service"]);
        let masters = Self::masters();
        let command = self.load.service_command();
        let args: Vec<&str> = command.split_whitespace().chain(["--stop", "--master", &masters]).collect();
        self.run(&args).expect(0);
        assert_eq!(SERVICE, "web");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that fails leaves nothing either: agents end their tasks, if they can.
        for agent in AGENTS {
            self.signal(agent, Signal::CONT);
            self.signal(agent, Signal::TERM);
        }
        let begun = Instant::now();
        for agent in AGENTS {
            if let Some(child) = self.processes.get_mut(agent).and_then(|process| process.child.as_mut()) {
                while begun.elapsed() < Duration::from_secs(20) && child.try_wait().is_ok_and(|s| s.is_none())
                {
                    std::thread::park_timeout(Duration::from_millis(20));
                }
            }
        }
        for process in self.processes.values_mut() {
            if let Some(child) = &mut process.child {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
