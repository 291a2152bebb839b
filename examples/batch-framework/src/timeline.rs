//! Who ran where and when, as a picture: one lane for each agent, time from left to right.
//!
//! Written by hand: a picture of rectangles and a few words needs no library. It is bounded by what can be seen, not by the job's size: what
//! begins in the column of points where the one before it lies is drawn as one with it.

use std::{collections::BTreeMap, fmt::Write as _};

use apportion_sdk::Time;

use crate::{
    job::Job,
    state::{Fate, Outcome, Task},
};

/// Points from left to right, beside the names of the agents.
const WIDTH: f64 = 1200.0;
const NAMES_WIDTH: f64 = 160.0;

/// Points of a row, and from a lane to the next.
const ROW: f64 = 10.0;
const LANE_GAP: f64 = 8.0;
const HEAD: f64 = 40.0;

/// Rows of one agent; what ran beside more is drawn into the last.
const ROWS_MAX: usize = 64;

/// Stages take turns with these; ends other than success have their own.
const COLOURS: [&str; 6] = ["#4477aa", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#997700"];
const FAILED: &str = "#cc3311";
const LOST: &str = "#bbbbbb";

/// One attempt.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    from: Time,
    until: Time,
    colour: &'static str,
    /// What a person reads who points at it.
    title: String,
}

/// What is drawn as one rectangle.
#[derive(Debug)]
struct Bar {
    left: f64,
    right: f64,
    colour: &'static str,
    title: String,
    spans: usize,
}

/// The picture of a job that has ended, as an SVG document.
pub fn svg(job: &Job, tasks: &[Task], (began, ended): (Time, Time)) -> String {
    let mut lanes: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for (position, task) in tasks.iter().enumerate() {
        let stage = job.stages().iter().position(|stage| std::ptr::eq(stage, job.stage_of(position)));
        let colour = COLOURS[stage.unwrap_or(0) % COLOURS.len()];
        for (host, span) in spans(task, colour) {
            lanes.entry(host).or_default().push(span);
        }
    }
    let whole = ended.since(began).as_secs_f64().max(0.001);
    let x = |at: Time| (at.since(began).as_secs_f64() / whole).min(1.0) * WIDTH;
    let mut body = String::new();
    let mut y = HEAD;
    for (host, spans) in lanes {
        let rows = rows(spans, x);
        let height = rows.len() as f64 * ROW;
        _ = writeln!(body, "<text x=\"4\" y=\"{:.0}\">{}</text>", y + ROW, escaped(&host));
        for bar in rows.iter().enumerate().flat_map(|(row, bars)| bars.iter().map(move |bar| (row, bar))) {
            let (row, Bar { left, right, colour, title, spans }) = bar;
            let more = if *spans > 1 { format!(" and {} more", spans - 1) } else { String::new() };
            _ = writeln!(
                body,
                "<rect x=\"{:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{}\" fill=\"{colour}\"><title>{}{more}</title></rect>",
                NAMES_WIDTH + left,
                y + row as f64 * ROW,
                (right - left).max(0.5),
                ROW - 1.0,
                escaped(title),
            );
        }
        y += height + LANE_GAP;
    }
    let (width, height) = (NAMES_WIDTH + WIDTH + 20.0, y + 10.0);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"4\" y=\"14\" font-size=\"12\">{}</text>\n{}{}{body}</svg>\n",
        escaped(&job.name),
        legend(job),
        ticks(whole, height),
    )
}

/// The attempts of a task, each with its host.
fn spans(task: &Task, colour: &'static str) -> Vec<(String, Span)> {
    let named = |from: Time, until: Time, how: &str| {
        let seconds = until.since(from).as_secs_f64();
        format!("{}: {how}, {seconds:.1} s", task.name)
    };
    let earlier = task.past.iter().map(|past| {
        let (colour, how) = match past.fate {
            Fate::Failed => (FAILED, "failed, tried again"),
            Fate::Lost => (LOST, "lost"),
            Fate::Superseded => (LOST, "another copy counted"),
        };
        let title = named(past.from, past.until, how);
        (past.hostname.clone(), Span { from: past.from, until: past.until, colour, title })
    });
    let last = task.end().and_then(|end| {
        let attempt = end.last.as_ref()?;
        let (from, until) = (attempt.running_since.unwrap_or(attempt.launched_at), end.at?);
        let colour = if end.outcome == Outcome::Succeeded { colour } else { FAILED };
        let title = named(from, until, end.outcome.name());
        Some((attempt.host.hostname.clone(), Span { from, until, colour, title }))
    });
    earlier.chain(last).collect()
}

/// Spans in as few rows as they need: each in the first that is free by then.
fn rows(mut spans: Vec<Span>, x: impl Fn(Time) -> f64) -> Vec<Vec<Bar>> {
    spans.sort_by_key(|span| (span.from, span.until));
    let mut rows: Vec<Vec<Bar>> = Vec::new();
    let mut free: Vec<Time> = Vec::new();
    for span in spans {
        let row = match free.iter().position(|until| *until <= span.from) {
            Some(row) => row,
            None if rows.len() == ROWS_MAX => ROWS_MAX - 1,
            None => {
                rows.push(Vec::new());
                free.push(Time::ZERO);
                rows.len() - 1
            }
        };
        free[row] = free[row].max(span.until);
        let (left, right) = (x(span.from), x(span.until));
        match rows[row].last_mut() {
            Some(bar) if left.floor() == bar.left.floor() => {
                bar.right = bar.right.max(right);
                bar.spans += 1;
                // What went wrong is seen, however short it was.
                if span.colour == FAILED {
                    (bar.colour, bar.title) = (span.colour, span.title);
                }
            }
            _ => rows[row].push(Bar { left, right, colour: span.colour, title: span.title, spans: 1 }),
        }
    }
    rows
}

/// The stages by colour, when there are several.
fn legend(job: &Job) -> String {
    let mut text = String::new();
    let named = job.stages().iter().enumerate().filter(|(_, stage)| !stage.name.is_empty());
    let named = named.map(|(number, stage)| (COLOURS[number % COLOURS.len()], stage.name.as_str()));
    for (place, (colour, name)) in named.chain([(FAILED, "failed"), (LOST, "lost")]).take(10).enumerate() {
        let x = NAMES_WIDTH + place as f64 * 120.0;
        _ = writeln!(
            text,
            "<rect x=\"{x}\" y=\"6\" width=\"9\" height=\"9\" fill=\"{colour}\"/><text x=\"{}\" y=\"14\">{}</text>",
            x + 13.0,
            escaped(name),
        );
    }
    text
}

/// Some ten lines at round times.
fn ticks(whole: f64, height: f64) -> String {
    let rough = whole / 10.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
    let step = step.unwrap_or(rough);
    let mut text = String::new();
    for number in 0..=(whole / step) as usize {
        let seconds = number as f64 * step;
        let x = NAMES_WIDTH + seconds / whole * WIDTH;
        let label = (seconds * 1000.0).round() / 1000.0;
        _ = writeln!(
            text,
            "<line x1=\"{x:.1}\" y1=\"32\" x2=\"{x:.1}\" y2=\"{height}\" stroke=\"#dddddd\"/><text x=\"{x:.1}\" y=\"29\">{label} s</text>"
        );
    }
    text
}

fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Time {
        Time::from_micros(millis * 1000)
    }

    fn span(from: u64, until: u64, colour: &'static str) -> Span {
        Span { from: at(from), until: at(until), colour, title: format!("{from}") }
    }

    /// Ten milliseconds are a point.
    fn x(at: Time) -> f64 {
        at.as_micros() as f64 / 10_000.0
    }

    #[test]
    fn what_ran_at_a_time_is_drawn_below_each_other() {
        let rows = rows(vec![span(0, 1000, "a"), span(500, 2000, "a"), span(1000, 3000, "a")], x);
        let lefts: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(|bar| bar.left).collect()).collect();
        assert_eq!(lefts, [vec![0.0, 100.0], vec![50.0]]);
    }

    #[test]
    fn a_hundred_thousand_tasks_are_as_many_rectangles_as_can_be_seen() {
        let many: Vec<_> = (0..100_000u64).map(|number| span(number / 10, number / 10 + 1, "a")).collect();
        let failed = span(5_003, 5_004, FAILED);
        let rows = rows(many.into_iter().chain([failed]).collect(), x);
        assert!(rows.len() <= ROWS_MAX);
        let bars: Vec<_> = rows.iter().flatten().collect();
        assert!(bars.len() <= ROWS_MAX * 1001, "{}", bars.len());
        assert_eq!(bars.iter().map(|bar| bar.spans).sum::<usize>(), 100_001);
        assert_eq!(bars.iter().filter(|bar| bar.colour == FAILED).count(), 1, "what failed is not covered");
    }

    #[test]
    fn names_cannot_break_the_picture() {
        assert_eq!(escaped("a<b> & \"c\"\u{1b}"), "a&lt;b&gt; &amp; &quot;c&quot; ");
    }

    #[test]
    fn the_picture_has_a_lane_for_each_agent() {
        use crate::state::{Effect, Host, JobState};
        use apportion_sdk::{AgentId, FrameworkId};
        let job = Job::builder("j").command(["true"]).count(2).build().unwrap();
        let mut state = JobState::of(&job);
        let mut effects: Vec<Effect> = Vec::new();
        for (position, name) in ["one", "two"].into_iter().enumerate() {
            let host = Host {
                agent_id: AgentId::new(name).unwrap(),
                hostname: name.into(),
                address: "x:1".into(),
                framework_id: FrameworkId::new("f").unwrap(),
            };
            state.launched(position, host, at(100));
        }
        state.begin_anew("gone", at(2_000), &mut effects);
        state.interrupt(at(2_000), &mut effects);
        let picture = svg(&job, state.tasks(), (at(0), at(4_000)));
        assert!(picture.starts_with("<svg xmlns=") && picture.ends_with("</svg>\n"));
        assert!(picture.contains(">one</text>") && picture.contains(">two</text>"), "{picture}");
        assert!(picture.contains("fill=\"#bbbbbb\"><title>j-0001: lost, 1.9 s</title></rect>"), "{picture}");
        assert!(picture.contains(">0.5 s</text>") && picture.contains(">4 s</text>"), "{picture}");
    }
}
