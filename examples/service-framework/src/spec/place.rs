//! Where in the text of a description a key stands, and which one stands at a place.

use std::ops::Range;

use serde::de::{DeserializeOwned, IgnoredAny};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Source, SpecError,
    fault::{Fault, Step, Way},
};

impl Source<'_> {
    /// What is wrong with the description as a whole, at its place.
    pub(super) fn told(self, Fault { way, what }: Fault) -> SpecError {
        self.refuse(self.place(&way).unwrap_or(0..0), what)
    }

    /// What is no text of this form, or not of the shape that a key has.
    pub(super) fn unread(self, span: Range<usize>, what: &str) -> SpecError {
        if self.text.trim_start().starts_with('{') {
            let what = format!("this seems to be JSON, and by its name it is TOML; {}", self.renamed("json"));
            return self.refuse(0..0, what);
        }
        // Which key is unknown or missing is said already.
        let named = what.starts_with("unknown field") || what.starts_with("missing field");
        match self.way_at(span.start).filter(|_| !named) {
            Some(way) if !what.starts_with(&way.to_string()) => self.refuse(span, format!("{way}: {what}")),
            _ => self.refuse(span, what.to_owned()),
        }
    }

    /// What to do with a file whose name tells of another form.
    pub(super) fn renamed(self, extension: &str) -> String {
        let name = self.file.with_extension(extension);
        format!("call it {}", name.file_name().unwrap_or_default().display())
    }

    /// The byte at a line and a column, as they were told.
    pub(super) fn byte_at(self, line: usize, column: usize) -> usize {
        let lines = self.text.split_inclusive('\n');
        let before: usize = lines.clone().take(line - 1).map(str::len).sum();
        let within = lines.skip(line - 1).flat_map(str::chars).take(column - 1);
        before + within.map(char::len_utf8).sum::<usize>()
    }

    /// Where the value of a key such as `retries.attempts` stands in a table; of a key that is left out where the table before it does.
    pub(super) fn place_of(self, table: &str, key: &str) -> Option<Range<usize>> {
        self.place(&Way::to(table).then(Way::to(key)))
    }

    /// Where a value stands; of one that is left out, where the table does in which it could be.
    pub(super) fn place(self, Way(steps): &Way) -> Option<Range<usize>> {
        let parsed = DeTable::parse(self.text).ok()?;
        let (Step::Key(first), rest) = steps.split_first()? else { return None };
        let mut value = parsed.get_ref().get(first.as_str())?;
        for step in rest {
            let next = match (step, value.get_ref()) {
                (Step::Key(key), DeValue::Table(within)) => within.get(key.as_str()),
                (Step::At(place), DeValue::Array(within)) => within.get(*place),
                _ => None,
            };
            match next {
                Some(next) => value = next,
                None => break,
            }
        }
        Some(value.span())
    }

    /// The value, or the key, that begins at a byte of the text; of several the one that is deepest.
    pub(super) fn way_at(self, byte: usize) -> Option<Way> {
        fn seek(value: &Spanned<DeValue<'_>>, byte: usize, way: Way) -> Option<Way> {
            let deeper = match value.get_ref() {
                DeValue::Table(within) => seek_in(within, byte, &way),
                DeValue::Array(within) => {
                    let mut items = within.iter().enumerate();
                    items.find_map(|(place, item)| seek(item, byte, way.clone().at(place)))
                }
                _ => None,
            };
            deeper.or_else(|| (value.span().start == byte).then_some(way))
        }
        fn seek_in(table: &DeTable<'_>, byte: usize, way: &Way) -> Option<Way> {
            table.iter().find_map(|(key, value)| {
                let way = way.clone().key(key.get_ref());
                let here = key.span().start == byte;
                if here { Some(way) } else { seek(value, byte, way) }
            })
        }
        // What has no place is told at the beginning, where no value can be.
        let parsed = DeTable::parse(self.text).ok().filter(|_| byte > 0)?;
        seek_in(parsed.get_ref(), byte, &Way::default())
    }

    /// Where a key stands in JSON; of one that is left out, where the one does in whose value it could be.
    pub(super) fn place_in_json(self, Way(steps): &Way) -> Option<usize> {
        let mut cursor = Cursor { text: self.text, at: 0 };
        let mut place = None;
        for step in steps {
            match cursor.enter(step) {
                Some(found) => place = Some(found),
                None => break,
            }
        }
        place
    }
}

/// Goes through JSON that is known to be whole.
#[derive(Clone)]
struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

impl Cursor<'_> {
    /// Goes to the value to which a step leads; gives where its key stands, or it itself in a list.
    fn enter(&mut self, step: &Step) -> Option<usize> {
        let mut inner = self.clone();
        let place = match step {
            Step::Key(wanted) => {
                inner.pass("{")?;
                loop {
                    inner.space(",");
                    let place = inner.at;
                    let key: String = inner.read()?;
                    inner.space(":");
                    if key == *wanted {
                        break place;
                    }
                    inner.read::<IgnoredAny>()?;
                }
            }
            Step::At(wanted) => {
                inner.pass("[")?;
                inner.space("");
                for _ in 0..*wanted {
                    inner.read::<IgnoredAny>()?;
                    inner.space(",");
                }
                // A list that is shorter ends here.
                inner.clone().read::<IgnoredAny>()?;
                inner.at
            }
        };
        *self = inner;
        Some(place)
    }

    fn pass(&mut self, bracket: &str) -> Option<()> {
        self.space("");
        self.text[self.at..].starts_with(bracket).then(|| self.at += bracket.len())
    }

    /// Skips white space, and these.
    fn space(&mut self, also: &str) {
        let rest = &self.text[self.at..];
        let skipped = rest.trim_start_matches(|c: char| c.is_ascii_whitespace() || also.contains(c));
        self.at += rest.len() - skipped.len();
    }

    /// Reads a value.
    fn read<T: DeserializeOwned>(&mut self) -> Option<T> {
        let mut values = serde_json::Deserializer::from_str(&self.text[self.at..]).into_iter();
        let value = values.next()?.ok()?;
        self.at += values.byte_offset();
        Some(value)
    }
}
