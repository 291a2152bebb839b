//! A network that the tasks of a group share.

use std::{collections::BTreeSet, env, fs, net::IpAddr, time::Duration};

use apportion_types::{
    GroupId, GroupInfo, HealthCheck, Network, Part, Probe, Reason, TaskInfo, TaskState, probe::Schedule,
};

use super::{Process, folder, greets, kill, listener, mapped, slow::appears, support::*};

const LOCALHOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn members(network: &Network, tasks: Vec<(Part, TaskInfo)>) -> Vec<TaskInfo> {
    let (group_id, members) = (GroupId::new("pod").unwrap(), tasks.len() as u32);
    let of = |(place, (part, info)): (u32, (Part, TaskInfo))| {
        let (group_id, network) = (group_id.clone(), Some(Box::new(network.clone())));
        TaskInfo { group: Some(Box::new(GroupInfo { group_id, part, place, members, network })), ..info }
    };
    (0..).zip(tasks).map(of).collect()
}

/// One that is asked how it is where it listens.
fn healthy(id: &str, port: u16, resources: &str) -> TaskInfo {
    let check = HealthCheck::new(Probe::Tcp { port });
    let interval = Duration::from_millis(100);
    let schedule = Schedule { delay: Duration::ZERO, interval, ..check.schedule };
    let mut info = listener(id, port, resources);
    info.supervision.health_check = Some(Box::new(HealthCheck { schedule, ..check }));
    info
}

pub(crate) async fn shared() {
    let folder = folder();
    let mut master = Master::start().await;
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    let look = "echo $APPORTION_IP $(hostname) $(cat /etc/hostname); cat /etc/hosts; >here; until [ -e go ]; do sleep 0.01; done";
    let program = env::current_exe().unwrap();
    let ask = format!("until {} connect 127.0.0.1:8080; do sleep 0.01; done", program.display());
    stream
        .run(members(
            &mapped(80).unwrap(),
            vec![
                (Part::Init, task("look", &["sh", "-c", look])),
                (Part::Sidecar, healthy("side", 8080, "cpus:0.1;mem:64")),
                (Part::Main, healthy("web", 80, "cpus:0.1;mem:64;ports:[31000-31000]")),
                (Part::Main, task("ask", &["sh", "-c", &ask])),
            ],
        ))
        .await;
    let looking = stream.until("look", TaskState::Running).await;
    let [address] = looking.addresses[..] else { panic!("{looking:?}") };
    let sandbox = folder.path().join("work/sandboxes/f1/look/latest");
    appears(&sandbox.join("here")).await;
    let said = fs::read_to_string(sandbox.join("stdout")).unwrap();
    let names: BTreeSet<&str> = said.lines().next().unwrap().split_whitespace().collect();
    let name = names.iter().find(|word| word.starts_with("group-")).expect(&said);
    assert_eq!(names, [&*address.to_string(), name].into(), "{said}");
    assert!(said.contains(&format!("\n{address} {name}\n")), "{said}");

    // Those that wait find it as it was, whatever becomes of the agent.
    drop(process);
    drop(stream);
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    fs::write(sandbox.join("go"), "").unwrap();
    for (id, state) in
        [("look", TaskState::Finished), ("side", TaskState::Running), ("ask", TaskState::Finished)]
    {
        assert_eq!(stream.until(id, state).await.addresses, [address], "{id}");
    }
    let greeted = |port: u16| greets((address, port)) && greets((LOCALHOST, 31_000));
    // That a task runs is told before it listens.
    while !(greeted(80) && greeted(8080)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(process);
    drop(stream);
    let process = Process::start(folder.path(), &master);
    let (mut stream, ..) = master.registered().await;
    assert!(greeted(80) && greeted(8080), "it has gone on");

    // What is mapped is the next one's when the last of the group has ended, which may be later than who held it.
    let mut next = listener("next", 81, "cpus:0.1;mem:64;ports:[31000-31000]");
    next.container.network = mapped(81);
    stream.say(kill("web")).await;
    assert_eq!(stream.until("web", TaskState::Killed).await.reason, Some(Reason::KilledByFramework));
    stream.run(vec![next]).await;
    let own = stream.until("next", TaskState::Running).await.addresses[0];
    while !greets((own, 81)) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(greets((LOCALHOST, 31_000)));
    assert!(!greets((address, 8080)), "nothing of the group is left");
    stream.say(kill("next")).await;
    stream.until("next", TaskState::Killed).await;
    let networks = folder.path().join("work/networks");
    while fs::read_dir(&networks).unwrap().next().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!fs::read_to_string("/proc/self/mountinfo").unwrap().contains("work/networks"));
    drop(process);
}
