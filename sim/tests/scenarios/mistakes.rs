//! A mistake is told with its place, what is wrong, and what is expected.

use apportion_sim::scenario::Scenario;

/// Two agents and a framework, one line each.
const CLUSTER: &str = "agents 2 cpus:4;mem:4096\nframework left tasks=2\n";

fn mistake(text: &str) -> String {
    Scenario::parse("f.txt", text).map(|_| "none").unwrap_err().to_string()
}

/// The mistake of a line below the cluster, without the file and the line.
fn in_line(line: &str) -> String {
    let told = mistake(&format!("{CLUSTER}{line}\n"));
    told.strip_prefix("f.txt:3:").unwrap_or_else(|| panic!("{line}: {told}")).to_owned()
}

#[test]
fn mistakes_of_words() {
    assert_eq!(
        in_line("expect left finnished 2"),
        "13: `finnished` is nothing that a framework has or is; expected one of running, waiting, launched, finished, failed, killed, \
         active, disconnected, removed, unknown"
    );
    assert_eq!(
        in_line("cut agent 1 sideways for 1s"),
        "13: `sideways` is no way of a link; expected `both`, `to-master` or `from-master`"
    );
    assert_eq!(
        in_line("crash agent 2 for 1s"),
        "13: `2` is out of bounds; expected a whole number from 0 to 1"
    );
    assert_eq!(in_line("crash framework rihgt for 1s"), "17: `rihgt` is no framework; expected one of left");
    assert_eq!(in_line("at 1s crash agent 0"), "20: the line ends too early; expected `for`");
    assert_eq!(in_line("run 10s please"), "9: `please` is one word too many; expected the end of the line");
    assert_eq!(
        in_line("run 10"),
        "5: `10` has no unit; expected a duration such as 10s, 1.5s, 200ms, 50us, 10m or 1h"
    );
    assert_eq!(in_line("run 400d"), "5: `400d` is out of bounds; expected a duration from 0ns to 31536000s");
    assert_eq!(
        in_line("framework left"),
        "11: `left` is declared twice; expected a name of its own for each framework"
    );
    assert!(in_line("jump").starts_with("1: `jump` begins no line; expected one of seed, "));
    assert!(
        in_line("\u{1b}[2J").starts_with("1: `\\u{1b}[2J` begins no line"),
        "a terminal is not written to"
    );
}

#[test]
fn mistakes_of_values() {
    assert_eq!(
        in_line("agents 1 cpus:lots"),
        "10: resources `cpus:lots`, column 6: `lots` is not a number; expected resources such as cpus:4;mem:4096;ports:[31000-31009]"
    );
    assert_eq!(
        in_line("agents 100001 cpus:1"),
        "8: `100001` is out of bounds; expected a whole number from 1 to 99998"
    );
    assert_eq!(
        in_line("framework x fails=120%"),
        "19: `120%` is no percentage; expected a percentage from 0% to 100%, with at most four decimals"
    );
    assert_eq!(
        in_line("framework x lasts=2s..1s"),
        "23: `1s` is out of bounds; expected a duration from 2s to 31536000s"
    );
    assert_eq!(
        in_line("framework x grace=1s grace=2s"),
        "22: `grace=2s` is given twice; expected each option once; only role= and capability= may be repeated"
    );
    assert!(in_line("framework x-y").starts_with("11: `x-y` is no name of a framework; expected a letter, "));
    assert!(in_line("framework idle").starts_with("11: `idle` is no name of a framework"));
    assert!(in_line("framework x needs=").contains("has tasks that cannot be"));
    assert!(
        in_line("set master.ofer_timeout=1s")
            .starts_with("5: `master.ofer_timeout` is not known here; expected one of master.offer_timeout")
    );
    assert!(
        in_line("set master.offer_timeout=0s")
            .starts_with("26: `0s` is out of bounds; expected a duration from 1ms")
    );
    assert!(
        in_line("set master.agent_pings_missed_max=0").contains("expected a whole number from 1 to 1000")
    );
    assert!(in_line("chaos 365d cuts=1000").contains("too long for so many faults a minute"));
    assert!(
        in_line("show everything")
            .contains("expected one of agents, frameworks, tasks, offers, faults, counters")
    );
}

#[test]
fn mistakes_of_order() {
    assert_eq!(
        mistake("run 1s\n"),
        "f.txt:1:1: no agent is declared; expected a line such as `agents 3 cpus:4;mem:4096`"
    );
    assert_eq!(
        mistake(""),
        "f.txt:1:1: no agent is declared; expected a line such as `agents 3 cpus:4;mem:4096`"
    );
    assert!(
        mistake("at 1s crash agent 0 for 1s\n")
            .starts_with("f.txt:1:19: `0` is no agent: none is declared above")
    );
    let late = mistake(&format!("{CLUSTER}run 1s\n    output\nseed 3\n"));
    assert_eq!(
        late,
        "f.txt:5:1: `seed` is declared too late; expected declarations before the first command"
    );
    let indented = mistake(&format!("{CLUSTER}  seed 3\n"));
    assert!(
        indented.starts_with("f.txt:3:3: `seed` is indented, as is the output of a command"),
        "{indented}"
    );
    assert!(mistake(&"#".repeat((16 << 20) + 1)).contains("at most 16777216"));
}
