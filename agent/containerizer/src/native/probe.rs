//! Finding out what can be enforced here, by trying exactly what launches do.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    os::unix::fs::DirBuilderExt,
    path::{Component, Path},
};

use apportion_types::{
    CpuSet, HugePages, IoLimits,
    container::{Control, Termination, Unenforced},
    text::chain,
};

use super::{
    NativeConfig, Plan,
    launch::{self, NotStarted},
    program::Program,
    runner, runtime, users,
};
use crate::{
    cgroup::{Controller, Disk, Layout},
    error::{LaunchError, ProbeError},
    folder::{self, Failure, Isolation, Pids},
    huge_pages::huge_pages,
    spec::{ContainerId, ContainerSpec, Limits},
};

/// Trials leave something out each time; there is not more to leave out than this.
const TRIALS_MAX: usize = 32;

/// More than the kernel says of a process.
const PRINTED_BYTES_MAX: u64 = 4 << 10;

/// What begins the name of a trial's folder; no container's id begins with a dot.
const TRIAL: &str = ".trial-";

/// Reasonable limits of every kind, so that each file is written once.
const LIMITS: Limits = Limits {
    cpus_request_milli: 1000,
    cpus_limit_milli: Some(1000),
    memory_request_bytes: 16 << 20,
    memory_limit_bytes: Some(64 << 20),
    swap_max_bytes: 0,
    pids_max: Some(64),
    io: IoLimits {
        read_bytes_per_second: Some(1 << 30),
        write_bytes_per_second: Some(1 << 30),
        read_ops_per_second: Some(1 << 20),
        write_ops_per_second: Some(1 << 20),
    },
    cores: None,
    huge_pages: HugePages::NONE,
};

/// Settles what to use and says what cannot be enforced.
pub(super) async fn probe(
    config: &NativeConfig,
    program: &Program,
) -> Result<(Plan, Vec<Unenforced>), ProbeError> {
    let parent = Path::new(&config.cgroup_parent);
    if parent.as_os_str().is_empty() || !parent.components().all(|c| matches!(c, Component::Normal(_))) {
        return Err(ProbeError::CgroupParent { path: config.cgroup_parent.clone() });
    }
    if let Some(wanted) = &config.cpuset {
        online(wanted)?;
    }
    let state = |source| ProbeError::State { path: config.state_dir.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.state_dir).map_err(state)?;
    remove_old_trials(&config.state_dir);

    let mut reasons = BTreeMap::new();
    // Without a list of mounts there is nothing to be used.
    let disk = Disk::of(&config.state_dir);
    let mut layout = Layout::detect(config.cpuset.clone(), disk.as_ref().ok().copied()).unwrap_or_default();
    say_what_is_not_mounted(&layout, &mut reasons);
    if let Err(no_disk) = disk {
        reasons.insert(Control::Io, chain(&no_disk));
    }
    if !Path::new("/proc/swaps").exists() {
        // This kernel cannot swap at all.
        reasons.remove(&Control::Swap);
        layout.off.insert(Control::Swap);
    }
    let root = rustix::process::geteuid().is_root();
    let isolation = if root { Isolation::Namespaces } else { Isolation::UserNamespaces };
    let mut plan = Plan { isolation, layout, runtime: None, users: None };
    for number in 0..TRIALS_MAX {
        let Err(failure) = trial((config, program), &plan, Trial::NATIVE, &number.to_string()).await else {
            break;
        };
        if !leave_out(&mut plan, &failure, config, &mut reasons) {
            let source = match failure {
                NotStarted::Runner(failure) => failure.into(),
                NotStarted::Here(error) => error,
            };
            return Err(ProbeError::Trial { source });
        }
    }
    runtime::probe((config, program), &mut plan, &mut reasons).await?;
    users::probe((config, program), &mut plan).await?;
    if !plan.isolation.namespaces() && plan.layout.v2.is_none() && !plan.layout.has(Controller::Freezer) {
        let reason = reasons.get(&Control::Namespaces).cloned().unwrap_or_default();
        reasons.insert(
            Control::AtomicKill,
            format!("processes of a task are found by their descent, and one that hides may survive it, because {reason}"),
        );
    }
    Ok((plan, reasons.into_iter().map(|(control, reason)| Unenforced { control, reason }).collect()))
}

/// A container that is run to find out what can be had.
pub(super) struct Trial {
    /// Empty: its task ends before executing anything.
    pub(super) argv: Vec<String>,
    pub(super) limits: Limits,
}

impl Trial {
    /// What every container of this crate's own making goes through.
    pub(super) const NATIVE: Trial = Trial { argv: Vec::new(), limits: LIMITS };
}

/// What came of it.
pub(super) struct Tried {
    /// How it ended, if that can be known.
    pub(super) ended: Option<Termination>,
    pub(super) printed: String,
    pub(super) pids: Pids,
}

/// Runs it under a name of its own.
pub(super) async fn trial(
    (config, program): (&NativeConfig, &Program),
    plan: &Plan,
    trial: Trial,
    name: &str,
) -> Result<Tried, NotStarted> {
    let id = ContainerId(format!("{TRIAL}{}-{name}", std::process::id()));
    let sandbox = config.state_dir.join(format!("{}.sandbox", id.0));
    let state = |source| NotStarted::Here(LaunchError::State { path: sandbox.clone(), source });
    let sandbox_path = std::path::absolute(&sandbox).map_err(state)?;
    fs::create_dir(&sandbox).map_err(state)?;
    let spec = ContainerSpec {
        id: id.clone(),
        argv: if trial.argv.is_empty() { vec!["trial".to_owned()] } else { trial.argv.clone() },
        env: BTreeMap::new(),
        sandbox: sandbox_path,
        output: None,
        root: None,
        user: None,
        working_dir: None,
        mounts: Vec::new(),
        rlimits: Vec::new(),
        persistent: Vec::new(),
        network: None,
        limits: trial.limits,
        tethered: true,
    };
    let mut order = launch::order(config, plan, spec);
    order.trial = trial.argv.is_empty();
    let folder = config.state_dir.join(&id.0);
    let result = match launch::start(program, &config.state_dir, &order).await {
        Ok(()) => {
            let ended = runner::ended(&id, &folder).await.ok();
            let said = ["stdout", "stderr"].map(|name| beginning(&sandbox.join(name)));
            let pids = super::read(&folder, folder::PIDS).ok().flatten().unwrap_or_default();
            Ok(Tried { ended, printed: said.concat(), pids })
        }
        Err(reason) => Err(reason),
    };
    for path in [&sandbox, &folder] {
        let _ = fs::remove_dir_all(path);
    }
    result
}

/// The first bytes of a file, as many as a trial has reason to print.
fn beginning(path: &Path) -> String {
    let mut bytes = Vec::new();
    // One that is not there has printed nothing.
    let _ = fs::File::open(path).and_then(|file| file.take(PRINTED_BYTES_MAX).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Of an agent that was killed while it probed. Nothing runs in them: trials are tethered.
fn remove_old_trials(state_dir: &Path) {
    let Ok(entries) = fs::read_dir(state_dir) else { return };
    for entry in entries.flatten().filter(|e| e.file_name().to_string_lossy().starts_with(TRIAL)) {
        let _ = fs::remove_dir_all(entry.path());
    }
}

/// Refuses processors that are not there; a machine that does not say which it has is tried.
fn online(wanted: &CpuSet) -> Result<(), ProbeError> {
    let text = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let Ok(online) = text.trim().parse::<CpuSet>() else { return Ok(()) };
    let Some(missing) = wanted.without(&online) else { return Ok(()) };
    let (wanted, missing, online) = (Box::new(wanted.clone()), Box::new(missing), Box::new(online));
    Err(ProbeError::Cpuset { wanted, missing, online })
}

/// What no trial can show: controllers that are not there at all.
fn say_what_is_not_mounted(layout: &Layout, reasons: &mut BTreeMap<Control, String>) {
    let remedy = "mount its cgroup hierarchy, or cgroup2, and start the agent again";
    for (controller, name, controls) in [
        (Controller::Cpu, "cpu", &[Control::CpuWeight, Control::CpuQuota][..]),
        (Controller::Memory, "memory", &[Control::Memory, Control::Swap]),
        (Controller::Pids, "pids", &[Control::Pids]),
        (Controller::Cpuset, "cpuset", &[Control::Cpuset]),
        (Controller::Io, "io", &[Control::Io]),
        (Controller::Hugetlb, "hugetlb", &[Control::HugePages]),
    ] {
        let wanted = match controller {
            Controller::Cpuset => layout.cpus.is_some(),
            Controller::Hugetlb => !huge_pages().is_empty(),
            _ => true,
        };
        if wanted && !layout.has(controller) {
            for control in controls {
                reasons
                    .insert(*control, format!("the kernel's {name} controller is not available; {remedy}"));
            }
        }
    }
}

/// Takes what failed out of the plan, with the reason; false if there is nothing that could be left out.
fn leave_out(
    plan: &mut Plan,
    failure: &NotStarted,
    config: &NativeConfig,
    reasons: &mut BTreeMap<Control, String>,
) -> bool {
    let NotStarted::Runner(failure) = failure else { return false };
    match failure {
        Failure::Cgroup { file, what, control: Some(control), errno, .. } => {
            let remedy = match control {
                _ if file.ends_with("cgroup.subtree_control") => "give the groups above it this controller",
                Control::Swap => "start the kernel with swapaccount=1",
                Control::Cpuset => "give these processors, and the cpuset controller, to the groups above it",
                _ => "enable it in the kernel",
            };
            let reason = format!("{what} to {} failed ({}); {remedy}", file.display(), os(*errno));
            reasons.entry(*control).or_insert(reason);
            plan.layout.off.insert(*control)
        }
        Failure::Cgroup { mount, file, what, control: None, errno } => {
            let before = controls(&plan.layout);
            plan.layout.drop_hierarchy(mount);
            let after = controls(&plan.layout);
            let folder = mount.join(&config.cgroup_parent);
            let reason = format!(
                "{what} of {} failed ({}); run the agent as root, or give its user the folder {}",
                file.display(),
                os(*errno),
                folder.display()
            );
            for control in before.into_iter().filter(|control| !after.contains(control)) {
                reasons.entry(control).or_insert_with(|| reason.clone());
            }
            true
        }
        Failure::Setup { control: Some(Control::Namespaces), step, errno } => {
            let reason = format!("{step} failed ({})", os(*errno));
            match plan.isolation {
                Isolation::Namespaces => plan.isolation = Isolation::UserNamespaces,
                Isolation::UserNamespaces => {
                    plan.isolation = Isolation::Descent;
                    let reason =
                        format!("{reason}; allow user namespaces to the agent's user, or run it as root");
                    for control in [Control::Namespaces, Control::ReadOnlyRoot] {
                        reasons.insert(control, reason.clone());
                    }
                }
                Isolation::Descent => return false,
            }
            true
        }
        Failure::Setup { control: Some(control), step, errno } => {
            reasons.insert(*control, format!("{step} failed ({}); enable it in the kernel", os(*errno)));
            plan.layout.off.insert(*control)
        }
        _ => false,
    }
}

fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// The controls that a layout's controllers stand for.
fn controls(layout: &Layout) -> Vec<Control> {
    let mut controls = Vec::new();
    if layout.has(Controller::Cpu) {
        controls.extend([Control::CpuWeight, Control::CpuQuota]);
    }
    if layout.has(Controller::Memory) {
        controls.extend([Control::Memory, Control::Swap]);
    }
    if layout.has(Controller::Pids) {
        controls.push(Control::Pids);
    }
    if layout.has(Controller::Cpuset) {
        controls.push(Control::Cpuset);
    }
    if layout.has(Controller::Io) {
        controls.push(Control::Io);
    }
    if layout.has(Controller::Hugetlb) {
        controls.push(Control::HugePages);
    }
    controls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> NativeConfig {
        NativeConfig::new("/state".into(), "apportion/a".into())
    }

    fn plan() -> Plan {
        let v1 = [
            ("/cg/cpu", Controller::Cpu),
            ("/cg/memory", Controller::Memory),
            ("/cg/pids", Controller::Pids),
        ];
        let v1 = v1.into_iter().map(|(mount, controller)| (mount.into(), [controller].into())).collect();
        Plan {
            isolation: Isolation::Namespaces,
            layout: Layout { v1, ..Layout::default() },
            runtime: None,
            users: None,
        }
    }

    fn setup(control: Control) -> NotStarted {
        NotStarted::Runner(Failure::Setup {
            step: "doing it".into(),
            control: Some(control),
            errno: libc::EPERM,
        })
    }

    fn cgroup(control: Option<Control>) -> NotStarted {
        let (mount, file) = ("/cg/memory".into(), "/cg/memory/apportion".into());
        NotStarted::Runner(Failure::Cgroup {
            mount,
            file,
            what: "mkdir".into(),
            control,
            errno: libc::EACCES,
        })
    }

    #[test]
    fn a_hierarchy_that_cannot_be_used_is_left_out_with_its_controls() {
        let (mut plan, mut reasons) = (plan(), BTreeMap::new());
        assert!(leave_out(&mut plan, &cgroup(None), &config(), &mut reasons));
        assert_eq!(reasons.keys().copied().collect::<Vec<_>>(), [Control::Memory, Control::Swap]);
        let reason = &reasons[&Control::Memory];
        assert!(
            reason.contains("Permission denied") && reason.contains("/cg/memory/apportion/a"),
            "{reason}"
        );
        assert!(!plan.layout.has(Controller::Memory) && plan.layout.has(Controller::Cpu));
    }

    #[test]
    fn a_file_that_cannot_be_written_costs_its_control_alone() {
        let (mut plan, mut reasons) = (plan(), BTreeMap::new());
        let failure = cgroup(Some(Control::Memory));
        assert!(leave_out(&mut plan, &failure, &config(), &mut reasons));
        assert!(plan.layout.has(Controller::Memory) && plan.layout.off.contains(&Control::Memory));
        assert!(!leave_out(&mut plan, &failure, &config(), &mut reasons), "a second time it would never end");
        assert!(leave_out(&mut plan, &cgroup(Some(Control::Swap)), &config(), &mut reasons));
        assert!(reasons[&Control::Swap].contains("swapaccount=1"), "{reasons:?}");
        let mut handed_down = cgroup(Some(Control::Io));
        if let NotStarted::Runner(Failure::Cgroup { file, .. }) = &mut handed_down {
            *file = "/cg/cgroup.subtree_control".into();
        }
        assert!(leave_out(&mut plan, &handed_down, &config(), &mut reasons));
        assert!(reasons[&Control::Io].contains("give the groups above it this controller"), "{reasons:?}");
    }

    #[test]
    fn isolation_steps_down_and_then_gives_up() {
        let (mut plan, mut reasons) = (plan(), BTreeMap::new());
        let failure = setup(Control::Namespaces);
        assert!(leave_out(&mut plan, &failure, &config(), &mut reasons));
        assert_eq!(plan.isolation, Isolation::UserNamespaces);
        assert!(reasons.is_empty(), "nothing is lost yet");
        assert!(leave_out(&mut plan, &failure, &config(), &mut reasons));
        assert_eq!(plan.isolation, Isolation::Descent);
        assert_eq!(reasons.keys().copied().collect::<Vec<_>>(), [Control::Namespaces, Control::ReadOnlyRoot]);
        assert!(!leave_out(&mut plan, &failure, &config(), &mut reasons));
        assert!(leave_out(&mut plan, &setup(Control::Seccomp), &config(), &mut reasons));
        assert!(reasons.contains_key(&Control::Seccomp));
    }

    #[test]
    fn what_is_not_mounted_is_said() {
        let mut reasons = BTreeMap::new();
        say_what_is_not_mounted(&Layout::default(), &mut reasons);
        let controls: Vec<Control> = reasons.keys().copied().collect();
        assert_eq!(
            controls,
            [
                Control::CpuWeight,
                Control::CpuQuota,
                Control::Memory,
                Control::Swap,
                Control::Pids,
                Control::Io
            ]
        );
        let layout = Layout { cpus: Some("0".parse().unwrap()), ..Layout::default() };
        say_what_is_not_mounted(&layout, &mut reasons);
        assert!(reasons[&Control::Cpuset].contains("cpuset controller is not available"), "{reasons:?}");
    }
}
