//! One history, played.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe},
    rc::Rc,
    time::Duration,
};

use apportion_master_core::OperatorCall;
use apportion_sdk::Scheduler;
use apportion_types::{AgentCapability, AgentInfo, Unavailability, Window};

use super::{
    Conformance, Promise,
    plan::{Plan, Trouble},
    watch::{self, Ledger},
};
use crate::{
    Cluster, Failure, Framework, Handle, Sim,
    history::History,
    shrink::{quietly, words},
};

/// Between two looks of the program at its scheduler.
const BEAT: Duration = Duration::from_millis(250);

/// A history is over so long after the scheduler should have come to rest, whatever goes on.
const OVERTIME: Duration = Duration::from_secs(600);

/// How long tasks run on without their framework: longer than most crashes here last.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(20);

/// A promise is broken.
#[derive(Debug, Clone)]
pub(super) struct Breach {
    pub(super) promise: Promise,
    pub(super) what: String,
    pub(super) at: Duration,
}

/// What came of a history.
pub(super) struct Played {
    pub(super) breach: Option<Breach>,
    /// What the scheduler was handed.
    pub(super) inputs: u64,
    pub(super) launches: u64,
    /// Pieces of work that came to their end, or run.
    pub(super) fulfilled: usize,
    pub(super) lines: Vec<String>,
}

impl<S: Scheduler + 'static> Conformance<S> {
    /// Plays a history; `expected` is how much work must come to its end in it, where that is known.
    pub(super) fn play(&self, plan: &Plan, expected: Option<usize>, history: History) -> Played {
        let ledger = Rc::new(RefCell::new(Ledger::new(Rc::clone(&self.work))));
        let expected = expected.filter(|_| plan.only_crashes);
        let (cluster, handle) = self.cluster(plan);
        let checks = watch::all(&ledger, self.bounds, expected);
        let mut sim = cluster.start_as(plan.seed, plan.script(), history, checks);
        let dies = plan.troubles.iter().filter_map(|trouble| match trouble {
            Trouble::Dies { after, death } => Some((*after, *death)),
            _ => None,
        });
        sim.world_mut().frameworks[handle.number()].dies_after = dies.collect();

        let played =
            quietly(|| panic::catch_unwind(AssertUnwindSafe(|| self.to_the_end(plan, &mut sim, handle))));
        let breach = match played {
            Ok(Ok(())) => None,
            Ok(Err(failure)) => {
                let promise = Promise::of(failure.check).unwrap_or(Promise::DoesNotReconcile);
                Some(Breach { promise, what: failure.message, at: failure.at })
            }
            Err(payload) => {
                // What is not the scheduler's is not for a report.
                let Some(told) = ledger.borrow_mut().at_work_on.take() else { panic::resume_unwind(payload) };
                let what = format!("a callback panics: {}; it was handed {told}", words(payload.as_ref()));
                Some(Breach { promise: Promise::Panics, what, at: sim.elapsed() })
            }
        };
        let ledger = ledger.borrow();
        Played {
            breach,
            inputs: sim.world().frameworks[handle.number()].inputs,
            launches: ledger.launches,
            fulfilled: ledger.fulfilled(sim.world()),
            lines: sim.history().to_vec(),
        }
    }

    fn to_the_end(&self, plan: &Plan, sim: &mut Sim, handle: Handle<S>) -> Result<(), Failure> {
        let mut deeds = plan.deeds().into_iter().peekable();
        let limit = self.bounds.settle + OVERTIME;
        loop {
            sim.run_for(BEAT)?;
            while let Some((_, deed)) = deeds.next_if(|(at, _)| *at <= sim.elapsed()) {
                operator_does(sim, deed);
            }
            if let Some(program) = &self.program {
                program(sim, handle);
                sim.verdict()?;
            }
            if sim.is_at_rest() {
                sim.world_mut().check_at_rest();
                return sim.verdict();
            }
            if sim.elapsed() > limit {
                return Err(sim.failure(format!("after {limit:?} the cluster has not come to rest")));
            }
        }
    }

    fn cluster(&self, plan: &Plan) -> (Cluster, Handle<S>) {
        let make = Rc::clone(&self.make);
        let framework = if self.stored {
            Framework::stored("conformance", move |store| make(store))
        } else {
            Framework::new("conformance", {
                let store = crate::Store::default();
                move || make(&store)
            })
        };
        let framework = (self.framework)(framework.failover_timeout(FAILOVER_TIMEOUT));
        let mode = plan.mode;
        let workload = self.workload.clone();
        let mut cluster = Cluster::new()
            .master(|config| {
                config.agent_ping_interval = Duration::from_secs(2);
                config.agent_pings_missed_max = 3;
                config.agent_reregister_timeout = Duration::from_secs(20);
                config.scheduler_heartbeat = Duration::from_secs(3);
                config.offer_timeout = plan.offer_timeout;
            })
            .workload(move |task, rng| match &workload {
                Some(workload) => workload(task, rng),
                None => mode.behaviour(task, rng),
            })
            .launches_fail(plan.launches_fail_ppm)
            .signals_fail(plan.signals_fail_ppm)
            .clock_skew(plan.clock_skew);
        for (number, resources) in plan.agents.iter().enumerate() {
            let hostname = format!("host-{number}");
            cluster = cluster.agent(AgentInfo {
                address: format!("{hostname}:5051"),
                work_dir_id: hostname.clone(),
                hostname,
                resources: resources.clone(),
                attributes: self.attributes.clone(),
                domain: None,
                unenforced: Vec::new(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                capabilities: AgentCapability::ALL.into(),
            });
        }
        let handle = cluster.add(framework);
        (cluster, handle)
    }
}

/// Not done while there is no master to be asked, or none that knows what is named, which is as good a history as any.
fn operator_does(sim: &mut Sim, deed: &Trouble) {
    match deed {
        Trouble::Kill { task, .. } => {
            let running: Vec<_> = sim.running().map(|(_, key)| key.clone()).collect();
            if let Some((framework_id, task_id)) = running.get(task % running.len().max(1)) {
                _ = sim.kill(Some(framework_id.clone()), task_id.clone(), None);
            }
        }
        Trouble::Window { machine, notice, lasts, .. } => {
            let machine = format!("host-{machine}").parse().expect("a machine's name");
            let unavailability = Unavailability { start: sim.now() + *notice, duration: Some(*lasts) };
            let windows = vec![Window { machines: [machine].into(), unavailability }];
            _ = sim.world_mut().operate(OperatorCall::UpdateSchedule { windows });
        }
        Trouble::Fault(_) | Trouble::Dies { .. } => {}
    }
}
