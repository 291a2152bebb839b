//! A picture of a replay: four diagrams over its time. It needs no script, no font of its own and no network.

mod axis;
mod canvas;
mod panel;

use std::fmt::Write;

use apportion_types::text;

use self::{
    axis::{Axis, grouped},
    canvas::{Anchor, Canvas},
    panel::{Frame, Line, Look, Panel},
};
use super::{PerKind, Report};

const WIDTH: u32 = 1000;
const HEIGHT: u32 = 700;

/// On its own paper, so that it can be read whatever is behind it; dark where the viewer says that it is.
const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif;fill:#1f2328}\
.paper{fill:#fff}.title{font-size:18px;font-weight:600}.head{font-size:13px;font-weight:600}\
.label,.note{font-size:11px;fill:#59636e}.note{font-size:12px}.grid{stroke:#e4e8ec}.axis{stroke:#8c959f}\
@media(prefers-color-scheme:dark){text{fill:#f0f3f6}.paper{fill:#14181d}.label,.note{fill:#a5afba}.grid{stroke:#2b323a}\
.axis{stroke:#6e7781}}";

/// Told apart by people who do not see all colours, on light and on dark paper (after Okabe and Ito).
const COLOURS: [&str; 7] = ["#0f8ec7", "#e08a00", "#00a37a", "#cc6fa5", "#d9541e", "#8a7fe0", "#b3a125"];

/// What stands for the roles that have no colour of their own.
const OTHERS: &str = "#8c959f";

/// The most bytes of a role's name: there is room for about as many characters in a legend.
const NAME_BYTES_MAX: usize = 14;

/// Draws a report, 1000 pixels wide and 700 high.
pub fn draw(report: &Report) -> String {
    let title = title(report);
    let mut canvas = Canvas::new(WIDTH, HEIGHT, &title, STYLE);
    canvas.text((70.0, 36.0), Anchor::Start, "title", &title);
    canvas.text((70.0, 58.0), Anchor::Start, "note", &note(report));
    let over_time = &report.over_time;
    let roles = roles(report);
    let time = Axis::time(report.simulated_us);
    let panels = [
        Panel { title: "In use", look: Look::Lines, lines: kinds(&over_time.used_ppm), scale: Axis::share },
        Panel {
            title: "Tasks that wait",
            look: Look::Lines,
            lines: vec![Line { name: "waiting", colour: COLOURS[4], means: &over_time.waiting_milli }],
            scale: Axis::count,
        },
        Panel {
            title: "Free, but of no use to the tasks",
            look: Look::Lines,
            lines: kinds(&over_time.fragmentation_ppm),
            scale: Axis::share,
        },
        Panel {
            title: "Dominant shares",
            look: Look::Stacked,
            lines: roles.iter().map(|(name, colour, means)| Line { name, colour, means }).collect(),
            scale: Axis::share,
        },
    ];
    for (index, panel) in panels.iter().enumerate() {
        let frame = Frame {
            left: 70.0 + 490.0 * (index % 2) as f64,
            top: 104.0 + 304.0 * (index / 2) as f64,
            width: 400.0,
            height: 220.0,
        };
        panel.draw(&mut canvas, frame, &time, over_time.step_us);
    }
    canvas.finish()
}

fn title(report: &Report) -> String {
    let tasks = grouped(report.tasks.total);
    let nodes = grouped(report.nodes);
    let (groups, kind) = (grouped(report.groups), &report.framework);
    format!("{tasks} tasks of {groups} {kind} frameworks on {nodes} machines")
}

fn note(report: &Report) -> String {
    let tasks = &report.tasks;
    let mut note = format!("{} placed", grouped(tasks.placed));
    for (count, what) in
        [(tasks.waiting, "waiting"), (tasks.withdrawn, "withdrawn"), (tasks.rejected, "rejected")]
    {
        if count > 0 {
            write!(note, ", {} {what}", grouped(count)).expect("writing to a text does not fail");
        }
    }
    let offers = &report.offers;
    let (made, accepted, declined) =
        (grouped(offers.made), grouped(offers.accepted), grouped(offers.declined));
    write!(note, " · offers: {made} made, {accepted} accepted, {declined} declined")
        .expect("writing to a text does not fail");
    let load = u64::from(report.options.load.get());
    if load > 1 {
        write!(note, " · arrivals {} times as fast as recorded", grouped(load))
            .expect("writing to a text does not fail");
    }
    note
}

fn kinds(means: &PerKind<Vec<u64>>) -> Vec<Line<'_>> {
    let PerKind { cpus, mem, gpus } = means;
    let all = [("cpus", cpus), ("mem", mem), ("gpus", gpus)];
    all.into_iter().zip(COLOURS).map(|((name, means), colour)| Line { name, colour, means }).collect()
}

/// The roles with the largest shares, and the others as one when there are more than can be told apart.
fn roles(report: &Report) -> Vec<(String, &'static str, Vec<u64>)> {
    let mut all: Vec<_> = report.over_time.dominant_share_ppm.iter().collect();
    all.sort_by_key(|(_, means)| std::cmp::Reverse(means.iter().sum::<u64>()));
    let shown = if all.len() > COLOURS.len() { COLOURS.len() - 1 } else { all.len() };
    let (own, others) = all.split_at(shown);
    let named = own.iter().zip(COLOURS).map(|((role, means), colour)| {
        (text::cut(role.as_str().to_owned(), NAME_BYTES_MAX), colour, means.to_vec())
    });
    let mut lines: Vec<_> = named.collect();
    if let Some((_, first)) = others.first() {
        let sum = (0..first.len()).map(|at| others.iter().map(|(_, means)| means[at]).sum()).collect();
        lines.push((format!("{} others", others.len()), OTHERS, sum));
    }
    lines
}

#[cfg(test)]
mod tests;
