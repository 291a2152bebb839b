//! What tasks are to be.

use super::*;

fn command() -> impl Strategy<Value = Command> {
    (collection::vec("[^\0]{1,8}", 1..4), collection::btree_map("[^\0=]{1,8}", "[^\0]{0,8}", 0..4))
        .prop_map(|(argv, env)| Command { argv, env })
}

pub(in crate::convert) fn task_info() -> impl Strategy<Value = TaskInfo> {
    (
        task_id(),
        ".{0,8}",
        resources(),
        option::of(0..1000i64),
        option::of(1..u64::MAX),
        command(),
        option::of(millis(limits::KILL_GRACE_MAX)),
        texts(),
        collection::vec("(/[a-z]{1,4}){1,3}", 0..3),
    )
        .prop_map(|(task_id, name, resources, above, pids_max, command, kill_grace, labels, paths)| {
            let ceiling = |above: i64| (resources.cpus_milli() + above).min(limits::SCALAR_MILLI_MAX);
            TaskInfo {
                task_id,
                name,
                limits: above.map(|above| Resources::scalar(Name::Cpus, ceiling(above))).unwrap_or_default(),
                resources,
                pids_max,
                command,
                kill_grace,
                labels,
                volumes: paths.into_iter().map(|path| Volume::new(path).unwrap()).collect(),
                container: ContainerInfo::default(),
                supervision: Supervision::default(),
                group: None,
                execution: Default::default(),
            }
        })
        .prop_flat_map(|info| {
            let volumes = collection::vec(volume(), 0..3);
            (Just(info), container_info(), supervision(), volumes, option::of(group())).prop_map(
                |(mut info, container, supervision, volumes, group)| {
                    if container.image.is_some() && info.command.env.is_empty() {
                        info.command.argv.clear();
                    }
                    info.volumes.extend(volumes);
                    if group.is_none() {
                        info.volumes.retain(|volume| !matches!(volume.source, VolumeSource::Group { .. }));
                    }
                    let mut info = TaskInfo { container, supervision, group: group.map(Box::new), ..info };
                    info.container.exclusive_cpus &= info.resources.exclusive_cores().is_ok();
                    info
                },
            )
        })
        .prop_flat_map(|info| (Just(info), option::of(option::of(task_id()))))
        .prop_map(|(info, executor)| executed(info, executor))
}

/// The same task; or it as an executor, or run by one, without what it cannot have then.
fn executed(mut info: TaskInfo, executor: Option<Option<TaskId>>) -> TaskInfo {
    let Some(executor) = executor.filter(|executor| executor.as_ref() != Some(&info.task_id)) else {
        return info;
    };
    info.group = None;
    info.volumes.retain(|volume| !matches!(volume.source, VolumeSource::Group { .. }));
    info.execution = executor.map_or(Execution::Executor, Execution::By);
    if info.executor().is_some() {
        info.volumes.clear();
        info.container = ContainerInfo::default();
        info.supervision =
            Supervision { max_completion: info.supervision.max_completion, ..Supervision::default() };
        info.resources = info.resources.only(|entry| entry.volume().is_none());
    }
    info
}

fn group() -> impl Strategy<Value = GroupInfo> {
    let members = 1..=limits::GROUP_TASKS_MAX as u32;
    let network = option::of(network().prop_map(Box::new));
    (group_id(), proptest::sample::select(&Part::ALL[..]), members, any::<proptest::sample::Index>(), network)
        .prop_map(|(group_id, part, members, place, network)| GroupInfo {
            group_id,
            part,
            place: place.index(members as usize) as u32,
            members,
            network,
        })
}

fn image() -> impl Strategy<Value = Image> {
    let text = prop_oneof![
        "[a-z]{1,4}(/[a-z]{1,4})?(:[a-z]{1,3})?",
        "oci:/[a-z]{1,4}",
        "docker-archive:/[a-z]{1,4}:a:b"
    ];
    (text, proptest::sample::select(&PullPolicy::ALL[..]))
        .prop_map(|(text, pull)| Image { reference: text.parse().unwrap(), pull })
}

fn volume() -> impl Strategy<Value = Volume> {
    let source = prop_oneof![
        "(/[a-z]{1,4}){1,3}".prop_map(|path| VolumeSource::Host { path }),
        "[a-z]{1,4}".prop_map(|path| VolumeSource::Sandbox { path }),
        "[a-z]{1,4}".prop_map(|path| VolumeSource::Group { path }),
        (1..u64::MAX).prop_map(|bytes| VolumeSource::Tmpfs { bytes }),
        image().prop_map(VolumeSource::Image),
    ];
    (source, "/?[a-z]{1,4}(/[a-z]{1,4})?", any::<bool>())
        .prop_map(|(source, container_path, writable)| Volume { source, container_path, writable })
}

fn container_info() -> impl Strategy<Value = ContainerInfo> {
    let artifact = (
        "(https?://h|file://)(/[a-z]{1,4}){1,2}",
        option::of("[0-9a-f]{64}"),
        option::of("[a-z]{1,4}"),
        any::<(bool, bool, bool)>(),
    )
        .prop_map(|(uri, sha256, path, (extract, executable, cache))| Artifact {
            uri,
            sha256,
            path,
            extract,
            executable,
            cache,
        });
    let rlimit = (proptest::sample::select(&RlimitResource::ALL[..]), any::<u64>(), option::of(any::<u64>()))
        .prop_map(|(resource, soft, more)| Rlimit {
            resource,
            soft: Some(soft),
            hard: more.map(|more| soft.saturating_add(more)),
        });
    (
        option::of(image().prop_map(Box::new)),
        option::of("[a-z0-9]{1,4}(:[a-z0-9]{1,4})?"),
        option::of("/?[a-z]{1,4}"),
        collection::vec(artifact, 0..3),
        collection::vec(rlimit, 0..2),
        option::of(network().prop_map(Box::new)),
        any::<u64>(),
        (option::of(io()), any::<bool>()),
    )
        .prop_map(
            |(
                image,
                user,
                working_dir,
                artifacts,
                mut rlimits,
                network,
                swap_bytes,
                (io, exclusive_cpus),
            )| {
                rlimits.truncate(1);
                ContainerInfo {
                    image,
                    user,
                    working_dir,
                    artifacts,
                    rlimits,
                    network,
                    swap_bytes,
                    io,
                    exclusive_cpus,
                }
            },
        )
}

fn io() -> impl Strategy<Value = Box<crate::IoLimits>> {
    let bytes = || limits::IO_BYTES_PER_SECOND_MIN..;
    let ops = || limits::IO_OPS_PER_SECOND_MIN..;
    (bytes(), option::of(bytes()), option::of(ops()), option::of(ops())).prop_map(
        |(read, write_bytes_per_second, read_ops_per_second, write_ops_per_second)| {
            Box::new(crate::IoLimits {
                read_bytes_per_second: Some(read),
                write_bytes_per_second,
                read_ops_per_second,
                write_ops_per_second,
            })
        },
    )
}

fn network() -> impl Strategy<Value = Network> {
    let protocol = || prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let mapping =
        (1..=u16::MAX, 1..=u16::MAX, protocol()).prop_map(|(host_port, container_port, protocol)| {
            PortMapping { host_port, container_port, protocol }
        });
    let cidr = (any::<IpAddr>(), 0..=128_u8)
        .prop_filter_map("as many bits", |(address, prefix)| Cidr::new(address, prefix));
    let peer = prop_oneof![cidr.prop_map(Peer::Cidr), role().prop_map(Peer::Role)];
    let ports = (1..=u16::MAX, 1..=u16::MAX)
        .prop_map(|(one, other)| PortRange { begin: one.min(other), end: one.max(other) });
    let rule = (
        prop_oneof![Just(Verdict::Allow), Just(Verdict::Deny)],
        prop_oneof![Just(Direction::In), Just(Direction::Out)],
        option::of(peer),
        option::of(ports),
        option::of(protocol()),
    )
        .prop_map(|(verdict, direction, peer, ports, protocol)| Rule {
            verdict,
            direction,
            peer,
            ports,
            protocol,
        });
    ("[a-z0-9][a-z._-]{0,4}", collection::vec(mapping, 0..3), collection::vec(rule, 0..3))
        .prop_map(|(name, ports, policy)| Network { name, ports, policy })
}

fn supervision() -> impl Strategy<Value = Supervision> {
    let probe = prop_oneof![
        command().prop_map(Probe::Command),
        (1..u16::MAX, "/[a-z]{0,4}", texts()).prop_map(|(port, path, _)| Probe::Http {
            port,
            path,
            headers: Default::default()
        }),
        (1..u16::MAX).prop_map(|port| Probe::Tcp { port }),
        (1..u16::MAX, ".{0,4}").prop_map(|(port, service)| Probe::Grpc { port, service }),
    ]
    .boxed();
    let time = || {
        millis(limits::PROBE_TIME_MAX - limits::PROBE_INTERVAL_MIN)
            .prop_map(|time| time + limits::PROBE_INTERVAL_MIN)
    };
    let schedule = (millis(limits::PROBE_TIME_MAX), time(), time())
        .prop_map(|(delay, interval, timeout)| Schedule { delay, interval, timeout })
        .boxed();
    let health = (probe.clone(), schedule.clone(), millis(limits::PROBE_TIME_MAX), any::<u32>()).prop_map(
        |(probe, schedule, grace, failures_max)| HealthCheck { probe, schedule, grace, failures_max },
    );
    let check = (probe, schedule).prop_map(|(probe, schedule)| Check { probe, schedule });
    (
        option::of(health.prop_map(Box::new)),
        option::of(check.prop_map(Box::new)),
        option::of(millis(limits::MAX_COMPLETION_MAX)),
    )
        .prop_map(|(health_check, check, max_completion)| Supervision {
            health_check,
            check,
            max_completion,
        })
}
