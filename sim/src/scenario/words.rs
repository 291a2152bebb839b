//! A line as words, each with its column, and what can be read from one.

use std::{fmt, ops::RangeInclusive, str::FromStr, time::Duration};

use apportion_types::text::cut;

/// The longest duration that a scenario may name.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// Bytes of a word that are shown in a mistake.
const SHOWN_BYTES_MAX: usize = 60;

/// Why a text is no scenario, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {what}; expected {expected}")]
pub struct ParseError {
    /// The file, as it was named.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub expected: String,
}

/// What is wrong in a line, and where in it.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) column: usize,
    pub(super) what: String,
    pub(super) expected: String,
}

pub(super) type Parsed<T> = Result<T, Mistake>;

/// A word, or a part of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a> {
    pub(super) text: &'a str,
    /// In characters, from 1.
    pub(super) column: usize,
}

/// What an option says: `key=value`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given<'a> {
    pub(super) key: Word<'a>,
    pub(super) value: Word<'a>,
}

/// The words of a line, taken one after the other.
#[derive(Debug, Clone)]
pub(super) struct Line<'a> {
    words: std::vec::IntoIter<Word<'a>>,
    /// Behind the last word.
    end: usize,
}

impl<'a> Line<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut words = Vec::new();
        let (mut column, mut rest) = (1, text);
        while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
            column += rest[..start].chars().count();
            rest = &rest[start..];
            let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
            words.push(Word { text: &rest[..end], column });
            column += rest[..end].chars().count();
            rest = &rest[end..];
        }
        let end = words.last().map_or(1, |word| word.column + word.text.chars().count());
        Self { words: words.into_iter(), end }
    }

    /// The next word, which must be there.
    pub(super) fn word(&mut self, expected: impl fmt::Display) -> Parsed<Word<'a>> {
        self.next().ok_or_else(|| Mistake {
            column: self.end,
            what: "the line ends too early".to_owned(),
            expected: expected.to_string(),
        })
    }

    /// Takes the next word if it is this one.
    pub(super) fn takes(&mut self, text: &str) -> bool {
        let is_it = self.words.as_slice().first().is_some_and(|word| word.text == text);
        if is_it {
            self.words.next();
        }
        is_it
    }

    /// Takes this word, which must be next.
    pub(super) fn keyword(&mut self, text: &str) -> Parsed<()> {
        let expected = format!("`{text}`");
        let word = self.word(&expected)?;
        if word.text == text { Ok(()) } else { Err(word.wrong("stands in the wrong place", expected)) }
    }

    /// Nothing may follow.
    pub(super) fn end(&mut self) -> Parsed<()> {
        self.next().map_or(Ok(()), |word| Err(word.wrong("is one word too many", "the end of the line")))
    }
}

impl<'a> Iterator for Line<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        self.words.next()
    }
}

impl<'a> Word<'a> {
    /// This word is wrong: `what` follows its text.
    pub(super) fn wrong(self, what: impl fmt::Display, expected: impl fmt::Display) -> Mistake {
        let shown = cut(plain(self.text), SHOWN_BYTES_MAX);
        Mistake { column: self.column, what: format!("`{shown}` {what}"), expected: expected.to_string() }
    }

    /// What stands behind these letters, with which it begins.
    pub(super) fn behind(self, letters: &str) -> Word<'a> {
        self.split(letters).map_or(self, |(_, behind)| behind)
    }

    /// Before and behind the first of this mark.
    fn split(self, mark: &str) -> Option<(Word<'a>, Word<'a>)> {
        let (left, right) = self.text.split_once(mark)?;
        let column = self.column + left.chars().count() + mark.chars().count();
        Some((Word { text: left, column: self.column }, Word { text: right, column }))
    }

    /// It as `key=value`.
    pub(super) fn option(self, known: &[&str]) -> Parsed<Given<'a>> {
        let expected = || format!("one of {}", known.join(", "));
        let (key, value) = self.split("=").ok_or_else(|| self.wrong("is not KEY=VALUE", expected()))?;
        if known.contains(&key.text) {
            Ok(Given { key, value })
        } else {
            Err(key.wrong("is not known here", expected()))
        }
    }

    pub(super) fn number(self, within: RangeInclusive<u64>) -> Parsed<u64> {
        let (least, most) = within.clone().into_inner();
        let expected = format!("a whole number from {least} to {most}");
        if self.text.is_empty() || !self.text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.wrong("is no whole number", expected));
        }
        let number = self.text.parse().ok().filter(|number| within.contains(number));
        number.ok_or_else(|| self.wrong("is out of bounds", expected))
    }

    /// As [`Word::number`], for counts and places in memory.
    pub(super) fn count(self, within: RangeInclusive<usize>) -> Parsed<usize> {
        let number = self.number(*within.start() as u64..=*within.end() as u64)?;
        Ok(usize::try_from(number).expect("it is within bounds that are"))
    }

    /// A number with at most six decimals, from zero.
    pub(super) fn decimal(self, most: u32) -> Parsed<f64> {
        let expected = format!("a number from 0 to {most}, such as 2 or 0.5");
        let micro = fixed(self.text, 6).ok_or_else(|| self.wrong("is no number", &expected))?;
        if micro > u128::from(most) * 1_000_000 {
            return Err(self.wrong("is out of bounds", expected));
        }
        Ok(micro as f64 / 1e6)
    }

    /// So many in a million, written as a percentage.
    pub(super) fn percent(self) -> Parsed<u32> {
        let expected = "a percentage from 0% to 100%, with at most four decimals";
        let ppm = self.text.strip_suffix('%').and_then(|number| fixed(number, 4));
        let ppm = ppm.and_then(|ppm| u32::try_from(ppm).ok()).filter(|ppm| *ppm <= 1_000_000);
        ppm.ok_or_else(|| self.wrong("is no percentage", expected))
    }

    pub(super) fn duration(self, within: RangeInclusive<Duration>) -> Parsed<Duration> {
        const FORM: &str = "a duration such as 10s, 1.5s, 200ms, 50us, 10m or 1h";
        let split = self.text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(self.text.len());
        let (number, unit) = self.text.split_at(split);
        let unit_ns: u128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" | "min" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "" if !number.is_empty() => return Err(self.wrong("has no unit", FORM)),
            _ => return Err(self.wrong("is no duration", FORM)),
        };
        let billionths = fixed(number, 9).ok_or_else(|| self.wrong("is no duration", FORM))?;
        let (least, most) = within.into_inner();
        let nanos = billionths.checked_mul(unit_ns).map(|product| product / 1_000_000_000);
        match nanos.filter(|nanos| (least.as_nanos()..=most.as_nanos()).contains(nanos)) {
            Some(nanos) => Ok(Duration::from_nanos(u64::try_from(nanos).expect("a year has fewer"))),
            None => Err(self.wrong("is out of bounds", format!("a duration from {least:?} to {most:?}"))),
        }
    }

    /// `A..B`, or `A` alone for both.
    pub(super) fn durations(self, most: Duration) -> Parsed<RangeInclusive<Duration>> {
        let Some((from, to)) = self.split("..") else {
            let duration = self.duration(Duration::ZERO..=most)?;
            return Ok(duration..=duration);
        };
        let least = from.duration(Duration::ZERO..=most)?;
        Ok(least..=to.duration(least..=most)?)
    }

    /// `N`, `N..M`, `N..` or `..M`.
    pub(super) fn counts(self) -> Parsed<Counts> {
        let Some((from, to)) = self.split("..") else {
            let count = self.number(0..=u64::from(u32::MAX))?;
            return Ok(Counts { least: count, most: Some(count) });
        };
        let least = if from.text.is_empty() { 0 } else { from.number(0..=u64::from(u32::MAX))? };
        let most = if to.text.is_empty() { None } else { Some(to.number(least..=u64::from(u32::MAX))?) };
        Ok(Counts { least, most })
    }

    /// Anything that reads itself, and says for itself what is wrong.
    pub(super) fn read<T: FromStr<Err: fmt::Display>>(self, expected: &str) -> Parsed<T> {
        self.text.parse().map_err(|error: T::Err| Mistake {
            column: self.column,
            what: cut(plain(&error.to_string()), 4 * SHOWN_BYTES_MAX),
            expected: expected.to_owned(),
        })
    }
}

/// A text that does nothing to a terminal.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    shown
}

/// A decimal number in units of 10^-`decimals`; none when it is no such number, is finer, or is far too large.
fn fixed(text: &str, decimals: usize) -> Option<u128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) || whole.len() > 18 || fraction.len() > decimals {
        return None;
    }
    let scaled: u128 = format!("{whole}{fraction:0<decimals$}").parse().ok()?;
    Some(scaled)
}

/// How many, within bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    least: u64,
    most: Option<u64>,
}

impl Counts {
    pub(super) fn contains(self, count: u64) -> bool {
        count >= self.least && self.most.is_none_or(|most| count <= most)
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.least, self.most) {
            (least, Some(most)) if least == most => write!(f, "{least}"),
            (least, Some(most)) => write!(f, "{least}..{most}"),
            (least, None) => write!(f, "{least}.."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(text: &str) -> Word<'_> {
        Word { text, column: 1 }
    }

    #[test]
    fn a_word_knows_its_column() {
        let mut line = Line::new("  größe  b=c ");
        assert_eq!(line.next().map(|word| (word.text, word.column)), Some(("größe", 3)));
        let given = line.next().unwrap().option(&["b"]).unwrap();
        assert_eq!((given.key.column, given.value.column, given.value.text), (10, 12, "c"));
        assert_eq!(line.word("more").unwrap_err().column, 13);
    }

    #[test]
    fn a_duration_is_read_as_it_is_shown() {
        let all = Duration::ZERO..=DURATION_MAX;
        for nanos in
            [0, 1, 999, 1_000, 1_234_567, 20_000_000, 1_500_000_000, 60_000_000_000, 3_600_000_000_001]
        {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(word(&format!("{duration:?}")).duration(all.clone()).unwrap(), duration);
        }
        assert_eq!(word("1.5m").duration(all.clone()).unwrap(), Duration::from_secs(90));
        for wrong in [
            "",
            "s",
            "1",
            ".5s",
            "1.s",
            "1..2s",
            "-1s",
            "1e3s",
            "366d",
            "99999999999999999999s",
            "1.0000000001s",
        ] {
            assert!(word(wrong).duration(all.clone()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_have_bounds() {
        assert_eq!(word("10%").percent().unwrap(), 100_000);
        assert_eq!(word("0.0001%").percent().unwrap(), 1);
        for wrong in ["101%", "10", "%", "-1%", "0.00001%", "nan%"] {
            assert!(word(wrong).percent().is_err(), "{wrong}");
        }
        assert_eq!(word("0.5").decimal(10).unwrap(), 0.5);
        assert!(word("10.1").decimal(10).is_err() && word("inf").decimal(10).is_err());
        let mistake = word("100001").number(1..=100_000).unwrap_err();
        assert_eq!(
            (mistake.what.as_str(), mistake.expected.as_str()),
            ("`100001` is out of bounds", "a whole number from 1 to 100000")
        );
        assert!(
            word("+1").number(0..=9).is_err() && word("18446744073709551616").number(0..=u64::MAX).is_err()
        );
    }

    #[test]
    fn counts_have_one_bound_or_two() {
        for (text, in_it, out) in [("3", 3, 4), ("3..", 99, 2), ("..3", 0, 4), ("2..3", 2, 1)] {
            let counts = word(text).counts().unwrap();
            assert!(counts.contains(in_it) && !counts.contains(out), "{text}");
        }
        assert!(word("3..2").counts().is_err() && word("a").counts().is_err());
        assert_eq!(word("..3").counts().unwrap().to_string(), "0..3");
    }
}
