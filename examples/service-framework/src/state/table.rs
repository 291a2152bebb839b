//! What must outlive the scheduler: who it is, what it is to run, and which task is which replica.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use apportion_sdk::{
    AgentId, FrameworkId, Place, TaskId,
    store::{Changes, Kept},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{App, scaling::Past};

/// The version of the records; another one is refused rather than guessed at.
pub const VERSION: u32 = 2;

/// The record of the framework as a whole.
const WHOLE: &str = "services";

/// What the records of services, of their tasks, and of strays begin with.
const APP: &str = "app/";
const TASK: &str = "task/";
const STRAY: &str = "stray/";

/// What the record of how a service was scaled begins with.
const SCALING: &str = "scaling/";

/// All that is stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    /// The framework; none before its first subscription.
    pub framework_id: Option<FrameworkId>,
    /// How many tasks were ever launched. Each has this number in its id, so that no id is used twice.
    pub launches: u64,
    /// The services, by name.
    pub apps: BTreeMap<String, App>,
    /// Every task that may live and is a replica, or was one and is being killed.
    pub placed: BTreeMap<TaskId, Placed>,
    /// Tasks that may still run though they were given up; killed when they are heard of.
    pub strays: BTreeSet<TaskId>,
    /// What is remembered of how services were scaled by what was measured, by name.
    pub scaling: BTreeMap<String, Past>,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// Its service.
    pub app: String,
    /// Which replica it is. While one is replaced, two tasks are the same.
    pub replica: u32,
    /// What it was made from.
    pub revision: u64,
    /// Its agent.
    pub agent_id: AgentId,
    /// The agent's host.
    pub hostname: String,
    /// Where the agent is, as its offer said. An earlier version did not write it; then its host's name has to do.
    #[serde(default)]
    pub place: Arc<Place>,
    /// The ports that it was given.
    pub ports: Vec<u16>,
    /// Whether its end was decided: written before it is asked for, so that the next scheduler does not count on it.
    pub doomed: bool,
}

/// Where a task is launched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// The agent.
    pub agent_id: AgentId,
    /// Where that is.
    pub place: Arc<Place>,
    /// The ports of it that the task is given.
    pub ports: Vec<u16>,
}

impl Placed {
    /// Where the agent's host answers. What an agent says of itself holds also where nobody knows its host's name.
    pub fn host(&self) -> &str {
        let address = self.place.address.as_str();
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        if host.is_empty() { &self.hostname } else { host.trim_matches(['[', ']']) }
    }

    /// Where it can be reached: `host:port`, for each port.
    pub fn addresses(&self) -> Vec<String> {
        self.ports.iter().map(|port| format!("{}:{port}", self.hostname)).collect()
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Whole {
    version: u32,
    launches: u64,
}

/// A record is not what was written.
#[derive(Debug, thiserror::Error)]
#[error(
    "the record `{key}` of the state is damaged: {why}; its replicas run on until the failover time-out, `apportion frameworks` lists \
     them; begin anew with --forget, which forgets all descriptions too"
)]
pub struct TableError {
    /// Which.
    pub key: String,
    /// What is wrong with it.
    pub why: String,
}

impl Table {
    /// What was stored.
    pub fn load(kept: Kept) -> Result<Table, TableError> {
        let mut table = Table { framework_id: kept.framework_id, ..Table::default() };
        for (key, record) in &kept.records {
            let damaged = |why: String| TableError { key: key.clone(), why };
            let id = |text: &str| TaskId::new(text).map_err(|error| damaged(error.to_string()));
            if let Some(name) = key.strip_prefix(APP) {
                let app: App = read(key, record)?;
                let spoken = [app.target].into_iter().chain(app.good.iter().copied());
                if let Some(number) = spoken.into_iter().find(|number| !app.revisions.contains_key(number)) {
                    return Err(damaged(format!("it has no revision {number}")));
                }
                table.apps.insert(name.to_owned(), app);
            } else if let Some(text) = key.strip_prefix(TASK) {
                table.placed.insert(id(text)?, read(key, record)?);
            } else if let Some(text) = key.strip_prefix(STRAY) {
                table.strays.insert(id(text)?);
            } else if let Some(name) = key.strip_prefix(SCALING) {
                table.scaling.insert(name.to_owned(), read(key, record)?);
            } else if key == WHOLE {
                let whole: Whole = read(key, record)?;
                if whole.version != VERSION {
                    return Err(damaged(format!("version {} instead of {VERSION}", whole.version)));
                }
                table.launches = whole.launches;
            } else {
                return Err(damaged("nothing of this version has such a name".to_owned()));
            }
        }
        for (task_id, placed) in &table.placed {
            let app = table.apps.get(&placed.app);
            if app.is_none_or(|app| !app.revisions.contains_key(&placed.revision)) {
                let why = format!("there is no revision {} of service `{}`", placed.revision, placed.app);
                return Err(TableError { key: format!("{TASK}{task_id}"), why });
            }
        }
        Ok(table)
    }

    /// What has to be stored where `before` is.
    pub fn changes_since(&self, before: &Table) -> Changes {
        let mut changes = Changes::default();
        if self.framework_id != before.framework_id {
            changes.framework_id(self.framework_id.clone());
        }
        if self.launches != before.launches || *before == Table::default() && *self != *before {
            changes.put(WHOLE, written(&Whole { version: VERSION, launches: self.launches }));
        }
        differences(APP, &self.apps, &before.apps, &mut changes);
        differences(SCALING, &self.scaling, &before.scaling, &mut changes);
        differences(TASK, &self.placed, &before.placed, &mut changes);
        for stray in self.strays.difference(&before.strays) {
            changes.put(format!("{STRAY}{stray}"), Vec::new());
        }
        for stray in before.strays.difference(&self.strays) {
            changes.remove(format!("{STRAY}{stray}"));
        }
        changes
    }

    /// What is left of it when the framework was removed, and all its tasks with it: what is to be run.
    #[must_use]
    pub fn without_framework(self) -> Table {
        Table { framework_id: None, placed: BTreeMap::new(), strays: BTreeSet::new(), ..self }
    }

    /// The tasks of a service.
    pub fn tasks_of<'a>(&'a self, app: &'a str) -> impl Iterator<Item = (&'a TaskId, &'a Placed)> {
        self.placed.iter().filter(move |(_, placed)| placed.app == app)
    }
}

fn differences<K: Ord + std::fmt::Display, V: PartialEq + Serialize>(
    prefix: &str,
    now: &BTreeMap<K, V>,
    before: &BTreeMap<K, V>,
    changes: &mut Changes,
) {
    for (key, value) in now.iter().filter(|(key, value)| before.get(key) != Some(value)) {
        changes.put(format!("{prefix}{key}"), written(value));
    }
    for key in before.keys().filter(|key| !now.contains_key(key)) {
        changes.remove(format!("{prefix}{key}"));
    }
}

fn written(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("records have texts and numbers as keys")
}

fn read<T: DeserializeOwned>(key: &str, record: &[u8]) -> Result<T, TableError> {
    serde_json::from_slice(record).map_err(|error| TableError { key: key.to_owned(), why: error.to_string() })
}
