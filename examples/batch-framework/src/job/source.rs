//! The text of a job file, and how to point into it.

use std::{collections::BTreeMap, fmt, ops::Range, path::Path};

use toml::Spanned;

use super::{JobError, Place, file::Scalar};

/// The text of the file, to point into.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a Path,
    pub(super) text: &'a str,
}

impl Source<'_> {
    pub(super) fn refuse(self, span: Range<usize>, what: String) -> JobError {
        let before = &self.text[..span.start.min(self.text.len())];
        let line = self.line(&span);
        let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
        JobError::Invalid { place: Place { file: self.file.to_owned(), line, column }, what }
    }

    /// The line where something begins.
    pub(super) fn line(self, span: &Range<usize>) -> usize {
        self.text[..span.start.min(self.text.len())].matches('\n').count() + 1
    }

    pub(super) fn at<T>(self, key: &str, value: &Spanned<T>, what: impl fmt::Display) -> JobError {
        self.refuse(value.span(), format!("{key}: {what}"))
    }

    pub(super) fn missing(self, span: Range<usize>, key: &str, example: &str) -> JobError {
        self.refuse(span, format!("{key} is missing; write for example\n{example}"))
    }

    pub(super) fn params(
        self,
        raw: BTreeMap<Spanned<String>, Scalar>,
        settings: &[String],
    ) -> Result<BTreeMap<String, String>, JobError> {
        let mut params = BTreeMap::new();
        for (name, value) in raw {
            if ["item", "index"].contains(&name.get_ref().as_str()) {
                return Err(self.at(
                    "params",
                    &name,
                    format!("`{}` is the array's own; choose another name", name.get_ref()),
                ));
            }
            params.insert(name.into_inner(), value.to_string());
        }
        for setting in settings {
            let refuse = |what| JobError::Setting { setting: setting.clone(), what };
            let (name, value) = setting
                .split_once('=')
                .ok_or_else(|| refuse("expected name=value, such as folder=/usr/share".to_owned()))?;
            // Only what the file declares can be set: a misspelt name must not leave the default in force unseen.
            let Some(param) = params.get_mut(name) else {
                let known: Vec<_> = params.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "no parameter".to_owned() } else { known.join(", ") };
                return Err(refuse(format!(
                    "{} declares no `{name}`; it declares {known}",
                    self.file.display()
                )));
            };
            value.clone_into(param);
        }
        Ok(params)
    }
}
