//! Probes: one question to a running task, and its answer told to the core.

mod command;
mod grpc;
mod http;

use std::{
    collections::HashMap,
    fs::File,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use apportion_agent_core::{ContainerId, Event, ProbeKind};
use apportion_containerizer::Containerizer;
use apportion_types::{
    limits,
    probe::{CheckResult, Probe},
    text::cut,
};
use rustix::io::Errno;
use tokio::{
    net::TcpStream,
    sync::{Semaphore, mpsc},
};
use tokio_util::sync::CancellationToken;

/// How soon is asked again what the agent could not ask for want of a descriptor.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(1);

/// Bytes of what is told of an answer: it becomes a part of a status.
const HEARD_BYTES_MAX: usize = 512;

/// An answer, and the same in words with what is known beside it.
pub(crate) type Answer = (CheckResult, String);

/// What is being asked of the containers of this process.
pub(crate) struct Probes {
    asker: Arc<Asker>,
    /// Ended with its container: nobody waits for its answers any more.
    asked: HashMap<ContainerId, CancellationToken>,
}

struct Asker {
    containerizer: Arc<dyn Containerizer>,
    commands: Semaphore,
    connections: Semaphore,
    events: mpsc::UnboundedSender<Event>,
}

impl Probes {
    pub(crate) fn new(containerizer: Arc<dyn Containerizer>, events: mpsc::UnboundedSender<Event>) -> Self {
        let commands = Semaphore::new(limits::COMMAND_PROBES_MAX);
        let connections = Semaphore::new(limits::CONNECTION_PROBES_MAX);
        let asker = Asker { containerizer, commands, connections, events };
        Self { asker: Arc::new(asker), asked: HashMap::new() }
    }

    /// Asks at this address, where there is one, as soon as fewer questions are under way than may be, and tells the answer once; none when the container is forgotten first.
    pub(crate) fn ask(
        &mut self,
        (container_id, kind, number): (ContainerId, ProbeKind, u64),
        address: Option<IpAddr>,
        probe: Probe,
        timeout: Duration,
    ) {
        let over = self.asked.entry(container_id.clone()).or_default().clone();
        let asker = self.asker.clone();
        tokio::spawn(async move {
            let answer = tokio::select! {
                biased;
                () = over.cancelled() => return,
                () = asker.events.closed() => return,
                answer = asker.ask(&container_id, address, probe, timeout) => answer,
            };
            let (result, heard) = answer;
            let message = cut(heard, HEARD_BYTES_MAX);
            // An actor that has ended does not care any more.
            let _ = asker.events.send(Event::Probed { container_id, kind, number, result, message });
        });
    }

    /// Lets go of what is under way for a container that has ended.
    pub(crate) fn forget(&mut self, container_id: &ContainerId) {
        if let Some(over) = self.asked.remove(container_id) {
            over.cancel();
        }
    }
}

impl Asker {
    async fn ask(
        &self,
        container_id: &ContainerId,
        address: Option<IpAddr>,
        probe: Probe,
        timeout: Duration,
    ) -> Answer {
        let under_way = match probe {
            Probe::Command(_) => &self.commands,
            Probe::Http { .. } | Probe::Tcp { .. } | Probe::Grpc { .. } => &self.connections,
        };
        let _permit = under_way.acquire().await;
        loop {
            let answer = self.ask_once(container_id, address, probe.clone());
            let answer = tokio::time::timeout(timeout, answer).await;
            let answer =
                answer.unwrap_or_else(|_| (CheckResult::Unanswered, format!("no answer within {timeout:?}")));
            // An agent without a free descriptor has asked nobody: that is no answer of the task's.
            if answer.0.is_good() || !is_short() {
                return answer;
            }
            tokio::time::sleep(SHORTAGE_PAUSE).await;
        }
    }

    async fn ask_once(&self, container_id: &ContainerId, address: Option<IpAddr>, probe: Probe) -> Answer {
        let at = SocketAddr::new;
        match (probe, address) {
            (Probe::Command(command), _) => command::ask(&*self.containerizer, container_id, command).await,
            (_, None) => unanswered("its network gave the task no address; let a command ask"),
            (Probe::Http { port, path, headers }, Some(own)) => {
                http::ask(at(own, port), &path, &headers).await
            }
            (Probe::Tcp { port }, Some(own)) => connect(at(own, port)).await,
            (Probe::Grpc { port, service }, Some(own)) => grpc::ask(at(own, port), service).await,
        }
    }
}

/// True while no descriptor can be opened.
fn is_short() -> bool {
    let opened = File::open("/");
    opened.is_err_and(|error| matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)))
}

fn unanswered(why: impl std::fmt::Display) -> Answer {
    (CheckResult::Unanswered, format!("no answer: {why}"))
}

async fn connect(address: SocketAddr) -> Answer {
    match TcpStream::connect(address).await {
        Ok(_) => (CheckResult::Connected(true), format!("connected to port {}", address.port())),
        Err(error) => {
            (CheckResult::Connected(false), format!("no connection to port {}: {error}", address.port()))
        }
    }
}

#[cfg(test)]
mod tests;
