use super::*;
use crate::trace::record::tests::minute;

/// The minute of the recorder's tests, as three stretches.
fn short() -> Report {
    let mut report = minute();
    report.options.load = 1000.try_into().unwrap();
    report.over_time.step_us = 25_000_000;
    report.over_time.used_ppm = PerKind {
        cpus: vec![750_000, 833_333, 500_000],
        mem: vec![250_000; 3],
        gpus: vec![250_000, 400_000, 0],
    };
    report.over_time.waiting_milli = vec![1_800, 1_600, 1_000];
    report.over_time.fragmentation_ppm =
        PerKind { cpus: vec![500_000, 300_000, 0], mem: vec![750_000; 3], gpus: vec![0, 400_000, 0] };
    let shares = [("be", vec![500_000; 3]), ("ls", vec![250_000, 333_333, 0])];
    report.over_time.dominant_share_ppm =
        shares.into_iter().map(|(role, means)| (role.parse().unwrap(), means)).collect();
    report
}

#[test]
fn a_picture_keeps_its_form() {
    let picture = draw(&short());
    assert_eq!(picture, include_str!("tests/minute.svg"), "\n{picture}");
}

#[test]
fn a_replay_without_time_has_a_picture_of_empty_diagrams() {
    let mut report = short();
    report.simulated_us = 0;
    let over_time = &mut report.over_time;
    over_time.waiting_milli.clear();
    (over_time.used_ppm, over_time.fragmentation_ppm) = (PerKind::default(), PerKind::default());
    over_time.dominant_share_ppm.clear();
    let picture = draw(&report);
    assert_eq!(picture.matches("class=\"head\"").count(), 4);
    assert!(!picture.contains("NaN") && !picture.contains("inf"), "{picture}");
}

#[test]
fn roles_without_a_colour_of_their_own_are_one() {
    let mut report = short();
    let role = |number: u64| (format!("role-{number}-of-a-long-name").parse().unwrap(), vec![number; 3]);
    report.over_time.dominant_share_ppm = (1..=9).map(role).collect();
    let lines = roles(&report);
    let names: Vec<_> = lines.iter().map(|(name, _, means)| (name.as_str(), means[0])).collect();
    assert_eq!(names.len(), COLOURS.len());
    assert_eq!(names[0], ("role-9-of-a…", 9));
    assert_eq!(names[6], ("3 others", 1 + 2 + 3));
    report.over_time.dominant_share_ppm.pop_last();
    report.over_time.dominant_share_ppm.pop_last();
    assert!(roles(&report).iter().all(|(name, ..)| name.starts_with("role-")));
}
