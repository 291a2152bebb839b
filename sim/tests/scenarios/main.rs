//! The scenarios of `sim/scenarios`, played; and their texts, spoilt.
//!
//! `UPDATE_EXPECT=1 cargo test -p apportion-sim --test scenarios` rewrites what they expect; read the difference before you keep it.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod golden;
mod mistakes;
mod spoilt;
mod writes;

use std::{fs, path::PathBuf};

/// The scenarios of the repository, by name.
fn files() -> Vec<(PathBuf, String)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 14, "the scenarios are missing");
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
}
