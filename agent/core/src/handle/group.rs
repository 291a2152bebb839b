//! Task groups: taken on together, launched in the order of their parts, ended together.

use apportion_types::{CpuSet, GroupId, GroupInfo, Reason, TaskInfo, TaskState, Time};

use crate::{
    AgentCore, Fence,
    action::{Action, Actions, Record},
    container::GroupPlan,
    event::{TaskKey, TaskRecord},
    handle::{note, run::Origin, update::Draft},
    state::{
        group::{GroupKey, Members, Next},
        task::{Phase, Waiting},
    },
};

impl AgentCore {
    /// Takes the tasks of a group on, all or none. It waits as a whole while one of their names, or that of the group, is not free.
    pub(super) fn run_group(
        &mut self,
        now: Time,
        of: Origin<'_>,
        group_id: GroupId,
        members: Vec<TaskInfo>,
        actions: &mut Actions,
    ) {
        let keys: Vec<TaskKey> =
            members.iter().map(|info| (of.framework_id.clone(), info.task_id.clone())).collect();
        let group = (of.framework_id.clone(), group_id);
        let before = self.groups.get(&group).into_iter().flat_map(|places| places.values());
        if let Some(over) = keys.iter().chain(before).find(|key| self.is_over(key)).cloned() {
            let (framework_info, role) = (of.framework_info.clone(), of.role.clone());
            return self.wait(over, Waiting::RunGroup { framework_info, role, members });
        }
        if keys.iter().all(|key| self.is_known(key)) {
            let message = "is known here already; the second description is ignored";
            return note(actions, format!("task group {} of framework {}: {message}", group.1, group.0));
        }
        let mut taken = Vec::with_capacity(members.len());
        if let Err(draft) = self.judge_group(&group, &keys, &members, &mut taken) {
            for (info, cores) in members.iter().zip(taken) {
                self.pool.give_back(&info.resources);
                cores.iter().for_each(|own| self.cores.give_back(own));
            }
            for key in &keys {
                if !self.is_known(key) {
                    self.update(now, key, (*draft).clone(), actions);
                }
            }
            return;
        }
        let records: Vec<TaskRecord> =
            members.into_iter().zip(taken).map(|(info, cores)| self.take_on(of, info, cores)).collect();
        self.groups.insert(group.clone(), (0..).zip(keys).collect());
        self.checkpoint(Record::Group(records), Fence::Group(group), actions);
    }

    /// Takes what the tasks of a group need, or says why it cannot be had; `taken` has the cores of those for which all was taken.
    fn judge_group(
        &mut self,
        group: &GroupKey,
        keys: &[TaskKey],
        members: &[TaskInfo],
        taken: &mut Vec<Option<CpuSet>>,
    ) -> Result<(), Box<Draft>> {
        let refuse =
            |state, message: String| Box::new(Draft::new(state, message).because(Reason::TaskGroupInvalid));
        let invalid = |message: String| refuse(TaskState::Error, message);
        GroupInfo::of(members).map_err(|error| invalid(error.to_string()))?;
        if self.groups.contains_key(group) {
            let message = format!("an older task group `{}` is here, whose end is not acknowledged", group.1);
            return Err(refuse(TaskState::Dropped, message));
        }
        if let Some(known) = keys.iter().find(|key| self.is_known(key)) {
            let message = format!("task `{}` of its task group is here already, as another one", known.1);
            return Err(invalid(message));
        }
        if let Some(draft) = self.too_late() {
            return Err(Box::new(draft));
        }
        for info in members {
            let of_it =
                |draft: Draft| Box::new(draft.of(&format!("task `{}` of its task group", info.task_id)));
            taken.push(self.take(info).map_err(of_it)?);
        }
        Ok(())
    }

    /// The tasks of a group are on disk: each waits for its turn, unless it was asked to end meanwhile.
    pub(super) fn group_taken_on(&mut self, now: Time, group: &GroupKey, actions: &mut Actions) {
        let keys: Vec<TaskKey> = self.groups[group].values().cloned().collect();
        for key in &keys {
            let task = self.tasks.get_mut(key).expect("a task stays until its end is acknowledged");
            assert_eq!(task.phase, Phase::Checkpointing, "{key:?} is taken on once");
            task.phase = Phase::Waiting;
        }
        for key in &keys {
            self.end_if_killed(now, key, None, actions);
        }
        self.unsettled.insert(group.clone());
    }

    /// The turn of a member is on disk: it is launched, unless it was asked to end meanwhile.
    pub(super) fn turn_durable(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let phase = self.tasks.get(key).map(|task| task.phase);
        assert_eq!(phase, Some(Phase::Turning), "{key:?} has its turn once");
        if !self.end_if_killed(now, key, None, actions) {
            self.launch(now, key, actions);
        }
    }

    /// Ends a task that is asked to end and has no container.
    pub(super) fn end_if_killed(
        &mut self,
        now: Time,
        key: &TaskKey,
        why: Option<String>,
        actions: &mut Actions,
    ) -> bool {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        let Some(kill) = task.kill else { return false };
        task.phase = Phase::Ended { kept: false };
        let why = why.map(|why| format!("; {why}")).unwrap_or_default();
        let draft = Draft::new(TaskState::Killed, format!("killed before it was started{why}"));
        self.update(now, key, draft.because(kill.told_reason()), actions);
        true
    }

    /// Has it looked at again, before the event is over, what is to follow in the task group of a task, if it is of one.
    pub(super) fn group_changed(&mut self, key: &TaskKey) {
        let of = self.tasks.get(key).and_then(|task| task.record.info.group.as_ref());
        if let Some(of) = of {
            self.unsettled.insert((key.0.clone(), of.group_id.clone()));
        }
    }

    /// Has the network of a task group left once the last of its members has ended; nobody can have been told of that end yet.
    pub(super) fn leave_group_network(&self, key: &TaskKey, actions: &mut Actions) {
        let TaskRecord { container_id, info, .. } = &self.tasks[key].record;
        let Some(run) = GroupPlan::network_of(container_id, info) else { return };
        let of = info.group.as_ref().expect("it has its group's network");
        let mut members = self.groups[&(key.0.clone(), of.group_id.clone())].values();
        if members.all(|member| self.tasks[member].state.is_terminal()) {
            actions.push(Action::LeaveNetwork { run });
        }
    }

    /// Does what is to follow in each group that has changed, until there is nothing: the one place where that is decided.
    pub(super) fn settle_groups(&mut self, now: Time, actions: &mut Actions) {
        while let Some(group) = self.unsettled.pop_first() {
            self.settle_group(now, &group, actions);
        }
    }

    fn settle_group(&mut self, now: Time, group: &GroupKey, actions: &mut Actions) {
        let Some(places) = self.groups.get(group) else { return };
        if places.values().any(|key| self.tasks[key].phase == Phase::Checkpointing) {
            return;
        }
        match Members::new(places, &self.tasks).next() {
            Next::Nothing => {}
            // What has its turn now would be found nowhere by the next process, if this one does not stay to launch it.
            Next::Launch(_) if self.shutdown.is_some() => {}
            Next::Launch(keys) => {
                for key in keys {
                    self.tasks.get_mut(&key).expect("it is a member").phase = Phase::Turning;
                    let (framework_id, task_id) = key.clone();
                    self.checkpoint(Record::Turn { framework_id, task_id }, Fence::Turn(key), actions);
                }
            }
            Next::End { reason, why } => {
                for key in places.values().rev().cloned().collect::<Vec<_>>() {
                    if !self.tasks[&key].is_to_end() {
                        self.kill_alone(now, &key, None, reason, Some(why.clone()), actions);
                    }
                }
            }
            Next::Finish(key) => {
                let why = "the main tasks of its task group have finished".to_owned();
                self.kill_alone(now, &key, None, Reason::TaskGroupFinished, Some(why), actions);
            }
        }
        self.tell_awaited(now, group, actions);
    }

    /// Tells the members that wait for what that is.
    fn tell_awaited(&mut self, now: Time, group: &GroupKey, actions: &mut Actions) {
        let members = Members::new(&self.groups[group], &self.tasks);
        let awaited = members.awaited();
        for key in members.waiting().cloned().collect::<Vec<_>>() {
            let task = self.tasks.get_mut(&key).expect("it is a member");
            task.known.progress.clone_from(&awaited);
            if task.state == TaskState::Staging {
                task.told.progress.clone_from(&awaited);
                self.update(now, &key, Draft::new(TaskState::Starting, awaited.clone()), actions);
            } else {
                self.tell_more(now, &key, actions);
            }
        }
    }

    /// Lets go of a task's place in its group.
    pub(super) fn leave_group(&mut self, key: &TaskKey, info: &TaskInfo) {
        let Some(of) = &info.group else { return };
        let group = (key.0.clone(), of.group_id.clone());
        if let Some(places) = self.groups.get_mut(&group) {
            places.remove(&of.place);
            if places.is_empty() {
                self.groups.remove(&group);
            }
        }
    }

    /// The other name under which a task waits, with its group or because of its executor, if it does.
    pub(super) fn waits_elsewhere(&self, key: &TaskKey) -> Option<TaskKey> {
        let of = |waiting: &Waiting| match waiting {
            Waiting::Run { info, .. } => info.task_id == key.1,
            Waiting::RunGroup { members, .. } => members.iter().any(|info| info.task_id == key.1),
            _ => false,
        };
        let mut waiting = self.waiting.iter().filter(|(at, _)| at.0 == key.0);
        waiting.find(|(_, all)| all.iter().any(of)).map(|(at, _)| at.clone())
    }
}
