//! What an executor must remember to be heard: what it runs, and what of that the agent has not acknowledged.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use apportion_types::{
    Reason, RunId, TaskInfo, TaskState, UpdateId, limits,
    protocol::executor::{ExecutorCall, ExecutorUpdate},
    text::cut,
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    End,
    task::{Launched, Said, Wish},
};

/// What an executor runs, and its updates that are not acknowledged.
#[derive(Debug)]
pub(super) struct State {
    /// Differs from process to process, so that no update is called as another.
    incarnation: u64,
    updates: u64,
    /// From its launch until its end is acknowledged; none once it has ended.
    runs: BTreeMap<RunId, Option<watch::Sender<Option<Wish>>>>,
    /// The oldest first.
    unacknowledged: VecDeque<ExecutorUpdate>,
}

impl State {
    pub(super) fn new(incarnation: u64) -> Self {
        Self { incarnation, updates: 0, runs: BTreeMap::new(), unacknowledged: VecDeque::new() }
    }

    /// What a new stream begins with.
    pub(super) fn subscribe(&self) -> ExecutorCall {
        ExecutorCall::Subscribe {
            runs: self.runs.keys().cloned().collect(),
            unacknowledged: self.unacknowledged.iter().cloned().collect(),
        }
    }

    /// True when nothing runs and all that was told is acknowledged.
    pub(super) fn is_idle(&self) -> bool {
        self.runs.is_empty()
    }

    /// True while one more update may be made.
    pub(super) fn has_room(&self) -> bool {
        self.unacknowledged.len() < limits::EXECUTOR_UPDATES_MAX
    }

    /// Takes a run of a task on; none for one that is known.
    pub(super) fn launch(
        &mut self,
        run_id: RunId,
        info: TaskInfo,
        say: &mpsc::Sender<Said>,
    ) -> Option<Launched> {
        if self.runs.contains_key(&run_id) {
            return None;
        }
        let (sender, wish) = watch::channel(None);
        self.runs.insert(run_id.clone(), Some(sender));
        Some(Launched { run_id, info, wish, say: say.clone() })
    }

    /// A grace can only become shorter. Nothing for a task that has ended or is not known.
    pub(super) fn kill(&mut self, run_id: &RunId, grace: Duration, reason: Reason) {
        let Some(Some(wish)) = self.runs.get(run_id) else { return };
        let deadline = Instant::now() + grace;
        wish.send_if_modified(|wish| {
            let sooner = wish.is_none_or(|wish| deadline < wish.deadline);
            if sooner {
                // The first reason is why.
                *wish = Some(Wish { reason: wish.map_or(reason, |wish| wish.reason), deadline });
            }
            sooner
        });
    }

    /// An update of a task that runs; none once its end was told.
    pub(super) fn said(&mut self, said: Said) -> Option<ExecutorUpdate> {
        let Said { run_id, message, healthy } = said;
        let runs = self.runs.get(&run_id).is_some_and(Option::is_some);
        runs.then(|| self.update(run_id, TaskState::Running, message, healthy))
    }

    /// The last update of a task.
    pub(super) fn ended(&mut self, run_id: RunId, end: End) -> ExecutorUpdate {
        self.runs.insert(run_id.clone(), None);
        let (state, message) = match end {
            End::Finished(message) => (TaskState::Finished, message),
            End::Failed(message) => (TaskState::Failed, message),
            End::Killed(message) => (TaskState::Killed, message),
        };
        self.update(run_id, state, message, None)
    }

    fn update(
        &mut self,
        run_id: RunId,
        state: TaskState,
        message: String,
        healthy: Option<bool>,
    ) -> ExecutorUpdate {
        self.updates += 1;
        let update_id = UpdateId::new(self.incarnation, self.updates);
        let message = cut(message, limits::STATUS_MESSAGE_BYTES_MAX);
        let update = ExecutorUpdate { run_id, update_id, state, message, healthy };
        self.unacknowledged.push_back(update.clone());
        update
    }

    /// The agent has it on disk. With its end a run is forgotten.
    pub(super) fn acknowledged(&mut self, update_id: UpdateId) {
        let Some(at) = self.unacknowledged.iter().position(|update| update.update_id == update_id) else {
            return;
        };
        if let Some(update) = self.unacknowledged.remove(at).filter(|update| update.state.is_terminal()) {
            self.runs.remove(&update.run_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Task;

    fn id(id: &str) -> RunId {
        RunId::new(id).unwrap()
    }

    fn launch(state: &mut State, run: &str) -> Option<Launched> {
        let info = Task::new("task").command(["true"]).cpus(0.1).build().unwrap();
        state.launch(id(run), info, &mpsc::channel(1).0)
    }

    /// The runs and the updates of a subscription.
    fn subscription(state: &State) -> (Vec<String>, Vec<(String, TaskState)>) {
        let ExecutorCall::Subscribe { runs, unacknowledged } = state.subscribe() else { unreachable!() };
        let said = unacknowledged.iter().map(|update| (update.run_id.to_string(), update.state));
        (runs.iter().map(ToString::to_string).collect(), said.collect())
    }

    fn said(run: &str) -> Said {
        Said { run_id: id(run), message: String::new(), healthy: None }
    }

    #[tokio::test]
    async fn a_run_is_known_until_its_end_is_acknowledged() {
        let mut state = State::new(7);
        assert!(launch(&mut state, "a").is_some());
        assert!(launch(&mut state, "a").is_none(), "it is launched once");
        let running = state.said(said("a")).unwrap();
        let end = state.ended(id("a"), End::Failed("no luck".to_owned()));
        assert_ne!(running.update_id, end.update_id);
        assert!(state.said(said("a")).is_none(), "nothing is told after the end");
        assert!(launch(&mut state, "a").is_none(), "nor is it run again");
        let (runs, updates) = subscription(&state);
        assert_eq!(runs, ["a"]);
        assert_eq!(updates, [("a".to_owned(), TaskState::Running), ("a".to_owned(), TaskState::Failed)]);
        state.acknowledged(running.update_id);
        state.acknowledged(running.update_id);
        assert_eq!(subscription(&state).0, ["a"]);
        state.acknowledged(end.update_id);
        assert_eq!(subscription(&state), (vec![], vec![]));
    }

    #[tokio::test]
    async fn a_grace_only_becomes_shorter_and_the_first_reason_stays() {
        let mut state = State::new(7);
        let task = launch(&mut state, "a").unwrap();
        let seconds = Duration::from_secs;
        state.kill(&id("unknown"), seconds(1), Reason::KilledByFramework);
        state.kill(&id("a"), seconds(10), Reason::KilledByFramework);
        let first = task.killed().await;
        state.kill(&id("a"), seconds(20), Reason::ExecutorTerminated);
        assert_eq!(task.killed().await, first);
        state.kill(&id("a"), seconds(5), Reason::ExecutorTerminated);
        let second = task.killed().await;
        assert!(second.deadline < first.deadline && second.reason == Reason::KilledByFramework);
        // Ends long before the five seconds, or the shortening was not heard.
        tokio::join!(task.overdue(), async {
            tokio::task::yield_now().await;
            state.kill(&id("a"), Duration::ZERO, Reason::KilledByFramework);
        });
        assert!(Instant::now() < second.deadline);
    }

    #[tokio::test]
    async fn updates_wait_while_too_many_are_not_acknowledged() {
        let mut state = State::new(7);
        launch(&mut state, "a").unwrap();
        let first = state.said(said("a")).unwrap();
        while state.has_room() {
            state.said(said("a")).unwrap();
        }
        assert_eq!(subscription(&state).1.len(), limits::EXECUTOR_UPDATES_MAX);
        state.acknowledged(first.update_id);
        assert!(state.has_room());
    }
}
