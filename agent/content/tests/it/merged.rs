//! Layers laid over each other show what the image specification says: compared with a model that applies them to a map.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use proptest::prelude::*;
use serde_json::json;

use super::{
    layout::{Item, Layer, Layout, tar},
    open, prepare,
};

/// What an entry of a layer does.
#[derive(Debug, Clone)]
enum Change {
    File(String, String),
    Folder(String),
    Link(String),
    Remove(String),
    Empty(String),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|parts| parts.join("/"))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (path(), "[xyz]").prop_map(|(path, text)| Change::File(path, text)),
        3 => path().prop_map(Change::Folder),
        1 => path().prop_map(Change::Link),
        3 => path().prop_map(Change::Remove),
        1 => path().prop_map(Change::Empty),
        1 => Just(Change::Empty(String::new())),
    ]
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    File(String),
    Link,
    Folder,
}

type Files = BTreeMap<String, Node>;

fn below<'a>(folder: &'a str, path: &'a str) -> bool {
    folder.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
}

fn remove(files: &mut Files, path: &str) {
    files.retain(|at, _| at != path && !below(path, at));
}

/// Puts something at a path; false where something on the way is no folder.
fn put(files: &mut Files, path: &str, node: Node) -> bool {
    let parents: Vec<&str> = path.match_indices('/').map(|(at, _)| &path[..at]).collect();
    if parents.iter().any(|parent| files.get(*parent).is_some_and(|node| *node != Node::Folder)) {
        return false;
    }
    for parent in parents {
        files.insert(parent.to_owned(), Node::Folder);
    }
    let stays = node == Node::Folder && files.get(path) == Some(&Node::Folder);
    if !stays {
        remove(files, path);
        files.insert(path.to_owned(), node);
    }
    true
}

/// Applies a layer as the specification says, and answers with those of its entries that a builder could have written.
fn apply(files: &mut Files, changes: &[Change]) -> Vec<Change> {
    let mut own = Files::new();
    let mut written = Vec::new();
    for change in changes {
        let free = |own: &Files, path: &str| !own.contains_key(path);
        let folder = |own: &mut Files, path: &str| {
            path.is_empty()
                || own.get(path).is_none_or(|node| *node == Node::Folder) && put(own, path, Node::Folder)
        };
        let good = match change {
            // No builder writes a path twice.
            Change::File(path, text) => free(&own, path) && put(&mut own, path, Node::File(text.clone())),
            Change::Link(path) => free(&own, path) && put(&mut own, path, Node::Link),
            Change::Folder(path) | Change::Empty(path) => folder(&mut own, path),
            // What a layer takes away lies in a folder that it has.
            Change::Remove(path) => folder(&mut own, path.rsplit_once('/').map_or("", |(parent, _)| parent)),
        };
        if good {
            written.push(change.clone());
        }
    }
    for change in &written {
        match change {
            Change::Remove(path) => remove(files, path),
            Change::Empty(path) => files.retain(|at, _| !below(path, at)),
            _ => {}
        }
    }
    for (path, node) in &own {
        if *node == Node::Folder && files.get(path) == Some(&Node::Folder) {
            continue;
        }
        remove(files, path);
        files.insert(path.clone(), node.clone());
    }
    written
}

fn entries(changes: &[Change]) -> Vec<u8> {
    let hidden = |path: &str| match path.rsplit_once('/') {
        Some((parent, name)) => format!("{parent}/.wh.{name}"),
        None => format!(".wh.{path}"),
    };
    let mut written: Vec<(String, Item<'_>)> = Vec::new();
    for change in changes {
        let (Change::File(path, _)
        | Change::Folder(path)
        | Change::Link(path)
        | Change::Remove(path)
        | Change::Empty(path)) = change;
        // Builders write the folders above what they write.
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let itself = matches!(change, Change::Empty(path) if !path.is_empty()).then_some(path.as_str());
        written.extend(above.chain(itself).map(|folder| (format!("{folder}/"), Item::Folder)));
        written.push(match change {
            Change::File(path, text) => (path.clone(), Item::File(text)),
            Change::Folder(path) => (format!("{path}/"), Item::Folder),
            Change::Link(path) => (path.clone(), Item::Link("/nowhere")),
            Change::Remove(path) => (hidden(path), Item::File("")),
            Change::Empty(path) if path.is_empty() => (".wh..wh..opq".to_owned(), Item::File("")),
            Change::Empty(path) => (format!("{path}/.wh..wh..opq"), Item::File("")),
        });
    }
    let borrowed: Vec<(&str, Item<'_>)> = written
        .iter()
        .map(|(path, item)| {
            let item = match item {
                Item::File(text) => Item::File(text),
                Item::Link(to) => Item::Link(to),
                _ => Item::Folder,
            };
            (path.as_str(), item)
        })
        .collect();
    tar(&borrowed)
}

/// What the kernel would show of these folders, the lowest first.
fn merged(layers: &[PathBuf], folder: &str, files: &mut Files) {
    let is_opaque = |path: &Path| {
        let marked =
            |name: &str| rustix::fs::lgetxattr(path, name, &mut [0_u8; 8]).is_ok_and(|length| length == 1);
        marked("trusted.overlay.opaque") || marked("user.overlay.opaque")
    };
    let mut seen: BTreeMap<String, Option<Node>> = BTreeMap::new();
    let mut folders: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    // From the top down: the first that has a name decides, and folders go on below.
    for layer in layers.iter().rev() {
        for entry in fs::read_dir(layer).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let metadata = fs::symlink_metadata(entry.path()).unwrap();
            let going_on = folders.contains_key(&name) && seen[&name] == Some(Node::Folder);
            let node = match metadata.file_type() {
                kind if kind.is_dir() => Some(Node::Folder),
                kind if kind.is_symlink() => Some(Node::Link),
                kind if kind.is_char_device() && metadata.rdev() == 0 => None,
                _ => Some(Node::File(fs::read_to_string(entry.path()).unwrap())),
            };
            let is_folder = node == Some(Node::Folder);
            if !seen.contains_key(&name) {
                seen.insert(name.clone(), node);
                if is_folder {
                    folders.insert(name, vec![entry.path()]);
                }
            } else if going_on {
                let stack = folders.get_mut(&name).unwrap();
                let ended = stack.iter().any(|path| is_opaque(path) || path.as_os_str().is_empty());
                match is_folder {
                    true if !ended => stack.push(entry.path()),
                    // A file or a whiteout ends what is below.
                    false => stack.push(PathBuf::new()),
                    true => {}
                }
            }
        }
    }
    for (name, node) in seen {
        let Some(node) = node else { continue };
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        files.insert(path.clone(), node);
        if let Some(stack) = folders.get(&name) {
            let mut stack: Vec<PathBuf> =
                stack.iter().take_while(|path| !path.as_os_str().is_empty()).cloned().collect();
            stack.reverse();
            merged(&stack, &path, files);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn layers_show_what_the_model_says(layers in prop::collection::vec(prop::collection::vec(change(), 0..8), 1..5)) {
        let place = tempfile::tempdir().unwrap();
        let mut model = Files::new();
        let blobs: Vec<Layer> =
            layers.iter().map(|changes| Layer::plain(&entries(&apply(&mut model, changes)))).collect();
        let mut layout = Layout::new(&place.path().join("layout"));
        layout.image("x", &blobs, json!({}));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let prepared = runtime.block_on(async {
            prepare(&open(place.path(), |_| ()), &format!("oci:{}", layout.path.display()), "x").await
        });
        let prepared = prepared.map_err(|error| TestCaseError::fail(super::why(&error)))?;
        let mut files = Files::new();
        merged(&prepared.layers, "", &mut files);
        prop_assert_eq!(files, model);
    }
}
