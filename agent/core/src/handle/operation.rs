//! Operations: what the agent has is changed, written, told, repeated, acknowledged.

use std::collections::BTreeSet;

use apportion_types::{
    FrameworkId, Operation, OperationId, OperationState, OperationStatus, Reason, Resources, Time, UpdateId,
    limits,
    operation::Conversion,
    protocol::agent::{AgentMessage, AgentOperation},
    text::cut,
};

use crate::{
    AgentCore, Done, Fence,
    action::{Action, Actions, Record, VolumeKey},
    container::volume_key,
    handle::note,
    state::{
        link::Link,
        outcome::{OperationKey, Outcome},
        pool::Unfit,
        repeat::Repeat,
        timers::Timer,
    },
};

/// What is new in the status of an operation.
struct Verdict {
    state: OperationState,
    reason: Option<Reason>,
    message: String,
}

impl AgentCore {
    /// Does an operation, or refuses it; what is told of it waits for the disk.
    pub(super) fn apply(
        &mut self,
        now: Time,
        framework_id: Option<FrameworkId>,
        operation_id: Option<OperationId>,
        operation: &Operation,
        actions: &mut Actions,
    ) {
        self.applied += 1;
        // What became of an operator's operation is told to nobody.
        let key = framework_id.zip(operation_id);
        // A name is free as soon as its acknowledgement is on the way to the disk: the log has them in order.
        let taken = |key: &&OperationKey| self.outcomes.get(key).is_some_and(|outcome| !outcome.acknowledged);
        if let Some(key) = key.as_ref().filter(taken) {
            let message = "what became of one of that name is not acknowledged; the second one is ignored";
            note(actions, format!("operation {} of framework {}: {message}", key.1, key.0));
            return self.tell_total(actions);
        }
        match self.convert(operation) {
            Ok(done) => {
                self.view.counters.operations_done += 1;
                let verdict =
                    Verdict { state: OperationState::Finished, reason: None, message: String::new() };
                let total = Some(self.pool.total.clone());
                self.write_operation(now, total, key, verdict, done, actions);
                // What the master had sent before it heard of a total is not in that.
                if self.total_told {
                    self.tell_total(actions);
                }
            }
            Err(verdict) => {
                self.view.counters.operations_refused += 1;
                note(actions, format!("`{operation}` is not done: {}", verdict.message));
                if key.is_some() {
                    self.write_operation(now, None, key, verdict, Done::default(), actions);
                }
                self.tell_total(actions);
            }
        }
    }

    /// Changes what the agent has, or nothing.
    fn convert(&mut self, operation: &Operation) -> Result<Done, Verdict> {
        let conversion = operation.conversion().map_err(|message| Verdict {
            state: OperationState::Error,
            reason: Some(Reason::OperationInvalid),
            message,
        })?;
        let unfit = |unfit| match unfit {
            Unfit::Stale(message) => {
                Verdict { state: OperationState::Dropped, reason: Some(Reason::ResourcesUnknown), message }
            }
            Unfit::TooMuch(message) => {
                Verdict { state: OperationState::Failed, reason: Some(Reason::OperationInvalid), message }
            }
        };
        if let Some(user) = self.sharer(&conversion) {
            let message = format!("task {} of framework {} uses a volume of it", user.1, user.0);
            return Err(unfit(Unfit::Stale(message)));
        }
        self.pool.convert(&conversion).map_err(unfit)?;
        let volumes = |resources: &Resources| -> BTreeSet<VolumeKey> {
            resources.entries().filter_map(volume_key).collect()
        };
        let (before, after) = (volumes(&conversion.consumed), volumes(&conversion.produced));
        Ok(Done {
            // One that changes its size is on both sides.
            deleted: before.difference(&after).cloned().collect(),
            made: after.difference(&before).cloned().collect(),
            named: None,
        })
    }

    /// A task that has not ended and uses a shared volume which the conversion consumes.
    fn sharer(&self, conversion: &Conversion) -> Option<&crate::TaskKey> {
        let shared = conversion.consumed.shared();
        let uses =
            |held: &Resources| shared.entries().any(|entry| held.entries().any(|other| other == entry));
        let live = self.tasks.iter().filter(|(_, task)| !task.state.is_terminal());
        live.into_iter().find(|(_, task)| uses(&task.record.info.resources)).map(|(key, _)| key)
    }

    fn write_operation(
        &mut self,
        now: Time,
        total: Option<Resources>,
        key: Option<OperationKey>,
        verdict: Verdict,
        done: Done,
        actions: &mut Actions,
    ) {
        let update_id = UpdateId::new(self.incarnation, self.updates_made + 1);
        let outcome = key.as_ref().map(|(framework_id, operation_id)| {
            self.updates_made += 1;
            let status = OperationStatus {
                operation_id: operation_id.clone(),
                agent_id: self.agent_id.clone(),
                state: verdict.state,
                reason: verdict.reason,
                message: cut(verdict.message, limits::STATUS_MESSAGE_BYTES_MAX),
                at: now,
                update_id: Some(update_id),
            };
            AgentOperation { framework_id: framework_id.clone(), status }
        });
        if let Some(AgentOperation { framework_id, status }) = outcome.clone() {
            self.keep_outcome(framework_id, status, false);
        }
        let fence = Fence::Operation(Box::new(Done { named: key.map(|key| (key, update_id)), ..done }));
        self.checkpoint(Record::Operation { total, outcome }, fence, actions);
    }

    /// Keeps what became of an operation until that is acknowledged.
    pub(super) fn keep_outcome(&mut self, framework_id: FrameworkId, status: OperationStatus, durable: bool) {
        let key = (framework_id, status.operation_id.clone());
        let repeat = Repeat::new(&self.config);
        self.outcomes.insert(key, Outcome { status, durable, acknowledged: false, repeat });
    }

    /// The operation is on disk: what it ended may be deleted, and it may be told.
    pub(super) fn operation_durable(&mut self, now: Time, done: Done, actions: &mut Actions) {
        actions.extend(done.deleted.into_iter().map(Action::DeleteVolume));
        actions.extend(done.made.into_iter().map(Action::MakeVolume));
        let Some((key, update_id)) = done.named else { return };
        if let Some(outcome) = self.outcomes.get_mut(&key).filter(|outcome| outcome.id() == update_id) {
            outcome.durable = true;
            self.send_outcome(now, &key, actions);
        }
    }

    /// Sends what became of an operation, with its repetitions from the shortest pause.
    pub(super) fn send_outcome_afresh(&mut self, now: Time, key: &OperationKey, actions: &mut Actions) {
        if let Some(outcome) = self.outcomes.get_mut(key) {
            outcome.repeat = Repeat::new(&self.config);
        }
        self.send_outcome(now, key, actions);
    }

    /// Sends what became of an operation, if that may be told.
    pub(super) fn send_outcome(&mut self, now: Time, key: &OperationKey, actions: &mut Actions) {
        if self.link != Link::Registered {
            return;
        }
        let Some(outcome) = self.outcomes.get_mut(key).filter(|outcome| outcome.is_open()) else { return };
        actions.push(Action::Send(AgentMessage::OperationUpdate(AgentOperation {
            framework_id: key.0.clone(),
            status: outcome.status.clone(),
        })));
        self.view.counters.updates_sent += 1;
        let pause = outcome.repeat.pause(&self.config);
        self.timers.set(Timer::RetryOperation(key.clone()), now + pause);
    }

    /// The framework's acknowledgement. One of another update is of an operation of the same name before.
    pub(super) fn operation_acknowledged(
        &mut self,
        key: OperationKey,
        update_id: UpdateId,
        actions: &mut Actions,
    ) {
        let outcome = self.outcomes.get(&key).filter(|outcome| outcome.is_open());
        if outcome.is_some_and(|outcome| outcome.id() == update_id) {
            self.view.counters.acknowledgements += 1;
            self.forget_outcome(key, actions);
        }
    }

    /// Writes that nobody needs to hear an outcome any more.
    pub(super) fn forget_outcome(&mut self, key: OperationKey, actions: &mut Actions) {
        let outcome = self.outcomes.get_mut(&key).expect("the caller has looked");
        if std::mem::replace(&mut outcome.acknowledged, true) {
            return;
        }
        let update_id = outcome.id();
        self.timers.cancel(&Timer::RetryOperation(key.clone()));
        let record = Record::OperationAcknowledgement {
            framework_id: key.0.clone(),
            operation_id: key.1.clone(),
            update_id,
        };
        self.checkpoint(record, Fence::OperationAcknowledgement(key, update_id), actions);
    }

    /// An acknowledgement is on disk. Another operation may have taken the name meanwhile.
    pub(super) fn outcome_over(&mut self, key: &OperationKey, update_id: UpdateId) {
        if self.outcomes.get(key).is_some_and(|outcome| outcome.id() == update_id) {
            self.outcomes.remove(key);
        }
    }

    /// Has the master's books follow, whatever it took for granted.
    fn tell_total(&mut self, actions: &mut Actions) {
        self.total_told = true;
        actions.push(Action::Send(AgentMessage::Total {
            total: self.pool.total.clone(),
            applied: self.applied,
        }));
    }
}
