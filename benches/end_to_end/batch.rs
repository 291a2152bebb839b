//! A job of no-ops as its user sees it: from the command's start to its summary, on the bundled batch framework.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use apportion_batch::run::{RunArgs, SUCCEEDED};

use crate::Failed;

/// The first argument of such a process.
pub(crate) const ARGUMENT: &str = "batch";

/// Runs the job of `FILE` with `MASTER`.
pub(crate) async fn main(args: Vec<String>) -> Result<(), Failed> {
    let [file, master] = args.try_into().map_err(|_| "usage: batch FILE MASTER")?;
    match apportion_batch::run::run(RunArgs::new(PathBuf::from(file)), &master).await? {
        SUCCEEDED => Ok(()),
        code => Err(format!("the job ended with {code}").into()),
    }
}

/// How long a job of so many no-ops takes.
pub(crate) async fn job(folder: &Path, master: &str, tasks: u64) -> Result<Duration, Failed> {
    let file = folder.join("no-ops.toml");
    let text = format!(
        "name = \"no-ops\"\narray = {{ range = [1, {tasks}] }}\n[task]\ncommand = [\"/bin/true\"]\ncpus = 0.25\nmemory = \"16MiB\"\n"
    );
    fs::write(&file, text)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT).arg(&file).arg(master).stdin(Stdio::null()).stdout(Stdio::null());
    let start = Instant::now();
    let ended = tokio::task::spawn_blocking(move || command.status()).await??;
    match ended.success() {
        true => Ok(start.elapsed()),
        false => Err(format!("the job of {tasks} no-ops failed: {ended}").into()),
    }
}
