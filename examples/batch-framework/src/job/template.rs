//! `${name}` in the strings of a job file.
//!
//! A template is parsed once, when the file is read, so that a wrong name is an error before anything runs; it is rendered
//! when its task is launched, so that a job of a million tasks does not hold a million command lines.

use std::collections::BTreeMap;

/// What `${name}` may stand for at one place of the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// `[params]`, with what `--set` changed.
    pub params: &'a BTreeMap<String, String>,
    /// Whether `${index}` is known: within `[task]`, but not in what decides which tasks there are.
    pub index: bool,
    /// Whether `${item}` is known: within `[task]`, when there is an `[array]`.
    pub item: bool,
    /// The axes of a product, whose names are known where `${item}` is.
    pub axes: &'a [String],
}

/// What the holes of a template are filled with for one task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Values {
    /// The element.
    pub item: String,
    /// Counts from 1, as the ids of tasks do.
    pub index: usize,
    /// What it is made of, by axis.
    pub axes: Vec<String>,
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    /// Nothing has this name here.
    #[error(
        "unknown variable `${{{name}}}`; known here: {known}; write `$${{` for a `${{` that the shell is to see"
    )]
    Unknown {
        /// The name.
        name: String,
        /// What would have been known.
        known: String,
    },
    /// The brace is never closed.
    #[error("`${{` without its `}}` in `{text}`")]
    Unclosed {
        /// From the open brace on.
        text: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Item,
    Index,
    Axis(usize),
}

/// A text with holes for what differs between the tasks of a job; parameters are already in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

impl Template {
    pub(super) fn parse(text: &str, scope: Scope<'_>) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            // `$${` is the way to write what the shell itself calls `${`.
            if rest[..at].ends_with('$') {
                literal.push_str(&rest[..at]);
                literal.push('{');
                rest = &rest[at + 2..];
                continue;
            }
            literal.push_str(&rest[..at]);
            let inner = &rest[at + 2..];
            let Some(end) = inner.find('}') else {
                return Err(TemplateError::Unclosed { text: rest[at..].chars().take(40).collect() });
            };
            let name = &inner[..end];
            match (scope.hole(name), scope.params.get(name)) {
                (Some(hole), _) => parts.extend([Part::Text(std::mem::take(&mut literal)), hole]),
                (None, Some(value)) => literal.push_str(value),
                (None, None) => return Err(scope.unknown(name)),
            }
            rest = &inner[end + 1..];
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
        Ok(Self(parts))
    }

    /// The text for one task.
    pub(super) fn render(&self, values: &Values) -> String {
        self.0.iter().fold(String::new(), |mut text, part| {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Item => text.push_str(&values.item),
                Part::Index => text.push_str(&values.index.to_string()),
                Part::Axis(axis) => text.push_str(&values.axes[*axis]),
            }
            text
        })
    }
}

impl<'a> Scope<'a> {
    /// Where only parameters are known.
    pub(super) fn params(params: &'a BTreeMap<String, String>) -> Self {
        Self { params, index: false, item: false, axes: &[] }
    }

    /// The text with its parameters in place, where nothing differs between tasks.
    pub(super) fn expand(self, text: &str) -> Result<String, TemplateError> {
        Ok(Template::parse(text, Scope::params(self.params))?.render(&Values::default()))
    }

    /// What differs between tasks and has this name.
    fn hole(self, name: &str) -> Option<Part> {
        match name {
            "item" if self.item => Some(Part::Item),
            "index" if self.index => Some(Part::Index),
            _ => self.axes.iter().position(|axis| axis == name).map(Part::Axis),
        }
    }

    fn unknown(self, name: &str) -> TemplateError {
        let own = [("item", self.item), ("index", self.index)];
        let own = own.iter().filter(|(_, known)| *known).map(|(name, _)| *name);
        let axes = self.axes.iter().map(String::as_str);
        let known: Vec<_> = own.chain(axes).chain(self.params.keys().map(String::as_str)).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        TemplateError::Unknown { name: name.chars().take(40).collect(), known }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> BTreeMap<String, String> {
        BTreeMap::from([("folder".to_owned(), "/src".to_owned())])
    }

    fn task(params: &BTreeMap<String, String>) -> Scope<'_> {
        Scope { params, index: true, item: true, axes: &[] }
    }

    fn values(item: &str, index: usize) -> Values {
        Values { item: item.to_owned(), index, axes: Vec::new() }
    }

    #[test]
    fn what_differs_is_filled_in_late_and_parameters_early() {
        let params = params();
        let template = Template::parse("a ${folder}/${item} ${index}.", task(&params)).unwrap();
        assert_eq!(template.render(&values("x.rs", 7)), "a /src/x.rs 7.");
        assert_eq!(template.0.len(), 5, "the parameter is part of the text around it: {template:?}");
        assert_eq!(Scope::params(&params).expand("${folder}${folder}").unwrap(), "/src/src");
    }

    #[test]
    fn the_shell_keeps_its_own_variables() {
        let params = params();
        let line = "echo $FILE $((1+1)) $(date) $${FILE%.rs} $ {x} $";
        let template = Template::parse(line, task(&params)).unwrap();
        assert_eq!(template.render(&values("", 0)), "echo $FILE $((1+1)) $(date) ${FILE%.rs} $ {x} $");
    }

    #[test]
    fn a_value_is_never_read_as_a_template() {
        let params = BTreeMap::from([("a".to_owned(), "${item}".to_owned())]);
        assert_eq!(Template::parse("${a}", task(&params)).unwrap().render(&values("${a}", 0)), "${item}");
        assert_eq!(Template::parse("${item}", task(&params)).unwrap().render(&values("${a}", 0)), "${a}");
    }

    #[test]
    fn axes_are_filled_in_by_their_names() {
        let (params, axes) = (params(), ["scene".to_owned(), "level".to_owned()]);
        let scope = Scope { axes: &axes, ..task(&params) };
        let values = Values { axes: vec!["a".to_owned(), "7".to_owned()], ..values("a,7", 3) };
        let template = Template::parse("${level}/${scene} ${item}", scope).unwrap();
        assert_eq!(template.render(&values), "7/a a,7");
        let message = Template::parse("${lvl}", scope).unwrap_err().to_string();
        assert!(message.contains("known here: item, index, scene, level, folder;"), "{message}");
    }

    #[test]
    fn wrong_names_are_refused_with_those_that_are_known() {
        let params = params();
        let unknown = Template::parse("${itme}", task(&params)).unwrap_err().to_string();
        assert_eq!(
            unknown,
            "unknown variable `${itme}`; known here: item, index, folder; write `$${` for a `${` that the shell is to see"
        );
        let early = Scope::params(&params).expand("${item}").unwrap_err().to_string();
        assert!(early.contains("known here: folder;"), "{early}");
        let open = Template::parse("x ${item", task(&params)).unwrap_err().to_string();
        assert_eq!(open, "`${` without its `}` in `${item`");
        let none = Scope::params(&BTreeMap::new()).expand("${}").unwrap_err().to_string();
        assert!(none.contains("unknown variable `${}`; known here: none;"), "{none}");
    }
}
