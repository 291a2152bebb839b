//! A command in the task's container: how it ends is the answer.

use apportion_agent_core::ContainerId;
use apportion_containerizer::{self as containerizer, Containerizer, ExecSpec};
use apportion_types::{Command, container::Exit, probe::CheckResult, text::chain};

use super::{Answer, unanswered};

/// Bytes of what it writes that are told.
const WRITTEN_BYTES_MAX: usize = 256;

pub(super) async fn ask(
    containerizer: &dyn Containerizer,
    container_id: &ContainerId,
    command: Command,
) -> Answer {
    let id = containerizer::ContainerId(container_id.0.clone());
    let spec = ExecSpec { argv: command.argv, env: command.env, ..ExecSpec::default() };
    let executed = match containerizer.exec(&id, spec).await {
        Ok(executed) => executed,
        Err(error) => return unanswered(chain(&error)),
    };
    let finished = match executed.finish(WRITTEN_BYTES_MAX).await {
        Ok(finished) => finished,
        Err(error) => return unanswered(error),
    };
    let code = match finished.exit {
        Exit::Code(code) => code,
        Exit::Signal(signal) => 128 + signal,
    };
    let written = if finished.errors.is_empty() { finished.output } else { finished.errors };
    let written = String::from_utf8_lossy(&written);
    let heard = match written.trim() {
        "" => finished.exit.to_string(),
        written => format!("{}: {written}", finished.exit),
    };
    (CheckResult::Exit(code), heard)
}
