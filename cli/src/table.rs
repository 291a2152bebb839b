//! Aligned columns without borders, for people.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use apportion_types::{Resources, Time};
use comfy_table::{Cell, CellAlignment, ColumnConstraint, Width, presets};

/// Columns with a head line. Never wraps, so that ids can be copied; never coloured.
pub(crate) struct Table {
    inner: comfy_table::Table,
    right: Vec<bool>,
}

impl Table {
    /// A table with these heads; a head that starts with `>` aligns its column to the right.
    pub(crate) fn new(heads: &[&str]) -> Table {
        let right: Vec<bool> = heads.iter().map(|head| head.starts_with('>')).collect();
        let mut table = Table { inner: comfy_table::Table::new(), right };
        table.inner.load_style(presets::NOTHING);
        let heads: Vec<Cell> =
            heads.iter().enumerate().map(|(at, head)| table.cell(at, head.trim_start_matches('>'))).collect();
        table.inner.set_header(heads);
        table
    }

    fn cell(&self, at: usize, text: &str) -> Cell {
        let alignment = if self.right[at] { CellAlignment::Right } else { CellAlignment::Left };
        Cell::new(plain(text)).set_alignment(alignment)
    }

    /// Adds a row with one text for each head.
    pub(crate) fn row(&mut self, texts: impl IntoIterator<Item = String>) {
        let cells: Vec<Cell> = texts.into_iter().enumerate().map(|(at, text)| self.cell(at, &text)).collect();
        assert_eq!(cells.len(), self.right.len(), "a row has a cell for each head");
        self.inner.add_row(cells);
    }
}

/// Blanks between columns.
const GAP: u16 = 2;

impl Table {
    /// How wide each column is by what stands in it.
    pub(crate) fn widths(&self) -> Vec<usize> {
        self.inner.column_max_content_widths().into_iter().map(usize::from).collect()
    }

    /// It as text, with columns that are at least so wide.
    pub(crate) fn at_least(mut self, widths: &[usize]) -> String {
        for (column, width) in self.inner.column_iter_mut().zip(widths) {
            let width = u16::try_from(*width).unwrap_or(u16::MAX - GAP) + GAP;
            column.set_constraint(ColumnConstraint::LowerBoundary(Width::Fixed(width)));
        }
        self.to_string()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = self.inner.clone();
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP));
        }
        for line in table.lines() {
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A text of a peer as one line that does nothing to a terminal.
pub(crate) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The first `most` characters, with `…` when there is more.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

/// Thousandths of a processor: `1.5`.
pub(crate) fn cpus(resources: &Resources) -> String {
    decimal(resources.cpus_milli())
}

/// Memory in the largest unit that is not less than one: `512MiB`, `1.5GiB`.
pub(crate) fn mem(resources: &Resources) -> String {
    let mib = resources.mem_milli();
    if mib >= 1_048_576_000 {
        format!("{}TiB", tenth(mib, 1_048_576_000))
    } else if mib >= 1_024_000 {
        format!("{}GiB", tenth(mib, 1_024_000))
    } else {
        format!("{}MiB", tenth(mib, 1000))
    }
}

/// `milli / unit` with at most one decimal, rounded down.
fn tenth(milli: i64, unit: i64) -> String {
    match milli % unit * 10 / unit {
        0 => (milli / unit).to_string(),
        rest => format!("{}.{rest}", milli / unit),
    }
}

/// Bytes in the largest unit that is not more, with at most one decimal: `512KiB`, `1.5GiB`.
pub(crate) fn bytes(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.into_iter().find(|(_, bits)| bytes >> bits > 0) {
        Some((unit, bits)) => {
            let tenths = (u128::from(bytes) * 10) >> bits;
            match tenths % 10 {
                0 => format!("{}{unit}", tenths / 10),
                rest => format!("{}.{rest}{unit}", tenths / 10),
            }
        }
        None => format!("{bytes}B"),
    }
}

fn decimal(milli: i64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How long ago, in its two largest units: `12s`, `3m 5s`, `2h 10m`, `4d 1h`.
pub(crate) fn age(since: Time) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_micros(since.as_micros());
    span(SystemTime::now().duration_since(then).unwrap_or_default())
}

/// How long until then, as [`age`]; nothing when it has passed.
pub(crate) fn until(then: Time) -> String {
    let then = SystemTime::UNIX_EPOCH + Duration::from_micros(then.as_micros());
    then.duration_since(SystemTime::now()).map(span).unwrap_or_else(|_| "0s".to_owned())
}

/// In its two largest units.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: char, small: u64, small_unit: char| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{small_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => two(minutes, 'm', seconds % 60, 's'),
        3600..86_400 => two(hours, 'h', minutes, 'm'),
        _ => two(days, 'd', hours, 'h'),
    }
}

/// `1 task`, `2 tasks`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_end_without_blanks() {
        let mut table = Table::new(&["NAME", ">CPUS", "STATE"]);
        table.row(["a".into(), "1".into(), "ok".into()]);
        table.row(["größer".into(), "12.5".into(), "".into()]);
        assert_eq!(table.to_string(), "NAME    CPUS  STATE\na          1  ok\ngrößer  12.5\n");
    }

    #[test]
    fn a_peer_cannot_write_to_the_terminal() {
        let mut table = Table::new(&["NAME"]);
        table.row(["a\u{1b}[2Jb\nc".into()]);
        assert_eq!(table.to_string(), "NAME\na\\u{1b}[2Jb\\nc\n");
    }

    #[test]
    fn amounts_are_short() {
        let of = |text: &str| text.parse::<Resources>().unwrap();
        assert_eq!(cpus(&of("cpus:1.5")), "1.5");
        assert_eq!(cpus(&of("cpus:20")), "20");
        assert_eq!(cpus(&of("")), "0");
        for (text, shown) in [
            ("mem:512", "512MiB"),
            ("mem:1.5GiB", "1.5GiB"),
            ("mem:2TiB", "2TiB"),
            ("", "0MiB"),
            ("mem:0.5", "0.5MiB"),
        ] {
            assert_eq!(mem(&of(text)), shown);
        }
    }

    #[test]
    fn spans_have_two_units() {
        for (seconds, shown) in
            [(0, "0s"), (59, "59s"), (60, "1m"), (185, "3m 5s"), (7800, "2h 10m"), (349_200, "4d 1h")]
        {
            assert_eq!(span(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn long_texts_are_shortened() {
        assert_eq!(shortened("äbc", 3), "äbc");
        assert_eq!(shortened("äb cd", 3), "äb…");
        assert_eq!((count(1, "task"), count(0, "task")), ("1 task".into(), "0 tasks".into()));
    }
}
