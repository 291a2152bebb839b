//! `apportion replay`: of whole journals, of cut and damaged ones, and of files that are none.

use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{Place, port, until};

const JOB: &str = r#"
name = "echo"

[task]
command = ["/bin/echo", "${item}"]
cpus = 0.1
memory = "32MiB"

[array]
list = ["a", "b", "c"]
"#;

/// The journal of a job that ran on a cluster of its own.
fn recorded(place: &Place) -> PathBuf {
    let (job, journal) = (place.file("job.toml", JOB), place.path().join("run.journal"));
    place.run(&["dev", "--run", job.to_str().unwrap(), "--journal", journal.to_str().unwrap()]).expect(0);
    journal
}

fn replayed(place: &Place, journal: &Path, args: &[&str], code: i32) -> Value {
    let args = [&["replay", journal.to_str().unwrap(), "-o", "json"], args].concat();
    place.run(&args).expect(code).json()
}

/// What is said of a file that cannot be replayed.
fn refusal(place: &Place, name: &str, bytes: &[u8]) -> (Value, String) {
    let path = place.path().join(name);
    fs::write(&path, bytes).unwrap();
    let ended = place.run(&["replay", path.to_str().unwrap(), "-o", "json"]).expect(1);
    let answer = if ended.stdout.is_empty() { Value::Null } else { ended.json() };
    assert!(ended.stderr.contains(name), "{}", ended.stderr);
    (answer, ended.stderr)
}

#[test]
fn a_recorded_run_is_shown_as_it_was_at_any_moment() {
    let place = Place::new();
    let journal = recorded(&place);
    let end = replayed(&place, &journal, &[], 0);
    assert_eq!(end["journal"]["ending"], "complete", "{end:#}");
    assert_eq!(end["counts"]["tasks_by_state"]["finished"], 3, "{end:#}");
    assert_eq!(end["state"]["tasks"].as_array().unwrap().len(), 3);
    assert_eq!(end["state"]["cluster"]["agents"], 0, "they have left");

    let start = replayed(&place, &journal, &["--until", "0s"], 0);
    assert_eq!((&start["journal"]["ending"], &start["journal"]["events"]), (&"until".into(), &0.into()));
    // The moment at which the last task was accepted.
    let accepted = end["state"]["tasks"][2]["accepted_at_us"].as_u64().unwrap();
    let after = accepted - end["journal"]["started_at_us"].as_u64().unwrap();
    let then = replayed(&place, &journal, &["--until", &format!("{after}us")], 0);
    assert_eq!(then["counts"]["tasks_launched"], 3, "{then:#}");
    assert_eq!(then["state"]["cluster"]["agents"], 2, "{then:#}");
    let held = |what: &str| {
        let agents = then["state"]["agents"].as_array().unwrap().iter();
        agents.map(|agent| agent[what]["scalars"]["cpus"].as_f64().unwrap_or(0.0)).sum::<f64>()
    };
    assert!(held("allocated") > 0.0 && held("total") > held("allocated"), "{then:#}");

    let text = place.run(&["replay", journal.to_str().unwrap(), "--until", &format!("{after}us")]);
    let text = text.expect(0).stdout;
    for part in [
        "events replayed",
        "the next comes after the moment asked for",
        "AGENT",
        "dev-1",
        "FRAMEWORK",
        "echo",
        "SHARE",
        "staging",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn other_settings_are_tried_out_on_what_was() {
    let place = Place::new();
    let journal = recorded(&place);
    let same = replayed(&place, &journal, &["--set", "allocator=drf"], 0);
    assert_eq!(same["what_if"]["cycles"], serde_json::json!([]), "{same:#}");
    let role = same["state"]["frameworks"][0]["roles"][0].as_str().unwrap().to_owned();
    let set = format!("quota.{role}=cpus:0");
    let none = replayed(&place, &journal, &["--set", &set, "--set", &format!("weight.{role}=2")], 0);
    let what_if = &none["what_if"];
    assert_eq!(what_if["set"], serde_json::json!([set, format!("weight.{role}=2")]));
    let cycles = what_if["cycles"].as_array().unwrap();
    assert!(!cycles.is_empty() && cycles[0]["only_with_set"] == serde_json::json!([]), "{what_if:#}");
    assert_eq!(cycles[0]["only_in_run"][0]["role"], role.as_str(), "{what_if:#}");
    assert_eq!(what_if["roles"][0]["only_in_run"]["offers"], none["counts"]["offers_made"], "{what_if:#}");
    assert_eq!(none["state"], same["state"], "what was stays as it was");
    let text = place.run(&["replay", journal.to_str().unwrap(), "--set", &set]).expect(0).stdout;
    assert!(text.contains("something else would have been offered") && text.contains("in the run"), "{text}");

    for wrong in ["weight.a=0", "offer_timeout=1s", "quota.a=x"] {
        place.run(&["replay", journal.to_str().unwrap(), "--set", wrong]).expect(2);
    }
    for wrong in ["soon", "2001-01-01T00:00:00Z"] {
        place.run(&["replay", journal.to_str().unwrap(), "--until", wrong]).expect(2);
    }
}

#[test]
fn what_is_wrong_with_a_journal_is_said_with_its_place() {
    let place = Place::new();
    let mut bytes = Vec::new();
    fs::File::open(recorded(&place)).unwrap().read_to_end(&mut bytes).unwrap();

    let (cut, said) = refusal(&place, "cut", &bytes[..bytes.len() - 3]);
    assert_eq!(cut["journal"]["ending"], "broken", "{cut:#}");
    assert_eq!(cut["counts"]["tasks_by_state"]["finished"], 3, "what was before the cut is there: {cut:#}");
    assert!(said.contains("ends within the record at byte ") && said.contains("cut off there"), "{said}");

    let mut flipped = bytes.clone();
    let middle = bytes.len() / 2;
    flipped[middle] ^= 1;
    let (damaged, said) = refusal(&place, "flipped", &flipped);
    assert_eq!(damaged["journal"]["ending"], "broken", "{damaged:#}");
    let offset = said.split(" at byte ").nth(1).unwrap();
    let offset: usize = offset.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    assert!(offset <= middle && middle - offset < 10_000, "{said}");

    let (nothing, said) = refusal(&place, "garbage", &[7; 4096]);
    assert!(nothing.is_null() && said.contains("is not a journal") && said.contains("byte 0"), "{said}");
    let other = [b"apportion journal 2\n", &bytes[20..]].concat();
    let (nothing, said) = refusal(&place, "other", &other);
    assert!(
        nothing.is_null() && said.contains("format `2`") && said.contains("version that wrote it"),
        "{said}"
    );
    let none = place.run(&["replay", "nowhere"]).expect(1).stderr;
    assert!(none.contains("nowhere cannot be opened: No such file"), "{none}");
}

#[test]
fn the_journal_of_a_master_that_was_killed_is_there_to_its_last_flush() {
    let place = Place::new();
    let journal = place.path().join("run.journal");
    let args = ["master", "--listen", "127.0.0.1:0", "--log", "info", "--journal", journal.to_str().unwrap()];
    let mut master = place.start(&args);
    let url = format!("http://127.0.0.1:{}", port(&master.error_with("serving")));
    let work_dir = place.path().join("agent");
    let work_dir = work_dir.to_str().unwrap();
    let agent = ["agent", "--listen", "127.0.0.1:0", "--master", &url, "--work-dir", work_dir];
    let agent = place.start(&agent);
    // It is flushed while the master runs.
    until("the agent is in the journal", || {
        let replayed = place.run(&["replay", journal.to_str().unwrap(), "-o", "json"]);
        let said = serde_json::from_str::<Value>(&replayed.stdout).ok()?;
        (said["state"]["cluster"]["agents"] == 1).then_some(())
    });
    master.signal(Signal::KILL);
    master.end();
    let killed = replayed(&place, &journal, &[], 0);
    assert_eq!(killed["journal"]["ending"], "open", "{killed:#}");
    assert_eq!(killed["state"]["agents"][0]["state"], "active", "{killed:#}");
    let text = place.run(&["replay", journal.to_str().unwrap()]).expect(0).stdout;
    assert!(text.contains("its master was killed there, or still runs"), "{text}");
    drop(agent);

    // The next master keeps it.
    let mut master = place.start(&args);
    master.error_with("serving");
    master.signal(Signal::TERM);
    master.end().expect(0);
    assert_eq!(replayed(&place, &journal, &[], 0)["journal"]["ending"], "complete");
    let old = place.path().join("run.journal.old");
    assert_eq!(replayed(&place, &old, &[], 0)["state"]["cluster"]["agents"], 1);
}

#[test]
fn a_master_goes_on_when_its_journal_cannot() {
    let place = Place::new();
    let journal = place.path().join("run.journal");
    // No file may be longer than that, as on a disk that is full.
    let full = "trap '' XFSZ; ulimit -f 2";
    let args = ["master", "--listen", "127.0.0.1:0", "--log", "info", "--journal", journal.to_str().unwrap()];
    let mut master = place.start_after(full, &args);
    let url = format!("http://127.0.0.1:{}", port(&master.error_with("serving")));
    // Asking for the end of a task is an event, whether there is one or not.
    let name = "x".repeat(200);
    for _ in 0..20 {
        place.run(&["kill", &name, "--master", &url]).expect(1);
    }
    assert!(master.error_with("the journal stops here").contains("File too large"));
    place.run(&["agents", "--master", &url]).expect(0);
    let told = replayed(&place, &journal, &[], 0);
    // The mark is there if it still found room.
    assert!(["incomplete", "open"].contains(&told["journal"]["ending"].as_str().unwrap()), "{told:#}");
    assert!(told["journal"]["events"].as_u64().unwrap() > 0, "{told:#}");
    master.signal(Signal::TERM);
    master.end().expect(0);
}
