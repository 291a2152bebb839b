//! The laws that hold after every event, checked by code.

use apportion_types::{Resources, TaskState};

use crate::{
    AgentCore,
    state::{link::Link, task::Phase, timers::Timer},
};

impl AgentCore {
    /// Panics when a law is broken: a bug of this crate, never of a peer. Run after each event in debug builds; its cost grows with the
    /// number of tasks.
    pub fn check(&self) {
        self.check_resources();
        for (key, task) in &self.tasks {
            let ended = matches!(task.phase, Phase::Ended { .. });
            assert_eq!(ended, task.state.is_terminal(), "{key:?}: {} with {:?}", task.state, task.phase);
            let container_id = &task.record.container_id;
            assert_eq!(self.containers.get(container_id), Some(key), "{container_id} leads back to its task");
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

    fn check_resources(&self) {
        let live = self.tasks.values().filter(|task| !task.state.is_terminal());
        let held: Resources = live.map(|task| &task.record.info.resources).sum();
        let total = &self.config.info.resources;
        assert_eq!(held + &self.free, *total, "what tasks hold and what is free are all there is");
    }
}
