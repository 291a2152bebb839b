//! What running containers are held to: what is asked for that runs in them, and the cores that they may run on.

use crate::{
    AgentCore,
    action::{Action, Actions},
    event::TaskKey,
    state::{
        held::Held,
        task::{Phase, Task},
    },
};

impl AgentCore {
    /// Has each running container held to the cores that it may run on now. Those that become a task's own are taken from the others just
    /// before it is launched: then it is on disk, and the next process knows that not all are held to all.
    pub(super) fn hold_all(&mut self, actions: &mut Actions) {
        let runs = |task: &Task| task.phase == Phase::Running && task.record.info.executor().is_none();
        let running = self.tasks.iter().filter(|(_, task)| runs(task)).map(|(key, _)| key.clone());
        for key in running.collect::<Vec<_>>() {
            self.hold(&key, actions);
        }
    }

    /// Has the container of a task that runs held to what the task asks for and, of an executor, those that it runs: before they are run, and
    /// again when they have ended.
    pub(super) fn hold(&mut self, key: &TaskKey, actions: &mut Actions) {
        let pids_default = self.config.pids_default;
        let mut wanted = Held::of(&self.tasks[key], pids_default, self.cores.shared());
        if let Some(executor) = self.executors.get(key) {
            let tasks = executor.tasks.keys().map(|task| &self.tasks[task]);
            let begun = tasks.filter(|task| task.phase != Phase::Checkpointing);
            begun.for_each(|task| wanted.add(&task.record.info, pids_default));
        }
        let task = self.tasks.get_mut(key).expect("the caller has looked");
        if task.held.as_ref() == Some(&wanted) {
            return;
        }
        task.limits_asked += 1;
        actions.push(Action::Limit {
            container_id: task.record.container_id.clone(),
            number: task.limits_asked,
            ceilings: wanted.ceilings,
            ports: wanted.ports.clone(),
            cores: wanted.cores.clone(),
        });
        task.held = Some(wanted);
    }

    /// Takes the containers of an earlier process for held to what their tasks ask for, where no task had cores of its own; else, as those of
    /// executors, they are held to it anew when they are found.
    pub(super) fn suppose_held(&mut self) {
        if self.tasks.values().any(|task| task.record.cores.is_some()) {
            return;
        }
        let pids_default = self.config.pids_default;
        for task in self.tasks.values_mut().filter(|task| !task.record.info.is_executor()) {
            task.held = Some(Held::of(task, pids_default, self.cores.shared()));
        }
    }
}
