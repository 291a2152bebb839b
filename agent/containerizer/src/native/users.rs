//! Users of the containers' own, from the agent's side: finding out whether they can be had here.

use super::{
    NativeConfig, Plan,
    probe::{self, Trial},
    program::Program,
};
use crate::{
    error::{LaunchError, ProbeError},
    folder::Isolation,
};

/// Gives the plan the users that are asked for, once a trial container has had them.
pub(super) async fn probe(
    (config, program): (&NativeConfig, &Program),
    plan: &mut Plan,
) -> Result<(), ProbeError> {
    let Some(range) = config.users else { return Ok(()) };
    let unusable = |what: String| Err(ProbeError::Users { range, what });
    if plan.isolation != Isolation::Namespaces {
        return unusable("only root may give containers users of their own; run the agent as root, or leave them out: tasks of an ordinary user's agent have no other user than its".to_owned());
    }
    if plan.runtime.is_some() {
        return unusable(
            "containers of an OCI runtime have the machine's users; leave the runtime `native`, or them out"
                .to_owned(),
        );
    }
    plan.users = Some(range);
    match probe::trial((config, program), plan, Trial::NATIVE, "users").await {
        Ok(_) => Ok(()),
        Err(reason) => {
            let error = LaunchError::from(reason);
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            unusable(format!("{error}{}", source.unwrap_or_default()))
        }
    }
}
