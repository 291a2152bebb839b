//! Tasks whose root is an image, and tasks that bring files with them.

#[path = "../../agent/content/tests/support/layout.rs"]
#[allow(dead_code, unreachable_pub, reason = "other programs of tests use the rest of it")]
mod layout;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use apportion_content::Digest;
use rustix::process::Signal;
use serde_json::{Value, json};

use self::layout::{Item, Layer, Layout, tar};
use super::{Cluster, is_root, traces};
use crate::support::{Running, until};

const AGENT: (&str, &str) = ("a", "cpus:4;mem:2GiB");

/// What an image does without being told: it waits until the test makes a file in its sandbox, and says what it saw.
const RUN: &str = r#"
echo "arguments $*"
echo "user $(id -u):$(id -g)"
echo "variables $LEVEL $COLOUR"
echo "place $(pwd)"
echo "sandbox $APPORTION_SANDBOX"
echo "root" $(ls /)
echo changed > /data/$APPORTION_TASK_ID || exit 3
echo kept > $APPORTION_SANDBOX/kept || exit 4
until [ -e $APPORTION_SANDBOX/go ]; do sleep 0.05; done
echo "data" $(ls /data) / $(cat /data/$APPORTION_TASK_ID)
"#;

/// The static busybox of Debian, with what the scripts here call. None, with a message, where it is not installed.
fn busybox(test: &str) -> Option<Layer> {
    let Ok(program) = fs::read("/bin/busybox") else {
        let strict = std::env::var_os("APPORTION_NO_SKIP").is_some_and(|value| value != "0");
        assert!(!strict, "{test} needs the package busybox-static, and APPORTION_NO_SKIP is set");
        eprintln!("skipped: {test} needs the package busybox-static");
        return None;
    };
    let mut entries = vec![
        ("bin", Item::Folder),
        ("bin/busybox", Item::Executable(&program)),
        ("etc", Item::Folder),
        ("etc/passwd", Item::File("root:x:0:0::/root:/bin/sh\nweb:x:33:34::/:/bin/sh\n")),
        ("etc/group", Item::File("root:x:0:\nwww:x:34:\n")),
        ("data", Item::Shared),
        ("srv", Item::Folder),
    ];
    entries.extend(
        ["bin/cat", "bin/id", "bin/ls", "bin/sh", "bin/sleep"].map(|name| (name, Item::Link("busybox"))),
    );
    Some(Layer::gzip(&tar(&entries)))
}

/// One file over the busybox.
fn file(name: &str, text: &str) -> Layer {
    Layer::gzip(&tar(&[(name, Item::File(text))]))
}

/// The sandboxes of the newest runs of all tasks, by their ids.
fn sandboxes(cluster: &Cluster) -> BTreeMap<String, PathBuf> {
    let frameworks = fs::read_dir(cluster.work_dir(AGENT.0).join("sandboxes")).unwrap();
    let tasks = frameworks.flat_map(|framework| fs::read_dir(framework.unwrap().path()).unwrap());
    let sandbox =
        |task: fs::DirEntry| (task.file_name().to_string_lossy().into_owned(), task.path().join("latest"));
    tasks.map(|task| sandbox(task.unwrap())).collect()
}

/// Everything below a folder: kind and rights, size, and when it was changed.
fn everything(folder: &Path, into: &mut BTreeMap<PathBuf, (u32, u64, i64, i64)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let noted = (metadata.mode(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
        if metadata.is_dir() {
            everything(&path, into);
        }
        into.insert(path, noted);
    }
}

/// The contents of all unpacked layers.
fn layers(cluster: &Cluster) -> BTreeMap<PathBuf, (u32, u64, i64, i64)> {
    let mut all = BTreeMap::new();
    for layer in fs::read_dir(cluster.work_dir(AGENT.0).join("images/layers")).unwrap() {
        everything(&layer.unwrap().path().join("fs"), &mut all);
    }
    all
}

/// Where an unpacked layer is.
fn unpacked(cluster: &Cluster, layer: &Layer) -> PathBuf {
    cluster.work_dir(AGENT.0).join("images/layers").join(layer.diff_id.hex())
}

/// The status of the one task that failed.
fn failure(cluster: &Cluster) -> Value {
    until("a task has failed", || cluster.tasks("failed").pop())["status"].take()
}

/// A job of `tasks` with this image and, if there is one, this command.
fn job(name: &str, layout: &Layout, tag: &str, tasks: usize, command: Option<&str>) -> String {
    let command = command.map_or_else(String::new, |command| format!("command = '{command}'\n"));
    format!(
        "name = '{name}'\n[array]\nrange = [1, {tasks}]\n[task]\n{command}image = 'oci:{}:{tag}'\n\
         env = {{ COLOUR = 'of the task' }}\ncpus = 0.1\nmemory = '32MiB'\n",
        layout.path.display()
    )
}

#[test]
fn tasks_run_in_their_image_side_by_side_and_leave_it_as_it_was() {
    let test = "tasks_run_in_their_image_side_by_side_and_leave_it_as_it_was";
    let (true, Some(busybox)) = (is_root(test), busybox(test)) else { return };
    let cluster = Cluster::start(&[AGENT]);
    let mut layout = Layout::new(&cluster.place.path().join("layout"));
    let config = json!({
        "Entrypoint": ["/bin/sh", "/srv/run"], "Cmd": ["one", "two"], "User": "web", "WorkingDir": "/srv",
        "Env": ["PATH=/bin", "LEVEL=of the image", "COLOUR=of the image"],
    });
    layout.image("app", &[busybox, file("srv/run", RUN)], config);
    let running = cluster.submit("app", &job("app", &layout, "app", 2, None), &[]);
    let sandboxes = until("both have written what is kept", || {
        let sandboxes = (cluster.tasks("running").len() == 2).then(|| sandboxes(&cluster))?;
        sandboxes.values().all(|sandbox| sandbox.join("kept").exists()).then_some(sandboxes)
    });
    let before = layers(&cluster);
    let ask = |args: &[&str]| cluster.place.run(&[args, &["--master", &cluster.url]].concat()).expect(0);
    let prune = || ask(&["images", "prune", "-o", "json"]).json()["freed_bytes"].as_u64().unwrap();
    let kept = ask(&["images", "-o", "json"]).json();
    assert!(kept["images"][0]["in_use"] == true && kept["total_bytes"].as_u64() > Some(0), "{kept:#}");
    prune();
    assert_eq!(layers(&cluster), before, "what is used stays");
    // What comes from elsewhere belongs to the image's user too.
    cluster.place.file("brought", "brought");
    ask(&["cp", "brought", "app-0001:brought"]);
    let brought = fs::metadata(sandboxes["app-0001"].join("brought")).unwrap();
    assert_eq!((brought.uid(), brought.gid()), (33, 34));
    for sandbox in sandboxes.values() {
        assert_eq!(fs::read_to_string(sandbox.join("kept")).unwrap(), "kept\n");
        fs::write(sandbox.join("go"), "").unwrap();
    }
    let summary = running.end().expect(0).json();
    assert_eq!(summary["totals"]["succeeded"], 2, "{summary:#}");
    assert_eq!(sandboxes.len(), 2, "{sandboxes:?}");
    for task in sandboxes.keys() {
        let expected = format!(
            "arguments one two\nuser 33:34\nvariables of the image of the task\nplace /srv\n\
             sandbox /mnt/apportion/sandbox\nroot bin data dev etc mnt proc srv sys tmp\ndata {task} / changed\n"
        );
        assert_eq!(cluster.stdout(task), expected);
    }
    assert!(before.keys().any(|path| path.ends_with("fs/srv/run")), "{before:?}");
    assert_eq!(layers(&cluster), before);
    until("no container uses the image any more", || (prune() > 0).then_some(()));
    assert!(layers(&cluster).is_empty() && ask(&["images"]).stdout.contains("no images are kept"));
    traces::expect_none(cluster);
}

#[test]
fn an_image_that_is_not_there_fails_its_task_and_is_named() {
    let test = "an_image_that_is_not_there_fails_its_task_and_is_named";
    if !is_root(test) {
        return;
    }
    let cluster = Cluster::start(&[AGENT]);
    let mut layout = Layout::new(&cluster.place.path().join("layout"));
    layout.image("other", &[file("file", "")], json!({}));
    cluster.submit("app", &job("app", &layout, "wanted", 1, Some("true")), &[]).end().expect(1);
    let status = failure(&cluster);
    let message = status["message"].as_str().unwrap();
    assert_eq!(status["reason"], "image_not_available", "{status:#}");
    for text in [&*format!("oci:{}:wanted", layout.path.display()), "there are: other"] {
        assert!(message.contains(text), "{text} is not in {message}");
    }
    traces::expect_none(cluster);
}

#[test]
fn a_task_that_outlives_its_agent_keeps_its_image() {
    let test = "a_task_that_outlives_its_agent_keeps_its_image";
    let (true, Some(busybox)) = (is_root(test), busybox(test)) else { return };
    let mut cluster = Cluster::start(&[AGENT]);
    let mut layout = Layout::new(&cluster.place.path().join("layout"));
    let own: Vec<Layer> =
        ["held", "second", "third"].map(|name| file(&format!("srv/{name}"), name)).into_iter().collect();
    for (name, own) in ["held", "second", "third"].into_iter().zip(&own) {
        layout.image(name, &[busybox.clone(), own.clone()], json!({ "Env": ["PATH=/bin"] }));
    }
    let command = "until [ -e go ]; do sleep 0.05; done; cat /srv/held";
    let held = cluster.submit("held", &job("held", &layout, "held", 1, Some(command)), &[]);
    until("it runs", || (cluster.tasks("running").len() == 1).then_some(()));

    let agent = cluster.agents.remove(AGENT.0).unwrap();
    agent.signal(Signal::KILL);
    agent.end();
    // Less than the busybox alone: whatever is pulled has all deleted that is not in use.
    cluster.settings = &["--image-cache-max", "1MiB"];
    cluster.start_agent(AGENT.0, AGENT.1);
    let run = |name: &str| {
        let summary = cluster.submit(name, &job(name, &layout, name, 1, Some("true")), &[]).end();
        assert_eq!(summary.expect(0).json()["totals"]["succeeded"], 1);
    };
    run("second");
    run("third");
    until("what nobody uses is deleted", || (!unpacked(&cluster, &own[1]).exists()).then_some(()));
    assert!(unpacked(&cluster, &own[0]).exists() && unpacked(&cluster, &busybox).exists());
    fs::write(sandboxes(&cluster)["held-0001"].join("go"), "").unwrap();
    held.end().expect(0);
    assert_eq!(cluster.stdout("held-0001"), "held");

    // Let go of with its task.
    until("it is not in use", || {
        let leases = fs::read_dir(cluster.work_dir(AGENT.0).join("images/leases")).unwrap();
        (leases.count() == 0).then_some(())
    });
    run("second");
    until("it is deleted with the others", || (!unpacked(&cluster, &own[0]).exists()).then_some(()));
    traces::expect_none(cluster);
}

#[test]
fn an_artifact_is_checked_before_the_task_that_brings_it_starts() {
    let cluster = Cluster::start(&[AGENT]);
    let tool = "#!/bin/sh\necho it works\nexec sleep 3600\n";
    let source = cluster.place.file("tool", tool);
    let describe = |name: &str, sha256: &str| {
        let text = format!(
            "name = '{name}'\ncommand = ['./bin/tool']\ncpus = 0.1\nmemory = '32MiB'\nartifacts = [{{ \
             uri = 'file://{}', sha256 = '{sha256}', path = 'bin/tool', executable = true }}]\n\
             [restart]\nmin = '1h'\nmax = '1h'\n",
            source.display()
        );
        cluster.place.file(&format!("{name}.toml"), &text);
    };
    let run = |name: &str, more: &[&str]| {
        let (spec, state) = (format!("{name}.toml"), format!("{name}.state"));
        let args = ["service", "run", &spec, "--state", &state, "--master", &cluster.url, "-o", "json"];
        cluster.place.start(&[&args, more].concat())
    };
    let stop = |name: &str, scheduler: Running| {
        scheduler.signal(Signal::INT);
        scheduler.end();
        run(name, &["--stop"]).end().expect(0);
    };
    let (right, wrong) = (Digest::of(tool.as_bytes()).hex(), Digest::of(b"another tool").hex());

    describe("good", &right);
    let mut scheduler = run("good", &[]);
    scheduler.line_with("\"running\"");
    until("the tool has said so", || (cluster.stdout("good.0.1") == "it works\n").then_some(()));
    stop("good", scheduler);

    describe("bad", &wrong);
    let mut scheduler = run("bad", &[]);
    let ended = scheduler.line_with("\"ended\"");
    assert!(ended.contains(&wrong), "{ended}");
    let status = failure(&cluster);
    let message = status["message"].as_str().unwrap();
    assert_eq!(status["reason"], "artifact_not_fetched", "{status:#}");
    for text in [&*source.to_string_lossy(), &wrong, &right] {
        assert!(message.contains(text), "{text} is not in {message}");
    }
    stop("bad", scheduler);
    traces::expect_none(cluster);
}
