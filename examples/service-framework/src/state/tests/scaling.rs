//! Scaled by what is measured: table, scaler and orders together, at a time of its own.

use std::collections::BTreeMap;

use super::*;
use crate::{
    scale::{Measured, Metric, Traffic, spec::ScaleTable},
    state::scaling::Past,
};

const REQUESTS: &str = "min = 1\nmax = 6\ndown_after = '60s'\n[[rule]]\nmetric = 'requests'\ntarget = 10\n";

fn scaled(replicas: u32, table: &str) -> Spec {
    let scale = toml::from_str::<ScaleTable>(table).unwrap().checked(100).unwrap();
    let update = Update { min_healthy: Duration::ZERO, ..web(replicas).update };
    // Nobody is led to the replicas: what clients have under way is another story.
    Spec { scale: Some(scale), update, ..web(replicas) }
}

fn requests(each_second: f64) -> Measured {
    let traffic = Traffic { requests_per_second: each_second, busy: each_second > 0.0, ..Traffic::default() };
    Measured { service: "web".into(), traffic: Some(traffic), ..Measured::default() }
}

impl Story {
    /// What is measured now; gives how many replicas are wanted since.
    fn measure(&mut self, measured: Measured) -> u32 {
        self.services.measured(&[measured], at(self.now), &mut self.told);
        self.app().replicas()
    }

    /// Measures every 15 seconds for so long, while the cluster does what it is told.
    fn load(&mut self, each_second: f64, seconds: u64) -> u32 {
        for _ in 0..seconds / 15 {
            self.wait(15);
            self.measure(requests(each_second));
            self.launch();
            self.run();
            let told = std::mem::take(&mut self.told);
            for effect in told {
                if let Effect::Kill(task) = effect {
                    self.tell(task.as_str(), TaskState::Killed);
                }
            }
        }
        self.app().replicas()
    }
}

#[test]
fn a_service_follows_its_load_and_tells_why() {
    let mut story = Story::running(scaled(2, REQUESTS));
    story.events();
    assert_eq!(story.measure(requests(35.0)), 4);
    let events = story.events();
    assert_eq!(events, ["scaled: 2 -> 4 replicas: requests at 10 for each: is 17.5, for all to bear it: 4"]);
    assert_eq!(story.launch(), ["web.2.3", "web.3.4"]);
    story.run();
    story.wait(15);
    assert_eq!(story.measure(requests(11.0)), 4, "fewer must be enough for a while");
    assert_eq!(story.load(11.0, 120), 2);
    assert_eq!(story.services.table().placed.len(), 2);
    let changes = &story.services.table().scaling["web"].changes;
    let counts: Vec<_> = changes.iter().map(|change| (change.changed.from, change.changed.to)).collect();
    assert_eq!(counts, [(2, 4), (4, 2)]);
    assert_eq!(story.load(1000.0, 15), 6, "no more are allowed");
}

/// Whatever is decided is in the table, whenever the scheduler dies: the next one neither forgets it nor does it twice.
#[test]
fn a_number_outlives_its_scheduler_and_is_not_hurried_by_its_end() {
    let mut story = Story::running(scaled(1, &REQUESTS.replace("max = 6", "max = 6\nup_step = 3")));
    assert_eq!(story.measure(requests(60.0)), 4, "a step");
    story.restart();
    assert_eq!(story.app().replicas(), 4);
    story.run();
    assert_eq!(story.launch().len(), 3);
    story.run();
    story.wait(15);
    assert_eq!(story.measure(requests(60.0)), 4, "the step of this minute was taken by the one before");
    assert_eq!(story.load(60.0, 60), 6);
    // One that has just begun has not seen that fewer were enough for a minute.
    story.load(5.0, 45);
    story.restart();
    story.run();
    assert_eq!(story.load(5.0, 45), 6);
    assert_eq!(story.load(5.0, 30), 1);
}

#[test]
fn an_operators_number_holds_until_the_next_decision() {
    let mut story = Story::running(scaled(2, REQUESTS));
    story.services.scale("web", 5, at(story.now), &mut story.told).unwrap();
    assert_eq!(story.app().replicas(), 5);
    story.launch();
    story.run();
    assert_eq!(story.measure(requests(20.0)), 5, "it has not been seen for a minute that two are enough");
    assert_eq!(story.load(20.0, 75), 2, "then it is what is measured that counts");
    let refused = story.services.scale("web", 9, at(story.now), &mut story.told).unwrap_err();
    assert_eq!(refused.to_string(), "9 is more than scale.max, 6; change that first");
    assert_eq!(story.app().replicas(), 2, "it would be undone by what is measured next");
    // None at all is another thing: somebody wants it gone for a while.
    story.services.scale("web", 0, at(story.now), &mut story.told).unwrap();
    assert_eq!(story.load(50.0, 300), 0);
    assert_eq!(story.services.table().placed.len(), 0);
    story.services.scale("web", 1, at(story.now), &mut story.told).unwrap();
    story.launch();
    story.run();
    assert_eq!(story.load(50.0, 30), 5);
}

#[test]
fn another_table_holds_at_once_and_moves_nothing_but_the_number() {
    let mut story = Story::running(scaled(2, REQUESTS));
    story.load(60.0, 30);
    assert_eq!(story.app().replicas(), 6);
    assert_eq!(story.apply(scaled(2, &REQUESTS.replace("max = 6", "max = 3"))), Change::Settings);
    assert_eq!(
        (story.app().replicas(), story.app().last),
        (3, 1),
        "no more are allowed now; the revision is the same"
    );
    assert_eq!(story.load(60.0, 120), 3);
    // What else is changed does not send it back to where it began, and neither does another beginning.
    let spec = scaled(1, &REQUESTS.replace("max = 6", "max = 3"));
    assert_eq!(story.apply(next(&spec)), Change::Update(2));
    assert_eq!(story.app().replicas(), 3);
    // Without a table it is as for any service: what was ordered holds while the description's number is the same.
    story.apply(Spec { scale: None, ..next(&spec) });
    assert_eq!(story.app().replicas(), 3);
    assert!(story.services.subjects().is_empty());
    story.measure(requests(0.0));
    assert_eq!(story.app().replicas(), 3, "what comes late is not for it any more");
    story.apply(Spec { scale: None, replicas: 2, ..next(&spec) });
    assert_eq!(story.app().replicas(), 2);
}

#[test]
fn a_service_begins_within_its_bounds() {
    let begun = |replicas, table: &str| Story::of(scaled(replicas, table)).app().replicas();
    assert_eq!(begun(3, REQUESTS), 3);
    assert_eq!(
        begun(1, &REQUESTS.replace("min = 1", "min = 4")),
        4,
        "one is what is said by who says nothing"
    );
    assert_eq!(begun(0, &REQUESTS.replace("min = 1", "min = 0")), 0, "it begins asleep");
    let would = |spec: Spec| {
        let story = Story::of(spec.clone());
        let other = Spec { name: "other".into(), ..spec };
        story.services.would_apply(&[Arc::new(other)], false).unwrap()["other"].replicas
    };
    assert_eq!(would(scaled(1, &REQUESTS.replace("min = 1", "min = 4"))), 4, "what is told is what is done");
}

#[test]
fn another_table_wakes_what_may_not_sleep_any_more_and_nothing_else() {
    let sleepy = REQUESTS.replace("min = 1", "min = 0\nidle_after = '15s'");
    let mut story = Story::running(scaled(2, &sleepy));
    assert_eq!(story.load(0.0, 60), 0);
    story.apply(scaled(3, &sleepy.replace("max = 6", "max = 5")));
    assert_eq!(story.app().replicas(), 0, "it sleeps on");
    story.apply(scaled(3, REQUESTS));
    assert_eq!(story.app().replicas(), 3);
    // What an operator has scaled to none stays so.
    story.services.scale("web", 0, at(story.now), &mut story.told).unwrap();
    story.apply(scaled(3, &REQUESTS.replace("max = 6", "max = 5")));
    assert_eq!(story.app().replicas(), 0);
    // One that was described as none, and is described otherwise now, is wanted.
    let mut story = Story::of(Spec { scale: None, ..scaled(0, REQUESTS) });
    story.apply(scaled(1, REQUESTS));
    assert_eq!(story.app().replicas(), 1);
}

#[test]
fn nothing_is_scaled_down_during_an_update() {
    let mut story = Story::running(scaled(4, &REQUESTS.replace("60s", "0s")));
    let spec = next(&scaled(4, &REQUESTS.replace("60s", "0s")));
    story.apply(spec);
    assert_eq!(story.measure(requests(1.0)), 4);
    assert!(story.events().last().unwrap().contains("on its way"));
    assert_eq!(story.measure(requests(60.0)), 6, "more are added all the same");
    for _ in 0..20 {
        story.launch();
        story.run();
        story.killed();
        story.wait(5);
    }
    assert_eq!(story.phase(), Phase::Steady);
    assert_eq!(story.measure(requests(1.0)), 1);
}

/// The load of a first hour may ask for more than there is room for.
#[test]
fn what_finds_no_room_is_not_wanted_for_ever() {
    let mut story = Story::of(scaled(2, &REQUESTS.replace("60s", "0s")));
    story.launch();
    story.tell("web.0.1", TaskState::Running);
    assert_eq!(story.measure(requests(60.0)), 6);
    assert_eq!((story.phase(), story.measure(requests(15.0))), (Phase::Rolling, 2));
    story.run();
    // Also of another revision, once it is known that nothing comes of it.
    let spec = scaled(2, &REQUESTS.replace("60s", "0s"));
    let update = Update { auto_rollback: false, ..spec.update };
    let spec = Spec { update, ..spec };
    assert_eq!(story.phase(), Phase::Steady);
    // The steps of this minute are taken.
    story.wait(61);
    story.apply(next(&spec));
    assert_eq!(story.measure(requests(60.0)), 6);
    assert_eq!(story.measure(requests(15.0)), 6);
    story.wait(101);
    assert_eq!(story.measure(requests(15.0)), 2);
}

#[test]
fn what_is_not_asked_sleeps_and_whoever_waits_wakes_it() {
    let table = &REQUESTS.replace("min = 1", "min = 0\nidle_after = '2m'");
    let mut story = Story::running(scaled(2, table));
    assert_eq!(story.load(15.0, 60), 2);
    assert_eq!(story.load(0.0, 90), 1, "it is not idle for long enough");
    assert_eq!(story.load(0.0, 60), 0);
    assert_eq!(story.services.table().placed.len(), 0);
    story.restart();
    assert_eq!(story.load(0.0, 60), 0, "it sleeps on");
    story.events();
    story.services.wanted("web", at(story.now), &mut story.told);
    assert_eq!(story.app().replicas(), 1);
    assert_eq!(story.events(), ["scaled: 0 -> 1 replicas: something is asked"]);
    assert_eq!(story.launch().len(), 1);
    story.services.wanted("web", at(story.now), &mut story.told);
    assert_eq!(story.app().replicas(), 1, "who waits on waits for the one that starts");
    // One that is to be there always is not woken: it does not sleep.
    let mut story = Story::running(scaled(2, REQUESTS));
    story.services.scale("web", 0, at(story.now), &mut story.told).unwrap();
    story.services.wanted("web", at(story.now), &mut story.told);
    assert_eq!(story.app().replicas(), 0);
}

#[test]
fn what_cannot_be_measured_is_told_once() {
    let table = "max = 6\n[[rule]]\nmetric = 'prometheus'\nurl = 'http://p'\nquery = 'q'\ntarget = 1\n";
    let mut story = Story::running(scaled(2, table));
    let answer = |answer: Result<f64, &str>| {
        let answers = vec![(asked("q"), answer.map_err(str::to_owned))];
        Measured { service: "web".into(), answers, ..Measured::default() }
    };
    story.events();
    for _ in 0..3 {
        assert_eq!(story.measure(answer(Err("http://p: refused; is Prometheus running there?"))), 2);
        story.wait(15);
    }
    assert_eq!(
        story.events(),
        [
            "`q` cannot be measured: http://p: refused; is Prometheus running there?; not scaled down meanwhile"
        ]
    );
    let explained = story.services.explain("web", at(story.now)).unwrap().scaling.unwrap();
    assert_eq!(
        explained.decisions.last().unwrap().said[0].why,
        "http://p: refused; is Prometheus running there?"
    );
    assert_eq!(story.measure(answer(Ok(2.0))), 2);
    assert_eq!(story.events(), ["`q` is measured again"]);
}

fn asked(query: &str) -> Metric {
    Metric::Prometheus { url: "http://p".into(), query: query.into() }
}

/// The description may change while it is asked.
#[test]
fn an_answer_counts_for_the_question_that_was_asked() {
    let rule = |query: &str| {
        format!("[[rule]]\nmetric = 'prometheus'\nurl = 'http://p'\nquery = '{query}'\ntarget = 1\n")
    };
    let mut story = Story::running(scaled(2, &format!("max = 6\n{}{}", rule("few"), rule("many"))));
    let answers = vec![(asked("few"), Ok(2.0)), (asked("many"), Ok(6.0))];
    story.apply(scaled(2, &format!("max = 6\n{}", rule("few"))));
    assert_eq!(
        story.measure(Measured { service: "web".into(), answers: answers.clone(), ..Measured::default() }),
        2
    );
    story.apply(scaled(2, &format!("max = 6\n{}", rule("many"))));
    assert_eq!(story.measure(Measured { service: "web".into(), answers, ..Measured::default() }), 6);
}

#[test]
fn a_removed_service_leaves_nothing_behind() {
    let mut story = Story::running(scaled(2, REQUESTS));
    story.load(60.0, 15);
    assert!(story.services.table().scaling.contains_key("web"));
    story.services.remove(&["web".into()], at(story.now), &mut story.told).unwrap();
    assert_eq!(story.measure(requests(60.0)), 0);
    while !story.killed().is_empty() {}
    assert_eq!(story.services.table().scaling, BTreeMap::<String, Past>::new());
    assert!(story.services.table().apps.is_empty());
}
