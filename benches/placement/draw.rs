//! The picture of the study: what stays unallocated while tasks come. It needs no script, no font of its own and no network.

use std::fmt::Write;

use crate::study::Curve;

const WIDTH: f64 = 800.0;
const HEIGHT: f64 = 460.0;
/// Where the diagram is: left, top, right, bottom.
const FRAME: (f64, f64, f64, f64) = (60.0, 70.0, 620.0, 400.0);
/// From which percentage on, and up to how much stays unallocated.
const FROM: usize = 80;
const MOST: f64 = 25.0;

/// On its own paper, dark where the viewer says that it is.
const STYLE: &str = "text{font-family:system-ui,-apple-system,'Segoe UI',Helvetica,Arial,'DejaVu Sans',sans-serif;font-size:12px;fill:#1f2328}\
.paper{fill:#fff}.title{font-size:17px;font-weight:600}.note{fill:#59636e}.grid{stroke:#e4e8ec}.axis{stroke:#8c959f}\
@media(prefers-color-scheme:dark){text{fill:#f0f3f6}.paper{fill:#14181d}.note{fill:#a5afba}.grid{stroke:#2b323a}.axis{stroke:#6e7781}}";

/// Told apart by people who do not see all colours, on light and on dark paper (after Okabe and Ito).
const COLOURS: [&str; 5] = ["#8c959f", "#e08a00", "#00a37a", "#0f8ec7", "#d9541e"];

/// Draws the curves up to the last percentage, and what was published as circles.
pub(crate) fn curves(curves: &[Curve], last: usize) -> String {
    let mut svg = String::new();
    let (left, top, right, bottom) = FRAME;
    let x = |percent: usize| left + (right - left) * (percent - FROM) as f64 / (last - FROM) as f64;
    let y = |unallocated: f64| bottom - (bottom - top) * (unallocated / MOST).min(1.0);
    let mut line = |element: String| writeln!(svg, "{element}").expect("writing to a text does not fail");
    line(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" role=\"img\">"
    ));
    line("<title>Gpus that stay unallocated, by policy</title>".to_owned());
    line(format!("<style>{STYLE}</style><rect class=\"paper\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>"));
    line(format!("<text x=\"{left}\" y=\"32\" class=\"title\">Gpus that stay unallocated</text>"));
    line(format!(
        "<text x=\"{left}\" y=\"52\" class=\"note\">in % of all, while tasks come; circles: published for policies of the same name</text>"
    ));
    for unallocated in (0..=MOST as usize).step_by(5) {
        let (at, class) = (y(unallocated as f64), if unallocated == 0 { "axis" } else { "grid" });
        line(format!("<line x1=\"{left}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" class=\"{class}\"/>"));
        line(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" class=\"note\">{unallocated} %</text>",
            left - 8.0,
            at + 4.0
        ));
    }
    for percent in (FROM..=last).step_by(10) {
        line(format!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" class=\"note\">{percent} %</text>",
            x(percent),
            bottom + 18.0
        ));
    }
    line(format!(
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" class=\"note\">gpus asked for, in % of those that there are</text>",
        (left + right) / 2.0,
        bottom + 40.0
    ));
    for (number, (curve, colour)) in curves.iter().zip(COLOURS).enumerate() {
        let points: Vec<_> = (FROM..=last)
            .map(|percent| format!("{:.1},{:.1}", x(percent), y(curve.unallocated[percent])))
            .collect();
        line(format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        ));
        for (percent, published) in
            curve.published.into_iter().flat_map(|(full, end)| [(100, full), (last, end)])
        {
            line(format!(
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                x(percent),
                y(published)
            ));
        }
        let (at, name) = (top + 20.0 + 22.0 * number as f64, curve.name);
        line(format!(
            "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>",
            right + 24.0,
            at - 10.0
        ));
        line(format!("<text x=\"{:.1}\" y=\"{at:.1}\">{name}</text>", right + 42.0));
    }
    svg.push_str("</svg>\n");
    svg
}
