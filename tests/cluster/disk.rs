//! A task has the disk that it was accepted with, and no more.

use std::fs;

use serde_json::Value;

use super::{Cluster, is_root};
use crate::support::until;

/// Lets a task go on that waits for this file in its sandbox.
fn go(cluster: &Cluster, task: &Value) {
    let part = |field: &str| task[field].as_str().unwrap().to_owned();
    let task = cluster.work_dir("a").join("sandboxes").join(part("framework_id")).join(part("task_id"));
    fs::write(task.join("latest/go"), "").unwrap();
}

#[test]
fn a_task_over_its_disk_is_failed_and_neighbours_do_not_notice() {
    if !is_root("a_task_over_its_disk_is_failed") {
        return;
    }
    let settings = &["--disk-check-interval", "100ms"];
    let cluster = Cluster::start_with(&[("a", "cpus:4;mem:1GiB;disk:1GiB")], settings);
    let hog = cluster.submit(
        "hog",
        "name = 'hog'\n[task]\n\
         command = 'until [ -e go ]; do sleep 0.1; done; head -c 33554432 /dev/urandom > file; exec sleep 600'\n\
         cpus = 0.2\nmemory = '64MiB'\ndisk = '8MiB'\n",
        &[],
    );
    let neighbours = cluster.submit(
        "neighbour",
        "name = 'neighbour'\n[array]\nrange = [1, 4]\n[task]\n\
         command = 'head -c 4194304 /dev/urandom > file; until [ -e go ]; do sleep 0.1; done'\n\
         cpus = 0.2\nmemory = '64MiB'\ndisk = '8MiB'\n",
        &[],
    );
    let running = until("all run", || {
        let running = cluster.tasks("running");
        (running.len() == 5).then_some(running)
    });
    let (hogs, others): (Vec<Value>, Vec<Value>) =
        running.into_iter().partition(|task| task["task_id"] == "hog-0001");
    go(&cluster, &hogs[0]);

    let hog = hog.end().expect(1).json();
    assert_eq!(hog["tasks"][0]["why"], "over its 8 MiB of disk", "{hog:#}");
    let failed = cluster.tasks("failed");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    let status = &failed[0]["status"];
    assert_eq!(status["reason"], "container_limitation_disk", "{failed:#?}");
    assert_eq!(status["container"]["disk_limit_exceeded_bytes"], 8 << 20, "{failed:#?}");
    assert!(status["message"].as_str().unwrap().contains("8 MiB"), "{failed:#?}");

    assert_eq!(cluster.tasks("running").len(), 4);
    others.iter().for_each(|task| go(&cluster, task));
    let neighbours = neighbours.end().expect(0).json();
    assert_eq!(neighbours["outcome"], "succeeded", "{neighbours:#}");
}
