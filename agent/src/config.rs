//! What an operator may set.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

use apportion_containerizer::{OutputBounds, Runtime, UserRange};
use apportion_types::{
    CpuSet, FaultDomain, Resources, limits,
    resources::{Entry, Ranges},
};
use serde::{Deserialize, Serialize};

use crate::{oversubscription::Estimator, sandboxes::collect::Rule};

/// Full files of an output: each is renamed when one more is full, and looked for when they are read.
pub(crate) const LOG_FILES_MAX: u32 = 1000;

/// Settings of an agent. Every one but the work directory has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Addresses of masters, `host:port` each; tried in turn until one leads, or names the one that does.
    pub master: Vec<String>,
    /// Where the agent serves its tasks' files, its health and its metrics. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// `host:port` under which others reach `listen`; by default `listen` itself, or the host name when it listens everywhere.
    pub advertise: Option<String>,
    /// The name of the machine, for people and placement; the kernel's when none.
    pub hostname: Option<String>,
    /// Where the agent keeps what must outlive it, and its tasks' files; for this agent alone, on a local disk.
    pub work_dir: PathBuf,
    /// What it has to offer; of `cpus`, `mem`, `disk` and `ports` those that are not named are detected. Reservations of it, such as
    /// `cpus(eng):4`, end only here.
    pub resources: Option<Resources>,
    /// What frameworks may place by.
    pub attributes: BTreeMap<String, String>,
    /// Where the machine stands, for frameworks that spread or gather their tasks.
    pub domain: Option<FaultDomain>,
    /// What says how much of what tasks hold is idle and can be lent.
    pub estimator: Estimator,
    /// Between two estimates, in milliseconds.
    pub oversubscription_interval_ms: u64,
    /// Processes and threads of a task that does not say.
    pub pids_default: u64,
    /// Kills the tasks when the agent is asked to end, and takes it out of the cluster; else they run on for the next process.
    pub kill_tasks_on_exit: bool,
    /// The longest grace that a task is given by `kill_tasks_on_exit`, in milliseconds.
    pub exit_grace_max_ms: u64,
    /// Ends the tasks with the agent's process, however that ends; for clusters that must leave nothing behind.
    pub tethered: bool,
    /// The registry of images that name none.
    pub registry: String,
    /// A file as `docker login` writes it, with the agent's passwords for registries.
    pub registry_config: Option<PathBuf>,
    /// `HOST` or `HOST:PORT` of registries that are asked without encryption.
    pub registry_insecure: BTreeSet<String>,
    /// What unpacked images may take on disk before those that no container uses are deleted.
    pub image_cache_max_bytes: u64,
    /// What one image may unpack to.
    pub image_max_bytes: u64,
    /// Layers of one image.
    pub image_layers_max: u64,
    /// What artifacts that are kept for later tasks may take on disk.
    pub artifact_cache_max_bytes: u64,
    /// What one artifact may have, and unpack to.
    pub artifact_max_bytes: u64,
    /// Kills tasks whose sandbox takes more than the disk that they hold.
    pub enforce_disk: bool,
    /// Between two looks at what sandboxes take, in milliseconds.
    pub disk_check_interval_ms: u64,
    /// How long sandboxes of tasks that are over are kept on an empty disk, in milliseconds; shorter the fuller it is.
    pub sandbox_keep_ms: u64,
    /// The part of the disk that is to stay free, in thousandths: where no more than this is free, no sandbox of a task that is over is
    /// kept.
    pub disk_headroom_milli: u64,
    /// Between two looks for sandboxes that have been kept long enough, in milliseconds.
    pub sandbox_collect_interval_ms: u64,
    /// What a file of a task's standard output holds, and as much one of its standard error, before another one is begun; 0 has one of
    /// each that grows without end.
    pub log_max_bytes: u64,
    /// Full files of each that are kept beside the one that is written to.
    pub log_files_max: u32,
    /// Where the lists of plugins are that make networks (Container Network Interface), read anew for each task.
    pub cni_config_dir: PathBuf,
    /// Where their plugins are; the first folder that has one is taken.
    pub cni_plugin_dirs: Vec<PathBuf>,
    /// How long one plugin may take before it is killed, in milliseconds.
    pub cni_timeout_ms: u64,
    /// Kills tasks on the host's network that listen on a port of the agent's which they do not hold.
    pub enforce_ports: bool,
    /// Between two looks at where tasks listen, in milliseconds.
    pub ports_check_interval_ms: u64,
    /// The parent of all containers' cgroups, for this agent alone; another agent on the same machine needs another.
    pub cgroup_parent: String,
    /// The processors that tasks may run on, also what is detected of `cpus`; those that the agent may run on when none.
    pub cpuset: Option<CpuSet>,
    /// What users of tasks are on the machine; they are the machine's own when none.
    pub userns: Option<UserRange>,
    /// What makes the containers: this program alone, or an OCI runtime of the machine.
    pub runtime: Runtime,
    /// Folders of the machine below which tasks may be given volumes to write to.
    pub lend_host_paths: Vec<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            master: vec!["127.0.0.1:5050".to_owned()],
            listen: SocketAddr::from(([127, 0, 0, 1], 5051)),
            advertise: None,
            hostname: None,
            work_dir: PathBuf::new(),
            resources: None,
            attributes: BTreeMap::new(),
            domain: None,
            estimator: Estimator::None,
            oversubscription_interval_ms: u64::try_from(limits::OVERSUBSCRIPTION_INTERVAL.as_millis())
                .unwrap_or(u64::MAX),
            pids_default: limits::PIDS_DEFAULT,
            kill_tasks_on_exit: false,
            exit_grace_max_ms: 10_000,
            tethered: false,
            registry: "docker.io".to_owned(),
            registry_config: None,
            registry_insecure: BTreeSet::new(),
            image_cache_max_bytes: 20 << 30,
            image_max_bytes: 32 << 30,
            image_layers_max: 128,
            artifact_cache_max_bytes: 2 << 30,
            artifact_max_bytes: 8 << 30,
            enforce_disk: true,
            disk_check_interval_ms: 15_000,
            sandbox_keep_ms: 7 * 24 * 3600 * 1000,
            disk_headroom_milli: 100,
            sandbox_collect_interval_ms: 60_000,
            log_max_bytes: 10 << 20,
            log_files_max: 5,
            cni_config_dir: PathBuf::from("/etc/cni/net.d"),
            cni_plugin_dirs: ["/opt/cni/bin", "/usr/lib/cni"].map(PathBuf::from).to_vec(),
            cni_timeout_ms: 30_000,
            enforce_ports: false,
            ports_check_interval_ms: 15_000,
            cgroup_parent: "apportion".to_owned(),
            cpuset: None,
            userns: None,
            runtime: Runtime::Native,
            lend_host_paths: Vec::new(),
        }
    }
}

/// Why settings cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// There is no work directory.
    #[error("`work_dir` is not set; name a folder on a local disk for this agent alone")]
    NoWorkDir,
    /// There is no master.
    #[error("`master` names no master; give at least one address such as 10.0.0.1:5050")]
    NoMaster,
    /// An address of a master is none.
    #[error("`master` holds {address:?}, which is no address; give `host:port` such as 10.0.0.1:5050")]
    Master {
        /// The address.
        address: String,
    },
    /// No process at all.
    #[error("`pids_default` is 0, with which no task could start; give at least 1")]
    NoPids,
    /// More files than could be listed at each turn.
    #[error("`log_files_max` is {files}, more than {LOG_FILES_MAX}; give larger files with `log_max_bytes`")]
    LogFiles {
        /// How many.
        files: u32,
    },
    /// No pause at all.
    #[error("`{setting}` is 0; give how long to wait between two turns, such as 15s")]
    NoInterval {
        /// Which.
        setting: &'static str,
    },
    /// More than all of the disk is to stay free.
    #[error("`disk_headroom` is more than all of the disk; give at most 1, such as 0.1")]
    Headroom,
    /// Resources on terms that no setting can give.
    #[error(
        "`resources` holds {resources}, which only an operation can make, or an estimator lend; give amounts with reservations at most, such as `cpus(eng):4`"
    )]
    Terms {
        /// What it holds of these.
        resources: Box<Resources>,
    },
    /// Ports that no machine has.
    #[error("`resources` holds ports {ports}; a port is a number from 1 to 65535")]
    Ports {
        /// All of them.
        ports: Ranges,
    },
    /// A part of a fault domain is missing.
    #[error("`domain` has no {part}; give both, such as `eu/eu-1a`")]
    Domain {
        /// Which.
        part: &'static str,
    },
}

impl Config {
    /// The defaults, with this work directory.
    pub fn new(work_dir: impl Into<PathBuf>) -> Self {
        Self { work_dir: work_dir.into(), ..Self::default() }
    }

    /// Refuses what can be known to be wrong without looking at the machine.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.work_dir.as_os_str().is_empty() {
            return Err(ConfigError::NoWorkDir);
        }
        if self.master.is_empty() {
            return Err(ConfigError::NoMaster);
        }
        if self.pids_default == 0 {
            return Err(ConfigError::NoPids);
        }
        let intervals = [
            ("oversubscription_interval", self.oversubscription_interval_ms),
            ("disk_check_interval", self.disk_check_interval_ms),
            ("sandbox_collect_interval", self.sandbox_collect_interval_ms),
            ("cni_timeout", self.cni_timeout_ms),
            ("ports_check_interval", self.ports_check_interval_ms),
        ];
        if let Some((setting, _)) = intervals.into_iter().find(|(_, ms)| *ms == 0) {
            return Err(ConfigError::NoInterval { setting });
        }
        if self.log_files_max > LOG_FILES_MAX {
            return Err(ConfigError::LogFiles { files: self.log_files_max });
        }
        if self.disk_headroom_milli > 1000 {
            return Err(ConfigError::Headroom);
        }
        let mut ports = self.resources.iter().filter_map(Resources::ports);
        if let Some(ports) = ports.find(|ports| !Ranges::single(1, u16::MAX.into()).contains(ports)) {
            return Err(ConfigError::Ports { ports: ports.into_owned() });
        }
        let made = self.resources.iter().map(|resources| resources.only(is_made_later));
        if let Some(resources) = made.into_iter().find(|made| !made.is_empty()) {
            return Err(ConfigError::Terms { resources: Box::new(resources) });
        }
        let parts =
            self.domain.iter().flat_map(|domain| [("region", &domain.region), ("zone", &domain.zone)]);
        if let Some((part, _)) = parts.into_iter().find(|(_, name)| name.trim().is_empty()) {
            return Err(ConfigError::Domain { part });
        }
        self.masters().map(drop)
    }

    /// How long sandboxes are kept.
    pub(crate) fn collection(&self) -> Rule {
        Rule { keep: Duration::from_millis(self.sandbox_keep_ms), headroom_milli: self.disk_headroom_milli }
    }

    /// How much of what tasks write is kept.
    pub(crate) fn output(&self) -> Option<OutputBounds> {
        let bounds = OutputBounds { bytes_max: self.log_max_bytes, files_max: self.log_files_max };
        (bounds.bytes_max > 0).then_some(bounds)
    }

    /// The masters as URIs that a channel takes.
    pub(crate) fn masters(&self) -> Result<Vec<String>, ConfigError> {
        self.master.iter().map(|address| master_uri(address)).collect()
    }
}

/// True for what is on other terms than reservations of the settings.
fn is_made_later(entry: &Entry) -> bool {
    entry.terms().is_some_and(|terms| {
        terms.volume.is_some() || terms.revocable || terms.reservations.iter().any(|of| of.dynamic.is_some())
    })
}

/// A master as a URI that a channel takes.
pub(crate) fn master_uri(address: &str) -> Result<String, ConfigError> {
    let bad = || ConfigError::Master { address: address.to_owned() };
    let authority = address.strip_prefix("http://").unwrap_or(address).trim_end_matches('/');
    let (host, port) = authority.rsplit_once(':').ok_or_else(bad)?;
    let plain = !host.is_empty() && !host.contains(|c: char| c == '/' || c == '@' || c.is_whitespace());
    if !plain || port.parse::<u16>().map_or(true, |port| port == 0) {
        return Err(bad());
    }
    Ok(format!("http://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_need_only_a_work_directory() {
        assert_eq!(Config::default().check(), Err(ConfigError::NoWorkDir));
        let config = Config::new("/tmp/x");
        config.check().unwrap();
        assert_eq!(config.masters().unwrap(), ["http://127.0.0.1:5050"]);
    }

    #[test]
    fn wrong_settings_are_named() {
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::new("/tmp/x");
            change(&mut config);
            config.check()
        };
        assert_eq!(with(&|c| c.master.clear()), Err(ConfigError::NoMaster));
        assert_eq!(with(&|c| c.pids_default = 0), Err(ConfigError::NoPids));
        for (setting, change) in [
            ("oversubscription_interval", (|c| c.oversubscription_interval_ms = 0) as fn(&mut Config)),
            ("disk_check_interval", |c| c.disk_check_interval_ms = 0),
            ("sandbox_collect_interval", |c| c.sandbox_collect_interval_ms = 0),
        ] {
            assert_eq!(with(&change), Err(ConfigError::NoInterval { setting }));
        }
        assert_eq!(with(&|c| c.log_files_max = 1001), Err(ConfigError::LogFiles { files: 1001 }));
        assert_eq!(with(&|c| c.disk_headroom_milli = 1001), Err(ConfigError::Headroom));
        let domain = |region: &str, zone: &str| {
            let domain = FaultDomain { region: region.to_owned(), zone: zone.to_owned() };
            with(&|c| c.domain = Some(domain.clone()))
        };
        assert_eq!(domain("eu", "eu-1a"), Ok(()));
        assert_eq!(domain("eu", ""), Err(ConfigError::Domain { part: "zone" }));
        assert_eq!(domain(" ", "a"), Err(ConfigError::Domain { part: "region" }));
        let resources = |text: &str| with(&|c| c.resources = Some(text.parse().unwrap()));
        assert_eq!(resources("cpus:1;cpus(eng):4;disk(eng/ads):10"), Ok(()));
        for made in ["cpus(+eng):4", "cpus(eng,+eng/ads):4", "disk(eng)[data=data]:4", "mem{revocable}:1"] {
            let message = resources(&format!("cpus:1;{made}")).unwrap_err().to_string();
            assert!(message.contains(made) && message.contains("only an operation can make"), "{message}");
        }
        assert_eq!(resources("cpus:1;ports:[1-65535]"), Ok(()));
        for bad in ["[0-10]", "[31000-32000,261010-261019]"] {
            let message = resources(&format!("cpus:1;ports:{bad}")).unwrap_err().to_string();
            assert!(message.contains(bad) && message.contains("from 1 to 65535"), "{message}");
        }
        for bad in ["", "host", ":5050", "host:", "host:0", "host:x", "ho st:1", "a/b:1", "user@host:1"] {
            let error = with(&|c| c.master = vec![bad.to_owned()]).unwrap_err();
            assert_eq!(error, ConfigError::Master { address: bad.to_owned() });
        }
        for good in ["host:5050", "http://host:5050", "http://host:5050/", "[::1]:5050"] {
            assert_eq!(with(&|c| c.master = vec![good.to_owned()]), Ok(()), "{good}");
        }
    }
}
