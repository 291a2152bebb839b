//! Who is attached to what.

mod detach;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder},
    io,
    net::IpAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use apportion_containerizer::NetworkNamespaces;
use apportion_types::{Network, Role, network::PortMapping, resources::Ranges};
use serde_json::Value;
use tokio::{
    sync::{OwnedMutexGuard, Semaphore, watch},
    time::{Instant, timeout, timeout_at},
};

use self::detach::AGAIN_PAUSE_MIN;
use crate::{
    blocking, chain,
    error::{AttachError, OpenError},
    etc,
    list::List,
    members::Members,
    plugin::{Plugins, Subject},
    policy,
    ports::{Held, Leaving, Ports},
    processes::{self, Mark},
    record::{Folder, Record},
    result::Given,
};

/// Owners that are attached or detached at once: more would only wait for the locks of plugins and of the kernel's tables.
const AT_ONCE_MAX: usize = 16;

/// Of those, how many may be what has failed before, or an earlier process has left: others are not to wait for it.
const AGAIN_AT_ONCE_MAX: usize = AT_ONCE_MAX / 4;

/// How the networks of a machine are to be had.
#[derive(Debug, Clone)]
pub struct NetworksConfig {
    /// Where what is attached is kept; for this agent alone, on a local disk.
    pub dir: PathBuf,
    /// Where lists of plugins are, read anew for each owner.
    pub config_dir: PathBuf,
    /// Where plugins are; the first that has a program of a plugin's name is taken.
    pub plugin_dirs: Vec<PathBuf>,
    /// How long one plugin may take before it is killed; and the kernel, to make a namespace.
    pub timeout: Duration,
    /// What makes and enters network namespaces.
    pub namespaces: NetworkNamespaces,
}

/// What an owner is to be attached to.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name, never used again: a letter or digit, then letters, digits, `_.-`.
    pub owner: String,
    /// Whose policies count it in.
    pub role: Role,
    /// One that an operator has configured.
    pub network: Network,
    /// What it calls itself.
    pub hostname: String,
}

/// What an owner has of its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attached {
    /// The file that is the namespace.
    pub namespace: PathBuf,
    /// The owner's addresses there.
    pub addresses: Vec<IpAddr>,
    /// Files of `/etc`, by their names there.
    pub etc: BTreeMap<String, PathBuf>,
    /// True when a policy is in force in the namespace, which raw sockets would get around.
    pub filtered: bool,
}

/// The networks of an agent's containers.
#[derive(Debug)]
pub struct Networks {
    config: NetworksConfig,
    plugins: Plugins,
    members: Arc<Members>,
    ports: Mutex<Ports>,
    /// Told whenever an owner is to let go of its ports, or has.
    letting_go: watch::Sender<()>,
    /// One at a time attaches or detaches an owner.
    gates: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    at_once: Semaphore,
    /// Owners of an earlier process, the plugins of which may still be at it.
    inherited: Mutex<BTreeSet<String>>,
    /// Owners that are detached in the background, again and again.
    leaving: Mutex<BTreeSet<String>>,
    again_at_once: Semaphore,
}

impl Networks {
    /// Finds what earlier processes have attached, and detaches it for owners that are not among these any more, in the background and
    /// whatever has become of the machine since; until then it is held as it was. What fails is said in the log, and tried again.
    pub async fn open(config: NetworksConfig, owners: &BTreeSet<String>) -> Result<Arc<Networks>, OpenError> {
        let found = blocking({
            let dir = config.dir.clone();
            move || found(&dir)
        });
        let found = found.await.map_err(|source| OpenError { path: config.dir.clone(), source })?;
        let marks = found.iter().filter_map(|left| Some(left.record.as_ref()?.mark.clone()));
        processes::end_helpers(marks.collect()).await;
        let networks = Arc::new(Networks {
            plugins: Plugins { folders: config.plugin_dirs.clone(), timeout: config.timeout },
            members: Arc::new(Members::new(config.namespaces.clone())),
            config,
            ports: Mutex::default(),
            letting_go: watch::Sender::default(),
            gates: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE_MAX),
            inherited: Mutex::default(),
            leaving: Mutex::default(),
            again_at_once: Semaphore::new(AGAIN_AT_ONCE_MAX),
        });
        for left in found {
            let owner = left.owner.clone();
            networks.hold_again(&left);
            lock(&networks.inherited).insert(owner.clone());
            if owners.contains(&owner) {
                networks.find_again(left);
            } else {
                lock(&networks.ports).leaves(&owner);
                networks.detach_again(owner, Duration::ZERO);
            }
        }
        Ok(networks)
    }

    /// Has the ports of an owner of an earlier process lead to nobody else.
    fn hold_again(&self, Left { owner, record, .. }: &Left) {
        let Some(record) = record else { return };
        let held = lock(&self.ports).hold(owner, &record.network.ports);
        if let Err(Held { port, owner: other, .. }) = held {
            tracing::warn!(owner, other, port, "two records of networks have the same port of the host");
        }
    }

    /// Takes an owner of an earlier process for attached, if it still is.
    fn find_again(&self, Left { owner, record, namespace }: Left) {
        let (Some(record), Some(namespace)) = (record, namespace) else { return };
        let Ok(given) = Given::of(&record.result) else { return };
        if record.result.is_null() {
            return;
        }
        let attached = Attached {
            namespace,
            addresses: given.addresses,
            etc: etc::written(Folder::of(&self.config.dir, &owner).path()),
            filtered: !record.network.policy.is_empty(),
        };
        self.members.insert(&owner, record.role, record.network.policy, record.mark, attached);
    }

    /// Attaches an owner, to its end even if the caller stops waiting for it. A port of the host that another has is waited for while that
    /// one is being detached for the first time; that this begins is waited for as long as one plugin may take, for all ports together. On failure nothing of it is left, but for what a plugin could not take back: that is
    /// tried again as by [`Networks::detach`].
    pub async fn attach(self: &Arc<Self>, wanted: Wanted) -> Result<Attached, AttachError> {
        let gate = self.gate(&wanted.owner).await;
        self.attach_alone(wanted, gate).await
    }

    /// As [`Networks::attach`], for an owner that is several containers: whoever comes first attaches it, and the others find it attached.
    /// What an earlier life of the machine has left of it is detached before, to its end as well. Refused once it is to be detached.
    pub async fn share(self: &Arc<Self>, wanted: Wanted) -> Result<Attached, AttachError> {
        let gate = self.gate(&wanted.owner).await;
        if lock(&self.ports).is_leaving(&wanted.owner) {
            // It would be detached under whoever is attached by its name now.
            return Err(AttachError::Leaving);
        }
        if let Some(attached) = self.attached(&wanted.owner) {
            return match self.members.fenced(&wanted.owner).await {
                Some(what) => Err(AttachError::Policy { what }),
                None => Ok(attached),
            };
        }
        if !self.knows(&wanted.owner) {
            return self.attach_alone(wanted, gate).await;
        }
        let (networks, owner) = (self.clone(), wanted.owner.clone());
        let clearing = tokio::spawn(async move {
            networks.finish(&owner).await;
            let cleared = networks.let_go(&owner).await;
            if cleared.is_err() {
                networks.detach_again(owner, AGAIN_PAUSE_MIN);
            }
            cleared.map(|()| gate)
        });
        let gate = clearing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        self.attach_alone(wanted, gate).await
    }

    /// Attaches an owner of which nothing is there. The caller has its gate.
    async fn attach_alone(
        self: &Arc<Self>,
        wanted: Wanted,
        gate: OwnedMutexGuard<()>,
    ) -> Result<Attached, AttachError> {
        let folder = Folder::of(&self.config.dir, &wanted.owner);
        if folder.path().exists() {
            // It is not to be disturbed by who takes its name.
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(AttachError::State { path: folder.path().to_owned(), source });
        }
        self.hold(&wanted.owner, &wanted.network.ports).await?;
        let networks = self.clone();
        let attaching = tokio::spawn(async move {
            let owner = wanted.owner.clone();
            let attached = networks.attach_now(wanted).await;
            if attached.is_err() && networks.let_go(&owner).await.is_err() {
                networks.detach_again(owner, AGAIN_PAUSE_MIN);
            }
            drop(gate);
            attached
        });
        attaching.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }

    /// Has ports of the host lead to this owner and to nobody else.
    async fn hold(self: &Arc<Self>, owner: &str, mappings: &[PortMapping]) -> Result<(), AttachError> {
        let deadline = Instant::now() + self.config.timeout;
        loop {
            let held = lock(&self.ports).hold(owner, mappings);
            let Err(held) = held else { return Ok(()) };
            self.let_go_of(held, deadline).await?;
        }
    }

    /// Waits until none of these ports of the host leads to an owner, as [`Networks::attach`] does, but for so long until it is begun to detach
    /// one; else says which does.
    pub async fn lead_nowhere(
        self: &Arc<Self>,
        ports: &Ranges,
        patience: Duration,
    ) -> Result<(), AttachError> {
        let deadline = Instant::now() + patience;
        loop {
            let held = lock(&self.ports).held_of(ports);
            let Some(held) = held else { return Ok(()) };
            self.let_go_of(held, deadline).await?;
        }
    }

    /// Waits for the holder of a port to be detached for the first time, and until the deadline for that to begin; refuses the port when that
    /// has failed or does not begin.
    async fn let_go_of(self: &Arc<Self>, held: Held, deadline: Instant) -> Result<(), AttachError> {
        let Held { port, protocol, owner, leaving } = held;
        let why = match leaving {
            Some(Leaving::UnderWay) => {
                // Then it is free, or why not is known. Who does not wait any more leaves no plugin behind that another would run into.
                let networks = self.clone();
                let _ = tokio::spawn(async move { networks.detach(&owner).await }).await;
                return Ok(());
            }
            Some(Leaving::Failed { why }) => format!("which cannot be detached yet: {why}"),
            None => {
                // That of a task group has it until the group is over, which follows soon where the task that held it was killed.
                let mut letting_go = self.letting_go.subscribe();
                let begun = letting_go.wait_for(|()| !lock(&self.ports).keeps((port, protocol), &owner));
                if timeout_at(deadline, begun).await.is_ok() {
                    return Ok(());
                }
                "which is attached".to_owned()
            }
        };
        Err(AttachError::PortHeld { port, protocol, owner, why })
    }

    /// What an owner has, while it is attached.
    pub fn attached(&self, owner: &str) -> Option<Attached> {
        self.members.attached(owner)
    }

    /// The addresses of an owner; none at all of what was never attached, nor was to be.
    pub fn addresses(&self, owner: &str) -> Option<Vec<IpAddr>> {
        match self.attached(owner) {
            Some(attached) => Some(attached.addresses),
            // What has become of it is not known, but it is not on the host's network.
            None => self.knows(owner).then(Vec::new),
        }
    }

    /// How long one plugin may take.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// True from before an owner is attached until all of it is detached.
    pub fn knows(&self, owner: &str) -> bool {
        Folder::of(&self.config.dir, owner).path().exists()
    }

    async fn attach_now(&self, wanted: Wanted) -> Result<Attached, AttachError> {
        let Wanted { owner, role, network, hostname } = wanted;
        if !rustix::process::geteuid().is_root() {
            return Err(AttachError::NotRoot);
        }
        let list = List::find(&self.config.config_dir, &network.name)?;
        if !network.ports.is_empty()
            && !list.plugins.iter().any(|plugin| plugin.has_capability(chain::PORT_MAPPINGS))
        {
            return Err(AttachError::NoPortMap);
        }
        // What is not there could not detach either.
        list.plugins.iter().try_for_each(|plugin| self.plugins.check(&plugin.kind))?;
        let permit = self.at_once.acquire().await;
        let folder = Folder::of(&self.config.dir, &owner);
        let state = |source| AttachError::State { path: folder.path().to_owned(), source };
        let mark = Mark::new().map_err(state)?;
        let mut record = Record { role, network, list, mark, result: Value::Null };
        let made = blocking({
            let (folder, record) = (folder.clone(), record.clone());
            move || folder.make().and_then(|()| folder.write(&record))
        });
        made.await.map_err(state)?;
        let namespace = folder.namespace();
        let namespaces = self.config.namespaces.marked(record.mark.of_helper());
        let made = timeout(self.config.timeout, namespaces.make(&namespace)).await;
        let made = made.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        made.map_err(|source| AttachError::Namespace { path: namespace.clone(), source })?;
        let policy = &record.network.policy;
        if !policy.is_empty() {
            let put = policy::apply(&namespaces, &namespace, &policy::tables(policy)).await;
            put.map_err(|what| AttachError::Policy { what })?;
        }
        let subject = Subject { owner: &owner, mark: &record.mark, namespace: Some(&namespace) };
        let (result, given) = chain::add(&self.plugins, &record.list, &record.network.ports, subject).await?;
        record.result = result;
        let addresses = given.addresses.clone();
        let written = blocking({
            let (folder, record) = (folder.clone(), record.clone());
            move || folder.write(&record).and_then(|()| etc::write(folder.path(), &hostname, &given))
        });
        let etc = written.await.map_err(state)?;
        let Record { role, network: Network { policy, .. }, mark, .. } = record;
        let attached = Attached { namespace, addresses, etc, filtered: !policy.is_empty() };
        drop(permit);
        self.members.insert(&owner, role, policy, mark, attached.clone());
        match self.members.fenced(&owner).await {
            Some(what) => Err(AttachError::Policy { what }),
            None => Ok(attached),
        }
    }

    async fn gate(&self, owner: &str) -> OwnedMutexGuard<()> {
        let gate = lock(&self.gates).entry(owner.to_owned()).or_default().clone();
        gate.lock_owned().await
    }
}

/// What an earlier process has left of an owner.
struct Left {
    owner: String,
    /// None when nothing was attached yet, or what is on disk cannot be read, which is said by whoever detaches it.
    record: Option<Record>,
    /// The file that is the namespace, if there is one and nobody has begun to detach it.
    namespace: Option<PathBuf>,
}

/// What earlier processes have left. Blocks.
fn found(dir: &Path) -> io::Result<Vec<Left>> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let left = |entry: fs::DirEntry| {
        let owner = entry.file_name().to_string_lossy().into_owned();
        let folder = Folder::of(dir, &owner);
        let is_whole = |file: &PathBuf| NetworkNamespaces::is_one(file) && !folder.is_leaving();
        let namespace = Some(folder.namespace()).filter(is_whole);
        Left { owner, record: folder.read().ok().flatten(), namespace }
    };
    fs::read_dir(dir)?.map(|entry| entry.map(left)).collect()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they protect is valid between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
