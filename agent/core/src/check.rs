//! The laws that hold after every event, checked by code.

use std::collections::{BTreeMap, BTreeSet};

use apportion_types::{Resources, TaskState};

use crate::{
    AgentCore,
    container::volume_key,
    event::{ProbeKind, TaskKey},
    state::{
        group::{Members, Next},
        link::Link,
        pool::{Pool, unmade},
        probing::questions,
        task::{Phase, Task},
        timers::Timer,
    },
};

impl AgentCore {
    /// Panics when a law is broken: a bug of this crate, never of a peer. Run after each event in debug builds; its cost grows with the
    /// number of tasks.
    pub fn check(&self) {
        self.check_resources();
        self.check_outcomes();
        self.check_groups();
        self.check_executors();
        self.check_cores();
        for (key, task) in &self.tasks {
            let ended = matches!(task.phase, Phase::Ended { .. });
            assert_eq!(ended, task.state.is_terminal(), "{key:?}: {} with {:?}", task.state, task.phase);
            let container_id = &task.record.container_id;
            assert_eq!(self.containers.get(container_id), Some(key), "{container_id} leads back to its task");
            self.check_supervision(key, task);
            let stream = self.streams.get(key);
            assert_eq!(stream.is_none(), task.state == TaskState::Staging, "{key:?}: every step is told");
            let newest = stream.and_then(|stream| stream.pending.back());
            assert!(
                newest.is_none_or(|newest| newest.status.state == task.state),
                "{key:?}: the newest state is told last"
            );
            let killing = task.kill.is_some() && task.phase == Phase::Running;
            assert!(
                !killing || self.timers.is_set(&Timer::Kill(key.clone())),
                "{key:?}: a kill is followed up"
            );
        }
        assert_eq!(self.containers.len(), self.tasks.len(), "each task has one container");
        for (key, stream) in &self.streams {
            let states: Vec<TaskState> = stream.pending.iter().map(|update| update.status.state).collect();
            assert!(states.windows(2).all(|pair| pair[0].may_become(pair[1])), "{key:?}: {states:?}");
            let durable = stream.pending.iter().map(|update| update.durable);
            assert!(durable.is_sorted_by(|before, after| before >= after), "{key:?}: written in order");
            assert!(
                stream.pending.iter().all(|update| update.durable || !update.sent),
                "{key:?}: sent before written"
            );
            assert!(
                stream.pending.iter().skip(1).all(|update| !update.sent),
                "{key:?}: only the head is under way"
            );
            assert!(
                self.tasks.contains_key(key) || states.len() == 1 && states[0].is_terminal(),
                "{key:?}: {states:?}"
            );
            let waiting = stream.durable_head().is_some_and(|head| !head.acknowledged);
            let retried = self.timers.is_set(&Timer::Retry(key.clone()));
            assert_eq!(
                retried,
                waiting && self.link == Link::Registered,
                "{key:?}: the head is repeated while connected"
            );
        }
    }

    fn check_supervision(&self, key: &TaskKey, task: &Task) {
        let asked = task.phase == Phase::Running && task.kill.is_none();
        for kind in [ProbeKind::Health, ProbeKind::Check] {
            let wanted = questions(&task.record.info.supervision).any(|(wanted, ..)| wanted == kind);
            let probing = task.probings.get(&kind);
            assert_eq!(probing.is_some(), wanted && asked, "{key:?}: what runs is asked, and nothing else");
            let waits = self.timers.is_set(&Timer::Probe(key.clone(), kind));
            let under_way = probing.is_some_and(|probing| probing.asked.is_some());
            assert!(!(waits && under_way), "{key:?}: one probe of a kind at a time");
            assert_eq!(waits || under_way, probing.is_some(), "{key:?}: the next probe is waited for");
        }
        let bounded = task.record.info.supervision.max_completion.is_some();
        let timed = self.timers.is_set(&Timer::Completion(key.clone()));
        assert!(!timed || bounded && task.phase == Phase::Running, "{key:?}: only what runs is timed");
        let runs_on = bounded && task.phase == Phase::Running && task.kill.is_none();
        assert!(!runs_on || timed, "{key:?}: its time to complete is watched");
    }

    fn check_resources(&self) {
        let Pool { total, free, borrowed, .. } = &self.pool;
        let live = || {
            let live = self.tasks.values().filter(|task| !task.state.is_terminal());
            live.map(|task| &task.record.info.resources)
        };
        let rest = live().try_fold(total.clone(), |rest, held| rest.checked_sub(&held.firm()));
        assert_eq!(rest.as_ref(), Some(free), "what tasks hold and what is free are all there is");
        assert!(
            live().all(|held| total.contains(&held.shared())),
            "a shared volume is there while tasks use it"
        );
        let lent: Resources = live().map(Resources::revocable).collect::<Vec<_>>().iter().sum();
        assert_eq!(lent, *borrowed, "what tasks were lent is counted");
        assert!(total.revocable().is_empty(), "{total}: what is lent is told by itself");
        assert_eq!(unmade(total), self.config.info.resources, "operations make nothing out of nothing");
        let volumes: Vec<_> = total.entries().filter_map(volume_key).collect();
        let names: BTreeSet<_> = volumes.iter().collect();
        assert_eq!(names.len(), volumes.len(), "{total}: each volume is there once");
    }

    fn check_groups(&self) {
        let of_groups =
            self.tasks.iter().filter_map(|(key, task)| Some((key, task.record.info.group.as_ref()?)));
        let mut groups: BTreeMap<_, BTreeMap<u32, TaskKey>> = BTreeMap::new();
        for (key, of) in of_groups {
            let group = (key.0.clone(), of.group_id.clone());
            groups.entry(group).or_default().insert(of.place, key.clone());
        }
        assert_eq!(groups, self.groups, "each member of a task group has its place");
        for (group, places) in &groups {
            let members = Members::new(places, &self.tasks);
            members.check();
            let on_its_way = places.values().any(|key| self.tasks[key].phase == Phase::Checkpointing);
            let next = members.next();
            let held_back = matches!(next, Next::Launch(_)) && self.shutdown.is_some();
            assert!(
                on_its_way || held_back || next == Next::Nothing,
                "{group:?}: {next:?} is still to be done"
            );
        }
    }

    fn check_executors(&self) {
        let mut listed: BTreeMap<TaskKey, BTreeSet<TaskKey>> = BTreeMap::new();
        for (key, task) in &self.tasks {
            if task.record.info.is_executor() {
                listed.entry(key.clone()).or_default();
            }
            if let Some(executor) = task.executor().filter(|_| !task.state.is_terminal()) {
                listed.entry(executor).or_default().insert(key.clone());
            }
        }
        let known = self.executors.iter().map(|(key, of)| (key.clone(), of.tasks.keys().cloned().collect()));
        assert_eq!(known.collect::<BTreeMap<_, _>>(), listed, "each task is listed with its executor");
        for (key, executor) in &self.executors {
            let task = self.tasks.get(key);
            let ended = task.is_none_or(|task| task.state.is_terminal());
            let begun = executor.tasks.keys().map(|key| &self.tasks[key]);
            let begun: Vec<&Task> = begun.filter(|task| task.phase != Phase::Checkpointing).collect();
            assert!(!ended || begun.is_empty() && !executor.subscribed, "{key:?}: its tasks end with it");
            let to_end = task.is_some_and(|task| task.kill.is_some());
            assert!(
                !to_end || begun.iter().all(|task| task.is_to_end()),
                "{key:?}: its tasks end as it does"
            );
            let alone = !executor.subscribed && !begun.is_empty() && !to_end;
            let runs = task.is_some_and(|task| task.phase == Phase::Running);
            let waited_for = self.timers.is_set(&Timer::Subscribe(key.clone()));
            assert_eq!(waited_for, alone && runs, "{key:?}: its subscription is waited for");
            let asked = task.map_or(0, |task| task.limits_asked);
            assert!(executor.confirmed <= asked, "{key:?}: only what was asked for is confirmed");
        }
    }

    fn check_cores(&self) {
        let mut rest = self.config.cores.clone();
        for (key, task) in self.tasks.iter().filter(|(_, task)| !task.state.is_terminal()) {
            let Some(own) = &task.record.cores else { continue };
            assert!(rest.as_ref().is_some_and(|rest| rest.contains(own)), "{key:?}: {own} are its own alone");
            rest = rest.and_then(|rest| rest.without(own));
            if task.phase != Phase::Running {
                continue;
            }
            for (other, held) in self.tasks.iter().filter(|(other, _)| *other != key) {
                let held = held.held.as_ref().filter(|_| held.phase == Phase::Running);
                let cores = held.and_then(|held| held.cores.as_ref());
                assert!(
                    cores.is_none_or(|cores| cores.without(own).as_ref() == Some(cores)),
                    "{other:?} runs on none of {own}, which {key:?} has for itself"
                );
            }
        }
        assert_eq!(rest, self.cores.shared(), "what no task has for itself is shared");
    }

    fn check_outcomes(&self) {
        for (key, outcome) in &self.outcomes {
            assert!(outcome.status.state.is_terminal(), "{key:?}: the agent knows what became of it");
            let repeated = self.timers.is_set(&Timer::RetryOperation(key.clone()));
            let told = outcome.is_open() && self.link == Link::Registered;
            assert_eq!(repeated, told, "{key:?}: an outcome is repeated while connected");
        }
    }
}
