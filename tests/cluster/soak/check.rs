//! What must hold of everything that was written down, once the faults are over and the work is done.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use apportion_types::TaskState;
use serde_json::Value;

use super::{
    cluster::{AGENTS, Cluster},
    history,
    journals::Leaders,
    load::{Job, SERVICE, Told},
    say,
};

/// Everything that is wrong, and what was looked at in a line.
pub(super) fn everything(cluster: &Cluster) -> (Vec<String>, String) {
    let mut wrong: Vec<String> =
        cluster.ended.iter().map(|(name, why)| format!("{name} ended by itself: {why}")).collect();
    let leaders = Leaders::read(&cluster.evidence.join("journals"));
    wrong.extend(leaders.wrong.iter().cloned());
    let history = crate::support::until("etcd tells its history", || cluster.history());
    let (leaderships, more) = history::judge(&history);
    wrong.extend(more);
    wrong.extend(writes(&leaderships, &leaders));
    let told = cluster.load.told();
    let given_up = given_up(&fs::read_to_string(cluster.log("batch")).unwrap_or_default());
    let tasks = cluster.load.done.iter().map(|(job, summary)| {
        wrong.extend(job_done(job, summary.as_ref(), &told, &leaders, &given_up));
        job.tasks
    });
    let tasks = tasks.sum::<u32>();
    wrong.extend(strangers(&told, &cluster.load.done));
    wrong.extend(AGENTS.iter().flat_map(|agent| containers(cluster, agent)));
    wrong.extend(panics(&cluster.evidence.join("logs")));
    let starts = |kind: &str| told.get(kind).map_or(0, Vec::len);
    let seen = format!(
        "{} given up with their agent; {} leaderships, {} journals with {} events, {} launches; {} jobs with {tasks} tasks, {} begun and {} ended; {} \
         replicas begun; {} terminal updates acknowledged",
        given_up.values().sum::<usize>(),
        leaderships.len(),
        leaders.leaders.len(),
        leaders.events,
        leaders.launched.len(),
        cluster.load.done.len(),
        starts("B"),
        starts("E"),
        starts("S"),
        leaders.acknowledged.len(),
    );
    (wrong, seen)
}

/// Of each leadership: what its leader was told is written was written during it, and nothing that it did not ask for.
fn writes(leaderships: &[history::Leadership], leaders: &Leaders) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut known = BTreeSet::new();
    for leadership in leaderships {
        let (id, revision) = (&leadership.master_id, leadership.revision);
        if !known.insert(id) {
            wrong.push(format!("{id} led twice, the second time from {revision} on"));
        }
        // Of one that was killed at once there may be no journal.
        let Some(leader) = leaders.leaders.get(id) else { continue };
        let written: BTreeSet<&String> =
            leadership.written.keys().filter(|key| key.starts_with("entries/")).collect();
        for key in leader.committed.iter().filter(|key| !written.contains(key)) {
            wrong.push(format!(
                "{id} was told that {key} is written, and it was not while it led ({revision})"
            ));
        }
        for key in written.iter().filter(|key| leader.whole && !leader.asked.contains(**key)) {
            wrong.push(format!("{key} was written while {id} led ({revision}), which did not ask for it"));
        }
    }
    let leaderless = leaders.leaders.keys().filter(|id| !known.contains(id));
    wrong.extend(leaderless.map(|id| format!("{id} has a journal, and never led")));
    wrong
}

/// Each task of a job was executed to its end exactly once, but for attempts that were given up, each attempt begun at most once, and nothing
/// of it is forgotten.
fn job_done(
    job: &Job,
    summary: Option<&Value>,
    told: &BTreeMap<String, Vec<Told>>,
    leaders: &Leaders,
    given_up: &BTreeMap<String, usize>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let given_up = |name: &str| given_up.get(name).copied().unwrap_or_default();
    let of = |kind: &str| -> Vec<&Told> {
        let lines = told.get(kind).into_iter().flatten();
        lines.filter(|(_, task, _)| task.starts_with(&format!("{}-", job.name))).collect()
    };
    let (begun, ended) = (of("B"), of("E"));
    let mut attempts = BTreeMap::<&str, u32>::new();
    for (_, task, _) in &begun {
        *attempts.entry(task).or_default() += 1;
    }
    let twice = attempts.iter().filter(|(_, count)| **count > 1);
    wrong.extend(twice.map(|(task, count)| format!("attempt {task} was begun {count} times")));
    for (_, task, sandbox) in begun.iter().filter(|(_, task, _)| !ended.iter().any(|end| end.1 == *task)) {
        match leaders.ends.get(task) {
            Some((TaskState::Finished, _)) => {
                wrong.push(format!("{task} did not end, and is said to have finished"))
            }
            Some((state, why)) => {
                say(format_args!("        {task} began and did not end: {state:?} {why} ({sandbox})"))
            }
            None => wrong.push(format!("{task} began and did not end, and nobody knows why")),
        }
    }
    let name = |task: &str| task.split(".r").next().unwrap_or_default().to_owned();
    let mut ends = BTreeMap::<String, Vec<&str>>::new();
    for (_, task, _) in &ended {
        ends.entry(name(task)).or_default().push(task);
    }
    for number in 1..=job.tasks {
        let width = job.tasks.to_string().len().max(4);
        let name = format!("{}-{number:0width$}", job.name);
        match ends.get(&name).map(Vec::as_slice) {
            Some([_]) => {}
            Some(more) if more.len() <= 1 + given_up(&name) => {}
            Some(more) => wrong.push(format!("{name} was executed to its end more than once: {more:?}")),
            None => wrong.push(format!("{name} was never executed to its end")),
        }
    }
    let Some(summary) = summary else { return wrong };
    let tasks = summary["tasks"].as_array().into_iter().flatten();
    if summary["totals"]["succeeded"] != job.tasks {
        wrong.push(format!("{}: {}", job.name, summary["totals"]));
    }
    for (index, task) in tasks.enumerate() {
        let id = task["task_id"].as_str().unwrap_or_default();
        let right = format!("done {}", index + 1);
        match (&task["output_tail"], &task["output_error"]) {
            (Value::String(tail), _) if *tail == right => {}
            // What an agent without room on its disk cannot keep, or nobody could fetch, is said.
            (_, Value::String(_)) => {}
            (tail, _) if task["hostname"] == super::cluster::SMALL => {
                say(format_args!("        the output of {id} was lost on the full disk: {tail}"));
            }
            (tail, _) => wrong.push(format!("the output of {id} is {tail}, not {right:?}")),
        }
        if !ended.iter().any(|(_, task, _)| task == id) {
            wrong.push(format!("{id} is said to have succeeded, and did not end"));
        }
    }
    // What the framework acknowledged it has not forgotten: a task that was known as finished is not tried again.
    let finished = leaders.acknowledged.iter().filter(|(_, state)| **state == TaskState::Finished);
    for ((_, task), _) in
        finished.filter(|((_, task), _)| name(task.as_str()).starts_with(&format!("{}-", job.name)))
    {
        let said = summary["tasks"].as_array().into_iter().flatten();
        if given_up(&name(task.as_str())) == 0
            && !said.into_iter().any(|said| said["task_id"] == task.as_str())
        {
            wrong.push(format!(
                "{task} finished, which was acknowledged, and another attempt is what the job counts"
            ));
        }
    }
    wrong
}

/// How often an attempt of each task was given up because its agent could not be reached any more: what it does there nobody can know, and it
/// is run again all the same.
fn given_up(log: &str) -> BTreeMap<String, usize> {
    let mut given_up = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("cannot be reached (counts as no attempt)")) {
        if let Some((before, _)) = line.split_once(" will run again: ") {
            *given_up.entry(before.rsplit(' ').next().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    given_up
}

/// All that ran belongs to a job or to the service.
fn strangers(told: &BTreeMap<String, Vec<Told>>, jobs: &[(Job, Option<Value>)]) -> Vec<String> {
    let known = |task: &str| {
        task.starts_with(&format!("{SERVICE}."))
            || jobs.iter().any(|(job, _)| task.starts_with(&format!("{}-", job.name)))
    };
    let lines = told.values().flatten();
    lines
        .filter(|(_, task, _)| !known(task))
        .map(|(_, task, _)| format!("nobody knows {task}, which ran"))
        .collect()
}

/// Each container that an agent has is a task's by its log, and of no task is there anything that is not acknowledged.
fn containers(cluster: &Cluster, agent: &str) -> Vec<String> {
    let work_dir = cluster.work_dir(agent);
    let read = match apportion_agent::read(&work_dir.join("log")) {
        Ok(read) => read.recovered,
        Err(error) => return vec![format!("{agent}: {error}")],
    };
    let mut wrong = Vec::new();
    if read.damaged {
        wrong.push(format!("the log of {agent} is damaged"));
    }
    let known: BTreeSet<String> = read.tasks.iter().map(|task| task.task.container_id.to_string()).collect();
    let folders = fs::read_dir(work_dir.join("containers")).into_iter().flatten().flatten();
    let names = folders.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned()).filter(|name| !name.starts_with('.'));
    wrong.extend(
        names
            .filter(|name| !known.contains(name))
            .map(|name| format!("container {name} of {agent} is no task's")),
    );
    let open = read.tasks.iter().filter(|task| !task.updates.is_empty() || task.has_ended());
    wrong.extend(open.map(|task| format!("{agent} still has updates of {}", task.task.info.task_id)));
    wrong.extend(read.strays.iter().map(|(_, status)| format!("{agent} still says {status:?}")));
    wrong
}

fn panics(logs: &Path) -> Vec<String> {
    let files = fs::read_dir(logs).unwrap().flatten().map(|entry| entry.path());
    files
        .flat_map(|path| {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            let lines: Vec<String> =
                text.lines().filter(|line| line.contains("panicked at")).map(str::to_owned).collect();
            lines.into_iter().map(move |line| format!("{}: {line}", path.display()))
        })
        .collect()
}
