//! Scaling on recorded load curves, in a closed loop: what is decided takes time to start, and changes what is measured next.
//!
//! `UPDATE_EXPECT=1` rewrites the pictures and the tables beside this file.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, path::Path, time::Duration};

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

/// Measured of all.
fn all(value: f64, of: u32) -> Mean {
    Mean { value, of }
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
        let (starting, scaler) = (Vec::new(), Scaler::new(scale, &BTreeMap::new(), &[]));
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
            values: self.rules.iter().map(|metric| value(metric).map(|it| all(it, self.ready))).collect(),
            busy: Some(load > 0.0),
            updating: false,
        };
        let decision = self.scaler.decide(&sample);
        assert_eq!(decision.from, self.wanted);
        let living = self.ready + self.starting.len() as u32;
        if decision.to > living {
            self.starting.extend((living..decision.to).map(|_| at + START));
        }
        for _ in decision.to..living {
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
    let mut scaler = Scaler::new(scale(table).unwrap(), &BTreeMap::new(), &[]);
    let mut decide = |seconds, cpu: f64, waiting: Result<f64, &str>| {
        let values = vec![Ok(all(cpu, 4)), waiting.map(|it| all(it, 4)).map_err(str::to_owned)];
        scaler.decide(&Sample { at: at(seconds), replicas: 4, ready: 4, values, busy: None, updating: false })
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

fn sample(seconds: u64, replicas: u32, ready: u32, value: f64, of: u32) -> Sample {
    let values = vec![Ok(Mean { value, of })];
    Sample { at: at(seconds), replicas, ready, values, busy: None, updating: false }
}

/// As in Kubernetes: who could not be asked is idle when there are to be more, and does what it is to do when there are to be fewer.
#[test]
fn who_could_not_be_asked_neither_adds_nor_removes() {
    for aim in ["target = 0.5", "over = 0.5"] {
        let table = format!("max = 99\ndown_after = '0s'\n[[rule]]\nmetric = 'cpu'\n{aim}\n");
        let decide = |value, of| {
            let mut scaler = Scaler::new(scale(&table).unwrap(), &BTreeMap::new(), &[]);
            scaler.decide(&sample(0, 4, 4, value, of)).to
        };
        assert!(decide(0.9, 4) > 4, "{aim}");
        assert_eq!(decide(0.9, 2), 4, "{aim}: the other two may have nothing to do");
        assert!(decide(1.3, 3) > 4, "{aim}: enough for more by themselves");
        assert!(decide(0.1, 4) < 4, "{aim}");
        assert_eq!(decide(0.1, 1), 4, "{aim}: the other three may be busy");
        assert!(decide(0.01, 3) < 4, "{aim}: fewer are enough even so");
    }
}

#[test]
fn nothing_is_taken_away_while_replicas_are_replaced() {
    let table = "max = 9\ndown_after = '0s'\n[[rule]]\nmetric = 'cpu'\ntarget = 0.5\n";
    let mut scaler = Scaler::new(scale(table).unwrap(), &BTreeMap::new(), &[]);
    let decision = scaler.decide(&Sample { updating: true, ..sample(0, 4, 4, 0.1, 4) });
    assert_eq!((decision.to, decision.because), (4, Because::Updating));
    let decision = scaler.decide(&Sample { updating: true, ..sample(1, 4, 4, 0.9, 4) });
    assert_eq!(decision.to, 8, "more are added all the same");
}

#[test]
fn what_an_operator_has_scaled_to_none_is_left_alone() {
    let mut scaler = Scaler::new(
        scale("max = 9\n[[rule]]\nmetric = 'cpu'\ntarget = 0.5\n").unwrap(),
        &BTreeMap::new(),
        &[],
    );
    let decision = scaler.decide(&Sample { busy: Some(true), ..sample(0, 0, 0, 1.0, 0) });
    assert_eq!((decision.to, decision.because), (0, Because::Paused));
    assert_eq!(
        decision.to_string(),
        "0 replicas stay: it was scaled to none by order, and waits to be scaled up"
    );
    assert_eq!(scaler.decide(&sample(1, 1, 1, 1.0, 1)).to, 2, "one is more than none: it goes on");
}

#[test]
fn it_is_known_when_a_change_has_stood_for_long_enough() {
    let table = "max = 9\ndown_after = '2m'\n[[rule]]\nmetric = 'cpu'\ntarget = 0.5\n";
    let mut scaler = Scaler::new(scale(table).unwrap(), &BTreeMap::new(), &[]);
    for (seconds, value, stands) in
        [(0, 0.5, None), (15, 0.1, Some(135)), (30, 0.2, Some(135)), (45, 0.5, None)]
    {
        scaler.decide(&sample(seconds, 4, 4, value, 4));
        assert_eq!(scaler.stands_at(), stands.map(at), "{seconds}");
    }
    // What is described anew holds at once, and what was seen counts on while the rules are the same.
    scaler.decide(&sample(60, 4, 4, 0.1, 4));
    let shorter = scale(&table.replace("2m", "30s")).unwrap();
    scaler.describe(shorter, &BTreeMap::new());
    assert_eq!(scaler.decide(&sample(90, 4, 4, 0.1, 4)).to, 1);
    scaler.describe(scale(&table.replace("0.5", "0.6")).unwrap(), &BTreeMap::new());
    assert_eq!(scaler.history().all().len(), 0, "other rules, another history");
}

#[test]
fn what_was_learned_and_changed_is_taken_up_by_the_next() {
    let table = "max = 50\nup_step = 3\n[[rule]]\nmetric = 'cpu'\ntarget = 0.5\npredict = { period = '1d', lead = '10m' }\n";
    let mut scaler = Scaler::new(scale(table).unwrap(), &BTreeMap::new(), &[]);
    // One day, with much to do at its noon.
    let mut kept = BTreeMap::new();
    for minute in 0..24 * 60 {
        let busy = (12 * 60..13 * 60).contains(&minute);
        scaler.decide(&sample(minute * 60, 4, 4, if busy { 2.0 } else { 0.5 }, 4));
        kept.extend(scaler.learned(&kept));
    }
    assert!(scaler.learned(&kept).is_empty(), "what is kept is not kept again");
    let stored: BTreeMap<String, Season> =
        serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
    let noon = 36 * 3600;
    let mut next = Scaler::new(scale(table).unwrap(), &stored, &[]);
    let decision = next.decide(&sample(noon - 300, 4, 4, 0.5, 4));
    assert!(decision.to > 4 && decision.to_string().contains("is expected in 10m"), "{decision}");
    let changed: Vec<_> = next.changed().copied().collect();
    let mut after = Scaler::new(scale(table).unwrap(), &stored, &changed);
    let decision = after.decide(&sample(noon - 290, decision.to, 4, 0.5, 4));
    assert_eq!(
        (decision.to, decision.because),
        (7, Because::Step { a_minute: 3 }),
        "steps count over a crash"
    );
}

#[test]
fn decisions_are_read_as_they_were_written() {
    let all = [
        Because::Rule { place: 0 },
        Because::Stabilising { window: Duration::from_millis(1500) },
        Because::Step { a_minute: 3 },
        Because::Idle { after: Duration::from_secs(900) },
        Because::Paused,
    ];
    for because in all {
        let said = Said { rule: "r".into(), value: Some(0.5), aim: 1.0, replicas: None, why: "w".into() };
        let decision = Decision { at: at(7), from: 1, ready: 1, to: 2, said: vec![said], because };
        let text = serde_json::to_string(&decision).unwrap();
        assert_eq!(serde_json::from_str::<Decision>(&text).unwrap(), decision, "{text}");
    }
}

#[test]
fn no_more_than_a_step_is_added_within_a_minute() {
    let table = "max = 50\nup_step = 3\n[[rule]]\nmetric = 'cpu'\ntarget = 0.5\n";
    let mut scaler = Scaler::new(scale(table).unwrap(), &BTreeMap::new(), &[]);
    let mut replicas = 1;
    let mut counts = Vec::new();
    for seconds in (0..180).step_by(15) {
        replicas = scaler.decide(&sample(seconds, replicas, replicas, 1.0, replicas)).to;
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
            let paused = decision.because == Because::Paused && before == 0;
            prop_assert!((min..=max).contains(&decision.to) || paused, "{decision:?}");
            prop_assert!(decision.to > 0 || load == 0.0 || paused, "none while something is asked: {decision:?}");
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
