//! The cause of an end, for people.

use apportion_sdk::{Reason, TaskStatus, container::Limitation};

/// What a status says of an end, in as few words as a table has room for.
pub(super) fn cause(status: &TaskStatus) -> String {
    let container = status.container.as_ref();
    match container.and_then(|container| container.limitation) {
        Some(Limitation::Memory { limit_bytes }) => {
            return format!("over its {} MiB of memory", limit_bytes >> 20);
        }
        Some(Limitation::Disk { limit_bytes }) => {
            return format!("over its {} MiB of disk", limit_bytes >> 20);
        }
        Some(Limitation::Port { port }) => {
            return format!("listened on port {port}, which is not its own");
        }
        None => {}
    }
    match (container.and_then(|container| container.exit), status.reason) {
        (Some(exit), None | Some(Reason::CommandExited)) => exit.to_string(),
        (_, _) if !status.message.is_empty() => status.message.clone(),
        (Some(exit), Some(reason)) => format!("{exit}, {reason}"),
        (None, Some(reason)) => reason.to_string(),
        (None, None) => status.state.to_string(),
    }
}
