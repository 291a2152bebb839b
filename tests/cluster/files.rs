//! The files of tasks, what tasks use, and what agents keep, as people ask for them.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{PermissionsExt as _, symlink},
    },
    path::Path,
};

use super::{Cluster, is_root};
use crate::support::until;

const TASK: &str = "files-0001";

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn files_go_to_a_task_and_come_back() {
    if !is_root("files_go_to_a_task_and_come_back") {
        return;
    }
    let cluster = Cluster::start(&[("a", "cpus:2;mem:1GiB")]);
    let job = "name = 'files'\n[task]\ncommand = '''mkdir -p made/deep; echo hello > made/deep/file; chmod 750 made/deep/file
        ln -s /etc/passwd made/link; mkfifo made/pipe; echo odd > \"made/$(printf 'x\\\\377y')\"; echo up > up; sleep 1000'''\n\
        cpus = 0.5\nmemory = '64MiB'\n";
    let _job = cluster.submit("files", job, &[]);
    let ask = |args: &[&str]| cluster.place.run(&[args, &["--master", &cluster.url]].concat());
    until("the task has made its files", || ask(&["files", TASK, "up"]).status.success().then_some(()));

    let listed = ask(&["files", TASK, "made", "-o", "json"]).expect(0).json();
    let kinds: Vec<&str> =
        listed.as_array().unwrap().iter().map(|file| file["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["folder", "link", "special", "file"], "{listed:#}");
    let whole = ask(&["files", TASK]).expect(0).stdout;
    assert!(whole.contains("stdout") && whole.contains("made/"), "{whole}");
    let shown = ask(&["files", TASK, "made"]).expect(0).stdout;
    assert!(shown.contains("link -> /etc/passwd") && shown.contains("deep/"), "{shown}");

    // There and back, with modes.
    let here = cluster.place.path().join("here");
    fs::create_dir_all(here.join("tree/inner")).unwrap();
    fs::write(here.join("tree/run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(here.join("tree/run.sh"), fs::Permissions::from_mode(0o751)).unwrap();
    fs::write(here.join("tree/inner").join(OsStr::from_bytes(b"n\xff")), vec![b'x'; 300_000]).unwrap();
    symlink("/etc/passwd", here.join("tree/link")).unwrap();
    let refused = ask(&["cp", "here/tree", &format!("{TASK}:")]).expect(1).stderr;
    assert!(refused.contains("copy it with -r"), "{refused}");
    let copied = ask(&["cp", "-r", "here/tree", &format!("{TASK}:")]).expect(0);
    assert!(copied.stderr.contains("left out `here/tree/link`"), "{}", copied.stderr);
    let found = cluster.place.run(&[
        "exec",
        "--master",
        &cluster.url,
        TASK,
        "--",
        "sh",
        "-c",
        "stat -c '%a %U' tree/run.sh; ls tree | wc -l; cat tree/inner/* | wc -c",
    ]);
    assert_eq!(found.expect(0).stdout, "751 root\n2\n300000\n");
    ask(&["cp", "-r", &format!("{TASK}:tree"), "here/back"]).expect(0);
    assert_eq!(mode(&here.join("back/run.sh")), 0o751);
    assert_eq!(fs::read(here.join("back/inner").join(OsStr::from_bytes(b"n\xff"))).unwrap().len(), 300_000);

    // What a task has made of its own; its links lead nowhere.
    let copied = ask(&["cp", "-r", &format!("{TASK}:made"), "here"]).expect(0).stderr;
    assert!(copied.contains("made/link`") && copied.contains("made/pipe`"), "{copied}");
    assert_eq!(fs::read(here.join("made/deep/file")).unwrap(), b"hello\n");
    assert_eq!(mode(&here.join("made/deep/file")), 0o750);
    assert!(fs::symlink_metadata(here.join("made/link")).is_err());
    ask(&["cp", &format!("{TASK}:made/deep/file"), "here/single"]).expect(0);
    ask(&["cp", "here/single", &format!("{TASK}:made/deep/file")]).expect(0);
    for (from, to, said) in [
        (format!("{TASK}:made/link"), "here/x".to_owned(), "is a link to"),
        (format!("{TASK}:made/none"), "here/x".to_owned(), "made/none"),
        (format!("{TASK}:../x"), "here/x".to_owned(), "leaves the sandbox"),
        ("here/single".to_owned(), format!("{TASK}:made/link/x"), "symbolic link"),
        ("here/single".to_owned(), format!("{TASK}:none/x"), "none"),
        ("here/none".to_owned(), format!("{TASK}:x"), "here/none"),
    ] {
        let refused = ask(&["cp", &from, &to]).expect(1).stderr;
        assert!(refused.contains(said), "{from} to {to}: {refused}");
    }
    ask(&["cp", "here/a", "here/b"]).expect(2);
    let left = fs::read_dir(&here)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().starts_with('.'));
    assert_eq!(left.count(), 0, "nothing half");

    // What it uses.
    let top = ask(&["top", "--once", "--interval", "100ms", "-o", "json"]).expect(0).json();
    let task = &top[0];
    assert_eq!(task["task_id"], TASK, "{top:#}");
    assert!(task["cpus"].as_f64().is_some() && task["cpus_limit"] == 0.5, "{top:#}");
    assert!(task["memory_limit_bytes"] == 64 << 20, "{top:#}");
    if let Some(pids) = task["pids"].as_u64() {
        assert!((1..100).contains(&pids), "{top:#}");
    }
    assert!(ask(&["top", "--once", "--interval", "100ms", "--sort", "mem"]).expect(0).stdout.contains(TASK));

    // And what its agent keeps of images: none.
    assert!(ask(&["images"]).expect(0).stdout.contains("no images are kept"));
    assert_eq!(ask(&["images", "prune"]).expect(0).stdout, "freed 0B\n");
    for named in [&["images", "ls", "--agent", "none"][..], &["agents", "none"]] {
        let refused = ask(named).expect(1).stderr;
        assert!(refused.contains("no agent has the id or is on the host `none`"), "{refused}");
    }
    let agents = ask(&["agents", "-o", "json"]).expect(0).json();
    let agent = &agents["agents"][0];
    let (id, host) = (agent["agent_id"].as_str().unwrap(), agent["hostname"].as_str().unwrap());
    for name in [id, host] {
        assert_eq!(ask(&["agents", name, "-o", "json"]).expect(0).json()["agent_id"], id);
        ask(&["images", "ls", "--agent", name]).expect(0);
    }
}
