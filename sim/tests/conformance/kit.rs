//! What the kit finds, and what it does not.

use apportion_sdk::{Capability, Options, Scheduler};
use apportion_sim::{
    Store,
    conformance::{self, Conformance, Promise, Report},
};

use crate::{
    right::Right,
    wrong::{
        Amnesiac, Archivist, Asker, Assuming, Deaf, Ditherer, Hasty, Hoarder, Idler, Optimist, Picky,
        Stubborn, Twins, Waiter,
    },
};

#[test]
fn a_right_scheduler_breaks_nothing() {
    conformance::check_stored(Right::new).assert_ok();
}

/// A scheduler that is asked to leave machines.
fn asked<S: Scheduler + 'static>(make: impl Fn(&Store) -> S + 'static) -> Report {
    let options = || Options::new().capability(Capability::InverseOffers).build();
    Conformance::stored(make).framework(move |framework| framework.options(options())).run()
}

#[test]
fn who_answers_inverse_offers_breaks_nothing() {
    asked(Right::new).assert_ok();
}

#[test]
fn who_answers_none_ignores_inverse_offers() {
    assert_eq!(broken(&asked(Deaf::new)), [Promise::IgnoresInverseOffers]);
}

#[test]
fn a_right_scheduler_that_stores_nothing_breaks_nothing() {
    conformance::check(|| Right::new(&Store::default())).assert_ok();
}

/// Of a wrong scheduler exactly its mistake is told.
fn breaks<S: Scheduler + 'static>(promise: Promise, make: impl Fn(&Store) -> S + 'static) -> Report {
    let report = conformance::check_stored(make);
    assert_eq!(broken(&report), [promise], "{report}");
    report
}

fn broken(report: &Report) -> Vec<Promise> {
    report.broken.iter().map(|broken| broken.promise).collect()
}

macro_rules! wrong {
    ($($test:ident: $scheduler:ident breaks $promise:ident;)*) => {
        $(#[test]
        fn $test() {
            _ = breaks(Promise::$promise, $scheduler::new);
        })*
    };
}

wrong! {
    who_keeps_what_it_cannot_use_holds_offers: Hoarder breaks HoldsOffers;
    who_gives_two_tasks_one_id_overspends: Twins breaks Overspends;
    who_does_not_wait_for_reconciliation_launches_twice: Hasty breaks LaunchesTwice;
    who_uses_an_offer_all_the_same_ignores_its_rescind: Stubborn breaks IgnoresRescind;
    who_forgets_what_runs_forgets_a_task: Amnesiac breaks ForgetsTask;
    who_asks_for_ever_does_not_reconcile: Asker breaks DoesNotReconcile;
    who_names_what_has_ended_does_not_reconcile: Archivist breaks DoesNotReconcile;
    who_refuses_for_no_time_spins: Picky breaks SpinsOnDecline;
    who_cannot_make_up_its_mind_spins: Ditherer breaks SpinsOnDecline;
    who_takes_the_unknown_for_done_breaks_when_crashed: Optimist breaks BreaksWhenCrashed;
    who_takes_nothing_twice_panics: Assuming breaks Panics;
    who_waits_in_a_callback_awaits: Waiter breaks Awaits;
}

#[test]
fn nothing_launched_is_nothing_tried() {
    let report = conformance::check_stored(Idler::new);
    assert!(report.broken.is_empty() && !report.is_ok(), "{report}");
    assert!(report.to_string().contains("nothing was tried"), "{report}");
}

#[test]
fn one_seed_gives_one_report_and_a_history_can_be_played_alone() {
    let kit = || Conformance::stored(Hasty::new).seed(7);
    let report = kit().run();
    assert_eq!(report, kit().run());
    let broken = &report.broken[0];
    assert!(!broken.troubles.is_empty() && !broken.trace.is_empty(), "{report}");
    let alone = kit().only(broken.history).run();
    let same = |broken: &conformance::Broken| (broken.promise, broken.what.clone(), broken.troubles.clone());
    assert_eq!(same(&alone.broken[0]), same(broken));
}

#[test]
fn a_report_says_which_how_and_what_to_do() {
    let text = breaks(Promise::IgnoresRescind, Stubborn::new).to_string();
    for part in
        ["1 promise is broken", "ignores-rescind: ", "remedy: ", "it takes 1 agent", "rescind m1-", "again: "]
    {
        assert!(text.contains(part), "{part} is missing:\n{text}");
    }
}
