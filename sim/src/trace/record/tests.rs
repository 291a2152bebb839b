use super::*;
use crate::trace::{group::group, nodes, tasks};

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn trace() -> (Vec<Node>, Vec<Group>) {
    let nodes = "sn,cpu_milli,memory_mib,gpu,model\na,4000,4096,2,T4\nb,4000,4096,0,\n";
    let tasks = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time,scheduled_time\n\
                 t1,2000,1024,1,500,,LS,0,9,0\n\
                 t2,4000,1024,0,0,,BE,0,9,0\n\
                 t3,4000,1024,0,0,,BE,0,9,0\n\
                 t4,9000,1024,0,0,,BE,0,9,0\n\
                 t5,2000,1024,1,500,,LS,0,9,0\n";
    (nodes::parse("n", nodes).unwrap(), group(&tasks::parse("t", tasks).unwrap()))
}

fn options() -> Options {
    Options { seed: 7, ..Options::default() }
}

/// One minute in which `ls` gets half of `a`, `be` all of `b`, and one of each has to wait.
pub(in crate::trace) fn minute() -> Report {
    let (nodes, groups) = trace();
    let mut recorder = Recorder::new(&nodes, &groups);
    assert_eq!([0, 1, 2].map(|group| recorder.runnable(group)), [true, true, false]);
    let (ls, be, a, b) = (0, 1, 0, 1);
    recorder.arrived(seconds(0), ls);
    recorder.arrived(seconds(0), be);
    recorder.placed(seconds(0), ls, a);
    recorder.placed(seconds(0), be, b);
    recorder.running(ls, seconds(0));
    recorder.arrived(seconds(10), be);
    recorder.running(be, seconds(2));
    recorder.arrived(seconds(20), ls);
    recorder.placed(seconds(30), ls, a);
    recorder.displaced(seconds(40), ls, a);
    recorder.withdrawn(seconds(50), ls);
    recorder.finished(seconds(50), ls, a);
    recorder.finish(seconds(60), "batch", options(), Offers { made: 3, ..Offers::default() })
}

#[test]
fn a_minute_is_reported_to_the_last_digit() {
    let report = minute();
    let counts = |total, rejected, placed, running, finished, waiting, withdrawn| TaskCounts {
        total,
        rejected,
        placed,
        running,
        finished,
        waiting,
        withdrawn,
    };
    assert_eq!(report.tasks, counts(5, 1, 2, 1, 1, 1, 1));
    let [be, ls] = &report.roles[..] else { panic!("there are two roles") };
    assert_eq!((be.role.as_str(), be.tasks), ("be", counts(3, 1, 1, 1, 0, 1, 0)));
    assert_eq!((ls.role.as_str(), ls.tasks), ("ls", counts(2, 0, 1, 0, 1, 0, 1)));
    assert_eq!(report.wait.map(|wait| (wait.p50_us, wait.max_us)), Some((0, 2_000_000)));

    // Of 8 cpus: 6 for 50 s, with 2 more for 10 s of it, then 4.
    assert_eq!(
        report.used.cpus,
        Level { mean_ppm: (6 * 40 + 8 * 10 + 4 * 10) * 1_000_000 / 8 / 60, peak_ppm: 1_000_000 }
    );
    // Of 2 gpus: a half for 50 s, with one more half for 10 s of it.
    assert_eq!(report.used.gpus, Level { mean_ppm: (50 + 10) * 500_000 / 2 / 60, peak_ppm: 500_000 });
    assert_eq!(be.dominant_share, Level { mean_ppm: 500_000, peak_ppm: 500_000 });
    // A quarter of the cpus and of the gpus for 50 s, with as much again for 10 s.
    assert_eq!(ls.dominant_share, Level { mean_ppm: 250_000, peak_ppm: 500_000 });

    // Both waited from 20 s to 30 s and from 40 s to 50 s, with shares of 1/2 and 1/4: (3/4)² / (2 × 5/16).
    let fairness = Fairness { contended_us: 20_000_000, jain_ppm: Some(900_000) };
    assert_eq!(report.fairness, fairness);

    // Two of four runnable tasks want a gpu, so gpus are lost only while `a` has no cpus for them: for 10 s.
    assert_eq!(report.fragmentation.gpus, Level { mean_ppm: 10_000_000 / 60, peak_ppm: 1_000_000 });
    // Cpus: `be` cannot use the half of `a` that is free for 40 s, and all that is free then; then `a` is empty again.
    assert_eq!(report.fragmentation.cpus, Level { mean_ppm: 500_000 * 40 / 60, peak_ppm: 500_000 });
}

#[test]
fn a_report_keeps_its_form() {
    let mut report = minute();
    // Stretches are as many as the length needs; a few are enough here.
    let over_time = &mut report.over_time;
    assert_eq!((over_time.step_us, over_time.waiting_milli.len()), (256_000, 235));
    over_time.step_us = 30_000_000;
    let all = [&mut over_time.waiting_milli, &mut over_time.used_ppm.cpus, &mut over_time.used_ppm.mem];
    let more = [&mut over_time.used_ppm.gpus, &mut over_time.fragmentation_ppm.cpus];
    let last = [&mut over_time.fragmentation_ppm.mem, &mut over_time.fragmentation_ppm.gpus];
    let roles = over_time.dominant_share_ppm.values_mut();
    all.into_iter().chain(more).chain(last).chain(roles).for_each(|means| means.truncate(1));
    let text = serde_json::to_string_pretty(&report).unwrap();
    assert_eq!(text.trim(), include_str!("tests/minute.json").trim(), "\n{text}");
}

#[test]
fn a_replay_without_time_has_no_shares() {
    let (nodes, groups) = trace();
    let report = Recorder::new(&nodes, &groups).finish(seconds(0), "batch", options(), Offers::default());
    assert_eq!((report.used.cpus, report.fragmentation.gpus), (Level::default(), Level::default()));
    assert_eq!((report.wait, report.fairness.jain_ppm), (None, None));
    assert!(report.over_time.waiting_milli.is_empty() && report.over_time.dominant_share_ppm.len() == 2);
}

#[test]
#[should_panic(expected = "node `b` is given more than it has")]
fn a_node_gives_no_more_than_it_has() {
    let (nodes, groups) = trace();
    let mut recorder = Recorder::new(&nodes, &groups);
    recorder.arrived(seconds(0), 0);
    recorder.placed(seconds(0), 0, 1);
}

#[test]
fn equal_shares_have_the_highest_index() {
    assert_eq!(jain_ppm(&[5, 5, 5]), 1_000_000);
    assert_eq!(jain_ppm(&[0, 0]), 1_000_000);
    assert_eq!(jain_ppm(&[7, 0, 0, 0]), 250_000);
}
