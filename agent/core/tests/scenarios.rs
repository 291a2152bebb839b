//! Text scenarios: commands in, actions out. `UPDATE_EXPECT=1 cargo test -p apportion-agent-core` rewrites what is expected.
//!
//! A line that starts in the first column is a command, `#` begins a comment, and indented lines are the actions that followed.
//! `scenarios/commands.rs` says what the commands are.

// All of this is test code.
#![allow(clippy::unwrap_used)]

#[path = "scenarios/commands.rs"]
mod commands;
#[path = "scenarios/show.rs"]
mod show;
#[path = "scenarios/words.rs"]
mod words;

use std::{env, fmt::Write as _, fs, path::Path};

fn run(text: &str) -> String {
    let mut world = commands::World::new();
    let mut out = String::new();
    for line in text.lines().filter(|line| !line.starts_with(' ')) {
        writeln!(out, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        for action in world.command(line) {
            writeln!(out, "    {action}").unwrap();
        }
    }
    out
}

#[test]
fn scenarios() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut paths: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    assert!(paths.len() >= 12, "only {} scenarios in {}", paths.len(), folder.display());
    let update = env::var_os("UPDATE_EXPECT").is_some();
    let mut wrong = Vec::new();
    for path in paths {
        let expected = fs::read_to_string(&path).unwrap();
        let actual = run(&expected);
        if actual == expected {
            continue;
        }
        if update {
            fs::write(&path, actual).unwrap();
        } else {
            let first = expected.lines().zip(actual.lines()).position(|(a, b)| a != b).unwrap_or(0);
            let line = |text: &str| text.lines().nth(first).unwrap_or("(the end)").to_owned();
            let (want, have) = (line(&expected), line(&actual));
            wrong.push(format!("{}:{}\n  expected {want}\n  actual   {have}", path.display(), first + 1));
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_EXPECT=1 rewrites them", wrong.join("\n"));
}
