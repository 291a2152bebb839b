//! Holds tasks on the host's network to the ports that they hold, by looking from time to time at where they listen.
//!
//! Only TCP listens, and only ports count that the agent offers: others it gives to nobody, and the host's own firewall is for them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    sync::Arc,
    time::Duration,
};

use apportion_agent_core::{ContainerId, Event, View};
use apportion_containerizer::{self as containerizer, Containerizer};
use apportion_types::{TaskState, container::Limitation, resources::Ranges};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use crate::executors::{is_within, tasks_in};

/// The state of a socket that listens, as the kernel writes it.
const LISTEN: &str = "0A";

/// A container on the host's network.
struct Watched {
    container_id: ContainerId,
    held: Ranges,
    /// It is an executor's: what it holds changes while it runs.
    changes: bool,
}

/// Ports at which containers listened that they did not hold.
type Suspected = BTreeMap<ContainerId, BTreeSet<u16>>;

/// Looks by turns, for as long as somebody listens. A container that listens where it may not is told of in each turn until it has ended.
pub(crate) async fn run(
    interval: Duration,
    containerizer: Arc<dyn Containerizer>,
    view: watch::Receiver<Arc<View>>,
    events: mpsc::UnboundedSender<Event>,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut suspected = Suspected::new();
    while !events.is_closed() {
        ticks.tick().await;
        let (watched, offered) = watched(&view.borrow());
        if watched.is_empty() || offered.is_empty() {
            continue;
        }
        let listening = match tokio::task::spawn_blocking(move || listening(&offered)).await {
            Ok(Ok(listening)) => listening,
            Ok(Err(error)) => {
                tracing::warn!(%error, "where tasks listen cannot be read; their ports are not enforced in this turn");
                continue;
            }
            // A panic of it was told already.
            Err(_) => continue,
        };
        let mut suspects = Suspected::new();
        for Watched { container_id, held, changes } in watched {
            let foreign: BTreeMap<u64, u16> = listening
                .iter()
                .filter(|(_, port)| !holds(&held, **port))
                .map(|(at, port)| (*at, *port))
                .collect();
            if foreign.is_empty() {
                continue;
            }
            let id = containerizer::ContainerId(container_id.0.clone());
            // One that has ended meanwhile listens nowhere.
            let Ok(processes) = containerizer.processes(&id).await else { continue };
            let found = tokio::task::spawn_blocking(move || {
                let sockets = processes.into_iter().flat_map(sockets);
                sockets.filter_map(|socket| foreign.get(&socket).copied()).collect()
            });
            let Ok(found) = found.await else { continue };
            if let Some(port) = exceeded(&found, suspected.get(&container_id), changes) {
                let limitation = Limitation::Port { port };
                // An actor that has ended does not care any more.
                let _ = events.send(Event::LimitExceeded { container_id: container_id.clone(), limitation });
            }
            suspects.insert(container_id, found);
        }
        suspected = suspects;
    }
}

/// The port for which a container is to end, of those that it did not hold when the turn began. One whose ports change may hold them by now:
/// only what was found in the turn before as well counts.
fn exceeded(found: &BTreeSet<u16>, before: Option<&BTreeSet<u16>>, changes: bool) -> Option<u16> {
    let sure = |port: &&u16| !changes || before.is_some_and(|before| before.contains(port));
    found.iter().find(sure).copied()
}

/// Tasks that run on the host's network, those of earlier processes too, and the ports that are offered here.
fn watched(view: &View) -> (Vec<Watched>, Ranges) {
    let running = |state| matches!(state, TaskState::Running | TaskState::Killing);
    let tasks = view
        .tasks
        .iter()
        .filter(|(_, task)| running(task.state) && task.info.own_network().is_none() && !is_within(task));
    let watched = tasks.map(|(key, task)| {
        let mut held = Ranges::default();
        tasks_in(view, key, task)
            .filter_map(|task| task.info.resources.ports())
            .for_each(|ports| held.add(&ports));
        Watched { container_id: task.container_id.clone(), held, changes: task.info.is_executor() }
    });
    (watched.collect(), view.resources.ports().unwrap_or_default().into_owned())
}

fn holds(ports: &Ranges, port: u16) -> bool {
    ports.contains(&Ranges::single(port.into(), port.into()))
}

/// The sockets of this machine that listen on one of these ports, by their numbers.
fn listening(ports: &Ranges) -> io::Result<BTreeMap<u64, u16>> {
    let mut found = BTreeMap::new();
    for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
        let text = match fs::read_to_string(path) {
            // A kernel without version 6 of the protocol.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        found.extend(text.lines().skip(1).filter_map(listener).filter(|(_, port)| holds(ports, *port)));
    }
    Ok(found)
}

/// The number and the port of a socket that listens, from its line.
fn listener(line: &str) -> Option<(u64, u16)> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, ..] = fields[..] else { return None };
    let (_, port) = local.rsplit_once(':')?;
    let inode = fields.get(9)?.parse().ok()?;
    (state == LISTEN).then_some((inode, u16::from_str_radix(port, 16).ok()?))
}

/// The sockets that a process has open; none of one that the agent may not look at.
fn sockets(pid: i32) -> impl Iterator<Item = u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let target = fs::read_link(entry.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_found_by_its_port_and_by_its_process() {
        let (one, other) =
            (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let found = listening(&Ranges::single(port(&one).into(), port(&one).into())).unwrap();
        let [(socket, found)] = found.into_iter().collect::<Vec<_>>()[..] else { panic!("one listens") };
        assert_eq!(found, port(&one));
        assert_ne!(found, port(&other));
        let mine: Vec<u64> = sockets(std::process::id() as i32).collect();
        assert!(mine.contains(&socket));
        assert_eq!(sockets(-1).count(), 0);
    }

    #[test]
    fn what_changes_while_it_runs_is_looked_at_twice() {
        let (none, one, other) = (BTreeSet::new(), BTreeSet::from([31000]), BTreeSet::from([31000, 31001]));
        assert_eq!(exceeded(&one, None, false), Some(31000));
        assert_eq!(exceeded(&one, None, true), None);
        assert_eq!(exceeded(&other, Some(&none), true), None);
        assert_eq!(exceeded(&other, Some(&BTreeSet::from([31001])), true), Some(31001));
        assert_eq!(exceeded(&none, Some(&one), true), None);
    }

    #[test]
    fn only_who_listens_counts() {
        let line = |state: &str| {
            format!(
                "   1: 0100007F:7918 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0        0 4711 1 0000000000000000 100 0 0 10 0"
            )
        };
        assert_eq!(listener(&line("0A")), Some((4711, 31000)));
        assert_eq!(listener(&line("01")), None);
        assert_eq!(listener("nonsense"), None);
        assert_eq!(listener(""), None);
    }
}
