//! What makes the containers: this crate, or an OCI runtime that is installed on the machine.

use std::{
    env, fmt,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::folder::{self, Process};

/// Where a program is looked for when nothing says otherwise.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What makes and starts containers, as an operator says it: `native`, or the name or path of an OCI runtime with the options that are
/// to precede each of its commands, separated by blanks: `runc`, `/opt/youki`, `runsc --platform=ptrace --network=host`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Runtime {
    /// This crate alone.
    #[default]
    Native,
    /// A program, and options.
    Oci {
        /// Looked up in the agent's `PATH` when it holds no slash.
        program: String,
        /// What precedes each command.
        args: Vec<String>,
    },
}

/// Why a text names no runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} names no runtime; give `native`, or an OCI runtime's name or absolute path with its options, such as runc"
)]
pub struct RuntimeError {
    /// The text.
    pub text: String,
}

impl FromStr for Runtime {
    type Err = RuntimeError;

    fn from_str(text: &str) -> Result<Self, RuntimeError> {
        let bad = || RuntimeError { text: text.to_owned() };
        let mut words = text.split_whitespace().map(str::to_owned);
        let program = words.next().ok_or_else(bad)?;
        let args: Vec<String> = words.collect();
        match program.as_str() {
            "native" if args.is_empty() => Ok(Runtime::Native),
            "native" => Err(bad()),
            option if option.starts_with('-') => Err(bad()),
            // What is relative would depend on where the agent was started.
            path if path.contains('/') && !path.starts_with('/') => Err(bad()),
            _ => Ok(Runtime::Oci { program, args }),
        }
    }
}

impl TryFrom<String> for Runtime {
    type Error = RuntimeError;

    fn try_from(text: String) -> Result<Self, RuntimeError> {
        text.parse()
    }
}

impl From<Runtime> for String {
    fn from(runtime: Runtime) -> String {
        runtime.to_string()
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Runtime::Native => f.write_str("native"),
            Runtime::Oci { program, args } => {
                f.write_str(program)?;
                args.iter().try_for_each(|arg| write!(f, " {arg}"))
            }
        }
    }
}

/// An OCI runtime that was found on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OciRuntime {
    /// Absolute.
    pub(crate) program: PathBuf,
    /// What precedes each command.
    args: Vec<String>,
    /// It runs containers on a kernel of its own, as a trial has shown.
    #[serde(default)]
    pub(crate) own_kernel: bool,
}

impl OciRuntime {
    /// Finds the program; on error says what to do.
    pub(crate) fn find(program: &str, args: &[String]) -> Result<OciRuntime, String> {
        let path = env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
        let (candidates, searched): (Vec<PathBuf>, String) = if program.starts_with('/') {
            (vec![program.into()], "there".to_owned())
        } else {
            // A daemon's path often lacks the folders of root's programs, where distributions put runtimes.
            let folders = path.split(':').chain(DEFAULT_PATH.split(':')).filter(|f| f.starts_with('/'));
            (folders.map(|folder| Path::new(folder).join(program)).collect(), format!("in {path}"))
        };
        let runs = |path: &PathBuf| {
            path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        };
        match candidates.into_iter().find(runs) {
            Some(program) => Ok(OciRuntime { program, args: args.to_vec(), own_kernel: false }),
            None => Err(format!(
                "no such program {searched}; install it, for example with apt-get install {}, give its absolute path, or leave `native`",
                Path::new(program).file_name().unwrap_or_default().display()
            )),
        }
    }

    /// What people call it.
    pub(crate) fn name(&self) -> String {
        self.program.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The arguments before a command, for the container of this folder (absolute): its state is kept there, beside nobody else's.
    pub(crate) fn arguments(&self, folder: &Path) -> Vec<String> {
        let below = |name: &str| folder.join(folder::RUNTIME).join(name).display().to_string();
        let own = ["--root".to_owned(), below(STATE), "--log".to_owned(), below(LOG)];
        let format = ["--log-format", "json"].map(str::to_owned);
        self.args.iter().cloned().chain(own).chain(format).collect()
    }
}

/// Where in [`folder::RUNTIME`] the runtime keeps its own account of the container.
const STATE: &str = "state";

/// What the runtime says there, as lines of JSON.
pub(crate) const LOG: &str = "log";

/// The container's name towards the runtime: of this machine's boot alone, and of characters that every runtime takes.
pub(crate) fn name_of(runner: Process) -> String {
    format!("apportion-{}-{}", runner.pid, runner.start_ticks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_operator_says() {
        assert_eq!("native".parse(), Ok(Runtime::Native));
        let runsc: Runtime = " runsc  --platform=ptrace --network=host ".parse().unwrap();
        assert_eq!(runsc.to_string(), "runsc --platform=ptrace --network=host");
        assert_eq!(serde_json::to_string(&runsc).unwrap(), format!("\"{runsc}\""));
        assert_eq!(serde_json::from_str::<Runtime>(&format!("\"{runsc}\"")).unwrap(), runsc);
        for bad in ["", " ", "native x", "--debug", "./runc", "bin/runc"] {
            assert!(bad.parse::<Runtime>().unwrap_err().to_string().contains("`native`"), "{bad:?}");
        }
    }

    #[test]
    fn a_runtime_is_looked_up() {
        assert!(OciRuntime::find("sh", &[]).unwrap().program.ends_with("sh"));
        assert_eq!(OciRuntime::find("/bin/sh", &[]).unwrap().name(), "sh");
        for missing in ["no-such-runtime", "/etc/passwd", "/etc"] {
            let why = OciRuntime::find(missing, &[]).unwrap_err();
            assert!(why.contains("apt-get install"), "{why}");
        }
    }
}
