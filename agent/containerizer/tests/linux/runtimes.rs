//! What is said of OCI runtimes that cannot be used, and of what one cannot do.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use apportion_containerizer::{Containerizer, ExecSpec, Native, NativeConfig, Signal};
use apportion_types::container::{Control, Exit};

use crate::{
    Scenario,
    bench::{
        Bench,
        Mode::{Oci, Root, Runsc, User},
        block, cgroups_of,
    },
};

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "a_runtime_that_cannot_be_used", modes: &[Root], run: unusable },
        Scenario { name: "a_runtime_needs_root", modes: &[User], run: needs_root },
        Scenario { name: "a_runtime_that_leaves_things_out", modes: &[Oci], run: leaves_out },
        Scenario { name: "a_runtime_that_hangs", modes: &[Oci], run: hangs },
        Scenario { name: "a_kernel_of_its_own", modes: &[Runsc], run: own_kernel },
    ]
}

fn refusal(bench: &Bench, runtime: &str) -> String {
    let state_dir = bench.dir.join("other");
    let config = NativeConfig { runtime: runtime.parse().unwrap(), state_dir, ..bench.config.clone() };
    block(Native::probe(config)).unwrap_err().to_string()
}

fn program(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn unusable(bench: &Bench) {
    let said = refusal(bench, "no-such-runtime");
    assert!(said.contains("`no-such-runtime`") && said.contains("apt-get install no-such-runtime"), "{said}");
    // It says why as runtimes do, in the log that it is given.
    let text = "#!/bin/sh\necho '{\"level\":\"error\",\"msg\":\"no such luck\"}' >>\"$4\"; exit 3\n";
    let broken = program(&bench.dir.join("broken"), text);
    let said = refusal(bench, &broken);
    for part in ["tried a container", "`create` ended with 3", "no such luck", "`native`"] {
        assert!(said.contains(part), "{said}");
    }
    // Nothing is left of the trial, either.
    assert_eq!(fs::read_dir(bench.dir.join("other")).unwrap().count(), 0);
    assert!(cgroups_of(&bench.config.cgroup_parent).iter().all(|group| {
        fs::read_dir(group).unwrap().flatten().all(|entry| !entry.file_type().unwrap().is_dir())
    }));
}

fn needs_root(bench: &Bench) {
    let said = refusal(bench, "runc");
    assert!(said.contains("run the agent as root"), "{said}");
}

/// A build without libseccomp passes the filter over with a word in its log.
fn leaves_out(bench: &Bench) {
    let apportion_containerizer::Runtime::Oci { program: real, .. } = &bench.config.runtime else { panic!() };
    let text = format!(
        "#!/bin/sh\nfor word; do [ \"$before\" = --bundle ] && sed -i 's/\"seccomp\":/\"unknown\":/' \"$word/config.json\"; before=$word; done\nexec {real} \"$@\"\n"
    );
    let runtime = program(&bench.dir.join("lacking"), &text).parse().unwrap();
    let config = NativeConfig { runtime, state_dir: bench.dir.join("other"), ..bench.config.clone() };
    let native = block(Native::probe(config)).unwrap();
    let unenforced: Vec<Control> = native.unenforced().iter().map(|one| one.control).collect();
    assert_eq!(unenforced, [Control::Seccomp]);
    assert!(native.unenforced()[0].reason.starts_with("lacking installs no filter"), "{unenforced:?}");
}

/// A task's end is told, and nothing is left of it, whatever the runtime does.
fn hangs(bench: &Bench) {
    let apportion_containerizer::Runtime::Oci { program: real, .. } = &bench.config.runtime else { panic!() };
    let hang = bench.dir.join("hang");
    let text = format!(
        "#!/bin/sh\nfor word; do [ \"$word\" = delete ] && [ -e {} ] && exec sleep 1000; done\nexec {real} \"$@\"\n",
        hang.display()
    );
    let runtime = program(&bench.dir.join("hanging"), &text).parse().unwrap();
    let config = NativeConfig { runtime, state_dir: bench.dir.join("other"), ..bench.config.clone() };
    let native = block(Native::probe(config)).unwrap();
    fs::write(&hang, "").unwrap();
    let spec = bench.sh("exit 5");
    block(native.launch(spec.clone())).unwrap();
    assert_eq!(block(native.wait(&spec.id)).unwrap().exit, Some(Exit::Code(5)));
    block(native.remove(&spec.id)).unwrap();
}

fn own_kernel(bench: &Bench) {
    let unenforced = bench.native.unenforced();
    assert!(matches!(unenforced, [one] if one.control == Control::Seccomp), "{unenforced:?}");
    let spec = bench.spec(&["sleep", "1000"]);
    bench.launch(&spec);
    let exec = ExecSpec { argv: vec!["true".to_owned()], ..ExecSpec::default() };
    let error = block(bench.native.exec(&spec.id, exec)).unwrap_err().to_string();
    assert!(error.contains("runsc runs containers on a kernel of its own"), "{error}");
    block(bench.native.signal(&spec.id, Signal::Term)).unwrap();
    assert_eq!(bench.wait(&spec).exit, Some(Exit::Code(128 + 15)));
}
