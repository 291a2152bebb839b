//! What tasks write, as it is read from elsewhere.

use std::{fs, path::PathBuf};

use rustix::process::Signal;

use super::{Cluster, is_root};
use crate::support::until;

const TASK: &str = "counting-0001";

fn sandbox(cluster: &Cluster) -> PathBuf {
    let frameworks = fs::read_dir(cluster.work_dir("a").join("sandboxes")).unwrap();
    frameworks
        .map(|framework| framework.unwrap().path().join(TASK).join("latest"))
        .find(|it| it.exists())
        .unwrap()
}

fn numbers(range: std::ops::RangeInclusive<u32>) -> String {
    range.map(|number| format!("{number}\n")).collect()
}

#[test]
fn a_log_is_followed_over_rotation_and_over_the_agents_restart() {
    if !is_root("a_log_is_followed_over_rotation_and_over_the_agents_restart") {
        return;
    }
    let resources = "cpus:2;mem:1GiB";
    let bounds = &["--log-max-bytes", "20000", "--log-files-max", "9"];
    let mut cluster = Cluster::start_with(&[("a", resources)], bounds);
    let job = "name = 'counting'\n[task]\ncommand = '''seq 1 10000; until [ -e go ]; do sleep 0.05; done
        seq 10001 20000; until [ -e end ]; do sleep 0.05; done; seq 20001 25000; echo over >&2'''
        cpus = 0.5\nmemory = '64MiB'\n";
    let job = cluster.submit("counting", job, &[]);
    until("the task runs", || (!cluster.tasks("running").is_empty()).then_some(()));
    let master = cluster.url.clone();
    let logs = ["logs", TASK, "--timeout", "60s", "--master", &master];
    let mut all = cluster.place.start(&[&logs[..], &["-f"]].concat());
    all.line_with("10000\n");
    let mut end = cluster.place.start(&[&logs[..], &["-f", "--tail", "5000"]].concat());
    assert_eq!(end.line_with("\n"), "5001\n", "from a file that is full already");
    let sandbox = sandbox(&cluster);
    assert!(sandbox.join("stdout.2").exists());

    // It writes on while there is no agent.
    let agent = cluster.agents.remove("a").unwrap();
    agent.signal(Signal::KILL);
    agent.end();
    fs::write(sandbox.join("go"), "").unwrap();
    let kept = || fs::read_to_string(sandbox.join("stdout")).is_ok_and(|text| text.ends_with("\n20000\n"));
    until("it has written on", || kept().then_some(()));
    cluster.start_agent("a", resources);
    all.line_with("20000\n");
    fs::write(sandbox.join("end"), "").unwrap();

    assert_eq!(all.end().expect(0).stdout, numbers(1..=25_000));
    assert_eq!(end.end().expect(0).stdout, numbers(5001..=25_000));
    job.end().expect(0);
    assert_eq!(cluster.stdout(TASK), numbers(1..=25_000));
    assert_eq!(cluster.place.run(&[&logs[..], &["--stderr"]].concat()).expect(0).stdout, "over\n");
    let largest = (0..10).filter_map(|number| fs::metadata(sandbox.join(format!("stdout.{number}"))).ok());
    assert!(largest.map(|found| found.len()).max().unwrap() <= 20_000);
}

#[test]
fn whoever_is_attached_hears_a_task_to_its_end() {
    if !is_root("whoever_is_attached_hears_a_task_to_its_end") {
        return;
    }
    let cluster = Cluster::start(&[("a", "cpus:2;mem:1GiB")]);
    let job =
        "name = 'counting'\n[task]\ncommand = '''echo before; until [ -e go ]; do echo tick; sleep 0.05; done
        echo out; echo err >&2; cat; exit 7'''\ncpus = 0.5\nmemory = '64MiB'\n";
    let job = cluster.submit("counting", job, &[]);
    until("the task writes", || {
        let running = !cluster.tasks("running").is_empty();
        (running && cluster.stdout(TASK).contains("tick")).then_some(())
    });
    let attach = || cluster.place.start(&["attach", TASK, "--master", &cluster.url]);
    let mut leaves = attach();
    leaves.line_with("tick");
    leaves.signal(Signal::INT);
    leaves.end().expect(130);
    let mut stays = attach();
    stays.line_with("tick");
    fs::write(sandbox(&cluster).join("go"), "").unwrap();
    let ended = stays.end().expect(7);
    assert!(!ended.stdout.contains("before") && ended.stdout.ends_with("tick\nout\n"), "{ended:?}");
    assert!(ended.stderr.starts_with("err\n") && ended.stderr.contains("failed"), "{ended:?}");
    job.end().expect(1);
    let ended = attach().end().expect(1);
    assert!(ended.stderr.contains("has ended") && ended.stderr.contains("apportion logs"), "{ended:?}");
}
