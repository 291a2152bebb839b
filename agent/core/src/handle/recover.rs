//! What an earlier process has left: its tasks are attached to again, its un-acknowledged updates go on, and what operations made stays.

use std::collections::BTreeSet;

use apportion_types::{
    CpuSet, Reason, Resources, TaskState, TaskStatus, Time, limits, protocol::agent::AgentOperation,
};

use crate::{
    AgentCore, Fence,
    action::{Action, Actions, Record},
    container::{GroupPlan, volume_key},
    event::{ProcessRecord, Recovered, RecoveredTask, Settings, TaskKey, TaskRecord},
    handle::{container::lost_with_machine, note},
    state::{
        cores::Cores,
        pool::{Lack, Pool, is_made, unmade},
        repeat::Repeat,
        stream::{Stream, Update},
        task::{Kill, Launcher, Phase, Task},
    },
};

impl AgentCore {
    pub(super) fn recovered(&mut self, now: Time, recovered: Recovered, actions: &mut Actions) {
        assert!(self.tasks.is_empty() && self.checkpoints_asked == 0, "the log is replayed first and once");
        self.agent_id = recovered.agent_id;
        self.drain = recovered.drain;
        self.log_damaged = recovered.damaged;
        let process =
            ProcessRecord { boot_id: self.config.boot_id.clone(), settings: Settings::of(&self.config.info) };
        let machine_restarted =
            recovered.process.as_ref().is_some_and(|before| before.has_been_restarted(&process));
        // After a restart of the machine only what waits for its turn can be live.
        let live = recovered.tasks.iter().any(|task| !task.has_ended() && (task.waits || !machine_restarted));
        if let Some(before) = recovered.process.as_ref().filter(|_| live) {
            let changes = process.settings.breaking_changes(&before.settings, &self.config.detected);
            if !changes.is_empty() {
                return self.fail(changed(&changes), actions);
            }
        }
        let total = recovered.total.as_ref();
        let fit = match self.recover_held(total, &recovered.tasks, machine_restarted, actions) {
            Ok(fit) => fit,
            Err(reason) => return self.fail(reason, actions),
        };
        // Volumes that were made behind the damage are not known, and their data may be all that is left of them.
        if recovered.total.is_some() && !recovered.damaged {
            let volumes: BTreeSet<_> = self.pool.total.entries().filter_map(volume_key).collect();
            actions.push(Action::KeepVolumes(volumes));
        }
        for AgentOperation { framework_id, status } in recovered.operations {
            self.keep_outcome(framework_id, status, true);
        }
        for (task, fits) in recovered.tasks.into_iter().zip(fit) {
            let key = (task.task.framework_id.clone(), task.task.info.task_id.clone());
            self.recover_task(now, task, (machine_restarted, fits), actions);
            if !fits {
                let draft = lost_with_machine(self.tasks[&key].kill);
                self.update(now, &key, draft, actions);
            }
        }
        self.suppose_held();
        // After the ends of what does not fit any more: the next process, too, is to know what was lost with the machine.
        if recovered.process.as_ref() != Some(&process) {
            self.checkpoint(Record::Process(process), Fence::Nothing, actions);
        }
        for (framework_id, status) in recovered.strays {
            let key = (framework_id, status.task_id.clone());
            self.recover_stream(&key, Some(status.state), vec![status]);
        }
        self.drain_tasks(now, actions);
    }

    fn recover_task(
        &mut self,
        now: Time,
        recovered: RecoveredTask,
        (machine_restarted, fits): (bool, bool),
        actions: &mut Actions,
    ) {
        let RecoveredTask { task: record, waits, acknowledged, updates, times } = recovered;
        let key = (record.framework_id.clone(), record.info.task_id.clone());
        let container_id = record.container_id.clone();
        let newest = updates.last().or(acknowledged.as_ref());
        let state = newest.map(|status| status.state);
        let findings = newest.map(|status| status.findings).unwrap_or_default();
        let addresses = newest.map(|status| status.addresses.clone()).unwrap_or_default();
        let ended = state.is_some_and(TaskState::is_terminal);
        let grace = record.info.kill_grace.unwrap_or(limits::KILL_GRACE_DEFAULT);
        let kill = newest.and_then(wish).map(|(reason, first_at)| Kill {
            reason,
            first_at: first_at.min(now),
            kill_at: times.kill_at.unwrap_or(first_at.min(now) + grace),
            during_launch: false,
            while_attaching: false,
            forced: false,
        });
        self.containers.insert(container_id.clone(), key.clone());
        if state.is_some() {
            self.recover_stream(&key, state, updates);
        }
        let mut waits = waits && !ended;
        if waits && self.log_damaged {
            // Its turn may stand behind the damage: what may run is looked for, and never launched a second time.
            waits = false;
            let (framework_id, task_id) = key.clone();
            self.checkpoint(Record::Turn { framework_id, task_id }, Fence::Nothing, actions);
        }
        // Whoever has an executor is found when that subscribes.
        let by_executor = record.info.executor().cloned();
        if !ended && !waits && by_executor.is_none() && fits {
            // Also after a restart of the machine: what had ended before it may have left its account.
            let group_network = GroupPlan::network_of(&container_id, &record.info);
            actions.push(Action::Attach { container_id, group_network });
        }
        let phase = match (ended || !fits, waits) {
            (true, _) => Phase::Ended { kept: true },
            (false, true) => Phase::Waiting,
            (false, false) => Phase::Attaching,
        };
        let state = state.unwrap_or(TaskState::Staging);
        let mut task =
            Task { kill, started_at: times.started_at, holds: fits, ..Task::new(record, phase, state) };
        task.launcher = match (waits, machine_restarted) {
            (true, _) => Launcher::Here,
            (false, true) => Launcher::BeforeReboot,
            (false, false) => Launcher::Before,
        };
        task.known.findings = findings;
        task.addresses = addresses;
        task.told = task.known.clone();
        if let Some(of) = &task.record.info.group {
            let group = (key.0.clone(), of.group_id.clone());
            self.groups.entry(group).or_default().insert(of.place, key.clone());
        }
        if task.record.info.is_executor() {
            self.executors.entry(key.clone()).or_default();
        }
        if let Some(executor) = by_executor.filter(|_| !ended) {
            let executor = self.executors.entry((key.0.clone(), executor)).or_default();
            executor.tasks.insert(key.clone(), None);
        }
        self.tasks.insert(key.clone(), task);
        self.group_changed(&key);
        self.task_changed(&key);
        self.show(&key);
    }

    fn recover_stream(&mut self, key: &TaskKey, state: Option<TaskState>, updates: Vec<TaskStatus>) {
        let mut stream = Stream::new(Repeat::new(&self.config));
        stream.durable_state = state;
        stream.pending = updates
            .into_iter()
            .map(|status| Update { status, durable: true, sent: false, acknowledged: false })
            .collect();
        self.streams.insert(key.clone(), stream);
    }

    /// Has the settings of this process changed as those of earlier ones were, and gives the tasks back what they hold, cores too; or says what
    /// cannot be. Of each task whether it holds anything: what was lost when the machine was switched off needs nothing that is not there.
    fn recover_held(
        &mut self,
        total: Option<&Resources>,
        tasks: &[RecoveredTask],
        machine_restarted: bool,
        actions: &mut Actions,
    ) -> Result<Vec<bool>, String> {
        let lost = |task: &RecoveredTask| machine_restarted && !task.waits && !task.has_ended();
        let kept = || tasks.iter().filter(|task| !task.has_ended() && !lost(task)).map(|task| &task.task);
        let mut cores = Cores::new(self.config.cores.clone());
        for task in kept() {
            let taken = task
                .cores
                .as_ref()
                .map_or(Ok(()), |own| cores.take_back(own).map_err(|why| without_cores(task, own, &why)));
            taken?;
        }
        let held = || kept().map(|task| &task.info.resources);
        let mut pool = self.recover_pool(total, held, actions).map_err(|missing| too_small(&missing))?;
        let fit = tasks.iter().map(|RecoveredTask { task, .. }| task).zip(tasks.iter().map(lost));
        let fit = fit.map(|(task, lost)| {
            if !lost {
                return true;
            }
            if pool.take_back(&task.info.resources).is_err() {
                return false;
            }
            let taken = task.cores.as_ref().is_none_or(|own| cores.take_back(own).is_ok());
            if !taken {
                pool.give_back(&task.info.resources);
            }
            taken
        });
        let fit = fit.collect();
        (self.pool, self.cores) = (pool, cores);
        Ok(fit)
    }

    /// The pool when tasks hold this of it; or what is missing.
    fn recover_pool<'a, H: Iterator<Item = &'a Resources>>(
        &mut self,
        total: Option<&Resources>,
        held: impl Fn() -> H,
        actions: &mut Actions,
    ) -> Result<Pool, Resources> {
        let made = total.map(|total| total.only(is_made)).unwrap_or_default();
        let untouched = held().map(|held| held.firm().only(|entry| !is_made(entry)));
        let needed = untouched.fold(unmade(&made), |sum, each| sum + &each);
        let missing = self.config.info.resources.missing(&needed);
        if missing.entries().any(|entry| !self.config.detected.contains(entry.name())) {
            return Err(missing);
        }
        if !missing.is_empty() {
            let more = "more than was detected is reserved, holds volumes, or is held by tasks; it is added";
            note(actions, format!("{missing} {more}"));
            self.config.info.resources += &missing;
        }
        let rest = self.config.info.resources.checked_sub(&unmade(&made));
        let mut pool = Pool::new(rest.expect("what was missing was added") + &made);
        for held in held() {
            pool.take_back(held).map_err(|lack| match lack {
                Lack::Unknown(missing) | Lack::Taken(missing) | Lack::Lent(missing) => missing,
            })?;
        }
        Ok(pool)
    }
}

/// What is to be done about cores that are a task's own and `why` cannot be.
fn without_cores(task: &TaskRecord, own: &CpuSet, why: &str) -> String {
    format!(
        "task `{}` of framework {} has cores {own} of this machine for itself, and {why}; have containers run on these and at least one more \
         (by `cpuset`, or the processors that the agent itself may run on), or drain the agent as it was set before and let the task end",
        task.info.task_id, task.framework_id
    )
}

/// Whose wish it is that a task ends, and since when, by the newest that was told of it. One that has ended by it has it still: the
/// others of its task group, which may not have been asked yet, are to end for the same.
fn wish(newest: &TaskStatus) -> Option<(Reason, Time)> {
    let reason = match (newest.state, newest.reason) {
        // Whose wish it was then is not told; it is hardly ever another's.
        (TaskState::Killing | TaskState::Killed, None | Some(Reason::KilledDuringLaunch)) => {
            Reason::KilledByFramework
        }
        (TaskState::Killing | TaskState::Killed | TaskState::GoneByOperator, Some(reason)) => reason,
        _ => return None,
    };
    Some((reason, newest.at))
}

fn changed(changes: &[String]) -> String {
    format!(
        "tasks run here that were placed by other settings: {}; start the agent as it was set before, or drain it and let its tasks end \
         first, or give it a new work directory once nothing runs of this one",
        changes.join("; ")
    )
}

fn too_small(missing: &Resources) -> String {
    format!(
        "the settings hold {missing} less than what is reserved, what holds volumes, and what tasks use; set `resources` to hold it too, \
         or start the agent as it was set before and first end those reservations, volumes and tasks"
    )
}
