//! A framework's process.

use std::{any::Any, collections::BTreeMap, time::Duration};

use apportion_sdk::{
    DriverError, FrameworkId, Stop, Time,
    driver::Action,
    protocol::{Call, Event},
};

use super::{What, World};
use crate::{
    check::Happening,
    clock::Clock,
    fault::Process,
    network::{Peer, Up},
    process::{Driven, Program, Store, Told},
    write::DOWN,
};

/// From the end of a framework's process by an error to the next one.
const RESTART_PAUSE: Duration = Duration::from_secs(1);

/// A framework.
pub(crate) struct FrameworkProcess {
    pub(crate) program: Box<dyn Program>,
    pub(crate) process: Option<Box<dyn Driven>>,
    pub(crate) store: Store,
    /// What it has stored of its subscription.
    pub(crate) framework_id: Option<FrameworkId>,
    pub(crate) life: u64,
    /// It ended as it, or its program, wished.
    pub(crate) ended: Option<Stop>,
    clock: Clock,
    wake: Option<Time>,
    conn: Option<usize>,
    attempts: u64,
    /// What its processes were handed so far, but for heartbeats.
    pub(crate) inputs: u64,
    /// Its processes die when so much was handed to them.
    pub(crate) dies_after: BTreeMap<u64, Death>,
}

/// How a process dies at an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Death {
    /// Before anything that it asked for was sent; otherwise some of what is under way is lost, as at any crash.
    pub(crate) unsent: bool,
    /// For how long there is none.
    pub(crate) down: Duration,
}

impl FrameworkProcess {
    pub(crate) fn new(program: Box<dyn Program>) -> Self {
        Self {
            program,
            process: None,
            store: Store::default(),
            framework_id: None,
            life: 0,
            ended: None,
            clock: Clock::TRUE,
            wake: None,
            conn: None,
            attempts: 0,
            inputs: 0,
            dies_after: BTreeMap::new(),
        }
    }

    /// The connection that its process has open.
    pub(crate) fn conn(&self) -> Option<usize> {
        self.conn
    }
}

impl World {
    pub(super) fn start_framework(&mut self, number: usize) {
        let clock = self.new_clock();
        let seed = self.chance.processes.u64(..);
        let framework = &mut self.frameworks[number];
        framework.life += 1;
        framework.clock = clock;
        framework.wake = None;
        framework.conn = None;
        let framework_id = framework.framework_id.clone().filter(|_| framework.program.remembers());
        framework.framework_id = framework_id.clone();
        framework.process = Some(framework.program.start(&framework.store, framework_id, seed));
        self.framework_handles(number, Told::Start);
    }

    pub(super) fn crash_framework(&mut self, number: usize, down: Duration) {
        let framework = &mut self.frameworks[number];
        if framework.process.take().is_none() {
            return;
        }
        framework.life += 1;
        if let Some(conn) = framework.conn.take() {
            self.leave(conn, true);
        }
        self.progress();
        self.observe(&Happening::Crashed(Process::Framework(number)));
        self.queue.push(self.now + down, What::Start(Process::Framework(number)));
    }

    /// Feeds the driver one input, and runs what it wants.
    fn framework_handles(&mut self, number: usize, told: Told) {
        let mut actions = Vec::new();
        let framework = &mut self.frameworks[number];
        let now = framework.clock.shows(self.now);
        if framework.process.is_none() {
            return;
        }
        framework.inputs += u64::from(!matches!(told, Told::Event(Event::Heartbeat)));
        self.observe(&Happening::SchedulerHandles { framework: number, told: &told });
        let lasting = self.writes.left();
        let framework = &mut self.frameworks[number];
        let Some(process) = &mut framework.process else { return };
        framework.store.keeps(lasting);
        if process.handle(now, told, &mut actions).is_err() {
            let name = framework.program.info().name.clone();
            let message = format!(
                "a callback of framework {number} (`{name}`) awaits something that nothing in a simulation brings about; \
                 callbacks of a simulated scheduler may await only what is ready"
            );
            self.violate("callback", message);
            return;
        }
        let saves = framework.store.saves();
        let remembers = framework.program.remembers() && framework.framework_id.is_none();
        let subscribed = process.framework_id().filter(|_| remembers).cloned();
        let lasting = self.writes.next(saves + usize::from(subscribed.is_some()));
        let framework = &mut self.frameworks[number];
        if subscribed.is_some() && lasting.count > saves {
            framework.framework_id = subscribed;
        }
        let killed = lasting.killed.then_some(Death { unsent: true, down: DOWN });
        let dies = killed.or(framework.dies_after.remove(&framework.inputs));
        if dies.is_none_or(|death| !death.unsent) {
            for action in actions {
                self.framework_acts(number, action);
            }
        }
        self.observe(&Happening::SchedulerHandled { framework: number });
        if killed.is_some() {
            self.killed_at_write(Process::Framework(number));
        }
        if let Some(death) = dies.filter(|_| self.frameworks[number].ended.is_none()) {
            self.crash_framework(number, death.down);
        }
        self.arm_framework(number);
    }

    fn framework_acts(&mut self, number: usize, action: Action) {
        match action {
            Action::Connect { .. } => {
                let framework = &mut self.frameworks[number];
                framework.attempts += 1;
                let (life, attempt) = (framework.life, framework.attempts);
                self.connect(Peer::Framework(number), life, attempt);
            }
            Action::Send { call_id, call } => {
                if !matches!(call, Call::Decline { .. } | Call::Suppress { .. } | Call::Revive { .. }) {
                    self.progress();
                }
                self.observe(&Happening::SchedulerCalls { framework: number, call_id, call: &call });
                if let Some(conn) = self.frameworks[number].conn {
                    self.send_up(conn, Up::Scheduler { call_id, call });
                }
            }
            Action::Close => {
                self.progress();
                let framework = &mut self.frameworks[number];
                framework.attempts += 1; // an attempt that is under way is given up
                if let Some(conn) = framework.conn.take() {
                    self.leave(conn, false);
                }
            }
            Action::End(end) => self.framework_ends(number, end),
            _ => {}
        }
    }

    fn framework_ends(&mut self, number: usize, end: Result<Stop, DriverError>) {
        self.progress();
        let framework = &mut self.frameworks[number];
        framework.life += 1;
        if let Some(conn) = framework.conn.take() {
            self.leave(conn, false);
        }
        let framework = &mut self.frameworks[number];
        match end {
            // The scheduler stays, to be looked at.
            Ok(stop) => framework.ended = Some(stop),
            Err(error) => {
                framework.process = None;
                // Its id is of no use any more: whoever runs it begins anew.
                if matches!(error, DriverError::Removed { .. } | DriverError::Refused { .. }) {
                    framework.framework_id = None;
                }
                self.queue.push(self.now + RESTART_PAUSE, What::Start(Process::Framework(number)));
            }
        }
    }

    fn arm_framework(&mut self, number: usize) {
        let framework = &mut self.frameworks[number];
        let Some(process) = framework.process.as_ref().filter(|_| framework.ended.is_none()) else { return };
        let deadline = if process.has_dropped() {
            Some(self.now)
        } else {
            process.next_deadline().map(|deadline| framework.clock.when_it_shows(deadline).max(self.now))
        };
        let Some(at) = deadline else { return };
        if framework.wake.is_none_or(|wake| at < wake) {
            framework.wake = Some(at);
            self.queue.push(at, What::Tick(Process::Framework(number)));
        }
    }

    pub(super) fn framework_ticks(&mut self, number: usize) {
        let framework = &mut self.frameworks[number];
        if framework.wake.is_some_and(|wake| wake <= self.now) {
            framework.wake = None;
        }
        let shown = framework.clock.shows(self.now);
        let Some(process) = framework.process.as_ref().filter(|_| framework.ended.is_none()) else { return };
        let due = process.has_dropped() || process.next_deadline().is_some_and(|deadline| deadline <= shown);
        if due {
            self.framework_handles(number, Told::Tick);
        } else {
            self.arm_framework(number);
        }
    }

    pub(super) fn framework_answered(&mut self, number: usize, life: u64, attempt: u64, reached: bool) {
        let framework = &self.frameworks[number];
        if framework.life != life || framework.attempts != attempt {
            return;
        }
        if reached {
            let conn = self.network.open(Peer::Framework(number));
            self.frameworks[number].conn = Some(conn);
            self.framework_handles(number, Told::Connected);
        } else {
            self.framework_handles(number, Told::Disconnected { clean: false, why: "connection refused" });
        }
    }

    pub(super) fn framework_hears(&mut self, number: usize, event: Event) {
        if !matches!(event, Event::Heartbeat | Event::Offers(_) | Event::Rescind(_)) {
            self.progress();
        }
        self.observe(&Happening::SchedulerHears { framework: number, event: &event });
        self.framework_handles(number, Told::Event(event));
    }

    pub(super) fn framework_disconnected(&mut self, number: usize, clean: bool, why: &'static str) {
        self.progress();
        self.frameworks[number].conn = None;
        self.framework_handles(number, Told::Disconnected { clean, why });
    }

    /// What the rest of the framework's program says.
    pub(crate) fn tell_framework(&mut self, number: usize, message: Box<dyn Any>) {
        self.progress();
        self.framework_handles(number, Told::Message(message));
    }

    pub(crate) fn stop_framework(&mut self, number: usize, stop: Stop) {
        self.progress();
        self.framework_handles(number, Told::Stop(stop));
    }
}
