//! Tables for people.

use std::fmt::Write as _;

use apportion_sdk::Time;
use comfy_table::{Table, presets};

use crate::{
    run::wall_clock,
    serve::view::{Details, JobView, Overview, TaskView},
    state::Counts,
    summary,
};

/// So many tasks are shown of a job that has not ended; nobody reads a thousand lines.
const ROWS_MAX: usize = 40;

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    let mut text = String::new();
    for line in table.lines() {
        _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// The queue: its jobs, and who has how much of the cluster.
pub(super) fn list(overview: &Overview, all: bool) -> String {
    let (shown, rest): (Vec<_>, Vec<_>) = overview.jobs.iter().partition(|job| all || !job.state.is_over());
    let row = |job: &JobView| {
        vec![
            job.id.to_string(),
            job.name.clone(),
            job.user.clone(),
            job.priority.to_string(),
            job.state.name().to_owned(),
            job.tasks.total.to_string(),
            job.tasks.active.to_string(),
            job.tasks.ended().to_string(),
            ago(job.submitted_at_us),
            job.note.clone().unwrap_or_default(),
        ]
    };
    let header =
        ["JOB", "NAME", "USER", "PRIORITY", "STATE", "TASKS", "RUNNING", "ENDED", "SUBMITTED", "NOTE"];
    let mut text = if shown.is_empty() {
        "no job waits or runs\n".to_owned()
    } else {
        table(&header, shown.into_iter().map(row))
    };
    if !rest.is_empty() {
        _ = writeln!(text, "… and {} that have ended; --all lists them", rest.len());
    }
    let busy = overview.users.iter().filter(|user| user.jobs > 0);
    let users: Vec<_> = busy
        .map(|user| {
            vec![
                user.user.clone(),
                user.weight.to_string(),
                format!("{:.1}%", user.dominant_share * 100.0),
                user.jobs.to_string(),
                user.tasks_running.to_string(),
                user.tasks_waiting.to_string(),
                user.held.clone(),
            ]
        })
        .collect();
    if !users.is_empty() {
        let header = ["USER", "WEIGHT", "SHARE", "JOBS", "RUNNING", "WAITING", "HELD"];
        _ = write!(text, "\n{}", table(&header, users));
    }
    text
}

/// A job; `ended` is what became of one that is over.
pub(super) fn details(details: &Details, all: bool, ended: Option<String>) -> String {
    let job = &details.job;
    let mut text = String::new();
    let mut line = |name: &str, value: String| _ = writeln!(text, "{name:<10} {value}");
    line("job", format!("{}, {}", job.id, job.name));
    line("user", format!("{}, priority {}", job.user, job.priority));
    line("state", job.state.name().to_owned());
    line("submitted", ago(job.submitted_at_us));
    if let Some(at) = job.launched_at_us {
        let waited = at.saturating_sub(job.submitted_at_us) / 1000;
        line("started", format!("{}, after {} in the queue", ago(at), summary::duration(waited)));
    }
    if let Some(folder) = &details.output {
        line("output", folder.clone());
    }
    if let Some(note) = &job.note {
        line("note", note.clone());
    }
    line("tasks", counts(&job.tasks));
    if details.stages.len() > 1 || details.stages.iter().any(|stage| stage.gang) {
        let stages = details.stages.iter().map(|stage| {
            let gang = if stage.gang { "gang" } else { "" };
            vec![stage.name.clone(), gang.to_owned(), stage.resources.clone(), counts(&stage.tasks)]
        });
        _ = write!(text, "\n{}", table(&["STAGE", "", "EACH", "TASKS"], stages));
    }
    _ = match ended {
        Some(summary) => write!(text, "\n{summary}"),
        None => write!(text, "\n{}", tasks(&details.tasks_all, all)),
    };
    text
}

/// What went wrong, what runs, and then what waits or has ended, as far as there is room.
fn tasks(tasks: &[TaskView], all: bool) -> String {
    let rank = |task: &TaskView| match task.state.as_str() {
        _ if task.is_bad() => 0,
        "running" => 1,
        "waiting" => 2,
        _ => 3,
    };
    let mut sorted: Vec<_> = tasks.iter().collect();
    if !all {
        sorted.sort_by_key(|task| rank(task));
        sorted.truncate(ROWS_MAX);
    }
    let rest = tasks.len() - sorted.len();
    let rows = sorted.into_iter().map(|task| {
        vec![
            task.name.clone(),
            task.state.clone(),
            task.attempts.to_string(),
            task.hostname.clone().unwrap_or_default(),
            task.running_since_us.filter(|_| task.state == "running").map(ago).unwrap_or_default(),
            task.why.clone().or_else(|| Some(task.item.clone())).unwrap_or_default(),
        ]
    });
    let mut text = table(&["TASK", "STATE", "ATTEMPTS", "AGENT", "SINCE", "WHY, OR ITS ELEMENT"], rows);
    if rest > 0 {
        _ = writeln!(text, "… and {rest} more; --all shows every task");
    }
    text
}

fn counts(counts: &Counts) -> String {
    let parts = [
        (counts.active, "running"),
        (counts.waiting, "waiting"),
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
    ];
    let parts: Vec<_> =
        parts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")).collect();
    format!("{}: {}", counts.total, parts.join(", "))
}

/// How long ago something was.
fn ago(at_us: u64) -> String {
    let since = wall_clock().since(Time::from_micros(at_us));
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    format!("{} ago", summary::duration(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_tasks_do_is_said_in_a_line() {
        let some = Counts { total: 9, waiting: 3, active: 2, succeeded: 4, ..Counts::default() };
        assert_eq!(counts(&some), "9: 2 running, 3 waiting, 4 succeeded");
    }

    #[test]
    fn what_went_wrong_is_shown_first() {
        let task = |name: &str, state: &str| TaskView {
            name: name.into(),
            item: "x".into(),
            state: state.into(),
            why: None,
            attempts: 1,
            task_id: None,
            framework_id: None,
            hostname: None,
            address: None,
            running_since_us: None,
            ended_at_us: None,
            output_tail: None,
            output_file: None,
            output_error: None,
        };
        let mut many: Vec<_> = (0..50).map(|number| task(&format!("j-{number}"), "succeeded")).collect();
        many.push(task("runs", "running"));
        many.push(task("bad", "failed"));
        let text = tasks(&many, false);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("bad") && lines[2].starts_with("runs"), "{text}");
        assert_eq!(*lines.last().unwrap(), "… and 12 more; --all shows every task");
        assert_eq!(tasks(&many, true).lines().count(), 53);
    }
}
