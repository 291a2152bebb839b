//! Ids that this master gives, and what it knows of an id by its text alone.

use apportion_types::{AgentId, FrameworkId, OfferId};

/// Counters behind the ids. The text order of ids is the order of creation for the first ten thousand agents and frameworks
/// and the first hundred million offers.
#[derive(Debug)]
pub(crate) struct Ids {
    master_id: String,
    agents: u64,
    frameworks: u64,
    offers: u64,
    inverse_offers: u64,
}

/// Who gave an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This master.
    Ours,
    /// Nobody yet: it bears this master's name and a number that was not reached.
    NeverGiven,
    /// An earlier master.
    Foreign,
}

impl Ids {
    /// Nothing given yet. The name must be the start of ids; a shell that chose another has a bug.
    pub(crate) fn new(master_id: &str) -> Self {
        let ids =
            Self { master_id: master_id.to_owned(), agents: 0, frameworks: 0, offers: 0, inverse_offers: 0 };
        assert!(
            OfferId::new(ids.text('O', u64::MAX, 8)).is_ok(),
            "`{master_id}` cannot be the start of an id"
        );
        ids
    }

    fn text(&self, kind: char, number: u64, width: usize) -> String {
        format!("{}-{kind}{number:0width$}", self.master_id)
    }

    /// The next agent's.
    pub(crate) fn agent(&mut self) -> AgentId {
        self.agents += 1;
        AgentId::new(self.text('A', self.agents, 4)).expect("checked at the start")
    }

    /// The next framework's.
    pub(crate) fn framework(&mut self) -> FrameworkId {
        self.frameworks += 1;
        FrameworkId::new(self.text('F', self.frameworks, 4)).expect("checked at the start")
    }

    /// The next offer's.
    pub(crate) fn offer(&mut self) -> OfferId {
        self.offers += 1;
        OfferId::new(self.text('O', self.offers, 8)).expect("checked at the start")
    }

    /// The next inverse offer's.
    pub(crate) fn inverse_offer(&mut self) -> OfferId {
        self.inverse_offers += 1;
        OfferId::new(self.text('I', self.inverse_offers, 8)).expect("checked at the start")
    }

    /// The number within an id of ours.
    fn number(&self, kind: char, text: &str) -> Option<u64> {
        let digits = text.strip_prefix(&self.master_id)?.strip_prefix('-')?.strip_prefix(kind)?;
        let all_digits = digits.bytes().all(|b| b.is_ascii_digit());
        all_digits.then(|| digits.parse().ok()).flatten()
    }

    fn origin(number: Option<u64>, given: u64) -> Origin {
        match number {
            None => Origin::Foreign,
            Some(number) if 0 < number && number <= given => Origin::Ours,
            Some(_) => Origin::NeverGiven,
        }
    }

    /// The number of an offer, if its id is as ours are.
    pub(crate) fn offer_number(&self, id: &OfferId) -> Option<u64> {
        self.number('O', id.as_str())
    }

    /// Who gave this agent its id.
    pub(crate) fn agent_origin(&self, id: &AgentId) -> Origin {
        Self::origin(self.number('A', id.as_str()), self.agents)
    }

    /// Who gave this framework its id.
    pub(crate) fn framework_origin(&self, id: &FrameworkId) -> Origin {
        Self::origin(self.number('F', id.as_str()), self.frameworks)
    }

    /// Who gave this offer its id.
    pub(crate) fn offer_origin(&self, id: &OfferId) -> Origin {
        Self::origin(self.number('O', id.as_str()), self.offers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_who_gave_it() {
        let mut ids = Ids::new("m1");
        let first = ids.agent();
        assert_eq!(first.as_str(), "m1-A0001");
        assert_eq!(ids.agent_origin(&first), Origin::Ours);
        for (text, origin) in [
            ("m1-A0002", Origin::NeverGiven),
            ("m1-A0000", Origin::NeverGiven),
            ("m0-A0001", Origin::Foreign),
            ("m1-F0001", Origin::Foreign),
            ("m1-Ax", Origin::Foreign),
            ("m1-A", Origin::Foreign),
        ] {
            assert_eq!(ids.agent_origin(&AgentId::new(text).unwrap()), origin, "{text}");
        }
        assert_eq!(ids.offer().as_str(), "m1-O00000001");
        assert_eq!(ids.framework().as_str(), "m1-F0001");
    }
}
