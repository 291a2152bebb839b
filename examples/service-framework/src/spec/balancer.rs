//! Where clients reach a service, and how their requests find a replica: the table is the [balancer](crate::balancer)'s own.

use toml::Spanned;

use super::{
    Source, SpecError,
    fault::{Fault, Way},
};
use crate::balancer::{ConfigError, Listener};

/// Says what is wrong, for a replica of so many ports.
pub(super) fn fault(listener: &Listener, ports: usize) -> Option<Fault> {
    if listener.port >= ports {
        let what = format!(
            "port {} of a replica takes what is balanced, and a replica has {ports} ports, counted from 0; say how many \
             with `ports = 1`",
            listener.port
        );
        return Some(Fault::at("balancer.port", what));
    }
    let error = listener.clone().checked().err()?;
    let key = if let ConfigError::Value { key, .. } = &error { key } else { "" };
    Some(Fault::new(Way::to("balancer").then(Way::to(key)), error.to_string()))
}

impl Source<'_> {
    pub(super) fn balancer(self, table: Spanned<Listener>, ports: usize) -> Result<Listener, SpecError> {
        let listener = table.into_inner();
        // What is wrong with the table itself is said first.
        let first = fault(&listener, ports.max(listener.port + 1));
        match first.or_else(|| fault(&listener, ports)) {
            None => Ok(listener),
            Some(fault) => Err(self.told(fault)),
        }
    }
}
