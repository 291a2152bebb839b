//! Any sequence of calls: the same offers, in the same order, as the model's; the same shares, the same claims. And what is explained
//! is what happens.

use proptest::prelude::*;

use crate::{
    ALL,
    calls::{Call, Scope, Wish, call},
    pair::Pair,
};

fn run(scope: Scope, calls: &[Call]) {
    let mut pair = Pair::new(scope);
    for call in calls {
        pair.apply(call);
    }
}

/// So many; `PROPTEST_CASES=25600` runs a hundred times as many.
fn cases(usual: u32) -> u32 {
    (u64::from(ProptestConfig::default().cases) * u64::from(usual) / 256).max(1) as u32
}

fn plain(roles: u8) -> Wish {
    Wish { roles, suppressed: 0, can: 0, only: 0, minimum: None, offers_max: None }
}

macro_rules! gives_what_the_model_gives {
    ($name:ident, $cases:expr, $scope:expr) => {
        proptest! {
            #![proptest_config(ProptestConfig { cases: cases($cases), ..ProptestConfig::default() })]

            #[test]
            fn $name(calls in proptest::collection::vec(call($scope), 1..100)) {
                run($scope, &calls);
            }
        }
    };
}

const FLAT: Scope = Scope { tree: false, terms: false, guarantees: false, options: false, claims: false };

gives_what_the_model_gives!(flat_roles_limits_and_filters, 128, FLAT);
gives_what_the_model_gives!(a_tree_of_roles, 128, Scope { tree: true, ..FLAT });
gives_what_the_model_gives!(guarantees, 128, Scope { guarantees: true, ..FLAT });
gives_what_the_model_gives!(reservations_volumes_and_lending, 128, Scope { terms: true, ..FLAT });
gives_what_the_model_gives!(options, 128, Scope { options: true, ..FLAT });
gives_what_the_model_gives!(claims, 128, Scope { claims: true, ..FLAT });
gives_what_the_model_gives!(everything, 384, Scope::ALL);

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(32), ..ProptestConfig::default() })]

    /// Many frameworks, all declining: the ways of finding the next taker agree.
    #[test]
    fn a_crowd_that_declines(
        calls in proptest::collection::vec(call(Scope::ALL), 1..24),
        frameworks in 4..16u8,
    ) {
        let mut pair = Pair::new(Scope::ALL);
        for number in 0..frameworks {
            pair.apply(&Call::AddFramework { framework: number + 10, wish: plain(1 + number % 7) });
        }
        for number in 0..4u8 {
            pair.apply(&Call::AddAgent { agent: number, total: usize::from(number), place: 0 });
        }
        for call in &calls {
            pair.apply(call);
            pair.apply(&Call::DeclineAll { refuse_seconds: 40 });
            pair.apply(&Call::Cycle { after_seconds: 1, allocations_max: ALL });
        }
    }
}

/// A part that was refused is part of what comes back with another part.
#[test]
fn what_is_refused_in_part_and_charged_again() {
    run(
        FLAT,
        &[
            Call::AddAgent { agent: 5, total: 0, place: 0 },
            Call::AddFramework { framework: 0, wish: Wish { suppressed: 2, ..plain(1) } },
            Call::Cycle { after_seconds: 0, allocations_max: ALL },
            Call::Recover { allocation: 0, part: 3, refuse_seconds: None },
            Call::Recover { allocation: 0, part: 0, refuse_seconds: Some(0) },
            Call::Charge { framework: 0, role: 0, agent: 5, part: 3 },
            Call::Recover { allocation: 0, part: 4, refuse_seconds: None },
            Call::Cycle { after_seconds: 0, allocations_max: ALL },
        ],
    );
}

/// A filter whose time is over still holds until somebody else was asked; a copy under the same settings must not forget that.
#[test]
fn a_copy_keeps_the_filters_that_nobody_was_asked_about_yet() {
    run(
        FLAT,
        &[
            Call::AddAgent { agent: 0, total: 0, place: 0 },
            Call::AddFramework { framework: 0, wish: plain(6) },
            Call::Cycle { after_seconds: 0, allocations_max: ALL },
            Call::DeclineAll { refuse_seconds: 1 },
            Call::SetWants { framework: 0, wish: plain(2) },
            Call::Cycle { after_seconds: 1, allocations_max: ALL },
        ],
    );
}
