//! What every scenario needs: a containerizer of its own, folders, and a look at what is left in the end.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    future::Future,
    os::unix::fs::PermissionsExt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use apportion_containerizer::{
    ContainerError, ContainerId, ContainerSpec, Containerizer, Limits, Native, NativeConfig,
    Runtime as Maker, Signal,
};
use apportion_types::container::{Reading, Termination};
use tokio::runtime::Runtime;

/// Nothing here takes this long unless it hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Who runs the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Root: everything.
    Root,
    /// Root, on a kernel without the newer system calls.
    OldKernel,
    /// Root, and containers with users of their own.
    Mapped,
    /// An ordinary user: namespaces, but no cgroups.
    User,
    /// An ordinary user where user namespaces are forbidden.
    Bare,
    /// Root, and an OCI runtime.
    Oci,
    /// Root, and an OCI runtime with a kernel of its own.
    Runsc,
}

impl Mode {
    pub(crate) const ALL: [Mode; 7] =
        [Mode::Root, Mode::OldKernel, Mode::Mapped, Mode::User, Mode::Bare, Mode::Oci, Mode::Runsc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Root => "root",
            Mode::OldKernel => "old_kernel",
            Mode::Mapped => "mapped",
            Mode::User => "user",
            Mode::Bare => "bare",
            Mode::Oci => "oci",
            Mode::Runsc => "runsc",
        }
    }

    fn runner(self) -> &'static str {
        match self {
            Mode::Root | Mode::Mapped | Mode::User | Mode::Oci | Mode::Runsc => "runner",
            Mode::OldKernel => "runner-on-old-kernel",
            Mode::Bare => "runner-without-namespaces",
        }
    }

    pub(crate) fn namespaces(self) -> bool {
        self != Mode::Bare
    }
}

pub(crate) const NO_LIMITS: Limits = Limits {
    cpus_request_milli: 1000,
    cpus_limit_milli: None,
    memory_request_bytes: 0,
    memory_limit_bytes: None,
    swap_max_bytes: 0,
    pids_max: None,
    io: apportion_types::IoLimits::NONE,
    cores: None,
    huge_pages: apportion_types::HugePages::NONE,
};

/// What root of containers with users of their own is on the machine.
pub(crate) const USERS_FIRST: u32 = 1_700_000_000;

/// A containerizer and its folders, checked at the end for what it leaves.
pub(crate) struct Bench {
    pub(crate) mode: Mode,
    pub(crate) native: Native,
    pub(crate) config: NativeConfig,
    pub(crate) dir: PathBuf,
    counter: AtomicU32,
}

/// Where benches are: not in `/tmp`, which a container does not share with the host. Writable to nobody too.
pub(crate) fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("containers");
    if fs::create_dir_all(&folder).is_ok() {
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777));
    }
    folder
}

/// Waits for a future, for a generous time.
pub(crate) fn block<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime =
        RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap());
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("took too long") })
}

/// Waits until something is the case.
pub(crate) fn until(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What makes the containers: of those that work as runc does, `APPORTION_TEST_RUNTIME` or runc itself.
pub(crate) fn maker(mode: Mode) -> Maker {
    let oci = env::var("APPORTION_TEST_RUNTIME");
    let words = match mode {
        Mode::Oci => oci.as_deref().unwrap_or("runc"),
        Mode::Runsc => "runsc --platform=ptrace --network=host",
        _ => "native",
    };
    words.parse().unwrap()
}

/// Whether that is installed.
pub(crate) fn has_maker(mode: Mode) -> bool {
    let Maker::Oci { program, .. } = maker(mode) else { return true };
    std::process::Command::new(program).arg("--version").output().is_ok()
}

/// The configuration of a containerizer below `dir`.
pub(crate) fn config(mode: Mode, dir: &Path, parent: &str) -> NativeConfig {
    NativeConfig {
        runner: vec![env::current_exe().unwrap().into(), OsString::from(mode.runner())],
        hidden: vec![dir.join("secrets")],
        runtime: maker(mode),
        users: (mode == Mode::Mapped).then(|| USERS_FIRST.to_string().parse().unwrap()),
        ..NativeConfig::new(dir.join("state"), parent.to_owned())
    }
}

/// A time to sleep that no other sleeper on the machine has: the same test of another kind of container may run beside.
pub(crate) fn mark() -> String {
    static MARKS: AtomicU32 = AtomicU32::new(100_000);
    format!("{}.{:07}", MARKS.fetch_add(1, Ordering::Relaxed), std::process::id())
}

/// Processes of which the command line holds this text, but for this one.
pub(crate) fn processes_with(text: &str) -> Vec<i32> {
    let pids =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| *pid != std::process::id() as i32)
        .filter(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(text)
        })
        .collect()
}

/// Every cgroup folder of this name, in any hierarchy.
pub(crate) fn cgroups_of(parent: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let roots = mounts.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
    roots.map(|root| Path::new(root).join(parent)).filter(|path| path.exists()).collect()
}

impl Bench {
    /// Runs a scenario on a bench of its own, and checks that nothing is left.
    pub(crate) fn with(mode: Mode, run: fn(&Bench)) {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = tempfile::Builder::new().prefix("bench-").tempdir_in(folder()).unwrap();
        let path = dir.path().canonicalize().unwrap();
        // Without an image its tasks find their sandboxes by the host's path.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(path.join("secrets")).unwrap();
        fs::write(path.join("secrets/key"), "secret").unwrap();
        let parent = format!("apportion-test-{}/{number}", std::process::id());
        let config = config(mode, &path, &parent);
        let native = block(Native::probe(config.clone())).unwrap();
        let opened = Opened(path.clone());
        let bench = Bench { mode, native, config, dir: path, counter: AtomicU32::new(0) };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&bench))) {
            bench.clear();
            drop(opened);
            resume_unwind(panic);
        }
        block(bench.native.close());
        bench.assert_nothing_left();
    }

    /// Ends whatever a failed scenario left.
    fn clear(&self) {
        for entry in fs::read_dir(&self.config.state_dir).unwrap().flatten() {
            let id = ContainerId(entry.file_name().into_string().unwrap());
            block(async {
                let _ = self.native.signal(&id, Signal::Kill).await;
                let _ = self.native.wait(&id).await;
            });
        }
        block(self.native.close());
    }

    /// No process, no cgroup, no mount.
    pub(crate) fn assert_nothing_left(&self) {
        let marker = self.dir.to_str().unwrap();
        until("the last runner is gone", || processes_with(marker).is_empty());
        assert_eq!(cgroups_of(&self.config.cgroup_parent), [] as [PathBuf; 0]);
        assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains(marker));
    }

    /// A specification with a fresh id and sandbox.
    pub(crate) fn spec(&self, argv: &[&str]) -> ContainerSpec {
        let id = format!("c{}", self.counter.fetch_add(1, Ordering::Relaxed));
        let sandbox = self.dir.join("sandboxes").join(&id);
        fs::create_dir_all(&sandbox).unwrap();
        ContainerSpec {
            id: ContainerId(id),
            argv: argv.iter().map(|s| (*s).to_owned()).collect(),
            env: BTreeMap::from([("PATH".to_owned(), env::var("PATH").unwrap())]),
            sandbox,
            output: None,
            root: None,
            user: None,
            working_dir: None,
            mounts: Vec::new(),
            rlimits: Vec::new(),
            persistent: Vec::new(),
            network: None,
            limits: NO_LIMITS,
            tethered: false,
        }
    }

    /// A shell script.
    pub(crate) fn sh(&self, script: &str) -> ContainerSpec {
        self.spec(&["/bin/sh", "-c", script])
    }

    /// This binary as a task.
    pub(crate) fn task(&self, args: &[&str]) -> ContainerSpec {
        let exe = env::current_exe().unwrap();
        let mut spec = self.spec(&[exe.to_str().unwrap(), "task"]);
        spec.argv.extend(args.iter().map(|s| (*s).to_owned()));
        spec
    }

    pub(crate) fn launch(&self, spec: &ContainerSpec) {
        if let Err(e) = block(self.native.launch(spec.clone())) {
            let source = std::error::Error::source(&e).map(ToString::to_string).unwrap_or_default();
            panic!("{e}: {source}");
        }
    }

    /// What one container uses.
    pub(crate) fn usage(&self, id: &ContainerId) -> Result<Reading, ContainerError> {
        block(self.native.usage(std::slice::from_ref(id))).remove(0)
    }

    pub(crate) fn wait(&self, spec: &ContainerSpec) -> Termination {
        block(self.native.wait(&spec.id)).unwrap()
    }

    /// Launches, waits, removes; returns the end and what was printed.
    pub(crate) fn run(&self, spec: &ContainerSpec) -> (Termination, String) {
        self.launch(spec);
        let end = self.wait(spec);
        block(self.native.remove(&spec.id)).unwrap();
        let read = |name| fs::read_to_string(spec.sandbox.join(name)).unwrap();
        (end, read("stdout") + &read("stderr"))
    }

    /// What its runner wrote about a container's processes.
    pub(crate) fn pids(&self, spec: &ContainerSpec) -> serde_json::Value {
        let path = self.config.state_dir.join(&spec.id.0).join("pid.json");
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    /// Waits until a file of the sandbox holds a whole line, and returns it.
    pub(crate) fn line(&self, spec: &ContainerSpec, name: &str) -> String {
        let mut text = String::new();
        until(&format!("a line in {name}"), || {
            text = fs::read_to_string(spec.sandbox.join(name)).unwrap_or_default();
            text.ends_with('\n')
        });
        text.trim().to_owned()
    }
}

/// Opens the folders below this one when dropped: what overlays work in is closed to their owner, who could not delete it.
struct Opened(PathBuf);

impl Drop for Opened {
    fn drop(&mut self) {
        let _ = std::process::Command::new("chmod").args(["-R", "u+rwx"]).arg(&self.0).output();
    }
}
