//! Where services are kept: a store of the SDK in a folder, opened by one scheduler at a time.
//!
//! An earlier version kept one service in a file of JSON. Such a folder is read once, and is then as any other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use apportion_sdk::{
    AgentId, FrameworkId, TaskId,
    store::{Embedded, Presence, Store, StoreError},
};
use serde::Deserialize;
use tokio::{sync::watch, task::spawn_blocking, time::sleep};

use crate::{
    api::SOCKET,
    spec::{REPLICAS_MAX, Spec},
    state::{App, Placed, Scaled, Table, TableError},
};

/// The file of the earlier version.
const EARLIER: &str = "service.json";

/// Who the framework is, for whoever wants to end it while its scheduler has the store open.
const FRAMEWORK: &str = "framework";

/// Between two looks whether a folder is free.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Between two looks whether what is kept is still there.
const LOOK_PAUSE: Duration = Duration::from_millis(500);

/// Why services cannot be kept, or what was kept cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record is not what was written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A file beside the store cannot be used.
    #[error("cannot use {}: {source}; name a folder that this user may write to", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file of the earlier version is not what that wrote.
    #[error(
        "{} is damaged: {why}; its replicas run on until the failover time-out, `apportion frameworks` lists them; remove the \
         file to begin anew",
        file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file of the earlier version is of another service.
    #[error("{} is the state of service `{found}`, not of `{service}`; use another --state", file.display())]
    OtherService {
        /// The file.
        file: PathBuf,
        /// Its service.
        found: String,
        /// The one that was to be run.
        service: String,
    },
}

impl KeepError {
    /// Whether another folder would do: this one is in use, somebody else's, or none.
    pub fn is_of_the_folder(&self) -> bool {
        use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
        match self {
            KeepError::Store(StoreError::InUse { .. } | StoreError::OtherOwner { .. })
            | KeepError::OtherService { .. } => true,
            KeepError::Store(StoreError::Io { source, .. }) | KeepError::Io { source, .. } => {
                matches!(source.kind(), PermissionDenied | NotADirectory | ReadOnlyFilesystem)
            }
            _ => false,
        }
    }
}

/// A folder for the state of a framework.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
    owner: String,
    /// The one service of the framework, if it has one only.
    only: Option<Arc<Spec>>,
}

impl Folder {
    /// The folder of a framework that runs this one service.
    pub fn of_service(path: PathBuf, spec: Arc<Spec>) -> Self {
        Self { path, owner: format!("service {}", spec.name), only: Some(spec) }
    }

    /// The folder of a framework for many.
    pub fn of_services(path: PathBuf, framework: &str) -> Self {
        Self { path, owner: format!("services {framework}"), only: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it for a scheduler, which must be the only one, and reads what is there.
    pub fn open(&self) -> Result<(Embedded, Table), KeepError> {
        let mut store = Embedded::open(&self.path, &self.owner)?;
        let mut table = Table::load(store.load()?)?;
        let earlier = self.path.join(EARLIER);
        if table == Table::default()
            && let Some(spec) = &self.only
            && let Some(found) = read_earlier(&earlier, spec)?
        {
            store.save(found.changes_since(&table))?;
            table = found;
        }
        // Only now: what was read is stored. It is gone also when the one before was killed here.
        self.forget_file(EARLIER)?;
        Ok((store, table))
    }

    /// Opens it as soon as no other scheduler uses it, or fails as [`open`](Folder::open) does when one still does after that time. None when
    /// this was no longer wished before.
    pub async fn open_within(
        self,
        timeout: Duration,
        mut ending: watch::Receiver<bool>,
    ) -> Result<Option<(Embedded, Table)>, KeepError> {
        let waited = sleep(timeout);
        tokio::pin!(waited);
        loop {
            let folder = self.clone();
            let opened = spawn_blocking(move || folder.open()).await.expect("opening does not panic");
            match opened {
                Err(KeepError::Store(StoreError::InUse { .. })) if !waited.is_elapsed() => {}
                done => return done.map(Some),
            }
            tokio::select! {
                // Whoever could have asked for the end may be gone, and then nobody does.
                Ok(_) = ending.wait_for(|ending| *ending) => return Ok(None),
                () = sleep(RETRY_PAUSE) => {}
                () = &mut waited => {}
            }
        }
    }

    /// Tells whether what is kept is still there. To be asked by who has it open.
    pub fn presence(&self) -> Result<Presence, KeepError> {
        Ok(Presence::of(&self.path)?)
    }

    /// Notes who the framework is, so that it can be ended by others too.
    pub fn note(&self, framework_id: &str) -> Result<(), KeepError> {
        let path = self.path.join(FRAMEWORK);
        fs::write(&path, framework_id).map_err(|source| KeepError::Io { path, source })
    }

    /// Who the framework is, be its scheduler running or not; none when it never ran, or was stopped.
    pub fn framework(&self) -> Result<Option<FrameworkId>, KeepError> {
        if !self.path.exists() {
            return Ok(None);
        }
        match self.open() {
            Ok((_, table)) => Ok(table.framework_id),
            Err(KeepError::Store(StoreError::InUse { .. })) => {
                let text = fs::read_to_string(self.path.join(FRAMEWORK)).unwrap_or_default();
                Ok(FrameworkId::new(text.trim()).ok())
            }
            Err(error) => Err(error),
        }
    }

    /// Forgets the framework and its tasks, which are gone, and keeps what is to be run: a new framework takes its place.
    pub fn begin_anew(&self) -> Result<(), KeepError> {
        let (mut store, table) = self.open()?;
        store.save(table.clone().without_framework().changes_since(&table))?;
        self.forget_file(FRAMEWORK)
    }

    /// Forgets everything, descriptions too.
    pub fn forget(&self) -> Result<(), KeepError> {
        let store = Embedded::open(&self.path, &self.owner)?;
        self.forget_file(EARLIER)?;
        self.forget_file(FRAMEWORK)?;
        self.forget_file(SOCKET)?;
        Ok(store.remove()?)
    }

    fn forget_file(&self, name: &str) -> Result<(), KeepError> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(KeepError::Io { path, source }),
            _ => Ok(()),
        }
    }
}

/// Waits until a file that was there is there no more, or is there again.
pub(crate) async fn changed(presence: &Presence, from: bool) {
    loop {
        sleep(LOOK_PAUSE).await;
        let asked = presence.clone();
        // A disk may take its time.
        if spawn_blocking(move || asked.is_there()).await.is_ok_and(|is_there| is_there != from) {
            return;
        }
    }
}

/// The state of one service as the earlier version wrote it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Earlier {
    version: u32,
    service: String,
    framework_id: Option<FrameworkId>,
    #[serde(default)]
    scaled: Option<Scaled>,
    launches: u64,
    placed: BTreeMap<u32, EarlierPlaced>,
    strays: BTreeSet<TaskId>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EarlierPlaced {
    task_id: TaskId,
    agent_id: AgentId,
    hostname: String,
    ports: Vec<u16>,
}

/// What the earlier version left, if anything. It did not write down what its replicas were made from, so they count as made from the
/// description at hand.
fn read_earlier(file: &Path, spec: &Arc<Spec>) -> Result<Option<Table>, KeepError> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(KeepError::Io { path: file.to_owned(), source }),
    };
    let damaged = |why: String| KeepError::Damaged { file: file.to_owned(), why };
    let earlier: Earlier = serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    if earlier.version != 1 {
        return Err(damaged(format!("version {} instead of 1", earlier.version)));
    }
    if let Some(scaled) = earlier.scaled.filter(|scaled| scaled.replicas > REPLICAS_MAX) {
        return Err(damaged(format!("{} replicas instead of at most {REPLICAS_MAX}", scaled.replicas)));
    }
    if earlier.service != spec.name {
        let (found, service) = (earlier.service, spec.name.clone());
        return Err(KeepError::OtherService { file: file.to_owned(), found, service });
    }
    let mut app = App { started: true, scaled: earlier.scaled, ..App::new(Arc::clone(spec)) };
    let revision = app.target;
    app.completed();
    let placed = earlier.placed.into_iter().map(|(replica, placed)| {
        let EarlierPlaced { task_id, agent_id, hostname, ports } = placed;
        let app = spec.name.clone();
        let place = Arc::default();
        (task_id, Placed { app, replica, revision, agent_id, hostname, place, ports, doomed: false })
    });
    Ok(Some(Table {
        framework_id: earlier.framework_id,
        launches: earlier.launches,
        placed: placed.collect(),
        strays: earlier.strays,
        apps: BTreeMap::from([(spec.name.clone(), app)]),
        scaling: BTreeMap::new(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER_TEXT: &str = r#"{"version":1,"service":"web","framework_id":"f1","scaled":{"described":1,"replicas":5},"launches":7,
        "placed":{"2":{"task_id":"web.2.7","agent_id":"a1","hostname":"one","ports":[31000]}},"strays":["web.1.3"]}"#;

    fn folder(path: &Path) -> Folder {
        Folder::of_service(path.to_owned(), Arc::new(Spec::new("web", ["serve"])))
    }

    #[test]
    fn the_folder_of_an_earlier_version_is_taken_over_once() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(EARLIER), EARLIER_TEXT).unwrap();
        let (store, table) = folder(dir.path()).open().unwrap();
        assert!(!dir.path().join(EARLIER).exists());
        assert_eq!(table.framework_id.as_ref().unwrap().as_str(), "f1");
        let app = &table.apps["web"];
        assert_eq!((app.replicas(), app.good.as_slice(), table.launches), (5, &[1][..], 7));
        let placed = &table.placed[&TaskId::new("web.2.7").unwrap()];
        assert_eq!(
            (placed.replica, placed.revision, placed.addresses()),
            (2, 1, vec!["one:31000".to_owned()])
        );
        assert_eq!(table.strays.len(), 1);
        drop(store);
        // One that is left behind by a process that was killed while it took it over says nothing any more.
        fs::write(dir.path().join(EARLIER), "not read").unwrap();
        assert_eq!(folder(dir.path()).open().unwrap().1, table);
    }

    #[test]
    fn what_an_earlier_version_did_not_write_is_refused_with_the_remedy_and_left_there() {
        let bad = [
            EARLIER_TEXT[..EARLIER_TEXT.len() / 2].to_owned(),
            String::new(),
            EARLIER_TEXT.replace("\"version\":1", "\"version\":2"),
            EARLIER_TEXT.replace("\"launches\":7", "\"launches\":-7"),
            EARLIER_TEXT.replace("\"replicas\":5", "\"replicas\":1001"),
            EARLIER_TEXT.replace("web.2.7", "web/2"),
        ];
        for text in bad {
            assert_ne!(text, EARLIER_TEXT);
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join(EARLIER);
            fs::write(&file, &text).unwrap();
            let message = folder(dir.path()).open().unwrap_err().to_string();
            assert!(
                message.contains("service.json is damaged: ") && message.contains("remove the file"),
                "{message}"
            );
            assert_eq!(fs::read_to_string(file).unwrap(), text);
        }
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(EARLIER), EARLIER_TEXT).unwrap();
        let other = Folder::of_service(dir.path().to_owned(), Arc::new(Spec::new("shop", ["serve"])));
        let message = other.open().unwrap_err().to_string();
        assert!(message.contains("service.json is the state of service `web`, not of `shop`"), "{message}");
    }

    #[test]
    fn who_the_framework_is_can_be_read_while_a_scheduler_has_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(&dir.path().join("deep"));
        assert_eq!(folder.framework().unwrap(), None);
        let (mut store, table) = folder.open().unwrap();
        let framework_id = FrameworkId::new("f1").ok();
        let subscribed = Table { framework_id: framework_id.clone(), ..table.clone() };
        store.save(subscribed.changes_since(&table)).unwrap();
        folder.note("f1").unwrap();
        assert_eq!(folder.framework().unwrap(), framework_id, "in use");
        drop(store);
        assert_eq!(folder.framework().unwrap(), framework_id);
        folder.forget().unwrap();
        assert!(!folder.path().exists());
    }

    #[test]
    fn a_framework_that_was_removed_takes_its_tasks_with_it_and_leaves_what_is_to_be_run() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(EARLIER), EARLIER_TEXT).unwrap();
        let folder = folder(dir.path());
        let (store, before) = folder.open().unwrap();
        assert_eq!((before.placed.len(), before.strays.len()), (1, 1));
        folder.note("f1").unwrap();
        drop(store);
        folder.begin_anew().unwrap();
        let (store, after) = folder.open().unwrap();
        assert_eq!((after.framework_id.as_ref(), after.placed.len(), after.strays.len()), (None, 0, 0));
        assert_eq!((&after.apps, after.launches), (&before.apps, 7), "no id is used twice");
        drop(store);
        assert_eq!(folder.framework().unwrap(), None);
    }

    #[test]
    fn a_folder_that_cannot_be_had_is_a_mistake_of_whoever_named_it() {
        let dir = tempfile::tempdir().unwrap();
        let held = folder(dir.path()).open().unwrap();
        let in_use = crate::ServiceError::from(folder(dir.path()).open().unwrap_err());
        assert_eq!(in_use.exit_code(), crate::run::USAGE, "{in_use}");
        drop(held);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let no_folder = crate::ServiceError::from(folder(&file.join("state")).open().unwrap_err());
        assert_eq!(no_folder.exit_code(), crate::run::USAGE, "{no_folder}");
        let full = StoreError::Io { path: file, source: io::ErrorKind::StorageFull.into() };
        assert_eq!(crate::ServiceError::from(KeepError::from(full)).exit_code(), crate::run::FAILED);
    }

    #[tokio::test]
    async fn a_folder_that_is_taken_away_is_noticed_and_so_is_its_return() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(&dir.path().join("state"));
        assert!(folder.presence().is_err(), "there is nothing yet");
        let held = folder.open().unwrap();
        let presence = folder.presence().unwrap();
        let aside = dir.path().join("aside");
        fs::rename(folder.path(), &aside).unwrap();
        changed(&presence, true).await;
        fs::rename(&aside, folder.path()).unwrap();
        changed(&presence, false).await;
        drop(held);
        folder.forget().unwrap();
        changed(&presence, true).await;
    }

    #[tokio::test]
    async fn one_that_waits_for_the_folder_ends_when_it_is_asked_to() {
        let dir = tempfile::tempdir().unwrap();
        let folder = folder(dir.path());
        let held = folder.open().unwrap();
        let (end, ending) = watch::channel(false);
        let waits = tokio::spawn(folder.clone().open_within(Duration::from_secs(3600), ending.clone()));
        end.send(true).unwrap();
        assert!(waits.await.unwrap().unwrap().is_none());
        let late = folder.clone().open_within(Duration::ZERO, watch::channel(false).1).await;
        assert!(matches!(late, Err(KeepError::Store(StoreError::InUse { .. }))), "{late:?}");
        drop(held);
        assert!(folder.open_within(Duration::ZERO, watch::channel(false).1).await.unwrap().is_some());
    }
}
