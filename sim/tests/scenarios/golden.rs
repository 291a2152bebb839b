//! Each goes as it is written, in debug and release builds alike.

use std::fs;

use apportion_sim::scenario::{Detail, Scenario};

use super::files;

#[test]
fn every_scenario_goes_as_written() {
    let mut differing = Vec::new();
    for (path, expected) in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let scenario = Scenario::parse(&name, &expected).unwrap_or_else(|error| panic!("{error}"));
        let played = scenario.run(scenario.seed(), scenario.detail());
        if let Err(broken) = &played.verdict {
            panic!("{broken}");
        }
        if played.text == expected {
            continue;
        }
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            fs::write(&path, &played.text).unwrap();
            continue;
        }
        let lines = expected.lines().zip(played.text.lines());
        let at = lines.clone().position(|(a, b)| a != b).unwrap_or(lines.count());
        let line = |text: &str| text.lines().nth(at).unwrap_or("(the end)").to_owned();
        differing.push(format!("{name}:{}:\n  - {}\n  + {}", at + 1, line(&expected), line(&played.text)));
    }
    assert!(differing.is_empty(), "expected (-) and played (+) differ:\n{}", differing.join("\n"));
}

/// One seed gives one run, and another seed another.
#[test]
fn a_seed_is_replayed_to_the_byte() {
    for (path, text) in files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "thousand-agents.txt" {
            continue; // minutes, with every line kept
        }
        let play = |seed| Scenario::parse(&name, &text).unwrap().run(seed, Detail::Everything).text;
        let first = play(7);
        assert!(first == play(7), "{name} goes differently the second time");
        assert!(first != play(8), "{name} does not depend on its seed");
    }
}

/// What is written is read again as what it was.
#[test]
fn an_outcome_is_a_scenario() {
    let (path, text) = files().swap_remove(0);
    let name = path.to_string_lossy();
    let play = |text: &str| {
        let scenario = Scenario::parse(&name, text).unwrap();
        scenario.run(scenario.seed(), scenario.detail()).text
    };
    assert_eq!(play(&play(&text)), play(&text));
}

#[test]
fn what_goes_wrong_is_said_in_its_place() {
    // Counted, an expectation has nothing to show but what is wrong.
    let text =
        "agents 1 cpus:4;mem:4096\nframework left tasks=2\nrun until idle\nexpect left finished 3\nrun 1s\n";
    let outcome = Scenario::parse("f.txt", text).unwrap().run(3, Detail::Counts);
    let broken = outcome.verdict.unwrap_err();
    assert_eq!((broken.failure.check, broken.failure.seed), ("story", 3));
    assert_eq!(broken.command, "expect left finished 3");
    assert!(broken.to_string().starts_with("f.txt:5: `expect left finished 3`: "), "{broken}");
    assert_eq!(outcome.text.lines().nth(broken.line - 1), Some("expect left finished 3"));
    let behind: Vec<&str> = outcome.text.lines().skip(broken.line).collect();
    assert!(behind[0].contains("WRONG: ") && behind[0].ends_with("it is 2"), "{behind:?}");
    assert_eq!(behind[1..], ["run 1s"], "what follows is kept, and not played");
}

/// The script of a scenario in the words of its faults.
#[test]
fn a_drawn_script_is_read_back() {
    let cluster = "agents 5 cpus:4;mem:4096\nframework left\nframework right\n";
    let drawn = format!(
        "{cluster}chaos 10m bad-day cuts=40 reboots=9 disk-failures=9 out-of-memory=9 framework-crashes=9\n"
    );
    let drawn = Scenario::parse("drawn", &drawn).unwrap().build();
    for seed in 0..20 {
        let script = drawn.script_of(seed);
        assert!(script.len() > 500);
        let lines: String =
            script.iter().map(|timed| format!("at {:?} {}\n", timed.at, timed.fault)).collect();
        let written = Scenario::parse("written", &format!("{cluster}{lines}")).unwrap();
        assert_eq!(written.build().script_of(0), script);
    }
}
