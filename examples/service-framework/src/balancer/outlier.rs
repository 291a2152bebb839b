//! Who is left out for a while because requests failed there, for how long, and how many at most.
//!
//! What is wrong with one replica is its own; what is wrong with more than half of them is wrong elsewhere (a database, the
//! network, the requests), and leaving them out would only bury the rest.

use std::{collections::BTreeMap, time::Duration};

use super::config::Passive;

/// Who is ejected until when. Time comes in, since any moment.
#[derive(Debug)]
pub struct Outliers {
    config: Passive,
    members: BTreeMap<String, Member>,
}

#[derive(Debug, Default)]
struct Member {
    /// How often in a row it was ejected.
    times: u32,
    until: Duration,
}

impl Outliers {
    /// With nobody ejected.
    pub fn new(config: Passive) -> Self {
        Self { config, members: BTreeMap::new() }
    }

    /// Forgets those that are no longer members.
    pub fn retain(&mut self, is_member: impl Fn(&str) -> bool) {
        self.members.retain(|id, _| is_member(id));
    }

    /// Whether somebody is left out.
    pub fn is_ejected(&self, id: &str, now: Duration) -> bool {
        self.members.get(id).is_some_and(|member| member.until > now)
    }

    /// Somebody failed too often in a row: until when it is left out; not at all when it is already, or half of `members` are.
    pub fn eject(&mut self, id: &str, members: usize, now: Duration) -> Option<Duration> {
        let ejected = self.members.values().filter(|member| member.until > now).count();
        if self.config.consecutive_failures == 0 || self.is_ejected(id, now) || (ejected + 1) * 2 > members {
            return None;
        }
        let member = self.members.entry(id.to_owned()).or_default();
        // One that has been well for as long as the longest ejection begins with the shortest again.
        if now > member.until + self.config.ejection_max {
            member.times = 0;
        }
        member.times = member.times.saturating_add(1);
        member.until = now + self.config.ejection.saturating_mul(member.times).min(self.config.ejection_max);
        Some(member.until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn outliers() -> Outliers {
        Outliers::new(Passive { consecutive_failures: 5, ejection: seconds(10), ejection_max: seconds(25) })
    }

    #[test]
    fn it_grows_and_shrinks_again() {
        let mut outliers = outliers();
        assert_eq!(outliers.eject("a", 2, seconds(0)), Some(seconds(10)));
        assert!(outliers.is_ejected("a", seconds(9)) && !outliers.is_ejected("a", seconds(10)));
        assert_eq!(outliers.eject("a", 2, seconds(5)), None, "it is already");
        assert_eq!(outliers.eject("a", 2, seconds(10)), Some(seconds(30)));
        assert_eq!(outliers.eject("a", 2, seconds(30)), Some(seconds(55)), "no longer than the longest");
        assert_eq!(outliers.eject("a", 2, seconds(81)), Some(seconds(91)), "it was well for long");
    }

    #[test]
    fn the_only_one_is_never_left_out() {
        assert_eq!(outliers().eject("a", 1, seconds(0)), None);
        assert_eq!(outliers().eject("a", 0, seconds(0)), None);
    }

    proptest! {
        #[test]
        fn never_more_than_half(members in 1usize..9, failures in proptest::collection::vec((0usize..9, 0u64..8), 1..100)) {
            let (mut outliers, mut now) = (outliers(), seconds(0));
            for (who, pause) in failures {
                now += seconds(pause);
                outliers.eject(&(who % members).to_string(), members, now);
                let ejected = (0..members).filter(|who| outliers.is_ejected(&who.to_string(), now)).count();
                prop_assert!(ejected * 2 <= members);
            }
        }
    }
}
