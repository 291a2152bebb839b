//! How large accepts become.

use apportion_types::{Resources, TaskInfo, limits, resources::Value};

/// Bytes of descriptions in one call: what a message takes, with room for the resources' and the framing's own.
pub(crate) const ACCEPT_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX - (512 << 10);

/// At least the bytes of resources on the wire, as far as their terms go.
pub(crate) fn of_terms(resources: &Resources) -> usize {
    if !resources.has_terms() {
        return 0;
    }
    // Each part of terms stands in their text, and takes a few bytes of framing.
    2 * resources.to_string().len() + 64 * resources.entries().len()
}

/// At least the bytes of a task on the wire, but for a few of framing.
pub(crate) fn of_task(task: &TaskInfo) -> usize {
    let parts = task.command.argv.len() + task.command.env.len() + task.labels.len();
    let amounts: usize = [&task.resources, &task.limits]
        .into_iter()
        .flat_map(Resources::iter)
        .map(|(name, value)| {
            32 + name.as_str().len()
                + match value {
                    Value::Scalar(_) => 10,
                    Value::Ranges(ranges) => ranges.iter().len() * 24,
                    Value::Set(set) => set.iter().map(|member| member.len() + 4).sum(),
                }
        })
        .sum();
    128 + task.task_id.as_str().len() + task.text_bytes() + parts * 12 + amounts + of_terms(&task.resources)
}
