//! The tasks of a trace.

use std::{collections::BTreeSet, time::Duration};

use apportion_types::{Resources, Role, TaskId, resources::Name};

use super::{
    nodes::{bounded, cpus_and_mem, scalar},
    table::{Fault, Row, TraceError, read},
};

/// The most tasks: each stays in memory over the whole replay.
pub const TASKS_MAX: usize = 1_000_000;

/// The latest second: a hundred years, far within what a virtual clock counts in microseconds.
pub const SECONDS_MAX: u64 = 100 * 365 * 24 * 3600;

/// The most gpus of one task: no machine has more.
const GPUS_MAX: u64 = 1_000_000;

const COLUMNS: &[&str] = &[
    "name",
    "cpu_milli",
    "memory_mib",
    "num_gpu",
    "gpu_milli",
    "gpu_spec",
    "qos",
    "creation_time",
    "deletion_time",
    "scheduled_time",
];

/// A task of a trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its name in the trace.
    pub name: String,
    /// For which role it runs: its quality of service in lower case, such as `be`, `ls`, `burstable`, `guaranteed`.
    pub role: Role,
    /// What it asks for: `cpus`, `mem`, `gpus`.
    pub resources: Resources,
    /// The models of gpu that it may run on; any when there is none.
    pub models: BTreeSet<String>,
    /// When it was asked for, by the trace's clock.
    pub created: Duration,
    /// How long it ran: from when it was scheduled, or created if it never was, to its deletion.
    pub duration: Duration,
}

/// Reads one row for each task; the tasks come back in the order of their creation, of equals in that of the text. `file` only
/// names it in errors.
///
/// The columns are `name`, `cpu_milli`, `memory_mib`, `num_gpu`, `gpu_milli` (of each of these gpus), `gpu_spec` (models joined by
/// `|`, may be empty), `qos`, and in whole seconds `creation_time`, `deletion_time`, `scheduled_time` (empty if it never was).
pub fn parse(file: &str, text: &str) -> Result<Vec<Task>, TraceError> {
    let mut tasks = read(file, text, COLUMNS, TASKS_MAX, task)?;
    tasks.sort_by_key(|task| task.created);
    Ok(tasks)
}

fn task(row: &Row<'_>) -> Result<Task, TraceError> {
    let name = TaskId::new(row.text("name")).map_err(|error| row.fault("name", Fault::Name(error)))?;
    let role =
        Role::new(row.text("qos").to_lowercase()).map_err(|error| row.fault("qos", Fault::Role(error)))?;
    let mut resources = cpus_and_mem(row)?;
    resources.insert(Name::Gpus, scalar(gpus_milli(row)?));
    if resources.is_empty() {
        return Err(row.whole(Fault::Nothing));
    }
    let seconds = |column| row.number(column, "seconds", SECONDS_MAX);
    let (created, deleted) = (seconds("creation_time")?, seconds("deletion_time")?);
    let began = if row.text("scheduled_time").is_empty() { created } else { seconds("scheduled_time")? };
    let lived = deleted.checked_sub(began);
    let lived = lived.ok_or_else(|| row.fault("deletion_time", Fault::Backwards { deleted, began }))?;
    Ok(Task {
        name: name.as_str().to_owned(),
        role,
        resources,
        models: models(row)?,
        created: Duration::from_secs(created),
        duration: Duration::from_secs(lived),
    })
}

fn gpus_milli(row: &Row<'_>) -> Result<u64, TraceError> {
    let gpus = row.number("num_gpu", "gpus", GPUS_MAX)?;
    let share = row.number("gpu_milli", "thousandths of a gpu", 1000)?;
    if gpus > 0 && share == 0 {
        return Err(row.fault("gpu_milli", Fault::NoShare { gpus }));
    }
    Ok(gpus * share)
}

fn models(row: &Row<'_>) -> Result<BTreeSet<String>, TraceError> {
    let text = bounded(row, "gpu_spec", row.text("gpu_spec"))?;
    let models = text.split('|').map(str::trim).filter(|model| !model.is_empty());
    Ok(models.map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time,scheduled_time";

    fn parsed(rows: &str) -> Result<Vec<Task>, String> {
        parse("t.csv", &format!("{HEADER}\n{rows}")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_row_is_a_task_of_a_role() {
        let tasks = parsed(
            "late,6000,12288,1,460,T4 | P100,LS,30,50,40\n\
             early,500,64,0,0,,Burstable,20,50,\n\
             whole,1000,64,8,1000,,BE,20,20,20\n",
        );
        let shown: Vec<_> = tasks
            .unwrap()
            .into_iter()
            .map(|task| {
                let Task { name, role, resources, models, created, duration } = task;
                format!("{name} {role} {resources} {models:?} {created:?} {duration:?}")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "early burstable cpus:0.5;mem:64 {} 20s 30s",
                "whole be cpus:1;mem:64;gpus:8 {} 20s 0ns",
                "late ls cpus:6;mem:12288;gpus:0.46 {\"P100\", \"T4\"} 30s 10s",
            ]
        );
    }

    #[test]
    fn a_bad_row_is_refused_with_the_reason() {
        for (row, message) in [
            ("a b,1,1,0,0,,LS,0,1,0", "t.csv:2, column 1 (`name`): not a name: task id `a b` holds ' '"),
            (
                "a,1,1,0,0,,,0,1,0",
                "t.csv:2, column 7 (`qos`): it is to be the task's role, and cannot: role ``",
            ),
            ("a,0,0,0,1000,,LS,0,1,0", "t.csv:2: all amounts are 0; leave the row out"),
            (
                "a,1,1,2,0,,LS,0,1,0",
                "t.csv:2, column 5 (`gpu_milli`): 0 of each of 2 gpus; write 1000 for whole ones, or 0 in `num_gpu`",
            ),
            (
                "a,1,1,1,1001,,LS,0,1,0",
                "t.csv:2, column 5 (`gpu_milli`): 1001 thousandths of a gpu are more than 1000",
            ),
            (
                "a,1,1,0,0,,LS,5,6,7",
                "t.csv:2, column 9 (`deletion_time`): deleted at 6 s, before it began at 7 s",
            ),
            (
                "a,1,1,0,0,,LS,5,,7",
                "t.csv:2, column 9 (`deletion_time`): `` is not a whole number of seconds",
            ),
            (
                "a,1,1,0,0,,LS,0,3153600001,0",
                "t.csv:2, column 9 (`deletion_time`): 3153600001 seconds are more than 3153600000",
            ),
        ] {
            let error = parsed(row).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }

    #[test]
    fn the_recorded_tasks_are_read_whole() {
        let tasks = parse("openb", include_str!("../../data/openb/openb_pod_list_default.csv")).unwrap();
        assert_eq!(tasks.len(), 8152);
        let cpus: i64 = tasks.iter().map(|task| task.resources.cpus_milli()).sum();
        assert_eq!(cpus / 1000, 85_436, "as its publishers say");
        assert!(tasks.is_sorted_by_key(|task| task.created));
        let roles: BTreeSet<_> = tasks.iter().map(|task| task.role.as_str()).collect();
        assert_eq!(roles, BTreeSet::from(["be", "burstable", "guaranteed", "ls"]));
    }
}
