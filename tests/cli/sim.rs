//! `apportion sim`.

use std::path::Path;

use crate::support::Place;

/// A scenario of the repository.
fn scenario(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sim/scenarios").join(name);
    path.canonicalize().unwrap().to_str().unwrap().to_owned()
}

/// Fails under some seeds and not under others.
const SOMETIMES: &str = "agents 2 cpus:4;mem:4096\nframework left tasks=1 lasts=10s retries=0\nat 1s break agent 0\n\
     at 2s out-of-memory agent 0 0\nrun until idle\nexpect left finished 1\n";

#[test]
fn a_scenario_is_played_as_its_file_says() {
    let file = scenario("hello.txt");
    let played = Place::new().run(&["sim", "--scenario", &file]).expect(0);
    assert_eq!(played.stdout, std::fs::read_to_string(&file).unwrap());
    assert!(played.stderr.starts_with("seed 7 went as expected: "), "{}", played.stderr);
    let other = Place::new().run(&["sim", "--scenario", &file, "--seed", "8"]).expect(0);
    assert_ne!(other.stdout, played.stdout);
}

#[test]
fn history_shows_more_and_json_is_for_programs() {
    let (place, file) = (Place::new(), scenario("out-of-memory.txt"));
    let short = place.run(&["sim", "--scenario", &file, "-o", "json"]).expect(0).json();
    let long = place.run(&["sim", "--scenario", &file, "--history", "-o", "json"]).expect(0).json();
    assert_eq!((&short["seed"], &short["failure"]), (&7.into(), &serde_json::Value::Null));
    assert_eq!(short["steps"], long["steps"]);
    let lines = |answer: &serde_json::Value| answer["text"].as_str().unwrap().lines().count();
    assert!(lines(&long) > 2 * lines(&short));
}

#[test]
fn a_mistake_is_told_with_its_place() {
    let place = Place::new();
    let file = place.file("wrong.txt", "agents 1 cpus:4\nrun fast\n");
    let refused = place.run(&["sim", "--scenario", file.to_str().unwrap()]).expect(2);
    let expected =
        format!("error: {}:2:5: `fast` is no duration; expected a duration such as 10s", file.display());
    assert!(refused.stderr.starts_with(&expected), "{}", refused.stderr);
    let refused = place.run(&["sim", "--scenario", "nowhere.txt"]).expect(2);
    assert!(refused.stderr.starts_with("error: reading the scenario nowhere.txt: "), "{}", refused.stderr);
    for wrong in ["5", "5..5", "b..c"] {
        place.run(&["sim", "--scenario", file.to_str().unwrap(), "--seeds", wrong]).expect(2);
    }
    place.run(&["sim", "--scenario", file.to_str().unwrap(), "--seeds", "0..1", "--seed", "3"]).expect(2);
}

#[test]
fn what_goes_wrong_is_said_and_exits_with_1() {
    let place = Place::new();
    let file = place.file(
        "it fails.txt",
        "agents 1 cpus:4;mem:4096\nframework left\nrun until idle\nexpect left finished 2\n",
    );
    let file = file.to_str().unwrap();
    let failed = place.run(&["sim", "--scenario", file]).expect(1);
    assert!(failed.stdout.contains("    WRONG: story is broken at "), "{}", failed.stdout);
    assert!(
        failed.stderr.contains("`expect left finished 2`") && failed.stderr.contains("`--seeds 0..1`"),
        "{}",
        failed.stderr
    );
}

#[test]
fn a_process_is_killed_at_each_write() {
    let place = Place::new();
    let killed = ["--kill-at-every-write", "-o", "json"];
    let quiet = place.file(
        "quiet.txt",
        "agents 1 cpus:4;mem:4096\nframework left tasks=2\nrun until idle\nexpect left finished 2\n",
    );
    let quiet = quiet.to_str().unwrap();
    let answer = place.run(&[&["sim", "--scenario", quiet], &killed[..]].concat()).expect(0).json();
    let number = |name: &str| answer[name].as_u64().unwrap();
    assert!(number("writes") > 10, "{answer}");
    assert_eq!(number("runs"), 1 + 2 * number("writes"));
    place.run(&["sim", "--scenario", quiet, "--kill-before-write", "3"]).expect(0);
    place.run(&["sim", "--scenario", quiet, "--kill-before-write", "0"]).expect(2);
    place.run(&["sim", "--scenario", quiet, "--kill-after-write", "1", "--kill-at-every-write"]).expect(2);
}

#[test]
fn many_seeds_are_played_and_summed_up() {
    let (place, file) = (Place::new(), scenario("reboot.txt"));
    let searched = place.run(&["sim", "--scenario", &file, "--seeds", "0..20"]).expect(0);
    assert!(searched.stdout.starts_with("20 seeds of 20 went as expected, "), "{}", searched.stdout);
    assert!(searched.stderr.ends_with("\n20 of 20 seeds went as expected\n"), "{}", searched.stderr);
    let json = place.run(&["sim", "--scenario", &file, "--seeds", "5..9", "-o", "json"]).expect(0).json();
    assert_eq!((&json["from"], &json["to"], &json["clean"]), (&5.into(), &9.into(), &4.into()));
    assert!(json["simulated_s"].as_f64().unwrap() > 100.0 && json["failure"].is_null(), "{json}");
}

/// The first seed that fails is told with what it needs, and the command that is told plays it again.
#[test]
fn a_seed_that_fails_is_told_with_what_it_needs() {
    let place = Place::new();
    let file = place.file("it's rare.txt", SOMETIMES);
    let file = file.to_str().unwrap();
    let json = place.run(&["sim", "--scenario", file, "--seeds", "0..50", "-o", "json"]).expect(1).json();
    let failure = &json["failure"];
    let seed = failure["seed"].as_u64().unwrap();
    assert_eq!(failure["property"], "story");
    assert_eq!(failure["faults"], serde_json::json!(["at 2s out-of-memory agent 0 0"]));
    assert_eq!(failure["faults_before"], 2);
    assert!(failure["message"].as_str().unwrap().contains("`expect left finished 1`: it is 0"), "{failure}");
    for clean in 0..seed {
        place.run(&["sim", "--scenario", file, "--seed", &clean.to_string()]).expect(0);
    }
    let text = place.run(&["sim", "--scenario", file, "--seeds", "0..50"]).expect(1).stdout;
    let again = text.lines().find_map(|line| line.strip_prefix("again: apportion ")).unwrap();
    assert!(text.contains("\n    at 2s out-of-memory agent 0 0\n"), "{text}");
    let mut shell = std::process::Command::new("/bin/sh");
    shell.args(["-c", &format!("exec {} {again}", env!("CARGO_BIN_EXE_apportion"))]);
    let played = shell.output().unwrap();
    assert_eq!(played.status.code(), Some(1));
    let played = String::from_utf8(played.stdout).unwrap();
    assert!(
        played.contains("WRONG: story is broken") && played.contains("framework 0 calls accept"),
        "{played}"
    );
}

#[test]
fn an_interrupted_search_sums_up_what_it_has() {
    let (place, file) = (Place::new(), scenario("out-of-memory.txt"));
    let mut search = place.start(&["sim", "--scenario", &file, "--seeds", "0..10000000", "-o", "json"]);
    search.error_with("playing the seeds 0..10000000");
    search.signal(rustix::process::Signal::INT);
    let ended = search.end().expect(130);
    assert_eq!(ended.json()["interrupted"], true);
}

/// Two machines, and tasks of which one fits on neither.
fn trace(place: &Place) -> [String; 2] {
    let nodes = "sn,cpu_milli,memory_mib,gpu,model\na,4000,4096,2,T4\nb,4000,8192,0,\n";
    let tasks = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time,scheduled_time\n\
                 first,2000,1024,1,500,T4,LS,1000,1060,1000\nsecond,4000,5120,0,0,,BE,1000,1100,1000\n\
                 third,4000,5120,0,0,,BE,1010,1050,1010\nlarge,9000,1024,0,0,,BE,1010,1050,1010\n\
                 last,2000,1024,1,500,T4,LS,1020,1040,1020\n";
    [place.file("nodes.csv", nodes), place.file("tasks.csv", tasks)]
        .map(|path| path.to_str().unwrap().to_owned())
}

#[test]
fn a_recorded_cluster_is_replayed_with_either_framework() {
    let place = Place::new();
    let [nodes, tasks] = trace(&place);
    for (framework, finished) in [("batch", 4), ("service", 3)] {
        let picture = place.path().join(format!("{framework}.svg"));
        let args = ["sim", "--nodes", &nodes, "--tasks", &tasks, "--framework", framework, "-o", "json"];
        let svg = ["--svg", picture.to_str().unwrap()];
        let report = place.run(&[&args[..], &svg].concat()).expect(0).json();
        let counts = &report["tasks"];
        let seen = [&counts["total"], &counts["rejected"], &counts["finished"], &counts["withdrawn"]];
        assert_eq!(seen, [5, 1, finished, 4 - finished], "{report}");
        assert!(report["wall_us"].as_u64().is_some() && report["framework"] == framework, "{report}");
        assert!(std::fs::read_to_string(picture).unwrap().starts_with("<svg "));
    }
    let replayed =
        place.run(&["sim", "--nodes", &nodes, "--tasks", &tasks, "--framework", "batch"]).expect(0);
    assert!(replayed.stdout.starts_with("2 nodes, 5 tasks of "), "{}", replayed.stdout);
    assert!(replayed.stdout.contains(" 4 placed (0 running, 4 finished), 0 waiting"), "{}", replayed.stdout);
    assert!(replayed.stderr.starts_with("replaying the trace\n"), "{}", replayed.stderr);
}

#[test]
fn a_trace_that_is_none_is_told_with_its_place() {
    let place = Place::new();
    let [nodes, tasks] = trace(&place);
    let wrong = place.run(&["sim", "--nodes", &tasks, "--tasks", &tasks, "--framework", "batch"]).expect(2);
    assert!(wrong.stderr.starts_with(&format!("error: {tasks}:1")), "{}", wrong.stderr);
    place.run(&["sim", "--nodes", &nodes]).expect(2);
    place.run(&["sim"]).expect(2);
    place.run(&["sim", "--nodes", &nodes, "--tasks", &tasks]).expect(2);
    place
        .run(&["sim", "--nodes", &nodes, "--tasks", &tasks, "--framework", "batch", "--seeds", "0..3"])
        .expect(2);
}
