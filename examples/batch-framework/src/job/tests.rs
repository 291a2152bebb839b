use std::time::Duration;

use super::*;

mod stages;

const GOOD: &str = r#"
name = "sums"

[params]
folder = "."
level = 9

[task]
command = ["/bin/sh", "-c", "gzip -${level} < \"$FILE\"", "${item}", "${index}"]
env = { FILE = "${item}", WHERE = "${folder}/${index}" }
cpus = 0.25
memory = "64MiB"
disk = 10
resources = "gpus:1"
timeout = "1h 30m"
kill_grace = "10s"
retries = 2

[array]
list = ["a", "${folder}"]
"#;

fn parse(text: &str) -> Result<Job, JobError> {
    Job::parse(Path::new("job.toml"), text, &[], Path::new("/srv"))
}

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The good file with one line for another.
fn with(line: &str, other: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    GOOD.replacen(line, other, 1)
}

#[test]
fn a_good_file_is_a_job() {
    let job = parse(GOOD).unwrap();
    assert_eq!(job.name, "sums");
    assert_eq!(job.stages()[0].resources.to_string(), "cpus:0.25;mem:64;disk:10;gpus:1");
    assert_eq!(job.stages()[0].policy.timeout, Some(Duration::from_secs(5400)));
    assert_eq!(job.stages()[0].kill_grace, Some(Duration::from_secs(10)));
    assert_eq!((job.stages()[0].policy.retry.limit, job.tasks()), (2, 2));
    assert_eq!(job.argv(0), ["/bin/sh", "-c", "gzip -9 < \"$FILE\"", "a", "1"]);
    assert_eq!(job.env(1)["FILE"], ".");
    assert_eq!(job.env(1)["WHERE"], "./2");
    assert_eq!((job.task_name(0).as_str(), job.item(1).as_str()), ("sums-0001", "."));
}

#[test]
fn little_needs_to_be_said() {
    let job = parse("name = \"one\"\n[task]\ncommand = \"echo hello\"\n").unwrap();
    assert_eq!((job.tasks(), job.item(0).as_str()), (1, ""));
    assert_eq!(job.argv(0), ["/bin/sh", "-c", "echo hello"]);
    assert_eq!(job.stages()[0].resources.to_string(), "cpus:1;mem:128");
    assert_eq!(
        (job.stages()[0].policy.timeout, job.stages()[0].policy.retry.limit, job.output),
        (None, 0, None)
    );
}

#[test]
fn names_of_tasks_sort_as_their_numbers_do() {
    let job =
        parse("name = \"n\"\n[task]\ncommand = \"echo ${item}\"\n[array]\nrange = [5, 20004]\n").unwrap();
    assert_eq!((job.task_name(0).as_str(), job.task_name(19_999).as_str()), ("n-00001", "n-20000"));
    assert_eq!(job.argv(19_999)[2], "echo 20004");
}

#[test]
fn settings_override_parameters() {
    let settings = ["folder=/usr".to_owned(), "level=a=b".to_owned()];
    let job = Job::parse(Path::new("job.toml"), GOOD, &settings, Path::new("/srv")).unwrap();
    assert_eq!((job.env(1)["FILE"].as_str(), job.argv(0)[2].as_str()), ("/usr", "gzip -a=b < \"$FILE\""));

    let refused = |setting: &str| {
        Job::parse(Path::new("job.toml"), GOOD, &[setting.to_owned()], Path::new("/srv"))
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refused("fodler=x"),
        "--set fodler=x: job.toml declares no `fodler`; it declares folder, level"
    );
    assert_eq!(refused("folder"), "--set folder: expected name=value, such as folder=/usr/share");
}

#[test]
fn the_output_folder_is_absolute() {
    let output = |text: &str| {
        parse(&with("name = \"sums\"", &format!("name = \"sums\"\noutput = \"{text}\""))).unwrap().output
    };
    assert_eq!(output("out/${level}"), Some(PathBuf::from("/srv/out/9")));
    assert_eq!(output("/tmp/x"), Some(PathBuf::from("/tmp/x")));
}

#[test]
fn what_is_no_toml_or_has_unknown_keys_is_refused_at_its_place() {
    let message = refused(&with("retries = 2", "retires = 2"));
    assert!(
        message.starts_with("job.toml:17:1: unknown field `retires`, expected one of `command`"),
        "{message}"
    );
    let message = refused(&with("[array]", "[arrays]"));
    assert!(message.starts_with("job.toml:19:2: unknown field `arrays`"), "{message}");
    let message = refused("name = \"x\"\ncpus = = 1\n");
    assert!(message.starts_with("job.toml:2:8: "), "{message}");
    let message = refused(&with("command = [", "command = 7 #"));
    assert!(
        message.starts_with("job.toml:9:11: expected an array such as [\"/bin/sort\", \"-u\"]"),
        "{message}"
    );
}

#[test]
fn what_is_missing_is_named_with_an_example() {
    let message = refused("[task]\ncommand = \"x\"\n");
    assert_eq!(message, "job.toml:1:1: name is missing; write for example\nname = \"checksum\"");
    let message = refused("name = \"x\"\n");
    assert!(
        message.starts_with("job.toml:1:1: task is missing; write for example\n[task]\ncommand = "),
        "{message}"
    );
    let message = refused("name = \"x\"\n\n[task]\ncpus = 1\n");
    assert!(
        message.starts_with("job.toml:3:1: task.command is missing; write for example\ncommand = ["),
        "{message}"
    );
    for empty in ["\"  \"", "[]", "[\"\"]"] {
        let message = refused(&format!("name = \"x\"\n[task]\ncommand = {empty}\n"));
        assert!(message.starts_with("job.toml:3:11: task.command: names no program;"), "{message}");
    }
    assert!(
        parse("name = \"x\"\n[task]\ncommand = [\"/bin/echo\", \"-n\", \"\"]\n").is_ok(),
        "an argument may be empty"
    );
}

#[test]
fn amounts_are_checked_by_the_parser_of_resources() {
    assert_eq!(
        refused(&with("cpus = 0.25", "cpus = -1")),
        "job.toml:11:8: task.cpus: cpus is negative: `-1`"
    );
    assert_eq!(
        refused(&with("cpus = 0.25", "cpus = nan")),
        "job.toml:11:8: task.cpus: `NaN` is not a number"
    );
    let message = refused(&with("cpus = 0.25", "cpus = 0.00001"));
    assert_eq!(message, "job.toml:11:8: task.cpus: cpus of `0.00001` is finer than a thousandth");
    let message = refused(&with("\"64MiB\"", "\"64XB\""));
    assert!(message.starts_with("job.toml:12:10: task.memory: `XB` is not a unit; use B, KiB"), "{message}");
    let message = refused(&with("\"64MiB\"", "\"64;cpus:9\""));
    assert!(message.contains("job.toml:12:10: task.memory: "), "{message}");
    let message = refused(&with("\"gpus:1\"", "\"gpus=1\""));
    assert_eq!(
        message,
        "job.toml:14:13: task.resources: resources `gpus=1`, column 1: expected `name:value`, such as `cpus:2`"
    );
    let message = refused(&with("\"gpus:1\"", "\"cpus:1\""));
    assert_eq!(
        message,
        "job.toml:11:8: task.cpus: is given, and cpus stands in task.resources too; keep one"
    );
}

#[test]
fn durations_and_retries_are_checked() {
    let message = refused(&with("\"1h 30m\"", "\"5 apples\""));
    assert!(
        message.starts_with("job.toml:15:11: task.timeout: `5 apples` is not a duration such as \"90s\""),
        "{message}"
    );
    let at_once = parse(&with("\"10s\"", "\"0s\"")).unwrap();
    assert_eq!(
        at_once.stages()[0].kill_grace,
        Some(Duration::ZERO),
        "KILL at once, which is not the agent's default"
    );
    let message = refused(&with("timeout = \"1h 30m\"", "timeout = \"0s\""));
    assert!(message.ends_with("task.timeout: is zero; leave it out for none"), "{message}");
    let message = refused(&with("\"1h 30m\"", &format!("\"{}s\"", u64::MAX)));
    let expected = "job.toml:15:11: task.timeout: is longer than 365 days; leave it out for none";
    assert_eq!(message, expected);
    assert!(parse(&with("\"1h 30m\"", "\"365d\"")).is_ok());
    let message = refused(&with("\"10s\"", "\"25h\""));
    let expected = "job.toml:16:14: task.kill_grace: is longer than 24 hours, the most that an agent waits";
    assert_eq!(message, expected);
    for wrong in [0, -1] {
        let message = refused(&with("retries = 2", &format!("pids_max = {wrong}")));
        assert_eq!(message, format!("job.toml:17:12: task.pids_max: {wrong} is less than 1"));
    }
    let message = refused(&with("retries = 2", "io = { read_ops_per_second = 9 }"));
    assert!(
        message.starts_with("job.toml:17:6: task.io.read_ops_per_second: 9 is less than 10"),
        "{message}"
    );
    let message = refused(&with("retries = 2", "io = { reads = 9 }"));
    assert!(message.contains("unknown field `reads`"), "{message}");
    let message = refused(&with("retries = 2", "exclusive_cpus = true"));
    let expected = "job.toml:17:18: task.exclusive_cpus: cores of its own are whole ones, at least one; ask for that many cpus, not `cpus:0.25`";
    assert_eq!(message, expected);
    assert!(
        parse(&with("retries = 2", "exclusive_cpus = true").replace("cpus = 0.25", "cpus = 2"))
            .unwrap()
            .stages()[0]
            .exclusive_cpus
    );
    for wrong in ["-1", "101"] {
        let message = refused(&with("retries = 2", &format!("retries = {wrong}")));
        assert_eq!(message, format!("job.toml:17:11: task.retries: {wrong} is not from 0 to 100"));
    }
}

#[test]
fn variables_are_checked_where_they_stand() {
    let message = refused(&with("gzip -${level}", "gzip -${levle}"));
    assert!(message.starts_with("job.toml:9:11: task.command: unknown variable `${levle}`; known here: item, index, folder, level;"), "{message}");
    let message = refused(&with("WHERE = \"${folder}", "WHERE = \"${nowhere}"));
    assert!(message.contains("task.env.WHERE: unknown variable `${nowhere}`"), "{message}");
    let message = refused(&with("\"${folder}\"]\n", "\"${item}\"]\n"));
    assert!(
        message.starts_with(
            "job.toml:20:14: array.list: unknown variable `${item}`; known here: folder, level;"
        ),
        "{message}"
    );
    let message = refused("name = \"x\"\n[task]\ncommand = \"echo ${item}\"\n");
    assert!(
        message.contains("unknown variable `${item}`; known here: index;"),
        "there is no array: {message}"
    );
    let message = refused(&with("level = 9", "item = 9"));
    assert_eq!(message, "job.toml:6:1: params: `item` is the array's own; choose another name");
    let message = refused(&with("WHERE =", "\"A=B\" ="));
    assert!(message.contains("task.env.A=B: is not a name of a variable"), "{message}");
}

#[test]
fn an_array_says_in_one_way_which_tasks_there_are() {
    let array = |lines: &str| refused(&with("list = [\"a\", \"${folder}\"]", lines));
    let both = array("list = [\"a\"]\nglob = \"*\"");
    assert!(
        both.starts_with("job.toml:19:1: array: 2 of glob, list and range are given; give exactly one"),
        "{both}"
    );
    assert!(array("").contains("array: 0 of glob, list and range are given"));
    let empty = array("glob = \"${folder}/*.none\"");
    assert!(empty.starts_with("job.toml:20:8: array.glob: `/srv/*.none` matches no file"), "{empty}");
    assert!(array("list = []").starts_with("job.toml:20:8: array.list: the list is empty"));
    assert!(array("range = [2, 1]").starts_with("job.toml:20:9: array.range: the range ends at 1"));
    assert!(array("range = [1, 2, 3]").contains("as in [1, 100], but 3 are given"));
    assert!(array("range = [1, 100001]").contains("100001 elements, but a job has at most 100000 tasks"));
    assert!(
        array("list = [\"a\"]\nexclude = [\"b\"]")
            .contains("array.exclude: takes files out of a glob, but there is no glob")
    );
}

#[test]
fn names_must_begin_task_ids() {
    let long = refused(&with("\"sums\"", &format!("\"{}\"", "x".repeat(1 << 20))));
    assert_eq!(long, "job.toml:2:8: name: 1048576 bytes long; at most 160 leave room for the ids of tasks");
    for wrong in ["a/b", "", "a b", "-x", ".."] {
        let message = refused(&with("\"sums\"", &format!("\"{wrong}\"")));
        assert!(
            message.starts_with(&format!("job.toml:2:8: name: `{wrong}` cannot begin a task id")),
            "{message}"
        );
    }
    let longest = parse(&with("\"sums\"", &format!("\"{}\"", "x".repeat(NAME_BYTES_MAX)))).unwrap();
    assert!(apportion_sdk::TaskId::new(format!("{}.r1000000", longest.task_name(1))).is_ok());
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let message = Job::load(&missing, &[], folder.path()).unwrap_err().to_string();
    assert!(message.starts_with(&format!("cannot read the job file {}: ", missing.display())), "{message}");
    let huge = folder.path().join("huge.toml");
    std::fs::File::create(&huge).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let message = Job::load(&huge, &[], folder.path()).unwrap_err().to_string();
    assert!(message.contains("has 33554433 bytes, more than the 33554432"), "{message}");
}

#[test]
fn positions_count_characters_not_bytes() {
    let message = refused("name = \"x\"\nä = 1\n[task]\ncommand = \"x\"\n");
    assert!(message.starts_with("job.toml:2:1: "), "{message}");
    let message =
        refused("name = \"x\"\n[task]\ncommand = [\"ä\", \"é\"]\nenv = { \"ä\" = \"é\", B = \"${no}\" }\n");
    assert!(message.starts_with("job.toml:4:24: "), "{message}");
}

#[test]
fn the_jobs_that_come_with_it_are_good() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (file, at_least) in [("checksum.toml", 20), ("wordcount.toml", 1)] {
        let job = Job::load(&folder.join("jobs").join(file), &[], folder).unwrap();
        assert!(job.tasks() >= at_least, "{file} has {} tasks", job.tasks());
        assert!(Path::new(&job.item(0)).is_file());
    }
}
