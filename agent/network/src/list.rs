//! Lists of plugins, as an operator configures them: `*.conflist`, and `*.conf` or `*.json` with one plugin.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::AttachError;

/// The versions of the interface of which this knows what plugins are told and answer.
const VERSIONS: [&str; 4] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// Files of a folder that are looked at, each a network.
const FILES_MAX: usize = 1000;

/// Bytes of a list; a longer one is a mistake.
const LIST_BYTES_MAX: u64 = 1 << 20;

/// A network's plugins, in the order in which they attach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct List {
    pub(crate) name: String,
    #[serde(rename = "cniVersion")]
    pub(crate) version: String,
    pub(crate) plugins: Vec<Plugin>,
}

/// A plugin with all that its operator has set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plugin {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(flatten)]
    pub(crate) settings: Map<String, Value>,
}

impl Plugin {
    /// True when it wants to be told this of a task.
    pub(crate) fn has_capability(&self, name: &str) -> bool {
        let of = self.settings.get("capabilities").and_then(|capabilities| capabilities.get(name));
        of.and_then(Value::as_bool).unwrap_or(false)
    }
}

impl List {
    /// The first list of this name, in the order of the files' names.
    pub(crate) fn find(folder: &Path, name: &str) -> Result<List, AttachError> {
        let mut unreadable = None;
        let mut files: Vec<_> =
            fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.retain(|path| {
            path.extension()
                .is_some_and(|extension| ["conflist", "conf", "json"].iter().any(|known| extension == *known))
        });
        files.sort_unstable();
        for path in files.into_iter().take(FILES_MAX) {
            match read(&path) {
                Ok(list) if list.name == name => return list.checked(&path),
                Ok(_) => {}
                Err(why) => unreadable = unreadable.or(Some(format!("{path:?} {why}"))),
            }
        }
        Err(AttachError::Unknown { folder: folder.to_owned(), unreadable })
    }

    fn checked(self, path: &Path) -> Result<List, AttachError> {
        let refuse = |what: String| Err(AttachError::List { path: path.to_owned(), what });
        if !VERSIONS.contains(&&*self.version) {
            let known = VERSIONS.join(", ");
            return refuse(format!(
                "is of version `{}` of the interface; known here are {known}",
                shown(&self.version)
            ));
        }
        if self.plugins.is_empty() {
            return refuse("names no plugin; give at least one".to_owned());
        }
        // It becomes a path.
        let plain = |kind: &str| !kind.is_empty() && !kind.contains('/') && !kind.starts_with('.');
        match self.plugins.iter().find(|plugin| !plain(&plugin.kind)) {
            Some(plugin) => {
                refuse(format!("has a plugin of type `{}`, which names no program", shown(&plugin.kind)))
            }
            None => Ok(self),
        }
    }
}

fn read(path: &Path) -> Result<List, String> {
    let length = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?.len();
    if length > LIST_BYTES_MAX {
        return Err(format!("has {length} bytes, more than {LIST_BYTES_MAX}"));
    }
    let bytes = fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let refuse = |error: serde_json::Error| format!("is no list of plugins: {error}");
    let mut value: Value = serde_json::from_slice(&bytes).map_err(refuse)?;
    if value.get("plugins").is_none() && value.get("type").is_some() {
        let alone = value.clone();
        value["plugins"] = Value::Array(vec![alone]);
    }
    serde_json::from_value(value).map_err(refuse)
}

/// The start of a text, printable.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(64).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn the_first_list_of_a_name_is_taken_and_settings_are_kept() {
        let folder = folder(&[
            (
                "10-b.conflist",
                r#"{"cniVersion":"1.0.0","name":"b","plugins":[{"type":"bridge","x":{"y":1}},{"type":"portmap","capabilities":{"portMappings":true}}]}"#,
            ),
            ("20-b.conflist", r#"{"cniVersion":"0.4.0","name":"b","plugins":[{"type":"other"}]}"#),
            ("30-a.conf", r#"{"cniVersion":"0.3.1","name":"a","type":"ptp","mtu":1400}"#),
            ("broken.conflist", "{"),
            ("notes.txt", "x"),
        ]);
        let list = List::find(folder.path(), "b").unwrap();
        assert_eq!((list.version.as_str(), list.plugins.len()), ("1.0.0", 2));
        assert_eq!(list.plugins[0].settings["x"]["y"], 1);
        assert!(
            !list.plugins[0].has_capability("portMappings") && list.plugins[1].has_capability("portMappings")
        );
        let alone = List::find(folder.path(), "a").unwrap();
        assert_eq!(
            (alone.plugins[0].kind.as_str(), &alone.plugins[0].settings["mtu"]),
            ("ptp", &1400.into())
        );
        let written = serde_json::to_string(&list).unwrap();
        assert_eq!(serde_json::from_str::<List>(&written).unwrap(), list);
        let missing = List::find(folder.path(), "c").unwrap_err().to_string();
        assert!(missing.contains("broken.conflist") && missing.contains("not configured"), "{missing}");
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        for (text, word) in [
            (r#"{"cniVersion":"2.0.0","name":"a","plugins":[{"type":"x"}]}"#, "`2.0.0`"),
            (r#"{"cniVersion":"1.0.0","name":"a","plugins":[]}"#, "names no plugin"),
            (r#"{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"../x"}]}"#, "`../x`"),
            (r#"{"cniVersion":"1.0.0","name":"a","plugins":[{}]}"#, "no list of plugins"),
            (r#"{"name":"a","plugins":[{"type":"x"}]}"#, "no list of plugins"),
        ] {
            let folder = folder(&[("a.conflist", text)]);
            let error = List::find(folder.path(), "a").unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
        let error = List::find(Path::new("/no/such/folder"), "a").unwrap_err().to_string();
        assert!(error.contains("/no/such/folder"), "{error}");
    }
}
