//! Text scenarios: commands in, actions out. Each file of `scenarios/` is one behaviour and named for it.
//!
//! A line at the margin is a command (or a comment, after `#`); the indented lines under it are what the master did about it.
//! `UPDATE_EXPECT=1 cargo test -p apportion-master-core --test scenarios` rewrites them; read the difference before you keep it.
//! The commands are listed in `scenario/commands.rs`.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod scenario;

use std::{fmt::Write as _, fs, path::Path};

use scenario::Scenario;

/// The text of a scenario with what the master does now.
fn run(name: &str, text: &str) -> String {
    let mut scenario = Scenario::default();
    let mut played = String::new();
    for (number, line) in text.lines().enumerate() {
        if line.starts_with(' ') {
            continue; // what was expected of the command above
        }
        writeln!(played, "{line}").unwrap();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match scenario.command(line) {
            Ok(actions) => {
                // What is the same many times over, such as heartbeats, is written once.
                for same in actions.chunk_by(|a, b| a == b) {
                    let times =
                        if same.len() == 1 { String::new() } else { format!(" ({} times)", same.len()) };
                    writeln!(played, "    {}{times}", same[0]).unwrap();
                }
            }
            Err(problem) => panic!("{name}:{}: `{line}`: {problem}", number + 1),
        }
    }
    played
}

#[test]
fn every_scenario_goes_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 25, "the scenarios are missing");
    let mut differing = Vec::new();
    for path in files {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = fs::read_to_string(&path).unwrap();
        let played = run(&name, &expected);
        assert_eq!(played, run(&name, &expected), "{name} goes differently the second time");
        if played != expected {
            if std::env::var_os("UPDATE_EXPECT").is_some() {
                fs::write(&path, &played).unwrap();
            } else {
                let lines = expected.lines().zip(played.lines());
                let at = lines.clone().position(|(a, b)| a != b).unwrap_or(lines.count());
                let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
                differing.push(format!("{name}:{}:\n  - {}\n  + {}", at + 1, line(&expected), line(&played)));
            }
        }
    }
    assert!(differing.is_empty(), "expected (-) and played (+) differ:\n{}", differing.join("\n"));
}
