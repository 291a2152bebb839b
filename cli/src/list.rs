//! Lists, printed page by page as they come.

use std::cell::Cell;

use apportion_sdk::operator::Page;
use serde::Serialize;

use crate::{
    client,
    output::{self, Format},
    table::Table,
};

/// The flags of every command that lists.
#[derive(Debug, clap::Args)]
#[group(skip)]
pub(crate) struct Args {
    /// End after so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,
    #[command(flatten)]
    pub(crate) client: client::Args,
}

/// How a list is shown.
pub(crate) struct List<'a, D, const N: usize> {
    /// Its name in JSON.
    pub(crate) name: &'a str,
    pub(crate) heads: [&'a str; N],
    /// What is said when there is nothing.
    pub(crate) empty: &'a str,
    pub(crate) row: fn(&D) -> [String; N],
}

impl<D: Serialize, const N: usize> List<'_, D, N> {
    /// Prints every page that `fetch` gives, until the list or the limit ends; how many there were.
    pub(crate) async fn print<T>(
        &self,
        format: Format,
        limit: Option<usize>,
        mut fetch: impl AsyncFnMut(u32, Option<&str>) -> anyhow::Result<Page<T>>,
        mut document: impl FnMut(T) -> D,
    ) -> anyhow::Result<usize> {
        let mut left = limit.unwrap_or(usize::MAX);
        let (mut after, mut printed) = (None, 0);
        let widths = Cell::new([0; N]);
        while left > 0 {
            let size = u32::try_from(left).unwrap_or(u32::MAX);
            let page = fetch(size, after.as_deref()).await?;
            let documents: Vec<D> = page.items.into_iter().take(left).map(&mut document).collect();
            let text = match format {
                Format::Text => self.rows(&documents, printed == 0, &widths),
                Format::Json => self.items(&documents, printed == 0),
            };
            left -= documents.len();
            printed += documents.len();
            output::write(text.as_bytes())?;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let end = match (format, printed) {
            (Format::Text, 0) if limit != Some(0) => self.empty.to_owned(),
            (Format::Text, _) => String::new(),
            (Format::Json, 0) => format!("{{\n  \"{}\": []\n}}\n", self.name),
            (Format::Json, _) => "\n  ]\n}\n".to_owned(),
        };
        output::write(end.as_bytes())?;
        Ok(printed)
    }

    /// Rows, in columns that are no narrower than before.
    fn rows(&self, documents: &[D], first: bool, widths: &Cell<[usize; N]>) -> String {
        if documents.is_empty() {
            return String::new();
        }
        let mut table = Table::new(&self.heads);
        documents.iter().for_each(|document| table.row((self.row)(document)));
        let mut wider = widths.get();
        wider.iter_mut().zip(table.widths()).for_each(|(width, now)| *width = now.max(*width));
        widths.set(wider);
        let text = table.at_least(&wider);
        // The head stands over the first page only.
        if first { text } else { text.split_once('\n').map(|(_, rows)| rows.to_owned()).unwrap_or_default() }
    }

    fn items(&self, documents: &[D], first: bool) -> String {
        let mut text = String::new();
        for (at, document) in documents.iter().enumerate() {
            if first && at == 0 {
                text += &format!("{{\n  \"{}\": [\n", self.name);
            } else {
                text += ",\n";
            }
            let lines: Vec<String> =
                output::json(document).trim_end().lines().map(|line| format!("    {line}")).collect();
            text += &lines.join("\n");
        }
        text
    }

    /// All of it as text, as if on one page.
    #[cfg(test)]
    pub(crate) fn text(&self, documents: &[D]) -> String {
        match documents {
            [] => self.empty.to_owned(),
            some => self.rows(some, true, &Cell::new([0; N])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: List<'static, u32, 2> = List {
        name: "numbers",
        heads: ["A", ">B"],
        empty: "none\n",
        row: |number| [number.to_string(), "x".to_owned()],
    };

    #[test]
    fn later_pages_have_no_head_and_the_same_columns() {
        let widths = Cell::new([0; 2]);
        assert_eq!(NUMBERS.rows(&[1000], true, &widths), "A     B\n1000  x\n");
        assert_eq!(NUMBERS.rows(&[1], false, &widths), "1     x\n");
        assert_eq!((NUMBERS.text(&[]), NUMBERS.text(&[7])), ("none\n".to_owned(), "A  B\n7  x\n".to_owned()));
    }

    #[test]
    fn pages_are_one_document() {
        let text = NUMBERS.items(&[1, 2], true) + &NUMBERS.items(&[3], false) + "\n  ]\n}\n";
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value, serde_json::json!({"numbers": [1, 2, 3]}));
    }
}
