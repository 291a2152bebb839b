//! What is asked of a task while it runs, and how long it may: health checks, checks, the time to complete.

use std::time::Duration;

use apportion_types::{
    Reason, Time,
    probe::{CheckResult, HealthCheck},
};

use crate::{
    AgentCore, Fence,
    action::{Action, Actions, Record},
    container::ContainerId,
    event::{ProbeKind, TaskKey, Times},
    state::{
        probing::{Probing, questions, spread},
        task::Phase,
        timers::Timer,
    },
};

/// Over how long the first probes of tasks that are started together are spread: readiness is waited for.
const SPREAD_MAX: Duration = Duration::from_secs(1);

impl AgentCore {
    /// The command of a task runs, or was found running after a restart of the agent: then neither its grace nor its time begins anew.
    pub(super) fn supervise(&mut self, now: Time, key: &TaskKey, found: bool, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        let supervision = &task.record.info.supervision;
        if supervision.max_completion.is_none()
            && supervision.health_check.is_none()
            && supervision.check.is_none()
        {
            return;
        }
        let known = task.started_at.is_some();
        let started_at = task.started_at.unwrap_or(now).min(now);
        task.started_at = Some(started_at);
        if let Some(most) = supervision.max_completion {
            self.timers.set(Timer::Completion(key.clone()), started_at + most);
        }
        if task.kill.is_none() {
            for (kind, _, schedule) in questions(supervision) {
                let span = if found { schedule.interval } else { schedule.interval.min(SPREAD_MAX) };
                let first = (started_at + schedule.delay).max(now) + spread(&task.record.container_id, span);
                task.probings.insert(kind, Probing::default());
                self.timers.set(Timer::Probe(key.clone(), kind), first);
            }
        }
        if !known {
            self.write_times(key, Times { started_at: Some(started_at), kill_at: None }, actions);
        }
    }

    /// Writes what a later process must know to keep to the times of a task.
    pub(super) fn write_times(&mut self, key: &TaskKey, times: Times, actions: &mut Actions) {
        let (framework_id, task_id) = key.clone();
        self.checkpoint(Record::Times { framework_id, task_id, times }, Fence::Nothing, actions);
    }

    /// Nothing more is asked of a task that is to end.
    pub(super) fn end_probes(&mut self, key: &TaskKey) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        for kind in std::mem::take(&mut task.probings).into_keys() {
            self.timers.cancel(&Timer::Probe(key.clone(), kind));
        }
    }

    /// Nothing more is done to a task that is over.
    pub(super) fn end_timers(&mut self, key: &TaskKey) {
        self.timers.cancel(&Timer::Kill(key.clone()));
        self.timers.cancel(&Timer::Completion(key.clone()));
        self.end_probes(key);
    }

    pub(super) fn probe_due(&mut self, key: &TaskKey, kind: ProbeKind, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("probes end with their task");
        let probing = task.probings.get_mut(&kind).expect("only what is asked has a timer");
        let asked = questions(&task.record.info.supervision).find(|(asked, ..)| *asked == kind);
        let (_, probe, schedule) = asked.expect("only what is asked has a timer");
        self.probes_asked += 1;
        probing.asked = Some(self.probes_asked);
        actions.push(Action::Probe {
            container_id: task.record.container_id.clone(),
            kind,
            number: self.probes_asked,
            probe: probe.clone(),
            timeout: schedule.timeout,
        });
    }

    /// An answer; one that nobody waits for any more is ignored.
    pub(super) fn probed(
        &mut self,
        now: Time,
        (container_id, kind, number): (ContainerId, ProbeKind, u64),
        result: CheckResult,
        heard: String,
        actions: &mut Actions,
    ) {
        let Some(key) = self.containers.get(&container_id).cloned() else { return };
        let task = self.tasks.get_mut(&key).expect("a container belongs to a task");
        let Some(probing) = task.probings.get_mut(&kind).filter(|probing| probing.asked == Some(number))
        else {
            return;
        };
        probing.asked = None;
        probing.heard = heard;
        let asked = questions(&task.record.info.supervision).find(|(asked, ..)| *asked == kind);
        let (.., schedule) = asked.expect("only what is asked is answered");
        self.timers.set(Timer::Probe(key.clone(), kind), now + schedule.interval);
        match kind {
            ProbeKind::Check => task.known.findings.check = Some(result),
            ProbeKind::Health => self.health_judged(now, &key, result, actions),
        }
        self.tell_more(now, &key, actions);
        self.group_changed(&key);
    }

    fn health_judged(&mut self, now: Time, key: &TaskKey, result: CheckResult, actions: &mut Actions) {
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        let probing = task.probings.get_mut(&ProbeKind::Health).expect("it was asked");
        let check: &HealthCheck = task.record.info.supervision.health_check.as_ref().expect("it was asked");
        let healthy = &mut task.known.findings.healthy;
        if result.is_good() {
            probing.failures = 0;
            *healthy = Some(true);
            return;
        }
        let started_at = task.started_at.expect("what is supervised has started");
        // The first answer that counts ends the grace.
        if healthy.is_none() && now < started_at + check.grace {
            return;
        }
        *healthy = Some(false);
        probing.failures = probing.failures.saturating_add(1);
        if check.failures_max == 0 || probing.failures < check.failures_max {
            return;
        }
        let why = match probing.failures {
            1 => format!("its health check failed: {}", probing.heard),
            times => {
                format!("its health check failed {times} times in a row, the last time: {}", probing.heard)
            }
        };
        self.kill(now, key, None, Reason::Unhealthy, Some(why), actions);
    }

    /// The time that a task was given is over, whatever grace it has been given meanwhile.
    pub(super) fn completion_due(&mut self, now: Time, key: &TaskKey, actions: &mut Actions) {
        let task = self.tasks.get(key).expect("the timer ends with its task");
        assert_eq!(task.phase, Phase::Running, "{key:?}: only a task that runs has a time to complete");
        let most = task.record.info.supervision.max_completion.expect("it was set by that");
        let why = format!("it has not completed within {most:?}");
        self.kill(now, key, Some(Duration::ZERO), Reason::MaxCompletionTime, Some(why), actions);
    }
}
