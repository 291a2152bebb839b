//! What is wrong with a description only beside others, such as an address that another service has: said with its place all the same.

use std::path::Path;

use super::{Source, Spec, SpecError};

impl Spec {
    /// Whether a refusal is about this description; it then begins with a key, and the first service that it names is this one.
    pub fn is_meant_by(&self, refusal: &str) -> bool {
        let key = |key: &str| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == '.')
        };
        let named = refusal.split('`').nth(1);
        refusal.split_once(": ").is_some_and(|(before, _)| key(before)) && named == Some(&self.name)
    }

    /// A refusal, at the place in the description that it is about.
    pub fn refused(file: &Path, refusal: &str) -> SpecError {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let source = Source { file, text: &text };
        let key = refusal.split(':').next().unwrap_or_default();
        let (table, within) = key.split_once('.').unwrap_or((key, ""));
        let place = match source.place_of(table, within) {
            Some(place) => place,
            None => source.named_in_json(refusal),
        };
        source.refuse(place, refusal.to_owned())
    }
}
