//! One more command in a container.

use std::{collections::BTreeMap, fs};

use apportion_containerizer::{
    ContainerId, ContainerSpec, Containerizer, Exec, ExecError, ExecSpec, Finished, Native, Signal,
    TerminalSize,
};
use apportion_types::container::Exit;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    Scenario,
    bench::{
        Bench,
        Mode::{Bare, Mapped, Oci, OldKernel, Root, User},
        block, mark, processes_with, until,
    },
    survival::{kill_agent, start_agent_that_executes},
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    let all = &[Root, Mapped, OldKernel, User, Bare][..];
    vec![
        Scenario { name: "exec_input_output_and_exit", modes: all, run: input_output_and_exit },
        Scenario { name: "exec_is_where_the_task_is", modes: all, run: where_the_task_is },
        Scenario { name: "exec_with_more", modes: &[Root, Mapped, User, Bare, Oci], run: with_more },
        Scenario { name: "exec_on_a_terminal", modes: all, run: on_a_terminal },
        Scenario { name: "exec_dropped", modes: &[Root, Mapped, User, Bare, Oci], run: dropped },
        Scenario {
            name: "exec_leaves_nothing",
            modes: &[Root, Mapped, User, Bare, Oci],
            run: leaves_nothing,
        },
        Scenario {
            name: "exec_ends_with_the_container",
            modes: &[Root, Mapped, User, Bare, Oci],
            run: ends_with_it,
        },
        Scenario {
            name: "exec_ends_with_the_agent",
            modes: &[Root, Mapped, User, Bare, Oci],
            run: ends_with_the_agent,
        },
        Scenario {
            name: "exec_by_a_later_agent",
            modes: &[Root, Mapped, User, Bare, Oci],
            run: by_a_later_agent,
        },
        Scenario { name: "exec_refused", modes: &[Root, Mapped, User, Bare, Oci], run: refused },
        Scenario {
            name: "exec_is_held_to_the_tasks_limits",
            modes: &[Root, Mapped, Oci],
            run: held_to_limits,
        },
        Scenario { name: "exec_much_at_once", modes: &[Root, Mapped, Bare, Oci], run: much_at_once },
    ]
}

fn sh(script: &str) -> ExecSpec {
    ExecSpec { argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(), ..ExecSpec::default() }
}

fn exec(bench: &Bench, task: &ContainerSpec, spec: ExecSpec) -> Exec {
    block(bench.native.exec(&task.id, spec)).unwrap()
}

fn finish(bench: &Bench, task: &ContainerSpec, spec: ExecSpec) -> Finished {
    block(exec(bench, task, spec).finish(1 << 20)).unwrap()
}

/// A task that stays.
fn sleeper(bench: &Bench) -> ContainerSpec {
    let spec = bench.spec(&["sleep", "1000"]);
    bench.launch(&spec);
    spec
}

fn end(bench: &Bench, task: &ContainerSpec) {
    block(bench.native.signal(&task.id, Signal::Kill)).unwrap();
    bench.wait(task);
}

fn runs(bench: &Bench, task: &ContainerSpec) -> bool {
    let pid = bench.pids(task)["task"]["pid"].as_i64().unwrap();
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn input_output_and_exit(bench: &Bench) {
    let task = sleeper(bench);
    let Exec { mut input, mut output, errors, mut process } =
        exec(bench, &task, sh("cat; echo err >&2; exit 3"));
    block(async {
        input.write_all(b"one two").await.unwrap();
        drop(input);
        let (mut out, mut err) = (String::new(), String::new());
        output.read_to_string(&mut out).await.unwrap();
        errors.unwrap().read_to_string(&mut err).await.unwrap();
        assert_eq!((out.as_str(), err.as_str()), ("one two", "err\n"));
        assert_eq!(process.wait().await, Exit::Code(3));
        assert_eq!(process.wait().await, Exit::Code(3), "said again");
    });
    assert_eq!(finish(bench, &task, sh("kill -TERM $$")).exit, Exit::Signal(15));
    assert_eq!(fs::read(task.sandbox.join("stdout")).unwrap(), b"", "nothing of it is the task's output");
    end(bench, &task);
}

/// What a process can find out about where it is and what it may do.
const FACTS: &str = r"readlink /proc/self/ns/*
    sort /proc/self/cgroup
    grep -E '^(Uid|Gid|Groups|NoNewPrivs|Cap|Seccomp|Sig(Blk|Ign|Cgt)|Cpus_allowed_list)' /proc/$$/status
    cat /proc/self/limits /proc/self/mountinfo
    cat /proc/self/oom_score_adj; umask; pwd; hostname; env | sort; ls /proc/$$/fd";

fn where_the_task_is(bench: &Bench) {
    let mut task =
        bench.sh(&format!("({FACTS}) >facts.part 2>&1; mv facts.part facts; echo up >up; sleep 1000"));
    task.env.insert("COLOUR".into(), "green and blue".into());
    bench.launch(&task);
    bench.line(&task, "up");
    let task_sees = fs::read_to_string(task.sandbox.join("facts")).unwrap();
    let finished = finish(bench, &task, sh(&format!("({FACTS}) 2>&1")));
    assert!(task_sees.lines().count() > 40, "{task_sees}");
    // The shell of the one was started by the agent's environment, that of the other by the same.
    for (one, other) in task_sees.lines().zip(text(&finished.output).lines()) {
        assert_eq!(one, other);
    }
    assert_eq!(task_sees, text(&finished.output));
    end(bench, &task);
}

fn with_more(bench: &Bench) {
    let mut task = bench.spec(&["sleep", "1000"]);
    task.env.insert("A".into(), "task".into());
    task.env.insert("B".into(), "task".into());
    bench.launch(&task);
    fs::create_dir(task.sandbox.join("inner")).unwrap();
    let env = BTreeMap::from([("B", "exec"), ("C", "exec")].map(|(k, v)| (k.to_owned(), v.to_owned())));
    let finished = finish(bench, &task, ExecSpec { env, ..sh("echo $A $B $C") });
    assert_eq!(text(&finished.output), "task exec exec\n");
    for (dir, expected) in [("inner", task.sandbox.join("inner")), ("/etc", "/etc".into())] {
        let finished = finish(bench, &task, ExecSpec { working_dir: Some(dir.into()), ..sh("pwd") });
        assert_eq!(text(&finished.output), format!("{}\n", expected.display()));
    }
    end(bench, &task);
}

/// Reads until the text holds something.
async fn expect(exec: &mut Exec, seen: &mut String, what: &str) {
    let mut buffer = [0; 1024];
    while !seen.contains(what) {
        let read = exec.output.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{what:?} is not in {seen:?}");
        seen.push_str(text(&buffer[..read]));
    }
}

fn on_a_terminal(bench: &Bench) {
    let task = sleeper(bench);
    let script = "tty; stty size; trap 'stty size' WINCH; trap 'echo interrupted; exit 9' INT
        echo ready; while :; do sleep 0.05; done";
    let terminal = Some(TerminalSize { rows: 33, columns: 77 });
    let mut exec = exec(bench, &task, ExecSpec { terminal, ..sh(script) });
    assert!(exec.errors.is_none());
    block(async {
        let mut seen = String::new();
        expect(&mut exec, &mut seen, "ready").await;
        assert!(seen.starts_with("/dev/pts/") && seen.contains("33 77"), "{seen:?}");
        if bench.mode.namespaces() {
            assert!(seen.starts_with("/dev/pts/0\r\n"), "the container's own first one: {seen:?}");
        }
        exec.process.resize(TerminalSize { rows: 10, columns: 20 }).unwrap();
        expect(&mut exec, &mut seen, "10 20").await;
        exec.input.write_all(b"\x03").await.unwrap();
        expect(&mut exec, &mut seen, "interrupted").await;
        assert_eq!(exec.process.wait().await, Exit::Code(9));
        let mut rest = String::new();
        exec.output.read_to_string(&mut rest).await.unwrap();
    });
    // Typed text comes back, and its end ends the input.
    let mut exec = self::exec(bench, &task, ExecSpec { terminal, ..sh("cat; echo over") });
    block(async {
        exec.input.write_all(b"hello\n\x04").await.unwrap();
        let mut seen = String::new();
        expect(&mut exec, &mut seen, "over").await;
        assert_eq!(seen.matches("hello").count(), 2, "echoed, and printed: {seen:?}");
        assert_eq!(exec.process.wait().await, Exit::Code(0));
    });
    end(bench, &task);
}

/// Starts processes in several ways, all of them to be found by the mark, and waits.
fn family(mark: &str) -> ExecSpec {
    sh(&format!(
        "trap '' HUP; setsid sleep {mark} & (sleep {mark} &); (trap '' TERM; sleep {mark}) & echo up; sleep {mark}"
    ))
}

fn dropped(bench: &Bench) {
    let task = sleeper(bench);
    for terminal in [None, Some(TerminalSize { rows: 24, columns: 80 })] {
        let mark = mark();
        let mut exec = exec(bench, &task, ExecSpec { terminal, ..family(&mark) });
        block(expect(&mut exec, &mut String::new(), "up"));
        until("all are there", || processes_with(&mark).len() >= 4);
        drop(exec);
        until("all are gone", || processes_with(&mark).is_empty());
    }
    assert!(runs(bench, &task), "the task runs on");
    end(bench, &task);
}

fn leaves_nothing(bench: &Bench) {
    let task = sleeper(bench);
    let mark = mark();
    let script = format!("setsid sleep {mark} & (sleep {mark} &) ; echo started; exit 5");
    let finished = finish(bench, &task, sh(&script));
    assert_eq!((finished.exit, text(&finished.output)), (Exit::Code(5), "started\n"));
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
    end(bench, &task);
}

fn ends_with_it(bench: &Bench) {
    let task = sleeper(bench);
    let mark = mark();
    let mut exec = exec(bench, &task, family(&mark));
    block(expect(&mut exec, &mut String::new(), "up"));
    end(bench, &task);
    assert_eq!(block(exec.process.wait()), Exit::Signal(9));
    until("all are gone", || processes_with(&mark).is_empty());
    assert!(matches!(
        block(bench.native.exec(&task.id, sh("exit 0"))),
        Err(ExecError::NotRunning { id }) if id == task.id
    ));
}

fn ends_with_the_agent(bench: &Bench) {
    let task = bench.spec(&["sleep", "1000"]);
    let mark = mark();
    let agent = start_agent_that_executes(bench, &[&task], &family(&mark));
    until("all are there", || processes_with(&mark).len() >= 4);
    kill_agent(agent);
    until("all are gone", || processes_with(&mark).is_empty());
    assert!(runs(bench, &task), "the task runs on");
    end(bench, &task);
}

fn by_a_later_agent(bench: &Bench) {
    let task = sleeper(bench);
    let later = block(Native::probe(bench.config.clone())).unwrap();
    let exec = block(later.exec(&task.id, sh("echo here"))).unwrap();
    assert_eq!(text(&block(exec.finish(100)).unwrap().output), "here\n");
    end(bench, &task);
}

fn refused(bench: &Bench) {
    let task = sleeper(bench);
    let refused = |argv: &[&str]| {
        let argv = argv.iter().map(|s| (*s).to_owned()).collect();
        block(bench.native.exec(&task.id, ExecSpec { argv, ..ExecSpec::default() })).unwrap_err()
    };
    let error = refused(&["no-such-program"]);
    assert_eq!(error.exit_code(), Some(127), "{error}");
    assert!(error.to_string().starts_with("command \"no-such-program\" not found in PATH=/"), "{error}");
    let error = refused(&["/etc/passwd"]);
    assert_eq!(error.exit_code(), Some(126), "{error}");
    for argv in [&[][..], &[""], &["a\0b"]] {
        let error = refused(argv);
        assert!(matches!(error, ExecError::Start(_)) && error.exit_code().is_none(), "{error}");
    }
    assert!(matches!(refused(&["echo", &"x".repeat(200 << 10)]), ExecError::TooLong { .. }));
    let long = "x".repeat(100 << 10);
    let finished = finish(bench, &task, sh(&format!("echo {long}")));
    assert_eq!(finished.output.len(), long.len() + 1);
    let nobody = ContainerId("unknown".into());
    assert!(matches!(block(bench.native.exec(&nobody, sh("exit 0"))), Err(ExecError::Container(_))));
    end(bench, &task);
}

fn held_to_limits(bench: &Bench) {
    let mut task = bench.spec(&["sleep", "1000"]);
    task.limits.memory_limit_bytes = Some(64 << 20);
    bench.launch(&task);
    let exe = std::env::current_exe().unwrap();
    let argv = [exe.to_str().unwrap(), "task", "eat", "200"].map(str::to_owned).to_vec();
    let finished = finish(bench, &task, ExecSpec { argv, ..ExecSpec::default() });
    assert_eq!(finished.exit, Exit::Signal(9));
    // Half a task is of no use to anybody: what goes over the limit takes the container with it.
    let end = bench.wait(&task);
    assert!(end.limitation.is_some(), "{end:?}");
}

fn much_at_once(bench: &Bench) {
    let task = sleeper(bench);
    block(async {
        let mut all = tokio::task::JoinSet::new();
        for number in 0..20 {
            let (native, id) = (bench.native.clone(), task.id.clone());
            all.spawn(async move {
                let script = format!("head -c 300000 /dev/zero; exit {number}");
                let finished = native.exec(&id, sh(&script)).await.unwrap().finish(200_000).await.unwrap();
                assert_eq!((finished.exit, finished.output.len()), (Exit::Code(number), 200_000));
            });
        }
        while let Some(result) = all.join_next().await {
            result.unwrap();
        }
    });
    end(bench, &task);
}
