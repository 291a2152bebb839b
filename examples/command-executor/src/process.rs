//! The processes of one task.

use std::{
    fs::{self, File},
    path::Path,
    process::{ExitStatus, Stdio},
};

use apportion_sdk::{
    TaskInfo,
    executor::{End, SOCKET_VARIABLE, TOKEN_FILE_VARIABLE},
};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

/// A process with its group; killed when dropped.
pub(crate) struct Process {
    child: Child,
    /// None once nothing of it is left to be signalled: its number may be another's then.
    group: Option<Pid>,
    asked: bool,
}

impl Process {
    /// Starts the command of a task in a folder of its own, which is made; on error says why it cannot be.
    pub(crate) fn start(folder: &Path, info: &TaskInfo) -> Result<Process, String> {
        let [program, arguments @ ..] = info.command.argv.as_slice() else {
            return Err("it has no command; name a program and its arguments".to_owned());
        };
        let file = |name| File::options().append(true).create(true).open(folder.join(name));
        let made = fs::create_dir_all(folder).and_then(|()| Ok((file("stdout")?, file("stderr")?)));
        let (stdout, stderr) =
            made.map_err(|error| format!("its folder {folder:?} cannot be made: {error}"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            // The socket is the executor's.
            .env_remove(SOCKET_VARIABLE)
            .env_remove(TOKEN_FILE_VARIABLE)
            .env("APPORTION_TASK_ID", info.task_id.as_str())
            .envs(&info.command.env)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true);
        let child = command.spawn().map_err(|error| format!("{program:?} cannot be executed: {error}"))?;
        let group = child.id().and_then(|id| Pid::from_raw(id as i32));
        Ok(Process { child, group, asked: false })
    }

    /// The number of the process, until it has ended.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for the end of the process, and ends what it leaves in its group. Safe to be cancelled.
    pub(crate) async fn end(&mut self) -> End {
        let ended = self.child.wait().await;
        // The kernel gives numbers in turn: so soon the group's is nobody else's.
        self.kill();
        self.group = None;
        let said = |status: ExitStatus| status.to_string();
        match ended {
            Ok(status) if self.asked => End::Killed(said(status)),
            Ok(status) if status.success() => End::Finished(said(status)),
            Ok(status) => End::Failed(said(status)),
            Err(error) => End::Failed(format!("how it ended cannot be known: {error}")),
        }
    }

    pub(crate) fn ask_to_end(&mut self) {
        self.asked = true;
        self.signal(Signal::TERM);
    }

    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // A group in which nobody is left is no error.
            let _ = kill_process_group(group, signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use apportion_sdk::Task;

    use super::*;

    fn start(folder: &Path, script: &str) -> Process {
        let task = Task::new("t").shell(script).env("NAME", "value").cpus(0.1).build().unwrap();
        Process::start(&folder.join("t"), &task).unwrap()
    }

    #[tokio::test]
    async fn a_command_writes_to_its_own_folder_and_leaves_nothing_running() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            start(folder.path(), "echo $NAME $APPORTION_TASK_ID; sleep 1000 & echo $! >left; exit 3");
        assert_eq!(process.end().await, End::Failed("exit status: 3".to_owned()));
        let read = |name| fs::read_to_string(folder.path().join("t").join(name)).unwrap();
        assert_eq!(read("stdout"), "value t\n");
        let left = format!("/proc/{}/stat", read("left").trim());
        // Who reaps it may take a moment.
        while fs::read_to_string(&left).is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_asked_to_end_and_does_not_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process =
            start(folder.path(), "trap 'echo asked' TERM; echo >ready; while :; do sleep 0.01; done");
        while !folder.path().join("t/ready").exists() {
            tokio::task::yield_now().await;
        }
        process.ask_to_end();
        while !fs::read_to_string(folder.path().join("t/stdout")).unwrap().contains("asked") {
            tokio::task::yield_now().await;
        }
        process.kill();
        assert_eq!(process.end().await, End::Killed("signal: 9 (SIGKILL)".to_owned()));
    }

    #[tokio::test]
    async fn what_cannot_be_executed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let task = |argv: &[&str]| Task::new("t").command(argv.iter().copied()).cpus(0.1);
        let why = |info: TaskInfo| Process::start(folder.path(), &info).err().unwrap();
        assert!(why(task(&["/no/such"]).build().unwrap()).contains("\"/no/such\" cannot be executed"));
        let executor = apportion_sdk::TaskId::new("pool").unwrap();
        assert!(why(task(&[]).run_by(&executor).build().unwrap()).contains("no command"));
    }
}
