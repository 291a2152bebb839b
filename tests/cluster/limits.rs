//! What a task was accepted with is what it gets, and none harms its neighbours.

use super::{Cluster, is_root};

#[test]
fn memory_cpu_and_processes_are_limited_and_neighbours_do_not_notice() {
    if !is_root("memory_cpu_and_processes_are_limited") {
        return;
    }
    let cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    // Holds 128 MiB in the memory of one process: tail keeps what may be the last line.
    let hog = cluster.submit(
        "hog",
        "name = 'hog'\n[task]\ncommand = 'head -c 134217728 /dev/zero | tail'\ncpus = 0.5\nmemory = '64MiB'\n",
        &[],
    );
    // Measures by its own clock how long it had.
    let spin = cluster.submit(
        "spin",
        "name = 'spin'\n[task]\ncommand = 'exec timeout 3 sh -c \"while :; do :; done\"'\ncpus = 0.2\nmemory = '64MiB'\n",
        &[],
    );
    // Doubles until it may not, and would for ever.
    let bomb = cluster.submit(
        "bomb",
        "name = 'bomb'\n[task]\ncommand = '''\nbomb() { bomb | bomb & }\nbomb\nsleep 2\n'''\n\
         cpus = 0.2\nmemory = '256MiB'\npids_max = 16\ntimeout = '60s'\n",
        &[],
    );
    let neighbours = cluster.submit(
        "neighbour",
        "name = 'neighbour'\n[array]\nrange = [1, 8]\n[task]\ncommand = 'for i in 1 2 3 4 5; do /bin/true; sleep 0.2; done; echo fine'\n\
         cpus = 0.1\nmemory = '32MiB'\n",
        &[],
    );

    let hog = hog.end().expect(1).json();
    let ended = cluster.tasks("failed").into_iter().find(|task| task["task_id"] == "hog-0001").unwrap();
    assert_eq!(hog["tasks"][0]["memory_limit_exceeded_bytes"], 64 << 20, "{hog:#}");
    assert_eq!(hog["tasks"][0]["why"], "over its 64 MiB of memory", "{hog:#}");
    let status = &ended["status"];
    assert_eq!(status["reason"], "container_limitation_memory", "{hog:#}\n{ended:#}");
    assert_eq!(status["container"]["memory_limit_exceeded_bytes"], 64 << 20, "{ended:#}");
    let peak = status["container"]["memory_peak_bytes"].as_u64().unwrap();
    assert!((48 << 20..=80 << 20).contains(&peak), "peak {peak}");
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("64 MiB") && message.contains("most that it held"), "{message}");

    spin.end().expect(1);
    let spun = cluster.tasks("failed").into_iter().find(|task| task["task_id"] == "spin-0001").unwrap();
    let us = |field: &str| spun["status"]["container"][field].as_u64().unwrap();
    let (cpu, wall) = (us("cpu_us"), us("finished_at_us") - us("started_at_us"));
    assert!(wall >= 2_900_000, "it spun for {wall} µs only: {spun:#}");
    assert!(cpu * 100 <= wall * 25, "{cpu} µs of processor in {wall} µs");

    let neighbours = neighbours.end().expect(0).json();
    assert_eq!(neighbours["outcome"], "succeeded", "{neighbours:#}");
    // However it ended, it did, and not for want of trying.
    bomb.end();
    let said =
        cluster.place.run(&["logs", "bomb-0001", "--stderr", "--master", &cluster.url]).expect(0).stdout;
    assert!(said.to_lowercase().contains("fork"), "the shell should have said that it cannot fork: {said}");
}
