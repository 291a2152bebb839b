//! Giving back of one's own choice what would be taken.

use apportion_types::{Resources, TaskId, protocol::scheduler::Preemption};

/// The first tasks of those named, cheapest first, that give back enough together for a preemption; none when all are not enough.
///
/// ```
/// use apportion_sdk::{TaskId, preempt, testing};
///
/// let notice = testing::preemption("agent-1", "cpus:2", &["important"], "prod");
/// let task = |id: &str, needs: &str| (TaskId::new(id).unwrap(), needs.parse().unwrap());
/// let cheap = [task("idle", "cpus:1;mem:64"), task("young", "cpus:1"), task("important", "cpus:4")];
/// let ends: Vec<TaskId> = preempt::enough(&notice, cheap).expect("they have enough");
/// assert_eq!(ends, [TaskId::new("idle")?, TaskId::new("young")?]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// [Kill](crate::Context::kill) them: when they have ended in time the others are kept. Only tasks on the agent of the notice count,
/// and what they hold is compared on its exact terms as far as the notice names some.
pub fn enough(
    preemption: &Preemption,
    tasks: impl IntoIterator<Item = (TaskId, Resources)>,
) -> Option<Vec<TaskId>> {
    let mut missing = preemption.resources.clone();
    let mut ends = Vec::new();
    for (task_id, held) in tasks {
        if missing.is_empty() {
            break;
        }
        // What is wanted on no terms may come from whatever the task holds.
        let mut rest = held.missing(&missing);
        if rest.has_terms() || held.has_terms() {
            rest = held.plain().missing(&rest);
        }
        if rest != missing {
            missing = rest;
            ends.push(task_id);
        }
    }
    missing.is_empty().then_some(ends)
}
