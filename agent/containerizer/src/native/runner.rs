//! Dealing with a container's runner, whichever agent process started it, and with what a killed one left.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use apportion_types::{
    IoLimits,
    container::{Control, Reading, Termination, Usage},
    time::Time,
};
use rustix::process::{Pid, PidfdFlags, kill_process, pidfd_open, pidfd_send_signal};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    time::timeout,
};

use super::{Shared, read, runtime};
use crate::{
    cgroup::{self, CgroupDriver, CgroupError, Controller},
    error::ContainerError,
    folder::{self, Isolation, Order, Pids, Process},
    linux::pidfd,
    procfs,
    spec::{ContainerId, Limits, Signal},
};

/// A runner answers within microseconds, unless the machine is so short of something that it does not run at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Waits for the end of the container, and brings it about where its runner was killed.
pub(super) async fn wait(shared: &Shared, id: &ContainerId) -> Result<Termination, ContainerError> {
    ended(id, &shared.known(id)?).await
}

/// The same, for a folder that need not be a container's.
pub(super) async fn ended(id: &ContainerId, folder: &Path) -> Result<Termination, ContainerError> {
    let pids = claimed(folder)?;
    if let Some(runner) = live(id, &pids)? {
        gone(id, runner).await?;
    }
    if let Some(termination) = read(folder, folder::EXIT)? {
        return Ok(termination);
    }
    give_up(folder).await
}

/// The runner, while it runs.
pub(super) fn live(id: &ContainerId, pids: &Pids) -> Result<Option<Process>, ContainerError> {
    pids.live_runner().map_err(|source| ContainerError::Unseen { id: id.clone(), source })
}

/// Who belongs to the container; a launch that was cut off before its runner started is declared dead.
pub(super) fn claimed(folder: &Path) -> Result<Pids, ContainerError> {
    let path = folder.join(folder::PIDS);
    if let Some(pids) = read(folder, folder::PIDS)? {
        return Ok(pids);
    }
    let written = folder::write_once(&path, &Pids::default());
    written.map_err(|source| ContainerError::State { path, source })?;
    // Ours, or that of a runner which was first.
    Ok(read(folder, folder::PIDS)?.unwrap_or_default())
}

/// Returns when this process has ended; it need not be a child of ours.
async fn gone(id: &ContainerId, process: Process) -> Result<(), ContainerError> {
    let failed = |source| ContainerError::Watch { id: id.clone(), pid: process.pid, source };
    let Some(pidfd) = open(process).map_err(failed)? else { return Ok(()) };
    pidfd::ended(pidfd).await.map_err(failed)
}

/// A descriptor for exactly this process; none if it has ended.
fn open(process: Process) -> io::Result<Option<OwnedFd>> {
    let Some(pid) = Pid::from_raw(process.pid) else { return Ok(None) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // Looked at after the opening: if it is the right one now, the descriptor is the right one's.
        Ok(pidfd) => Ok(process.runs()?.then_some(pidfd)),
        // Some kernels (seen: 6.1) say INVAL of one that was just reaped while its number is still that of a session.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Ends what a killed runner left, and writes the account that it did not write.
async fn give_up(folder: &Path) -> Result<Termination, ContainerError> {
    let order: Option<Order> = read(folder, folder::SPEC)?;
    let usage = match order {
        Some(order) => clear_away(order, folder.to_owned()).await?,
        // The agent was killed before it had written the order: there never was a runner.
        None => Usage::default(),
    };
    let pids: Pids = read(folder, folder::PIDS)?.unwrap_or_default();
    let now = Time::ZERO + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_at = pids.started_at.unwrap_or(now);
    let termination =
        Termination { exit: None, limitation: None, usage, started_at, finished_at: now.max(started_at) };
    let path = folder.join(folder::EXIT);
    folder::write_exit(folder, &termination).map_err(|source| ContainerError::State { path, source })?;
    // Another call may have been first; all say the same.
    Ok(read(folder, folder::EXIT)?.unwrap_or(termination))
}

/// Kills and removes whatever there is of a container without a runner; returns what it had used.
pub(super) async fn clear_away(order: Order, folder: PathBuf) -> Result<Usage, ContainerError> {
    let id = order.spec.id.clone();
    let pids: Pids = read(&folder, folder::PIDS)?.unwrap_or_default();
    let unseen = |source| ContainerError::Unseen { id: id.clone(), source };
    // Process numbers of another boot belong to others.
    let same_boot = pids.are_of_this_boot().map_err(unseen)?;
    if same_boot {
        order.layout.driver().release_io(&order.group);
        for process in pids.init.into_iter().chain(strays(&order, &pids).map_err(unseen)?) {
            // Mostly it is dying already: process 1 is bound to its runner's life.
            if let Some(pidfd) = open(process).map_err(unseen)? {
                let _ = pidfd_send_signal(&pidfd, rustix::process::Signal::KILL);
                gone(&id, process).await?;
            }
        }
    }
    let (layout, group) = (order.layout.clone(), order.group.clone());
    let measured = tokio::task::spawn_blocking(move || {
        let driver = layout.driver();
        cgroup::kill_group(&*driver, &group)?;
        Ok(driver.measured(&group))
    });
    let measured = measured.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    let measured = measured.map_err(unseen)?;
    // It removes the groups with what they have counted. Of another boot it knows nothing.
    if let (Some(oci), Some(runner), true) = (&order.runtime, pids.runner, same_boot) {
        runtime::delete(oci, &folder, runner).await;
    }
    let cleared = tokio::task::spawn_blocking(move || {
        let driver = order.layout.driver();
        let removed = cgroup::remove_group(&*driver, &order.group);
        if order.spec.tethered {
            cgroup::remove_empty_parents(&*driver, &order.group);
        }
        let usage =
            Usage { cpu_us: measured.cpu_us.unwrap_or(0), memory_peak_bytes: measured.memory_peak_bytes };
        removed.map(|_| usage)
    });
    let cleared = cleared.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    cleared.map_err(|e| ContainerError::Cleanup { id, file: e.file, what: e.what, source: e.source })
}

/// Removes the container's cgroups, if any of them was still busy when it ended, and then its folder.
pub(super) async fn remove(id: &ContainerId, folder: &Path) -> Result<(), ContainerError> {
    let (id, folder) = (id.clone(), folder.to_owned());
    let removed = tokio::task::spawn_blocking(move || {
        if let Some(order) = read::<Order>(&folder, folder::SPEC)? {
            let failed = |file, what, source| ContainerError::Cleanup { id: id.clone(), file, what, source };
            match cgroup::remove_group(&*order.layout.driver(), &order.group) {
                Ok(true) => {}
                Ok(false) => {
                    let busy = io::ErrorKind::ResourceBusy.into();
                    return Err(failed(order.group, "removing it".into(), busy));
                }
                Err(e) => return Err(failed(e.file, e.what, e.source)),
            }
        }
        fs::remove_dir_all(&folder).map_err(|source| ContainerError::State { path: folder, source })
    });
    removed.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()))
}

/// Without namespaces: the task, what descends from it, and what is still in its session.
fn strays(order: &Order, pids: &Pids) -> io::Result<Vec<Process>> {
    let Some(task) = pids.task.filter(|_| order.isolation == Isolation::Descent) else {
        return Ok(Vec::new());
    };
    let below = if task.runs()? { procfs::descendants(task.pid)? } else { Default::default() };
    let all = procfs::all()?.into_iter().filter(|(pid, stat)| {
        // A number is not given to a new process while a session of that number has members.
        (stat.session == task.pid && stat.start_ticks >= task.start_ticks) || below.contains_key(pid)
    });
    Ok(all.map(|(pid, stat)| Process { pid, start_ticks: stat.start_ticks }).chain([task]).collect())
}

/// Sends a signal to every process of the container.
pub(super) async fn signal(shared: &Shared, id: &ContainerId, signal: Signal) -> Result<(), ContainerError> {
    let folder = shared.known(id)?;
    let word = match signal {
        Signal::Term => "term",
        Signal::Kill => "kill",
    };
    let error = match ask(&folder, word).await {
        Ok(_) => return Ok(()),
        // It is this process that cannot ask.
        Err(source) if procfs::is_shortage(&source) => {
            return Err(ContainerError::Unresponsive { id: id.clone(), source });
        }
        Err(error) => error,
    };
    let pids: Pids = read(&folder, folder::PIDS)?.unwrap_or_default();
    match live(id, &pids)? {
        // It has ended, or is being ended with its runner.
        None => Ok(()),
        // It is just ending: the socket goes before the process.
        Some(_) if folder.join(folder::EXIT).exists() => Ok(()),
        // A runner that does not answer still is the one whose death ends the container; the exit status is lost.
        Some(runner) if signal == Signal::Kill => {
            tracing::warn!(container = %id, %error, "the runner does not answer; killing it and its container");
            Pid::from_raw(runner.pid)
                .map_or(Ok(()), |pid| kill_process(pid, rustix::process::Signal::KILL))
                .or_else(|e| match e {
                    rustix::io::Errno::SRCH => Ok(()),
                    e => Err(ContainerError::Unresponsive { id: id.clone(), source: e.into() }),
                })
        }
        Some(_) => Err(ContainerError::Unresponsive { id: id.clone(), source: error }),
    }
}

/// Writes other limits into the groups of a running container. Its runner reads there what it must know of them, so that one of an
/// earlier version is as good.
pub(super) async fn limit(shared: &Shared, id: &ContainerId, limits: Limits) -> Result<(), ContainerError> {
    let folder = shared.known(id)?;
    let order: Option<Order> = read(&folder, folder::SPEC)?;
    let pids: Pids = read(&folder, folder::PIDS)?.unwrap_or_default();
    let Some(order) = order else { return Ok(()) };
    if limits.cores.is_some() && !order.layout.sets(Controller::Cpuset, Control::Cpuset) {
        tracing::warn!(container = %id, "runs on all processors, also on those that a task has for itself: it was started by an agent that could not hold it to some; start its task anew");
    }
    let (of, path) = (pids.clone(), folder.clone());
    let limited = tokio::task::spawn_blocking(move || {
        let is_to_end = || folder::is_ending(&path) || of.live_runner().is_ok_and(|runner| runner.is_none());
        write_limits(&*order.layout.driver(), &order.group, limits, is_to_end)
    });
    match limited.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())) {
        // Its groups go before its runner.
        Err(_) if live(id, &pids)?.is_none() || folder.join(folder::EXIT).exists() => Ok(()),
        Err(e) => Err(ContainerError::Limit { id: id.clone(), file: e.file, what: e.what, source: e.source }),
        Ok(()) => Ok(()),
    }
}

/// Writes limits into a group, but for those on the use of disks where it is to end: they were ended for that, and its death would wait for what
/// it had asked of a disk.
fn write_limits(
    driver: &dyn CgroupDriver,
    group: &Path,
    limits: Limits,
    is_to_end: impl Fn() -> bool,
) -> Result<(), CgroupError> {
    let io = if is_to_end() { IoLimits::NONE } else { limits.io };
    let limited = driver.limit(group, &Limits { io, ..limits });
    // Whoever ends it says so first: what was said too late to be seen above is seen here, or what is set is ended after it.
    if is_to_end() {
        driver.release_io(group);
    }
    limited
}

/// What the container uses, as its runner says, or has used in all.
pub(super) async fn usage(shared: &Shared, id: &ContainerId) -> Result<Reading, ContainerError> {
    let folder = shared.known(id)?;
    let answer = ask(&folder, "usage").await;
    if let Ok(line) = answer.as_ref()
        && let Ok(reading) = serde_json::from_str(line)
    {
        return Ok(reading);
    }
    let pids: Pids = read(&folder, folder::PIDS)?.unwrap_or_default();
    if live(id, &pids)?.is_some() && !folder.join(folder::EXIT).exists() {
        let source = answer.err().unwrap_or_else(|| io::ErrorKind::InvalidData.into());
        return Err(ContainerError::Unresponsive { id: id.clone(), source });
    }
    Ok(wait(shared, id).await?.usage.into())
}

/// The processes of a container that runs: those in its cgroups, or where it has none, those below its process 1.
pub(super) async fn processes(shared: &Shared, id: &ContainerId) -> Result<Vec<i32>, ContainerError> {
    let folder = shared.known(id)?;
    let order: Option<Order> = read(&folder, folder::SPEC)?;
    let pids: Pids = read(&folder, folder::PIDS)?.unwrap_or_default();
    let (Some(order), Some(_)) = (order, live(id, &pids)?) else { return Ok(Vec::new()) };
    let found = tokio::task::spawn_blocking(move || {
        let grouped = order.layout.driver().processes(&order.group)?;
        match pids.init.filter(|_| grouped.is_empty()) {
            Some(init) if init.runs()? => Ok(procfs::descendants(init.pid)?.into_keys().collect()),
            _ => Ok(grouped),
        }
    });
    let found = found.await.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic()));
    found.map_err(|source| ContainerError::Unseen { id: id.clone(), source })
}

/// Says a word to the runner, and returns its answer.
async fn ask(folder: &Path, word: &str) -> io::Result<String> {
    let talk = async {
        // Through the open folder, because a socket's path must be shorter than a file's.
        let open = File::open(folder)?;
        let path = format!("/proc/self/fd/{}/{}", open.as_raw_fd(), folder::SOCKET);
        let mut stream = UnixStream::connect(path).await?;
        stream.write_all(format!("{word}\n").as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        if line.is_empty() || line.starts_with("error") {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the connection was closed without an answer",
            ));
        }
        Ok(line)
    };
    timeout(ANSWER_TIMEOUT, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::cgroup::{Disk, V2};

    const LIMITS: Limits = Limits {
        cpus_request_milli: 1_000,
        cpus_limit_milli: None,
        memory_request_bytes: 0,
        memory_limit_bytes: None,
        swap_max_bytes: 0,
        pids_max: Some(9),
        io: IoLimits { write_bytes_per_second: Some(1 << 20), ..IoLimits::NONE },
        cores: None,
        huge_pages: apportion_types::HugePages::NONE,
    };

    /// What is in force of the use of the disk, and of the number of processes, when the container turns out to end at that look.
    fn limited(ends_at: Option<usize>) -> [String; 2] {
        let dir = tempfile::tempdir().unwrap();
        let files = ["io.max", "pids.max"].map(|name| dir.path().join(name));
        files.iter().for_each(|file| fs::write(file, "").unwrap());
        let controllers = [Controller::Io, Controller::Pids].into();
        let driver = V2::new(dir.path().to_owned(), controllers, Default::default())
            .limiting(Some(Disk { major: 8, minor: 16 }));
        let looks = Cell::new(0);
        let is_to_end = || {
            looks.set(looks.get() + 1);
            ends_at.is_some_and(|at| at <= looks.get())
        };
        write_limits(&driver, Path::new(""), LIMITS, is_to_end).unwrap();
        files.map(|file| fs::read_to_string(file).unwrap())
    }

    #[test]
    fn the_use_of_disks_is_not_limited_again_of_what_is_to_end() {
        let released = "8:16 rbps=max wbps=max riops=max wiops=max";
        let [io, pids] = limited(None);
        assert_eq!((io.as_str(), pids.as_str()), ("8:16 rbps=max wbps=1048576 riops=max wiops=max", "10"));
        assert_eq!(limited(Some(1)), [released, "10"]);
        assert!(limited(Some(2))[0].starts_with(released), "it began to end meanwhile");
    }

    #[test]
    fn what_is_to_end_is_found_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!folder::is_ending(dir.path()));
        (0..2).for_each(|_| folder::write_ending(dir.path()).unwrap());
        assert!(folder::is_ending(dir.path()));
    }
}
