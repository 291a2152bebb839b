//! Between the wire and these types: the only place that knows both.
//!
//! To the wire nothing can fail: `From<X>` and `From<&X>`. From the wire everything is judged: `TryFrom<v1::X>` checks each
//! rule of form and answers the first breach with a [`ConvertError`] that names the field by its path. Rules that need more
//! than the message itself (does the offer exist, is the task id taken) are not judged here.
//!
//! Durations are whole milliseconds on the wire, rounded up, so that a short one never becomes none.

mod agent;
mod container_info;
mod document;
mod enums;
mod execution;
mod executor;
mod framework;
mod free;
mod group;
mod maintenance;
mod network;
mod operation;
mod options;
mod pressure;
mod probe;
mod resources;
mod scheduler;
mod task;

#[cfg(test)]
mod recorded;
#[cfg(test)]
mod strategies;
#[cfg(test)]
mod tests;

use std::{fmt::Display, str::FromStr, time::Duration};

pub use self::{
    agent::{activation, activation_message},
    enums::{
        agent_capability, capability, claim_refusal, control, decline_code, error_code, executor_refuse_code,
        machine_mode, network_direction, network_protocol, network_verdict, operation_state, part,
        pull_policy, reason, refusal, refuse_code, rlimit_resource, source, task_state,
    },
    maintenance::machines,
    resources::resources_sum,
    scheduler::scheduler_request,
};
use crate::ids::UpdateId;

/// A message breaks a rule of its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}{}{what}", if field.is_empty() { "" } else { ": " })]
pub struct ConvertError {
    /// The path of the field from the message's root, such as `accept.tasks[3].resources.cpus`; empty for the root itself.
    pub field: String,
    /// What is wrong with it; bounded in length, printable, whatever was sent.
    pub what: String,
}

impl ConvertError {
    /// The field, and what is wrong with it.
    pub fn new(field: impl Into<String>, what: impl Display) -> Self {
        Self { field: field.into(), what: what.to_string() }
    }

    /// The same, seen from the message that holds the field's message under this name.
    #[must_use]
    pub fn within(self, parent: impl Display) -> Self {
        let dot = if self.field.is_empty() || self.field.starts_with('[') { "" } else { "." };
        Self { field: format!("{parent}{dot}{}", self.field), what: self.what }
    }
}

/// Names the parent of a conversion that may fail.
trait Within<T> {
    fn within(self, parent: impl Display) -> Result<T, ConvertError>;
}

impl<T> Within<T> for Result<T, ConvertError> {
    fn within(self, parent: impl Display) -> Result<T, ConvertError> {
        self.map_err(|error| error.within(parent))
    }
}

/// A message that must be there.
fn required<T>(field: &str, value: Option<T>) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::new(field, "is missing"))
}

/// A message that must be there, converted.
fn message<W, T>(field: &str, value: Option<W>) -> Result<T, ConvertError>
where
    T: TryFrom<W, Error = ConvertError>,
{
    T::try_from(required(field, value)?).within(field)
}

/// A message that may be absent, converted.
fn optional<W, T>(field: &str, value: Option<W>) -> Result<Option<T>, ConvertError>
where
    T: TryFrom<W, Error = ConvertError>,
{
    value.map(T::try_from).transpose().within(field)
}

/// Messages, each converted.
fn messages<W, T>(field: &str, values: Vec<W>) -> Result<Vec<T>, ConvertError>
where
    T: TryFrom<W, Error = ConvertError>,
{
    let each = |(index, value)| T::try_from(value).within(format_args!("{field}[{index}]"));
    values.into_iter().enumerate().map(each).collect()
}

/// An id or a role.
fn id<T>(field: &str, text: &str) -> Result<T, ConvertError>
where
    T: FromStr<Err: Display>,
{
    text.parse().map_err(|error| ConvertError::new(field, error))
}

/// An id that may be absent.
fn optional_id<T>(field: &str, text: Option<String>) -> Result<Option<T>, ConvertError>
where
    T: FromStr<Err: Display>,
{
    text.map(|text| id(field, &text)).transpose()
}

/// Ids or roles, in the order given.
fn ids<T>(field: &str, texts: &[String]) -> Result<Vec<T>, ConvertError>
where
    T: FromStr<Err: Display>,
{
    let each = |(index, text): (usize, &String)| id(&format!("{field}[{index}]"), text);
    texts.iter().enumerate().map(each).collect()
}

/// Exactly the sixteen bytes of an update id.
fn update_id(field: &str, bytes: &[u8]) -> Result<UpdateId, ConvertError> {
    let exact = <[u8; 16]>::try_from(bytes);
    exact
        .map(UpdateId)
        .map_err(|_| ConvertError::new(field, format_args!("has {} bytes instead of 16", bytes.len())))
}

fn update_id_bytes(update_id: UpdateId) -> prost::bytes::Bytes {
    prost::bytes::Bytes::copy_from_slice(&update_id.0)
}

/// Milliseconds, rounded up.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// A duration that is at most `most`.
fn duration(field: &str, millis: u64, most: Duration) -> Result<Duration, ConvertError> {
    let duration = Duration::from_millis(millis);
    if duration > most {
        let what = format_args!("{millis} ms is more than the most that is allowed, {} ms", most.as_millis());
        return Err(ConvertError::new(field, what));
    }
    Ok(duration)
}

fn optional_duration(
    field: &str,
    millis: Option<u64>,
    most: Duration,
) -> Result<Option<Duration>, ConvertError> {
    millis.map(|millis| duration(field, millis, most)).transpose()
}

/// Refuses more bytes of text than allowed.
fn bounded(field: &str, bytes: usize, bytes_max: usize) -> Result<(), ConvertError> {
    if bytes > bytes_max {
        let what = format_args!("{bytes} bytes of text are more than the most that is allowed, {bytes_max}");
        return Err(ConvertError::new(field, what));
    }
    Ok(())
}

/// Bytes of the keys and values of a map.
fn map_bytes<'a>(map: impl IntoIterator<Item = (&'a String, &'a String)>) -> usize {
    map.into_iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// A text of a peer as it is shown within a message: its start, printable.
fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(64).flat_map(char::escape_debug).collect();
    if text.chars().nth(64).is_some() {
        start.push('…');
    }
    start
}

/// `From<&X>` for each X that has `From<X>`.
macro_rules! from_ref {
    ($($domain:ty => $wire:ty),* $(,)?) => {$(
        impl From<&$domain> for $wire {
            fn from(value: &$domain) -> Self {
                value.clone().into()
            }
        }
    )*};
}
use from_ref;
