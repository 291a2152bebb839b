//! An executor that runs the commands of its tasks as plain processes: for many short commands that are not worth a container each.
//!
//! An executor as an outside team would write it, on the SDK alone; and what `apportion executor` is. Launch that as a task that is an
//! executor, and tasks with a command that it runs:
//!
//! - each in a process group of its own, in the folder `tasks/TASK` of the executor's sandbox, where its `stdout` and `stderr` are;
//! - with the executor's environment beside its own, but for what leads to the agent;
//! - ended with TERM to its group and, when its grace is over, KILL. What it leaves in its group is killed with it.
//!
//! Its processes share the executor's user, files and limits: what must be kept apart from each other needs containers.

#![warn(missing_docs)]

mod process;

use std::{env, future::Future, path::PathBuf};

use apportion_sdk::{
    async_trait,
    executor::{End, Executor, ExecutorError, Launched, Runner},
};

use self::process::Process;

/// Runs the commands of tasks.
#[derive(Debug)]
pub struct CommandExecutor {
    sandbox: PathBuf,
}

impl CommandExecutor {
    /// One whose tasks have folders of their own in this sandbox.
    pub fn new(sandbox: impl Into<PathBuf>) -> Self {
        Self { sandbox: sandbox.into() }
    }
}

#[async_trait]
impl Executor for CommandExecutor {
    async fn run(&self, task: &Launched) -> End {
        let info = task.info();
        let mut process = match Process::start(&self.sandbox.join("tasks").join(info.task_id.as_str()), info)
        {
            Ok(process) => process,
            Err(why) => return End::Failed(why),
        };
        task.running(process.id().map_or_else(String::new, |id| format!("runs as process {id}"))).await;
        tokio::select! {
            end = process.end() => return end,
            _ = task.killed() => process.ask_to_end(),
        }
        tokio::select! {
            end = process.end() => end,
            () = task.overdue() => {
                process.kill();
                process.end().await
            }
        }
    }
}

/// Runs what the agent launches, until the agent says that the executor is over, or until `shutdown` is ready and its tasks have ended.
pub async fn run(shutdown: impl Future<Output = ()>) -> Result<(), ExecutorError> {
    let sandbox = env::var_os("APPORTION_SANDBOX").map_or_else(|| PathBuf::from("."), PathBuf::from);
    Runner::from_env()?.run_until(CommandExecutor::new(sandbox), shutdown).await
}
