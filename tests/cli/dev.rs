//! `apportion dev`: what it runs, what it says, and that nothing is left of it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::process::Signal;

use crate::support::{Place, Running, until};

const ECHO: &str = r#"
name = "echo"

[task]
command = ["/bin/echo", "${item}"]
cpus = 0.1
memory = "32MiB"

[array]
list = ["a", "b", "c"]
"#;

/// Tasks that run until they are killed.
const ENDLESS: &str = r#"
name = "endless"

[task]
command = "echo here; while :; do /bin/sleep 1000; done"
cpus = 0.1
memory = "32MiB"

[array]
list = ["a", "b"]
"#;

/// Processes that have to do with a folder: by their command line, their environment or their working directory.
fn processes(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) || name == std::process::id().to_string() {
            continue;
        }
        let read = |file: &str| {
            String::from_utf8_lossy(&fs::read(entry.path().join(file)).unwrap_or_default()).into_owned()
        };
        let cwd = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if read("cmdline").contains(folder) || read("environ").contains(folder) || cwd.starts_with(folder) {
            found.push(format!("{name}: {}", read("cmdline").replace('\0', " ")));
        }
    }
    found
}

/// The cgroups of a cluster, in every hierarchy, by the name of its work folder.
fn cgroups(name: &str) -> Vec<String> {
    fn walk(folder: &Path, name: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if path.to_string_lossy().contains(name) {
                    found.push(path.display().to_string());
                }
                walk(&path, name, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new("/sys/fs/cgroup"), name, &mut found);
    found
}

fn mounts(folder: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(folder.to_str().unwrap())).map(ToOwned::to_owned).collect()
}

/// That nothing of a place is left but what the test put there.
fn assert_clean(place: &Place) {
    let left: Vec<String> = walk(&place.tmp()).iter().map(|path| path.display().to_string()).collect();
    assert_eq!(left, [""; 0]);
    assert_eq!(fs::read_dir(place.tmp()).unwrap().count(), 0);
    assert_eq!(processes(&place.tmp()), [""; 0]);
    assert_eq!(mounts(place.path()), [""; 0]);
}

#[test]
fn a_job_runs_on_a_cluster_of_its_own_and_nothing_is_left() {
    let place = Place::new();
    let job = place.file("job.toml", ECHO);
    let ended = place.run(&["dev", "--run", job.to_str().unwrap(), "-o", "json"]).expect(0);
    let report = ended.json();
    assert_eq!(report["outcome"], "succeeded", "{report:#}");
    let tails: Vec<&str> =
        report["tasks"].as_array().unwrap().iter().filter_map(|t| t["output_tail"].as_str()).collect();
    assert_eq!(tails, ["a", "b", "c"]);
    assert_clean(&place);
}

#[test]
fn a_job_that_fails_exits_with_1() {
    let place = Place::new();
    let job =
        place.file("job.toml", "name = 'bad'\n[task]\ncommand = 'exit 3'\ncpus = 0.1\nmemory = '32MiB'\n");
    let ended = place.run(&["dev", "--run", job.to_str().unwrap(), "--agents", "1", "-o", "json"]).expect(1);
    let report = ended.json();
    assert_eq!(
        (&report["outcome"], &report["tasks"][0]["exit_code"]),
        (&"failed".into(), &3.into()),
        "{report:#}"
    );
    assert_clean(&place);
}

#[test]
fn a_job_with_an_unknown_key_exits_with_2_before_anything_starts() {
    let place = Place::new();
    let job = place.file("job.toml", "name = 'bad'\n[task]\ncommand = 'true'\nretires = 3\n");
    let refused = place.run(&["dev", "--run", job.to_str().unwrap()]).expect(2);
    assert!(refused.stderr.contains("retires"), "{}", refused.stderr);
    assert_clean(&place);
    let job = place.file("job.toml", ECHO);
    place.run(&["dev", "--run", job.to_str().unwrap(), "--set", "nothing=1"]).expect(2);
}

/// A cluster that stays up, where its master is, and the name of its work folder.
fn up(place: &Place, args: &[&str]) -> (Running, String, String) {
    let mut dev = place.start(&[&["dev", "--listen", "127.0.0.1:0", "-o", "json"], args].concat());
    let said = dev.line_with("\"master\"");
    let said: serde_json::Value = serde_json::from_str(&said).unwrap();
    let text = |key: &str| said[key].as_str().unwrap().to_owned();
    let name = Path::new(&text("work_dir")).file_name().unwrap().to_string_lossy().into_owned();
    (dev, text("master"), name)
}

#[test]
fn it_stays_up_until_it_is_asked_to_end() {
    let place = Place::new();
    let (dev, url, name) = up(&place, &["--agents", "3"]);
    let agents = place.run(&["agents", "--master", &url, "-o", "json"]).expect(0).json();
    assert_eq!(
        agents["agents"].as_array().unwrap().len(),
        3,
        "every agent is registered when it says that it is up"
    );
    let job = place.file("job.toml", ECHO);
    place.run(&["batch", "run", job.to_str().unwrap(), "--master", &url]).expect(0);
    let tasks = place.run(&["tasks", "--all", "--master", &url, "-o", "json"]).expect(0).json();
    let tasks = tasks["tasks"].as_array().unwrap().clone();
    assert_eq!(tasks.len(), 3);
    assert!(
        tasks.iter().all(|task| task["state"] == "finished" && task["status"]["container"]["exit_code"] == 0),
        "{tasks:#?}"
    );
    let id = tasks[0]["task_id"].as_str().unwrap();
    let wrote = place.run(&["logs", id, "--master", &url]).expect(0).stdout;
    assert!(["a\n", "b\n", "c\n"].contains(&wrote.as_str()), "{wrote}");
    assert_eq!(place.run(&["logs", id, "--master", &url, "-f", "--tail", "1"]).expect(0).stdout, wrote);
    assert_eq!(place.run(&["logs", id, "--master", &url, "--stderr"]).expect(0).stdout, "");
    dev.signal(Signal::INT);
    let ended = dev.end();
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    assert_clean(&place);
    assert_eq!(cgroups(&name), [""; 0]);
}

#[test]
fn a_task_can_be_killed_by_an_operator() {
    let place = Place::new();
    let (dev, url, _) = up(&place, &["--agents", "1"]);
    let job = place.file("job.toml", ENDLESS);
    let batch = place.start(&["batch", "run", job.to_str().unwrap(), "--master", &url, "-o", "json"]);
    let tasks = running(&place, &url, 2);
    for task in &tasks {
        place.run(&["kill", task, "--grace", "0s", "--master", &url]).expect(0);
    }
    let report = batch.end().expect(1).json();
    assert_eq!(report["outcome"], "failed", "{report:#}");
    dev.signal(Signal::TERM);
    dev.end().expect(0);
    assert_clean(&place);
}

/// The ids of tasks, when so many are running.
fn running(place: &Place, url: &str, wanted: usize) -> Vec<String> {
    until("the tasks are running", || {
        let tasks = place.run(&["tasks", "--master", url, "-o", "json"]).expect(0).json();
        let running = tasks["tasks"].as_array().unwrap().iter().filter(|task| task["state"] == "running");
        let ids: Vec<String> = running.map(|task| task["task_id"].as_str().unwrap().to_owned()).collect();
        (ids.len() == wanted).then_some(ids)
    })
}

#[test]
fn an_interrupt_goes_to_the_job_first() {
    let place = Place::new();
    let job = place.file("job.toml", ENDLESS);
    let dev = place.start(&["dev", "--run", job.to_str().unwrap(), "-o", "json"]);
    until("a task has written", || {
        let sandboxes = walk(&place.tmp()).into_iter().filter(|path| path.ends_with("stdout"));
        sandboxes.filter_map(|path| fs::read_to_string(path).ok()).find(|text| text == "here\n").map(drop)
    });
    dev.signal(Signal::INT);
    let ended = dev.end().expect(130);
    assert_eq!(ended.json()["outcome"], "interrupted");
    assert_clean(&place);
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(walk(&entry.path())),
            _ => found.push(entry.path()),
        }
    }
    found
}

#[test]
fn a_second_interrupt_waits_for_no_grace() {
    let place = Place::new();
    let stubborn = ENDLESS
        .replace("echo here", "trap '' TERM; echo here")
        .replace("[array]", "kill_grace = '1h'\n[array]");
    let job = place.file("job.toml", &stubborn);
    let mut dev = place.start(&["dev", "--run", job.to_str().unwrap(), "--log", "info"]);
    let serving = dev.error_with("serving local_addr=");
    let address = serving.split("local_addr=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap();
    // A task that is killed while it is launched gets no grace.
    running(&place, &format!("http://{address}"), 2);
    dev.signal(Signal::INT);
    dev.error_with("interrupted");
    // Signals that follow each other within 0.3 s are one wish. This is what is tested, not a wait for something.
    std::thread::sleep(Duration::from_millis(400));
    dev.signal(Signal::INT);
    dev.error_with("leaving at once");
    dev.end().expect(130);
    until("every process has ended", || processes(&place.tmp()).is_empty().then_some(()));
}

#[test]
fn nothing_runs_on_when_it_is_killed_and_the_next_one_cleans_up() {
    let place = Place::new();
    let (dev, url, name) = up(&place, &[]);
    let job = place.file("job.toml", ENDLESS);
    let batch = place.start(&["batch", "run", job.to_str().unwrap(), "--master", &url]);
    running(&place, &url, 2);
    let agents = place.run(&["agents", "--master", &url, "-o", "json"]).expect(0).json();
    let enforced = agents["agents"][0]["unenforced"].as_object().unwrap().is_empty();
    assert!(!enforced || !cgroups(&name).is_empty(), "limits are held by cgroups");
    drop(batch); // killed
    drop(dev); // killed
    until("every process has ended", || processes(&place.tmp()).is_empty().then_some(()));
    assert_eq!(fs::read_dir(place.tmp()).unwrap().count(), 1, "the folder of the killed one");
    let job = place.file("job.toml", ECHO);
    place.run(&["dev", "--run", job.to_str().unwrap()]).expect(0);
    assert_clean(&place);
    assert_eq!(cgroups(&name), [""; 0]);
}
