//! The pauses between the sendings of what is repeated until it is acknowledged.

use std::time::Duration;

use crate::Config;

/// Pauses that double up to a ceiling.
#[derive(Debug)]
pub(crate) struct Repeat {
    next: Duration,
}

impl Repeat {
    /// Begins with the shortest.
    pub(crate) fn new(config: &Config) -> Self {
        Self { next: config.update_retry_min }
    }

    /// The pause after a sending.
    pub(crate) fn pause(&mut self, config: &Config) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(config.update_retry_max);
        pause
    }
}
