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
    handle::note,
    state::{
        cores::Cores,
        pool::{Lack, Pool, is_made, unmade},
        repeat::Repeat,
        stream::{Stream, Update},
        task::{Kill, Launcher, Phase, Task},
    },
};

impl AgentCore {
    pub(super) fn recovered(&mut self, now: Time, mut recovered: Recovered, actions: &mut Actions) {
        assert!(self.tasks.is_empty() && self.checkpoints_asked == 0, "the log is replayed first and once");
        self.agent_id = recovered.agent_id;
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
        let cores = match self.recover_cores(&mut recovered.tasks, machine_restarted) {
            Ok(cores) => cores,
            Err(reason) => return self.fail(reason, actions),
        };
        if let Err(missing) = self.recover_pool(recovered.total.as_ref(), &recovered.tasks, actions) {
            return self.fail(too_small(&missing), actions);
        }
        self.cores = cores;
        if recovered.process.as_ref() != Some(&process) {
            self.checkpoint(Record::Process(process), Fence::Nothing, actions);
        }
        // Volumes that were made behind the damage are not known, and their data may be all that is left of them.
        if recovered.total.is_some() && !recovered.damaged {
            let volumes: BTreeSet<_> = self.pool.total.entries().filter_map(volume_key).collect();
            actions.push(Action::KeepVolumes(volumes));
        }
        for AgentOperation { framework_id, status } in recovered.operations {
            self.keep_outcome(framework_id, status, true);
        }
        for task in recovered.tasks {
            self.recover_task(now, task, machine_restarted, actions);
        }
        self.suppose_held();
        for (framework_id, status) in recovered.strays {
            let key = (framework_id, status.task_id.clone());
            self.recover_stream(&key, Some(status.state), vec![status]);
        }
    }

    fn recover_task(
        &mut self,
        now: Time,
        recovered: RecoveredTask,
        machine_restarted: bool,
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
        if !ended && !waits && by_executor.is_none() {
            // Also after a restart of the machine: what had ended before it may have left its account.
            let group_network = GroupPlan::network_of(&container_id, &record.info);
            actions.push(Action::Attach { container_id, group_network });
        }
        let phase = match (ended, waits) {
            (true, _) => Phase::Ended { kept: true },
            (false, true) => Phase::Waiting,
            (false, false) => Phase::Attaching,
        };
        let state = state.unwrap_or(TaskState::Staging);
        let mut task = Task { kill, started_at: times.started_at, ..Task::new(record, phase, state) };
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

    /// Gives the tasks the cores back that are their own. One that was lost when the machine was switched off needs none that are not there.
    fn recover_cores(&self, tasks: &mut [RecoveredTask], machine_restarted: bool) -> Result<Cores, String> {
        let mut cores = Cores::new(self.config.cores.clone());
        for task in tasks.iter_mut().filter(|task| !task.has_ended()) {
            let Some(own) = &task.task.cores else { continue };
            if let Err(why) = cores.take_back(own) {
                if task.waits || !machine_restarted {
                    return Err(without_cores(&task.task, own, &why));
                }
                task.task.cores = None;
            }
        }
        Ok(cores)
    }

    /// Has the settings of this process changed as those of earlier ones were, and takes what tasks hold of that; or says what is
    /// missing.
    fn recover_pool(
        &mut self,
        total: Option<&Resources>,
        tasks: &[RecoveredTask],
        actions: &mut Actions,
    ) -> Result<(), Resources> {
        let made = total.map(|total| total.only(is_made)).unwrap_or_default();
        let held = || {
            let live = tasks.iter().filter(|task| !task.has_ended());
            live.map(|task| &task.task.info.resources)
        };
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
        self.pool = pool;
        Ok(())
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
        (TaskState::Killing | TaskState::Killed, Some(reason)) => reason,
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
