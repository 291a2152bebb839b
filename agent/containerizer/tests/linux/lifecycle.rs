//! From launch to removal.

use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt};

use apportion_containerizer::{
    ContainerError, ContainerId, ContainerSpec, Containerizer, LaunchError, Signal,
};
use apportion_types::container::Exit;

use crate::{
    Scenario,
    bench::{
        Bench,
        Mode::{Bare, Oci, OldKernel, Root, Runsc, User},
        block, mark, processes_with,
    },
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "exit_code", modes: &[Root, OldKernel, User, Bare, Oci, Runsc], run: exit_code },
        Scenario {
            name: "ended_by_its_own_signal",
            modes: &[Root, User, Bare, Oci],
            run: ended_by_its_own_signal,
        },
        Scenario { name: "environment_is_exact", modes: &[Root, User, Bare], run: environment_is_exact },
        Scenario {
            name: "output_is_appended",
            modes: &[Root, User, Bare, Oci, Runsc],
            run: output_is_appended,
        },
        Scenario {
            name: "input_is_empty_and_nothing_else_open",
            modes: &[Root, User, Bare, Oci],
            run: descriptors,
        },
        Scenario {
            name: "why_it_cannot_be_executed",
            modes: &[Root, User, Bare, Oci, Runsc],
            run: why_it_cannot_be_executed,
        },
        Scenario { name: "program_is_looked_up_in_the_tasks_path", modes: &[Root, Bare, Oci], run: lookup },
        Scenario { name: "refusals", modes: &[Root, Bare, Oci], run: refusals },
        Scenario { name: "unusable_sandboxes", modes: &[Root, User, Bare, Oci], run: unusable_sandboxes },
        Scenario {
            name: "term_ends_a_plain_program",
            modes: &[Root, User, Bare, Oci],
            run: term_ends_a_plain_program,
        },
        Scenario {
            name: "term_reaches_every_process",
            modes: &[Root, User, Bare, Oci],
            run: term_reaches_every_process,
        },
        Scenario {
            name: "kill_ends_what_ignores_term",
            modes: &[Root, User, Bare, Oci, Runsc],
            run: kill_ends_what_ignores_term,
        },
        Scenario {
            name: "nothing_outlives_the_first_process",
            modes: &[Root, User, Bare, Oci],
            run: background,
        },
        Scenario { name: "wait_and_remove", modes: &[Root, Bare, Oci], run: wait_and_remove },
        Scenario { name: "a_hundred_eight_at_a_time", modes: &[Root, User, Bare, Oci], run: a_hundred },
    ]
}

fn exit_code(bench: &Bench) {
    for code in [0, 42, 255] {
        let (end, output) = bench.run(&bench.sh(&format!("exit {code}")));
        assert_eq!((end.exit, end.limitation, output.as_str()), (Some(Exit::Code(code)), None, ""));
        assert!(end.finished_at >= end.started_at && end.started_at.as_micros() > 0);
    }
}

fn ended_by_its_own_signal(bench: &Bench) {
    for (name, number) in [("SEGV", 11), ("KILL", 9), ("TERM", 15)] {
        let (end, _) = bench.run(&bench.sh(&format!("kill -{name} $$")));
        assert_eq!(end.exit, Some(Exit::Signal(number)));
    }
}

fn environment_is_exact(bench: &Bench) {
    let mut spec = bench.spec(&["/usr/bin/env"]);
    spec.env =
        BTreeMap::from([("A", "b=c d"), ("EMPTY", ""), ("ÜMLAUT", "ß")].map(|(k, v)| (k.into(), v.into())));
    let (_, output) = bench.run(&spec);
    let mut lines: Vec<&str> = output.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=b=c d", "EMPTY=", "ÜMLAUT=ß"]);
}

fn output_is_appended(bench: &Bench) {
    let spec = bench.sh("echo out; echo err >&2; pwd");
    fs::write(spec.sandbox.join("stdout"), "before\n").unwrap();
    bench.run(&spec);
    let read = |name| fs::read_to_string(spec.sandbox.join(name)).unwrap();
    assert_eq!(read("stdout"), format!("before\nout\n{}\n", spec.sandbox.display()));
    assert_eq!(read("stderr"), "err\n");
}

fn descriptors(bench: &Bench) {
    // `ls` itself opens the folder that it lists, as number 3.
    let (_, output) =
        bench.run(&bench.sh("cat; ls /proc/self/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; umask"));
    let blank = "0000000000000000";
    assert_eq!(output, format!("0\n1\n2\n3\nSigBlk:\t{blank}\nSigIgn:\t{blank}\n0022\n"));
}

fn refused(bench: &Bench, spec: &ContainerSpec) -> LaunchError {
    let error = block(bench.native.launch(spec.clone())).unwrap_err();
    // Nothing is left of it, so that its name is still free.
    let named_no_other = !matches!(error, LaunchError::IdUsed { .. } | LaunchError::InvalidId { .. });
    assert!(!(named_no_other && bench.config.state_dir.join(&spec.id.0).exists()));
    error
}

fn why_it_cannot_be_executed(bench: &Bench) {
    let error = refused(bench, &bench.spec(&["no-such-program", "x"]));
    assert!(error.to_string().starts_with("command \"no-such-program\" not found in PATH=/"), "{error}");
    let error = refused(bench, &bench.spec(&["/no/such/program"]));
    assert!(
        error.to_string().starts_with("command \"/no/such/program\" not found in the file system"),
        "{error}"
    );

    let script = |text: &str, mode| {
        let spec = bench.spec(&["./script"]);
        let path = spec.sandbox.join("script");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        spec
    };
    let error = refused(bench, &script("#!/bin/sh\n", 0o644));
    assert!(matches!(&error, LaunchError::PermissionDenied { program } if program == "./script"), "{error}");
    let error = refused(bench, &script("#!/no/such/shell\n", 0o755));
    assert!(error.to_string().contains("the interpreter that its first line"), "{error}");
    let error = refused(bench, &script("echo no first line\n", 0o755));
    assert!(error.to_string().contains("a script needs a first line"), "{error}");
    let error = refused(bench, &bench.spec(&["/etc"]));
    assert!(matches!(error, LaunchError::PermissionDenied { .. }), "{error}");
    let (end, _) = bench.run(&script("#!/bin/sh\nexit 5\n", 0o755));
    assert_eq!(end.exit, Some(Exit::Code(5)));
}

fn lookup(bench: &Bench) {
    let mut spec = bench.spec(&["tool"]);
    let folders = ["first", "second"].map(|name| spec.sandbox.join(name));
    for (folder, mode) in folders.iter().zip([0o644, 0o755]) {
        fs::create_dir(folder).unwrap();
        let path = folder.join("tool");
        fs::write(&path, "#!/bin/sh\necho \"$0\"\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let [first, second] = folders.map(|f| f.display().to_string());
    spec.env.insert("PATH".into(), format!("/no/such:{first}:{second}:/bin"));
    assert_eq!(bench.run(&spec).1, format!("{second}/tool\n"), "the first that may be executed");
    spec.id = ContainerId("denied".into());
    spec.env.insert("PATH".into(), first);
    assert!(matches!(refused(bench, &spec), LaunchError::PermissionDenied { .. }));
    // Without a PATH of its own there is the usual one, which an OCI runtime must be told.
    if bench.mode == Oci {
        return;
    }
    let mut spec = bench.spec(&["env"]);
    spec.env.clear();
    assert_eq!(bench.run(&spec).1, "");
}

fn refusals(bench: &Bench) {
    let good = bench.sh("exit 0");
    for id in ["", ".", "..", "a/b", "../x", ".hidden"] {
        let error = refused(bench, &ContainerSpec { id: ContainerId(id.into()), ..good.clone() });
        assert!(matches!(error, LaunchError::InvalidId { .. }), "{id}: {error}");
    }
    assert!(matches!(
        refused(bench, &ContainerSpec { argv: vec![], ..good.clone() }),
        LaunchError::EmptyCommand
    ));
    let zero = ContainerSpec { argv: vec!["a".into(), "b\0".into()], ..good.clone() };
    assert!(matches!(refused(bench, &zero), LaunchError::Unpassable { .. }));
    let name = ContainerSpec { env: BTreeMap::from([("a=b".into(), String::new())]), ..good.clone() };
    assert!(matches!(refused(bench, &name), LaunchError::Unpassable { .. }));

    bench.launch(&good);
    assert!(matches!(refused(bench, &good), LaunchError::IdUsed { .. }));
    bench.wait(&good);
    assert!(matches!(refused(bench, &good), LaunchError::IdUsed { .. }), "also after its end");
    for id in ["unknown", "../state", ""] {
        let id = ContainerId(id.into());
        assert!(matches!(block(bench.native.wait(&id)), Err(ContainerError::Unknown { .. })));
        assert!(matches!(block(bench.native.signal(&id, Signal::Kill)), Err(ContainerError::Unknown { .. })));
        assert!(matches!(bench.usage(&id), Err(ContainerError::Unknown { .. })));
        assert!(matches!(block(bench.native.remove(&id)), Err(ContainerError::Unknown { .. })));
    }
}

fn unusable_sandboxes(bench: &Bench) {
    let mut spec = bench.sh("exit 0");
    let sandbox = spec.sandbox.clone();
    for (path, name) in [("missing", "missing"), ("file", "file")] {
        fs::write(bench.dir.join("file"), "").unwrap();
        spec.sandbox = bench.dir.join(path);
        let error = refused(bench, &spec);
        assert!(matches!(&error, LaunchError::Sandbox { path, .. } if path.ends_with(name)), "{error}");
    }
    // A link or a pipe where the output belongs must not lead anywhere.
    spec.sandbox = sandbox;
    let victim = bench.dir.join("victim");
    fs::write(&victim, "").unwrap();
    std::os::unix::fs::symlink(&victim, spec.sandbox.join("stdout")).unwrap();
    let error = refused(bench, &spec);
    assert!(matches!(&error, LaunchError::Sandbox { path, .. } if path.ends_with("stdout")), "{error}");
    assert_eq!(fs::read(&victim).unwrap(), b"");
}

fn term_ends_a_plain_program(bench: &Bench) {
    let spec = bench.spec(&["sleep", "1000"]);
    bench.launch(&spec);
    block(bench.native.signal(&spec.id, Signal::Term)).unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Signal(15)));
    // Too late is no error.
    block(bench.native.signal(&spec.id, Signal::Term)).unwrap();
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
}

fn term_reaches_every_process(bench: &Bench) {
    let script = "trap 'wait; echo parent; exit 3' TERM
        (trap 'echo child; exit' TERM; echo >up; while :; do sleep 0.02; done) & while :; do sleep 0.02; done";
    let spec = bench.sh(script);
    bench.launch(&spec);
    bench.line(&spec, "up");
    block(bench.native.signal(&spec.id, Signal::Term)).unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Code(3)));
    assert_eq!(fs::read_to_string(spec.sandbox.join("stdout")).unwrap(), "child\nparent\n");
}

fn kill_ends_what_ignores_term(bench: &Bench) {
    let spec = bench.sh("trap 'echo termed' TERM; echo >up; while :; do sleep 0.02; done");
    bench.launch(&spec);
    bench.line(&spec, "up");
    block(bench.native.signal(&spec.id, Signal::Term)).unwrap();
    assert_eq!(bench.line(&spec, "stdout"), "termed");
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Signal(9)));
}

fn background(bench: &Bench) {
    let mark = mark();
    let script =
        format!("setsid sleep {mark} & (sleep {mark} &) ; (trap '' TERM HUP; sleep {mark}) & exit 7");
    let (end, _) = bench.run(&bench.sh(&script));
    assert_eq!(end.exit, Some(Exit::Code(7)));
    assert_eq!(processes_with(&mark), [] as [i32; 0]);
}

fn wait_and_remove(bench: &Bench) {
    let spec = bench.spec(&["sleep", "1000"]);
    bench.launch(&spec);
    assert!(matches!(block(bench.native.remove(&spec.id)), Err(ContainerError::StillRunning { .. })));
    let (first, second, signalled) = block(async {
        let native = &bench.native;
        tokio::join!(native.wait(&spec.id), native.wait(&spec.id), native.signal(&spec.id, Signal::Kill))
    });
    signalled.unwrap();
    assert_eq!(first.as_ref().unwrap(), second.as_ref().unwrap());
    assert_eq!(bench.wait(&spec), first.unwrap());
    assert!(block(bench.native.leftovers()).unwrap().is_empty(), "these are our own");
    block(bench.native.remove(&spec.id)).unwrap();
    assert!(spec.sandbox.join("stdout").exists() && !bench.config.state_dir.join(&spec.id.0).exists());
    assert!(matches!(block(bench.native.wait(&spec.id)), Err(ContainerError::Unknown { .. })));
}

fn a_hundred(bench: &Bench) {
    let specs: Vec<ContainerSpec> = (0..100).map(|i| bench.sh(&format!("exit {i}"))).collect();
    let slots = std::sync::Arc::new(tokio::sync::Semaphore::new(8));
    block(async {
        let mut all = tokio::task::JoinSet::new();
        for (i, spec) in specs.into_iter().enumerate() {
            let (native, slots) = (bench.native.clone(), slots.clone());
            all.spawn(async move {
                let _slot = slots.acquire().await.unwrap();
                native.launch(spec.clone()).await.unwrap();
                let end = native.wait(&spec.id).await.unwrap();
                native.remove(&spec.id).await.unwrap();
                assert_eq!(end.exit, Some(Exit::Code(i as i32)));
            });
        }
        while let Some(result) = all.join_next().await {
            result.unwrap();
        }
    });
    assert_eq!(fs::read_dir(&bench.config.state_dir).unwrap().count(), 0);
}
