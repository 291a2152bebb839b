//! Limits of the kernel for each process of a task.

use apportion_types::container_info::{Rlimit as Asked, RlimitResource};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::folder::Failure;

/// What programs expect where nothing is asked for: 1024 files, because `select` breaks above, and programs that need more raise it
/// themselves; no core files, because they would fill the sandbox; 8 MiB of stack, because thread stacks are that large by default.
const USUAL: [(RlimitResource, u64); 3] =
    [(RlimitResource::Nofile, 1024), (RlimitResource::Core, 0), (RlimitResource::Stack, 8 << 20)];

/// Sets the usual limits and those asked for, within the hard limits that the agent itself has and cannot raise.
pub(super) fn set(asked: &[Asked]) -> Result<(), Failure> {
    for (resource, limit) in wanted(asked) {
        let set = setrlimit(kernel_name(resource), limit);
        set.map_err(|e| Failure::setup(format!("setting the limit {}", resource.name()), e))?;
    }
    Ok(())
}

/// The same, to be set by another.
pub(super) fn wanted(asked: &[Asked]) -> Vec<(RlimitResource, Rlimit)> {
    let is_asked = |resource| asked.iter().any(|one| one.resource == resource);
    let usual = USUAL.into_iter().filter(|(resource, _)| !is_asked(*resource));
    let usual = usual.map(|(resource, soft)| Asked { resource, soft: Some(soft), hard: None });
    let all = usual.chain(asked.iter().copied());
    all.map(|limit| (limit.resource, within(limit, getrlimit(kernel_name(limit.resource)).maximum))).collect()
}

/// As much of what is asked for as this hard limit leaves room for; none is no limit.
fn within(asked: Asked, own_hard: Option<u64>) -> Rlimit {
    let lower = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let maximum = lower(asked.hard, own_hard);
    Rlimit { current: lower(asked.soft, maximum), maximum }
}

fn kernel_name(resource: RlimitResource) -> Resource {
    match resource {
        RlimitResource::As => Resource::As,
        RlimitResource::Core => Resource::Core,
        RlimitResource::Cpu => Resource::Cpu,
        RlimitResource::Data => Resource::Data,
        RlimitResource::Fsize => Resource::Fsize,
        RlimitResource::Memlock => Resource::Memlock,
        RlimitResource::Nofile => Resource::Nofile,
        RlimitResource::Nproc => Resource::Nproc,
        RlimitResource::Stack => Resource::Stack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_the_agent_has() {
        let asked = |soft, hard| Asked { resource: RlimitResource::Nofile, soft, hard };
        for (soft, hard, own, expected) in [
            (Some(10), Some(20), Some(15), (Some(10), Some(15))),
            (Some(18), Some(20), Some(15), (Some(15), Some(15))),
            (Some(30), Some(20), None, (Some(20), Some(20))),
            (None, None, Some(15), (Some(15), Some(15))),
            (None, None, None, (None, None)),
        ] {
            let limit = within(asked(soft, hard), own);
            assert_eq!((limit.current, limit.maximum), expected);
        }
    }
}
