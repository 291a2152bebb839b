//! Holds the documents against the code: a path or a type that a document names must exist.

use std::{collections::BTreeSet, fs, path::Path};

use anyhow::{Result, bail};

use crate::shell::{root, tracked};

/// Checks every code span and every relative link of every tracked Markdown file.
pub(crate) fn names() -> Result<()> {
    println!("==> names in documents");
    let words = words_of_the_code()?;
    let mut breaches = Vec::new();
    for document in tracked(".md")? {
        let text = fs::read_to_string(root().join(&document))?;
        let folder = document.parent().unwrap_or(Path::new(""));
        let mut fenced = false;
        for (number, line) in text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                fenced = !fenced;
                continue;
            }
            if fenced {
                continue;
            }
            let missing_spans =
                line.split('`').skip(1).step_by(2).filter(|span| !exists(span, folder, &words));
            let missing_links = links(line).filter(|link| !link_exists(link, folder));
            for missing in missing_spans.chain(missing_links) {
                breaches.push(format!("{}:{}: `{missing}` does not exist", document.display(), number + 1));
            }
        }
    }
    if breaches.is_empty() {
        return Ok(());
    }
    bail!("documents name what is not there:\n  {}", breaches.join("\n  "));
}

/// The targets of `[text](target)` that are in this repository.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next())
        .filter(|target| !target.contains("://"))
}

fn link_exists(link: &str, folder: &Path) -> bool {
    let path = link.split('#').next().unwrap_or_default();
    path.is_empty() || root().join(folder).join(path).exists()
}

/// True unless the span looks like a path of ours or like a type, and is none.
fn exists(span: &str, folder: &Path, words: &BTreeSet<String>) -> bool {
    let is_path = span.contains('/')
        && span.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c))
        && span.split('/').next().is_some_and(|first| !first.is_empty() && root().join(first).exists());
    if is_path {
        return root().join(span).exists() || root().join(folder).join(span).exists();
    }
    let parts: Vec<&str> = span.split("::").collect();
    let is_type = parts.iter().all(|part| part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
        && parts.last().is_some_and(|last| {
            last.starts_with(|c: char| c.is_ascii_uppercase())
                && last.contains(|c: char| c.is_ascii_lowercase())
                || parts.len() > 1
        });
    !is_type || parts.iter().all(|part| ["std", "crate"].contains(part) || words.contains(*part))
}

/// Every identifier in the tracked sources and wire formats.
fn words_of_the_code() -> Result<BTreeSet<String>> {
    let mut words = BTreeSet::new();
    for ending in [".rs", ".proto", ".toml"] {
        for path in tracked(ending)? {
            let text = fs::read_to_string(root().join(path))?;
            words.extend(text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').map(str::to_owned));
        }
    }
    Ok(words)
}
