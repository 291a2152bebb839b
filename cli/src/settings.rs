//! Flag over environment over file over default, for each setting by itself, and where each value came from.
//!
//! A setting `work_dir` of section `agent` is the flag `--work-dir`, the variable `APPORTION_AGENT_WORK_DIR`, and the key
//! `work_dir` under `[agent]` of the file. An empty variable counts as absent.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use crate::{table::Table, value::Value};

/// The file that is read when none is named, if it is there.
pub(crate) const DEFAULT_FILE: &str = "/etc/apportion/apportion.toml";

/// Names the file in the environment.
pub(crate) const FILE_VARIABLE: &str = "APPORTION_CONFIG";

/// Every section of the file, and its keys.
pub(crate) const SECTIONS: &[(&str, &[&str])] = &[
    ("master", crate::master::KEYS),
    ("agent", crate::agent::KEYS),
    ("dev", crate::dev::KEYS),
    ("client", crate::client::KEYS),
];

/// What is wrong with the settings; the fault of whoever started the program, so it exits with the code for usage.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    #[error("reading the settings file {}; name a readable one with `--config FILE` or {FILE_VARIABLE}", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is not TOML: {what}", .path.display())]
    Toml { path: PathBuf, what: String },
    #[error("{place}: unknown section [{section}]; there are {}", sections())]
    UnknownSection { place: Place, section: String },
    #[error("{place}: `{key}` stands in no section; put it under one of {}", sections())]
    NoSection { place: Place, key: String },
    #[error("{place}: unknown key `{key}` in [{section}]; known are {}", keys(section).join(", "))]
    UnknownKey { place: Place, section: String, key: String },
    #[error("{place}: `{key}` in [{section}] is a {kind}, which no setting is")]
    Kind { place: Place, section: String, key: String, kind: &'static str },
    #[error("{origin}: {what}")]
    Value { origin: Origin, what: String },
    #[error("the variable {0} is not Unicode")]
    NotUnicode(String),
}

fn sections() -> String {
    let names: Vec<String> = SECTIONS.iter().map(|(name, _)| format!("[{name}]")).collect();
    names.join(", ")
}

fn keys(section: &str) -> &'static [&'static str] {
    SECTIONS.iter().find(|(name, _)| *name == section).map_or(&[], |(_, keys)| keys)
}

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    path: PathBuf,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(String),
    Environment(String),
    File(Place),
    Default,
}

impl Origin {
    fn kind(&self) -> &'static str {
        match self {
            Origin::Flag(_) => "flag",
            Origin::Environment(_) => "environment",
            Origin::File(_) => "file",
            Origin::Default => "default",
        }
    }

    fn name(&self) -> Option<String> {
        match self {
            Origin::Flag(name) | Origin::Environment(name) => Some(name.clone()),
            Origin::File(place) => Some(place.to_string()),
            Origin::Default => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        self.name().map_or(Ok(()), |name| write!(f, " {name}"))
    }
}

/// The environment as a function, so that tests have one each.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Result<Option<String>, SettingsError>;

/// The environment of this process.
pub(crate) fn process_environment(name: &str) -> Result<Option<String>, SettingsError> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(SettingsError::NotUnicode(name.to_owned())),
    }
}

/// What a settings file says; only known keys.
#[derive(Debug, Default)]
struct File {
    values: BTreeMap<(String, String), (String, Place)>,
}

impl File {
    fn parse(path: &Path, text: &str) -> Result<File, SettingsError> {
        let place = |at: usize| {
            let line = text.as_bytes()[..at.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
            Place { path: path.to_owned(), line }
        };
        let root = DeTable::parse(text).map_err(|e| {
            let at = e.span().map_or_else(String::new, |span| format!("line {}: ", place(span.start).line));
            SettingsError::Toml { path: path.to_owned(), what: format!("{at}{}", e.message()) }
        })?;
        let mut file = File::default();
        for (section, table) in root.get_ref() {
            let (at, section) = (place(section.span().start), section.get_ref().to_string());
            let DeValue::Table(table) = table.get_ref() else {
                return Err(SettingsError::NoSection { place: at, key: section });
            };
            if !SECTIONS.iter().any(|(name, _)| *name == section) {
                return Err(SettingsError::UnknownSection { place: at, section });
            }
            for (key, value) in table {
                let (at, key, section) =
                    (place(key.span().start), key.get_ref().to_string(), section.clone());
                if !keys(&section).contains(&key.as_str()) {
                    return Err(SettingsError::UnknownKey { place: at, section, key });
                }
                let Some(text) = text_of(value.get_ref()) else {
                    let kind = value.get_ref().type_str();
                    return Err(SettingsError::Kind { place: at, section, key, kind });
                };
                file.values.insert((section, key), (text, at));
            }
        }
        Ok(file)
    }
}

/// A value of the file in the text form of flags: `4` for 4, `a,b` for a list, `rack=a,zone=b` for a table.
fn text_of(value: &DeValue<'_>) -> Option<String> {
    Some(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().to_owned(),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Array(array) => {
            let parts: Option<Vec<String>> = array.iter().map(|each| text_of(each.get_ref())).collect();
            parts?.join(",")
        }
        DeValue::Table(table) => {
            let pair = |(key, value): (&toml::Spanned<_>, &toml::Spanned<DeValue<'_>>)| {
                let key: &std::borrow::Cow<'_, str> = key.get_ref();
                Some(format!("{key}={}", text_of(value.get_ref())?))
            };
            table.iter().map(pair).collect::<Option<Vec<String>>>()?.join(",")
        }
        DeValue::Integer(_) | DeValue::Datetime(_) => return None,
    })
}

/// The sources of one section, asked setting by setting; remembers what it answered.
pub(crate) struct Settings<'a> {
    section: &'static str,
    environment: Environment<'a>,
    file: File,
    shown: Vec<Shown>,
}

/// A setting with its value and origin, as `--print-config` shows it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shown {
    setting: String,
    value: Option<String>,
    source: &'static str,
    origin: Option<String>,
}

impl<'a> Settings<'a> {
    /// Reads the file: the named one, or else the one in the environment, or else the default one if it is there.
    pub(crate) fn read(
        section: &'static str,
        file: Option<&Path>,
        environment: Environment<'a>,
    ) -> Result<Settings<'a>, SettingsError> {
        let named = match file {
            Some(path) => Some(path.to_owned()),
            None => environment(FILE_VARIABLE)?.map(PathBuf::from),
        };
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        let file = match std::fs::read_to_string(&path) {
            Ok(text) => File::parse(&path, &text)?,
            Err(e) if named.is_none() && e.kind() == io::ErrorKind::NotFound => File::default(),
            Err(source) => return Err(SettingsError::Read { path, source }),
        };
        Ok(Settings { section, environment, file, shown: Vec::new() })
    }

    /// The value of a setting: `flag` if it was given, else the environment's, else the file's, else `default`.
    pub(crate) fn value<T: Value>(
        &mut self,
        key: &'static str,
        flag: Option<T>,
        default: impl FnOnce() -> T,
    ) -> Result<T, SettingsError> {
        let value = self.optional(key, flag)?;
        Ok(value.unwrap_or_else(|| {
            let value = default();
            let shown = self.shown.last_mut().expect("every setting asked for is shown");
            shown.value = Some(value.text());
            value
        }))
    }

    /// The value of a setting that has no default.
    pub(crate) fn optional<T: Value>(
        &mut self,
        key: &'static str,
        flag: Option<T>,
    ) -> Result<Option<T>, SettingsError> {
        assert!(keys(self.section).contains(&key), "{key} is a known key of [{}]", self.section);
        let (value, origin) = self.find(key, flag)?;
        self.shown.push(Shown {
            setting: format!("{}.{key}", self.section),
            value: value.as_ref().map(Value::text),
            source: origin.kind(),
            origin: origin.name(),
        });
        Ok(value)
    }

    fn find<T: Value>(&self, key: &str, flag: Option<T>) -> Result<(Option<T>, Origin), SettingsError> {
        if flag.is_some() {
            return Ok((flag, Origin::Flag(format!("--{}", key.replace('_', "-")))));
        }
        let mut variables = vec![format!("APPORTION_{}_{}", self.section, key).to_uppercase()];
        if key == "log" {
            variables.push("RUST_LOG".to_owned()); // what Rust programs listen to
        }
        for variable in variables {
            if let Some(text) = (self.environment)(&variable)? {
                return parse(&text, Origin::Environment(variable));
            }
        }
        match self.file.values.get(&(self.section.to_owned(), key.to_owned())) {
            Some((text, place)) => parse(text, Origin::File(place.clone())),
            None => Ok((None, Origin::Default)),
        }
    }

    /// Every setting asked for, in the order asked.
    pub(crate) fn shown(self) -> ShownSettings {
        ShownSettings { settings: self.shown }
    }
}

fn parse<T: Value>(text: &str, origin: Origin) -> Result<(Option<T>, Origin), SettingsError> {
    match T::parse(text) {
        Ok(value) => Ok((Some(value), origin)),
        Err(what) => Err(SettingsError::Value { origin, what }),
    }
}

/// What `--print-config` shows.
#[derive(Debug, Serialize)]
pub(crate) struct ShownSettings {
    settings: Vec<Shown>,
}

impl fmt::Display for ShownSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new(&["SETTING", "VALUE", "FROM"]);
        for Shown { setting, value, source, origin } in &self.settings {
            let from =
                origin.as_ref().map_or_else(|| (*source).to_owned(), |origin| format!("{source} {origin}"));
            let value = value.as_deref().filter(|value| !value.is_empty()).unwrap_or("-");
            table.row([setting.clone(), value.to_owned(), from]);
        }
        table.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::Duration};

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn nothing(_: &str) -> Result<Option<String>, SettingsError> {
        Ok(None)
    }

    fn refusal(text: &str) -> String {
        let file = file(text);
        let path = file.path().display().to_string();
        let error = Settings::read("client", Some(file.path()), &nothing).err().unwrap();
        error.to_string().replace(&path, "FILE")
    }

    #[test]
    fn each_source_wins_over_the_next_and_is_named() {
        let file = file("[client]\n\ntimeout = '3s'\n");
        let path = file.path().display().to_string();
        let environment = |name: &str| Ok((name == "APPORTION_CLIENT_TIMEOUT").then(|| "2s".to_owned()));
        let second = Duration::from_secs;
        let check =
            |flag, environment: Environment<'_>, file: &Path, value, source: &str, origin: Option<&str>| {
                let mut settings = Settings::read("client", Some(file), environment).unwrap();
                assert_eq!(settings.value("timeout", flag, || second(4)).unwrap(), second(value));
                let shown = settings.shown().settings.remove(0);
                assert_eq!((shown.setting.as_str(), shown.source), ("client.timeout", source));
                assert_eq!((shown.value, shown.origin.as_deref()), (Some(format!("{value}s")), origin));
            };
        check(Some(second(1)), &environment, file.path(), 1, "flag", Some("--timeout"));
        check(None, &environment, file.path(), 2, "environment", Some("APPORTION_CLIENT_TIMEOUT"));
        check(None, &nothing, file.path(), 3, "file", Some(&format!("{path}:3")));
        check(None, &nothing, Path::new("/dev/null"), 4, "default", None);
    }

    #[test]
    fn the_environment_names_a_file_and_the_flag_wins_over_it() {
        let (first, second) = (file("[client]\ntimeout = '1s'"), file("[client]\ntimeout = '2s'"));
        let named = first.path().display().to_string();
        let environment = |name: &str| Ok((name == FILE_VARIABLE).then(|| named.clone()));
        for (flag, expected) in [(None, 1), (Some(second.path()), 2)] {
            let mut settings = Settings::read("client", flag, &environment).unwrap();
            assert_eq!(settings.optional("timeout", None).unwrap(), Some(Duration::from_secs(expected)));
        }
    }

    #[test]
    fn rust_log_is_heard_below_our_own_variable() {
        let both = |name: &str| match name {
            "APPORTION_CLIENT_LOG" => Ok(Some("debug".to_owned())),
            "RUST_LOG" => Ok(Some("trace".to_owned())),
            _ => Ok(None),
        };
        let one = |name: &str| Ok((name == "RUST_LOG").then(|| "trace".to_owned()));
        let cases: [(Environment<'_>, &str); 2] = [(&both, "debug"), (&one, "trace")];
        for (environment, expected) in cases {
            let mut settings = Settings::read("client", Some(Path::new("/dev/null")), environment).unwrap();
            assert_eq!(settings.optional::<String>("log", None).unwrap().unwrap(), expected);
        }
    }

    #[test]
    fn a_file_is_refused_with_the_line_and_the_key() {
        let unknown = refusal("[client]\n# a comment\ntimeouts = '3s'\n");
        assert!(unknown.starts_with("FILE:3: unknown key `timeouts` in [client]; known are "), "{unknown}");
        // Sections of other commands are checked as well: a daemon's typing error shows wherever the file is read.
        assert!(
            refusal("[agent]\nresource = 'cpus:1'\n")
                .starts_with("FILE:2: unknown key `resource` in [agent]")
        );
        assert!(
            refusal("[clients]\n")
                .starts_with("FILE:1: unknown section [clients]; there are [master], [agent]")
        );
        assert!(refusal("timeout = '3s'").starts_with("FILE:1: `timeout` stands in no section"));
        assert!(refusal("[client]\ntimeout = 2020-01-01").contains("is a datetime"));
        let text = refusal("[client]\ntimeout = \n");
        assert!(text.starts_with("FILE is not TOML: line 2: "), "{text}");
    }

    #[test]
    fn a_bad_value_names_its_origin() {
        let file = file("[client]\ntimeout = 30");
        let mut settings = Settings::read("client", Some(file.path()), &nothing).unwrap();
        let error = settings.optional::<Duration>("timeout", None).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("file {}:2: `30` is not a duration", file.path().display())),
            "{error}"
        );
        let environment = |name: &str| Ok((name == "APPORTION_CLIENT_TIMEOUT").then(|| "x".to_owned()));
        let mut settings = Settings::read("client", Some(Path::new("/dev/null")), &environment).unwrap();
        let error = settings.optional::<Duration>("timeout", None).unwrap_err().to_string();
        assert!(error.starts_with("environment APPORTION_CLIENT_TIMEOUT: `x` is not a duration"), "{error}");
    }

    #[test]
    fn lists_and_tables_take_the_form_of_flags() {
        let path = Path::new("f");
        let text = "[agent]\nattributes = { rack = 'a', zone = 'b' }\nresources = 'cpus:1'\n";
        let file = File::parse(path, text).unwrap();
        let value = |key: &str| file.values[&("agent".to_owned(), key.to_owned())].0.clone();
        assert_eq!((value("attributes").as_str(), value("resources").as_str()), ("rack=a,zone=b", "cpus:1"));
        let file = File::parse(path, "[agent]\nattributes = ['rack=a', 'n=1.5']").unwrap();
        assert_eq!(file.values.values().next().unwrap().0, "rack=a,n=1.5");
    }

    #[test]
    fn a_named_file_must_be_there() {
        let missing = Path::new("/nonexistent/apportion.toml");
        let error = Settings::read("client", Some(missing), &nothing).err().unwrap().to_string();
        assert!(error.contains("/nonexistent/apportion.toml") && error.contains("--config"), "{error}");
    }
}
