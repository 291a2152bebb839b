//! A master and agents in this process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use apportion_agent::{Agent, Config as AgentConfig};
use apportion_containerizer::{Containerizer as _, Native, NativeConfig, Signal};
use apportion_master::{Config as MasterConfig, Server};
use apportion_sdk::operator::{AgentState, AgentSummary, Operator};
use apportion_types::{Resources, resources::Name};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{share::share, work_folder::WorkFolder};
use crate::{
    Usage,
    unenforced::{Group, groups},
    value::Url,
};

/// How long the agents may take to register: each tries out what the machine allows, on a machine that may be busy.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at who has registered.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The longest grace of a task when the cluster ends: nobody waits gladly for that.
const EXIT_GRACE_MAX_MS: u64 = 3000;

/// What is to be started.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) listen: SocketAddr,
    pub(super) agents: u32,
    /// Of each agent; what is not named is its part of what the machine has.
    pub(super) resources: Option<Resources>,
    /// Where the master records what happens to it.
    pub(super) journal: Option<PathBuf>,
}

impl Plan {
    /// Refuses what can be known to be wrong without looking at the machine.
    pub(super) fn check(&self) -> Result<(), Usage> {
        if !(1..=AGENTS_MAX).contains(&self.agents) {
            return Err(Usage(format!(
                "{} agents cannot be run here; choose 1 to {AGENTS_MAX}",
                self.agents
            )));
        }
        let ranges = self.resources.iter().flat_map(Resources::iter).find(|(name, _)| **name == Name::Ports);
        match ranges {
            Some(_) if self.agents > 1 => Err(Usage(format!(
                "{} agents on one machine cannot each have the same ports; leave `ports` out of --resources, and they are divided",
                self.agents
            ))),
            _ => Ok(()),
        }
    }

    /// What each agent has to offer.
    fn parts(&self, whole: &Resources) -> Vec<Resources> {
        let parts = share(whole, self.agents as usize);
        let Some(set) = &self.resources else { return parts };
        let with = |part: Resources| {
            let mut resources = set.clone();
            for (name, value) in part.iter().filter(|(name, _)| set.iter().all(|(there, _)| there != *name)) {
                resources.insert(name.clone(), value.clone());
            }
            resources
        };
        parts.into_iter().map(with).collect()
    }
}

/// More would only wait for each other on one machine.
const AGENTS_MAX: u32 = 64;

/// An agent that was started.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) address: SocketAddr,
    pub(super) resources: Resources,
}

/// A cluster that is up. Dropping it cuts everything off where it stands; tasks end with this process.
#[derive(Debug)]
pub(super) struct Cluster {
    url: Url,
    agents: Vec<Started>,
    not_enforced: Vec<String>,
    agents_stop: watch::Sender<bool>,
    master_stop: watch::Sender<bool>,
    agent_tasks: Vec<JoinHandle<()>>,
    master_task: JoinHandle<()>,
    failed: mpsc::UnboundedSender<anyhow::Error>,
    failures: mpsc::UnboundedReceiver<anyhow::Error>,
}

impl Cluster {
    /// Starts the master.
    pub(super) async fn start(plan: &Plan) -> anyhow::Result<Cluster> {
        let (listen, journal) = (plan.listen, plan.journal.clone());
        let server = Server::bind(MasterConfig { listen, journal, ..MasterConfig::default() }).await?;
        let place = reachable(server.local_addr());
        let (failed, failures) = mpsc::unbounded_channel();
        let (master_stop, mut stopped) = watch::channel(false);
        let alarm = Alarm { what: "the master".to_owned(), failed: failed.clone() };
        let master_task = tokio::spawn(async move {
            // An error means that the sender is gone, and then nobody wants a master any more.
            let shutdown = async move { _ = stopped.wait_for(|stop| *stop).await };
            alarm.heed(server.run(shutdown).await);
        });
        Ok(Cluster {
            url: Url(format!("http://{place}")),
            agents: Vec::new(),
            not_enforced: Vec::new(),
            agents_stop: watch::channel(false).0,
            master_stop,
            agent_tasks: Vec::new(),
            master_task,
            failed,
            failures,
        })
    }

    /// Starts the agents, all at once, and returns when every one is registered.
    pub(super) async fn start_agents(&mut self, plan: &Plan, folder: &WorkFolder) -> anyhow::Result<()> {
        let whole = apportion_agent::detected_resources(None, None, true, folder.path())?;
        let mut starting = Vec::new();
        for (at, resources) in plan.parts(&whole).into_iter().enumerate() {
            let number = at + 1;
            let config = AgentConfig {
                master: vec![self.url.place().to_owned()],
                listen: SocketAddr::from(([127, 0, 0, 1], 0)),
                hostname: Some(format!("dev-{number}")),
                resources: Some(resources.clone()),
                kill_tasks_on_exit: true,
                exit_grace_max_ms: EXIT_GRACE_MAX_MS,
                tethered: true,
                cgroup_parent: cgroup_parent(folder, number),
                ..AgentConfig::new(agent_folder(folder.path(), number))
            };
            starting.push((number, resources, tokio::spawn(Agent::native(config))));
        }
        for (number, resources, started) in starting {
            let agent = started.await?.with_context(|| format!("starting agent {number}"))?;
            self.agents.push(Started { address: agent.local_addr(), resources });
            let mut stopped = self.agents_stop.subscribe();
            let alarm = Alarm { what: format!("agent {number}"), failed: self.failed.clone() };
            self.agent_tasks.push(tokio::spawn(async move {
                let shutdown = async move { _ = stopped.wait_for(|stop| *stop).await };
                alarm.heed(agent.run(shutdown).await);
            }));
        }
        let agents = self.registered().await?;
        self.not_enforced = not_enforced(&agents);
        Ok(())
    }

    /// Waits until the master knows every agent.
    async fn registered(&mut self) -> anyhow::Result<Vec<AgentSummary>> {
        let operator = Operator::connect(self.url.place()).await?;
        let begun = Instant::now();
        loop {
            let agents = operator.agents().await?;
            let active = agents.iter().filter(|agent| agent.state == AgentState::Active).count();
            // A folder that is kept may bring agents of an earlier time; they are not active.
            if active >= self.agents.len() {
                return Ok(agents);
            }
            if begun.elapsed() > START_TIMEOUT {
                bail!(
                    "only {active} of {} agents have registered after {START_TIMEOUT:?}; see why with --log info",
                    self.agents.len()
                );
            }
            tokio::select! {
                failed = self.failed() => return Err(failed),
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Where its master is.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Its agents, in the order of their numbers.
    pub(super) fn agents(&self) -> &[Started] {
        &self.agents
    }

    /// What the agents cannot hold tasks to: a line for each distinct reason.
    pub(super) fn not_enforced(&self) -> &[String] {
        &self.not_enforced
    }

    /// Resolves when a part of it has failed.
    pub(super) async fn failed(&mut self) -> anyhow::Error {
        match self.failures.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Takes it down in order: the agents kill their tasks and leave, then the master ends.
    pub(super) async fn stop(mut self) {
        self.agents_stop.send_replace(true);
        for task in std::mem::take(&mut self.agent_tasks) {
            // How an agent failed was told by itself; a panic was, by its hook.
            _ = task.await;
        }
        self.master_stop.send_replace(true);
        _ = (&mut self.master_task).await;
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for task in self.agent_tasks.iter().chain([&self.master_task]) {
            task.abort();
        }
    }
}

/// Tells when a part of the cluster ends that should not, by an error or by a bug.
struct Alarm {
    what: String,
    failed: mpsc::UnboundedSender<anyhow::Error>,
}

impl Alarm {
    fn heed<E: std::error::Error + Send + Sync + 'static>(&self, ended: Result<(), E>) {
        if let Err(e) = ended {
            // Nobody listens any more when the whole cluster is dropped.
            _ = self.failed.send(anyhow::Error::new(e).context(format!("{} ended", self.what)));
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            _ = self
                .failed
                .send(anyhow::anyhow!("{} panicked: a bug; please report it with what it said", self.what));
        }
    }
}

/// Where somebody on this machine reaches what listens there.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => SocketAddr::from(([127, 0, 0, 1], v4.port())),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => {
            SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, v6.port()))
        }
        other => other,
    }
}

fn not_enforced(agents: &[AgentSummary]) -> Vec<String> {
    let agents = agents.iter().map(|agent| (agent.agent_id.as_str(), agent.info.unenforced.as_slice()));
    let line =
        |group: Group<'_>| format!("not enforced here: {}: {}", group.controls.join(", "), group.reason);
    groups(agents).into_iter().map(line).collect()
}

fn agent_folder(folder: &Path, number: usize) -> std::path::PathBuf {
    folder.join(format!("agent-{number}"))
}

fn cgroup_parent(folder: &WorkFolder, number: usize) -> String {
    format!("{}/agent-{number}", folder.name())
}

/// Removes what killed clusters have left: folders, and the cgroups that go with them.
pub(super) async fn remove_stale(folder: &WorkFolder) {
    for stale in folder.stale() {
        for number in
            (1..=AGENTS_MAX as usize).take_while(|number| agent_folder(stale.path(), *number).is_dir())
        {
            remove_containers(&stale, number).await;
        }
        let path = stale.path().to_owned();
        match stale.close() {
            Ok(()) => {
                tracing::info!(folder = %path.display(), "removed what a killed `apportion dev` had left")
            }
            // The next one tries again.
            Err(error) => {
                tracing::warn!(folder = %path.display(), %error, "a stale work folder cannot be removed")
            }
        }
    }
}

/// Ends what a killed cluster may still be about to end by itself, and removes its cgroups.
async fn remove_containers(stale: &WorkFolder, number: usize) {
    let state = apportion_agent::Paths::new(agent_folder(stale.path(), number)).containers();
    if !state.is_dir() {
        return;
    }
    let native = match Native::probe(NativeConfig::new(state, cgroup_parent(stale, number))).await {
        Ok(native) => native,
        Err(error) => {
            return tracing::warn!(folder = %stale.path().display(), %error, "stale containers cannot be looked at");
        }
    };
    let leftovers = native.leftovers().await.unwrap_or_else(|error| {
        tracing::warn!(folder = %stale.path().display(), %error, "stale containers cannot be listed");
        Vec::new()
    });
    for leftover in leftovers {
        let id = &leftover.id;
        let ended = async {
            native.signal(id, Signal::Kill).await?;
            native.wait(id).await?;
            native.remove(id).await
        };
        if let Err(error) = ended.await {
            tracing::warn!(container = %id, %error, "a stale container cannot be removed");
        }
    }
    native.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(agents: u32, resources: Option<&str>) -> Plan {
        let resources = resources.map(|text| text.parse().unwrap());
        Plan { listen: SocketAddr::from(([127, 0, 0, 1], 0)), agents, resources, journal: None }
    }

    #[test]
    fn what_is_not_named_is_a_part_of_the_machine() {
        let whole: Resources = "cpus:4;mem:4000;ports:[1-4]".parse().unwrap();
        let parts = |plan: Plan| plan.parts(&whole).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(parts(plan(2, None)), ["cpus:2;mem:2000;ports:[1-2]", "cpus:2;mem:2000;ports:[3-4]"]);
        assert_eq!(
            parts(plan(2, Some("cpus:8;gpus:1"))),
            ["cpus:8;mem:2000;gpus:1;ports:[1-2]", "cpus:8;mem:2000;gpus:1;ports:[3-4]"]
        );
    }

    #[test]
    fn what_cannot_be_is_refused() {
        assert!(plan(2, Some("cpus:1")).check().is_ok() && plan(1, Some("ports:[1-2]")).check().is_ok());
        assert!(plan(0, None).check().is_err() && plan(65, None).check().is_err());
        let error = plan(2, Some("ports:[1-2]")).check().unwrap_err().to_string();
        assert!(error.contains("leave `ports` out"), "{error}");
    }

    #[test]
    fn an_address_of_everywhere_is_reached_by_loopback() {
        let at = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(at("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(at("[::]:1"), "[::1]:1");
        assert_eq!(at("10.0.0.1:1"), "10.0.0.1:1");
    }
}
