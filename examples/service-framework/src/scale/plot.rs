//! Decisions as a picture: what was measured against what is aimed at, and the replicas that followed.

use std::fmt::Write;

use super::Decision;

const WIDTH: f64 = 900.0;
const PANEL: f64 = 140.0;
const LEFT: f64 = 60.0;
const GAP: f64 = 34.0;

/// An SVG with one panel for each rule and one for the replicas; one that says so when nothing was decided.
pub fn svg<'a>(title: &str, decisions: impl IntoIterator<Item = &'a Decision>) -> String {
    let decisions: Vec<&Decision> = decisions.into_iter().collect();
    let rules = decisions.last().map_or(0, |last| last.said.len());
    let height = GAP + (PANEL + GAP) * (rules as f64 + 1.0);
    let mut out = String::new();
    let mut put = |text: String| out.push_str(&text);
    put(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n",
        WIDTH + LEFT + 20.0
    ));
    put("<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n".to_owned());
    put(format!("<text x=\"{LEFT}\" y=\"20\" font-size=\"14\">{}</text>\n", escaped(title)));
    let (Some(first), Some(last)) = (decisions.first(), decisions.last()) else {
        put(format!("<text x=\"{LEFT}\" y=\"60\">nothing was decided yet</text>\n</svg>\n"));
        return out;
    };
    let span = last.at.since(first.at).as_secs_f64().max(1.0);
    let x = |decision: &Decision| LEFT + decision.at.since(first.at).as_secs_f64() / span * WIDTH;
    for rule in 0..rules {
        let said = |decision: &&Decision| decision.said.get(rule).and_then(|said| said.value);
        let aim = last.said[rule].aim;
        let most = decisions.iter().filter_map(said).fold(aim, f64::max);
        let panel = Panel { top: GAP + (PANEL + GAP) * rule as f64, most: most * 1.05 };
        let values = decisions.iter().map(|decision| Some((x(decision), said(decision)?)));
        put(panel.frame(&last.said[rule].rule));
        put(panel.level(aim));
        put(panel.line(values, "#1f77b4", false));
    }
    let most = decisions.iter().map(|decision| decision.from.max(decision.to)).max().unwrap_or(1).max(1);
    let panel = Panel { top: GAP + (PANEL + GAP) * rules as f64, most: f64::from(most) * 1.05 };
    put(panel.frame("replicas: wanted, and ready"));
    let ready = decisions.iter().map(|decision| Some((x(decision), f64::from(decision.ready))));
    put(panel.line(ready, "#aaaaaa", true));
    let wanted = decisions.iter().map(|decision| Some((x(decision), f64::from(decision.to))));
    put(panel.line(wanted, "#d62728", true));
    put(format!(
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>\n</svg>\n",
        LEFT + WIDTH,
        height - 10.0,
        humantime::format_duration(std::time::Duration::from_secs(span as u64))
    ));
    out
}

struct Panel {
    top: f64,
    most: f64,
}

impl Panel {
    fn y(&self, value: f64) -> f64 {
        self.top + PANEL - value / self.most.max(f64::MIN_POSITIVE) * PANEL
    }

    fn frame(&self, title: &str) -> String {
        format!(
            "<rect x=\"{LEFT}\" y=\"{:.0}\" width=\"{WIDTH}\" height=\"{PANEL}\" fill=\"none\" stroke=\"#ccc\"/>\n<text x=\"{}\" y=\"{:.0}\" \
             fill=\"#555\">{}</text>\n<text x=\"{}\" y=\"{:.0}\" text-anchor=\"end\">{:.3}</text>\n",
            self.top,
            LEFT + 6.0,
            self.top + 14.0,
            escaped(title),
            LEFT - 4.0,
            self.top + 10.0,
            self.most
        )
    }

    fn level(&self, value: f64) -> String {
        let y = self.y(value);
        format!(
            "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{}\" y2=\"{y:.1}\" stroke=\"#2ca02c\" stroke-dasharray=\"4 3\"/>\n",
            LEFT + WIDTH
        )
    }

    /// A line through what is known, broken where nothing is; in steps, or straight.
    fn line(&self, points: impl Iterator<Item = Option<(f64, f64)>>, colour: &str, steps: bool) -> String {
        let mut path = String::new();
        let mut before: Option<f64> = None;
        for point in points {
            let Some((x, value)) = point else {
                before = None;
                continue;
            };
            let y = self.y(value);
            // Writing to a string does not fail.
            _ = match before {
                None => write!(path, "M{x:.1} {y:.1}"),
                Some(_) if steps => write!(path, "H{x:.1}V{y:.1}"),
                Some(_) => write!(path, "L{x:.1} {y:.1}"),
            };
            before = Some(y);
        }
        format!("<path d=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\n")
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
