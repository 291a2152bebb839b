//! Descriptions in JSON: the same keys and values, so one is written as TOML and read as that. What is wrong is then looked for in the text.

use std::path::Path;

use super::{Source, Spec, SpecError};

impl Spec {
    /// Checks the text of a description in JSON; `file` only names it in errors.
    pub fn parse_json(file: &Path, text: &str) -> Result<Spec, SpecError> {
        let source = Source { file, text };
        let table: toml::Table = serde_json::from_str(text).map_err(|error| source.no_json(&error))?;
        let written = toml::to_string(&table).map_err(|error| source.refuse(0..0, error.to_string()))?;
        match Spec::parse(file, &written) {
            Err(SpecError::Invalid { what, line, column, .. }) => {
                let found = Source { file, text: &written };
                let way = found.way_at(found.byte_at(line, column));
                let place = way.and_then(|way| source.place_in_json(&way));
                Err(source.refuse(place.map_or_else(|| source.named_in_json(&what), |at| at..at), what))
            }
            done => done,
        }
    }
}

impl Source<'_> {
    fn no_json(self, error: &serde_json::Error) -> SpecError {
        let toml = !self.text.trim_start().starts_with('{') && toml::de::DeTable::parse(self.text).is_ok();
        if toml && !self.text.trim().is_empty() {
            let what = format!("this seems to be TOML, and by its name it is JSON; {}", self.renamed("toml"));
            return self.refuse(0..0, what);
        }
        SpecError::Invalid {
            file: self.file.to_owned(),
            line: error.line().max(1),
            column: error.column().max(1),
            what: error.to_string(),
        }
    }

    /// Where the key stands that a message is about: it begins with it, or has it in quotes; the beginning when neither is found.
    pub(super) fn named_in_json(self, what: &str) -> std::ops::Range<usize> {
        let before = what.split(':').next().unwrap_or_default();
        let key = before.rsplit('.').next().unwrap_or_default();
        let quoted = what.split('`').nth(1).unwrap_or_default();
        let named = [key, quoted].into_iter().filter(|key| !key.is_empty());
        let found = named.into_iter().find_map(|key| self.text.find(&format!("\"{key}\"")));
        found.map_or(0..0, |at| at..at)
    }
}
