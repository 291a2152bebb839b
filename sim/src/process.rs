//! A framework's process: the driver's engine around the author's scheduler, and what of it outlives a crash.

use std::{
    any::Any,
    collections::BTreeMap,
    fmt,
    future::Future,
    marker::PhantomData,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use apportion_sdk::{
    AgentId, FrameworkId, FrameworkInfo, FrameworkOptions, Role, Scheduler, Stop, TaskId, Time,
    driver::{Action, Config, Dropped, Engine, Input},
    limits,
    protocol::Event,
    store::{self, Changes, Kept, Memory, StoreError},
};

/// Where a scheduler keeps what must outlive it. Clones are the same store; a crash of the framework leaves it as it is.
///
/// It is a store as the SDK has them, and has shorter ways to a single record.
#[derive(Debug, Clone, Default)]
pub struct Store {
    kept: Memory,
    saving: Arc<Mutex<Saving>>,
}

/// What a process does to its store while it is told something.
#[derive(Debug, Default)]
struct Saving {
    saves: u64,
    /// So many of them last, and none behind them: there the process is killed.
    lasting: Option<u64>,
}

impl Store {
    /// What was stored under a name.
    pub fn load(&self, name: &str) -> Option<Vec<u8>> {
        store::Store::load(self).expect(FAILS_NEVER).records.remove(name)
    }

    /// Stores under a name, in place of what was there. Durable when it returns.
    pub fn save(&self, name: &str, value: impl Into<Vec<u8>>) {
        let mut changes = Changes::default();
        changes.put(name, value.into());
        self.change(changes);
    }

    /// Forgets what was stored under a name.
    pub fn remove(&self, name: &str) {
        let mut changes = Changes::default();
        changes.remove(name);
        self.change(changes);
    }

    fn clear(&self) {
        let kept = store::Store::load(self).expect(FAILS_NEVER);
        let mut changes = Changes::default();
        changes.framework_id(None);
        kept.records.into_keys().for_each(|name| _ = changes.remove(name));
        self.change(changes);
    }

    pub(crate) fn change(&self, changes: Changes) {
        store::Store::save(&mut self.clone(), changes).expect(FAILS_NEVER);
    }

    fn saving(&self) -> MutexGuard<'_, Saving> {
        self.saving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on so many saves last.
    pub(crate) fn keeps(&self, lasting: Option<u64>) {
        *self.saving() = Saving { saves: 0, lasting };
    }

    /// How many there were since, those with it that did not last; from now on all last.
    pub(crate) fn saves(&self) -> usize {
        usize::try_from(std::mem::take(&mut *self.saving()).saves).unwrap_or(usize::MAX)
    }
}

impl store::Store for Store {
    fn load(&self) -> Result<Kept, StoreError> {
        store::Store::load(&self.kept)
    }

    fn save(&mut self, changes: Changes) -> Result<(), StoreError> {
        let mut saving = self.saving();
        saving.saves += u64::from(!changes.is_empty());
        if saving.lasting.is_some_and(|lasting| saving.saves > lasting) {
            return Ok(());
        }
        drop(saving);
        store::Store::save(&mut self.kept, changes)
    }
}

const FAILS_NEVER: &str = "memory keeps everything";

/// A framework of a simulated cluster: who it is, and how its scheduler is made, at the start and after each crash.
pub struct Framework<S> {
    pub(crate) info: FrameworkInfo,
    pub(crate) remembers: bool,
    options: FrameworkOptions,
    refuse: Duration,
    make: Box<dyn FnMut(&Store) -> S>,
}

impl<S: Scheduler + 'static> Framework<S> {
    /// A framework whose scheduler stores nothing: after a crash it begins anew, as another framework, and what it had launched ends
    /// with its failover time-out.
    pub fn new(name: impl Into<String>, mut make: impl FnMut() -> S + 'static) -> Self {
        let mut framework = Self::stored(name, move |_| make());
        framework.remembers = false;
        framework
    }

    /// A framework whose scheduler is made from what an earlier one has stored, if any. Its id is stored for it as soon as it is
    /// subscribed, and used again.
    pub fn stored(name: impl Into<String>, make: impl FnMut(&Store) -> S + 'static) -> Self {
        let name = name.into();
        Self {
            info: FrameworkInfo {
                principal: name.clone(),
                name,
                roles: Vec::new(),
                failover_timeout: limits::FAILOVER_TIMEOUT_DEFAULT,
                labels: BTreeMap::new(),
            },
            remembers: true,
            options: FrameworkOptions::default(),
            refuse: limits::REFUSE_DEFAULT,
            make: Box::new(make),
        }
    }

    /// One more role for which it takes offers; the default role `*` when none is given.
    ///
    /// # Panics
    ///
    /// When it is no role.
    pub fn role(mut self, role: &str) -> Self {
        self.info.roles.push(Role::new(role).unwrap_or_else(|error| panic!("role `{role}`: {error}")));
        self
    }

    /// What it wishes of offers; no wishes when not given.
    pub fn options(mut self, options: FrameworkOptions) -> Self {
        self.options = options;
        self
    }

    /// How long its tasks run on while it is not connected; 60 s when not given.
    pub fn failover_timeout(mut self, timeout: Duration) -> Self {
        self.info.failover_timeout = timeout;
        self
    }

    /// How long what was refused is not offered again where an offer does not say; 5 s when not given.
    pub fn refuse_for(mut self, refuse: Duration) -> Self {
        self.refuse = refuse;
        self
    }
}

impl<S> std::fmt::Debug for Framework<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Framework").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Names a framework of a simulated cluster, and knows the type of its scheduler.
pub struct Handle<S> {
    pub(crate) number: usize,
    scheduler: PhantomData<fn() -> S>,
}

impl<S> Handle<S> {
    pub(crate) fn new(number: usize) -> Self {
        Self { number, scheduler: PhantomData }
    }

    /// Its number: 0 for the first framework of the cluster.
    pub fn number(self) -> usize {
        self.number
    }
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Handle<S> {}

impl<S> std::fmt::Debug for Handle<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Handle").field(&self.number).finish()
    }
}

/// What a process is told, with its scheduler's type forgotten.
pub(crate) enum Told {
    Start,
    Connected,
    Disconnected { clean: bool, why: &'static str },
    Event(Event),
    Message(Box<dyn Any>),
    Stop(Stop),
    Tick,
}

/// Without what a program says, which only its scheduler can tell.
impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Start => f.write_str("the start"),
            Told::Connected => f.write_str("a connection"),
            Told::Disconnected { why, .. } => write!(f, "the loss of its connection ({why})"),
            Told::Event(event) => write!(f, "{event:?}"),
            Told::Message(_) => f.write_str("a message of its program"),
            Told::Stop(stop) => write!(f, "its program's wish to end ({stop:?})"),
            Told::Tick => f.write_str("a time that has come"),
        }
    }
}

/// A callback awaits something that nothing in a simulation could bring about.
#[derive(Debug)]
pub(crate) struct Waits;

/// A running process.
pub(crate) trait Driven {
    fn handle(&mut self, now: Time, told: Told, actions: &mut Vec<Action>) -> Result<(), Waits>;
    fn next_deadline(&self) -> Option<Time>;
    /// Offers were dropped outside of callbacks.
    fn has_dropped(&self) -> bool;
    fn framework_id(&self) -> Option<&FrameworkId>;
    /// What the scheduler believes alive.
    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)>;
    /// Tasks placed so far on offers that were no longer valid.
    fn launched_on_void(&self) -> u64;
    fn scheduler(&self) -> &dyn Any;
    fn scheduler_mut(&mut self) -> &mut dyn Any;
}

/// Makes processes, one after the other.
pub(crate) trait Program {
    fn info(&self) -> &FrameworkInfo;
    fn remembers(&self) -> bool;
    fn start(&mut self, store: &Store, framework_id: Option<FrameworkId>, seed: u64) -> Box<dyn Driven>;
}

impl<S: Scheduler + 'static> Program for Framework<S> {
    fn info(&self) -> &FrameworkInfo {
        &self.info
    }

    fn remembers(&self) -> bool {
        self.remembers
    }

    fn start(&mut self, store: &Store, framework_id: Option<FrameworkId>, seed: u64) -> Box<dyn Driven> {
        if !self.remembers {
            store.clear();
        }
        let mut info = self.info.clone();
        if info.roles.is_empty() {
            info.roles.push(Role::default());
        }
        let mut config = Config::new(info, "master");
        config.options = self.options.clone();
        config.framework_id = framework_id;
        config.refuse = self.refuse;
        config.seed = seed;
        let engine = Engine::new(config, (self.make)(store));
        let dropped = engine.dropped();
        Box::new(Running { engine, dropped })
    }
}

struct Running<S> {
    engine: Engine<S>,
    dropped: Dropped,
}

impl<S: Scheduler + 'static> Driven for Running<S> {
    fn handle(&mut self, now: Time, told: Told, actions: &mut Vec<Action>) -> Result<(), Waits> {
        let input = match told {
            Told::Start => Input::Start,
            Told::Connected => Input::Connected,
            Told::Disconnected { clean, why } => Input::Disconnected { clean, why: why.to_owned() },
            Told::Event(event) => Input::Event(event),
            Told::Message(message) => {
                let message = message.downcast().expect("a handle knows its scheduler's message");
                Input::Message(*message)
            }
            Told::Stop(stop) => Input::Stop(stop),
            Told::Tick => Input::Tick,
        };
        let handled = pin!(self.engine.handle(now, input, actions));
        match handled.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => Ok(()),
            Poll::Pending => Err(Waits),
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        self.engine.next_deadline()
    }

    fn has_dropped(&self) -> bool {
        self.dropped.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    fn framework_id(&self) -> Option<&FrameworkId> {
        self.engine.framework_id()
    }

    fn tasks(&self) -> Vec<(TaskId, Option<AgentId>)> {
        self.engine.scheduler().tasks()
    }

    fn launched_on_void(&self) -> u64 {
        self.engine.launched_on_void()
    }

    fn scheduler(&self) -> &dyn Any {
        self.engine.scheduler()
    }

    fn scheduler_mut(&mut self) -> &mut dyn Any {
        self.engine.scheduler_mut()
    }
}
