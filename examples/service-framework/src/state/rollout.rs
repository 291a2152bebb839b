//! How an update moves along: canaries are promoted, a revision that all replicas have is complete, and one that comes no further is
//! rolled back. So every update ends, one way or the other.

use apportion_sdk::Time;

use super::{App, Effect, Phase, Services, plan::Plan};
use crate::event::{Event, Told};

/// How far the update of a service has come, and since when no further.
#[derive(Debug, Default)]
pub(super) struct Progress {
    since: Time,
    /// The most replicas of it that ever counted.
    best: u32,
    /// Whether it was told that it comes no further.
    stalled: bool,
    /// Since when all canaries count.
    tried_since: Option<Time>,
}

impl Progress {
    /// Begins anew, with the whole time that an update has.
    pub(super) fn begin(&mut self, now: Time) {
        *self = Self { since: now, ..Self::default() };
    }

    /// Whether it was told that it comes no further.
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// When something is due, unless something happens before.
    pub(super) fn due(&self, app: &App) -> Option<Time> {
        let update = &app.described.update;
        match (app.phase, self.tried_since) {
            _ if app.removed || !app.started => None,
            (Phase::Steady, _) => None,
            (Phase::Canary, Some(since)) => update.promote_after.map(|after| since + after),
            _ => (!self.stalled).then(|| self.since + update.progress_deadline),
        }
    }
}

impl Services {
    /// Moves an update along; true when the service is now to be something else, so that its plan holds no more.
    pub(super) fn advance(&mut self, name: &str, plan: &Plan, now: Time, effects: &mut Vec<Effect>) -> bool {
        let app = self.table.apps.get_mut(name).expect("it is settled, so it is there");
        if app.removed || app.phase == Phase::Steady {
            return false;
        }
        let progress = &mut self.runtimes.get_mut(name).expect("there is one for each service").progress;
        let update = app.described.update;
        let revision = app.target;
        let mut tell = |event| effects.push(Effect::Tell(Told::of(name, event)));
        let come = if app.phase == Phase::Canary {
            let canaries = app.canaries();
            if plan.canaries >= canaries {
                if progress.tried_since.is_none() {
                    tell(Event::CanariesReady { revision, canaries });
                }
                let since = *progress.tried_since.get_or_insert(now);
                let promoted =
                    canaries == 0 || update.promote_after.is_some_and(|after| now.since(since) >= after);
                if promoted {
                    app.promote();
                    progress.begin(now);
                    tell(Event::Promoted { revision });
                }
                return promoted;
            }
            progress.tried_since = None;
            plan.canaries
        } else if plan.complete {
            app.completed();
            self.prune(name);
            tell(Event::Updated { revision });
            return false;
        } else {
            plan.filled
        };
        if come > progress.best {
            progress.begin(now);
            progress.best = come;
        }
        if progress.stalled || now.since(progress.since) < update.progress_deadline {
            return false;
        }
        if let Some(stable) = app.stable().filter(|_| update.auto_rollback) {
            let deadline = humantime::format_duration(update.progress_deadline);
            let end = app.trouble.last_end.take().map_or_else(String::new, |end| format!(": {}", end.what));
            self.go_back(name, stable, now, effects);
            let app = self.table.apps.get_mut(name).expect("it is settled, so it is there");
            app.trouble.given_up = Some(format!("it came no further for {deadline}{end}"));
            return true;
        }
        progress.stalled = true;
        tell(Event::Stalled { revision, deadline_ms: Event::millis(update.progress_deadline) });
        false
    }

    /// Rolls a service back to a revision that it has.
    pub(super) fn go_back(&mut self, name: &str, to: u64, now: Time, effects: &mut Vec<Effect>) {
        let app = self.table.apps.get_mut(name).expect("it was just found");
        let from = app.target;
        app.roll_back(Some(to));
        self.begin_update(name, now);
        effects.push(Effect::Tell(Told::of(name, Event::RolledBack { from, to })));
    }

    /// What ended before its revision was to be replaced says nothing of the next.
    pub(super) fn begin_update(&mut self, name: &str, now: Time) {
        let target = self.table.apps[name].target;
        let runtime = self.runtimes.entry(name.to_owned()).or_default();
        runtime.progress.begin(now);
        runtime.pauses.retain(|(_, revision), _| *revision != target);
    }

    /// Forgets revisions that are of no use any more.
    fn prune(&mut self, name: &str) {
        let used: std::collections::BTreeSet<u64> =
            self.table.tasks_of(name).map(|(_, placed)| placed.revision).collect();
        let app = self.table.apps.get_mut(name).expect("it was just found");
        app.prune(|revision| used.contains(&revision));
        let runtime = self.runtimes.get_mut(name).expect("there is one for each service");
        runtime.pauses.retain(|(replica, revision), _| {
            *replica < app.replicas() && app.revisions.contains_key(revision)
        });
    }
}
