//! What every test needs: networks of its own, and a look at what is left in the end.

use std::{
    collections::BTreeSet,
    env, fs,
    future::Future,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use apportion_containerizer::NetworkNamespaces;
use apportion_network::{AttachError, Attached, Networks, NetworksConfig, Wanted};
use apportion_types::Network;
use tempfile::TempDir;
use tokio::{runtime::Runtime, task::JoinHandle};

/// Nothing here takes this long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with lists of plugins, of which `blue` is a bridge, and networks.
pub(crate) struct Bench {
    folder: TempDir,
    number: u8,
    pub(crate) networks: Arc<Networks>,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap())
}

/// Has a future go on beside what follows.
pub(crate) fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    runtime().spawn(future)
}

/// Waits for a future, for a generous time.
pub(crate) fn block<T>(future: impl Future<Output = T>) -> T {
    runtime().block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("took too long") })
}

/// Waits until something is so, for a generous time.
pub(crate) fn until(what: &str, is: impl Fn() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The networks of a folder, as this program and one that is killed have them.
pub(crate) fn config(folder: &Path, timeout: Duration) -> NetworksConfig {
    NetworksConfig {
        dir: folder.join("networks"),
        config_dir: folder.join("net.d"),
        plugin_dirs: vec![folder.join("plugins"), "/usr/lib/cni".into()],
        timeout,
        namespaces: namespaces(),
    }
}

pub(crate) fn namespaces() -> NetworkNamespaces {
    NetworkNamespaces::new(vec![env::current_exe().unwrap().into(), "runner".into()])
}

pub(crate) fn wanted(owner: &str, role: &str, network: Network) -> Wanted {
    Wanted { owner: owner.to_owned(), role: role.parse().unwrap(), network, hostname: owner.to_owned() }
}

impl Bench {
    /// Runs a test on networks of its own, and checks that nothing is left.
    pub(crate) fn with(run: fn(&Bench)) {
        static NUMBER: AtomicU8 = AtomicU8::new(1);
        let folder = tempfile::tempdir().unwrap();
        for name in ["net.d", "plugins"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let networks = block(Networks::open(config(folder.path(), PATIENCE), &BTreeSet::new())).unwrap();
        let bench = Bench { folder, number: NUMBER.fetch_add(1, Ordering::Relaxed), networks };
        bench.list("blue", &bench.bridge());
        // The bridge, and the chains that all share, stay from the first time on.
        block(bench.networks.attach(wanted("first", "r", bench.mapped("blue", 30_000, 1)))).unwrap();
        bench.detach("first");
        let before = bench.traces();
        run(&bench);
        assert_eq!(bench.traces(), before, "nothing is left");
    }

    /// Has the next process of the agent detach what no owner needs, and waits until there is only what was there before.
    pub(crate) fn clean_up(&self, timeout: Duration, before: &str, what: &str) {
        let _next = block(Networks::open(config(self.folder(), timeout), &BTreeSet::new())).unwrap();
        until(&format!("{what} leaves nothing but {before}"), || self.traces() == before);
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The plugins of a bridge with mapped ports.
    pub(crate) fn bridge(&self) -> String {
        let (number, leases) = (self.number, self.folder().join("leases"));
        format!(
            r#"{{"type":"bridge","bridge":"test{number}","isGateway":true,"hairpinMode":true,"ipMasq":true,
                "ipam":{{"type":"host-local","dataDir":{leases:?},"ranges":[[{{"subnet":"10.98.{number}.0/24"}}]],
                "routes":[{{"dst":"0.0.0.0/0"}}]}},"dns":{{"nameservers":["10.98.{number}.1"]}}}},
                {{"type":"portmap","capabilities":{{"portMappings":true}}}}"#
        )
    }

    /// Where the bridge is.
    pub(crate) fn gateway(&self) -> IpAddr {
        format!("10.98.{}.1", self.number).parse().unwrap()
    }

    /// Configures a network of these plugins.
    pub(crate) fn list(&self, name: &str, plugins: &str) {
        let text = format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{plugins}]}}"#);
        fs::write(self.folder().join("net.d").join(format!("{name}.conflist")), text).unwrap();
    }

    pub(crate) fn mapped(&self, name: &str, host_port: u16, container_port: u16) -> Network {
        let protocol = apportion_types::network::Protocol::Tcp;
        let mapping = apportion_types::network::PortMapping { host_port, container_port, protocol };
        Network { ports: vec![mapping], ..Network::new(name) }
    }

    pub(crate) fn attach(&self, owner: &str, role: &str, network: Network) -> Attached {
        self.try_attach(owner, role, network).unwrap()
    }

    pub(crate) fn try_attach(
        &self,
        owner: &str,
        role: &str,
        network: Network,
    ) -> Result<Attached, AttachError> {
        block(self.networks.attach(wanted(owner, role, network)))
    }

    pub(crate) fn detach(&self, owner: &str) {
        block(self.networks.detach(owner)).unwrap();
    }

    /// The folders of owners that are attached, or in part.
    pub(crate) fn owners(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.folder().join("networks")).into_iter().flatten().flatten();
        folders.map(|entry| entry.path()).collect()
    }

    pub(crate) fn some_owner_has(&self, file: &str) -> bool {
        self.owners().iter().any(|folder| folder.join(file).exists())
    }

    /// How many addresses are given.
    pub(crate) fn leases(&self) -> usize {
        self.lease_files().len()
    }

    fn lease_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        collect(&self.folder().join("leases"), &mut files);
        // Which address was given last, and a lock, are kept for ever.
        files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("10.")));
        files
    }

    /// Everything that attaching could leave: interfaces, rules, mounts, files, leases, processes.
    pub(crate) fn traces(&self) -> String {
        let run = |program: &str, args: &[&str]| {
            let output = Command::new(program).args(args).output().unwrap();
            assert!(output.status.success(), "{program}: {output:?}");
            String::from_utf8(output.stdout).unwrap()
        };
        let links = run("ip", &["-o", "link"]);
        let links: Vec<&str> = links.lines().filter_map(|line| line.split(": ").nth(1)).collect();
        // Other tests run beside this one.
        let mine = format!("test{}", self.number);
        let veths = run("ip", &["-o", "link", "show", "master", &mine]);
        let rules = run("iptables-save", &["-t", "nat"]);
        let subnet = format!("10.98.{}.", self.number);
        let rules: Vec<&str> = rules.lines().filter(|line| line.contains(&subnet)).collect();
        let folder = self.folder().to_str().unwrap();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts: Vec<&str> = mounts.lines().filter(|line| line.contains(folder)).collect();
        let mut files: Vec<PathBuf> = Vec::new();
        collect(&self.folder().join("networks"), &mut files);
        files.extend(self.lease_files());
        let processes: Vec<PathBuf> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let line = fs::read(path.join("cmdline")).unwrap_or_default();
                String::from_utf8_lossy(&line).contains(folder)
            })
            .collect();
        let bridge = links.contains(&&*mine);
        format!("{bridge} {veths} {rules:#?} {mounts:#?} {files:#?} {processes:#?}")
    }
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    entries.sort_unstable();
    for path in entries {
        if path.is_dir() {
            collect(&path, into);
        }
        into.push(path);
    }
}
