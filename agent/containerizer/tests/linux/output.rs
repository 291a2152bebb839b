//! What a task writes, kept within bounds by its runner.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
};

use apportion_containerizer::{ContainerSpec, Containerizer, ExecSpec, OutputBounds, Signal};
use apportion_types::container::Exit;

use crate::{
    Scenario,
    bench::{
        Bench,
        Mode::{Bare, Mapped, Oci, OldKernel, Root, User},
        block, mark, processes_with, until,
    },
    survival::{kill_agent, start_agent},
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let all = &[Root, OldKernel, User, Bare, Oci][..];
    let usual = &[Root, User, Bare, Oci][..];
    vec![
        Scenario { name: "output_is_bounded_at_full_speed", modes: all, run: full_speed },
        Scenario { name: "output_is_whole_while_there_is_room", modes: usual, run: whole },
        Scenario { name: "output_closed_or_handed_on", modes: usual, run: closed_or_handed_on },
        Scenario { name: "output_goes_on_without_the_agent", modes: usual, run: without_the_agent },
        Scenario {
            name: "output_opened_again_by_the_tasks_user",
            modes: &[Root, Mapped, Oci],
            run: opened_again,
        },
        Scenario { name: "output_in_the_way", modes: usual, run: in_the_way },
        Scenario { name: "runner_answers_while_output_floods", modes: usual, run: answers },
        Scenario { name: "runner_of_a_silent_task_sleeps", modes: usual, run: silent },
    ]
}

fn bounded(spec: ContainerSpec, bytes_max: u64, files_max: u32) -> ContainerSpec {
    ContainerSpec { output: Some(OutputBounds { bytes_max, files_max }), ..spec }
}

/// What is kept of an output, the oldest first.
fn kept(spec: &ContainerSpec, name: &str) -> Vec<Vec<u8>> {
    let path = |number| match number {
        0 => spec.sandbox.join(name),
        number => spec.sandbox.join(format!("{name}.{number}")),
    };
    let mut files: Vec<Vec<u8>> = (0..).map_while(|number| fs::read(path(number)).ok()).collect();
    files.reverse();
    files
}

fn full_speed(bench: &Bench) {
    let spec = bounded(bench.sh("seq 1 400000; seq 1 1000 >&2"), 10_000, 3);
    bench.launch(&spec);
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Code(0)));
    for (name, last) in [("stdout", 400_000), ("stderr", 1000)] {
        let files = kept(&spec, name);
        assert!(files.len() <= 4 && files.iter().all(|file| file.len() <= 10_000));
        let text = String::from_utf8(files.concat()).unwrap();
        let numbers: Vec<u32> = text.lines().skip(1).map(|line| line.parse().unwrap()).collect();
        assert_eq!(numbers.last(), Some(&last), "to the last line before its end");
        assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "nothing lost between");
    }
    assert!(kept(&spec, "stdout").concat().len() > 20_000);
}

fn whole(bench: &Bench) {
    let spec = bounded(bench.sh("seq 1 100000; echo err >&2"), 50_000, 100);
    bench.launch(&spec);
    bench.wait(&spec);
    let expected: String = (1..=100_000).map(|number| format!("{number}\n")).collect();
    let files = kept(&spec, "stdout");
    assert!(files.len() > 10);
    assert!(files.concat() == expected.as_bytes());
    assert_eq!(kept(&spec, "stderr"), [b"err\n"]);
}

fn closed_or_handed_on(bench: &Bench) {
    // The task has neither any more; a child of a child writes on.
    let script = "(sleep 0.2; echo late) & exec >&- 2>&-; wait; exit 4";
    let spec = bounded(bench.sh(script), 1000, 1);
    bench.launch(&spec);
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Code(4)));
    assert_eq!(kept(&spec, "stdout"), [b"late\n"]);
    // Nobody has any; the task goes on without.
    let spec = bounded(bench.sh("echo all; exec >&- 2>&-; echo >up; sleep 1000"), 1000, 1);
    bench.launch(&spec);
    bench.line(&spec, "up");
    block(bench.native.signal(&spec.id, Signal::Term)).unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Signal(15)));
    assert_eq!(kept(&spec, "stdout"), [b"all\n"]);
    // Writers that would outlive it end with it, and what they wrote before is there.
    let mark = mark();
    let script = format!(
        "(setsid sh -c 'echo here; echo >up; while :; do echo more; done' {mark} &) ; while ! [ -e up ]; do sleep 0.02; done"
    );
    let spec = bounded(bench.sh(&script), 4096, 2);
    bench.launch(&spec);
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Code(0)));
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
    assert!(kept(&spec, "stdout").concat().starts_with(b"here\n") || kept(&spec, "stdout").len() == 3);
}

fn without_the_agent(bench: &Bench) {
    let script =
        "trap 'echo broken; exit 9' PIPE; echo one; while ! [ -e go ]; do sleep 0.02; done; echo two; exit 0";
    let spec = bounded(bench.sh(script), 1000, 1);
    let agent = start_agent(bench, &[&spec]);
    bench.line(&spec, "stdout");
    kill_agent(agent);
    fs::write(spec.sandbox.join("go"), "").unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Code(0)));
    assert_eq!(kept(&spec, "stdout"), [b"one\ntwo\n"]);
}

fn opened_again(bench: &Bench) {
    let script =
        "echo direct; echo again >/dev/stdout; echo wrong >/dev/stderr; seq 1 100 >>/proc/self/fd/1; id -u";
    for user in ["65534:65534", "0"] {
        let mut spec = bounded(bench.sh(script), 100, 9);
        spec.user = Some(user.to_owned());
        bench.launch(&spec);
        assert_eq!(bench.wait(&spec).exit, Some(Exit::Code(0)));
        let text = String::from_utf8(kept(&spec, "stdout").concat()).unwrap();
        let uid = user.split(':').next().unwrap();
        assert!(
            text.starts_with("direct\nagain\n1\n2\n") && text.ends_with(&format!("99\n100\n{uid}\n")),
            "{text}"
        );
        assert_eq!(kept(&spec, "stderr"), [b"wrong\n"]);
        for name in ["stdout", "stdout.1", "stderr"] {
            let found = fs::metadata(spec.sandbox.join(name)).unwrap();
            assert_eq!((found.uid().to_string().as_str(), found.mode() & 0o777), (uid, 0o644), "{name}");
        }
    }
}

fn in_the_way(bench: &Bench) {
    let victim = bench.dir.join("victim");
    fs::write(&victim, "mine").unwrap();
    let script = format!(
        "ln -s '{}' stdout.1; mkdir -p stderr.1/full; rm stderr; ln -s '{}' stderr; seq 1 1000; seq 1 1000 >&2; exit 6",
        victim.display(),
        victim.display()
    );
    let spec = bounded(bench.sh(&script), 100, 1);
    bench.launch(&spec);
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Code(6)));
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
    assert!(kept(&spec, "stdout").concat().ends_with(b"999\n1000\n"));
    assert!(fs::read(spec.sandbox.join("stderr")).unwrap().ends_with(b"1000\n"));
    let log = fs::read_to_string(bench.config.state_dir.join(&spec.id.0).join("runner.log")).unwrap();
    assert_eq!(log.matches("stderr cannot be kept").count(), 20, "said, but not for ever: {log}");
    // Before it starts there must be nothing.
    let spec = bounded(bench.sh("exit 0"), 100, 2);
    symlink(&victim, spec.sandbox.join("stdout")).unwrap();
    assert!(block(bench.native.launch(spec)).unwrap_err().to_string().contains("stdout"));
}

fn answers(bench: &Bench) {
    let spec = bounded(bench.sh("trap '' TERM; while :; do cat /dev/zero; done"), 1 << 20, 1);
    bench.launch(&spec);
    until("it floods", || spec.sandbox.join("stdout.1").exists());
    for _ in 0..20 {
        bench.usage(&spec.id).unwrap();
    }
    // Before TERM, which process 1 passes on a moment later, to whatever is executed by then.
    let exec = ExecSpec { argv: vec!["true".into()], ..ExecSpec::default() };
    let finished =
        block(async { bench.native.exec(&spec.id, exec).await.unwrap().finish(10).await.unwrap() });
    assert_eq!(finished.exit, Exit::Code(0));
    block(bench.native.signal(&spec.id, Signal::Term)).unwrap();
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Signal(9)));
}

/// How often a process has been switched to, and what memory is its alone, in KiB.
fn cost(pid: i64) -> (u64, u64) {
    let value = |file: &str, name: &str| {
        let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap();
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(|rest| rest.split_whitespace().next().unwrap().parse::<u64>().unwrap()).sum()
    };
    (value("status", "voluntary_ctxt_switches:"), value("smaps_rollup", "Private_Dirty:"))
}

fn silent(bench: &Bench) {
    let script = "head -c 3000000 /dev/zero; echo >up; sleep 1000";
    let spec = bounded(bench.sh(script), 1 << 20, 5);
    bench.launch(&spec);
    bench.line(&spec, "up");
    let runner = bench.pids(&spec)["runner"]["pid"].as_i64().unwrap();
    until("all is kept", || kept(&spec, "stdout").concat().len() == 3_000_000);
    let mut before = cost(runner);
    until("it sleeps", || {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let now = cost(runner);
        std::mem::replace(&mut before, now).0 == now.0
    });
    assert!(before.1 < 1024, "{} KiB are its alone", before.1);
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    bench.wait(&spec);
}
