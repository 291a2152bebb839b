//! What an accept will do, worked out without doing it.

use std::{collections::BTreeSet, sync::Arc};

use apportion_types::{
    AgentId, FrameworkId, GroupId, OfferId, Operation, OperationId, Resources, Role, TaskId, TaskInfo, Time,
    limits,
    operation::Conversion,
    protocol::scheduler::{Accept, InvalidTask, OfferOperation},
};

use super::{super::decline::refuse_until, executor::Executors};
use crate::state::State;

/// What an accept will do.
pub(crate) struct Plan {
    pub(crate) agent_id: AgentId,
    pub(crate) role: Role,
    /// The offers that it uses.
    pub(crate) offers: Vec<OfferId>,
    /// In order.
    pub(crate) steps: Vec<Step>,
    /// What was offered and is not used.
    pub(crate) unused: Resources,
    /// What conversions made and is not used: offered again at once, for nobody has refused it.
    pub(crate) made: Resources,
    /// Until when what is not used is not offered again.
    pub(crate) refuse_until: Option<Time>,
    /// What cannot be done.
    pub(crate) faults: Vec<Fault>,
}

impl Plan {
    /// What its tasks need together.
    pub(crate) fn needs(&self) -> Resources {
        let tasks = self.steps.iter().flat_map(|step| match step {
            Step::Launch(tasks) => tasks.as_slice(),
            Step::Convert { .. } => &[],
        });
        tasks.map(|info| &info.resources).sum::<Resources>().exclusive()
    }
}

/// One thing that will be done.
pub(crate) enum Step {
    Launch(Vec<Arc<TaskInfo>>),
    Convert { id: Option<OperationId>, operation: Operation, conversion: Conversion },
}

/// What kind of a thing is wrong with a task, or with its task group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// Its description, for what was offered.
    Invalid,
    /// Its framework has too many tasks.
    Limit,
    /// Its agent cannot hold it to what it asks for.
    NotEnforceable,
}

/// A task that is not launched, and why.
pub(crate) struct TaskFault {
    pub(crate) task_id: Option<TaskId>,
    pub(crate) kind: FaultKind,
    /// Whether it is of a task group that is refused: it may be another of that which is at fault.
    pub(crate) in_group: bool,
    pub(crate) problem: String,
}

/// One thing that cannot be done, and why.
pub(crate) enum Fault {
    Task(TaskFault),
    Operation { id: Option<OperationId>, problem: String },
}

/// The names that the plans of one call give.
#[derive(Default)]
pub(crate) struct Names {
    pub(super) tasks: BTreeSet<TaskId>,
    pub(super) groups: BTreeSet<GroupId>,
    executors: Executors,
    operations: BTreeSet<OperationId>,
}

/// What an agent has left for the rest of a plan.
#[derive(Clone)]
pub(super) struct Left {
    /// May be used by what follows.
    usable: Resources,
    /// What of it conversions made.
    made: Resources,
    /// Made, and usable only in later offers.
    later: Resources,
    /// All that the agent has.
    total: Resources,
}

impl Left {
    fn convert(&mut self, operation: &Operation, conversion: &Conversion) {
        self.usable = self.usable.checked_sub(&conversion.consumed).expect("it was judged that it is there");
        self.made.saturating_sub(&conversion.consumed);
        self.total = conversion.apply(&self.total).expect("it was judged that it can be done");
        if operation.is_usable_at_once() {
            self.usable += &conversion.produced;
            self.made += &conversion.produced;
        } else {
            self.later += &conversion.produced;
        }
    }

    /// Shared volumes are not used up.
    pub(super) fn launch(&mut self, task: &TaskInfo) {
        let used = task.resources.exclusive();
        self.usable = self.usable.checked_sub(&used).expect("it was judged that it is there");
        self.made.saturating_sub(&used);
    }
}

/// Of which task group each is. A malformed task does not say: it is of the first that has its place there, as the others of that tell
/// by where they stand.
fn groups(tasks: &[Result<TaskInfo, InvalidTask>]) -> Vec<Option<GroupId>> {
    let said = |task: &Result<TaskInfo, InvalidTask>| task.as_ref().ok()?.group.clone();
    let mut groups: Vec<Option<GroupId>> =
        tasks.iter().map(|task| said(task).map(|group| group.group_id)).collect();
    for (at, task) in tasks.iter().enumerate() {
        let Some(group) = said(task) else { continue };
        let (before, members) = (group.place as usize, (group.members as usize).min(limits::GROUP_TASKS_MAX));
        let places = at.saturating_sub(before)..(at + members).saturating_sub(before).min(tasks.len());
        for place in places {
            if tasks[place].is_err() && groups[place].is_none() {
                groups[place] = Some(group.group_id.clone());
            }
        }
    }
    groups
}

/// What was claimed as launches: tasks that follow each other and are of one task group are launched as that.
fn launches(tasks: Vec<Result<TaskInfo, InvalidTask>>) -> Vec<OfferOperation> {
    let mut launches: Vec<(Option<GroupId>, Vec<_>)> = Vec::new();
    for (of, task) in groups(&tasks).into_iter().zip(tasks) {
        match launches.last_mut() {
            Some((last, tasks)) if *last == of => tasks.push(task),
            _ => launches.push((of, vec![task])),
        }
    }
    let launch = |(group, tasks): (Option<GroupId>, _)| match group {
        Some(_) => OfferOperation::LaunchGroup(tasks),
        None => OfferOperation::Launch(tasks),
    };
    launches.into_iter().map(launch).collect()
}

impl State {
    /// Plans an accept whose offers were judged good.
    pub(crate) fn plan(&self, now: Time, id: &FrameworkId, accept: Accept, names: &mut Names) -> Plan {
        let mut offered = Resources::new();
        for offer in &accept.offers {
            offered += &self.view.offers[offer].offer.resources;
        }
        let first = &self.view.offers[&accept.offers[0]].offer;
        let mut plan = Plan {
            agent_id: first.agent_id.clone(),
            role: first.role.clone(),
            offers: accept.offers,
            steps: Vec::new(),
            unused: Resources::new(),
            made: Resources::new(),
            refuse_until: refuse_until(now, accept.refuse),
            faults: Vec::new(),
        };
        self.plan_operations(id, &mut plan, offered, accept.operations, names);
        plan
    }

    /// Plans tasks on what was claimed for them.
    pub(crate) fn plan_claim(
        &self,
        id: &FrameworkId,
        role: &Role,
        agent_id: AgentId,
        tasks: Vec<Result<TaskInfo, InvalidTask>>,
        names: &mut Names,
    ) -> Plan {
        let claimed: Resources = tasks.iter().flatten().map(|info| &info.resources).sum();
        let mut plan = Plan {
            agent_id,
            role: role.clone(),
            offers: Vec::new(),
            steps: Vec::new(),
            unused: Resources::new(),
            made: Resources::new(),
            refuse_until: None,
            faults: Vec::new(),
        };
        self.plan_operations(id, &mut plan, claimed, launches(tasks), names);
        plan
    }

    fn plan_operations(
        &self,
        id: &FrameworkId,
        plan: &mut Plan,
        offered: Resources,
        operations: Vec<OfferOperation>,
        names: &mut Names,
    ) {
        let total = self.view.agents[&plan.agent_id].total.clone();
        let mut left = Left { usable: offered, made: Resources::new(), later: Resources::new(), total };
        for operation in operations {
            match operation {
                OfferOperation::Launch(tasks) => self.plan_launch(id, plan, &mut left, tasks, names),
                OfferOperation::LaunchGroup(tasks) => self.plan_group(id, plan, &mut left, tasks, names),
                OfferOperation::Convert { id: operation_id, operation } => {
                    let judged = self.judge_operation_id(id, operation_id.as_ref(), names).and_then(|()| {
                        self.judge_operation(
                            id,
                            &plan.agent_id,
                            &plan.role,
                            &operation,
                            &left.usable,
                            &left.total,
                        )
                    });
                    match judged {
                        Ok(conversion) => {
                            left.convert(&operation, &conversion);
                            names.operations.extend(operation_id.clone());
                            plan.steps.push(Step::Convert { id: operation_id, operation, conversion });
                        }
                        Err(problem) => plan.faults.push(Fault::Operation { id: operation_id, problem }),
                    }
                }
            }
        }
        plan.unused = left.usable.clone();
        plan.unused.saturating_sub(&left.made);
        plan.made = left.made + &left.later;
    }

    fn plan_launch(
        &self,
        id: &FrameworkId,
        plan: &mut Plan,
        left: &mut Left,
        tasks: Vec<Result<TaskInfo, InvalidTask>>,
        names: &mut Names,
    ) {
        let mut good = Vec::with_capacity(tasks.len());
        for task in tasks {
            let apart = |info: TaskInfo| match &info.group {
                None => Ok(info),
                Some(group) => {
                    let (task_id, group_id) = (&info.task_id, &group.group_id);
                    let problem = format!(
                        "task `{task_id}` is of task group `{group_id}`, and is launched apart from it; use a launch of the group"
                    );
                    let (task_id, kind) = (Some(info.task_id), FaultKind::Invalid);
                    Err(TaskFault { task_id, kind, in_group: false, problem })
                }
            };
            match self.plan_task(id, &plan.agent_id, left, task, names).and_then(apart) {
                Ok(info) => {
                    left.launch(&info);
                    names.tasks.insert(info.task_id.clone());
                    names.executors.launch(&plan.agent_id, &info);
                    good.push(Arc::new(info));
                }
                Err(fault) => plan.faults.push(Fault::Task(fault)),
            }
        }
        if !good.is_empty() {
            plan.steps.push(Step::Launch(good));
        }
    }

    /// Judges one task against what those before it left, and what they are called.
    pub(super) fn plan_task(
        &self,
        id: &FrameworkId,
        agent_id: &AgentId,
        left: &Left,
        task: Result<TaskInfo, InvalidTask>,
        names: &Names,
    ) -> Result<TaskInfo, TaskFault> {
        let fault =
            |task_id, (kind, problem): (_, String)| TaskFault { task_id, kind, in_group: false, problem };
        let info =
            task.map_err(|InvalidTask { task_id, message }| fault(task_id, (FaultKind::Invalid, message)))?;
        let tasks = self.frameworks[id].tasks.len() + names.tasks.len();
        let judged = if tasks >= limits::TASKS_PER_FRAMEWORK_MAX {
            let most = limits::TASKS_PER_FRAMEWORK_MAX;
            let problem = format!("the framework has {most} tasks, the most that is allowed");
            Err((FaultKind::Limit, problem))
        } else if names.tasks.contains(&info.task_id) {
            let problem = format!("task id `{}` is given to another task of the same call", info.task_id);
            Err((FaultKind::Invalid, problem))
        } else {
            self.judge_task(id, agent_id, &info, &left.usable)
                .and_then(|()| self.judge_executor(id, agent_id, &info, &names.executors))
                .map_err(|problem| (FaultKind::Invalid, problem))
                .and_then(|()| {
                    self.judge_controls(agent_id, &info)
                        .and_then(|()| self.judge_executor_support(agent_id, &info))
                        .map_err(|problem| (FaultKind::NotEnforceable, problem))
                })
        };
        match judged {
            Ok(()) => Ok(info),
            Err(problem) => Err(fault(Some(info.task_id), problem)),
        }
    }

    fn judge_operation_id(
        &self,
        framework_id: &FrameworkId,
        id: Option<&OperationId>,
        names: &Names,
    ) -> Result<(), String> {
        let Some(id) = id else { return Ok(()) };
        let known = self.operations.of(framework_id);
        if known.contains_key(id) || names.operations.contains(id) {
            return Err(format!(
                "operation id `{id}` is in use; it is free again when what became of its operation is acknowledged"
            ));
        }
        if known.len() + names.operations.len() >= limits::OPERATIONS_PER_FRAMEWORK_MAX {
            let most = limits::OPERATIONS_PER_FRAMEWORK_MAX;
            return Err(format!(
                "the framework has {most} named operations, the most that is allowed; acknowledge some"
            ));
        }
        Ok(())
    }
}
