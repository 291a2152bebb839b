//! Why a service is as it is.

use std::collections::BTreeMap;

use apportion_sdk::{FrameworkId, Resources, Time};
use serde::{Deserialize, Serialize};

use super::{Launch, Refused, Services, Trouble, scaling::Change};
use crate::scale::{Decision, Scale};

/// Why a service has the replicas that it has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// Its name.
    pub service: String,
    /// The framework.
    pub framework_id: Option<FrameworkId>,
    /// When this was so, in microseconds since the epoch.
    pub at_us: u64,
    /// How many replicas are wanted.
    pub replicas: u32,
    /// How many are ready.
    pub ready: u32,
    /// What it is scaled by; none when it is not.
    pub scaling: Option<ScalingView>,
    /// What it comes after, while it was never started.
    pub waits_for: Vec<String>,
    /// What holds it back.
    #[serde(default)]
    pub trouble: Trouble,
    /// Replicas that ended, and start again in so many milliseconds.
    pub pauses: BTreeMap<u32, u64>,
    /// Replicas that wait for offers.
    pub waiting: Vec<Waiting>,
    /// Why no offers come for these, by the master.
    pub offers: Vec<String>,
    /// Why clients do not reach it, or not all of its replicas, by the front.
    #[serde(default)]
    pub unserved: Option<String>,
}

/// Replicas that wait for offers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Waiting {
    /// What they are made from.
    pub revision: u64,
    /// How many.
    pub replicas: u32,
    /// For which role offers are taken.
    pub role: String,
    /// What each needs, beside its ports.
    pub needs: Resources,
}

/// How a service is scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScalingView {
    /// By what.
    pub scale: Scale,
    /// What was decided since the framework began, the last one at the end.
    pub decisions: Vec<Decision>,
    /// The last changes, also of earlier runs of the framework.
    pub changes: Vec<Change>,
    /// In so many milliseconds a change has stood for long enough, if nothing else is measured until then; none when none is waited for.
    pub stands_in_ms: Option<u64>,
}

impl Services {
    /// Why a service is as it is; what only the master and the front know is missing.
    pub fn explain(&self, name: &str, now: Time) -> Result<Explained, Refused> {
        let unknown = || Refused::Unknown { service: name.to_owned() };
        let app = self.table.apps.get(name).ok_or_else(unknown)?;
        let runtime = &self.runtimes[name];
        let millis = |at: Time| u64::try_from(at.since(now).as_millis()).unwrap_or(u64::MAX);
        let scaler = runtime.scaling.as_ref().map(|scaling| &scaling.scaler);
        let scaling = app.described.scale.clone().map(|scale| ScalingView {
            decisions: scaler.into_iter().flat_map(|it| it.history().all().cloned()).collect(),
            changes: self.table.scaling.get(name).map(|past| past.changes.clone()).unwrap_or_default(),
            stands_in_ms: scaler.and_then(|it| it.stands_at()).map(millis),
            scale,
        });
        let mut waiting: BTreeMap<u64, u32> = BTreeMap::new();
        for (_, revision) in &runtime.launch {
            *waiting.entry(*revision).or_default() += 1;
        }
        let waiting = waiting.into_iter().map(|(revision, replicas)| {
            let spec = self.spec(&Launch { app: name.to_owned(), replica: 0, revision });
            Waiting { revision, replicas, role: spec.role.clone(), needs: spec.needs() }
        });
        let pauses =
            runtime.pauses.iter().filter_map(|((replica, _), pause)| Some((*replica, millis(pause.until?))));
        Ok(Explained {
            service: name.to_owned(),
            framework_id: self.table.framework_id.clone(),
            at_us: now.as_micros(),
            replicas: app.replicas(),
            ready: runtime.ready,
            scaling,
            waits_for: if app.started { Vec::new() } else { app.described.after.clone() },
            trouble: app.trouble.clone(),
            pauses: pauses.collect(),
            waiting: waiting.collect(),
            offers: Vec::new(),
            unserved: None,
        })
    }
}
