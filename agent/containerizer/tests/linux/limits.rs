//! What a container is held to.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use apportion_containerizer::{
    ContainerError, ContainerSpec, Containerizer, LaunchError, Limits, Native, NativeConfig, Signal,
    cgroup::{CgroupDriver, Controller, Disk, V1},
    huge_pages,
};
use apportion_types::{
    CpuSet, IoLimits,
    container::{Control, Exit, Limitation},
};

use crate::{
    Scenario,
    bench::{
        Bench, Mode,
        Mode::{Bare, Oci, Root, Runsc, User},
        NO_LIMITS, block, cgroups_of, until,
    },
};

const MIB: u64 = 1 << 20;

pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario { name: "what_is_not_enforced_is_said", modes: &[Root, User, Bare, Oci], run: unenforced },
        Scenario { name: "memory_above_the_limit_ends_it", modes: &[Root, Oci, Runsc], run: memory },
        Scenario {
            name: "memory_of_a_grandchild_ends_all",
            modes: &[Root, Oci],
            run: memory_of_a_grandchild,
        },
        Scenario { name: "memory_below_the_limit_does_not", modes: &[Root, Oci], run: memory_below },
        Scenario { name: "files_in_shm_are_memory", modes: &[Root, Oci], run: shm },
        Scenario { name: "files_in_tmp_are_not_memory", modes: &[Root, Oci], run: tmp },
        Scenario { name: "swap", modes: &[Root, Oci], run: swap },
        Scenario { name: "a_limit_too_small_to_start", modes: &[Root], run: too_small },
        Scenario { name: "cpu_quota", modes: &[Root, Oci], run: cpu_quota },
        Scenario { name: "only_some_processors", modes: &[Root, Oci, User], run: cpuset },
        Scenario { name: "writes_to_the_disk", modes: &[Root, Oci], run: disk },
        Scenario { name: "huge_pages", modes: &[Root, Oci], run: of_huge_pages },
        Scenario { name: "fork_bomb", modes: &[Root, Oci], run: fork_bomb },
        Scenario { name: "other_limits_while_it_runs", modes: &[Root, Oci], run: other_limits },
        Scenario { name: "over_a_limit_that_was_raised", modes: &[Root, Oci], run: over_a_raised_limit },
        Scenario { name: "version_1_kills_with_the_freezer", modes: &[Root], run: freezer },
        Scenario { name: "limits_are_ignored_where_unenforced", modes: &[User, Bare], run: ignored },
    ]
}

fn unenforced(bench: &Bench) {
    let unenforced = bench.native.unenforced();
    let mut cgroups =
        vec![Control::CpuWeight, Control::CpuQuota, Control::Memory, Control::Swap, Control::Pids];
    let mut unenforced = unenforced.to_vec();
    if Disk::of(&bench.config.state_dir).is_ok() {
        cgroups.push(Control::Io);
    } else {
        let io = unenforced.iter().position(|of| of.control == Control::Io);
        let said = unenforced.remove(io.expect("it is said"));
        assert!(said.reason.contains("is not on one disk"), "{said:?}");
    }
    cgroups.extend((!huge_pages().is_empty()).then_some(Control::HugePages));
    let controls: Vec<Control> = unenforced.iter().map(|u| u.control).collect();
    match bench.mode {
        Mode::Root | Mode::OldKernel | Mode::Mapped | Mode::Oci | Mode::Runsc => {
            assert_eq!(controls, [], "{unenforced:?}");
        }
        Mode::User => assert_eq!(controls, cgroups, "{unenforced:?}"),
        Mode::Bare => {
            let more = [Control::Namespaces, Control::ReadOnlyRoot, Control::AtomicKill];
            assert_eq!(controls, [&cgroups[..], &more[..]].concat(), "{unenforced:?}");
        }
    }
    for said in unenforced {
        assert!(said.reason.contains("as root") && said.reason.contains("ermi"), "{said:?}");
        assert!(!said.reason.ends_with('.') && !said.reason.contains('\n'), "{said:?}");
    }
}

fn memory_limit(mib: u64) -> Limits {
    Limits { memory_limit_bytes: Some(mib * MIB), memory_request_bytes: mib * MIB / 2, ..NO_LIMITS }
}

fn memory(bench: &Bench) {
    let mut spec = bench.task(&["eat", "128"]);
    spec.limits = memory_limit(64);
    let (end, _) = bench.run(&spec);
    assert_eq!(end.exit, Some(Exit::Signal(9)));
    assert_eq!(end.limitation, Some(Limitation::Memory { limit_bytes: 64 * MIB }));
    let peak = end.usage.memory_peak_bytes.unwrap();
    // A process that is being killed for memory may take the last pages that it is at, also above the limit.
    assert!((60 * MIB..65 * MIB).contains(&peak), "{peak}");
}

fn memory_of_a_grandchild(bench: &Bench) {
    let mut spec = bench.task(&["have-eaten", "128"]);
    spec.limits = memory_limit(64);
    let (end, _) = bench.run(&spec);
    assert_eq!(end.exit, Some(Exit::Signal(9)), "the first process is not the one that took too much");
    assert_eq!(end.limitation, Some(Limitation::Memory { limit_bytes: 64 * MIB }));
}

fn memory_below(bench: &Bench) {
    let mut spec = bench.task(&["eat", "32"]);
    spec.limits = memory_limit(64);
    let (end, _) = bench.run(&spec);
    assert_eq!((end.exit, end.limitation), (Some(Exit::Code(0)), None));
    assert!(end.usage.memory_peak_bytes.unwrap() >= 32 * MIB);
    // Killed for another reason, it did not exceed anything.
    let mut spec = bench.sh("kill -KILL $$");
    spec.limits = memory_limit(64);
    assert_eq!(bench.run(&spec).0.limitation, None);
}

fn shm(bench: &Bench) {
    let mut spec = bench.sh("head -c 128M /dev/zero >/dev/shm/x");
    spec.limits = memory_limit(64);
    let (end, output) = bench.run(&spec);
    // The file system ends where the limit does; which of the two is first depends on what else is held.
    let killed = end.limitation == Some(Limitation::Memory { limit_bytes: 64 * MIB });
    assert!(killed || output.contains("No space left"), "{end:?} {output}");
}

fn tmp(bench: &Bench) {
    let mut spec = bench.sh("head -c 128M /dev/zero >/tmp/x && rm /tmp/x");
    spec.limits = memory_limit(64);
    let (end, output) = bench.run(&spec);
    assert_eq!((end.exit, end.limitation), (Some(Exit::Code(0)), None), "{output}");
}

/// What the kernel holds two containers to: one that says nothing of swap, and one that does.
fn swap(bench: &Bench) {
    for (asked, version_1, version_2) in [(0, 64 * MIB, 0), (16 * MIB, 80 * MIB, 16 * MIB)] {
        let mut spec = bench.spec(&["sleep", "1000"]);
        spec.limits = Limits { swap_max_bytes: asked, ..memory_limit(64) };
        bench.launch(&spec);
        let group = Path::new(&bench.config.cgroup_parent).join(&spec.id.0);
        let groups = cgroups_of(group.to_str().unwrap());
        let read = |name: &str| groups.iter().find_map(|group| fs::read_to_string(group.join(name)).ok());
        let held = [("memory.memsw.limit_in_bytes", version_1), ("memory.swap.max", version_2)]
            .into_iter()
            .filter_map(|(name, bytes)| Some((read(name)?.trim().to_owned(), bytes.to_string())));
        let held: Vec<_> = held.collect();
        assert!(held.len() == 1 && held[0].0 == held[0].1, "{held:?} in {groups:?}");
        block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
        bench.wait(&spec);
    }
}

fn too_small(bench: &Bench) {
    let mut spec = bench.sh("exit 0");
    spec.limits.memory_limit_bytes = Some(4096);
    let error = block(bench.native.launch(spec.clone())).unwrap_err();
    assert!(matches!(error, LaunchError::MemoryTooSmall { limit_bytes: 4096 }), "{error}");
    assert!(!bench.config.state_dir.join(&spec.id.0).exists());
}

fn cpu_quota(bench: &Bench) {
    let mut spec = bench.task(&["spin", "3000"]);
    spec.limits.cpus_limit_milli = Some(200);
    let (end, _) = bench.run(&spec);
    assert_eq!(end.exit, Some(Exit::Code(0)));
    let wall = end.finished_at.since(end.started_at);
    let share = end.usage.cpu_us as f64 / wall.as_micros() as f64;
    // Without the quota it is 1. Where two clocks are emulated on a busy machine, what it is with it is far from exact.
    assert!(share <= 0.5, "{share} of a processor in {wall:?}");
}

fn cpuset(bench: &Bench) {
    let probe = |cpus: &str| {
        let cpuset = Some(cpus.parse().unwrap());
        block(Native::probe(NativeConfig { cpuset, ..bench.config.clone() }))
    };
    let missing = probe("0,8000-8191").unwrap_err().to_string();
    assert!(
        missing.starts_with("processors 8000-8191 of the cpuset 0,8000-8191 are not online"),
        "{missing}"
    );

    let native = probe("0").unwrap();
    let unenforced = native.unenforced().iter().find(|unenforced| unenforced.control == Control::Cpuset);
    let spec = bench.sh("grep Cpus_allowed_list /proc/self/status");
    block(native.launch(spec.clone())).unwrap();
    assert_eq!(block(native.wait(&spec.id)).unwrap().exit, Some(Exit::Code(0)));
    block(native.remove(&spec.id)).unwrap();
    let seen = fs::read_to_string(spec.sandbox.join("stdout")).unwrap();
    if bench.mode == Mode::User {
        assert!(unenforced.unwrap().reason.contains("as root"), "{unenforced:?}");
    } else {
        assert_eq!((seen.trim(), unenforced), ("Cpus_allowed_list:\t0", None));
    }
    other_cores(bench);
    // Of the next agent, which has no such setting, containers have all again.
    let (_, all) = bench.run(&bench.sh("grep Cpus_allowed_list /proc/self/status"));
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert!(own.contains(all.trim()), "{all}");
    block(native.close());
}

/// What a container writes past the cache, with a limit and without; and the end of one that has asked for much.
fn disk(bench: &Bench) {
    const LIMIT: u64 = MIB;
    if Disk::of(&bench.config.state_dir).is_err() {
        // Said to be not enforced; see above.
        return;
    }
    let write = |io: IoLimits| {
        let mut spec = bench.sh("dd if=/dev/zero of=file bs=1M count=4 oflag=direct 2>&1");
        spec.limits.io = io;
        let (end, output) = bench.run(&spec);
        assert_eq!(end.exit, Some(Exit::Code(0)), "{output}");
        end.finished_at.since(end.started_at)
    };
    let io = IoLimits { write_bytes_per_second: Some(LIMIT), ..IoLimits::NONE };
    let (free, held) = (write(IoLimits::NONE), write(io));
    // The kernel lets the first part of a second pass. However slow the disk is, it is not faster than this.
    assert!(held.as_millis() as u64 > 2500 * MIB / LIMIT, "{held:?}, and {free:?} without a limit");

    let ends = [
        ("kill", Some(Exit::Signal(9))),
        ("kill, then limits", Some(Exit::Signal(9))),
        ("go", Some(Exit::Code(7))),
        ("runner", None),
    ];
    for (end, exit) in ends {
        assert_eq!(held_back(bench, end), exit, "{end}");
    }
}

/// The end of a container that has asked for more to be written than the kernel lets it in a thousand seconds: it is killed, also with limits that
/// come too late, ends by itself or loses its runner.
fn held_back(bench: &Bench, end: &str) -> Option<Exit> {
    let big = "dd if=/dev/zero of=file bs=64M count=1 oflag=direct & echo begun >begun";
    let mut spec = bench.sh(&format!("{big}; until [ -e go ]; do sleep 0.01; done; exit 7"));
    spec.limits.io = IoLimits { write_bytes_per_second: Some(64 << 10), ..IoLimits::NONE };
    bench.launch(&spec);
    bench.line(&spec, "begun");
    let group = Path::new(&bench.config.cgroup_parent).join(&spec.id.0);
    let disk = Disk::of(&spec.sandbox).unwrap().to_string();
    let groups = cgroups_of(group.to_str().unwrap());
    let read = |name: &str| groups.iter().find_map(|group| fs::read_to_string(group.join(name)).ok());
    let limits = read("blkio.throttle.write_bps_device").or_else(|| read("io.max")).unwrap();
    let expected = [format!("{disk} 65536"), format!("{disk} rbps=max wbps=65536 riops=max wiops=max")];
    assert!(expected.iter().any(|line| line == limits.trim()), "{limits}");
    until("the kernel holds a part of it back", || {
        read("cgroup.procs").unwrap_or_default().lines().any(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('D'))
        })
    });
    match end {
        "kill" => block(bench.native.signal(&spec.id, Signal::Kill)).unwrap(),
        "kill, then limits" => {
            block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
            block(bench.native.limit(&spec.id, spec.limits.clone())).unwrap();
        }
        "go" => fs::write(spec.sandbox.join("go"), "").unwrap(),
        _ => {
            let runner = bench.pids(&spec)["runner"]["pid"].as_i64().unwrap();
            let runner = rustix::process::Pid::from_raw(runner as i32).unwrap();
            rustix::process::kill_process(runner, rustix::process::Signal::KILL).unwrap();
        }
    }
    let exit = bench.wait(&spec).exit;
    block(bench.native.remove(&spec.id)).unwrap();
    exit
}

/// A container that runs is held to other processors than it was launched with, which are other ones than those of all.
fn other_cores(bench: &Bench) {
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let list = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let all: CpuSet = list.trim().parse().unwrap();
    let first = all.lowest(1).unwrap();
    let Some(rest) = all.without(&first).filter(|_| bench.mode != Mode::User) else { return };
    let config = NativeConfig { cpuset: Some(all), ..bench.config.clone() };
    let native = block(Native::probe(config)).unwrap();
    let look = "grep Cpus_allowed_list /proc/self/status";
    let mut spec = bench.sh(&format!("{look}; touch looked; until [ -e go ]; do sleep 0.01; done; {look}"));
    spec.limits.cores = Some(first.clone());
    block(native.launch(spec.clone())).unwrap();
    until("a look", || spec.sandbox.join("looked").exists());
    let limits = Limits { cores: Some(rest.clone()), ..spec.limits };
    block(native.limit(&spec.id, limits)).unwrap();
    fs::write(spec.sandbox.join("go"), "").unwrap();
    assert_eq!(block(native.wait(&spec.id)).unwrap().exit, Some(Exit::Code(0)));
    block(native.remove(&spec.id)).unwrap();
    let seen = fs::read_to_string(spec.sandbox.join("stdout")).unwrap();
    let expected = format!("Cpus_allowed_list:\t{first}\nCpus_allowed_list:\t{rest}\n");
    assert_eq!(seen, expected);
    block(native.close());
}

/// On a machine that has set none apart there is nothing to see; the virtual one has.
fn of_huge_pages(bench: &Bench) {
    const PAGE: u64 = 2 * MIB;
    if huge_pages().get(&PAGE).is_none_or(|bytes| *bytes < 8 * PAGE) {
        return;
    }
    for (given, mapped, exit) in [(0, 1, None), (2, 2, Some(0)), (2, 3, None)] {
        let mut spec = bench.task(&["map-huge", &(mapped * PAGE).to_string()]);
        spec.limits.huge_pages.add(PAGE, given * PAGE);
        let (end, output) = bench.run(&spec);
        match exit {
            Some(code) => assert_eq!(end.exit, Some(Exit::Code(code)), "{output}"),
            // Older kernels let it map what it then may not touch.
            None => assert!(
                matches!(end.exit, Some(Exit::Code(libc::ENOMEM) | Exit::Signal(libc::SIGBUS))),
                "{given} {mapped}: {end:?} {output}"
            ),
        }
    }
}

fn fork_bomb(bench: &Bench) {
    let mut bomb = bench.task(&["fork-bomb"]);
    bomb.limits.pids_max = Some(20);
    bench.launch(&bomb);
    // The task itself counts, the container's own process does not where the runner has it outside.
    let expected = if bench.mode == Oci { "20" } else { "19" };
    assert_eq!(bench.line(&bomb, "count"), expected);
    let (neighbour, _) = bench.run(&bench.sh("for i in 1 2 3; do (exit 0) || exit 1; done; exit 6"));
    assert_eq!(neighbour.exit, Some(Exit::Code(6)));
    block(bench.native.signal(&bomb.id, Signal::Kill)).unwrap();
    assert_eq!(bench.wait(&bomb).exit, Some(Exit::Signal(9)));
}

fn ignored(bench: &Bench) {
    let mut spec = bench.sh("until [ -e go ]; do sleep 0.01; done; exit 3");
    spec.limits = Limits { cpus_limit_milli: Some(1), pids_max: Some(1), ..memory_limit(1) };
    bench.launch(&spec);
    block(bench.native.limit(&spec.id, memory_limit(2))).unwrap();
    fs::write(spec.sandbox.join("go"), "").unwrap();
    let end = bench.wait(&spec);
    assert_eq!((end.exit, end.limitation), (Some(Exit::Code(3)), None));
}

/// A container that waits to be told to go on, and then takes memory; first held to 64 MiB.
fn hungry(bench: &Bench, then: &str) -> ContainerSpec {
    let task = bench.task(&[]).argv.join(" ");
    let mut spec =
        bench.sh(&format!("until [ -e go ]; do sleep 0.01; done; {}", then.replace("TASK", &task)));
    spec.limits = Limits { pids_max: Some(50), cpus_limit_milli: Some(1000), ..memory_limit(64) };
    bench.launch(&spec);
    spec
}

fn other_limits(bench: &Bench) {
    let spec = hungry(bench, "TASK eat 96 && echo ate >ate; TASK use 0 96");
    let limit = |mib| {
        let limits = Limits { pids_max: Some(60), cpus_limit_milli: Some(1500), ..memory_limit(mib) };
        block(bench.native.limit(&spec.id, limits))
    };
    limit(256).unwrap();
    fs::write(spec.sandbox.join("go"), "").unwrap();
    bench.line(&spec, "ate");
    bench.line(&spec, "used");
    let error = limit(64).expect_err("it holds more than that");
    assert!(error.is_busy(), "{error:?}");
    limit(192).unwrap();
    let group = Path::new(&bench.config.cgroup_parent).join(&spec.id.0);
    let groups = cgroups_of(group.to_str().unwrap());
    let read = |name: &str| groups.iter().find_map(|group| fs::read_to_string(group.join(name)).ok());
    let first = |names: [&str; 2]| names.iter().find_map(|name| read(name)).unwrap().trim().to_owned();
    assert_eq!(first(["memory.limit_in_bytes", "memory.max"]), (192 * MIB).to_string());
    assert_eq!(first(["pids.max", "pids.max"]), "61", "one more for process 1");
    assert!(["150000", "150000 100000"].contains(&&*first(["cpu.cfs_quota_us", "cpu.max"])));
    block(bench.native.signal(&spec.id, Signal::Kill)).unwrap();
    let native = &bench.native;
    let end = block(native.wait(&spec.id)).unwrap();
    assert_eq!((end.exit, end.limitation), (Some(Exit::Signal(9)), None));
    limit(64).expect("of one that has ended");
    block(native.remove(&spec.id)).unwrap();
    assert!(matches!(limit(64), Err(ContainerError::Unknown { .. })));
}

fn over_a_raised_limit(bench: &Bench) {
    let spec = hungry(bench, "TASK eat 300");
    block(bench.native.limit(&spec.id, memory_limit(128))).unwrap();
    fs::write(spec.sandbox.join("go"), "").unwrap();
    let end = bench.wait(&spec);
    assert_eq!(end.limitation, Some(Limitation::Memory { limit_bytes: 128 * MIB }), "{end:?}");
}

/// The driver of a machine without version 2, by itself, against processes that fork as fast as they can.
fn freezer(bench: &Bench) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let Some(line) = mounts.lines().find(|l| l.contains(" - cgroup ") && l.ends_with(",freezer")) else {
        // A machine with version 2 alone.
        return;
    };
    let mount = PathBuf::from(line.split(' ').nth(4).unwrap());
    let group = Path::new(&bench.config.cgroup_parent).join("frozen");
    let driver = V1::new([(mount.clone(), [Controller::Freezer].into())].into(), BTreeSet::new());
    driver.make(&group).unwrap();
    let tasks = mount.join(&group).join("tasks");
    let script = format!("echo 0 >{} && while :; do (sleep 0.01 & sleep 0.01 &); done", tasks.display());
    let mut child = Command::new("/bin/sh").args(["-c", &script]).spawn().unwrap();
    until("a few processes are there", || driver.processes(&group).unwrap().len() > 3);
    assert!(!driver.remove(&group).unwrap(), "not while it holds processes");
    until("all of them are killed", || {
        driver.kill(&group).unwrap();
        driver.processes(&group).unwrap().is_empty()
    });
    child.wait().unwrap();
    until("the kernel lets the group go", || driver.remove(&group).unwrap());
    assert!(!mount.join(&group).exists());
    // The upper one is the other tests' too, but in this hierarchy only ours.
    Path::new(&bench.config.cgroup_parent)
        .ancestors()
        .take(2)
        .for_each(|parent| _ = driver.remove_if_empty(parent));
}
