//! What outlives a master.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    etcd::Etcd,
    support::{Place, Running, port},
};

/// A master that keeps what it must in this folder, and its URL.
fn start(place: &Place, work_dir: &str) -> (Running, String) {
    let mut master =
        place.start(&["master", "--listen", "127.0.0.1:0", "--work-dir", work_dir, "--log", "info"]);
    let url = format!("http://127.0.0.1:{}", port(&master.error_with("serving")));
    (master, url)
}

fn kept(place: &Place, work_dir: &str) -> Value {
    place.run(&["registry", "inspect", "--work-dir", work_dir, "-o", "json"]).expect(0).json()
}

#[test]
fn what_is_set_for_roles_survives_the_master_and_its_machine() {
    let place = Place::new();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (work_dir, other, backup) = (path("master"), path("other"), path("backup"));
    let (mut first, url) = start(&place, &work_dir);
    place.run(&["roles", "set", "eng", "--weight", "3", "--limit", "cpus:8", "--master", &url]).expect(0);
    let refused = place.run(&["master", "--listen", "127.0.0.1:0", "--work-dir", &work_dir]).expect(1);
    assert!(refused.stderr.contains(&work_dir) && refused.stderr.contains("another"), "{}", refused.stderr);
    // Beside it.
    place.run(&["registry", "export", &backup, "--work-dir", &work_dir]).expect(0);
    first.kill();
    let contents = kept(&place, &work_dir);
    assert_eq!(contents["roles"][0]["role"], "eng", "{contents:#}");

    place.run(&["registry", "import", &backup, "--work-dir", &other]).expect(0);
    assert_eq!(kept(&place, &other), contents);
    let refused = place.run(&["registry", "import", &backup, "--work-dir", &other]).expect(1);
    assert!(refused.stderr.contains("not empty"), "{}", refused.stderr);
    for work_dir in [&work_dir, &other] {
        let (_master, url) = start(&place, work_dir);
        let roles = place.run(&["roles", "--master", &url, "-o", "json"]).expect(0).json();
        let eng = roles["roles"].as_array().unwrap().iter().find(|role| role["role"] == "eng").unwrap();
        assert_eq!((&eng["weight_milli"], &eng["limit"]["text"]), (&3000.into(), &"cpus:8".into()));
    }
}

#[test]
fn what_cannot_be_read_is_named_and_left_as_it_is() {
    let place = Place::new();
    let work_dir = place.path().join("master");
    let text = work_dir.to_str().unwrap();
    let refused = place.run(&["registry", "inspect", "--work-dir", text]).expect(1);
    assert!(refused.stderr.contains("there is no registry"), "{}", refused.stderr);
    fs::create_dir(&work_dir).unwrap();
    let (registry, backup) = (work_dir.join("registry"), place.path().join("good"));
    let backup = backup.to_str().unwrap();
    // What is to be imported is judged before anything is made.
    let new = place.path().join("new");
    let refused = place.run(&["registry", "import", backup, "--work-dir", new.to_str().unwrap()]).expect(1);
    assert!(refused.stderr.contains(backup) && !new.exists(), "{}", refused.stderr);
    drop(start(&place, text));
    place.run(&["registry", "export", backup, "--work-dir", text]).expect(0);
    fs::write(place.path().join("letter"), "a letter").unwrap();
    let letter = place.path().join("letter");
    let refused = place.run(&["registry", "export", letter.to_str().unwrap(), "--work-dir", text]).expect(1);
    assert!(refused.stderr.contains("something else than an export"), "{}", refused.stderr);
    assert_eq!(fs::read(&letter).unwrap(), b"a letter");
    fs::write(&registry, "nothing that a master wrote").unwrap();
    for command in [
        &["master", "--listen", "127.0.0.1:0"][..],
        &["registry", "inspect"],
        &["registry", "export", "backup"],
        &["registry", "import", backup],
    ] {
        let refused = place.run(&[command, &["--work-dir", text]].concat()).expect(1);
        assert!(
            refused.stderr.contains("damaged") && refused.stderr.contains("import"),
            "{}",
            refused.stderr
        );
        assert_eq!(fs::read(&registry).unwrap(), b"nothing that a master wrote");
    }
    assert!(!Path::exists(&place.path().join("backup")));
}

#[test]
fn a_backup_moves_a_registry_to_etcd_and_back() {
    let place = Place::new();
    let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
    let (work_dir, backup, again) = (path("master"), path("backup"), path("again"));
    let refused = place.run(&["registry", "inspect", "--etcd", "127.0.0.1:1"]).expect(1);
    assert!(refused.stderr.contains("does not answer at 127.0.0.1:1"), "{}", refused.stderr);
    for wrong in [
        &["--etcd", "nowhere"][..],
        &["--etcd", "a:1", "--work-dir", "b"],
        &["--work-dir", "b", "--cluster", "c"],
        &[],
    ] {
        place.run(&[&["registry", "inspect"], wrong].concat()).expect(2);
    }

    let Some(etcd) = Etcd::start("a registry that moves to etcd", 1, &[]) else { return };
    let etcd = etcd.endpoints();
    let refused = place.run(&["registry", "inspect", "--etcd", &etcd]).expect(1);
    assert!(refused.stderr.contains("no registry under /apportion/default/"), "{}", refused.stderr);
    let (mut master, url) = start(&place, &work_dir);
    place.run(&["roles", "set", "eng", "--weight", "3", "--master", &url]).expect(0);
    master.kill();
    place.run(&["registry", "export", &backup, "--work-dir", &work_dir]).expect(0);
    place.run(&["registry", "import", &backup, "--etcd", &etcd, "--cluster", "moved"]).expect(0);
    let refused =
        place.run(&["registry", "import", &backup, "--etcd", &etcd, "--cluster", "moved"]).expect(1);
    assert!(refused.stderr.contains("not empty") && refused.stderr.contains("moved"), "{}", refused.stderr);
    let moved = place.run(&["registry", "inspect", "--etcd", &etcd, "--cluster", "moved", "-o", "json"]);
    assert_eq!(moved.expect(0).json(), kept(&place, &work_dir));
    place.run(&["registry", "export", &again, "--etcd", &etcd, "--cluster", "moved"]).expect(0);
    assert_eq!(fs::read(&again).unwrap(), fs::read(&backup).unwrap());
}
