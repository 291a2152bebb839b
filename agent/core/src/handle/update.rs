//! Update streams: a status is made, written, sent, repeated, acknowledged.

use std::{collections::btree_map::Entry, sync::Arc};

use apportion_types::{
    ContainerStatus, Drain, Reason, Source, TaskState, TaskStatus, Time, UpdateId, limits,
    protocol::agent::AgentMessage, text::cut,
};

use crate::{
    AgentCore, Fence,
    action::{Action, Actions, Record},
    event::{ProbeKind, TaskKey},
    state::{
        link::Link,
        repeat::Repeat,
        stream::{Stream, Update},
        task::Phase,
        timers::Timer,
    },
    view::TaskView,
};

/// What is new in a status.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    state: TaskState,
    reason: Option<Reason>,
    message: String,
    container: Option<ContainerStatus>,
}

impl Draft {
    pub(crate) fn new(state: TaskState, message: impl Into<String>) -> Self {
        Self { state, reason: None, message: message.into(), container: None }
    }

    #[must_use]
    pub(crate) fn because(self, reason: Reason) -> Self {
        Self { reason: Some(reason), ..self }
    }

    /// The same, said of this.
    #[must_use]
    pub(crate) fn of(self, what: &str) -> Self {
        Self { message: format!("{what}: {}", self.message), ..self }
    }

    /// The same of an agent that is drained: whatever is killed meanwhile is for that, and is gone where the agent will be.
    fn during(self, drain: Option<Drain>) -> Self {
        match (self.state, drain) {
            (TaskState::Killed, Some(drain)) => {
                let state = if drain.mark_gone { TaskState::GoneByOperator } else { TaskState::Killed };
                Self { state, ..self }.because(Reason::AgentDraining)
            }
            _ => self,
        }
    }

    #[must_use]
    pub(crate) fn with_container(self, container: ContainerStatus) -> Self {
        Self { container: Some(container), ..self }
    }
}

impl AgentCore {
    /// Makes an update: the one door through which the state of a task changes. A terminal one gives its resources back and stops its
    /// kill.
    pub(crate) fn update(&mut self, now: Time, key: &TaskKey, draft: Draft, actions: &mut Actions) {
        let draft = draft.during(self.drain.filter(|_| self.tasks.contains_key(key)));
        self.updates_made += 1;
        let update_id = UpdateId::new(self.incarnation, self.updates_made);
        let status = TaskStatus {
            task_id: key.1.clone(),
            agent_id: self.agent_id.clone(),
            state: draft.state,
            reason: draft.reason,
            source: Source::Agent,
            message: cut(draft.message, limits::STATUS_MESSAGE_BYTES_MAX),
            at: now,
            update_id: Some(update_id),
            container: draft.container,
            findings: self.tasks.get(key).map(|task| task.known.findings).unwrap_or_default(),
            addresses: self.tasks.get(key).map(|task| task.addresses.clone()).unwrap_or_default(),
        };
        let mut ended = false;
        match self.tasks.get_mut(key) {
            Some(task) => {
                assert!(task.state.may_become(status.state), "{key:?}: {} to {}", task.state, status.state);
                task.state = status.state;
                task.told.findings = status.findings;
                if status.state.is_terminal() {
                    assert!(
                        matches!(task.phase, Phase::Ended { .. }),
                        "{key:?} ends while its container may run"
                    );
                    if task.holds {
                        self.pool.give_back(&task.record.info.resources);
                        task.record.cores.iter().for_each(|own| self.cores.give_back(own));
                    }
                    ended = true;
                }
            }
            None => assert!(
                status.state.is_terminal() && !self.streams.contains_key(key),
                "{key:?}: a task that is not here is told of once"
            ),
        }
        if ended {
            self.end_timers(key);
            self.leave_group_network(key, actions);
        }
        self.view.counters.updates_made += 1;
        if status.state.is_terminal() {
            *self.view.counters.tasks_ended.entry(status.state.name()).or_default() += 1;
        }
        let stream =
            self.streams.entry(key.clone()).or_insert_with(|| Stream::new(Repeat::new(&self.config)));
        stream.dropped |= self.tasks.get(key).is_some_and(|task| task.framework_removed);
        let record = Record::Update { framework_id: key.0.clone(), status: status.clone() };
        stream.pending.push_back(Update { status, durable: false, sent: false, acknowledged: false });
        self.show(key);
        self.checkpoint(record, Fence::Update(key.clone(), update_id), actions);
        self.made_of_executor(key, update_id, ended);
        if ended {
            self.group_changed(key);
            self.task_changed(key);
        }
    }

    /// Tells what is new of a task that goes on as it did, once all that was told of it before is acknowledged.
    pub(super) fn tell_more(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let Some(task) = self.tasks.get_mut(key).filter(|task| task.kill.is_none()) else { return };
        if self.streams.get(key).is_some_and(|stream| !stream.pending.is_empty()) {
            return;
        }
        let draft = match task.phase {
            Phase::Waiting | Phase::Launching if task.known.progress != task.told.progress => {
                task.told.progress = task.known.progress.clone();
                Draft::new(TaskState::Starting, task.known.progress.clone())
            }
            Phase::Running if task.record.info.executor().is_some() => {
                if task.known == task.told {
                    return;
                }
                let news = task.known.findings.healthy != task.told.findings.healthy;
                task.told.progress = task.known.progress.clone();
                let draft = Draft::new(TaskState::Running, task.known.progress.clone());
                if news { draft.because(Reason::HealthChanged) } else { draft }
            }
            Phase::Running => {
                let (known, told) = (task.known.findings, task.told.findings);
                let (what, kind, reason) = if known.healthy != told.healthy {
                    let what = if known.healthy == Some(true) { "healthy: " } else { "not healthy: " };
                    (what, ProbeKind::Health, Reason::HealthChanged)
                } else if known.check != told.check {
                    ("", ProbeKind::Check, Reason::CheckChanged)
                } else {
                    return;
                };
                let heard = task.probings.get(&kind).map_or("", |probing| &probing.heard);
                Draft::new(TaskState::Running, format!("{what}{heard}")).because(reason)
            }
            _ => return,
        };
        self.update(now, key, draft, actions);
    }

    /// Tells readers of a task as it is now.
    pub(crate) fn show(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get(key) else {
            self.view.tasks.remove(key);
            return;
        };
        let newest = self
            .streams
            .get(key)
            .and_then(|stream| stream.pending.back())
            .map(|update| update.status.clone());
        let old = self.view.tasks.get(key);
        let view = TaskView {
            role: task.record.role.clone(),
            info: old.map_or_else(|| Arc::new(task.record.info.clone()), |old| old.info.clone()),
            container_id: task.record.container_id.clone(),
            state: task.state,
            status: newest.or_else(|| old.and_then(|old| old.status.clone())),
        };
        self.view.tasks.insert(key.clone(), Arc::new(view));
    }

    pub(super) fn update_durable(&mut self, key: &TaskKey, update_id: UpdateId) {
        let stream = self.streams.get_mut(key).expect("a stream stays until its last update is acknowledged");
        stream.mark_durable(update_id);
    }

    /// Sends what is new since an update of the stream got to the disk.
    pub(super) fn tell_news(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.dropped && stream.has_ended() {
            return self.drop_stream(key, actions);
        }
        // The master frees the resources of an ended task by `latest_state`, which must not wait for a slow scheduler.
        let untold = stream.has_ended() && !stream.end_told;
        if untold || stream.pending.front().is_some_and(|head| !head.sent) {
            self.send_head_afresh(now, key, actions);
        }
    }

    /// Sends the head, if there is one that may be sent, and starts its repetitions from the shortest pause.
    pub(super) fn send_head_afresh(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        if let Some(stream) = self.streams.get_mut(key) {
            stream.repeat = Repeat::new(&self.config);
        }
        self.send_head(now, key, actions);
    }

    /// Sends the head, if there is one that may be sent.
    pub(super) fn send_head(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        if self.link != Link::Registered {
            return;
        }
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(latest_state) = stream.durable_state else { return };
        let ended = stream.has_ended();
        let Some(head) = stream.pending.front_mut().filter(|head| head.durable && !head.acknowledged) else {
            return;
        };
        head.sent = true;
        stream.end_told |= ended;
        actions.push(Action::Send(AgentMessage::StatusUpdate {
            framework_id: key.0.clone(),
            status: head.status.clone(),
            latest_state,
        }));
        self.view.counters.updates_sent += 1;
        let pause = stream.repeat.pause(&self.config);
        self.timers.set(Timer::Retry(key.clone()), now + pause);
    }

    /// The scheduler's acknowledgement. One that does not name the head is of an update that was acknowledged before.
    pub(super) fn acknowledged(&mut self, key: TaskKey, update_id: UpdateId, actions: &mut Actions) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let head = stream
            .pending
            .front_mut()
            .filter(|head| head.id() == update_id && head.durable && !head.acknowledged);
        let Some(head) = head else { return };
        head.acknowledged = true;
        self.view.counters.acknowledgements += 1;
        self.timers.cancel(&Timer::Retry(key.clone()));
        let (framework_id, task_id) = key.clone();
        let record = Record::Acknowledgement { framework_id, task_id, update_id };
        self.checkpoint(record, Fence::Acknowledgement(key, update_id), actions);
    }

    pub(super) fn acknowledgement_durable(
        &mut self,
        now: Time,
        key: &TaskKey,
        update_id: UpdateId,
        actions: &mut Actions,
    ) {
        let Entry::Occupied(mut entry) = self.streams.entry(key.clone()) else {
            unreachable!("{key:?}: a stream stays until its last acknowledgement is on disk");
        };
        let head = entry.get_mut().pending.pop_front();
        let head = head.filter(|head| head.id() == update_id).expect("only the head is acknowledged");
        if !head.status.state.is_terminal() {
            self.tell_more(now, key, actions);
            return self.send_head_afresh(now, key, actions);
        }
        assert!(entry.get().pending.is_empty(), "{key:?}: an update after the terminal one");
        entry.remove();
        self.timers.cancel(&Timer::Retry(key.clone()));
        if let Some(task) = self.tasks.remove(key) {
            self.containers.remove(&task.record.container_id);
            self.leave_group(key, &task.record.info);
            self.executors.remove(key);
            if task.phase == (Phase::Ended { kept: true }) {
                actions.push(Action::Remove { container_id: task.record.container_id });
            }
        }
        self.show(key);
        self.name_is_free(now, key, actions);
    }

    /// Takes every update off an ended stream that nobody will acknowledge. The master is told of the end once, for its books.
    pub(super) fn drop_stream(&mut self, key: &TaskKey, actions: &mut Actions) {
        self.timers.cancel(&Timer::Retry(key.clone()));
        let stream = self.streams.get_mut(key).expect("the caller has looked");
        let last = stream.pending.back().expect("an ended stream stays until its end is acknowledged");
        let tell = self.link == Link::Registered && !last.acknowledged;
        if tell {
            actions.push(Action::Send(AgentMessage::StatusUpdate {
                framework_id: key.0.clone(),
                status: last.status.clone(),
                latest_state: last.status.state,
            }));
            self.view.counters.updates_sent += 1;
        }
        let open = stream.pending.iter_mut().filter(|update| !update.acknowledged);
        let ids: Vec<UpdateId> = open
            .map(|update| {
                update.acknowledged = true;
                update.id()
            })
            .collect();
        for update_id in ids {
            let (framework_id, task_id) = key.clone();
            let record = Record::Acknowledgement { framework_id, task_id, update_id };
            self.checkpoint(record, Fence::Acknowledgement(key.clone(), update_id), actions);
        }
    }
}
