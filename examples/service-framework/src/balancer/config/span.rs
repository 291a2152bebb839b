//! Spans of time as people write them: `30s`, `500ms`, `2m`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(super) fn serialize<S: Serializer>(span: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*span))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text =
        String::deserialize(from).map_err(|error| D::Error::custom(format!("{error}; write it as '30s'")))?;
    humantime::parse_duration(&text)
        .map_err(|error| D::Error::custom(format!("'{}': {error}; write it as 30s", text.escape_default())))
}
