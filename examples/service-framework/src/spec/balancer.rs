//! Where clients reach a service, and how their requests find a replica: the table is the [balancer](crate::balancer)'s own.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Source, SpecError};
use crate::balancer::{ConfigError, Listener};

/// Says what is wrong, for a replica of so many ports.
pub(super) fn problem(listener: &Listener, ports: usize) -> Option<String> {
    if listener.port >= ports {
        return Some(format!(
            "balancer.port: port {} of a replica takes what is balanced, and a replica has {ports} ports, counted from 0; say how many \
             with `ports = 1`",
            listener.port
        ));
    }
    listener.clone().checked().err().map(|error| error.to_string())
}

impl Source<'_> {
    pub(super) fn balancer(self, table: Spanned<Listener>, ports: usize) -> Result<Listener, SpecError> {
        let span = table.span();
        let listener = table.into_inner();
        if let Err(ConfigError::Value { key, .. }) = &listener.clone().checked()
            && let Some(what) = problem(&listener, ports.max(listener.port + 1))
        {
            return Err(self.refuse(self.place_of("balancer", key).unwrap_or(span), what));
        }
        match problem(&listener, ports) {
            None => Ok(listener),
            Some(what) => Err(self.refuse(self.place_of("balancer", "port").unwrap_or(span), what)),
        }
    }

    /// Where the value of a key such as `retries.attempts` stands in a table; of a key that is left out where the table before it does.
    pub(super) fn place_of(self, table: &str, key: &str) -> Option<Range<usize>> {
        let parsed = DeTable::parse(self.text).ok()?;
        let mut value = parsed.get_ref().get(table)?;
        for name in key.split('.') {
            let DeValue::Table(within) = value.get_ref() else { break };
            match within.get(name) {
                Some(next) => value = next,
                None => break,
            }
        }
        Some(value.span())
    }
}
