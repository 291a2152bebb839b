//! Who is attached to what.

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
use apportion_types::{Network, Role, network::PortMapping, text::chain};
use serde_json::Value;
use tokio::{
    sync::{OwnedMutexGuard, Semaphore},
    time::{sleep, timeout},
};

use crate::{
    chain,
    error::{AttachError, DetachError, OpenError},
    etc,
    list::List,
    plugin::{Plugins, Subject},
    policy::{self, Sets},
    ports::{Held, Leaving, Ports},
    processes::Mark,
    record::{Folder, Record},
    result::Given,
};

/// How long the kernel may take to have a policy put in force.
const POLICY_TIMEOUT: Duration = Duration::from_secs(10);

/// Owners that are attached or detached at once: more would only wait for the locks of plugins and of the kernel's tables.
const AT_ONCE_MAX: usize = 16;

/// How often plugins are asked to detach an owner before that has failed.
const DETACH_TRIES_MAX: u32 = 3;

/// Before the second try; longer before later ones.
const DETACH_PAUSE: Duration = Duration::from_millis(100);

/// How soon that is begun again once it has failed, at first; twice as long each time.
const AGAIN_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest such pause.
const AGAIN_PAUSE_MAX: Duration = Duration::from_secs(60);

/// Of those that are attached or detached at once, how many may be what has failed before: others are not to wait for it.
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
    /// How long one plugin may take before it is killed.
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
    members: Mutex<BTreeMap<String, Member>>,
    ports: Mutex<Ports>,
    /// One at a time attaches or detaches an owner.
    gates: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    at_once: Semaphore,
    /// Owners of an earlier process, the plugins of which may still be at it.
    inherited: Mutex<BTreeSet<String>>,
    /// Owners that are detached in the background, again and again.
    leaving: Mutex<BTreeSet<String>>,
    again_at_once: Semaphore,
    /// One at a time fills the sets of policies.
    filling: tokio::sync::Mutex<()>,
}

/// An owner that is attached.
#[derive(Debug)]
struct Member {
    record: Record,
    attached: Attached,
    /// What the sets of its policy hold; none until they were filled by this process.
    filled: Option<Sets>,
}

impl Networks {
    /// Finds what earlier processes have attached, and detaches it for owners that are not among these any more, in the background and
    /// whatever has become of the machine since; until then it is held as it was. What fails is said in the log, and tried again.
    pub async fn open(config: NetworksConfig, owners: &BTreeSet<String>) -> Result<Arc<Networks>, OpenError> {
        let failed = |source| OpenError { path: config.dir.clone(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(&config.dir).map_err(failed)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&config.dir).map_err(failed)? {
            found.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
        }
        let networks = Arc::new(Networks {
            plugins: Plugins { folders: config.plugin_dirs.clone(), timeout: config.timeout },
            config,
            members: Mutex::default(),
            ports: Mutex::default(),
            gates: Mutex::default(),
            at_once: Semaphore::new(AT_ONCE_MAX),
            inherited: Mutex::default(),
            leaving: Mutex::default(),
            again_at_once: Semaphore::new(AGAIN_AT_ONCE_MAX),
            filling: tokio::sync::Mutex::default(),
        });
        for owner in found {
            networks.hold_again(&owner);
            lock(&networks.inherited).insert(owner.clone());
            if owners.contains(&owner) {
                networks.find_again(owner);
            } else {
                lock(&networks.ports).leaves(&owner);
                networks.detach_again(owner, Duration::ZERO);
            }
        }
        networks.fill().await;
        Ok(networks)
    }

    /// Has the ports of an owner of an earlier process lead to nobody else.
    fn hold_again(&self, owner: &str) {
        // What cannot be read is said by whoever detaches it.
        if let Ok(Some(record)) = Folder::of(&self.config.dir, owner).read() {
            let held = lock(&self.ports).hold(owner, &record.network.ports);
            if let Err(Held { port, owner: other, .. }) = held {
                tracing::warn!(owner, other, port, "two records of networks have the same port of the host");
            }
        }
    }

    /// Takes an owner of an earlier process for attached, if it still is.
    fn find_again(&self, owner: String) {
        let folder = Folder::of(&self.config.dir, &owner);
        let Ok(Some(record)) = folder.read() else { return };
        let Ok(given) = Given::of(&record.result) else { return };
        if record.result.is_null() || !NetworkNamespaces::is_one(&folder.namespace()) {
            return;
        }
        let attached = Attached {
            namespace: folder.namespace(),
            addresses: given.addresses,
            etc: etc::written(folder.path()),
            filtered: !record.network.policy.is_empty(),
        };
        self.members().insert(owner, Member { record, attached, filled: None });
    }

    /// Attaches an owner, to its end even if the caller stops waiting for it. A port of the host that another has is waited for only while
    /// that one is being detached for the first time. On failure nothing of it is left, but for what a plugin could not take back: that is
    /// tried again as by [`Networks::detach`].
    pub async fn attach(self: &Arc<Self>, wanted: Wanted) -> Result<Attached, AttachError> {
        let gate = self.gate(&wanted.owner).await;
        let folder = Folder::of(&self.config.dir, &wanted.owner);
        if folder.path().exists() {
            // It is not to be disturbed by who takes its name.
            let source = io::ErrorKind::AlreadyExists.into();
            return Err(AttachError::State { path: folder.path().to_owned(), source });
        }
        self.hold(&wanted.owner, &wanted.network.ports).await?;
        let networks = self.clone();
        let attaching = tokio::spawn(async move {
            let _permit = networks.at_once.acquire().await;
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

    /// Detaches an owner, once its attaching is over; one that is not attached is no error. What fails is said, and tried again in the
    /// background until it is done or the last user of these networks is gone; then the next process does.
    pub async fn detach(self: &Arc<Self>, owner: &str) -> Result<(), DetachError> {
        let detached = self.try_detach(owner).await;
        if detached.is_err() {
            self.detach_again(owner.to_owned(), AGAIN_PAUSE_MIN);
        }
        detached
    }

    /// Detaches an owner in the background, after this pause.
    fn detach_again(self: &Arc<Self>, owner: String, mut pause: Duration) {
        if !lock(&self.leaving).insert(owner.clone()) {
            return;
        }
        let networks = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(pause).await;
                let Some(networks) = networks.upgrade() else { return };
                let _permit = networks.again_at_once.acquire().await;
                pause = (pause * 2).clamp(AGAIN_PAUSE_MIN, AGAIN_PAUSE_MAX);
                let Err(error) = networks.try_detach(&owner).await else {
                    lock(&networks.leaving).remove(&owner);
                    return;
                };
                tracing::warn!(owner, error = chain(&error), again_in = ?pause, "a network is not detached yet");
            }
        });
    }

    async fn try_detach(&self, owner: &str) -> Result<(), DetachError> {
        lock(&self.ports).leaves(owner);
        let gate = self.gate(owner).await;
        self.finish(owner).await;
        let detached = {
            let _permit = match self.knows(owner) {
                true => Some(self.at_once.acquire().await),
                false => None,
            };
            self.let_go(owner).await
        };
        drop(gate);
        let mut gates = lock(&self.gates);
        if gates.get(owner).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            gates.remove(owner);
        }
        detached
    }

    /// Waits for the plugins of an earlier process that may still be at an owner.
    async fn finish(&self, owner: &str) {
        if !lock(&self.inherited).contains(owner) {
            return;
        }
        // What cannot be read is said by whoever detaches it.
        if let Ok(Some(Record { mark, .. })) = Folder::of(&self.config.dir, owner).read() {
            mark.finish(owner, self.config.timeout).await;
        }
        lock(&self.inherited).remove(owner);
    }

    /// Has ports of the host lead to this owner and to nobody else.
    async fn hold(self: &Arc<Self>, owner: &str, mappings: &[PortMapping]) -> Result<(), AttachError> {
        loop {
            let held = lock(&self.ports).hold(owner, mappings);
            let Err(Held { port, protocol, owner, leaving }) = held else { return Ok(()) };
            let why = match leaving {
                Some(Leaving::UnderWay) => {
                    // Then it is free, or why not is known.
                    let _ = self.detach(&owner).await;
                    continue;
                }
                Some(Leaving::Failed { why }) => format!("which cannot be detached yet: {why}"),
                None => "which is attached".to_owned(),
            };
            return Err(AttachError::PortHeld { port, protocol, owner, why });
        }
    }

    /// Detaches an owner, and lets go of what it held when that is done. The caller has its gate.
    async fn let_go(&self, owner: &str) -> Result<(), DetachError> {
        let detached = match self.knows(owner) {
            true => self.detach_now(owner).await,
            false => Ok(()),
        };
        let mut ports = lock(&self.ports);
        match &detached {
            Ok(()) => ports.release(owner),
            Err(error) => ports.stays(owner, chain(error)),
        }
        detached
    }

    /// What an owner has, while it is attached.
    pub fn attached(&self, owner: &str) -> Option<Attached> {
        self.members().get(owner).map(|member| member.attached.clone())
    }

    /// The addresses of an owner; none at all of what was never attached, nor was to be.
    pub fn addresses(&self, owner: &str) -> Option<Vec<IpAddr>> {
        match self.attached(owner) {
            Some(attached) => Some(attached.addresses),
            // What has become of it is not known, but it is not on the host's network.
            None => self.knows(owner).then(Vec::new),
        }
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
        let folder = Folder::of(&self.config.dir, &owner);
        let state = |source| AttachError::State { path: folder.path().to_owned(), source };
        let mark = Mark::new().map_err(state)?;
        let mut record = Record { role, network, list, mark, result: Value::Null };
        folder.make().and_then(|()| folder.write(&record)).map_err(state)?;
        let namespace = folder.namespace();
        let made = self.config.namespaces.make(&namespace).await;
        made.map_err(|source| AttachError::Namespace { path: namespace.clone(), source })?;
        let policy = &record.network.policy;
        if !policy.is_empty() {
            let put = self.nft(&namespace, &policy::tables(policy)).await;
            put.map_err(|what| AttachError::Policy { what })?;
        }
        let subject = Subject { owner: &owner, mark: &record.mark, namespace: Some(&namespace) };
        let (result, given) = chain::add(&self.plugins, &record.list, &record.network.ports, subject).await?;
        record.result = result;
        let etc = folder
            .write(&record)
            .and_then(|()| etc::write(folder.path(), &hostname, &given))
            .map_err(state)?;
        let filtered = !record.network.policy.is_empty();
        let attached = Attached { namespace, addresses: given.addresses, etc, filtered };
        let member = Member { record, attached: attached.clone(), filled: None };
        self.members().insert(owner.clone(), member);
        match self.fill().await.remove(&owner) {
            Some(what) => Err(AttachError::Policy { what }),
            None => Ok(attached),
        }
    }

    async fn detach_now(&self, owner: &str) -> Result<(), DetachError> {
        let removed = self.members().remove(owner);
        if removed.is_some() {
            // Before its addresses are another's.
            self.fill().await;
        }
        let folder = Folder::of(&self.config.dir, owner);
        let state = |source| DetachError::State { path: folder.path().to_owned(), source };
        let Some(record) = folder.read().map_err(state)? else {
            // Nothing was attached yet, or nothing ever.
            return remove_if_there(&folder).map_err(state);
        };
        let namespace = folder.namespace();
        // After the machine was started again there is none; plugins then let go of what they keep elsewhere.
        let there = NetworkNamespaces::is_one(&namespace).then_some(&*namespace);
        let Record { network, list, mark, result, .. } = record;
        let subject = Subject { owner, mark: &mark, namespace: there };
        for tries in 1.. {
            let ports = &network.ports;
            match chain::del(&self.plugins, &list, ports, subject, &result).await {
                Ok(()) => break,
                // Of the plugins that everybody has, some get in each other's way in the kernel's tables.
                Err(_) if tries < DETACH_TRIES_MAX => sleep(DETACH_PAUSE * tries).await,
                // The namespace stays: without it some plugins do not find what they are to remove.
                Err(source) => return Err(DetachError::Plugin { network: network.name, source }),
            }
        }
        remove_if_there(&folder).map_err(state)
    }

    /// Has the sets of every policy hold whom they should hold now; of which owners that failed, and why.
    async fn fill(&self) -> BTreeMap<String, String> {
        let _filling = self.filling.lock().await;
        let mut failed = BTreeMap::new();
        for (owner, namespace, sets) in self.outdated() {
            match self.nft(&namespace, &policy::fill(&sets)).await {
                Ok(()) => {
                    if let Some(member) = self.members().get_mut(&owner) {
                        member.filled = Some(sets);
                    }
                }
                Err(why) => {
                    if self.members().contains_key(&owner) {
                        tracing::error!(
                            owner,
                            why,
                            "the policy of a network does not know who has which role any more"
                        );
                        failed.insert(owner, why);
                    }
                }
            }
        }
        failed
    }

    /// Owners whose policies speak of roles, the addresses of which have changed.
    fn outdated(&self) -> Vec<(String, PathBuf, Sets)> {
        let members = self.members();
        let mut everybody: BTreeMap<Role, BTreeSet<IpAddr>> = BTreeMap::new();
        for member in members.values() {
            everybody.entry(member.record.role.clone()).or_default().extend(&member.attached.addresses);
        }
        let outdated = members.iter().filter_map(|(owner, member)| {
            let sets = policy::sets(&member.record.network.policy, &everybody);
            let same = sets.is_empty() || member.filled.as_ref() == Some(&sets);
            (!same).then(|| (owner.clone(), member.attached.namespace.clone(), sets))
        });
        outdated.collect()
    }

    async fn nft(&self, namespace: &Path, script: &str) -> Result<(), String> {
        let run = self.config.namespaces.run_in(namespace, &["nft", "-f", "-"], script);
        match timeout(POLICY_TIMEOUT, run).await {
            Err(_) => Err(format!("`nft` did not end within {POLICY_TIMEOUT:?} and was killed")),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(output)) if output.status.success() => Ok(()),
            Ok(Ok(output)) => {
                let said = String::from_utf8_lossy(&output.stderr);
                Err(said.lines().next().map_or_else(|| output.status.to_string(), str::to_owned))
            }
        }
    }

    async fn gate(&self, owner: &str) -> OwnedMutexGuard<()> {
        let gate = lock(&self.gates).entry(owner.to_owned()).or_default().clone();
        gate.lock_owned().await
    }

    fn members(&self) -> MutexGuard<'_, BTreeMap<String, Member>> {
        lock(&self.members)
    }
}

fn remove_if_there(folder: &Folder) -> io::Result<()> {
    match folder.remove() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What they protect is valid between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
