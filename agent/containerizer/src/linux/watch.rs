//! The runner's one loop: from the task's start to the end of the container.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Instant,
};

use apportion_types::{
    container::{Exit, Limitation, Reading, Termination, Usage},
    time::Time,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{Signal, pidfd_send_signal},
};

use super::{
    birth::{Life, Parts},
    note, oci,
    output::Outputs,
    server::{Request, Server},
    sys, tree,
    wire::{self, Heard, Word},
};
use crate::{
    cgroup::{self, CgroupDriver, Measured, MemoryWatch, kill_group, remove_group},
    folder::{self, Order},
    procfs,
};

/// A running container, as its runner sees it.
pub(super) struct Container {
    order: Order,
    driver: Box<dyn CgroupDriver>,
    init: i32,
    pidfd: OwnedFd,
    /// None once the end was learned.
    end: Option<End>,
    runtime: Option<oci::Runtime>,
    own_kernel: bool,
    signals: OwnedFd,
    /// Closed once the agent was seen to end.
    tether: Option<OwnedFd>,
    memory: Option<MemoryWatch>,
    outputs: Outputs,
    started_at: Time,
    started: Instant,
    ended: Option<(Exit, Time)>,
    limit_exceeded: bool,
    /// What was seen while it ran. The kernel forgets what processes had used that it kills with their namespace.
    seen: Usage,
}

/// How the end of a container's task is learned.
pub(super) enum End {
    /// Its process 1 says so here.
    Told(OwnedFd),
    /// It is a child of this process.
    Reaped { task: i32, pidfd: OwnedFd },
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            End::Told(descriptor) | End::Reaped { pidfd: descriptor, .. } => descriptor.as_fd(),
        }
    }
}

/// What a poll showed.
#[derive(Default)]
struct Ready {
    init: bool,
    end: bool,
    signals: bool,
    tether: bool,
    memory: bool,
    /// Those of the outputs, then those of the server.
    others: Vec<bool>,
}

impl Container {
    pub(super) fn new(order: Order, driver: Box<dyn CgroupDriver>, life: Life, parts: Parts) -> Self {
        let Life { init, pidfd, end, runtime, own_kernel } = life;
        let Parts { signals, tether, memory, outputs, started_at, started } = parts;
        Container {
            order,
            driver,
            init,
            pidfd,
            end: Some(end),
            runtime,
            own_kernel,
            signals,
            tether,
            memory,
            outputs,
            started_at,
            started,
            ended: None,
            limit_exceeded: false,
            seen: Usage::default(),
        }
    }

    /// Watches the container to its end, then leaves the account of it in the folder and removes everything else.
    pub(super) fn watch(mut self, mut server: Server) {
        loop {
            let ready = self.poll(&server);
            if ready.end {
                self.learn_end();
            }
            if ready.init {
                break;
            }
            if ready.memory {
                self.look_at_memory();
            }
            if ready.tether {
                // Nothing is ever written there: it is readable when its other end is gone, with the agent.
                self.tether = None;
                self.kill();
            }
            if ready.signals {
                sys::drain_signals(self.signals.as_fd());
                self.term();
            }
            let (outputs, clients) = ready.others.split_at(self.outputs.count().min(ready.others.len()));
            self.outputs.keep(outputs);
            server.serve(clients, &mut |request| self.answer(request));
        }
        self.finish(server);
    }

    fn poll(&self, server: &Server) -> Ready {
        // In the order in which they are taken off again below.
        let always = [&self.pidfd, &self.signals].into_iter().map(AsFd::as_fd);
        let while_open = self.end.iter().map(AsFd::as_fd).chain(self.tether.iter().map(AsFd::as_fd));
        let input = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
        let mut fds: Vec<PollFd<'_>> = always.chain(while_open).map(input).collect();
        fds.extend(self.memory.iter().map(|memory| {
            let flags = if memory.priority { PollFlags::PRI } else { PollFlags::IN };
            PollFd::from_borrowed_fd(memory.fd.as_fd(), flags)
        }));
        fds.extend(self.outputs.descriptors().chain(server.descriptors()).map(input));

        if poll(&mut fds, None).is_err() {
            // Interrupted, or short of memory for a moment: look again.
            return Ready::default();
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || ready.next().unwrap_or(false);
        Ready {
            init: next(),
            signals: next(),
            end: self.end.is_some() && next(),
            tether: self.tether.is_some() && next(),
            memory: self.memory.is_some() && next(),
            others: ready.collect(),
        }
    }

    fn now(&self) -> Time {
        // From the start on by the monotonic clock: an end never lies before its start.
        self.started_at + self.started.elapsed()
    }

    /// Ends what is limited of the use of disks, for good: an agent that sets limits meanwhile finds that it is to end, or is undone here.
    fn release_io(&self) {
        if let Err(e) = folder::write_ending(Path::new(".")) {
            note(format_args!("cannot write that the container is to end: {e}"));
        }
        self.driver.release_io(&self.order.group);
    }

    fn learn_end(&mut self) {
        self.release_io();
        // There is one message. Without it process 1 has ended, which its pidfd says too.
        let exit = match self.end.take() {
            Some(End::Told(status)) => match wire::hear(&status, false) {
                Ok(Some(Heard { word: Word::Ended(exit), .. })) => Some(exit),
                _ => None,
            },
            Some(End::Reaped { task, .. }) => {
                let reaped = sys::reap(task, true);
                // What it leaves ends with it.
                let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
                reaped.map(|(_, exit)| exit)
            }
            None => None,
        };
        if let Some(exit) = exit {
            self.ended = Some((exit, self.now()));
        }
    }

    fn look_at_memory(&mut self) {
        let (Some(memory), Some(limit)) = (&self.memory, self.memory_limit()) else { return };
        // Re-arms the descriptor; what matters is in the group's own files, read after that.
        let _ = if memory.priority {
            rustix::io::pread(&memory.fd, &mut [0_u8; 512], 0)
        } else {
            rustix::io::read(&memory.fd, &mut [0_u8; 8])
        };
        let events = self.driver.memory_events(&self.order.group, limit);
        // Version 1 signals just before the kernel kills, when nothing may be counted yet; version 2 signals every change,
        // also harmless ones.
        if events.limit_reached && (events.kills > 0 || !memory.priority) {
            // Half a task is of no use to anybody, and which process the kernel chose is chance.
            self.limit_exceeded = true;
            self.memory = None;
            self.kill();
        }
    }

    /// The ceiling of memory that it began with, or that the agent has raised since.
    fn memory_limit(&self) -> Option<u64> {
        let first = self.order.spec.limits.memory_limit_bytes?;
        // The kernel has it in whole pages.
        Some(first.max(self.driver.memory_limit(&self.order.group).unwrap_or(first)))
    }

    fn answer(&mut self, request: Request) -> String {
        match request {
            Request::Term => self.term(),
            Request::Kill => self.kill(),
            Request::Usage => return serde_json::to_string(&self.reading()).unwrap_or_default(),
        }
        "ok".to_owned()
    }

    /// TERM to every process of the container but its process 1.
    fn term(&self) {
        if let Some(runtime) = self.runtime.as_ref().filter(|_| self.own_kernel) {
            if let Err(failure) = runtime.kill_all("TERM") {
                note(format_args!("{failure:?}"));
            }
        } else if self.order.isolation.namespaces() {
            // Process 1 passes it on; only it can reach all of them at once.
            let _ = pidfd_send_signal(&self.pidfd, Signal::TERM);
        } else {
            tree::signal_below(self.init, Signal::TERM);
        }
    }

    /// Kills every process of the container; the loop ends when they are gone.
    fn kill(&mut self) {
        self.measure();
        self.release_io();
        if self.order.isolation.namespaces() {
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        } else {
            // Process 1 sees the task die and clears away the rest, unless the task has stopped it.
            if let Err(e) = tree::kill_below(self.init) {
                note(format_args!("cannot see whom to kill: {e}"));
            }
            let _ = pidfd_send_signal(&self.pidfd, Signal::CONT);
        }
    }

    fn reading(&mut self) -> Reading {
        let Measured { memory_bytes, pids, .. } = self.measure();
        let pressure = self.driver.pressure(&self.order.group);
        Reading { usage: self.seen, memory_bytes, pids, pressure }
    }

    /// What the cgroups count; else what the processes that can be seen add up to, or the largest of them.
    fn measure(&mut self) -> Measured {
        let mut usage = self.driver.measured(&self.order.group);
        if usage.cpu_us.is_none() || usage.memory_peak_bytes.is_none() {
            // What a runtime started are children of this process, beside process 1.
            let top = if self.runtime.is_some() { std::process::id() as i32 } else { self.init };
            let below = procfs::descendants(top).unwrap_or_default();
            let pids: Vec<i32> = below.into_keys().chain([self.init]).collect();
            let stats = pids.iter().filter_map(|pid| procfs::stat(*pid).ok().flatten());
            let cpu = stats.map(|stat| stat.cpu_us).sum();
            let peak = pids.iter().filter_map(|pid| procfs::peak_bytes(*pid)).max();
            usage.cpu_us = usage.cpu_us.or(Some(cpu));
            usage.memory_peak_bytes = usage.memory_peak_bytes.or(peak);
        }
        self.seen = Usage {
            cpu_us: self.seen.cpu_us.max(usage.cpu_us.unwrap_or(0)),
            memory_peak_bytes: self.seen.memory_peak_bytes.max(usage.memory_peak_bytes),
        };
        usage
    }

    /// Process 1 has ended: clears away, in the order in which others rely on it.
    fn finish(mut self, server: Server) {
        if self.ended.is_none() {
            self.learn_end();
        }
        sys::reap(self.init, true);
        if !self.order.isolation.namespaces() {
            tree::end_all_below_me();
        }
        if let Err(e) = kill_group(&*self.driver, &self.order.group) {
            note(format_args!("cannot see what is left in the cgroup: {e}"));
        }
        // Nobody is left to write more. Whoever hears of the end finds all that was written before.
        self.outputs.finish();

        let termination = self.termination();
        if let Err(e) = folder::write_exit(Path::new("."), &termination) {
            note(format_args!("cannot write {}: {e}", folder::EXIT));
        }
        // Closed first: removing the group would signal it.
        self.memory = None;
        if let Some(runtime) = &self.runtime {
            runtime.delete();
        }
        match remove_group(&*self.driver, &self.order.group) {
            Ok(true) => {}
            Ok(false) => note(format_args!("cgroup {} is still busy", self.order.group.display())),
            Err(e) => note(format_args!("{e}: {}", e.source)),
        }
        if self.order.spec.tethered {
            // The agent may be gone already, or go without a word later.
            cgroup::remove_empty_parents(&*self.driver, &self.order.group);
        }
        let text = serde_json::to_string(&termination).unwrap_or_default();
        server.finish(Path::new(folder::SOCKET), &text);
    }

    fn termination(&self) -> Termination {
        let exceeded = self.memory_limit().filter(|limit| {
            let events = self.driver.memory_events(&self.order.group, *limit);
            self.limit_exceeded || (events.kills > 0 && events.limit_reached)
        });
        let measured = self.driver.measured(&self.order.group);
        let reaped = sys::children_usage();
        // No word from process 1: it was killed, and everything in its namespace or below it with it.
        let (exit, finished_at) = self.ended.unwrap_or((Exit::Signal(libc::SIGKILL), self.now()));
        Termination {
            exit: Some(exit),
            limitation: exceeded.map(|limit_bytes| Limitation::Memory { limit_bytes }),
            usage: Usage {
                cpu_us: measured.cpu_us.unwrap_or(reaped.cpu_us).max(self.seen.cpu_us),
                memory_peak_bytes: measured
                    .memory_peak_bytes
                    .or(reaped.memory_peak_bytes)
                    .max(self.seen.memory_peak_bytes),
            },
            started_at: self.started_at,
            finished_at,
        }
    }
}
