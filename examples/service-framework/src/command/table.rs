//! Columns without borders, in as many columns as the terminal has: names and ids stay whole, so that they can be copied, and what stands in
//! the last column gives way.

use comfy_table::{ColumnConstraint, ContentArrangement, Table, presets};

/// The last column is wrapped where it has so many letters, and stands in lines of its own below its row where it has fewer.
const LAST_WIDTH_MIN: usize = 24;

/// What stands before a line of its own.
const INDENT: usize = 4;

/// Rows below their heads, for the terminal on standard output, or as wide as they are when that is none.
pub(super) fn text<const COLUMNS: usize>(
    heads: [&str; COLUMNS],
    rows: impl IntoIterator<Item = [String; COLUMNS]>,
) -> String {
    let rows: Vec<_> = rows.into_iter().collect();
    within(Table::new().width().map(usize::from), heads, &rows)
}

fn within<const COLUMNS: usize>(
    terminal: Option<usize>,
    heads: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(heads).add_rows(rows);
    let widths: Vec<usize> = table.column_max_content_widths().into_iter().map(usize::from).collect();
    // Each column has a blank at either side.
    let all: usize = widths.iter().map(|width| width + 2).sum();
    let before_last = all - widths.last().map_or(0, |last| last + 2);
    let Some(terminal) = terminal.filter(|terminal| *terminal < all) else { return table.to_string() };
    if before_last + LAST_WIDTH_MIN + 2 <= terminal {
        let whole = table.column_iter_mut().take(COLUMNS - 1);
        whole.for_each(|column| _ = column.set_constraint(ColumnConstraint::ContentWidth));
        let width = u16::try_from(terminal).unwrap_or(u16::MAX);
        return table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width).to_string();
    }
    let mut short = Table::new();
    short.load_style(presets::NOTHING).set_header(&heads[..COLUMNS - 1]);
    short.add_rows(rows.iter().map(|row| &row[..COLUMNS - 1]));
    let lasts = rows.iter().map(|row| row[COLUMNS - 1].as_str());
    let lasts = [heads[COLUMNS - 1]].into_iter().chain(lasts);
    let mut lines = Vec::new();
    for (line, last) in short.lines().zip(lasts) {
        lines.push(line);
        lines.extend(
            wrapped(last, terminal.saturating_sub(INDENT)).map(|line| format!("{:INDENT$}{line}", "")),
        );
    }
    lines.join("\n")
}

/// A text in lines of so many letters, broken between words where that can be.
fn wrapped(text: &str, width: usize) -> impl Iterator<Item = String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADS: [&str; 4] = ["SERVICE", "READY", "STATE", "NOTE"];

    fn shown(terminal: Option<usize>) -> String {
        let rows = [
            ["shop.front", "3/3", "steady", ""],
            ["web", "0/3", "on its way", "fits nowhere: cpus:64 is needed, the most is 8 on a"],
        ];
        let rows = rows.map(|row| row.map(str::to_owned));
        let text = within(terminal, HEADS, &rows);
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_stands_last_gives_way_to_a_narrow_terminal() {
        let whole = [
            " SERVICE     READY  STATE       NOTE",
            " shop.front  3/3    steady",
            " web         0/3    on its way  fits nowhere: cpus:64 is needed, the most is 8 on a",
        ];
        assert_eq!([None, Some(100)].map(shown), [whole.join("\n"), whole.join("\n")]);
        let wrapped = [
            " SERVICE     READY  STATE       NOTE",
            " shop.front  3/3    steady",
            " web         0/3    on its way  fits nowhere: cpus:64 is",
            "                                needed, the most is 8 on a",
        ];
        assert_eq!(shown(Some(60)), wrapped.join("\n"));
        let below = [
            " SERVICE     READY  STATE",
            "    NOTE",
            " shop.front  3/3    steady",
            " web         0/3    on its way",
            "    fits nowhere: cpus:64 is needed, the",
            "    most is 8 on a",
        ];
        assert_eq!(shown(Some(40)), below.join("\n"));
    }
}
