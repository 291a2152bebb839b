//! An OCI runtime, from the agent's side: finding out whether it can be used here, and ending what a killed runner had it make.

use std::{collections::BTreeMap, fs, path::Path, process::Stdio, time::Duration};

use apportion_types::container::{Control, Exit, Unenforced};
use tokio::{process::Command, time::timeout};

use super::{
    NativeConfig, Plan,
    probe::{self, Trial, Tried},
    program::Program,
};
use crate::{
    error::{LaunchError, ProbeError},
    folder::{Isolation, Process},
    linux,
    runtime::{self, OciRuntime, Runtime},
    spec::Limits,
};

/// As reasonable as for a native trial, with room for the runtime's own processes.
const LIMITS: Limits = Limits {
    cpus_request_milli: 1000,
    cpus_limit_milli: None,
    memory_request_bytes: 16 << 20,
    memory_limit_bytes: Some(512 << 20),
    swap_max_bytes: 0,
    pids_max: Some(512),
    io: apportion_types::IoLimits::NONE,
    cores: None,
    huge_pages: apportion_types::HugePages::NONE,
};

/// What the trial executes: what it prints is what the kernel holds a task to.
const COMMAND: [&str; 2] = ["cat", "/proc/self/status"];

/// A runtime that takes longer to forget a container hangs.
const DELETE_TIMEOUT: Duration = Duration::from_secs(20);

/// Gives the plan the runtime that is asked for, once a trial container has run in it.
pub(super) async fn probe(
    (config, program): (&NativeConfig, &Program),
    plan: &mut Plan,
    reasons: &mut BTreeMap<Control, String>,
) -> Result<(), ProbeError> {
    let Runtime::Oci { program: named, args } = &config.runtime else { return Ok(()) };
    let unusable = |what: String| ProbeError::Runtime { runtime: config.runtime.to_string(), what };
    if plan.isolation != Isolation::Namespaces {
        let what = "containers of an OCI runtime need the namespaces that only root may make; run the agent as root, or leave `native`";
        return Err(unusable(what.to_owned()));
    }
    plan.runtime = Some(OciRuntime::find(named, args).map_err(unusable)?);
    plan.layout = plan
        .layout
        .clone()
        .with_all_hierarchies()
        .map_err(|e| unusable(format!("/proc/self/mountinfo cannot be read: {e}")))?;
    let remedy = "mend what it names, choose another runtime, or leave `native`";
    let tried = format!("a container of the machine's own files that executes `{}`", COMMAND.join(" "));
    let trial = Trial { argv: COMMAND.map(str::to_owned).to_vec(), limits: LIMITS };
    let Tried { ended, printed, pids } = match probe::trial((config, program), plan, trial, "oci").await {
        Ok(tried) => tried,
        Err(reason) => {
            let why = match LaunchError::from(reason) {
                LaunchError::Runtime { what } => what,
                other => match std::error::Error::source(&other) {
                    Some(source) => format!("{other}: {source}"),
                    None => other.to_string(),
                },
            };
            return Err(unusable(format!("tried {tried}: {why}; {remedy}")));
        }
    };
    match ended.map(|ended| ended.exit) {
        Some(Some(Exit::Code(0))) => {}
        ended => {
            let how = format!("{:?}", ended.flatten());
            return Err(unusable(format!(
                "tried {tried}, which ended with {how} and said {printed:?}; {remedy}"
            )));
        }
    }
    if let Some(runtime) = &mut plan.runtime {
        // The first process then is all that there is of it on this one.
        runtime.own_kernel = pids.init == pids.task;
    }
    for Unenforced { control, reason } in lacking(&printed, plan) {
        reasons.entry(control).or_insert(reason);
    }
    Ok(())
}

/// What the trial's status shows that the runtime left out of what it was told.
fn lacking(status: &str, plan: &Plan) -> Vec<Unenforced> {
    let value = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim)
    };
    let name = plan.runtime.as_ref().map(OciRuntime::name).unwrap_or_default();
    let mut lacking = Vec::new();
    let mut say = |control, what: &str| {
        let reason = format!("{name} {what}; choose another runtime, or leave `native`");
        lacking.push(Unenforced { control, reason });
    };
    if value("Seccomp") == Some("0") && !plan.layout.off.contains(&Control::Seccomp) {
        say(
            Control::Seccomp,
            "installs no filter of system calls, as one built without libseccomp or with a kernel of its own",
        );
    }
    let bound = value("CapBnd").and_then(|hex| u64::from_str_radix(hex, 16).ok());
    if bound.is_some_and(|bound| bound & !linux::CAPABILITIES != 0) || value("NoNewPrivs") == Some("0") {
        say(Control::Capabilities, "leaves tasks capabilities that they are not to have");
    }
    lacking
}

/// Has the runtime end and forget a container whose runner is dead. What it cannot do is cleared away without it.
pub(super) async fn delete(runtime: &OciRuntime, folder: &Path, runner: Process) {
    let Ok(folder) = fs::canonicalize(folder) else { return };
    let mut command = Command::new(&runtime.program);
    command
        .args(runtime.arguments(&folder))
        .args(["delete", "--force", &runtime::name_of(runner)])
        .env_clear()
        .env("PATH", runtime::DEFAULT_PATH)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    match timeout(DELETE_TIMEOUT, command.status()).await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::debug!(?folder, %status, "the OCI runtime did not know the container"),
        Ok(Err(error)) => tracing::warn!(?folder, %error, "the OCI runtime cannot be called"),
        Err(_) => tracing::warn!(?folder, "the OCI runtime hangs; its container is cleared away without it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Layout;

    #[test]
    fn what_a_runtime_leaves_out_is_seen() {
        let runtime = OciRuntime::find("sh", &[]).unwrap();
        let plan = Plan {
            isolation: Isolation::Namespaces,
            layout: Layout::default(),
            runtime: Some(runtime),
            users: None,
        };
        let controls = |status: &str| -> Vec<Control> {
            lacking(status, &plan).into_iter().map(|unenforced| unenforced.control).collect()
        };
        assert_eq!(controls("CapBnd:\t00000000a00425fb\nNoNewPrivs:\t1\nSeccomp:\t2\n"), []);
        assert_eq!(
            controls("CapBnd:\t000001ffffffffff\nNoNewPrivs:\t1\nSeccomp:\t2\n"),
            [Control::Capabilities]
        );
        assert_eq!(controls("CapBnd:\t0\nNoNewPrivs:\t0\nSeccomp:\t2\n"), [Control::Capabilities]);
        assert_eq!(controls("CapBnd:\t0\nNoNewPrivs:\t1\nSeccomp:\t0\n"), [Control::Seccomp]);
        // A kernel of its own need not say.
        assert_eq!(controls("Name:\tcat\n"), []);
    }
}
