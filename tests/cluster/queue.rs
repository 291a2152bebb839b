//! Jobs of several users in one queue, which outlives whoever serves it.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use rustix::process::Signal;
use serde_json::Value;

use super::Cluster;
use crate::support::{Ended, Running, full_pipe, until};

/// The first two end by themselves, the others when a file appears in their sandbox, which only the test makes.
const JOB: &str = "name = 'NAME'\noutput = 'out'\n[array]\nrange = [1, 6]\n[task]\n\
    command = 'if [ ${index} -gt 2 ]; then until [ -e go ]; do sleep 0.05; done; fi; \
    echo NAME ${index}; echo kept > kept.txt'\n\
    collect = ['kept.txt']\ncpus = 0.1\nmemory = '16MiB'\n";

struct Queue<'a> {
    cluster: &'a Cluster,
    state: String,
}

impl<'a> Queue<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        let place = cluster.place.path();
        Self { cluster, state: place.join("state").to_str().unwrap().to_owned() }
    }

    /// Serves it; gives how it says that it does.
    fn serve(&self, more: &[&str]) -> (Running, String) {
        let mut args = vec!["batch", "serve", "--state", &self.state, "--master", &self.cluster.url];
        args.extend(more);
        let mut serving = self.cluster.place.start(&args);
        let line = serving.line_with("serving");
        (serving, line)
    }

    fn ask(&self, args: &[&str]) -> Ended {
        let mut all = vec!["batch"];
        all.extend(args);
        all.extend(["--state", &self.state]);
        self.cluster.place.run(&all)
    }

    fn json(&self, args: &[&str]) -> Value {
        let mut all = args.to_vec();
        all.extend(["-o", "json"]);
        self.ask(&all).expect(0).json()
    }

    fn file(&self, name: &str) -> String {
        let text = JOB.replace("NAME", name).replace("'out'", &format!("'out-{name}'"));
        self.cluster.place.file(&format!("{name}.toml"), &text).to_str().unwrap().to_owned()
    }

    fn submit(&self, name: &str, user: &str) -> u64 {
        let file = self.file(name);
        self.json(&["submit", &file, "--user", user])["job"].as_u64().unwrap()
    }

    fn counts(&self, job: u64) -> Value {
        self.json(&["show", &job.to_string()])["tasks"].clone()
    }

    /// The attempts that the agent ever began, by their ids: each has a sandbox of its own.
    fn begun(&self) -> Vec<String> {
        let sandboxes = self.cluster.sandboxes("a").into_iter();
        let name = |latest: std::path::PathBuf| {
            latest.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned()
        };
        let mut ids: Vec<_> = sandboxes.map(name).collect();
        ids.sort();
        ids
    }

    fn let_go(&self) {
        for sandbox in self.cluster.sandboxes("a") {
            fs::write(sandbox.join("go"), "").unwrap();
        }
    }
}

#[test]
fn a_queue_that_is_killed_midway_goes_on_and_nothing_runs_twice() {
    let cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    let queue = Queue::of(&cluster);
    let nobody = queue.ask(&["ls"]).expect(1);
    assert!(nobody.stderr.contains("begin one with `apportion batch serve`"), "{}", nobody.stderr);

    let (serving, _) = queue.serve(&[]);
    let (ann, bob) = (queue.submit("ann-job", "ann"), queue.submit("bob-job", "bob"));
    assert_eq!((ann, bob), (1, 2));
    let file = queue.file("late-job");
    let wait = ["batch", "submit", &file, "--wait", "--user", "ann", "--state", &queue.state, "-o", "json"];
    until("two of each have ended, the others run", || {
        let midway = |job| {
            let counts = queue.counts(job);
            counts["succeeded"] == 2 && counts["active"] == 4
        };
        (midway(ann) && midway(bob)).then_some(())
    });
    let overview = queue.json(&["ls"]);
    let users: Vec<_> =
        overview["users"].as_array().unwrap().iter().map(|user| user["user"].as_str().unwrap()).collect();
    assert_eq!(users, ["ann", "bob"], "{overview:#}");

    serving.signal(Signal::KILL);
    serving.end();
    // Of one job what runs ends while nobody listens.
    for sandbox in cluster.sandboxes("a").iter().filter(|sandbox| sandbox.to_str().unwrap().contains("/1.")) {
        fs::write(sandbox.join("go"), "").unwrap();
    }
    until("they have ended", || (cluster.tasks("running").len() == 4).then_some(()));

    let (mut serving, _) = queue.serve(&["-o", "json"]);
    let waited = cluster.place.start(&wait);
    until("a third job runs too", || {
        (queue.begun().len() == 18 && cluster.tasks("running").len() == 8).then_some(())
    });
    queue.let_go();
    let summary = waited.end().expect(0).json();
    assert_eq!(summary["totals"]["succeeded"], 6, "{summary:#}");
    for job in [ann, bob] {
        until("the jobs have ended", || {
            (queue.json(&["show", &job.to_string()])["state"] == "succeeded").then_some(())
        });
    }
    let ids = |job: &'static str| (1..=6).map(move |index| format!("{job}-{index:04}"));
    let all: Vec<_> = ids("1.ann-job").chain(ids("2.bob-job")).chain(ids("3.late-job")).collect();
    assert_eq!(queue.begun(), all, "nothing that had ended or ran was run again");
    for name in ["ann-job", "bob-job", "late-job"] {
        for index in 1..=6 {
            let out = cluster.place.path().join(format!("out-{name}/{name}-{index:04}"));
            assert_eq!(
                fs::read_to_string(out.with_extension("stdout")).unwrap(),
                format!("{name} {index}\n")
            );
            assert_eq!(fs::read_to_string(out.join("kept.txt")).unwrap(), "kept\n");
        }
    }
    let logs = queue.ask(&["logs", "2", "bob-job-0003"]).expect(0);
    assert_eq!(logs.stdout, "bob-job 3\n");
    let line = queue.json(&["logs", "2", "bob-job-0003"]);
    assert_eq!(
        (line["task_id"].as_str(), line["text"].as_str()),
        (Some("2.bob-job-0003"), Some("bob-job 3"))
    );
    let ended: Value = serde_json::from_str(&serving.line_with("\"ended\"")).unwrap();
    assert_eq!(ended["outcome"], "succeeded", "{ended}");
    serving.signal(Signal::TERM);
    serving.end().expect(0);
}

#[test]
fn what_is_cancelled_ends_and_what_failed_runs_again() {
    let cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    let queue = Queue::of(&cluster);
    let (serving, said) = queue.serve(&["--http", "127.0.0.1:0", "-o", "json"]);
    let said: Value = serde_json::from_str(&said).unwrap();
    let http = said["http"].as_str().unwrap();
    let hopeless = cluster.place.file(
        "hopeless.toml",
        "name = 'hopeless'\n[stage.ranks]\ngang = true\ncommand = 'true'\ncpus = 3\narray = { range = [1, 3] }\n",
    );
    let file = hopeless.to_str().unwrap();
    let ended = queue.ask(&["submit", file, "--wait"]).expect(1);
    assert!(ended.stdout.contains("a gang of 3 tasks is larger than the only agent"), "{}", ended.stdout);

    let job = queue.submit("slow", "ann");
    until("four of them run", || (queue.counts(job)["active"] == 4).then_some(()));
    let id = job.to_string();
    queue.ask(&["cancel", &id]).expect(0);
    until("it is over", || (queue.json(&["show", &id])["state"] == "cancelled").then_some(()));
    assert!(cluster.tasks("running").is_empty());
    let again = queue.ask(&["cancel", &id]).expect(1);
    assert!(again.stderr.contains("job 2 has ended (cancelled)"), "{}", again.stderr);
    let unknown = queue.ask(&["show", "77"]).expect(1);
    assert!(unknown.stderr.contains("there is no job 77"), "{}", unknown.stderr);

    queue.ask(&["retry", &id]).expect(0);
    until("what did not succeed runs again", || (cluster.tasks("running").len() == 4).then_some(()));
    queue.let_go();
    until("it is over", || (queue.json(&["show", &id])["state"] == "succeeded").then_some(()));
    let again: Vec<_> = queue.begun().into_iter().filter(|id| id.ends_with(".r2")).collect();
    let expected: Vec<_> = (3..=6).map(|index| format!("2.slow-{index:04}.r2")).collect();
    assert_eq!(again, expected);
    let picture = cluster.place.path().join("slow.svg");
    queue.ask(&["show", &id, "--timeline", picture.to_str().unwrap()]).expect(0);
    assert!(fs::read_to_string(picture).unwrap().contains("</svg>"));

    // What anybody may see who reaches the address; orders are not taken there.
    let metrics = get(http, "GET", "/metrics");
    assert!(metrics.contains("apportion_batch_jobs{user=\"ann\",state=\"succeeded\"} 1\n"), "{metrics}");
    assert!(
        metrics.contains("apportion_batch_job_waiting_time_seconds_count{user=\"ann\"} 1\n"),
        "{metrics}"
    );
    assert!(get(http, "GET", "/v1/queue").contains("\"dominant_share\""));
    assert!(get(http, "POST", "/v1/jobs/2/retry").starts_with("HTTP/1.1 404"), "orders need the socket");
    serving.signal(Signal::TERM);
    serving.end().expect(0);
}

/// Whoever reads its events may have scrolled back in a pager.
#[test]
fn events_that_nobody_reads_hold_up_nothing() {
    let cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    let queue = Queue::of(&cluster);
    let (_unread, full) = full_pipe();
    let serve = ["batch", "serve", "--state", &queue.state, "--master", &cluster.url];
    let mut command = cluster.place.command(&serve);
    command.stdout(full);
    let serving = Running::start(command);
    until("orders are taken", || (queue.ask(&["ls"]).code() == Some(0)).then_some(()));
    let file = cluster.place.file("quick.toml", "name = 'quick'\n[task]\ncommand = 'true'\n");
    queue.ask(&["submit", file.to_str().unwrap(), "--wait"]).expect(0);
    serving.signal(Signal::TERM);
    serving.end().expect(0);
}

#[test]
fn a_queue_whose_state_is_removed_says_so_at_once() {
    let cluster = Cluster::start(&[("a", "cpus:4;mem:2GiB")]);
    let queue = Queue::of(&cluster);
    let (mut serving, _) = queue.serve(&[]);
    serving.line_with("subscribed");
    let aside = format!("{}.aside", queue.state);
    fs::rename(&queue.state, &aside).unwrap();
    let said = serving.error_with("was removed or replaced while this runs");
    let framework = cluster.ask(&["frameworks"])["frameworks"][0]["framework_id"].clone();
    let remedy = format!("`apportion teardown {}`", framework.as_str().unwrap());
    assert!(said.contains(&remedy), "{said}");
    fs::rename(&aside, &queue.state).unwrap();
    serving.error_with("is there again");
    queue.ask(&["ls"]).expect(0);
    fs::remove_dir_all(&queue.state).unwrap();
    serving.error_with("was removed or replaced while this runs");
    serving.signal(Signal::TERM);
    let ended = serving.end().expect(1);
    assert!(
        ended.stderr.contains("is gone, so that nobody can go on") && ended.stderr.contains(&remedy),
        "{ended:?}"
    );
}

/// An answer, with its head.
fn get(address: &str, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
