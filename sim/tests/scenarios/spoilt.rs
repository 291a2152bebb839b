//! No text makes the reader panic, and a text that it takes can be played.

use apportion_sim::{
    Rng,
    scenario::{Detail, Scenario},
};

use super::files;

/// Words that mean something somewhere.
const WORDS: &[&str] = &[
    "0",
    "1",
    "99999",
    "100000",
    "18446744073709551615",
    "-1",
    "0.5",
    "1s",
    "0s",
    "365d",
    "1ns",
    "1..2",
    "..",
    "5..",
    "..5",
    "2s..1s",
    "0%",
    "100%",
    "50%",
    "=",
    "==",
    "a=b",
    "agent",
    "framework",
    "master",
    "left",
    "both",
    "for",
    "times",
    "until",
    "idle",
    "within",
    "running",
    "cpus:1",
    "cpus:1;mem:32;ports:[1-65535]",
    "ports=1000",
    "role=*",
    "role=a/b",
    "needs=cpus:0.001",
    "forgetful",
    "hoards",
    "hangs",
    "lasts=forever",
    "out-of-memory",
    "at",
    "chaos",
    "bad-day",
    "set",
    "seed",
    "größe",
    "\u{0}",
    "\u{1b}[2J",
    "#",
    "\t",
];

/// The text with one to four things changed.
fn spoilt(rng: &mut Rng, text: &str) -> String {
    let mut lines: Vec<String> =
        text.lines().filter(|line| !line.starts_with(' ')).map(str::to_owned).collect();
    for _ in 0..rng.usize(1..=4) {
        if lines.is_empty() {
            break;
        }
        let at = rng.usize(0..lines.len());
        let other = lines[rng.usize(0..lines.len())].clone();
        let mut words: Vec<&str> = lines[at].split(' ').collect();
        let word = rng.usize(0..words.len());
        let any = WORDS[rng.usize(0..WORDS.len())];
        lines[at] = match rng.u8(0..7) {
            0 => {
                words[word] = any;
                words.join(" ")
            }
            1 => {
                words.insert(word, any);
                words.join(" ")
            }
            2 => {
                words.remove(word);
                words.join(" ")
            }
            3 => other,
            4 => lines[at].chars().filter(|_| rng.u8(0..8) > 0).collect(),
            5 => lines[at].replace('=', any),
            _ => lines[at].replace(|c: char| c.is_ascii_digit(), &rng.u32(..).to_string()),
        };
    }
    lines.join("\n")
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let mut rng = Rng::with_seed(1);
    for _ in 0..2_000 {
        let bytes: Vec<u8> = (0..rng.usize(0..200)).map(|_| rng.u8(..)).collect();
        let _ = Scenario::parse("random", &String::from_utf8_lossy(&bytes));
        let words: Vec<&str> = (0..rng.usize(0..40)).map(|_| WORDS[rng.usize(0..WORDS.len())]).collect();
        let _ = Scenario::parse("words", &words.join(if rng.bool() { " " } else { "\n" }));
    }
}

#[test]
fn a_spoilt_scenario_is_refused_with_its_place_or_read() {
    let files = files();
    let mut rng = Rng::with_seed(2);
    let (mut read, mut refused) = (0, 0);
    for _ in 0..5_000 {
        let (_, text) = &files[rng.usize(0..files.len())];
        let text = spoilt(&mut rng, text);
        match Scenario::parse("spoilt", &text) {
            Ok(_) => read += 1,
            Err(error) => {
                refused += 1;
                let lines = text.lines().count().max(1);
                assert!((1..=lines).contains(&error.line) && error.column >= 1, "{error}\n{text}");
                assert!(!error.what.contains(char::is_control) && !error.expected.is_empty(), "{error}");
            }
        }
    }
    assert!(read > 500 && refused > 500, "{read} were read and {refused} refused");
}

/// Settings at the ends of their bounds, together as chance has it: what is taken can be played.
#[test]
fn what_is_read_can_be_played() {
    let mut rng = Rng::with_seed(3);
    let mut pick = |choices: &[&str]| choices[rng.usize(0..choices.len())].to_owned();
    for seed in 0..60 {
        let text = format!(
            "agents 2 {}\nframework left tasks={} needs={} starts={} lasts={} fails={} out-of-memory={} grace={} retries={} \
             failover={} refuse={} {} {}\nframework right {} ports={}\nset master.offer_timeout={} master.allocation_coalesce={} \
             master.agent_ping_interval={} master.agent_pings_missed_max={} master.agent_reregister_timeout={} \
             master.scheduler_heartbeat={} agent.register_timeout={} agent.update_retry_min={} agent.update_retry_max={} \
             agent.kill_repeat={}\nnetwork delay={} stragglers={} straggler={}\nclock-skew {}\nstarts-within {}\nlaunches-fail {}\n\
             signals-fail {}\nsorter {}\nchaos {} bad-day longest={}\nrun 2s\ntell left more 1\ntell left kill 0\nslow agent 1 1000 times for 1s\n\
             kill left 1 grace=0s\nshow agents\nshow frameworks\nshow tasks\nshow offers\nshow faults\nshow counters\n\
             stop right {}\nteardown left\nrun 1s\n",
            pick(&["cpus:4;mem:4096;ports:[0-9]", "disk:1", "cpus:10000000000"]),
            pick(&["2", "0", "40"]),
            pick(&["cpus:1;mem:32", "cpus:0.001", "x:1"]),
            pick(&["0s", "10ms", "365d"]),
            pick(&["0s", "1s", "0s..365d", "forever"]),
            pick(&["0%", "100%"]),
            pick(&["0%", "100%"]),
            pick(&["0s", "24h"]),
            pick(&["0", "3"]),
            pick(&["0s", "365d"]),
            pick(&["0s", "365d"]),
            pick(&["stored", "forgetful"]),
            pick(&["", "hangs"]),
            pick(&["", "hoards"]),
            pick(&["0", "1", "1000"]),
            pick(&["1ms", "365d"]),
            pick(&["0s", "1s"]),
            pick(&["1ms", "365d"]),
            pick(&["1", "1000"]),
            pick(&["1ms", "365d"]),
            pick(&["1ms", "365d"]),
            pick(&["1ms", "365d"]),
            pick(&["1ms", "365d"]),
            pick(&["1ms", "365d"]),
            pick(&["1ms", "365d"]),
            pick(&["0s", "0s..1h", "200us..1ms"]),
            pick(&["0%", "100%"]),
            pick(&["0s", "1h"]),
            pick(&["0s", "30d"]),
            pick(&["0s", "100ms"]),
            pick(&["0%", "50%", "100%"]),
            pick(&["0%", "50%", "100%"]),
            pick(&["drf", "random 3"]),
            pick(&["1ms", "2s"]),
            pick(&["1ms", "365d"]),
            pick(&["disconnect", "teardown"]),
        );
        let scenario = Scenario::parse("bounds", &text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        if let Err(broken) = scenario.run(seed, Detail::Counts).verdict {
            // What is expected may not come about, but nothing may break.
            assert_eq!(broken.failure.check, "story", "{broken}\n{text}");
        }
    }
}
