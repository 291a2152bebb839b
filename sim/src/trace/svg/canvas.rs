//! Writes SVG elements, and nothing that a viewer might not show.

use std::fmt::{self, Write};

/// The text of a picture in the making. Positions are in its pixels, x to the right and y down.
pub(super) struct Canvas {
    text: String,
}

/// Where a text stands relative to its position.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Canvas {
    /// An empty picture of this size, with the rules of its classes.
    pub(super) fn new(width: u32, height: u32, title: &str, style: &str) -> Canvas {
        let mut canvas = Canvas { text: String::new() };
        canvas.line(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
             height=\"{height}\" role=\"img\">"
        ));
        canvas.line(format_args!("<title>{}</title>", Escaped(title)));
        canvas.line(format_args!("<style>{style}</style>"));
        canvas.line(format_args!("<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>"));
        canvas
    }

    /// The picture as it is to be stored.
    pub(super) fn finish(mut self) -> String {
        self.text.push_str("</svg>\n");
        self.text
    }

    fn line(&mut self, element: fmt::Arguments<'_>) {
        writeln!(self.text, "{element}").expect("writing to a text does not fail");
    }

    /// A text.
    pub(super) fn text(&mut self, (x, y): (f64, f64), anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = Escaped(text);
        self.line(format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" class=\"{class}\">{text}</text>"
        ));
    }

    /// A straight line.
    pub(super) fn rule(&mut self, (x1, y1): (f64, f64), (x2, y2): (f64, f64), class: &str) {
        self.line(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" class=\"{class}\"/>"
        ));
    }

    /// A small square of a colour, for a legend.
    pub(super) fn swatch(&mut self, (x, y): (f64, f64), size: f64, colour: &str) {
        self.line(format_args!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{size}\" height=\"{size}\" rx=\"2\" fill=\"{colour}\"/>"
        ));
    }

    /// A line through these points.
    pub(super) fn stroke(&mut self, points: &[(f64, f64)], colour: &str) {
        self.path(
            points,
            "",
            format_args!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\""),
        );
    }

    /// The area within these points.
    pub(super) fn fill(&mut self, points: &[(f64, f64)], colour: &str, opacity: f64) {
        self.path(points, "Z", format_args!("fill=\"{colour}\" fill-opacity=\"{opacity}\""));
    }

    fn path(&mut self, points: &[(f64, f64)], end: &str, how: fmt::Arguments<'_>) {
        let mut path = String::new();
        for (index, (x, y)) in points.iter().enumerate() {
            let command = if index == 0 { 'M' } else { 'L' };
            write!(path, "{command}{x:.1} {y:.1}").expect("writing to a text does not fail");
        }
        self.line(format_args!("<path d=\"{path}{end}\" {how}/>"));
    }
}

/// A text in which nothing is markup; what XML cannot hold is shown as `\u{fffd}`.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_no_markup() {
        let mut canvas = Canvas::new(2, 1, "a<b", "");
        canvas.text((1.0, 2.25), Anchor::End, "c", "</text>&\"\u{1b}");
        let text = canvas.finish();
        assert!(text.contains("<title>a&lt;b</title>"), "{text}");
        assert!(text.contains(">&lt;/text&gt;&amp;&quot;\u{fffd}</text>"), "{text}");
    }

    #[test]
    fn paths_go_through_their_points() {
        let mut canvas = Canvas::new(2, 1, "", "");
        canvas.fill(&[(0.0, 1.0), (2.04, 1.0), (2.0, 0.0)], "#fff", 0.5);
        assert!(
            canvas
                .finish()
                .contains("<path d=\"M0.0 1.0L2.0 1.0L2.0 0.0Z\" fill=\"#fff\" fill-opacity=\"0.5\"/>")
        );
    }
}
