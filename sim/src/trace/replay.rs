//! The trace on a simulated cluster.

use std::{collections::VecDeque, time::Duration};

use apportion_types::{AgentCapability, AgentInfo, TaskInfo, limits};

use super::{
    Ends, Frameworks, Group, Misplaced, Node, Offers, Options, Recorder, Report, Task, TaskCounts,
    group::group,
    plan::Plan,
    watch::{Watch, WatchError},
};
use crate::{Behaviour, Cluster, Failure, Framework, Handle, Sim};

/// How long the cluster may take to come together.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked at what has happened: the master forgets ended tasks when there are more than
/// [`limits::COMPLETED_TASKS_MAX`] of them.
const LOOK: Duration = Duration::from_secs(10);

/// How far a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The virtual time that has passed.
    pub simulated: Duration,
    /// How much will have passed in the end, if it does not end before, since nothing is left to do.
    pub end: Duration,
    /// What has become of the tasks so far.
    pub tasks: TaskCounts,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A framework cannot do what its group asks for.
    #[error("no framework can be made for group `{group}`: {why}")]
    Framework {
        /// The group's name.
        group: String,
        /// What it cannot do, as it says.
        why: String,
    },
    /// One framework would be wanted to have more tasks than it can.
    #[error(
        "group `{group}` comes to want {wanted} tasks of one framework, which can have {wanted_max}; replay with less load, or with \
         frameworks of another kind"
    )]
    TooMany {
        /// The group's name.
        group: String,
        /// How many tasks.
        wanted: u32,
        /// How many it can have.
        wanted_max: u32,
    },
    /// A framework broke its word.
    #[error("the framework of group `{group}` does not do what a replay relies on: {what}")]
    Misplaced {
        /// The group's name.
        group: String,
        /// What it did.
        what: Box<Misplaced>,
    },
    /// Too many tasks ended at once to be followed.
    #[error(
        "more than {} tasks ended within {} s of virtual time, more than the master remembers; replay with less load",
        limits::COMPLETED_TASKS_MAX,
        LOOK.as_secs()
    )]
    TooFast,
    /// The cluster broke one of its own properties.
    #[error(transparent)]
    Failure(#[from] Failure),
}

/// Replays tasks on nodes: each group of tasks that ask for the same is a framework, which is told as they come and go.
///
/// The run is not held to the properties of the system, which would take longer than the cluster does.
///
/// The first task comes when all agents are registered and all frameworks subscribed. `progress` is called now and then.
/// [`Report::wall_us`] is left open.
pub fn replay<F: Frameworks>(
    nodes: &[Node],
    tasks: &[Task],
    options: &Options,
    frameworks: &mut F,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, ReplayError> {
    let groups = group(tasks);
    let mut recorder = Recorder::new(nodes, &groups);
    let runnable: Vec<bool> = (0..groups.len()).map(|group| recorder.runnable(group)).collect();
    let plan = Plan::new(tasks, &groups, &runnable, frameworks.ends(), options);
    let wanted_max = frameworks.wanted_max();
    if let Some((group, wanted)) = plan.most().filter(|(_, wanted)| *wanted > wanted_max) {
        return Err(ReplayError::TooMany { group: groups[group].name.clone(), wanted, wanted_max });
    }

    let mut cluster = cluster(nodes, options).workload(workload(tasks, &groups, frameworks.ends()));
    let mut handles: Vec<Option<Handle<F::Scheduler>>> = Vec::new();
    for (group, runnable) in groups.iter().zip(&runnable) {
        let handle = runnable.then(|| framework(group, options, frameworks)).transpose()?;
        handles.push(handle.map(|framework| cluster.add(framework)));
    }
    let mut sim = cluster.start_unchecked(options.seed);
    let (agents, subscribed) = (nodes.len(), handles.iter().flatten().count());
    sim.run_until(STARTS_WITHIN, "all agents and frameworks are known to the master", |sim| {
        (sim.master().agents.len(), sim.master().frameworks.len()) == (agents, subscribed)
    })?;

    let start = sim.now();
    let mut watch = Watch::new(nodes, &groups, frameworks.ends(), start, sim.master());
    let mut until = |at: Duration, sim: &mut Sim, watch: &mut Watch<'_>, recorder: &mut Recorder| {
        loop {
            watch.look(sim.now(), sim.master(), recorder).map_err(|error| told(error, &groups))?;
            let now = sim.now().since(start);
            progress(Progress { simulated: now, end: plan.end, tasks: recorder.tasks() });
            if now >= at {
                return Ok::<_, ReplayError>(());
            }
            sim.run_for(LOOK.min(at - now))?;
        }
    };
    for change in &plan.changes {
        until(change.at, &mut sim, &mut watch, &mut recorder)?;
        watch.wanted(change.at, change.group, change.wanted, &mut recorder);
        let handle = handles[change.group].expect("only groups that can run are in the plan");
        sim.tell(handle, frameworks.order(change.wanted));
    }
    while sim.now().since(start) < plan.end && recorder.tasks().is_under_way() {
        let next = (sim.now().since(start) + LOOK).min(plan.end);
        until(next, &mut sim, &mut watch, &mut recorder)?;
    }
    let offers = Offers::from(sim.master());
    Ok(recorder.finish(sim.now().since(start), frameworks.kind(), options.clone(), offers))
}

fn cluster(nodes: &[Node], options: &Options) -> Cluster {
    let cluster = Cluster::new().master(|master| {
        master.agent_ping_interval = options.ping_interval;
        master.scheduler_heartbeat = options.ping_interval;
    });
    nodes.iter().fold(cluster, |cluster, node| {
        cluster.agent(AgentInfo {
            hostname: node.name.clone(),
            address: format!("{}:5051", node.name),
            resources: node.resources.clone(),
            attributes: node.attributes.clone(),
            domain: None,
            unenforced: Vec::new(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: AgentCapability::ALL.into(),
            work_dir_id: node.name.clone(),
        })
    })
}

fn framework<F: Frameworks>(
    group: &Group,
    options: &Options,
    frameworks: &mut F,
) -> Result<Framework<F::Scheduler>, ReplayError> {
    let refused = |why| ReplayError::Framework { group: group.name.clone(), why };
    let mut scheduler = Some(frameworks.scheduler(group).map_err(refused)?);
    let make = move || scheduler.take().expect("a framework of a replay never dies");
    Ok(Framework::new(&group.name, make).role(group.role.as_str()).refuse_for(options.refuse))
}

/// The nth launch of a group is the nth of its tasks.
fn workload(
    tasks: &[Task],
    groups: &[Group],
    ends: Ends,
) -> impl FnMut(&TaskInfo, &mut fastrand::Rng) -> Behaviour + use<> {
    let durations = |group: &Group| group.tasks.iter().map(|task| tasks[*task].duration).collect();
    let mut left: Vec<(String, VecDeque<Duration>)> =
        groups.iter().map(|group| (group.name.clone(), durations(group))).collect();
    move |info, _| {
        if ends == Ends::WhenTold {
            return Behaviour::runs();
        }
        // Names sort as their groups do. A task that is nobody's is seen by the watch.
        let after = left.partition_point(|(name, _)| name.as_str() <= info.task_id.as_str());
        let own = after.checked_sub(1).and_then(|group| left[group].1.pop_front());
        Behaviour::succeeds_after(own.unwrap_or_default())
    }
}

fn told(error: WatchError, groups: &[Group]) -> ReplayError {
    match error {
        WatchError::Misplaced { group, what } => {
            ReplayError::Misplaced { group: groups[group].name.clone(), what }
        }
        WatchError::Missed => ReplayError::TooFast,
    }
}

#[cfg(test)]
mod tests;
