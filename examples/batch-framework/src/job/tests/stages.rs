//! Products, stages and retries in job files.

use super::*;
use crate::state::{Cause, Dependency, IfFailed, On};

const CHAIN: &str = r#"
name = "survey"

[retry]
limit = 2
never_on = [2, "disk"]

[stage.fetch]
command = "fetch ${scene} ${level}"
cpus = 0.5

[stage.fetch.array.axes]
scene = { list = ["a", "b", "c"] }
level = { range = [1, 2] }

[stage.count]
after_each = ["fetch"]
command = "count ${item}"
memory = "1GiB"
retry = { limit = 3, backoff = "10s", only_on = ["memory", 75], memory_growth = 2, memory_max = "3GiB" }

[stage.report]
after = ["count"]
if_failed = "continue"
command = "report"
"#;

fn with(line: &str, other: &str) -> String {
    assert!(CHAIN.contains(line), "{line}");
    CHAIN.replacen(line, other, 1)
}

#[test]
fn stages_are_in_the_order_of_the_file_and_numbered_through() {
    let job = parse(CHAIN).unwrap();
    let names: Vec<_> = job.stages().iter().map(|stage| (stage.name.as_str(), stage.tasks())).collect();
    assert_eq!(names, [("fetch", 6), ("count", 6), ("report", 1)]);
    assert_eq!(job.tasks(), 13);
    assert_eq!(job.task_name(0), "survey-fetch-0001");
    assert_eq!((job.task_name(7), job.argv(7)[2].as_str()), ("survey-count-0002".into(), "count a,2"));
    assert_eq!((job.argv(5)[2].as_str(), job.argv(12)[2].as_str()), ("fetch c 2", "report"));
    let [fetch, count, report] = job.stages() else { panic!("three") };
    assert_eq!(count.after, [Dependency { stage: 0, each: true }]);
    assert_eq!(report.after, [Dependency { stage: 1, each: false }]);
    assert_eq!((count.if_failed, report.if_failed), (IfFailed::Skip, IfFailed::Continue));
    assert_eq!(fetch.resources(0).to_string(), "cpus:0.5;mem:128");
    let steps: Vec<_> = (0..4).map(|step| count.resources(step).to_string()).collect();
    assert_eq!(steps, ["cpus:1;mem:1024", "cpus:1;mem:2048", "cpus:1;mem:3072", "cpus:1;mem:3072"]);
}

#[test]
fn retries_of_all_stages_are_each_stages_unless_it_has_its_own() {
    let job = parse(CHAIN).unwrap();
    let [fetch, count, report] = job.stages() else { panic!("three") };
    let never = On::Never([Cause::Code(2), Cause::Disk].into());
    assert_eq!((fetch.policy.retry.limit, &fetch.policy.retry.on), (2, &never));
    assert_eq!(report.policy.retry, fetch.policy.retry);
    let retry = &count.policy.retry;
    assert_eq!((retry.limit, retry.backoff), (3, Duration::from_secs(10)));
    assert_eq!(retry.on, On::Only([Cause::Code(75), Cause::Memory].into()));
    assert_eq!(retry.memory_milli, [1_024_000, 2_048_000, 3_072_000]);
    let job = parse(&with("cpus = 0.5", "retries = 7")).unwrap();
    let fetch = &job.stages()[0].policy.retry;
    assert_eq!((fetch.limit, &fetch.on), (7, &never), "the nearest number counts");
}

#[test]
fn what_is_wrong_with_retries_is_said_where_it_stands() {
    let mut wrong = Vec::new();
    for (line, other, expected) in [
        ("limit = 2", "", "job.toml:4:1: retry.limit is missing; write for example\nlimit = 3"),
        ("limit = 2", "limit = 101", "job.toml:5:9: retry.limit: 101 is not from 0 to 100"),
        (
            "never_on = [2,",
            "never_on = [0,",
            "job.toml:6:13: retry.never_on: `0` is neither an exit code from 1 to 255 nor one of \"memory\"",
        ),
        ("never_on = [2, \"disk\"]", "never_on = []", "job.toml:6:12: retry.never_on: is empty"),
        (
            "limit = 3,",
            "limit = 3, never_on = [1],",
            "job.toml:20:33: stage.count.retry.never_on: stands beside only_on",
        ),
        (
            "limit = 3,",
            "limit = 3, backoff_max = \"1s\",",
            "job.toml:20:36: stage.count.retry.backoff_max: is shorter than the first pause, 10s",
        ),
        ("\"10s\"", "\"0s\"", "job.toml:20:32: stage.count.retry.backoff: is zero"),
        (
            ", memory_max = \"3GiB\"",
            "",
            "job.toml:20:81: stage.count.retry.memory_max is missing; write for example\nmemory_max = \"8GiB\"",
        ),
        (
            "memory_growth = 2, ",
            "",
            "stage.count.retry.memory_max: says how far memory may grow, but not how fast",
        ),
        (
            "memory_growth = 2",
            "memory_growth = 1",
            "stage.count.retry.memory_growth: `1` is not a number from 1.1",
        ),
        (
            "\"3GiB\"",
            "\"1GiB\"",
            "stage.count.retry.memory_max: is not more than the memory that a task begins with, 1024 MiB",
        ),
        (
            "memory = \"1GiB\"",
            "retries = 1",
            "job.toml:19:11: stage.count.retries: stands beside stage.count.retry.limit",
        ),
    ] {
        let message = refused(&with(line, other));
        if !message.contains(expected) {
            wrong.push((message, expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_cycle_is_named_with_its_lines() {
    let text = with("cpus = 0.5", "after = [\"report\"]");
    let expected = "job.toml:10:10: the stages wait for each other, so that none could begin: `fetch` after `report` (line 10), \
                    `report` after `count` (line 23), `count` after `fetch` (line 17); take one of these out";
    assert_eq!(refused(&text), expected);
    let own = refused(&with("after = [\"count\"]", "after = [\"report\"]"));
    assert!(own.contains("begin: `report` after `report` (line 23); take"), "{own}");
    let behind = refused(&with("cpus = 0.5", "after = [\"fetch\"]"));
    assert!(
        behind.contains("begin: `fetch` after `fetch` (line 10);"),
        "those behind a cycle are no part of it: {behind}"
    );
}

#[test]
fn what_is_wrong_with_stages_is_said_where_it_stands() {
    let mut wrong = Vec::new();
    for (line, other, expected) in [
        (
            "[\"count\"]",
            "[\"cuont\"]",
            "job.toml:23:10: stage.report.after: there is no stage `cuont`; the stages are count, fetch, report",
        ),
        (
            "[\"count\"]",
            "[\"count\", \"count\"]",
            "job.toml:23:19: stage.report.after: `count` is named twice",
        ),
        ("\"continue\"", "\"go\"", "job.toml:24:13: stage.report.if_failed: `go` is neither \"skip\""),
        ("stage.report", "stage.\"re port\"", "job.toml:22:8: stage: `re port` is no name of a stage"),
        ("[retry]", "[task]\ncommand = \"x\"\n[retry]", "job.toml:4:1: task: stands beside [stage.…]"),
        ("[retry]", "[array]\nrange = [1, 2]\n[retry]", "job.toml:4:1: array: stands beside [stage.…]"),
        (
            "memory = \"1GiB\"",
            "array = { range = [1, 6] }",
            "job.toml:17:15: stage.count.after_each: each task waits for that of `fetch` with the same element, but element 1 is `a,1` there and `1` here; leave out stage.count.array",
        ),
        ("memory = \"1GiB\"", "array = { list = [\"a,1\"] }", "but it has 6 elements, and this stage 1;"),
        ("cpus = 0.5", "cpus = -1", "job.toml:10:8: stage.fetch.cpus: cpus is negative"),
        ("command = \"report\"", "", "job.toml:22:1: stage.report.command is missing"),
        (
            "report\"\n",
            "report ${scene}\"\n",
            "stage.report.command: unknown variable `${scene}`; known here: index;",
        ),
        ("[1, 2]", "[1, 50000]", "150000 elements, but a job has at most 100000 tasks"),
        (
            "[1, 2]",
            "[1, 20000]",
            "job.toml:8:8: stage: 120001 tasks in all stages together, but a job has at most 100000",
        ),
    ] {
        let message = refused(&with(line, other));
        if !message.contains(expected) {
            wrong.push((message, expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let many: String =
        (0..=STAGES_MAX).map(|number| format!("[stage.s{number}]\ncommand = \"x\"\n")).collect();
    let message = refused(&format!("name = \"x\"\n{many}"));
    assert!(message.contains("201 stages, but a job has at most 200"), "{message}");
    for key in ["after = [\"a\"]", "after_each = [\"a\"]", "if_failed = \"skip\""] {
        let message = refused(&format!("name = \"x\"\n[task]\ncommand = \"x\"\n{key}\n"));
        assert!(message.contains("is for jobs of several stages; write [stage.NAME]"), "{message}");
    }
    let message = refused("name = \"x\"\n[task]\ncommand = \"x\"\narray = { range = [1, 2] }\n");
    assert!(message.contains("the array of [task] is [array], beside it"), "{message}");
}

#[test]
fn what_is_wrong_with_axes_is_said_where_it_stands() {
    let mut wrong = Vec::new();
    for (line, other, expected) in [
        ("level = {", "item = {", "stage.fetch.array.axes.item: `item` is the array's own"),
        ("level = {", "\"a b\" = {", "`a b` is no name of an axis"),
        (
            "level = { range",
            "level = { exclude = [\"x\"], range",
            "stage.fetch.array.axes.level.exclude: takes files out",
        ),
        ("[1, 2]", "[2, 1]", "job.toml:14:19: stage.fetch.array.axes.level.range: the range ends at 1"),
        (
            "level = { range = [1, 2] }",
            "level = {}",
            "stage.fetch.array.axes.level: 0 of glob, list and range are given",
        ),
        ("level = {", "level = { axes = { x = { range = [1, 2] } }, ", "an axis has no axes of its own"),
        (
            "[stage.fetch.array.axes]",
            "[stage.fetch.array]\nrange = [1, 2]\n[stage.fetch.array.axes]",
            "stage.fetch.array: one of glob, list and range stands beside axes",
        ),
    ] {
        let message = refused(&with(line, other));
        if !message.contains(expected) {
            wrong.push((message, expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let text = "name = \"x\"\n[params]\nlevel = 1\n[task]\ncommand = \"x\"\n[array.axes]\nlevel = { range = [1, 2] }\n";
    assert!(refused(text).contains("job.toml:7:1: array.axes.level: `level` is a parameter already"));
}

#[test]
fn inputs_and_outputs_are_of_each_task() {
    let text = "name = \"x\"\noutput = \"out\"\n[array]\nlist = [\"a\", \"b\"]\n[task]\ncommand = \"x\"\n\
                artifacts = [{ uri = \"https://example.org/${item}.tgz\", path = \"in/${index}.tgz\", extract = true }]\n\
                collect = [\"*.csv\", \"./plots/**\"]\n";
    let job = parse(text).unwrap();
    let [artifact] = job.artifacts(1).try_into().unwrap();
    assert_eq!(
        (artifact.uri.as_str(), artifact.path.as_deref()),
        ("https://example.org/b.tgz", Some("in/2.tgz"))
    );
    assert!(artifact.extract && !artifact.cache);
    let collected: Vec<_> = job.stages()[0].collect.iter().map(glob::Pattern::as_str).collect();
    assert_eq!(collected, ["*.csv", "plots/**"]);
    let mut wrong = Vec::new();
    for (line, other, expected) in [
        ("https:", "ftp:", "job.toml:7:14: task.artifacts: "),
        ("${item}", "${itme}", "task.artifacts: unknown variable `${itme}`"),
        ("output = \"out\"", "", "job.toml:8:12: task.collect: there is no folder to collect into"),
        ("*.csv", "/x", "task.collect: `/x` does not lie in the sandbox"),
        ("*.csv", "a/../../x", "task.collect: `a/../../x` does not lie in the sandbox"),
        ("*.csv", "a**b", "task.collect: `a**b` is not a pattern"),
    ] {
        let message = refused(&text.replacen(line, other, 1));
        if !message.contains(expected) {
            wrong.push((message, expected));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn copies_are_made_only_where_they_are_asked_for() {
    let speculation = |line: &str| parse(&with("[retry]", &format!("{line}\n[retry]")));
    let rule = |line: &str| speculation(line).unwrap().stages()[0].policy.speculate;
    assert_eq!(rule(""), None);
    let rule = rule("[speculate]\nafter = 2").unwrap();
    assert_eq!((rule.after, rule.share, rule.at_least), (2.0, 0.75, Duration::from_secs(10)));
    let own =
        parse(&with("cpus = 0.5", "speculate = { after = 1.5, share = 0.9, at_least = \"1m\" }")).unwrap();
    let rules: Vec<_> =
        own.stages().iter().map(|stage| stage.policy.speculate.map(|rule| rule.share)).collect();
    assert_eq!(rules, [Some(0.9), None, None]);
    for (line, expected) in [
        (
            "[speculate]\nshare = 0.5",
            "job.toml:4:1: speculate.after is missing; write for example\nafter = 1.5",
        ),
        (
            "[speculate]\nafter = 1",
            "job.toml:5:9: speculate.after: `1` is not how many times the median, from 1.1",
        ),
        ("[speculate]\nafter = nan", "speculate.after: `NaN` is not"),
        (
            "[speculate]\nafter = 2\nshare = 75",
            "speculate.share: `75` is not a share of the stage, from 0.1 to 1.0",
        ),
    ] {
        let message = speculation(line).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_stage_may_be_a_gang() {
    let text = "name = \"j\"\n[speculate]\nafter = 2.0\n[stage.ranks]\ngang = true\ncommand = \"rank\"\narray = { range = [1, 4] }\n\
                [stage.sum]\nafter = [\"ranks\"]\ncommand = \"sum\"\n";
    let job = parse(text).unwrap();
    assert_eq!(job.stages().iter().map(|stage| stage.gang).collect::<Vec<_>>(), [true, false]);
    assert!(job.stages()[0].policy.speculate.is_none() && job.stages()[1].policy.speculate.is_some());
    let both = text.replace("gang = true\n", "gang = true\nspeculate = { after = 2.0 }\n");
    let message = refused(&both);
    assert!(
        message.contains("job.toml:6:13: stage.ranks.speculate: the tasks of a gang start together"),
        "{message}"
    );
}

/// Every job that comes along is one, over any folder with files.
#[test]
fn the_jobs_that_come_along_are_jobs() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a.md", "b.md"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let set = format!("folder={}", folder.path().display());
    let jobs = Path::new(env!("CARGO_MANIFEST_DIR")).join("jobs");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(jobs).unwrap() {
        let file = entry.unwrap().path();
        let job = Job::load(&file, std::slice::from_ref(&set), folder.path()).unwrap();
        names.push((job.name.clone(), job.tasks()));
    }
    names.sort();
    let expected = [("checksum", 2), ("documents", 2 + 2 + 2 + 1), ("wordcount", 2)];
    assert_eq!(names, expected.map(|(name, tasks)| (name.to_owned(), tasks)));
}
