//! `artifacts` and `collect`: what tasks are given before they start, and what is kept of what they leave.

use apportion_sdk::{Artifact, Task as Description};
use glob::Pattern;
use toml::Spanned;

use super::{
    JobError,
    file::ArtifactTable,
    table::Table,
    template::{Scope, Template, Values},
};

/// Something that is fetched into a task's sandbox before it starts.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Input {
    uri: Template,
    path: Option<Template>,
    /// The rest of it, which is the same for all tasks.
    same: Artifact,
}

impl Input {
    pub(super) fn render(&self, values: &Values) -> Artifact {
        let path = self.path.as_ref().map(|path| path.render(values));
        Artifact { uri: self.uri.render(values), path, ..self.same.clone() }
    }
}

impl Table<'_> {
    /// `first` is the element of the first task: what is wrong with an address shows there, before anything runs.
    pub(super) fn inputs(
        &self,
        tables: Vec<Spanned<ArtifactTable>>,
        scope: Scope<'_>,
        first: &Values,
    ) -> Result<Vec<Input>, JobError> {
        let input = |table: Spanned<ArtifactTable>| {
            let template = |text: &String| {
                Template::parse(text, scope).map_err(|error| self.at("artifacts", &table, error))
            };
            let ArtifactTable { uri, sha256, path, extract, executable, cache } = table.get_ref();
            let path = path.as_ref().map(template).transpose()?;
            let same = Artifact {
                sha256: sha256.clone(),
                extract: *extract,
                executable: *executable,
                cache: *cache,
                ..Artifact::new("")
            };
            let input = Input { uri: template(uri)?, path, same };
            let example = Description::new("example").command(["true"]).cpus(1.0).mem_mib(32);
            let judged = example.artifact(input.render(first)).build();
            judged.map_err(|error| self.at("artifacts", &table, error))?;
            Ok(input)
        };
        tables.into_iter().map(input).collect()
    }

    /// Patterns of files, relative to the sandbox of a task. `output` is whether there is a folder for them.
    pub(super) fn collect(
        &self,
        texts: Vec<Spanned<String>>,
        scope: Scope<'_>,
        output: bool,
    ) -> Result<Vec<Pattern>, JobError> {
        let pattern = |text: Spanned<String>| {
            let refuse = |what: String| self.at("collect", &text, what);
            if !output {
                return Err(refuse(
                    "there is no folder to collect into; say at the top of the file, for example\noutput = \"results\""
                        .to_owned(),
                ));
            }
            // A relative path by whoever wrote it down as `./x`.
            let plain = scope.expand(text.get_ref()).map_err(|error| refuse(error.to_string()))?;
            let plain = plain.strip_prefix("./").unwrap_or(&plain);
            if plain.is_empty() || plain.starts_with('/') || plain.split('/').any(|part| part == "..") {
                let what = format!(
                    "`{plain}` does not lie in the sandbox; give a path relative to it, such as \"*.csv\""
                );
                return Err(refuse(what));
            }
            Pattern::new(plain).map_err(|error| refuse(format!("`{plain}` is not a pattern: {error}")))
        };
        texts.into_iter().map(pattern).collect()
    }
}
