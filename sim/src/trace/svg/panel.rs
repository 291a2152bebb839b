//! One diagram of the picture: a frame with axes, a legend, and what is drawn in it.

use super::{
    axis::Axis,
    canvas::{Anchor, Canvas},
};

/// Where a diagram's frame is; its title stands above, labels to the left and below, and the legend under these.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A row of means over equal stretches of time, by name and colour.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    pub(super) colour: &'static str,
    pub(super) means: &'a [u64],
}

/// How lines share a diagram.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Each from the ground, over the ones before.
    Lines,
    /// Each an area on top of the one before.
    Stacked,
}

/// A diagram, but for where it goes.
pub(super) struct Panel<'a> {
    pub(super) title: &'static str,
    pub(super) look: Look,
    pub(super) lines: Vec<Line<'a>>,
    /// Of values, once the largest is known.
    pub(super) scale: fn(u64) -> Axis,
}

/// For each line of a legend.
const LEGEND_WIDTH: f64 = 100.0;
const LEGEND_HEIGHT: f64 = 17.0;
const SWATCH: f64 = 10.0;

impl Panel<'_> {
    /// Draws it. `step_us` is the length of each stretch of time.
    pub(super) fn draw(&self, canvas: &mut Canvas, frame: Frame, time: &Axis, step_us: u64) {
        let tops = self.tops();
        let largest = tops.iter().flatten().copied().max().unwrap_or(0);
        let values = (self.scale)(largest);
        self.draw_axes(canvas, frame, time, &values);
        let place = Place { frame, time, values: &values, step_us };
        let mut ground = vec![0; tops.first().map_or(0, Vec::len)];
        for (line, tops) in self.lines.iter().zip(&tops) {
            let top = place.steps(tops);
            match self.look {
                Look::Stacked => {
                    let under = place.steps(&ground);
                    let around: Vec<_> = top.into_iter().chain(under.into_iter().rev()).collect();
                    canvas.fill(&around, line.colour, 0.8);
                }
                Look::Lines if self.lines.len() == 1 => {
                    let [x, y] = [place.x(0), place.y(0)];
                    let end = top.last().map_or(x, |(x, _)| *x);
                    let around: Vec<_> =
                        [(x, y)].into_iter().chain(top.iter().copied()).chain([(end, y)]).collect();
                    canvas.fill(&around, line.colour, 0.2);
                    canvas.stroke(&top, line.colour);
                }
                Look::Lines => canvas.stroke(&top, line.colour),
            }
            ground.clone_from(tops);
        }
        self.draw_legend(canvas, frame);
    }

    /// Where each line's values end: on those of the lines before when they are stacked.
    fn tops(&self) -> Vec<Vec<u64>> {
        let mut tops: Vec<Vec<u64>> = Vec::new();
        for line in &self.lines {
            let top = match tops.last().filter(|_| self.look == Look::Stacked) {
                Some(ground) => ground.iter().zip(line.means).map(|(ground, mean)| ground + mean).collect(),
                None => line.means.to_vec(),
            };
            tops.push(top);
        }
        tops
    }

    fn draw_axes(&self, canvas: &mut Canvas, frame: Frame, time: &Axis, values: &Axis) {
        let Frame { left, top, width, height } = frame;
        for (value, label) in &values.marks {
            let y = top + height * (1.0 - values.place(*value));
            canvas.rule((left, y), (left + width, y), if *value == 0 { "axis" } else { "grid" });
            canvas.text((left - 8.0, y + 4.0), Anchor::End, "label", label);
        }
        for (at, label) in &time.marks {
            let x = left + width * time.place(*at);
            canvas.rule((x, top + height), (x, top + height + 4.0), "axis");
            canvas.text((x, top + height + 18.0), Anchor::Middle, "label", label);
        }
        canvas.text((left, top - 14.0), Anchor::Start, "head", self.title);
    }

    /// Under the labels of time, in rows.
    fn draw_legend(&self, canvas: &mut Canvas, frame: Frame) {
        // A diagram of one line says by its title what it shows.
        if self.lines.len() < 2 {
            return;
        }
        let columns = (frame.width / LEGEND_WIDTH) as usize;
        for (index, line) in self.lines.iter().enumerate() {
            let x = frame.left + LEGEND_WIDTH * (index % columns) as f64;
            let y = frame.top + frame.height + 38.0 + LEGEND_HEIGHT * (index / columns) as f64;
            canvas.swatch((x, y - 9.0), SWATCH, line.colour);
            canvas.text((x + SWATCH + 5.0, y), Anchor::Start, "label", line.name);
        }
    }
}

/// Where values of a diagram lie in the picture.
struct Place<'a> {
    frame: Frame,
    time: &'a Axis,
    values: &'a Axis,
    step_us: u64,
}

impl Place<'_> {
    fn x(&self, at_us: u64) -> f64 {
        self.frame.left + self.frame.width * self.time.place(at_us.min(self.time.end))
    }

    fn y(&self, value: u64) -> f64 {
        self.frame.top + self.frame.height * (1.0 - self.values.place(value))
    }

    /// The corners of a line that holds each mean for its stretch of time.
    fn steps(&self, means: &[u64]) -> Vec<(f64, f64)> {
        let corners = (0..).zip(means).flat_map(|(index, mean)| {
            let (from, to) = (index * self.step_us, (index + 1) * self.step_us);
            [(self.x(from), self.y(*mean)), (self.x(to), self.y(*mean))]
        });
        corners.collect()
    }
}
