//! A task group: judged together, all or none.

use std::sync::Arc;

use apportion_types::{
    AgentCapability, FrameworkId, GroupId, GroupInfo, TaskId, TaskInfo, limits,
    protocol::scheduler::InvalidTask,
};

use super::{
    Fault, Names, Plan,
    plan::{FaultKind, Left, Step, TaskFault},
};
use crate::state::State;

/// Why a group is refused.
struct Refused {
    /// Where the task at fault stands, unless it is the group as a whole.
    culprit: Option<usize>,
    kind: FaultKind,
    problem: String,
}

impl State {
    /// Plans a whole group as a step of its own, or faults each of its tasks: of the one at fault it says what is wrong with it, of the
    /// others which that is.
    pub(super) fn plan_group(
        &self,
        id: &FrameworkId,
        plan: &mut Plan,
        left: &mut Left,
        tasks: Vec<Result<TaskInfo, InvalidTask>>,
        names: &mut Names,
    ) {
        let ids: Vec<Option<TaskId>> = tasks.iter().map(task_id).collect();
        let mut then = left.clone();
        let mut members = Vec::with_capacity(tasks.len());
        match self.judge_group(id, plan, &mut then, tasks, names, &mut members) {
            Ok(group_id) => {
                *left = then;
                names.groups.insert(group_id);
                plan.steps.push(Step::Launch(members));
            }
            Err(Refused { culprit, kind, problem }) => {
                for info in members {
                    names.tasks.remove(&info.task_id);
                }
                let mut fault = |task_id, problem| {
                    plan.faults.push(Fault::Task(TaskFault { task_id, kind, in_group: true, problem }));
                };
                if ids.is_empty() {
                    return fault(None, problem); // nobody could be told of it: the call is refused
                }
                let others = match culprit.and_then(|index| ids[index].as_ref()) {
                    Some(culprit) => format!("task `{culprit}` of its task group was refused: {problem}"),
                    None => format!("its task group was refused: {problem}"),
                };
                for (index, task_id) in ids.into_iter().enumerate() {
                    let own = culprit == Some(index);
                    fault(task_id, if own { problem.clone() } else { others.clone() });
                }
            }
        }
    }

    /// Judges each task against what those before it left, up to the first that is at fault; `members` are those before it.
    fn judge_group(
        &self,
        id: &FrameworkId,
        plan: &Plan,
        left: &mut Left,
        tasks: Vec<Result<TaskInfo, InvalidTask>>,
        names: &mut Names,
        members: &mut Vec<Arc<TaskInfo>>,
    ) -> Result<GroupId, Refused> {
        let whole = |problem: String| Refused { culprit: None, kind: FaultKind::Invalid, problem };
        if tasks.len() > limits::GROUP_TASKS_MAX {
            let most = limits::GROUP_TASKS_MAX;
            return Err(whole(format!("it has {} tasks; at most {most} are allowed", tasks.len())));
        }
        let agent = &self.view.agents[&plan.agent_id].info;
        let unknown = |what: &str| {
            let (agent_id, version) = (&plan.agent_id, &agent.version);
            let problem = format!(
                "agent {agent_id} does not know {what}; its version `{version}` is older than they are: upgrade it, or take another"
            );
            Refused { culprit: None, kind: FaultKind::NotEnforceable, problem }
        };
        if !agent.capabilities.contains(&AgentCapability::TaskGroups) {
            return Err(unknown("task groups"));
        }
        for (index, task) in tasks.into_iter().enumerate() {
            match self.plan_task(id, &plan.agent_id, left, task, names) {
                Ok(info) => {
                    left.launch(&info);
                    names.tasks.insert(info.task_id.clone());
                    members.push(Arc::new(info));
                }
                Err(TaskFault { kind, problem, .. }) => {
                    return Err(Refused { culprit: Some(index), kind, problem });
                }
            }
        }
        let group_id =
            GroupInfo::of(members.iter().map(|info| &**info)).map_err(|error| whole(error.to_string()))?;
        let shares =
            members.iter().any(|info| info.group.as_ref().is_some_and(|group| group.network.is_some()));
        if shares && !agent.capabilities.contains(&AgentCapability::GroupNetworks) {
            return Err(unknown("networks of task groups"));
        }
        if names.groups.contains(&group_id) {
            return Err(whole(format!(
                "task group id `{group_id}` is given to another group of the same call"
            )));
        }
        if self.frameworks[id].groups.contains_key(&group_id) {
            return Err(whole(format!(
                "task group id `{group_id}` is in use; it is free again when the end of each task of its group is acknowledged"
            )));
        }
        Ok(group_id)
    }
}

fn task_id(task: &Result<TaskInfo, InvalidTask>) -> Option<TaskId> {
    match task {
        Ok(info) => Some(info.task_id.clone()),
        Err(invalid) => invalid.task_id.clone(),
    }
}
