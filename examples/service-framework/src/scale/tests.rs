//! Scaling on recorded load curves, in a closed loop: what is decided takes time to start, and changes what is measured next.
//!
//! `UPDATE_EXPECT=1` rewrites the pictures and the tables beside this file.

use std::{env, fmt::Write as _, fs, path::Path, time::Duration};

use apportion_sdk::Time;
use proptest::prelude::*;

use super::*;

/// Between two samples.
const INTERVAL: Duration = Duration::from_secs(15);

/// From a decision to a replica that does its work.
const START: Duration = Duration::from_secs(40);

fn scale(table: &str) -> Result<Scale, spec::Problem> {
    toml::from_str::<spec::ScaleTable>(table).expect("a table").checked(100)
}

/// A service whose replicas bear a load together.
struct Loop {
    scaler: Scaler,
    wanted: u32,
    /// When those on their way do their work.
    starting: Vec<Time>,
    ready: u32,
    rules: Vec<Metric>,
    /// Seconds in which replicas had more to bear than one can.
    overloaded: f64,
    /// Seconds of replicas.
    spent: f64,
    changes: usize,
}

/// What one replica can bear, in requests each second.
const CAPACITY: f64 = 100.0;

impl Loop {
    fn new(table: &str, replicas: u32) -> Loop {
        let scale = scale(table).unwrap();
        let rules = scale.rules.iter().map(|rule| rule.metric.clone()).collect();
        let (starting, scaler) = (Vec::new(), Scaler::new(scale));
        Loop {
            scaler,
            wanted: replicas,
            starting,
            ready: replicas,
            rules,
            overloaded: 0.0,
            spent: 0.0,
            changes: 0,
        }
    }

    fn step(&mut self, at: Time, load: f64) -> Decision {
        self.ready += self.starting.extract_if(.., |due| *due <= at).count() as u32;
        let each = load / f64::from(self.ready.max(1));
        let value = |metric: &Metric| match metric {
            Metric::Requests => Ok(each),
            Metric::Cpu | Metric::Utilisation => Ok((each / CAPACITY).min(1.0)),
            Metric::Queue => Ok((each - CAPACITY).max(0.0)),
            other => Err(format!("{other} has no curve")),
        };
        let sample = Sample {
            at,
            replicas: self.wanted,
            ready: self.ready,
            values: self.rules.iter().map(value).collect(),
            busy: Some(load > 0.0),
        };
        let decision = self.scaler.decide(&sample);
        assert_eq!(decision.from, self.wanted);
        let all = self.ready + self.starting.len() as u32;
        if decision.to > all {
            self.starting.extend((all..decision.to).map(|_| at + START));
        }
        for _ in decision.to..all {
            // Those that have not started are given up first.
            if self.starting.pop().is_none() {
                self.ready -= 1;
            }
        }
        self.changes += usize::from(decision.to != decision.from);
        self.wanted = decision.to;
        self.overloaded += if each > CAPACITY { INTERVAL.as_secs_f64() } else { 0.0 };
        self.spent += f64::from(self.ready) * INTERVAL.as_secs_f64();
        decision
    }

    /// Plays a recorded curve: lines of seconds and requests each second, which hold until the next.
    fn play(&mut self, curve: &str) {
        let points: Vec<(u64, f64)> = curve
            .lines()
            .filter(|line| !line.starts_with('#'))
            .map(|line| line.split_once(',').expect("two columns"))
            .map(|(at, load)| (at.parse().unwrap(), load.parse().unwrap()))
            .collect();
        let end = points.last().unwrap().0;
        for seconds in (0..=end).step_by(INTERVAL.as_secs() as usize) {
            let point = points.partition_point(|(at, _)| *at <= seconds) - 1;
            self.step(at(seconds), points[point].1);
        }
    }

    fn report(&self) -> String {
        let mut text = String::new();
        for decision in self.scaler.history().changes() {
            let seconds = decision.at.as_micros() / 1_000_000;
            writeln!(text, "{:>3}:{:02}:{:02}  {decision}", seconds / 3600, seconds / 60 % 60, seconds % 60)
                .unwrap();
        }
        writeln!(
            text,
            "{} changes, {:.1} hours of replicas, overloaded for {:.0} s",
            self.changes,
            self.spent / 3600.0,
            self.overloaded
        )
        .unwrap();
        text
    }
}

fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

/// Plays a curve and holds the decisions against the text and the picture that were kept.
fn kept(name: &str, table: &str, curve: &str, replicas: u32) -> Loop {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/scale/curves");
    let mut played = Loop::new(table, replicas);
    played.play(&fs::read_to_string(folder.join(curve)).unwrap());
    for (suffix, now) in [("txt", played.report()), ("svg", plot::svg(name, played.scaler.history().all()))] {
        let file = folder.join(format!("{name}.{suffix}"));
        match env::var_os("UPDATE_EXPECT") {
            Some(_) => fs::write(&file, now).unwrap(),
            None => assert_eq!(
                fs::read_to_string(&file).unwrap(),
                now,
                "{}; UPDATE_EXPECT=1 rewrites it",
                file.display()
            ),
        }
    }
    played
}

const REQUESTS: &str = "min = 1\nmax = 20\ndown_after = '5m'\n[[rule]]\nmetric = 'requests'\ntarget = 70\n";

#[test]
fn a_step_is_followed_at_once_and_left_slowly() {
    let played = kept("step", REQUESTS, "step.csv", 1);
    assert!(played.overloaded <= 60.0, "as long as replicas take to start: {}", played.overloaded);
    assert_eq!(played.wanted, 2);
}

#[test]
fn what_flaps_changes_nothing_after_the_first_time() {
    let played = kept("flapping", REQUESTS, "flapping.csv", 2);
    assert!(played.changes <= 2, "{}", played.changes);
}

#[test]
fn a_daily_wave_is_followed_and_known_on_the_third_day() {
    let table = "min = 1\nmax = 20\n[[rule]]\nmetric = 'requests'\ntarget = 70\n";
    let now = kept("wave", table, "wave.csv", 2);
    let ahead = format!("{table}predict = {{ period = '1d', lead = '10m' }}\n");
    let ahead = kept("wave-ahead", &ahead, "wave.csv", 2);
    assert!(ahead.overloaded < now.overloaded, "{} and {}", ahead.overloaded, now.overloaded);
    assert!(ahead.spent < now.spent * 1.1, "for at most a tenth more: {} and {}", ahead.spent, now.spent);
}

#[test]
fn utilisation_goes_by_threshold_and_half_of_it() {
    let table = "min = 1\nmax = 20\ndown_after = '2m'\n[[rule]]\nmetric = 'utilisation'\nover = 0.8\n";
    let played = kept("threshold", table, "step.csv", 1);
    assert!(played.wanted <= 3, "{}", played.wanted);
}

#[test]
fn what_nobody_asks_sleeps_and_is_woken() {
    let table = "min = 0\nmax = 5\nidle_after = '10m'\n[[rule]]\nmetric = 'requests'\ntarget = 70\n";
    let played = kept("sleep", table, "sleep.csv", 1);
    assert_eq!(played.wanted, 0);
    let because: Vec<_> = played.scaler.history().changes().map(|decision| decision.because).collect();
    assert!(because.contains(&Because::Woken), "{because:?}");
}

#[test]
fn what_is_not_known_shrinks_nothing_and_says_so() {
    let table = "max = 9\ndown_after = '0s'\n[[rule]]\nmetric = 'cpu'\ntarget = 0.5\n[[rule]]\nmetric = 'prometheus'\nurl = 'http://p'\nquery = \
                 'q'\ntarget = 1\n";
    let mut scaler = Scaler::new(scale(table).unwrap());
    let mut decide = |seconds, cpu: f64, waiting: Result<f64, &str>| {
        let values = vec![Ok(cpu), waiting.map_err(str::to_owned)];
        scaler.decide(&Sample { at: at(seconds), replicas: 4, ready: 4, values, busy: None })
    };
    let refused = Err("http://p: connection refused");
    let decision = decide(0, 0.1, refused);
    assert_eq!((decision.to, decision.because), (4, Because::PartlyUnmeasured));
    assert_eq!(
        decision.to_string(),
        "4 replicas stay: no fewer while something is not known; cpu at 0.5 for each: is 0.10, for all to bear it: 1; `q` at 1 for each: not \
         known: http://p: connection refused"
    );
    assert_eq!(decide(1, 0.9, refused).to, 8, "more are added all the same");
    assert_eq!(decide(2, f64::NAN, refused).because, Because::Unmeasured);
    assert_eq!(decide(3, 0.1, Ok(0.1)).to, 1);
}

#[test]
fn no_more_than_a_step_is_added_within_a_minute() {
    let table = "max = 50\nup_step = 3\n[[rule]]\nmetric = 'cpu'\ntarget = 0.5\n";
    let mut scaler = Scaler::new(scale(table).unwrap());
    let mut replicas = 1;
    let mut counts = Vec::new();
    for seconds in (0..180).step_by(15) {
        let sample = Sample { at: at(seconds), replicas, ready: replicas, values: vec![Ok(1.0)], busy: None };
        replicas = scaler.decide(&sample).to;
        counts.push(replicas);
    }
    // Two of each three leave the minute a sample later.
    assert_eq!(counts, [2, 4, 4, 4, 5, 7, 7, 7, 8, 10, 10, 10]);
}

#[test]
fn bad_tables_are_refused_with_their_place_and_a_remedy() {
    let rule = "[[rule]]\nmetric = 'cpu'\ntarget = 1\n";
    let problem = |table: &str| {
        let problem = scale(table).unwrap_err();
        (table[problem.span.clone()].to_owned(), problem.what)
    };
    let cases = [
        (format!("min = 9\nmax = 3\n{rule}"), "9", "scale.min: is 9, more than scale.max, 3"),
        (format!("min = 1\n{rule}"), "", "write for example\nmax = 10"),
        (format!("max = 1000\n{rule}"), "1000", "is not from 1 to 100"),
        ("max = 3\n".to_owned(), "", "scale: has no rule; write for example"),
        (format!("max = 3\nup_after = 'soon'\n{rule}"), "'soon'", "is not a duration"),
        ("max = 3\n[[rule]]\nmetric = 'speed'\ntarget = 1\n".to_owned(), "'speed'", "is none of cpu, memory"),
        ("max = 3\n[[rule]]\nmetric = 'cpu'\ntarget = -1\n".to_owned(), "-1", "is not above 0"),
        ("max = 3\n[[rule]]\nmetric = 'cpu'\ntarget = 1\nover = 2\n".to_owned(), "1", "not both"),
        (
            "max = 3\n[[rule]]\nmetric = 'prometheus'\nurl = 'https://p'\nquery = 'q'\ntarget = 1\n"
                .to_owned(),
            "'https://p'",
            "begins with",
        ),
        (
            "max = 3\n[[rule]]\nmetric = 'cpu'\ntarget = 1\npredict = { period = '1m', lead = '5s' }\n"
                .to_owned(),
            "'1m'",
            "is not from 10m to 31d",
        ),
        (
            "max = 3\n[[rule]]\nmetric = 'cpu'\ntarget = 1\npredict = { period = '40d', lead = '5s' }\n"
                .to_owned(),
            "'40d'",
            "is not from 10m to 31d",
        ),
    ];
    for (table, place, what) in cases {
        let (at, said) = problem(&table);
        assert!(at == place && said.contains(what), "{table}\n{at}: {said}");
    }
}

fn any_table() -> impl Strategy<Value = String> {
    let rule = prop_oneof![
        (1..200u32).prop_map(|target| format!("[[rule]]\nmetric = 'requests'\ntarget = {target}\n")),
        (1..9u32, 1..4u32)
            .prop_map(|(over, step)| format!("[[rule]]\nmetric = 'cpu'\nover = 0.{over}\nstep = {step}\n")),
        Just(
            "[[rule]]\nmetric = 'requests'\ntarget = 50\npredict = { period = '1h', lead = '1m' }\n"
                .to_owned()
        ),
        Just("[[rule]]\nmetric = 'latency'\ntarget = 1\n".to_owned()),
    ];
    let bounds = (0..5u32, 0..20u32, 1..9u32, 1..9u32, 0..120u64, 0..600u64);
    (bounds, prop::collection::vec(rule, 1..4)).prop_map(|((min, more, up, down, up_after, down_after), rules)| {
        format!(
            "min = {min}\nmax = {}\nup_step = {up}\ndown_step = {down}\nup_after = '{up_after}s'\ndown_after = \
             '{down_after}s'\nidle_after = '5m'\n{}",
            (min + more).max(1),
            rules.concat()
        )
    })
}

proptest! {
    #[test]
    fn bounds_hold_whatever_is_measured(table in any_table(), loads in prop::collection::vec(0..3000u32, 1..200), first in 0..30u32) {
        let (min, max) = { let scale = scale(&table).unwrap(); (scale.min, scale.max) };
        let mut played = Loop::new(&table, first);
        for (step, load) in loads.into_iter().enumerate() {
            let load = f64::from(load.saturating_sub(500));
            let before = played.wanted;
            let decision = played.step(at(step as u64 * 15), load);
            prop_assert!((min..=max).contains(&decision.to), "{decision:?}");
            prop_assert!(decision.to > 0 || load == 0.0, "none while something is asked: {decision:?}");
            if let Because::Rule { place } = decision.because {
                prop_assert_eq!(decision.said[place].replicas, Some(decision.to));
            }
            prop_assert!(before == decision.from);
            prop_assert!(!decision.to_string().is_empty());
        }
    }

    /// With a load that stays, a number is found and kept.
    #[test]
    fn a_steady_load_comes_to_rest(load in 0..1000u32, over in 2..9u32) {
        let table = format!("max = 30\ndown_after = '1m'\n[[rule]]\nmetric = 'cpu'\nover = 0.{over}\n");
        let mut played = Loop::new(&table, 3);
        for step in 0..400 {
            played.step(at(step * 15), f64::from(load));
        }
        let settled = played.wanted;
        for step in 400..500 {
            prop_assert_eq!(played.step(at(step * 15), f64::from(load)).to, settled);
        }
    }
}
