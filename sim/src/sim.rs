//! A running simulation: let time go by, look, speak, break things.

use std::{collections::BTreeMap, fmt, time::Duration};

use apportion_agent_core::TaskKey;
use apportion_master_core::{OperatorCall, OperatorError, OperatorReply, RoleChange, View};
use apportion_sdk::{FrameworkId, Scheduler, Stop, TaskId};
use apportion_types::{Operation, Role, Time};

use crate::{fault::Fault, history::stamp, process::Handle, world::World};

/// After so long in which nothing but signs of life, and offers that come and go, has happened, nothing more is going to: longer than any
/// pause of a driver or an agent before it tries again, but for an agent that nobody has acknowledged for half an hour.
const QUIET: Duration = Duration::from_secs(130);

/// A cluster at work, in virtual time.
pub struct Sim {
    world: World,
}

/// Why a run failed: a property is broken, or the test's own expectation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The property, by its name; `story` for the test's own.
    pub check: &'static str,
    /// What is wrong.
    pub message: String,
    /// The seed of the run.
    pub seed: u64,
    /// When, from the start of the run.
    pub at: Duration,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { check, message, seed, at } = self;
        write!(f, "{check} is broken at {:.6} s of seed {seed}: {message}", at.as_secs_f64())
    }
}

impl std::error::Error for Failure {}

impl Sim {
    pub(crate) fn new(world: World) -> Self {
        Self { world }
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Lets so much time go by.
    pub fn run_for(&mut self, duration: Duration) -> Result<(), Failure> {
        let until = self.world.now + duration;
        while self.world.step(until) {}
        self.verdict()
    }

    /// Lets time go by until something is so, which is looked at after each happening; fails when it is not within `limit`. `what`
    /// says for people what is waited for.
    pub fn run_until(
        &mut self,
        limit: Duration,
        what: &str,
        mut condition: impl FnMut(&Sim) -> bool,
    ) -> Result<(), Failure> {
        let until = self.world.now + limit;
        while !condition(self) {
            if !self.world.step(until) {
                self.verdict()?;
                return if condition(self) {
                    Ok(())
                } else {
                    Err(self.failure(format!("within {limit:?} it did not come about that {what}")))
                };
            }
        }
        self.verdict()
    }

    /// Lets time go by until nothing more is going to happen: no fault is to come, every process is up, no task is going to end by
    /// itself, and for two minutes there were only signs of life and offers that come and go. Then holds the cluster to what must
    /// be so in the end. Fails when that is not within `limit`.
    pub fn run_until_idle(&mut self, limit: Duration) -> Result<(), Failure> {
        let until = self.world.now + limit;
        loop {
            if self.is_at_rest() {
                self.world.check_at_rest();
                return self.verdict();
            }
            let quiet_at = self.quiet_at();
            let stop = if quiet_at > self.world.now { quiet_at } else { self.world.now + QUIET };
            if !self.world.step(stop.min(until)) {
                self.verdict()?;
                if self.world.now >= until {
                    return Err(self.failure(format!("within {limit:?} the cluster did not come to rest")));
                }
            }
        }
    }

    /// The earliest time at which nothing more is going to happen.
    fn quiet_at(&self) -> Time {
        (self.world.progress_at + QUIET).max(self.world.faults_over_at)
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.world.now >= self.quiet_at() && self.world.is_calm() && !self.world.tasks_move()
    }

    pub(crate) fn world_mut(&mut self) -> &mut World {
        &mut self.world
    }

    /// A failure of the test's own, at this time.
    pub fn failure(&self, message: impl Into<String>) -> Failure {
        let (seed, at) = (self.world.seed, self.world.elapsed());
        Failure { check: "story", message: message.into(), seed, at }
    }

    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        match &self.world.violation {
            None => Ok(()),
            Some(violation) => Err(Failure {
                check: violation.check,
                message: violation.message.clone(),
                seed: self.world.seed,
                at: violation.at.since(crate::clock::START),
            }),
        }
    }

    /// The true time.
    pub fn now(&self) -> Time {
        self.world.now
    }

    /// How much time has gone by.
    pub fn elapsed(&self) -> Duration {
        self.world.elapsed()
    }

    /// Things that have happened so far: a measure of the run's cost.
    pub fn steps(&self) -> u64 {
        self.world.steps
    }

    /// Writes that have lasted so far: what the master's registry keeps, records of agents' logs, what frameworks store.
    pub fn writes(&self) -> u64 {
        self.world.writes.count()
    }

    /// What the master shows its readers; while it is down, what it showed last.
    pub fn master(&self) -> &View {
        self.world.view()
    }

    /// A framework's scheduler; none while its process is down.
    pub fn scheduler<S: Scheduler + 'static>(&self, framework: Handle<S>) -> Option<&S> {
        let process = self.world.frameworks[framework.number].process.as_ref()?;
        Some(process.scheduler().downcast_ref().expect("a handle knows its scheduler's type"))
    }

    /// A framework's scheduler, to be changed between callbacks; none while its process is down. What changes in
    /// [`Scheduler::wants_offers`] is seen after its next callback.
    pub fn scheduler_mut<S: Scheduler + 'static>(&mut self, framework: Handle<S>) -> Option<&mut S> {
        let process = self.world.frameworks[framework.number].process.as_mut()?;
        Some(process.scheduler_mut().downcast_mut().expect("a handle knows its scheduler's type"))
    }

    /// The id under which a framework is subscribed now; none before, and while its process is down.
    pub fn framework_id<S>(&self, framework: Handle<S>) -> Option<&FrameworkId> {
        self.world.frameworks[framework.number].process.as_ref()?.framework_id()
    }

    /// How a framework's run has ended, if it has ended in order.
    pub fn ended<S>(&self, framework: Handle<S>) -> Option<Stop> {
        self.world.frameworks[framework.number].ended
    }

    /// Speaks to a scheduler as its program does; lost while its process is down.
    pub fn tell<S: Scheduler + 'static>(&mut self, framework: Handle<S>, message: S::Message)
    where
        S::Message: 'static,
    {
        self.world.tell_framework(framework.number, Box::new(message));
    }

    /// Ends a framework's run as its program does.
    pub fn stop<S>(&mut self, framework: Handle<S>, stop: Stop) {
        self.world.stop_framework(framework.number, stop);
    }

    /// Has a fault happen now.
    ///
    /// # Panics
    ///
    /// When it names an agent or a framework that is not in the cluster.
    pub fn inflict(&mut self, fault: Fault) {
        self.world.inflict(&fault);
    }

    /// Asks for a task to end, as an operator does; none while there is no master.
    pub fn kill(
        &mut self,
        framework_id: Option<FrameworkId>,
        task_id: TaskId,
        grace: Option<Duration>,
    ) -> Option<Result<OperatorReply, OperatorError>> {
        self.world.operate(OperatorCall::KillTask { framework_id, task_id, grace })
    }

    /// Ends a framework for ever, as an operator does; none while there is no master.
    pub fn teardown(&mut self, framework_id: FrameworkId) -> Option<Result<OperatorReply, OperatorError>> {
        self.world.operate(OperatorCall::TeardownFramework { framework_id })
    }

    /// Changes what is set for roles, as an operator does; none while there is no master, and until the registry has it.
    pub fn update_roles(
        &mut self,
        changes: BTreeMap<Role, RoleChange>,
        force: bool,
    ) -> Option<Result<OperatorReply, OperatorError>> {
        self.world.operate(OperatorCall::UpdateRoles { changes, force })
    }

    /// Has an operation done on an agent's resources, as an operator does; none while there is no master, or while the agent's process
    /// is down and nobody knows its id.
    pub fn operate(
        &mut self,
        agent: usize,
        operation: Operation,
    ) -> Option<Result<OperatorReply, OperatorError>> {
        let agent_id = self.world.agent_id(agent)?;
        self.world.operate(OperatorCall::Operate { agent_id, operation })
    }

    /// The tasks whose commands really run, each with the number of its agent.
    pub fn running(&self) -> impl Iterator<Item = (usize, &TaskKey)> {
        self.world.agents.iter().enumerate().flat_map(|(number, agent)| {
            let containers = agent.machine.containers.values();
            containers
                .filter(|container| container.is_running())
                .map(move |container| (number, &container.task))
        })
    }

    /// What has happened, a line each; empty unless the run was started to keep it.
    pub fn history(&self) -> &[String] {
        self.world.history.lines()
    }
}

impl fmt::Debug for Sim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sim {{ seed: {}, at: {} }}", self.world.seed, stamp(self.world.now).trim())
    }
}
