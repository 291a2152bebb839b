//! When something else than the task dies, or misbehaves.

use std::{
    ffi::OsString,
    fs,
    future::pending,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use apportion_containerizer::{
    ContainerError, ContainerSpec, Containerizer, ExecSpec, LaunchError, Leftover, Native, NativeConfig,
    Signal,
};
use apportion_types::container::Exit;
use rustix::process::{Pid, kill_process};

use crate::{
    Scenario,
    bench::{
        self, Bench, Mode,
        Mode::{Bare, Mapped, Oci, Root, Runsc, User},
        block, cgroups_of, mark, processes_with, until,
    },
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario {
            name: "runner_killed",
            modes: &[Root, Mapped, User, Bare, Oci, Runsc],
            run: runner_killed,
        },
        Scenario {
            name: "runner_killed_before_anybody_waits",
            modes: &[Root, User, Bare, Oci],
            run: runner_killed_unseen,
        },
        Scenario { name: "init_killed", modes: &[Root, Mapped, User, Bare, Oci], run: init_killed },
        Scenario { name: "runner_asked_to_end", modes: &[Root, Bare, Oci], run: runner_asked_to_end },
        Scenario {
            name: "agent_killed_and_followed",
            modes: &[Root, Mapped, User, Bare, Oci],
            run: agent_killed,
        },
        Scenario {
            name: "agent_killed_with_tethers",
            modes: &[Root, User, Bare, Oci, Runsc],
            run: agent_killed_with_tethers,
        },
        Scenario { name: "ended_while_no_agent_was_there", modes: &[Root, Bare, Oci], run: ended_unseen },
        Scenario { name: "launch_cut_off", modes: &[Root, Bare, Oci], run: launch_cut_off },
        Scenario { name: "folder_of_an_earlier_boot", modes: &[Root, Bare, Oci], run: earlier_boot },
        Scenario { name: "damaged_folder", modes: &[Root, Oci], run: damaged_folder },
        Scenario { name: "no_room_for_the_log", modes: &[Root, Bare, Oci], run: no_room_for_the_log },
        Scenario { name: "garbage_on_the_socket", modes: &[Root, User, Bare, Oci], run: garbage },
        Scenario { name: "socket_words", modes: &[Root, Oci], run: socket_words },
        Scenario { name: "no_parent_is_left", modes: &[Root, Oci], run: no_parent_is_left },
        Scenario { name: "runner_is_small", modes: &[Root, User, Oci], run: runner_is_small },
    ]
}

/// An agent that can be killed: launches the given containers, executes a command in the first if one is given, says so, and stays.
pub(crate) fn agent(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<String> = args.map(|a| a.into_string().unwrap()).collect();
    let mode = Mode::ALL.into_iter().find(|m| m.name() == args[0]).unwrap();
    let specs: Vec<ContainerSpec> = serde_json::from_str(&args[3]).unwrap();
    block(async {
        let native = Native::probe(bench::config(mode, Path::new(&args[1]), &args[2])).await.unwrap();
        let id = specs.first().map(|spec| spec.id.clone());
        for spec in specs {
            native.launch(spec).await.unwrap();
        }
        let mut executed = None;
        if let Some(json) = args.get(4) {
            let (id, exec) = (id.unwrap(), serde_json::from_str(json).unwrap());
            executed = Some(native.exec(&id, exec).await.unwrap());
        }
        println!("launched");
        pending::<()>().await;
        drop(executed);
    });
    ExitCode::SUCCESS
}

/// Starts such an agent; kill it with `child.kill()`.
pub(crate) fn start_agent(bench: &Bench, specs: &[&ContainerSpec]) -> Child {
    start(agent_command(bench, specs))
}

/// The same, with a command executed in the first container.
pub(crate) fn start_agent_that_executes(bench: &Bench, specs: &[&ContainerSpec], exec: &ExecSpec) -> Child {
    let mut command = agent_command(bench, specs);
    command.arg(serde_json::to_string(exec).unwrap());
    start(command)
}

pub(crate) fn kill_agent(mut agent: Child) {
    agent.kill().unwrap();
    agent.wait().unwrap();
}

fn agent_command(bench: &Bench, specs: &[&ContainerSpec]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["agent", bench.mode.name()])
        .arg(&bench.dir)
        .arg(&bench.config.cgroup_parent)
        .arg(serde_json::to_string(specs).unwrap())
        .stdout(Stdio::piped());
    command
}

fn start(mut command: Command) -> Child {
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "launched\n");
    child
}

pub(crate) fn kill(pid: &serde_json::Value, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid["pid"].as_i64().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

const KILL: rustix::process::Signal = rustix::process::Signal::KILL;

/// A task of two processes that can be found by the mark.
fn pair(bench: &Bench, mark: &str) -> ContainerSpec {
    bench.sh(&format!("sleep {mark} & echo >up; sleep {mark}"))
}

fn runner_killed(bench: &Bench) {
    let mark = mark();
    let spec = pair(bench, &mark);
    bench.launch(&spec);
    bench.line(&spec, "up");
    let runner = bench.pids(&spec)["runner"].clone();
    let end = block(async {
        let wait = bench.native.wait(&spec.id);
        tokio::join!(wait, async { kill(&runner, KILL) }).0.unwrap()
    });
    assert_eq!((end.exit, end.limitation), (None, None));
    assert!(end.finished_at >= end.started_at);
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
    assert_eq!(bench.wait(&spec), end, "said again");
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    assert_eq!(bench.usage(&spec.id).unwrap(), end.usage.into());
    block(bench.native.remove(&spec.id)).unwrap();
}

fn runner_killed_unseen(bench: &Bench) {
    let mark = mark();
    let specs = [pair(bench, &mark), pair(bench, &mark)];
    for spec in &specs {
        bench.launch(spec);
        bench.line(spec, "up");
        kill(&bench.pids(spec)["runner"], KILL);
    }
    until("the processes die with their runners", || processes_with(&mark).is_empty());
    assert_eq!(bench.wait(&specs[0]).exit, None);
    // Removing is enough too.
    block(bench.native.remove(&specs[1].id)).unwrap();
}

fn init_killed(bench: &Bench) {
    let mark = mark();
    let spec = pair(bench, &mark);
    bench.launch(&spec);
    bench.line(&spec, "up");
    kill(&bench.pids(&spec)["init"], KILL);
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Signal(9)));
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
}

fn runner_asked_to_end(bench: &Bench) {
    let spec = bench.spec(&["sleep", "1000"]);
    bench.launch(&spec);
    kill(&bench.pids(&spec)["runner"], rustix::process::Signal::TERM);
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Signal(15)), "it asks the task to end");
}

fn leftovers(bench: &Bench) -> Vec<(String, bool)> {
    let found = block(bench.native.leftovers()).unwrap();
    found.into_iter().map(|Leftover { id, running }| (id.0, running)).collect()
}

fn agent_killed(bench: &Bench) {
    let goes_on = bench.sh("echo >up; while [ ! -e go ]; do sleep 0.02; done; exit 9");
    let is_killed = bench.spec(&["sleep", "1000"]);
    let mut agent = start_agent(bench, &[&goes_on, &is_killed]);
    bench.line(&goes_on, "up");
    agent.kill().unwrap();
    agent.wait().unwrap();
    assert_eq!(leftovers(bench), [(goes_on.id.0.clone(), true), (is_killed.id.0.clone(), true)]);
    bench.usage(&goes_on.id).unwrap();
    block(bench.native.signal(&is_killed.id, Signal::Term)).unwrap();
    assert_eq!(bench.wait(&is_killed).exit, Some(Exit::Signal(15)));
    let end = block(async {
        let release = async { fs::write(goes_on.sandbox.join("go"), "").unwrap() };
        tokio::join!(bench.native.wait(&goes_on.id), release).0.unwrap()
    });
    assert_eq!(end.exit, Some(Exit::Code(9)));
    assert_eq!(leftovers(bench), [(goes_on.id.0.clone(), false), (is_killed.id.0, false)]);
    block(bench.native.remove(&goes_on.id)).unwrap();
    assert_eq!(leftovers(bench).len(), 1);
}

fn agent_killed_with_tethers(bench: &Bench) {
    let mark = mark();
    let stubborn =
        format!("trap '' TERM HUP INT; setsid sleep {mark} & echo >up; sleep {mark}; sleep {mark}");
    let specs = [bench.sh(&stubborn), bench.sh(&stubborn)].map(|s| ContainerSpec { tethered: true, ..s });
    let mut agent = start_agent(bench, &[&specs[0], &specs[1]]);
    specs.iter().for_each(|spec| _ = bench.line(spec, "up"));
    assert!(!processes_with(&mark).is_empty());
    agent.kill().unwrap();
    agent.wait().unwrap();
    until("everything is gone, by itself", || {
        processes_with(&mark).is_empty() && processes_with(bench.dir.to_str().unwrap()).is_empty()
    });
    assert_eq!(cgroups_of(&bench.config.cgroup_parent), [] as [PathBuf; 0]);
    let end = bench.wait(&specs[0]);
    assert_eq!(end.exit, Some(Exit::Signal(9)));
}

fn ended_unseen(bench: &Bench) {
    let spec = bench.sh("while [ ! -e go ]; do sleep 0.02; done; exit 4");
    let mut agent = start_agent(bench, &[&spec]);
    agent.kill().unwrap();
    agent.wait().unwrap();
    fs::write(spec.sandbox.join("go"), "").unwrap();
    // Not by its command line, which a process loses a moment before it has ended.
    until("the runner is gone", || leftovers(bench) == [(spec.id.0.clone(), false)]);
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Code(4)));
}

fn launch_cut_off(bench: &Bench) {
    // An agent that died after the folder, and one that died after the order.
    let donor = bench.sh("exit 0");
    bench.launch(&donor);
    bench.wait(&donor);
    let order = fs::read(bench.config.state_dir.join(&donor.id.0).join("spec.json")).unwrap();
    for (name, file) in [("x0", None), ("x1", Some(&order))] {
        let folder = bench.config.state_dir.join(name);
        fs::create_dir(&folder).unwrap();
        if let Some(order) = file {
            fs::write(folder.join("spec.json"), order).unwrap();
        }
    }
    assert_eq!(leftovers(bench), [("x0".to_owned(), false), ("x1".to_owned(), false)]);
    for name in ["x0", "x1"] {
        let id = apportion_containerizer::ContainerId(name.to_owned());
        assert_eq!(block(bench.native.wait(&id)).unwrap().exit, None);
    }
    // A runner that comes too late finds the container declared dead, and does nothing.
    let mut runner = Command::new(&bench.config.runner[0]);
    let late =
        runner.args(&bench.config.runner[1..]).arg(bench.config.state_dir.join("x1")).output().unwrap();
    assert!(!late.status.success() && String::from_utf8_lossy(&late.stdout).contains("claimed"), "{late:?}");
    for name in ["x0", "x1"] {
        block(bench.native.remove(&apportion_containerizer::ContainerId(name.to_owned()))).unwrap();
    }
}

fn earlier_boot(bench: &Bench) {
    let spec = bench.spec(&["sleep", "1000"]);
    bench.launch(&spec);
    let mut pids = bench.pids(&spec);
    let folder = bench.config.state_dir.join(&spec.id.0);
    let fake = bench.config.state_dir.join("earlier");
    fs::create_dir(&fake).unwrap();
    fs::copy(folder.join("spec.json"), fake.join("spec.json")).unwrap();
    pids["boot_id"] = "another".into();
    fs::write(fake.join("pid.json"), serde_json::to_vec(&pids).unwrap()).unwrap();
    // The numbers are those of a living container, which has nothing to do with it; only its cgroup's name is the same.
    let mut order: serde_json::Value =
        serde_json::from_slice(&fs::read(fake.join("spec.json")).unwrap()).unwrap();
    order["group"] = format!("{}/earlier", bench.config.cgroup_parent).into();
    fs::write(fake.join("spec.json"), serde_json::to_vec(&order).unwrap()).unwrap();
    assert_eq!(leftovers(bench), [("earlier".to_owned(), false)]);
    let id = apportion_containerizer::ContainerId("earlier".to_owned());
    assert_eq!(block(bench.native.wait(&id)).unwrap().exit, None);
    block(bench.native.signal(&spec.id, Signal::Term)).unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Signal(15)), "it was still there");
}

fn damaged_folder(bench: &Bench) {
    let spec = bench.sh("exit 0");
    bench.launch(&spec);
    bench.wait(&spec);
    let exit = bench.config.state_dir.join(&spec.id.0).join("exit.json");
    for garbage in ["", "{", "null", "\u{0}\u{0}"] {
        fs::write(&exit, garbage).unwrap();
        let error = block(bench.native.wait(&spec.id)).unwrap_err();
        assert!(matches!(&error, ContainerError::Damaged { path, .. } if *path == exit), "{error}");
    }
}

/// A runner that has something to say and cannot goes on with what matters more.
fn no_room_for_the_log(bench: &Bench) {
    let wrapped = ["/bin/sh", "-c", r#"exec "$0" "$@" 2>/dev/full"#].map(OsString::from);
    let runner = wrapped.into_iter().chain(bench.config.runner.clone()).collect();
    let native = block(Native::probe(NativeConfig { runner, ..bench.config.clone() })).unwrap();
    let spec = ContainerSpec { argv: vec!["no-such-command".into()], ..bench.sh("") };
    let error = block(native.launch(spec)).unwrap_err();
    assert!(matches!(error, LaunchError::CommandNotFound { .. }), "{error}");
}

/// A connection to a container's runner.
fn connect(bench: &Bench, spec: &ContainerSpec) -> UnixStream {
    UnixStream::connect(bench.config.state_dir.join(&spec.id.0).join("socket")).unwrap()
}

fn garbage(bench: &Bench) {
    let spec = bench.sh("echo >up; sleep 1000");
    bench.launch(&spec);
    bench.line(&spec, "up");
    let mut held = Vec::new();
    for i in 0..200_usize {
        let mut stream = connect(bench, &spec);
        let noise: Vec<u8> = (0..i * 37).map(|n| (n * 31 + i) as u8).collect();
        // The runner may hang up before it has been told everything.
        let _ = stream.write_all(&noise);
        if i % 2 == 0 {
            held.push(stream);
        }
    }
    bench.usage(&spec.id).unwrap();
    block(bench.native.signal(&spec.id, Signal::Term)).unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Signal(15)));
}

fn socket_words(bench: &Bench) {
    let spec = bench.spec(&["sleep", "1000"]);
    bench.launch(&spec);
    let mut waiting = connect(bench, &spec);
    waiting.write_all(b"wait\n").unwrap();
    let mut stream = connect(bench, &spec);
    stream.write_all(b"usage\nterm\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    let usage: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert!(usage["cpu_us"].is_u64());
    assert_eq!(lines.next().unwrap().unwrap(), "ok");
    let mut said = String::new();
    waiting.read_to_string(&mut said).unwrap();
    let said: apportion_types::container::Termination = serde_json::from_str(&said).unwrap();
    assert_eq!(said, bench.wait(&spec));
}

fn no_parent_is_left(bench: &Bench) {
    block(bench.native.close());
    assert_eq!(cgroups_of(&bench.config.cgroup_parent), [] as [PathBuf; 0]);
    // A tethered container takes its parents with it; others come up beside it all the same.
    for _ in 0..3 {
        let specs: Vec<ContainerSpec> =
            (0..8).map(|_| ContainerSpec { tethered: true, ..bench.sh("exit 0") }).collect();
        block(async {
            let mut all = tokio::task::JoinSet::new();
            for spec in specs {
                let native = bench.native.clone();
                all.spawn(async move {
                    native.launch(spec.clone()).await.unwrap();
                    native.wait(&spec.id).await.unwrap();
                });
            }
            while let Some(done) = all.join_next().await {
                done.unwrap();
            }
        });
        assert_eq!(cgroups_of(&bench.config.cgroup_parent), [] as [PathBuf; 0]);
    }
}

fn runner_is_small(bench: &Bench) {
    let spec = bench.spec(&["sleep", "1000"]);
    bench.launch(&spec);
    let runner = bench.pids(&spec)["runner"]["pid"].as_i64().unwrap();
    let status = fs::read_to_string(format!("/proc/{runner}/smaps_rollup")).unwrap();
    let kib = |field: &str| -> u64 {
        let line = status.lines().find(|l| l.starts_with(field)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let private = kib("Private_Dirty:");
    // A debug build of the tests holds more than the agent's binary will.
    assert!(private < 2048, "{private} KiB");
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    bench.wait(&spec);
}
