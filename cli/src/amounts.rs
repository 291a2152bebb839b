//! Resources as JSON for programs, in the form of the master's HTTP documents.

use std::collections::BTreeMap;

use apportion_types::{Resources, resources::Name};
use serde::{Serialize, Serializer};

/// Resources that are written as `{"text": "cpus:1.5;ports:[1-2]", "scalars": {"cpus": 1.5}}`, with `mem` and `disk` in MiB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Amounts(pub(crate) Resources);

impl Serialize for Amounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Form<'a> {
            text: String,
            scalars: BTreeMap<&'a str, f64>,
        }
        let scalars = self.0.scalars().map(|(name, milli)| (name.as_str(), milli as f64 / 1000.0)).collect();
        Form { text: self.0.to_string(), scalars }.serialize(serializer)
    }
}

/// What else there is beside cpus and memory, as text: `disk:1024;ports:[31000-32000]`.
pub(crate) fn others(resources: &Resources) -> String {
    let mut rest = Resources::new();
    for (name, value) in resources.iter().filter(|(name, _)| !matches!(name, Name::Cpus | Name::Mem)) {
        rest.insert(name.clone(), value.clone());
    }
    rest.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn amounts_are_a_text_and_numbers() {
        let resources: Resources = "cpus:1.5;mem:512;ports:[1-2];x:1".parse().unwrap();
        let written = serde_json::to_value(Amounts(resources.clone())).unwrap();
        let scalars = json!({"cpus": 1.5, "mem": 512.0, "x": 1.0});
        assert_eq!(written, json!({"text": "cpus:1.5;mem:512;ports:[1-2];x:1", "scalars": scalars}));
        assert_eq!(others(&resources), "ports:[1-2];x:1");
    }
}
