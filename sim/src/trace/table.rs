//! The rows of a CSV text by the names of its columns, and where in it something is wrong.

use std::fmt;

use apportion_types::{
    ids::{IdError, RoleError},
    text,
};

/// Why a text is not a trace, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}{}: {fault}", At(column.as_ref()))]
pub struct TraceError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The column; none when it is about the whole line.
    pub column: Option<Column>,
    /// What is wrong.
    pub fault: Box<Fault>,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Which, from 1, counted in fields.
    pub number: usize,
    /// Its name in the header.
    pub name: &'static str,
}

struct At<'a>(Option<&'a Column>);

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(column) => write!(f, ", column {} (`{}`)", column.number, column.name),
            None => Ok(()),
        }
    }
}

/// What is wrong at a place of a trace.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There is no header.
    #[error("the file is empty; its first line must name the columns: `{}`", columns.join(","))]
    Empty {
        /// The columns that are needed.
        columns: &'static [&'static str],
    },
    /// There is only a header.
    #[error("no row follows the header; at least one is needed")]
    NoRows,
    /// More rows than a replay can take.
    #[error("more than {rows_max} rows; leave some out")]
    TooManyRows {
        /// The bound.
        rows_max: usize,
    },
    /// The header lacks a column.
    #[error(
        "the header has no column `{name}`; it names `{header}`; rename or add one (extra columns are ignored)"
    )]
    MissingColumn {
        /// The column.
        name: &'static str,
        /// The header's start.
        header: String,
    },
    /// The header names a column twice.
    #[error("the header names the column `{name}` twice; rename the one that is not meant")]
    ColumnTwice {
        /// The column.
        name: &'static str,
    },
    /// A row has another number of fields than the header.
    #[error("{fields} fields where the header names {columns}; quote a field that holds a comma")]
    Fields {
        /// Those of the row.
        fields: usize,
        /// Those of the header.
        columns: usize,
    },
    /// Not a number.
    #[error("`{text}` is not a whole number of {unit}; write digits only")]
    Number {
        /// The field's start.
        text: String,
        /// What is counted.
        unit: &'static str,
    },
    /// A number above its bound.
    #[error("{text} {unit} are more than {most}, the most that is allowed")]
    TooLarge {
        /// The field's start.
        text: String,
        /// What is counted.
        unit: &'static str,
        /// The bound.
        most: u64,
    },
    /// A text above its bound.
    #[error("{bytes} bytes are more than {bytes_max}, the most that is allowed; shorten it")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        bytes_max: usize,
    },
    /// A name that cannot be one.
    #[error("not a name: {0}")]
    Name(IdError),
    /// A quality of service that makes no role.
    #[error("it is to be the task's role, and cannot: {0}")]
    Role(RoleError),
    /// Two rows of one name.
    #[error("`{name}` is already the name in line {line}; give each its own")]
    Duplicate {
        /// The name.
        name: String,
        /// Where it came first.
        line: u64,
    },
    /// Nothing is there, or asked for.
    #[error("all amounts are 0; leave the row out, or correct it")]
    Nothing,
    /// Gpus of which no share is wanted.
    #[error("0 of each of {gpus} gpus; write 1000 for whole ones, or 0 in `num_gpu` for none")]
    NoShare {
        /// How many gpus.
        gpus: u64,
    },
    /// A task that ended before it began.
    #[error("deleted at {deleted} s, before it began at {began} s")]
    Backwards {
        /// When it was deleted.
        deleted: u64,
        /// When it was scheduled, or created when it never was.
        began: u64,
    },
}

/// A row of a table, whose fields are asked for by the names of their columns.
pub(super) struct Row<'a> {
    file: &'a str,
    columns: &'a [Column],
    record: &'a csv::StringRecord,
    pub(super) line: u64,
}

impl Row<'_> {
    fn column(&self, name: &str) -> Column {
        *self
            .columns
            .iter()
            .find(|column| column.name == name)
            .expect("a reader asks for columns that it named")
    }

    /// The field of a column, without white space around it.
    pub(super) fn text(&self, name: &str) -> &str {
        &self.record[self.column(name).number - 1]
    }

    /// The field as a whole number of at most `most` of a unit.
    pub(super) fn number(&self, name: &str, unit: &'static str, most: u64) -> Result<u64, TraceError> {
        let text = self.text(name);
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.fault(name, Fault::Number { text: start(text), unit }));
        }
        // Digits that are no `u64` are too many.
        let number = text.parse().ok().filter(|number| *number <= most);
        number.ok_or_else(|| self.fault(name, Fault::TooLarge { text: start(text), unit, most }))
    }

    /// What is wrong with the field of a column.
    pub(super) fn fault(&self, name: &str, fault: Fault) -> TraceError {
        TraceError { column: Some(self.column(name)), ..self.whole(fault) }
    }

    /// What is wrong with the row as a whole.
    pub(super) fn whole(&self, fault: Fault) -> TraceError {
        TraceError { file: self.file.to_owned(), line: self.line, column: None, fault: Box::new(fault) }
    }
}

fn start(text: &str) -> String {
    text::cut(text.escape_debug().to_string(), 60)
}

/// Reads each row of a text that has these columns, in any order and among others.
pub(super) fn read<T>(
    file: &str,
    text: &str,
    names: &'static [&'static str],
    rows_max: usize,
    mut row: impl FnMut(&Row<'_>) -> Result<T, TraceError>,
) -> Result<Vec<T>, TraceError> {
    let refuse =
        |line, fault| TraceError { file: file.to_owned(), line, column: None, fault: Box::new(fault) };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // Lengths are compared below, where the answer can say what to do.
    let mut reader =
        csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(text.as_bytes());
    let never = "a text in memory can be read and is UTF-8";
    let header = reader.headers().expect(never).clone();
    if header.iter().all(str::is_empty) {
        return Err(refuse(1, Fault::Empty { columns: names }));
    }
    let columns = names.iter().map(|name| {
        let mut found = header.iter().enumerate().filter(|(_, field)| field == name);
        match (found.next(), found.next()) {
            (Some((index, _)), None) => Ok(Column { number: index + 1, name }),
            (Some(_), Some(_)) => Err(refuse(1, Fault::ColumnTwice { name })),
            (None, _) => {
                let header = start(&header.iter().collect::<Vec<_>>().join(","));
                Err(refuse(1, Fault::MissingColumn { name, header }))
            }
        }
    });
    let columns: Vec<Column> = columns.collect::<Result<_, _>>()?;
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    let mut lines = Lines { text, at: 0, line: 1 };
    while reader.read_record(&mut record).expect(never) {
        let line = lines.line_of(record.position().expect("a record that was read has a place").byte());
        if rows.len() == rows_max {
            return Err(refuse(line, Fault::TooManyRows { rows_max }));
        }
        if record.len() != header.len() {
            return Err(refuse(line, Fault::Fields { fields: record.len(), columns: header.len() }));
        }
        rows.push(row(&Row { file, columns: &columns, record: &record, line })?);
    }
    if rows.is_empty() { Err(refuse(1, Fault::NoRows)) } else { Ok(rows) }
}

/// Counts lines as far as they were read.
struct Lines<'a> {
    text: &'a str,
    at: usize,
    line: u64,
}

impl Lines<'_> {
    /// The line in which a record stands that is said to begin at this byte; not before the last one asked for. To the CSV reader
    /// a record begins where the one before it ended, with the line ends and blank lines that it skips.
    fn line_of(&mut self, byte: u64) -> u64 {
        let begin = usize::try_from(byte).expect("within a text in memory");
        let bytes = self.text.as_bytes();
        let skipped = bytes[begin..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let passed = &bytes[self.at..begin + skipped];
        self.line += passed.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.at = begin + skipped;
        self.line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["name", "size"];

    fn rows(text: &str) -> Result<Vec<(String, u64, u64)>, String> {
        let each =
            |row: &Row<'_>| Ok((row.text("name").to_owned(), row.number("size", "apples", 99)?, row.line));
        read("t.csv", text, NAMES, 3, each).map_err(|error| error.to_string())
    }

    #[test]
    fn columns_are_found_by_name_whatever_their_order() {
        let expected = vec![("a,b".to_owned(), 7, 2), ("c".to_owned(), 0, 3)];
        assert_eq!(rows("name,size\n\"a,b\",7\nc,0").unwrap(), expected);
        assert_eq!(rows("\u{feff}x, size ,y,name\r\n1, 7 ,2,\"a,b\"\r\n,0,,c\r\n").unwrap(), expected);
    }

    #[test]
    fn lines_are_those_of_an_editor() {
        let lines = |text: &str| rows(text).unwrap().into_iter().map(|row| row.2).collect::<Vec<_>>();
        assert_eq!(lines("name,size\r\n\r\n\na,1\r\n\"b\n\",2\r\n\r\nc,3"), [4, 5, 8]);
        assert_eq!(rows("\u{feff}name,size\n\na\n").unwrap_err()[..8], *"t.csv:3:");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_remedy() {
        for (text, message) in [
            ("", "t.csv:1: the file is empty; its first line must name the columns: `name,size`"),
            (" \n", "t.csv:1: the file is empty; its first line must name the columns: `name,size`"),
            ("name,size\n", "t.csv:1: no row follows the header; at least one is needed"),
            (
                "name,sise\na,1",
                "t.csv:1: the header has no column `size`; it names `name,sise`; rename or add one (extra columns \
                 are ignored)",
            ),
            (
                "size,name,size\n1,a,2",
                "t.csv:1: the header names the column `size` twice; rename the one that is not meant",
            ),
            (
                "name,size\na,1\nb",
                "t.csv:3: 1 fields where the header names 2; quote a field that holds a comma",
            ),
            (
                "name,size\na,b,1",
                "t.csv:2: 3 fields where the header names 2; quote a field that holds a comma",
            ),
            (
                "name,size\na,1.5",
                "t.csv:2, column 2 (`size`): `1.5` is not a whole number of apples; write digits only",
            ),
            (
                "size,name\n-1,a",
                "t.csv:2, column 1 (`size`): `-1` is not a whole number of apples; write digits only",
            ),
            (
                "size,name\n,a",
                "t.csv:2, column 1 (`size`): `` is not a whole number of apples; write digits only",
            ),
            (
                "name,size\na,100",
                "t.csv:2, column 2 (`size`): 100 apples are more than 99, the most that is allowed",
            ),
            (
                "name,size\na,99999999999999999999999",
                "t.csv:2, column 2 (`size`): 99999999999999999999999 apples are more than 99, the most that is \
                 allowed",
            ),
            ("name,size\na,1\nb,2\nc,3\nd,4", "t.csv:5: more than 3 rows; leave some out"),
        ] {
            assert_eq!(rows(text).unwrap_err(), message, "{text:?}");
        }
    }

    #[test]
    fn a_message_stays_short_and_harmless() {
        let message = rows(&format!("name,size\na,\u{1b}[2J{}", "x".repeat(1000))).unwrap_err();
        assert!(message.len() < 200 && message.contains("`\\u{1b}[2Jxxx"), "{message}");
    }
}
