use apportion_types::network::{PortMapping, Protocol};

use super::*;

fn good() -> Task {
    Task::new("t").command(["true"]).cpus(0.1).mem_mib(32)
}

#[test]
fn a_task_is_as_described() {
    let task = good()
        .name("for people")
        .cpus(0.25)
        .disk_mib(10)
        .gpus(1)
        .ports([31000, 31001])
        .ports([31002])
        .resources(&"cpus:1;licences:2".parse().unwrap())
        .cpus_limit(1.5)
        .cpus_limit(2.0)
        .mem_limit_mib(64)
        .pids_max(7)
        .kill_grace(Duration::from_secs(9))
        .env("A", "1")
        .env("A", "2")
        .label("team", "eng")
        .build()
        .unwrap();
    assert_eq!(task.resources.to_string(), "cpus:1.25;mem:32;disk:10;gpus:1;ports:[31000-31002];licences:2");
    assert_eq!(task.limits.to_string(), "cpus:2;mem:64");
    assert_eq!(
        (task.name.as_str(), task.pids_max, task.kill_grace),
        ("for people", Some(7), Some(Duration::from_secs(9)))
    );
    assert_eq!(task.command.env, BTreeMap::from([("A".to_owned(), "2".to_owned())]));
    assert_eq!(task.labels["team"], "eng");
    assert_eq!(good().build().unwrap().name, "t");
    assert_eq!(good().shell("exit 1").build().unwrap().command.argv, ["/bin/sh", "-c", "exit 1"]);
    assert_eq!(good().cpus(0.0).build().unwrap().resources.to_string(), "mem:32");
}

#[test]
fn a_task_has_a_container_and_is_supervised() {
    let task = Task::new("t")
        .image("app:1")
        .pull(PullPolicy::Never)
        .user("7:8")
        .working_dir("/srv")
        .artifact(Artifact::new("file:///srv/a"))
        .rlimit(RlimitResource::Nofile, 10, 20)
        .volume("/etc/ssl")
        .writable_volume("/srv/data", "/data")
        .sandbox_volume("cache", "/var/cache")
        .tmpfs("/scratch", 2)
        .image_volume("oci:/images/model:1", "/model")
        .health_check(HealthCheck::new(apportion_types::Probe::Tcp { port: 80 }))
        .max_completion(Duration::from_secs(60))
        .cpus(1.0)
        .build()
        .unwrap();
    let image = task.container.image.as_ref().unwrap();
    assert_eq!((image.reference.to_string().as_str(), image.pull), ("docker://app:1", PullPolicy::Never));
    assert_eq!(task.volumes.iter().filter(|volume| volume.writable).count(), 3);
    assert_eq!(task.volumes[3].source, VolumeSource::Tmpfs { bytes: 2 << 20 });
    assert_eq!(task.supervision.max_completion, Some(Duration::from_secs(60)));
    let most = limits::TASK_BYTES_MAX - task.text_bytes();
    let fits = |bytes: usize| {
        let mut task = task.clone();
        task.labels.insert("x".to_owned(), "y".repeat(bytes - 1));
        task.check().is_ok()
    };
    assert!(fits(most) && !fits(most + 1), "what is counted here is what a receiver counts");
}

#[test]
fn a_mistake_is_named() {
    let cases = [
        (Task::new("a/b").command(["x"]).cpus(1.0), "task id `a/b` holds '/'"),
        (Task::new("t").cpus(1.0), "task `t` has no command"),
        (good().command([""]), "task `t` has no command"),
        (Task::new("t").command(["x"]), "task `t` asks for no resources"),
        (good().command(["x", "a\0b"]), "the argument \"a\\0b\" holds a zero byte"),
        (good().env("", "x"), "`` cannot name an environment variable"),
        (good().env("A=B", "x"), "`A=B` cannot name an environment variable"),
        (good().env("A", "\0"), "the environment variable \"A\" holds a zero byte"),
        (good().cpus(-1.0), "-1 is not an amount of cpus; use a number from 0 to 10000000000"),
        (good().cpus(f64::NAN), "NaN is not an amount of cpus"),
        (good().cpus(f64::INFINITY).cpus(1.0), "inf is not an amount of cpus"),
        (good().mem_mib(u64::MAX), "is not an amount of mem"),
        (good().cpus_limit(0.05), "limits `cpus:0.05` must be of `cpus` and `mem` only"),
        (good().pids_max(0), "0 processes are not enough"),
        (good().cpus(0.5).exclusive_cpus(), "container.exclusive_cpus: cores of its own are whole ones"),
        (good().volume("data"), "`data` is not the path of a volume"),
        ((0..65).fold(good(), |task, _| task.volume("/data")), "has 65 volumes"),
        (good().image("a b"), "`a b` does not name an image"),
        (good().image_volume("oci:x", "/x"), "`oci:x` does not name an image"),
        (good().user("a:b:c"), "container.user: `a:b:c` is not a user"),
        (good().working_dir("../x"), "container.working_dir: must be a path"),
        (good().artifact(Artifact::new("ftp://x/y")), "container.artifacts[0].uri: `ftp://x/y`"),
        (good().rlimit(RlimitResource::Core, 2, 1), "container.rlimits[0].soft: is above the hard limit"),
        (good().tmpfs("/x/../y", 1), "`/x/../y` is not the path of a volume"),
        (good().writable_volume("/data", ""), "is not the path of a volume"),
        (
            good().health_check(HealthCheck::new(apportion_types::Probe::Tcp { port: 0 })),
            "health_check.probe.tcp.port: 0 is not from 1 to 65535",
        ),
        (good().network(Network::new("a b")), "container.network.name: `a b` names no network"),
        (
            good().network(Network {
                ports: vec![PortMapping { host_port: 1, container_port: 2, protocol: Protocol::Tcp }],
                ..Network::new("bridge")
            }),
            "task `t`: port 1 of the host is mapped, but is not among the ports",
        ),
        (
            good().network(Network::new(Network::NONE)).check(Check {
                probe: apportion_types::Probe::Tcp { port: 1 },
                schedule: Default::default(),
            }),
            "let a command ask",
        ),
        (good().max_completion(Duration::from_secs(1 << 30)), "max_completion_ms: "),
        (
            good().kill_grace(Duration::from_secs(1 << 20)),
            "a kill grace of 1048576s is longer than the longest, 86400s",
        ),
        (good().label("x", "y".repeat(200 << 10)), "hold 204807 bytes; at most 131072 are allowed"),
    ];
    for (task, text) in cases {
        let error = task.build().unwrap_err().to_string();
        assert!(error.contains(text), "{error} has no {text}");
    }
}

#[test]
fn a_task_that_an_executor_runs_needs_no_command_and_has_no_container() {
    let executor = TaskId::new("pool").unwrap();
    let inner = || Task::new("t").cpus(0.1).run_by(&executor);
    assert_eq!(inner().build().unwrap().executor(), Some(&executor));
    for (task, what) in [(inner().image("web:1"), "container.image"), (inner().tmpfs("/x", 1), "volumes")] {
        let refused = task.build().unwrap_err().to_string();
        assert!(refused.contains(what) && refused.contains("executor `pool`"), "{refused}");
    }
    let idle = Task::new("pool").cpus(0.1).executor();
    assert!(matches!(idle.clone().build(), Err(TaskError::NoCommand { .. })));
    assert!(idle.command(["pool"]).build().unwrap().is_executor());
}
