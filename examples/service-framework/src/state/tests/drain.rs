//! Tasks that clients are led to, and how they end.

use super::*;
use crate::balancer::Listener;

/// Replicas that clients are led to, and may have for 30 s once they are to end.
fn balanced(replicas: u32) -> Spec {
    let balancer = Some(Listener::new("127.0.0.1:8080".parse().unwrap()));
    Spec { ports: 1, balancer, ..web(replicas) }
}

/// The tasks that clients are taken away from.
fn draining(story: &Story) -> Vec<String> {
    let views = story.services.view();
    let tasks = views.iter().flat_map(|app| &app.tasks).filter(|task| task.draining);
    tasks.map(|task| task.task_id.to_string()).collect()
}

fn drained(story: &mut Story, task: &str) {
    story.services.drained(&TaskId::new(task).unwrap(), &mut story.told);
}

#[test]
fn what_clients_are_led_to_is_killed_when_they_have_finished() {
    let mut story = Story::running(balanced(3));
    story.services.scale("web", 1, at(20), &mut story.told).unwrap();
    assert_eq!(
        (story.killed(), draining(&story)),
        (vec![], vec!["web.1.2".to_owned(), "web.2.3".to_owned()])
    );
    drained(&mut story, "web.1.2");
    drained(&mut story, "web.1.2");
    drained(&mut story, "web.0.1");
    assert_eq!(story.killed(), ["web.1.2"], "once, and only what is to end");
    // One client takes for ever.
    story.now = 20;
    story.wait(34);
    assert_eq!((story.killed(), draining(&story)), (vec![], vec!["web.2.3".to_owned()]));
    story.wait(1);
    assert_eq!(story.killed(), ["web.2.3"]);
    assert_eq!(draining(&story), [""; 0]);
}

#[test]
fn a_replica_that_ends_starts_again_while_those_that_are_one_too_many_drain() {
    let mut story = Story::running(balanced(8));
    story.services.scale("web", 1, at(20), &mut story.told).unwrap();
    assert_eq!(draining(&story).len(), 7);
    story.now = 20;
    story.tell("web.0.1", TaskState::Failed);
    story.wait(2);
    assert_eq!(story.launch(), ["web.0.9"]);
}

#[test]
fn what_does_no_work_is_killed_at_once() {
    let spec = Spec { health: Some(Health::new(crate::spec::Asked::Tcp { port: 0 })), ..balanced(2) };
    let mut story = Story::of(spec);
    story.launch();
    for (task, healthy) in [("web.0.1", true), ("web.1.2", false)] {
        let findings = Findings { healthy: Some(healthy), ..Findings::default() };
        let status = TaskStatus { findings, ..status(&TaskId::new(task).unwrap(), TaskState::Running) };
        story.services.update(&status, at(1), &mut story.told);
    }
    story.services.scale("web", 0, at(2), &mut story.told).unwrap();
    assert_eq!((story.killed(), draining(&story)), (vec!["web.1.2".to_owned()], vec!["web.0.1".to_owned()]));
    let mut story = Story::running(balanced(1));
    // Its agent is drained: it ends whoever has it.
    story.tell("web.0.1", TaskState::Killing);
    assert!(!story.services.view()[0].tasks[0].ready);
}

#[test]
fn a_drain_begins_anew_with_another_scheduler_and_goes_on_with_another_connection() {
    let mut story = Story::running(balanced(2));
    story.services.scale("web", 0, at(20), &mut story.told).unwrap();
    drained(&mut story, "web.0.1");
    story.told.clear();
    story.services.subscribed(FrameworkId::new("f1").unwrap(), at(21), &mut story.told);
    let kill = |task| Effect::Kill(TaskId::new(task).unwrap());
    assert_eq!(story.told, [kill("web.0.1")], "asked for again; the other one drains on");
    story.restart();
    assert_eq!(draining(&story), ["web.0.1", "web.1.2"]);
    story.told.clear();
    drained(&mut story, "web.1.2");
    assert_eq!(story.told, [kill("web.1.2")]);
}

#[test]
fn a_changed_balancer_holds_at_once_and_no_two_services_have_one_address() {
    let mut story = Story::running(balanced(1));
    let mut other = balanced(1);
    other.balancer.as_mut().unwrap().workers = 2;
    assert_eq!(story.apply(other.clone()), Change::Settings);
    assert_eq!(story.services.view()[0].balancer, other.balancer);
    assert_eq!(story.launch(), [""; 0]);
    for (address, collides) in [
        ("127.0.0.1:8080", true),
        ("0.0.0.0:8080", true),
        ("127.0.0.2:8080", false),
        ("127.0.0.1:8081", false),
    ] {
        let balancer = Some(Listener::new(address.parse().unwrap()));
        let shop = Spec { name: "shop".into(), balancer, ..balanced(1) };
        let before = story.services.table().clone();
        match story.services.would_apply(&[Arc::new(shop.clone())], false) {
            Ok(_) => assert!(!collides, "{address}"),
            Err(refused) => {
                assert!(
                    collides && refused.to_string().contains("and `web` does; give one of them another port"),
                    "{refused}"
                );
                assert!(story.services.apply(vec![Arc::new(shop)], false, at(9), &mut story.told).is_err());
            }
        }
        assert_eq!(*story.services.table(), before);
    }
    // Both at once: each takes the address of the other.
    let at_port = |name: &str, port: u16| {
        let balancer = Some(Listener::new(([127, 0, 0, 1], port).into()));
        Arc::new(Spec { name: name.into(), balancer, ..balanced(1) })
    };
    assert!(story.services.would_apply(&[at_port("shop", 8080), at_port("web", 8081)], false).is_ok());
}

/// A replica listens where it was told to when it was launched, whatever was described since.
#[test]
fn another_balanced_port_is_another_revision_and_leads_nobody_astray() {
    let with_port = |port| {
        let mut spec = Spec { ports: 2, ..balanced(2) };
        spec.balancer.as_mut().unwrap().port = port;
        spec
    };
    let ports = |story: &Story| -> Vec<_> {
        let view = &story.services.view()[0];
        view.tasks
            .iter()
            .map(|task| (task.revision, task.endpoint.as_ref().map(|found| found.port)))
            .collect()
    };
    let mut story = Story::of(with_port(0));
    let launch = |story: &mut Story| {
        for wanted in story.services.ready() {
            story.services.place(&wanted, Spot { ports: vec![31000, 31001], ..spot("a1") });
        }
        story.services.settle_all(at(story.now), &mut story.told);
    };
    launch(&mut story);
    story.run();
    story.wait(10);
    assert_eq!(ports(&story), [(1, Some(31000)), (1, Some(31000))]);
    assert_eq!(story.apply(with_port(1)), Change::Update(2));
    launch(&mut story);
    assert_eq!(ports(&story), [(1, Some(31000)), (2, Some(31001)), (1, Some(31000))]);
    story.services.roll_back("web", Some(1), at(story.now), &mut story.told).unwrap();
    assert!(ports(&story).contains(&(1, Some(31000))), "{:?}", ports(&story));
    // Without a balancer nobody is led anywhere: that alone replaces nothing.
    assert_eq!(story.apply(Spec { balancer: None, ..with_port(0) }), Change::Settings);
}

#[test]
fn that_a_replica_cannot_be_found_is_told() {
    let network = Some(crate::spec::NetworkSpec { name: "blue".into(), ports: Vec::new() });
    let mut story = Story::of(Spec { network, ..balanced(1) });
    story.launch();
    story.run();
    let told = story.events();
    assert!(told.iter().any(|line| line.starts_with("clients are not led to web.0.1: ")), "{told:?}");
}

#[test]
fn where_clients_find_a_replica() {
    let found = |spec: Spec, addresses: &[&str]| {
        let mut story = Story::of(spec);
        story.launch();
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        let status = TaskStatus { addresses, ..status(&TaskId::new("web.0.1").unwrap(), TaskState::Running) };
        story.services.update(&status, at(1), &mut story.told);
        // One that says less later takes nothing back.
        story.tell("web.0.1", TaskState::Running);
        story.services.view()[0].tasks[0]
            .endpoint
            .clone()
            .map(|found| format!("{}:{}", found.host, found.port))
    };
    let network =
        |ports: &[u16]| Some(crate::spec::NetworkSpec { name: "blue".into(), ports: ports.to_vec() });
    let own = &["10.9.0.7", "fd00::7"];
    assert_eq!(found(balanced(1), &[]).unwrap(), "10.0.0.1:31000", "on its agent's host");
    let mapped = Spec { network: network(&[80]), ..balanced(1) };
    assert_eq!(found(mapped, own).unwrap(), "10.0.0.1:31000", "by the port of that which leads there");
    let alone = Spec { network: network(&[]), ..balanced(1) };
    assert_eq!(found(alone.clone(), own).unwrap(), "10.9.0.7:31000", "at its own address");
    assert_eq!(found(alone, &[]), None, "which is not known yet");
    let placed = |address: &str| Placed {
        app: "web".into(),
        replica: 0,
        revision: 1,
        agent_id: agent("a1"),
        hostname: "one".into(),
        place: Arc::new(Place { address: address.into(), ..Place::default() }),
        ports: Vec::new(),
        doomed: false,
    };
    for (address, host) in [
        ("", "one"),
        ("10.0.0.1:5051", "10.0.0.1"),
        ("[fd00::1]:5051", "fd00::1"),
        ("one.example:1", "one.example"),
    ] {
        assert_eq!(placed(address).host(), host);
    }
}
