//! The table for people at the end of a job.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets};

use crate::{
    report::{Report, TaskReport},
    state::Outcome,
};

/// More tasks than this are not all shown unless asked for: nobody reads a thousand lines of success.
pub const ROWS_MAX: usize = 40;

/// Of a job that is not shown whole, so many of the slowest tasks are.
pub const SLOWEST: usize = 5;

/// The summary, with a line's end. `width` is that of the terminal; without one, lines are as long as they are, so that a
/// pipe gets one line for each task.
pub fn render(report: &Report, all: bool, width: Option<u16>) -> String {
    let mut text = String::new();
    let whole = all || report.tasks.len() <= ROWS_MAX;
    let shown = if whole { report.tasks.iter().collect() } else { notable(report) };
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.set_header([
        "TASK",
        "STATE",
        "END",
        "ATTEMPTS",
        "WALL",
        "CPU",
        "MEMORY",
        "AGENT",
        "OUTPUT (LAST LINE)",
    ]);
    for task in &shown {
        table.add_row(row(task));
    }
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    for line in table.lines() {
        _ = writeln!(text, "{}", line.trim_end());
    }
    if !whole {
        let rest = report.tasks.len() - shown.len();
        _ = writeln!(text, "… and {rest} more; {}; --all shows every task", walls(report));
    }
    _ = writeln!(text, "{}", totals(report));
    let mut missing = report.tasks.iter().filter_map(|task| Some((&task.name, task.output_error.as_ref()?)));
    if let Some((name, error)) = missing.next() {
        _ = writeln!(
            text,
            "outputs of {} tasks are missing; the first, of {name}: {error}",
            1 + missing.count()
        );
    }
    text
}

/// Every task that did not succeed, as far as there is room, then the slowest ones.
fn notable(report: &Report) -> Vec<&TaskReport> {
    // What was skipped says less than what it was skipped for.
    let ended = |skipped| {
        let others = report.tasks.iter().filter(|task| task.outcome != Outcome::Succeeded);
        others.filter(move |task| (task.outcome == Outcome::Skipped) == skipped)
    };
    let mut shown: Vec<_> = ended(false).chain(ended(true)).take(ROWS_MAX - SLOWEST).collect();
    let mut slowest: Vec<_> = report.tasks.iter().filter(|task| task.outcome == Outcome::Succeeded).collect();
    slowest.sort_by_key(|task| std::cmp::Reverse(task.wall_ms));
    shown.extend(slowest.into_iter().take(SLOWEST));
    shown
}

fn row(task: &TaskReport) -> [String; 9] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let output = match (&task.output_error, &task.output_tail) {
        (Some(error), _) => format!("({error})"),
        (None, tail) => or_dash(tail.clone()),
    };
    [
        task.name.clone(),
        task.outcome.name().to_owned(),
        task.why.clone(),
        task.launches.to_string(),
        or_dash(task.wall_ms.map(duration)),
        or_dash(task.cpu_ms.map(duration)),
        or_dash(task.memory_peak_bytes.map(bytes)),
        or_dash(task.hostname.clone()),
        output,
    ]
}

fn walls(report: &Report) -> String {
    let mut walls: Vec<_> = report.tasks.iter().filter_map(|task| task.wall_ms).collect();
    walls.sort_unstable();
    match (walls.get(walls.len() / 2), walls.last()) {
        (Some(median), Some(longest)) => {
            format!("wall time: median {}, longest {}", duration(*median), duration(*longest))
        }
        _ => "none was run".to_owned(),
    }
}

fn totals(report: &Report) -> String {
    let totals = &report.totals;
    let again = report.tasks.iter().map(|task| u64::from(task.launches.saturating_sub(1))).sum::<u64>();
    let again = if again == 0 { String::new() } else { format!(" ({again} launched again)") };
    let skipped = if totals.skipped == 0 { String::new() } else { format!(", {} skipped", totals.skipped) };
    let memory =
        totals.memory_peak_bytes.map(|peak| format!(", most memory {}", bytes(peak))).unwrap_or_default();
    format!(
        "job {} {}: {} of {} tasks succeeded, {} did not{skipped}{again}; wall {}, cpu {}{memory}, {:.1} tasks/s",
        report.job,
        report.outcome,
        totals.succeeded,
        totals.tasks,
        totals.failed,
        duration(report.wall_ms),
        duration(totals.cpu_ms),
        totals.tasks_per_second,
    )
}

/// `350ms`, `1.2s`, `2m03s`, `1h02m`: three digits are what a person compares.
pub(crate) fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    match millis {
        0..1_000 => format!("{millis}ms"),
        1_000..60_000 => format!("{seconds}.{}s", millis % 1000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

/// `900B`, `12.3MiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut amount = bytes as f64 / 1024.0;
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.1}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Totals, VERSION};

    fn task(number: usize, outcome: Outcome) -> TaskReport {
        let good = outcome == Outcome::Succeeded;
        TaskReport {
            name: format!("j-{number:04}"),
            stage: None,
            item: "x".into(),
            outcome,
            why: if good { "exit code 0".into() } else { "exit code 3".into() },
            exit_code: Some(if good { 0 } else { 3 }),
            exit_signal: None,
            reason: Some("command_exited".into()),
            launches: if good { 1 } else { 3 },
            failures: if good { 0 } else { 3 },
            losses: 0,
            task_id: Some("id".into()),
            agent_id: Some("a1".into()),
            hostname: Some("one".into()),
            wall_ms: Some(number as u64 * 100),
            cpu_ms: Some(20),
            memory_limit_exceeded_bytes: None,
            memory_peak_bytes: Some(3 << 20),
            output_tail: Some(format!("line {number}")),
            output_file: None,
            files_collected: 0,
            output_error: None,
        }
    }

    fn report(tasks: Vec<TaskReport>) -> Report {
        let failed = tasks.iter().filter(|task| task.outcome != Outcome::Succeeded).count();
        let totals = Totals {
            tasks: tasks.len(),
            succeeded: tasks.len() - failed,
            skipped: 0,
            failed,
            launches: tasks.iter().map(|task| u64::from(task.launches)).sum(),
            cpu_ms: 1500,
            memory_peak_bytes: Some(3 << 20),
            tasks_per_second: 2.0,
        };
        let outcome = if failed == 0 { "succeeded" } else { "failed" };
        let framework_id = Some("f1".into());
        Report {
            version: VERSION,
            job: "j".into(),
            framework_id,
            outcome: outcome.into(),
            started_at_us: 0,
            wall_ms: 61_000,
            totals,
            tasks,
        }
    }

    #[test]
    fn a_small_job_is_shown_whole() {
        let mut lost = task(3, Outcome::Unplaceable);
        (lost.wall_ms, lost.cpu_ms, lost.memory_peak_bytes, lost.hostname) = (None, None, None, None);
        (lost.output_tail, lost.launches, lost.why) = (None, 0, "too large".into());
        let report = report(vec![task(1, Outcome::Succeeded), task(2, Outcome::Failed), lost]);
        let expected = "\
TASK    STATE        END          ATTEMPTS  WALL   CPU   MEMORY  AGENT  OUTPUT (LAST LINE)
j-0001  succeeded    exit code 0  1         100ms  20ms  3.0MiB  one    line 1
j-0002  failed       exit code 3  3         200ms  20ms  3.0MiB  one    line 2
j-0003  unplaceable  too large    0         -      -     -       -      -
job j failed: 1 of 3 tasks succeeded, 2 did not (2 launched again); wall 1m01s, cpu 1.5s, most memory 3.0MiB, 2.0 tasks/s
";
        assert_eq!(render(&report, false, None), expected);
    }

    #[test]
    fn of_a_large_job_the_failures_and_the_slowest_are_shown() {
        let tasks = (1..=100)
            .map(|number| task(number, if number == 7 { Outcome::Failed } else { Outcome::Succeeded }));
        let report = report(tasks.collect());
        let text = render(&report, false, None);
        let names: Vec<_> = text.lines().skip(1).take(6).map(|line| &line[..6]).collect();
        assert_eq!(names, ["j-0007", "j-0100", "j-0099", "j-0098", "j-0097", "j-0096"]);
        assert!(
            text.contains("\n… and 94 more; wall time: median 5.1s, longest 10.0s; --all shows every task\n"),
            "{text}"
        );
        assert_eq!(render(&report, true, None).lines().count(), 1 + 100 + 1);
    }

    #[test]
    fn thousands_of_failures_do_not_fill_the_screen() {
        let report = report((1..=5000).map(|number| task(number, Outcome::Failed)).collect());
        assert_eq!(render(&report, false, None).lines().count(), 1 + ROWS_MAX - SLOWEST + 2);
    }

    #[test]
    fn a_terminal_is_not_overrun() {
        let mut wide = task(1, Outcome::Succeeded);
        wide.output_tail = Some("word ".repeat(60));
        let text = render(&report(vec![wide]), false, Some(100));
        let table: Vec<_> = text.lines().take_while(|line| !line.starts_with("job ")).collect();
        assert!(table.len() > 2 && table.iter().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn what_could_not_be_fetched_is_said_where_it_is_missing() {
        let mut dark = task(1, Outcome::Succeeded);
        (dark.output_tail, dark.output_error) = (None, Some("agent one:5051 does not answer".into()));
        let report = report(vec![dark]);
        let text = render(&report, false, None);
        assert!(text.contains("(agent one:5051 does not answer)"), "{text}");
        assert!(
            text.ends_with(
                "outputs of 1 tasks are missing; the first, of j-0001: agent one:5051 does not answer\n"
            ),
            "{text}"
        );
        assert_eq!(report.outputs_missing(), 1);
    }

    #[test]
    fn amounts_have_three_digits_or_so() {
        let durations = [0, 999, 1000, 59_999, 60_000, 3_599_999, 3_600_000].map(duration);
        assert_eq!(durations, ["0ms", "999ms", "1.0s", "59.9s", "1m00s", "59m59s", "1h00m"]);
        assert_eq!([0, 1023, 1024, 5 << 30].map(bytes), ["0B", "1023B", "1.0KiB", "5.0GiB"]);
    }
}
