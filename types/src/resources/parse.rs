//! `cpus:2;mem:1GiB;ports:[31000-32000];zones:{a,b}` to resources, with the column of what is wrong.

use std::{collections::BTreeSet, str::FromStr, sync::Arc};

use super::{Name, Ranges, Resources, Terms, Value};
use crate::limits;

/// Why a text is not resources, and at which column (in characters, from 1).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("resources `{text}`, column {column}: {what}")]
pub struct ParseError {
    /// The text, or its start.
    pub text: String,
    /// Where.
    pub column: usize,
    /// What is wrong, and what is expected.
    pub what: String,
}

/// Reads a scalar of a resource as thousandths: a decimal number with at most three decimals; for `mem` and `disk`, which
/// count MiB, also with a unit (`512MiB`, `1GiB`, `1.5G`, `1GB`), rounded down to a thousandth of a MiB.
pub fn parse_scalar(name: &Name, text: &str) -> Result<i64, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = (text[..split].trim_end(), text[split..].trim());
    if number.starts_with('-') {
        return Err(format!("{name} is negative: `{text}`"));
    }
    let (whole, decimals) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(decimals) || number.ends_with('.') {
        return Err(format!("`{text}` is not a number"));
    }
    let too_large = || {
        let most = limits::SCALAR_MILLI_MAX / 1000;
        format!("{name} of `{text}` is more than the most that is allowed, {most}")
    };
    if decimals.len() > 9 || decimals.len() > 3 && unit.is_empty() {
        return Err(format!("{name} of `{text}` is finer than a thousandth"));
    }
    // In units of 10^-9, so that no decimal is lost before the unit is applied.
    let whole: i128 = whole.parse().ok().filter(|w| *w < 1 << 80).ok_or_else(too_large)?;
    let nano = whole * 1_000_000_000 + format!("{decimals:0<9}").parse::<i128>().unwrap_or(0);
    let milli = if unit.is_empty() {
        nano / 1_000_000
    } else if name.is_bytes() {
        let bytes: i128 = match unit {
            "B" => 1,
            "KiB" | "K" | "k" => 1 << 10,
            "MiB" | "M" => 1 << 20,
            "GiB" | "G" => 1 << 30,
            "TiB" | "T" => 1 << 40,
            "kB" | "KB" => 1_000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(format!("`{unit}` is not a unit; use B, KiB, MiB, GiB, TiB, kB, MB, GB or TB")),
        };
        nano.checked_mul(bytes).ok_or_else(too_large)? / (1 << 20) / 1_000_000
    } else {
        return Err(format!("{name} has no unit, but `{unit}` stands behind the number"));
    };
    i64::try_from(milli).ok().filter(|m| *m <= limits::SCALAR_MILLI_MAX).ok_or_else(too_large)
}

impl FromStr for Resources {
    type Err = ParseError;

    /// Reads `name:value;name:value`. A value is a number, ranges (`[31000-31009,31020]`) or a set (`{a,b}`).
    /// Between a name and its colon may stand [`Terms`]. White space around parts does not matter; an empty text is no resources; a
    /// name given twice on the same terms is refused.
    fn from_str(text: &str) -> Result<Self, ParseError> {
        let mut resources = Resources::new();
        let mut offset = 0;
        let parts = text.split(';').count();
        for (index, part) in text.split(';').enumerate() {
            let start = offset;
            offset += part.len() + 1;
            if part.trim().is_empty() {
                if index + 1 == parts {
                    continue; // a trailing `;`, or nothing at all
                }
                return Err(error(text, start, "a resource such as `cpus:2` is missing here"));
            }
            let Some((name_text, value_text)) = part.split_once(':') else {
                return Err(error(text, start + leading(part), "expected `name:value`, such as `cpus:2`"));
            };
            let name_at = start + leading(name_text);
            let (bare, terms_text) = name_text
                .trim()
                .split_at(name_text.trim().find(['(', '[', '{']).unwrap_or(name_text.trim().len()));
            let name = Name::new(bare.trim_end()).ok_or_else(|| {
                let what =
                    format!("`{}` is not a name (a letter, then letters, digits, `_-.`)", bare.trim_end());
                error(text, name_at, &what)
            })?;
            let terms = Terms::parse(terms_text)
                .and_then(|terms| terms.fit(&name).map(|()| terms))
                .map_err(|what| error(text, name_at + bare.len(), &what))?;
            let terms = (!terms.is_plain()).then(|| Arc::new(terms));
            let value_at = start + name_text.len() + 1 + leading(value_text);
            let value = parse_value(&name, value_text.trim())
                .map_err(|(at, what)| error(text, value_at + at, &what))?;
            if resources.position(&name, terms.as_deref(), value.kind()).is_ok() {
                return Err(error(text, name_at, &format!("{name} is given twice")));
            }
            if resources.entries.len() >= limits::RESOURCE_NAMES_MAX {
                let what = format!("more than {} resources", limits::RESOURCE_NAMES_MAX);
                return Err(error(text, name_at, &what));
            }
            resources.insert_on(name, terms, value);
        }
        Ok(resources)
    }
}

/// Bytes of white space in front.
fn leading(part: &str) -> usize {
    part.len() - part.trim_start().len()
}

fn error(text: &str, byte: usize, what: &str) -> ParseError {
    let shown = text.chars().take(200).collect();
    ParseError {
        text: shown,
        column: text[..byte.min(text.len())].chars().count() + 1,
        what: what.to_owned(),
    }
}

fn parse_value(name: &Name, text: &str) -> Result<Value, (usize, String)> {
    if text.is_empty() {
        return Err((0, format!("{name} has no value")));
    }
    let body = |open: char, close: char| {
        let inner = text.strip_prefix(open)?;
        Some(inner.strip_suffix(close).ok_or_else(|| (text.len(), format!("`{close}` is missing"))))
    };
    if let Some(inner) = body('[', ']') {
        return parse_ranges(inner?);
    }
    if let Some(inner) = body('{', '}') {
        return parse_set(inner?);
    }
    if name == &Name::Ports {
        return Err((0, "ports are ranges, such as `[31000-32000]`".to_owned()));
    }
    parse_scalar(name, text).map(Value::Scalar).map_err(|what| (0, what))
}

fn parse_ranges(inner: &str) -> Result<Value, (usize, String)> {
    let mut at = 1;
    let mut ranges = Vec::new();
    for part in inner.split(',') {
        let part_at = at + leading(part);
        at += part.len() + 1;
        let part = part.trim();
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |s: &str| {
            s.trim()
                .parse::<u64>()
                .map_err(|_| (part_at, format!("`{part}` is not a range such as `31000-32000`")))
        };
        let (first, last) = (number(first)?, number(last)?);
        if last < first {
            return Err((part_at, format!("the range `{part}` ends before it begins")));
        }
        ranges.push((first, last));
    }
    if ranges.len() > limits::RANGES_MAX {
        return Err((0, format!("more than {} ranges", limits::RANGES_MAX)));
    }
    Ok(Value::Ranges(ranges.into_iter().collect::<Ranges>()))
}

fn parse_set(inner: &str) -> Result<Value, (usize, String)> {
    let mut at = 1;
    let mut set: BTreeSet<Arc<str>> = BTreeSet::new();
    for part in inner.split(',') {
        let part_at = at + leading(part);
        at += part.len() + 1;
        let member = part.trim();
        if member.is_empty() || member.contains(['{', '}', '[', ']', ':']) {
            return Err((part_at, format!("`{member}` is not a member of a set")));
        }
        if !set.insert(member.into()) {
            return Err((part_at, format!("`{member}` is in the set twice")));
        }
    }
    if set.len() > limits::SET_MEMBERS_MAX {
        return Err((0, format!("more than {} members", limits::SET_MEMBERS_MAX)));
    }
    Ok(Value::Set(Box::new(set)))
}
