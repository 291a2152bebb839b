//! Executors: for each a socket in its container, by which it hears of the tasks that it is to run, and says what becomes of them.
//!
//! An executor's folder in the work directory is mounted in its container. It holds a token, which is the executor's for the life of the
//! container, and the socket, which is another one for each process of the agent. That there is a folder says that a container is an
//! executor's: a later process of the agent listens in it again.

mod codec;
mod listener;
mod place;
mod rpc;
mod service;
mod streams;
mod within;

use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use apportion_agent_core::{ContainerId, Event};
use apportion_containerizer::{AGENT_FOLDER, Mount, MountSource};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::{place::Place, service::Service};
pub(crate) use self::{
    streams::{Heard, Streams},
    within::{is_within, tasks_in},
};
use crate::paths::Paths;

/// Messages of all executors that wait for the actor; more wait in their connections.
pub(crate) const HEARD_MAX: usize = 64;

/// How long the end of a container waits for what its executor has said before.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// The sockets of this agent's executors.
pub(crate) struct Executors {
    paths: Paths,
    heard: mpsc::Sender<Heard>,
    /// Names streams.
    numbers: Arc<AtomicU64>,
    listening: Mutex<HashMap<ContainerId, Listening>>,
}

/// What the container of an executor is given.
pub(crate) struct Given {
    pub(crate) mount: Mount,
    pub(crate) env: [(&'static str, String); 2],
}

/// That this process listens; dropped, it does no more.
struct Listening {
    /// Those that read what is said there.
    readers: TaskTracker,
    _over: DropGuard,
}

impl Executors {
    /// Removes what is left of executors whose container is not among these any more.
    pub(crate) fn open(
        paths: Paths,
        heard: mpsc::Sender<Heard>,
        containers: &BTreeSet<String>,
    ) -> io::Result<Self> {
        match fs::read_dir(paths.executors()) {
            Ok(entries) => {
                for entry in entries {
                    let entry = entry?;
                    if !entry.file_name().to_str().is_some_and(|name| containers.contains(name)) {
                        fs::remove_dir_all(entry.path())?;
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let (numbers, listening) = (Arc::new(AtomicU64::new(0)), Mutex::default());
        Ok(Self { paths, heard, numbers, listening })
    }

    fn place(&self, container_id: &ContainerId) -> Place {
        Place::new(self.paths.executor(&container_id.0))
    }

    /// Makes the folder of a container that is to be launched and listens there; returns what the container is to see of it. Blocks.
    pub(crate) fn make(&self, container_id: &ContainerId) -> io::Result<Given> {
        let place = self.place(container_id);
        place.make()?;
        self.listen(container_id, &place)?;
        let (folder, target) = (place.folder().to_owned(), PathBuf::from(AGENT_FOLDER));
        let env =
            [("APPORTION_EXECUTOR_SOCKET", place::SOCKET), ("APPORTION_EXECUTOR_TOKEN_FILE", place::TOKEN)];
        let env = env.map(|(name, file)| (name, format!("{AGENT_FOLDER}/{file}")));
        Ok(Given { mount: Mount { source: MountSource::Agent(folder), target, writable: false }, env })
    }

    /// Listens again for a container of an earlier process of the agent, if it is an executor's.
    pub(crate) fn resume(&self, container_id: &ContainerId) -> io::Result<()> {
        let place = self.place(container_id);
        if place.folder().is_dir() { self.listen(container_id, &place) } else { Ok(()) }
    }

    fn listen(&self, container_id: &ContainerId, place: &Place) -> io::Result<()> {
        let service = Service {
            container_id: container_id.clone(),
            token: place.token()?,
            heard: self.heard.clone(),
            numbers: self.numbers.clone(),
            readers: TaskTracker::new(),
        };
        let (over, readers) = (CancellationToken::new(), service.readers.clone());
        listener::serve(place.bind()?, service, over.clone());
        let listening = Listening { readers, _over: over.drop_guard() };
        self.with(|all| all.insert(container_id.clone(), listening));
        Ok(())
    }

    /// Tells the end of a container, and that behind all that its executor has said, if it is one's. Nobody listens to it any more.
    pub(crate) async fn tell_end(&self, container_id: &ContainerId, end: Event) -> Result<(), Event> {
        let Some(listening) = self.with(|all| all.remove(container_id)) else { return Err(end) };
        listening.readers.close();
        // With its processes its connections have ended, once what is in them is read.
        if timeout(READ_TIMEOUT, listening.readers.wait()).await.is_err() {
            tracing::warn!(container = %container_id, "what its executor has said last is not read yet; that is not waited for");
        }
        // An actor that has ended does not care any more.
        let _ = self.heard.send(Heard::End(Box::new(end))).await;
        Ok(())
    }

    /// Removes what is kept of a container of which nothing is left. Nothing for others. Blocks.
    pub(crate) fn remove(&self, container_id: &ContainerId) -> io::Result<()> {
        self.with(|all| all.remove(container_id));
        match fs::remove_dir_all(self.place(container_id).folder()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<ContainerId, Listening>) -> T) -> T {
        f(&mut self.listening.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests;
