//! What may change of an agent's settings from one process to the next while tasks run.

use std::{collections::BTreeSet, fmt};

use apportion_types::{AgentInfo, FaultDomain, resources::Name};

use crate::event::{ProcessRecord, Settings};

impl ProcessRecord {
    /// True when the machine was switched off between these processes.
    pub(crate) fn has_been_restarted(&self, after: &ProcessRecord) -> bool {
        matches!((&self.boot_id, &after.boot_id), (Some(before), Some(after)) if before != after)
    }
}

impl Settings {
    pub(crate) fn of(info: &AgentInfo) -> Settings {
        Settings {
            hostname: info.hostname.clone(),
            resources: info.resources.clone(),
            attributes: info.attributes.clone(),
            domain: info.domain.clone(),
        }
    }

    /// What has changed in another way than by being added to: each with what it was and what it is. Amounts that nobody has set go as
    /// the machine goes.
    pub(crate) fn breaking_changes(&self, before: &Settings, detected: &BTreeSet<Name>) -> Vec<String> {
        let mut changes = Vec::new();
        let mut changed = |setting: &str, before: &dyn fmt::Display, after: &dyn fmt::Display| {
            changes.push(format!("`{setting}` was {before} and is {after}"));
        };
        if self.hostname != before.hostname {
            changed("hostname", &before.hostname, &self.hostname);
        }
        let set = before.resources.only(|entry| !detected.contains(entry.name()));
        if !self.resources.missing(&set).is_empty() {
            changed("resources", &before.resources, &self.resources);
        }
        for (name, value) in &before.attributes {
            match self.attributes.get(name) {
                Some(same) if same == value => {}
                Some(other) => changed(&format!("attributes.{name}"), value, other),
                None => changed(&format!("attributes.{name}"), value, &"not set"),
            }
        }
        if let Some(domain) = before.domain.as_ref().filter(|domain| self.domain.as_ref() != Some(*domain)) {
            let shown = |domain: &FaultDomain| format!("{}/{}", domain.region, domain.zone);
            let after = self.domain.as_ref().map_or("not set".to_owned(), shown);
            changed("domain", &shown(domain), &after);
        }
        changes
    }
}
