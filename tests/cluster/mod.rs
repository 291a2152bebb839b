//! Real masters, agents, frameworks and containers, each a process of its own.

mod chaos;
mod disk;
mod exec;
mod executors;
mod files;
mod groups;
mod hostile;
mod images;
mod limits;
mod logs;
mod maintenance;
mod masters;
mod operated;
mod queue;
mod recorded;
mod resumed;
mod scaling;
mod services;
mod serving;
mod sharing;
mod soak;
mod survival;
mod traces;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Place, Running, port, until};

/// True when this user may make cgroups; says that a test is skipped otherwise, or fails where nothing may be skipped.
fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    let strict = std::env::var_os("APPORTION_NO_SKIP").is_some_and(|value| value != "0");
    assert!(root || !strict, "{test} needs root, and APPORTION_NO_SKIP is set");
    if !root {
        eprintln!("skipped: {test} needs root, to limit containers");
    }
    root
}

/// Every master of a place has the same work directory.
fn start_master(place: &Place, port: u16) -> Running {
    let listen = format!("127.0.0.1:{port}");
    let work_dir = place.path().join("master");
    let work_dir = work_dir.to_str().unwrap();
    place.start(&["master", "--listen", &listen, "--work-dir", work_dir, "--log", "info"])
}

/// A master and its agents. Dropped, every process ends, and every task with its agent.
struct Cluster {
    place: Place,
    url: String,
    /// What agents are started with beside their own.
    settings: &'static [&'static str],
    agents: BTreeMap<String, Running>,
    mounted: Vec<Mounted>,
    /// Dropped last: agents that leave want to tell it.
    master: Running,
}

impl Cluster {
    /// A master, and an agent of this name and these resources for each.
    fn start(agents: &[(&str, &str)]) -> Cluster {
        Cluster::start_with(agents, &[])
    }

    /// The same, each agent with these settings.
    fn start_with(agents: &[(&str, &str)], settings: &'static [&'static str]) -> Cluster {
        Cluster::start_in(Place::new(), agents, settings)
    }

    /// The same, where there may be work directories already.
    fn start_in(place: Place, agents: &[(&str, &str)], settings: &'static [&'static str]) -> Cluster {
        let mut master = start_master(&place, 0);
        let url = format!("http://127.0.0.1:{}", port(&master.error_with("serving")));
        let mut cluster =
            Cluster { place, url, settings, agents: BTreeMap::new(), mounted: Vec::new(), master };
        for (name, resources) in agents {
            cluster.start_agent(name, resources);
        }
        until("every agent is registered", || {
            let listed = cluster.ask(&["agents"]);
            (listed["agents"].as_array().unwrap().len() == agents.len()).then_some(())
        });
        cluster
    }

    /// Kills the master, and puts another one in its place.
    fn replace_master(&mut self) {
        self.master.kill();
        self.master = start_master(&self.place, port(&self.url));
        self.master.error_with("serving");
    }

    /// Where an agent's cgroups are, below the root of each hierarchy; of this cluster alone, others of this process run beside it.
    fn group(&self, agent: &str) -> String {
        format!("{}/{agent}", self.place.path().file_name().unwrap().display())
    }

    fn work_dir(&self, agent: &str) -> PathBuf {
        self.place.path().join(agent)
    }

    /// The folders of the newest containers of an agent's tasks.
    fn sandboxes(&self, agent: &str) -> Vec<PathBuf> {
        let below = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten();
        let frameworks = below(self.work_dir(agent).join("sandboxes"));
        let tasks = frameworks.flat_map(|framework| below(framework.path()));
        tasks.map(|task| task.path().join("latest")).collect()
    }

    fn start_agent(&mut self, name: &str, resources: &str) {
        self.start_agent_after("true", name, resources);
    }

    /// The same, once a shell that becomes the agent has run this.
    fn start_agent_after(&mut self, script: &str, name: &str, resources: &str) {
        self.launch_agent(script, "127.0.0.1:0", name, resources);
    }

    /// One that listens there.
    fn start_agent_at(&mut self, listen: &str, name: &str, resources: &str) {
        self.launch_agent("true", listen, name, resources);
    }

    fn launch_agent(&mut self, script: &str, listen: &str, name: &str, resources: &str) {
        let work_dir = self.work_dir(name);
        let group = self.group(name);
        let mut args = vec![
            "agent",
            "--listen",
            listen,
            "--master",
            &self.url,
            "--hostname",
            name,
            "--resources",
            resources,
            "--work-dir",
            work_dir.to_str().unwrap(),
            "--cgroup-parent",
            &group,
            "--kill-tasks-on-exit",
        ];
        args.extend(self.settings);
        let agent = self.place.start_after(script, &args);
        self.agents.insert(name.to_owned(), agent);
    }

    /// A job of the batch framework that is under way.
    fn submit(&self, name: &str, job: &str, args: &[&str]) -> Running {
        let job = self.place.file(&format!("{name}.toml"), job);
        let mut all = vec!["batch", "run", job.to_str().unwrap(), "--master", &self.url, "-o", "json"];
        all.extend(args);
        self.place.start(&all)
    }

    /// What a listing says.
    fn ask(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["--master", &self.url, "-o", "json"]);
        self.place.run(&all).expect(0).json()
    }

    /// The tasks in this state.
    fn tasks(&self, state: &str) -> Vec<Value> {
        let listed = self.ask(&["tasks", "--all"]);
        listed["tasks"].as_array().unwrap().iter().filter(|task| task["state"] == state).cloned().collect()
    }

    /// What a task has written.
    fn stdout(&self, task: &str) -> String {
        self.place.run(&["logs", task, "--master", &self.url]).expect(0).stdout
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for agent in std::mem::take(&mut self.agents).into_values() {
            agent.signal(Signal::TERM);
            let ended = agent.end();
            if !std::thread::panicking() {
                assert!(ended.status.success(), "{ended:#?}");
            }
        }
    }
}

/// A file system of its own, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    fn tmpfs(place: &Path, options: &str) -> Mounted {
        fs::create_dir_all(place).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(place);
        assert!(mount.status().unwrap().success());
        Mounted(place.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
