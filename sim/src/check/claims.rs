//! What is claimed was free, and is its claimant's.

use std::collections::BTreeMap;

use apportion_types::{
    FrameworkId, Resources, TaskId, TaskState,
    protocol::scheduler::{Call, Claim, ClaimResult, Event},
};

use super::{Changes, Check, Happening, Verdict, streams::Streams};
use crate::world::World;

/// In the decision about a commit: what the tasks of a claim that is taken hold was neither offered nor used before. Of a claim that is
/// refused no task begins, and when it is all or nothing either each claim is taken or none. Nobody loses to itself.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    streams: Streams,
    called: Option<Called>,
}

#[derive(Debug)]
struct Called {
    framework: FrameworkId,
    claims: Vec<Claim>,
    all_or_nothing: bool,
    results: Option<Vec<ClaimResult>>,
}

impl Check for Claims {
    fn name(&self) -> &'static str {
        "claims"
    }

    fn observe(&mut self, world: &World, happening: &Happening<'_>) -> Verdict {
        self.streams.observe(happening);
        match *happening {
            Happening::MasterHearsScheduler {
                conn,
                call: Call::Commit { claims, all_or_nothing, .. },
                ..
            } => {
                self.called = self.streams.framework(conn).map(|framework| Called {
                    framework: framework.clone(),
                    claims: claims.clone(),
                    all_or_nothing: *all_or_nothing,
                    results: None,
                });
            }
            Happening::MasterTellsScheduler { event: Event::Committed { claims, .. }, .. } => {
                match &mut self.called {
                    Some(called) if called.results.is_none() => called.results = Some(claims.clone()),
                    _ => return Err("a commit is answered that was not made just now".to_owned()),
                }
            }
            Happening::MasterDecided(changes) => {
                return self.called.take().map_or(Ok(()), |called| decided(world, changes, &called));
            }
            _ => {}
        }
        Ok(())
    }
}

fn decided(world: &World, changes: &Changes, called: &Called) -> Verdict {
    let framework = &called.framework;
    let mut begun: BTreeMap<&TaskId, &Resources> = BTreeMap::new();
    for task in changes.tasks.iter().filter_map(|change| change.added()) {
        if task.state == TaskState::Staging && task.framework_id == *framework {
            begun.insert(&task.info.task_id, &task.info.resources);
        }
    }
    // None when the call is refused as a whole.
    let results = called.results.clone().unwrap_or_default();
    let taken = results.iter().filter(|result| **result == ClaimResult::Taken).count();
    if called.all_or_nothing && taken != 0 && taken != called.claims.len() {
        let all = called.claims.len();
        return Err(format!("{taken} of {all} claims of {framework} are taken, all or nothing"));
    }
    for (index, claim) in called.claims.iter().enumerate() {
        let tasks = claim.tasks.iter().flatten().filter_map(|task| begun.get(&task.task_id));
        let used = tasks.copied().sum::<Resources>().exclusive();
        let agent = &claim.agent_id;
        match results.get(index) {
            Some(ClaimResult::Taken) => {
                let free = world.view_before().agents.get(agent).map(|view| {
                    let mut free = view.total.clone() + &view.revocable;
                    free.saturating_sub(&view.allocated.exclusive());
                    free.saturating_sub(&view.offered.exclusive());
                    free
                });
                let free = free.unwrap_or_default();
                if !free.contains(&used) {
                    return Err(format!(
                        "framework {framework} claims {used} of {agent}, of which {free} was free"
                    ));
                }
            }
            _ if !used.is_empty() => {
                return Err(format!("a claim of {framework} on {agent} is refused, and tasks of it begin"));
            }
            Some(ClaimResult::Refused { winner: Some(winner), message, .. }) if winner == framework => {
                return Err(format!("a claim of {framework} on {agent} loses to itself: {message}"));
            }
            _ => {}
        }
    }
    Ok(())
}
