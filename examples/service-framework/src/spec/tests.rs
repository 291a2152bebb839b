use apportion_sdk::{Part, Probe, TaskInfo};

use super::*;

mod forms;

const GOOD: &str = r#"
name = "web"
command = ["/usr/bin/python3", "-m", "http.server", "${port0}"]
replicas = 3
cpus = 0.25
memory = "64MiB"
resources = "gpus:1"
ports = 2
role = "shop/front"
kill_grace = "10s"
failover_timeout = "2h"
replace_after = "45s"
env = { WHO = "${replica}", OTHER = "${port1}" }

[restart]
min = "2s"
max = "1m"
stable = "5m"
"#;

fn parse(text: &str) -> Result<Spec, SpecError> {
    Spec::parse(Path::new("web.toml"), text)
}

/// The task of a replica with which nothing else runs.
fn alone(spec: &Spec, replica: u32, task_id: &str, ports: &[u16]) -> TaskInfo {
    match spec.describe(replica, &TaskId::new(task_id).unwrap(), ports).unwrap() {
        Launch::Task(task) => *task,
        Launch::Group(group) => panic!("{group:?}"),
    }
}

fn refused(line: &str, other: &str) -> String {
    assert!(GOOD.contains(line), "{line}");
    parse(&GOOD.replacen(line, other, 1)).unwrap_err().to_string()
}

#[test]
fn a_good_description_is_a_service() {
    let spec = parse(GOOD).unwrap();
    assert_eq!(
        (spec.name.as_str(), spec.replicas, spec.ports, spec.role.as_str()),
        ("web", 3, 2, "shop/front")
    );
    assert_eq!(spec.resources.to_string(), "cpus:0.25;mem:64;gpus:1");
    assert_eq!(spec.failover_timeout, Duration::from_secs(7200));
    assert_eq!(spec.restart.stable, Duration::from_secs(300));
    assert_eq!(spec.env["OTHER"], "${port1}");
}

#[test]
fn little_needs_to_be_said() {
    let spec = parse("name = \"x\"\ncommand = \"sleep 9\"\n").unwrap();
    assert_eq!(spec.argv, ["/bin/sh", "-c", "sleep 9"]);
    assert_eq!((spec.replicas, spec.ports, spec.role.as_str()), (1, 0, "*"));
    assert_eq!(
        (spec.failover_timeout, spec.resources.to_string().as_str()),
        (FAILOVER_TIMEOUT, "cpus:0.1;mem:64")
    );
}

#[test]
fn mistakes_are_named_at_their_place() {
    let cases = [
        ("replicas = 3", "replicsa = 3", "web.toml:4:1: unknown field `replicsa`, expected one of `name`"),
        ("name = \"web\"", "", "web.toml:1:1: name is missing; write for example\nname = \"web\""),
        ("name = \"web\"", "name = \"a b\"", "web.toml:2:8: name: `a b` cannot begin a task id"),
        ("command = [", "# [", "web.toml:1:1: command is missing; write for example\ncommand = ["),
        ("\"/usr/bin/python3\", ", "\"\", ", "web.toml:3:11: command: names no program"),
        ("replicas = 3", "replicas = -1", "web.toml:4:12: replicas: -1 is not from 0 to 1000"),
        ("cpus = 0.25", "cpus = -0.5", "web.toml:5:8: cpus: cpus is negative: `-0.5`"),
        ("\"64MiB\"", "\"64 sheep\"", "web.toml:6:10: memory: `sheep` is not a unit; use B"),
        (
            "\"gpus:1\"",
            "\"gpus\"",
            "web.toml:7:13: resources: resources `gpus`, column 1: expected `name:value`",
        ),
        ("\"gpus:1\"", "\"mem:1\"", "web.toml:6:10: memory: is given, and mem stands in resources too"),
        ("\"gpus:1\"", "\"ports:[1-2]\"", "web.toml:7:13: resources: names ports, which only one replica"),
        ("ports = 2", "ports = 17", "web.toml:8:9: ports: 17 is not from 0 to 16"),
        (
            "ports = 2",
            "ports = 1",
            "web.toml:13:37: env.OTHER: unknown variable `${port1}`; known: replica, port0",
        ),
        ("shop/front", "shop//front", "web.toml:9:8: role: role `shop//front`"),
        (
            "\"10s\"",
            "\"2days\"",
            "web.toml:10:14: kill_grace: is longer than the longest that is allowed, 1day",
        ),
        ("\"45s\"", "\"0s\"", "web.toml:12:17: replace_after: is zero"),
        ("\"2s\"", "\"2 sheep\"", "web.toml:16:7: restart.min: `2 sheep` is not a duration such as \"90s\""),
        ("http.server", "http\\u0000server", "web.toml:3:11: command: the argument"),
        ("\"2s\"", "\"2m\"", "web.toml:17:7: restart: max (60s) is below min (120s)"),
        (
            "replicas = 3",
            "replicas = \"two\"",
            "web.toml:4:12: replicas: invalid type: string \"two\", expected",
        ),
        ("cpus = 0.25", "cpus = [1]", "web.toml:5:8: cpus: expected a number, or a text such as"),
        ("role = \"shop/front\"", "role = 7", "web.toml:9:8: role: invalid type: integer `7`"),
        (
            "min = \"2s\"",
            "min = 2",
            "web.toml:16:7: restart.min: invalid type: integer `2`, expected a string",
        ),
    ];
    for (line, other, expected) in cases {
        let message = refused(line, other);
        assert!(message.starts_with(expected), "{message}\nis not\n{expected}");
    }
}

#[test]
fn a_replica_is_told_its_number_and_its_ports() {
    let task = alone(&parse(GOOD).unwrap(), 2, "web.2.7", &[31005, 31006]);
    assert_eq!((task.name.as_str(), task.command.argv[3].as_str()), ("web.2", "31005"));
    let env: Vec<_> = task.command.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        env,
        ["APPORTION_PORT0=31005", "APPORTION_PORT1=31006", "APPORTION_REPLICA=2", "OTHER=31006", "WHO=2"]
    );
    assert_eq!(task.resources.to_string(), "cpus:0.25;mem:64;gpus:1;ports:[31005-31006]");
}

#[test]
fn a_replica_has_a_container_and_is_asked_how_it_is() {
    let text = r#"
name = "web"
image = "registry.example/web:1"
user = "www"
cpus = 2
exclusive_cpus = true
ports = 2
io = { read_ops_per_second = 500 }
artifacts = [{ uri = "https://example.org/site.tgz", extract = true }]
volumes = [{ host = "/srv/site" }, { tmpfs_mib = 64, at = "/scratch", writable = true }]

[health]
http = "/health"
port = 1
interval = "2s"
"#;
    let spec = parse(text).unwrap();
    let task = alone(&spec, 0, "web.0.1", &[31005, 31006]);
    assert!(task.command.argv.is_empty() && task.container.artifacts[0].extract);
    assert_eq!(task.volumes[1].container_path, "/scratch");
    assert_eq!(task.container.io.as_ref().unwrap().read_ops_per_second, Some(500));
    assert_eq!(task.exclusive_cores(), Some(2));
    let check = task.supervision.health_check.unwrap();
    let http = Probe::Http { port: 31006, path: "/health".to_owned(), headers: BTreeMap::new() };
    assert_eq!((check.probe, check.schedule.interval), (http, Duration::from_secs(2)));
    for (line, other, expected) in [
        ("ops_per_second = 500", "ops_per_second = 5", "web.toml:8:30: io.read_ops_per_second: 5 is"),
        ("cpus = 2", "cpus = 1.5", "web.toml:6:18: exclusive_cpus: cores of its own"),
        ("port = 1", "port = 2", "web.toml:14:8: health: port 2 is asked, and a replica has 2 ports"),
        ("http = \"/health\"", "", "web.toml:12:1: health: one of `command = [\"check\"]`"),
        ("interval = \"2s\"", "interval = \"0s\"", "web.toml:15:12: health.interval: is zero"),
        ("interval = \"2s\"", "interval = \"1ms\"", "web.toml:15:12: health.interval: is less than"),
        ("registry.example/web:1", "oci:web", "web.toml:3:9: image: `oci:web`"),
        ("host = \"/srv/site\"", "at = \"/x\"", "web.toml:10:12: volumes[0]: each is one of `host`"),
        ("at = \"/scratch\", ", "", "web.toml:10:36: volumes[1]: `at` is missing"),
        ("\"/scratch\"", "\"/scratch/..\"", "web.toml:10:36: volumes[1]: `/scratch/..` is"),
        ("\"/scratch\"", "7", "web.toml:10:59: volumes[1].at: invalid type: integer `7`"),
        ("64,", "0,", "web.toml:10:50: volumes[1].tmpfs_mib: is 0"),
        ("https:", "ftp:", "web.toml:9:22: artifacts[0].uri: `ftp://example.org/site.tgz` is not an address"),
        ("\"www\"", "\"w w\"", "web.toml:4:8: user: `w w` is not a user"),
        (
            "http = \"/health\"",
            "http = \"health\"",
            "web.toml:13:8: health.http.path: must begin with a slash",
        ),
    ] {
        let message = parse(&text.replacen(line, other, 1)).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}\nis not\n{expected}");
    }
    let command = "name = \"x\"\ncommand = [\"x\"]\nports = 1\n[health]\ncommand = [\"ask\", \"${port0}\"]\n";
    let task = alone(&parse(command).unwrap(), 0, "x", &[7]);
    let Probe::Command(asked) = task.supervision.health_check.unwrap().probe else {
        panic!("it is a command")
    };
    assert_eq!(asked.argv, ["ask", "7"]);
}

#[test]
fn a_replica_has_a_network_and_is_asked_there() {
    let text = r#"
name = "web"
command = ["serve"]
ports = 2

[health]
tcp = true
port = 1

[network]
name = "blue"
ports = [80, 443]
"#;
    let task = alone(&parse(text).unwrap(), 0, "web.0.1", &[31005, 31006]);
    let network = task.container.network.unwrap();
    let mapped: Vec<_> = network.ports.iter().map(|port| (port.host_port, port.container_port)).collect();
    assert_eq!((network.name.as_str(), mapped), ("blue", vec![(31005, 80), (31006, 443)]));
    assert_eq!(task.supervision.health_check.unwrap().probe, Probe::Tcp { port: 443 });
    for (line, other, expected) in [
        ("[80, 443]", "[80]", "web.toml:12:9: network: names 1 ports of its own, and a replica gets 2"),
        ("[80, 443]", "[0, 443]", "web.toml:12:9: network: 0 is no port"),
        ("\"blue\"", "\"a b\"", "web.toml:11:8: network: `a b` names no network"),
        ("\"blue\"", "\"host\"", "web.toml:11:8: network.name: network `host` has no mapped ports"),
    ] {
        let message = parse(&text.replacen(line, other, 1)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}\nhas not\n{expected}");
    }
}

#[test]
fn what_runs_with_a_replica_is_of_its_group() {
    let text = r#"
name = "web"
command = ["serve", "/pages"]
ports = 1
cpus = 1
volumes = [{ shared = "pages", at = "/pages" }]

[[init]]
name = "fetch"
command = ["fetch", "${replica}"]
memory = "16MiB"
volumes = [{ shared = "pages", at = "/pages", writable = true }]

[[init]]
name = "check"
command = "test -e /pages/index"

[[sidecar]]
name = "log"
image = "registry.example/log:1"
env = { OF = "${port0}" }

[network]
name = "blue"
ports = [80]
"#;
    let spec = parse(text).unwrap();
    assert_eq!(spec.needs().to_string(), "cpus:1.3;mem:208");
    let launch = spec.describe(2, &TaskId::new("web.2.7").unwrap(), &[31005]).unwrap();
    let tasks = launch.tasks();
    let ids: Vec<_> = tasks.iter().map(|task| task.task_id.as_str()).collect();
    assert_eq!(ids, ["web.2.7.fetch", "web.2.7.check", "web.2.7.log", "web.2.7"]);
    let parts: Vec<_> = tasks.iter().map(|task| task.group.as_ref().unwrap().part).collect();
    assert_eq!(parts, [Part::Init, Part::Init, Part::Sidecar, Part::Main]);
    assert_eq!((tasks[0].name.as_str(), tasks[0].command.argv[1].as_str()), ("web.2.fetch", "2"));
    assert_eq!(tasks[0].resources.to_string(), "cpus:0.1;mem:16");
    assert_eq!((tasks[2].command.env["OF"].as_str(), tasks[3].volumes.len()), ("31005", 1));
    assert!(tasks.iter().all(|task| task.container.network.is_none()), "it is the group's");
    let shared = tasks[0].network().unwrap();
    assert_eq!(
        (shared.name.as_str(), shared.ports[0].host_port, shared.ports[0].container_port),
        ("blue", 31005, 80)
    );
    for (line, other, expected) in [
        (
            "name = \"blue\"\nports = [80]",
            "name = \"none\"",
            "web.toml:24:8: network.name: network `none` cannot be shared by its tasks",
        ),
        (
            "name = \"log\"",
            "name = \"check\"",
            "web.toml:19:8: sidecar[0].name: `check` names another task of the replica",
        ),
        ("name = \"log\"", "name = \"7\"", "web.toml:19:8: sidecar[0].name: `7` is none that ends a task id"),
        ("example/log:1", "example/LOG:1", "web.toml:20:9: sidecar[0].image: `registry.example/LOG:1`"),
        ("\"fetch\", \"${replica}\"", "\"fetch\\u0000\"", "web.toml:10:11: init[0].command: the argument"),
        (
            "memory = \"16MiB\"",
            "artifacts = [{ uri = \"x\" }]",
            "web.toml:11:22: init[0].artifacts[0].uri: `x` is not",
        ),
        (
            "{ OF = \"${port0}\" }",
            "{ \"O.F\" = \"a\\u0000\" }",
            "web.toml:21:17: sidecar[0].env.O.F: the environment variable",
        ),
        ("at = \"/pages\", writable", "writable", "web.toml:12:12: init[0].volumes[0]: `at` is missing"),
        (
            "shared = \"pages\", at = \"/pages\", w",
            "shared = \"../p\", at = \"/pages\", w",
            "web.toml:12:12: init[0].volumes[0]: ",
        ),
        (
            "image = \"registry",
            "user = \"w w\"\nimage = \"registry",
            "web.toml:20:8: sidecar[0].user: `w w` is not a user",
        ),
        ("name = \"log\"", "", "web.toml:18:1: missing field `name`"),
        ("image = ", "user = ", "web.toml:18:1: command is missing"),
        ("${port0}", "${port1}", "web.toml:21:14: env.OF: unknown variable `${port1}`"),
        ("\"test -e /pages/index\"", "\"\"", "web.toml:16:11: command: names no program"),
        ("memory = \"16MiB\"", "memory = \"16 sheep\"", "web.toml:11:10: memory: `sheep` is not a unit"),
        ("memory = \"16MiB\"", "resources = \"ports:[1-2]\"", "web.toml:11:13: resources: names ports"),
        ("name = \"fetch\"", "nmae = \"fetch\"", "web.toml:9:1: unknown field `nmae`"),
    ] {
        let message = parse(&text.replacen(line, other, 1)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}\nhas not\n{expected}");
    }
    let lonely = "name = \"x\"\ncommand = [\"x\"]\nvolumes = [{ shared = \"a\", at = \"/a\" }]\n";
    let message = parse(lonely).unwrap_err().to_string();
    assert!(message.starts_with("web.toml:3:23: volumes[0].shared: "), "{message}");
    assert!(message.contains("is shared with the members of a task group"), "{message}");
}

#[test]
fn files_that_cannot_be_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.toml");
    let message = Spec::load(&missing).unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("cannot read the description of a service {}", missing.display())),
        "{message}"
    );
    let huge = folder.path().join("huge.toml");
    std::fs::File::create(&huge).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    assert!(Spec::load(&huge).unwrap_err().to_string().contains("is it one?"));
}

#[test]
fn a_program_describes_what_a_file_would() {
    let file =
        parse("name = \"web\"\ncommand = [\"serve\", \"${port0}\"]\nreplicas = 3\nports = 1\n").unwrap();
    let made = Spec { replicas: 3, ports: 1, ..Spec::new("web", ["serve", "${port0}"]) };
    assert_eq!(made.checked().unwrap(), file);
}

#[test]
fn what_a_program_describes_wrongly_is_named() {
    let good = || Spec::new("web", ["serve"]);
    let usual = Restart::default();
    let variable = BTreeMap::from([("A=B".to_owned(), String::new())]);
    for (spec, why) in [
        (Spec { name: "a b".into(), ..good() }, "service `a b`: name: `a b` cannot begin a task id"),
        (Spec { argv: Vec::new(), ..good() }, "command: names no program"),
        (
            Spec { argv: vec!["${port0}".into()], ..good() },
            "command: unknown variable `${port0}`; known: replica;",
        ),
        (Spec { env: variable, ..good() }, "env.A=B: is not a name of a variable"),
        (Spec { replicas: 1001, ..good() }, "replicas: 1001 is not from 0 to 1000"),
        (Spec { ports: 17, ..good() }, "ports: 17 is not from 0 to 16"),
        (Spec { resources: "ports:[1-2]".parse().unwrap(), ..good() }, "resources: names ports"),
        (Spec { role: "a//b".into(), ..good() }, "role: role `a//b`"),
        (Spec { restart: Restart { min: Duration::ZERO, ..usual }, ..good() }, "restart: min is zero"),
        (
            Spec { restart: Restart { max: Duration::from_millis(1), ..usual }, ..good() },
            "restart: max (1ms) is below",
        ),
        (Spec { kill_grace: Some(Duration::MAX), ..good() }, "kill_grace: is longer than the longest"),
        (Spec { failover_timeout: Duration::MAX, ..good() }, "failover_timeout: is longer than"),
    ] {
        let error = spec.checked().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn how_replicas_are_replaced_is_read_and_mistakes_are_named_at_their_place() {
    let text = "name = \"web\"\ncommand = [\"serve\"]\nafter = [\"db\"]\n\n[update]\nmax_surge = \"25%\"\nmax_unavailable = 1\n\
                min_healthy = \"0s\"\nprogress_deadline = \"2m\"\nauto_rollback = false\ncanary = \"all\"\npromote_after = \"5m\"\n";
    let spec = parse(text).unwrap();
    let update = Update {
        max_surge: Share::Percent(25),
        max_unavailable: Share::Count(1),
        min_healthy: Duration::ZERO,
        progress_deadline: Duration::from_secs(120),
        auto_rollback: false,
        canary: Share::ALL,
        promote_after: Some(Duration::from_secs(300)),
    };
    assert_eq!((spec.update, spec.after.as_slice()), (update, &["db".to_owned()][..]));
    assert_eq!([1, 4, 5].map(|replicas| update.surge(replicas)), [1, 1, 2]);
    let shares = Update { max_surge: Share::Count(0), max_unavailable: Share::Percent(25), ..update };
    assert_eq!(
        [1, 3, 4, 9].map(|replicas| shares.unavailable(replicas)),
        [1, 1, 1, 2],
        "it must begin somewhere"
    );
    for (line, other, expected) in [
        ("\"25%\"", "\"250%\"", "web.toml:6:13: update.max_surge: `250%` is neither a number of replicas"),
        ("\"25%\"", "-1", "web.toml:6:13: update.max_surge: `-1` is neither"),
        ("\"all\"", "\"some\"", "web.toml:11:10: update.canary: `some` is neither"),
        (
            "max_surge = \"25%\"\nmax_unavailable = 1",
            "max_surge = 0\nmax_unavailable = \"0%\"",
            "update: max_surge and max_unavailable are both 0",
        ),
        ("\"0s\"", "\"3m\"", "web.toml:9:21: update: progress_deadline (2m) is not above min_healthy (3m)"),
        ("\"2m\"", "\"2 sheep\"", "web.toml:9:21: update.progress_deadline: `2 sheep` is not a duration"),
        ("auto_rollback", "autorollback", "web.toml:10:1: unknown field `autorollback`"),
        ("\"db\"", "\"web\"", "after: names the service itself"),
        ("\"db\"", "\"d b\"", "web.toml:3:10: after: `d b` cannot begin a task id"),
    ] {
        let message = parse(&text.replacen(line, other, 1)).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}\nhas not\n{expected}");
    }
}

#[test]
fn only_what_a_replica_notices_makes_another_one() {
    let good = parse(GOOD).unwrap();
    let usual = Spec::new("x", ["x"]);
    let same = Spec {
        replicas: 9,
        restart: usual.restart,
        update: Update { max_surge: Share::ALL, ..Update::default() },
        replace_after: usual.replace_after,
        failover_timeout: usual.failover_timeout,
        after: vec!["db".into()],
        ..good.clone()
    };
    assert!(good.same_replicas(&same));
    assert!(!good.same_replicas(&Spec { ports: 3, ..good.clone() }));
    // It is kept as it is, whatever is in it.
    let kept: Spec = serde_json::from_str(&serde_json::to_string(&good).unwrap()).unwrap();
    assert_eq!(kept, good);
}

const SCALE: &str = "[scale]\nmin = 1\nmax = 9\n\n[[scale.rule]]\nmetric = \"cpu\"\ntarget = 0.7\n";

#[test]
fn how_it_is_scaled_is_no_part_of_a_revision() {
    let without = parse(GOOD).unwrap();
    let with = parse(&format!("{GOOD}{SCALE}")).unwrap();
    let scale = with.scale.clone().unwrap();
    assert_eq!((scale.min, scale.max, scale.interval), (1, 9, Duration::from_secs(15)));
    assert!(with.same_replicas(&without) && with != without);
    let told: Spec = serde_json::from_str(&serde_json::to_string(&with).unwrap()).unwrap();
    assert_eq!(told.checked().unwrap(), with);
}

#[test]
fn mistakes_of_scaling_are_named_at_their_place() {
    let cases = [
        (
            "min = 1",
            "min = 10",
            "web.toml:20:7: scale.min: is 10, more than scale.max, 9; no number is between them: lower min",
        ),
        ("max = 9", "", "web.toml:19:1: scale.max: is missing; write for example\nmax = 10"),
        ("max = 9", "max = 1001", "web.toml:21:7: scale.max: 1001 is not from 1 to 1000"),
        ("max = 9", "max = 2", "web.toml:4:12: replicas: is 3, and [scale] keeps from 1 to 2; it is where"),
        (
            "max = 9",
            "max = 9\nup_after = \"soon\"",
            "web.toml:22:12: scale.up_after: `soon` is not a duration",
        ),
        ("max = 9", "max = 9\ninterval = \"10m\"", "web.toml:22:12: scale.interval: is not from 1s to 5m"),
        ("target = 0.7", "target = 0", "web.toml:25:10: scale.rule.target: 0 is not above 0"),
        ("target = 0.7", "", "web.toml:23:1: scale.rule: aims at nothing; write target = 0.7"),
        ("\"cpu\"", "\"speed\"", "web.toml:24:10: scale.rule.metric: `speed` is none of cpu"),
        (
            "\"cpu\"",
            "\"prometheus\"\nurl = \"http://\"\nquery = \"up\"",
            "web.toml:25:7: scale.rule.url: begins with `http://` and a host",
        ),
        (
            "min = 1",
            "min = 0",
            "web.toml:20:7: scale.min: is 0, and without a [balancer] nobody would notice",
        ),
        (
            "\"cpu\"",
            "\"queue\"",
            "web.toml:24:10: scale.rule.metric: queue is counted by a balancer, and it has none; give it",
        ),
        ("min = 1", "mni = 1", "web.toml:20:1: unknown field `mni`"),
    ];
    for (line, other, expected) in cases {
        assert!(SCALE.contains(line), "{line}");
        let text = format!("{GOOD}{}", SCALE.replacen(line, other, 1));
        let message = parse(&text).unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message}\nis not\n{expected}");
    }
}

/// What a program sends is checked as what a person writes.
#[test]
fn a_program_cannot_scale_without_bounds() {
    let good = parse(&format!("{GOOD}{SCALE}")).unwrap();
    let scale = good.scale.clone().unwrap();
    let bad = [
        Scale { min: 10, ..scale.clone() },
        Scale { min: 0, ..scale.clone() },
        Scale { max: 1001, ..scale.clone() },
        Scale { up_step: 0, ..scale.clone() },
        Scale { rules: Vec::new(), ..scale.clone() },
        Scale { interval: Duration::ZERO, ..scale.clone() },
        Scale { down_after: Duration::from_secs(100_000), ..scale },
    ];
    for scale in bad {
        let shown = format!("{scale:?}");
        let refused = Spec { scale: Some(scale), ..good.clone() }.checked();
        assert!(refused.is_err_and(|error| error.to_string().contains("scale")), "{shown}");
    }
}

#[test]
fn a_balancer_is_the_services_own_and_its_mistakes_are_named_at_their_place() {
    let good = "name = 'web'\ncommand = 'serve'\nports = 2\n\n[balancer]\naddress = '127.0.0.1:8080'\nport = 1\n\n\
                [balancer.retries]\nattempts = 3\n";
    let spec = parse(good).unwrap();
    let listener = spec.balancer.clone().unwrap();
    assert_eq!((listener.port, listener.retries.attempts), (1, 3));
    let kept: Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(kept, spec);
    let mut first = spec.clone();
    first.balancer.as_mut().unwrap().port = 0;
    let other = Spec { balancer: None, ..spec.clone() };
    assert!(other != first && other.same_replicas(&first), "replicas notice nothing of it");
    assert!(!spec.same_replicas(&first), "each listens where clients were to find it");
    for (line, other, expected) in [
        (
            "port = 1",
            "port = 2",
            "web.toml:7:8: balancer.port: port 2 of a replica takes what is balanced, and a replica has 2",
        ),
        ("ports = 2", "ports = 1", "web.toml:7:8: balancer.port: "),
        ("ports = 2\n", "", "say how many with `ports = 1`"),
        (
            "attempts = 3",
            "attempts = 99",
            "web.toml:10:12: balancer.retries.attempts: 99 is not from 0 to 10; 2 is plenty",
        ),
        ("attempts = 3", "atempts = 3", "web.toml:10:1: unknown field `atempts`"),
        ("port = 1", "policy = 'random'", "web.toml:7:10: balancer.policy: unknown variant `random`"),
        (
            "port = 1",
            "policy = 'ring-hash'",
            "web.toml:7:10: balancer.policy: a ring hash without hash_on does not know what sticks to a replica; add hash_on",
        ),
        ("address = '127.0.0.1:8080'\n", "", "web.toml:5:1: missing field `address`"),
        ("'127.0.0.1:8080'", "'here'", "web.toml:6:11: "),
        (
            "port = 1",
            "port = 1\nhealth = { active = { path = 'up' } }",
            "web.toml:8:30: balancer.health.active.path: 'up' is no path",
        ),
        (
            "port = 1",
            "port = 1\nhealth = { active = { rise = 0 } }",
            "web.toml:8:30: balancer.health.active.rise: ",
        ),
        (
            "port = 1",
            "timeouts = { drain = '3days' }",
            "web.toml:7:22: balancer.timeouts.drain: 3days is not from 1ms to 1day",
        ),
    ] {
        assert!(good.contains(line), "{line}");
        let message = parse(&good.replacen(line, other, 1)).unwrap_err().to_string();
        assert!(message.contains(expected), "{other}: {message}");
    }
    let made =
        Spec { balancer: Some(Listener::new("127.0.0.1:1".parse().unwrap())), ..Spec::new("x", ["serve"]) };
    let message = made.checked().unwrap_err().to_string();
    assert!(message.starts_with("service `x`: balancer.port: "), "{message}");
}

#[test]
fn the_examples_are_descriptions() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("specs");
    let files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 2, "{files:?}");
    for file in files {
        Spec::load(&file).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn rules_of_placement_are_read_and_mistakes_are_named_at_their_place() {
    let good = "name = 'web'\ncommand = 'serve'\n[placement]\nrequire = [{ on = 'disk', is = 'ssd' }, { on = 'rack', matches = 'r[0-9]+', not = true }]\n\
                spread = [{ over = 'zone', places = ['a', 'b'] }]\napart = [{ from = 'db', on = 'hostname', wish = true }, {}]\n";
    let spec = parse(good).unwrap();
    let demand = spec.demand();
    assert_eq!((demand.must.len(), demand.prefer.len()), (4, 2), "{demand:?}");
    let kept: Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(kept, spec);
    assert!(!Spec { placement: Placement::default(), ..spec.clone() }.same_replicas(&spec));
    for (line, other, expected) in [
        (
            "is = 'ssd'",
            "is = 'ssd', matches = 's'",
            "web.toml:4:12: placement.require: disk: is to be a text and to match an expression; keep one",
        ),
        ("'r[0-9]+'", "'r['", "web.toml:4:41: placement.require: rack: "),
        ("over = 'zone'", "over = ''", "web.toml:5:11: placement.spread: `over` names"),
        ("over = 'zone'", "over = 'zone', max_skew = 0", "web.toml:5:11: placement.spread: "),
        ("on = 'hostname'", "on = ''", "web.toml:6:10: placement.apart: "),
        ("spread = ", "sprad = ", "web.toml:5:1: unknown field `sprad`"),
    ] {
        assert!(good.contains(line), "{line}");
        let message = parse(&good.replacen(line, other, 1)).unwrap_err().to_string();
        assert!(message.contains(expected), "{other}: {message}");
    }
}

#[test]
fn what_is_refused_beside_others_is_said_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("web.toml");
    let text = "name = 'web'\ncommand = 'serve'\nports = 1\nafter = ['db']\n[balancer]\naddress = '127.0.0.1:8080'\n";
    std::fs::write(&file, text).unwrap();
    let spec = Spec::load(&file).unwrap();
    for (refusal, place) in [
        (
            "balancer.address: service `web` is to listen on 127.0.0.1:8080, and `shop` does",
            "web.toml:6:11: balancer.address: service `web`",
        ),
        ("after: service `web` comes after `db`, which is not there", "web.toml:4:9: after: "),
        ("role: service `web` is for role `shop`", "web.toml:1:1: role: "),
    ] {
        assert!(spec.is_meant_by(refusal), "{refusal}");
        let message = Spec::refused(&file, refusal).to_string();
        assert!(message.contains(place), "{message}");
    }
    for other in ["there is no service `web`", "role: service `shop` is for `web`", "the scheduler has ended"]
    {
        assert!(!spec.is_meant_by(other), "{other}");
    }
}

#[test]
fn rules_that_no_agent_can_obey_together_are_refused() {
    let with =
        |rules: &str| parse(&format!("name = 'web'\ncommand = 'serve'\n[placement]\nrequire = [{rules}]\n"));
    let refused = with("{ on = 'zone', is = 'a' }, { on = 'zone', is = 'b' }").unwrap_err().to_string();
    assert!(
        refused.contains("placement.require: zone: is to be `a`, and another rule asks that zone is `b`"),
        "{refused}"
    );
    assert!(with("{ on = 'rack', is = 'a' }, { on = 'rack', matches = 'b.*' }").is_err());
    assert!(with("{ on = 'rack', is = 'a' }, { on = 'rack', not = true }").is_err());
    assert!(with("{ on = 'rack', is = 'a' }, { on = 'rack', matches = 'a.*' }").is_ok());
    assert!(with("{ on = 'rack', is = 'a' }, { on = 'rack', is = 'b', wish = true }").is_ok());
    assert!(with("{ on = 'rack', is = 'a' }, { on = 'zone', is = 'b' }").is_ok());
}

#[test]
fn no_update_has_more_under_way_than_a_service_can_have() {
    for key in ["max_surge", "max_unavailable", "canary"] {
        let with = |count: u32| {
            parse(&format!("name = 'web'\ncommand = 'serve'\nreplicas = 1000\n[update]\n{key} = {count}\n"))
        };
        let refused = with(u32::MAX).unwrap_err().to_string();
        let expected = format!("update.{key}: 4294967295 is more than a service can have, 1000");
        assert!(refused.ends_with(&expected) && refused.contains(":5:"), "{refused}");
        assert!(with(1000).is_ok());
    }
}

#[test]
fn no_more_are_tried_than_there_are() {
    let with = |more: &str| parse(&format!("name = 'web'\ncommand = 'serve'\n[update]\ncanary = 5\n{more}"));
    let refused = with("").unwrap_err().to_string();
    let expected = "web.toml:4:10: update.canary: 5 are to be tried, and it has 1 replicas at most; give at most as many";
    assert!(refused.starts_with(expected), "{refused}");
    assert!(with(SCALE).is_ok(), "it may have as many");
    let none = parse("name = 'web'\ncommand = 'serve'\nreplicas = 0\n[update]\ncanary = 1\n");
    assert!(none.is_ok(), "none is to run now");
}
