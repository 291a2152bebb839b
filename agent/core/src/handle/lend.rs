//! Oversubscription: what others leave idle is lent, and taken back when it is needed.

use apportion_types::{Reason, Resources, Time, protocol::agent::AgentMessage};

use crate::{
    AgentCore,
    action::{Action, Actions},
    event::TaskKey,
    handle::note,
    state::{link::Link, task::Task},
};

impl AgentCore {
    /// Takes an estimate of what can be lent; kills the youngest borrowers when they hold more than that.
    pub(super) fn oversubscribed(&mut self, now: Time, revocable: Resources, actions: &mut Actions) {
        assert_eq!(revocable, revocable.revocable(), "only what is revocable is lent");
        let before = self.pool.lent.replace(revocable.clone());
        if before.unwrap_or_default() != revocable {
            self.tell_lent(revocable, actions);
        }
        self.take_back(now, actions);
    }

    /// Tells the master what is lent, of which a registration says nothing.
    pub(super) fn tell_lent(&mut self, revocable: Resources, actions: &mut Actions) {
        if self.link == Link::Registered {
            actions.push(Action::Send(AgentMessage::Oversubscribed { revocable }));
        }
    }

    fn take_back(&mut self, now: Time, actions: &mut Actions) {
        let Some(lent) = self.pool.lent.clone() else { return };
        loop {
            // Those that are to end already give back what they hold.
            let stay = |task: &&Task| !task.state.is_terminal() && !task.is_to_end();
            let held: Vec<Resources> = self.tasks.values().filter(stay).map(borrowed).collect();
            let missing = lent.missing(&held.iter().sum());
            let helps = |task: &Task| {
                let has = |name| borrowed(task).iter().any(|(other, _)| other == name);
                missing.iter().any(|(name, _)| has(name))
            };
            let candidates = self.tasks.iter().filter(|(_, task)| stay(task) && helps(task));
            let youngest = candidates.max_by_key(|(_, task)| task.record.container_id.age());
            let Some(key) = youngest.map(|(key, _)| key.clone()) else { return };
            self.preempt(now, &key, &missing, actions);
        }
    }

    fn preempt(&mut self, now: Time, key: &TaskKey, missing: &Resources, actions: &mut Actions) {
        self.view.counters.tasks_preempted += 1;
        let why = format!("what it was lent is needed: {missing} too much is lent");
        note(actions, format!("task {} of framework {} is killed: {why}", key.1, key.0));
        self.kill(now, key, None, Reason::Preempted, Some(why), actions);
    }
}

fn borrowed(task: &Task) -> Resources {
    task.record.info.resources.revocable()
}
