//! What agents cannot hold tasks to, gathered so that a person reads each reason once.

use apportion_types::container::Unenforced;

/// One reason, what it concerns, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Group<'a> {
    /// As the first agent gave it; those of others may differ from it in the paths that they name.
    pub(crate) reason: &'a str,
    pub(crate) controls: Vec<&'static str>,
    pub(crate) agents: Vec<&'a str>,
    shape: String,
}

/// Gathers by reason, in the order of the agents and of their controls.
pub(crate) fn groups<'a>(agents: impl IntoIterator<Item = (&'a str, &'a [Unenforced])>) -> Vec<Group<'a>> {
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (agent, unenforced) in agents {
        for Unenforced { control, reason } in unenforced {
            let shape = shape(reason);
            let at = groups.iter().position(|group| group.shape == shape).unwrap_or_else(|| {
                groups.push(Group { reason, controls: Vec::new(), agents: Vec::new(), shape });
                groups.len() - 1
            });
            let group = &mut groups[at];
            if !group.controls.contains(&control.name()) {
                group.controls.push(control.name());
            }
            if group.agents.last() != Some(&agent) {
                group.agents.push(agent);
            }
        }
    }
    groups
}

/// A reason without the paths in it: each agent and each controller has its own, and the cause is one.
fn shape(reason: &str) -> String {
    let words = reason.split(' ').map(|word| if word.contains('/') { "/" } else { word });
    words.collect::<Vec<&str>>().join(" ")
}

#[cfg(test)]
mod tests {
    use apportion_types::container::Control;

    use super::*;

    #[test]
    fn a_cause_is_one_whatever_paths_it_names() {
        let of = |control, reason: &str| Unenforced { control, reason: reason.to_owned() };
        let first = [
            of(Control::CpuQuota, "mkdir of /cg/cpu/a-1 failed"),
            of(Control::Memory, "mkdir of /cg/memory/a-1 failed"),
            of(Control::Seccomp, "the kernel has none"),
        ];
        let second = [of(Control::CpuQuota, "mkdir of /cg/cpu/a-2 failed")];
        let groups = groups([("a1", &first[..]), ("a2", &second)]);
        assert_eq!(groups.len(), 2);
        assert_eq!(groups[0].reason, "mkdir of /cg/cpu/a-1 failed");
        assert_eq!(
            (&groups[0].controls[..], &groups[0].agents[..]),
            (&["cpu_quota", "memory"][..], &["a1", "a2"][..])
        );
        assert_eq!((&groups[1].controls[..], &groups[1].agents[..]), (&["seccomp"][..], &["a1"][..]));
    }
}
