//! What calls say of offers.

use std::time::Duration;

use apportion_types::{OfferId, protocol::scheduler::Call};

/// The offers that a call answers, each part with how long what is left over is refused.
pub(crate) fn answered(call: &Call) -> Vec<(&[OfferId], Option<Duration>)> {
    match call {
        Call::Accept(accept) => vec![(&accept.offers, accept.refuse)],
        Call::Gang { accepts } => accepts.iter().map(|accept| (&*accept.offers, accept.refuse)).collect(),
        Call::Decline { offers, refuse, .. } => vec![(offers, *refuse)],
        _ => Vec::new(),
    }
}
