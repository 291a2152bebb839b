//! The scheduler as a master sees it: offers and statuses in, calls out, by the SDK's harness.

use std::path::Path;

use apportion_sdk::{
    TaskState,
    protocol::Call,
    store::{Changes, Kept, Memory, StoreError},
    testing::Harness,
};

use super::*;

const SPEC: &str =
    "name = \"web\"\ncommand = \"serve ${port0}\"\nreplicas = 3\ncpus = 1\nmemory = 100\nports = 1\n";

struct Cluster {
    harness: Harness<ServiceScheduler<Disk>>,
    events: mpsc::UnboundedReceiver<Told>,
}

/// A store that may fail.
#[derive(Debug, Clone, Default)]
struct Disk {
    memory: Memory,
    full: Arc<std::sync::atomic::AtomicBool>,
}

impl Disk {
    fn fill(&self) {
        self.full.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    fn table(&self) -> Table {
        Table::load(self.memory.load().unwrap()).unwrap()
    }
}

impl Store for Disk {
    fn load(&self) -> Result<Kept, StoreError> {
        self.memory.load()
    }

    fn save(&mut self, changes: Changes) -> Result<(), StoreError> {
        if self.full.load(std::sync::atomic::Ordering::SeqCst) {
            let source = std::io::ErrorKind::StorageFull.into();
            return Err(StoreError::Io { path: "state".into(), source });
        }
        self.memory.save(changes)
    }
}

impl Cluster {
    fn start(disk: &Disk) -> Self {
        Self::start_as(disk, SPEC)
    }

    fn start_as(disk: &Disk, spec: &str) -> Self {
        let spec = Spec::parse(Path::new("web.toml"), spec).unwrap();
        let (sender, events) = mpsc::unbounded_channel();
        let scheduler =
            ServiceScheduler::new("web", vec![Arc::new(spec)], disk.clone(), disk.table(), sender);
        Self { harness: Harness::new(scheduler), events }
    }

    /// Tasks launched and the agent of each, in order.
    fn launched(&mut self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            if let Event::Launched { task_id, hostname, .. } = event.event {
                all.push((task_id.to_string(), hostname));
            }
        }
        assert_eq!(self.harness.launched().len(), all.len(), "what is told is what is sent");
        all
    }
}

fn pair(task: &str, agent: &str) -> (String, String) {
    (task.to_owned(), format!("host-of-{agent}"))
}

#[test]
fn an_agent_without_ports_is_passed_over() {
    let disk = Disk::default();
    let mut cluster = Cluster::start(&disk);
    cluster.harness.offers(&[("a", "cpus:8;mem:8000"), ("b", "cpus:8;mem:800;ports:[31000-31001]")]);
    assert_eq!(cluster.launched(), [pair("web.0.1", "b"), pair("web.1.2", "b")]);
    assert!(cluster.harness.scheduler().wants_offers(), "the third waits for a port");
}

#[test]
fn an_offer_is_declined_for_the_rule_that_keeps_it_out() {
    let disk = Disk::default();
    let rules = "[placement]\nrequire = [{ on = 'rack', is = 'r1' }]\napart = [{}]\n";
    let mut cluster = Cluster::start_as(&disk, &format!("{SPEC}{rules}"));
    cluster.harness.calls();
    let room = "cpus:8;mem:8000;ports:[31000-31009]";
    let mut declined = |agent: &str, rack: &str, room: &str| {
        cluster.harness.offer_with(agent, room, &[("rack", rack)]);
        let calls = cluster.harness.calls();
        let reasons: Vec<_> = calls.iter().filter(|call| matches!(call, Call::Decline { .. })).collect();
        format!("{reasons:?}")
    };
    let other_rack = declined("a", "r2", room);
    assert!(
        other_rack.contains("attribute `rack` is `r1`") && other_rack.contains("Constraint"),
        "{other_rack}"
    );
    assert!(declined("b", "r1", "cpus:0.5;mem:8000").contains("TooSmall"));
}

/// One accept carries 3.5 MiB of descriptions.
#[test]
fn what_an_accept_cannot_carry_is_launched_with_the_next_offer() {
    let disk = Disk::default();
    let long = "x".repeat(100_000);
    let spec = format!(
        "name = \"web\"\ncommand = \"serve\"\nreplicas = 60\ncpus = 1\nmemory = 100\nenv = {{ LONG = \"{long}\" }}\n"
    );
    let mut cluster = Cluster::start_as(&disk, &spec);
    cluster.harness.offer("a", "cpus:100;mem:10000");
    let first = cluster.launched().len();
    assert!((30..60).contains(&first), "{first}");
    assert_eq!(disk.table().placed.len(), first, "only what was launched is believed to run");
    cluster.harness.offer("a", "cpus:50;mem:5000");
    assert_eq!(cluster.launched().len(), 60 - first);
    assert_eq!(disk.table().placed.len(), 60);
}

#[test]
fn the_whole_state_of_the_framework_is_asked_for_and_strangers_are_killed() {
    let disk = Disk::default();
    let mut cluster = Cluster::start(&disk);
    let calls = cluster.harness.calls();
    assert!(
        calls.iter().any(|call| matches!(call, Call::Reconcile { tasks } if tasks.is_empty())),
        "{calls:?}"
    );
    cluster.harness.reconciled("a", "web.7.70", TaskState::Running);
    let calls = cluster.harness.calls();
    assert!(
        calls.iter().any(|call| matches!(call, Call::Kill { task_id, .. } if task_id.as_str() == "web.7.70")),
        "{calls:?}"
    );
    assert_eq!(disk.table().framework_id.unwrap().as_str(), "test");
}

#[test]
fn what_cannot_be_stored_is_not_launched() {
    let disk = Disk::default();
    let mut cluster = Cluster::start(&disk);
    cluster.harness.calls();
    disk.fill();
    cluster.harness.offer("a", "cpus:8;mem:800;ports:[31000-31009]");
    assert_eq!(cluster.launched(), []);
    assert_eq!(cluster.harness.end(), Some(&Ok(Stop::Abort)));
}

/// A service of so many replicas, on a cluster of the harness.
fn in_memory(disk: &Disk, replicas: u32) -> Harness<ServiceScheduler<Disk>> {
    let spec = Spec { replicas, ..Spec::new("web", ["serve"]) }.checked().unwrap();
    let (events, _) = mpsc::unbounded_channel();
    Harness::new(ServiceScheduler::new("web", vec![Arc::new(spec)], disk.clone(), disk.table(), events))
}

fn scale(replicas: u32) -> Request {
    Order::Scale { service: None, replicas }.into()
}

fn names(harness: &mut Harness<ServiceScheduler<Disk>>) -> Vec<String> {
    harness.launched().iter().map(|task| task.task_id.to_string()).collect()
}

fn killed(calls: &[Call]) -> Vec<&str> {
    let kills = calls.iter().filter_map(|call| match call {
        Call::Kill { task_id, .. } => Some(task_id.as_str()),
        _ => None,
    });
    kills.collect()
}

#[test]
fn a_service_is_scaled_while_it_runs_and_stays_so_over_a_crash() {
    let disk = Disk::default();
    let mut harness = in_memory(&disk, 1);
    harness.offer("a", "cpus:8;mem:800");
    assert_eq!(names(&mut harness), ["web.0.1"]);
    harness.message(scale(3));
    assert_eq!(disk.table().apps["web"].replicas(), 3, "written before it is done");
    let calls = harness.calls();
    assert!(calls.iter().any(|call| matches!(call, Call::Revive { .. })), "{calls:?}");
    harness.offer("a", "cpus:8;mem:800");
    assert_eq!(names(&mut harness), ["web.1.2", "web.2.3"]);
    drop(harness); // a crash: nothing is said

    let mut harness = in_memory(&disk, 1);
    assert_eq!(killed(&harness.calls()), [""; 0], "the description has not changed: three are wanted");
    harness.message(scale(1));
    assert_eq!(killed(&harness.calls()), ["web.1.2", "web.2.3"]);
    harness.update("a", "web.2.3", TaskState::Killed);
    harness.offer("a", "cpus:8;mem:800");
    assert_eq!(names(&mut harness), [""; 0], "what was one too many is not replaced");
    drop(harness);

    let mut harness = in_memory(&disk, 1);
    assert_eq!(killed(&harness.calls())[0], "web.1.2", "the end that was not seen is asked for again");
}

#[test]
fn what_runs_with_a_replica_is_launched_and_ends_with_it() {
    let disk = Disk::default();
    let helpers =
        "[[init]]\nname = \"fetch\"\ncommand = \"fetch\"\n\n[[sidecar]]\nname = \"log\"\ncommand = \"log\"\n";
    let spec = format!("name = \"web\"\ncommand = \"serve\"\ncpus = 1\nmemory = 100\n{helpers}");
    let mut cluster = Cluster::start_as(&disk, &spec);
    cluster.harness.offer("small", "cpus:1.1;mem:8000");
    assert_eq!(cluster.harness.launched(), [], "all of it has no room there");
    cluster.harness.offer("a", "cpus:2;mem:8000");
    let tasks = cluster.harness.launched();
    let ids: Vec<_> = tasks.iter().map(|task| task.task_id.as_str()).collect();
    assert_eq!(ids, ["web.0.1.fetch", "web.0.1.log", "web.0.1"]);
    // One that a replica of the table has is left alone, however the description has changed since; another is killed.
    let mut cluster = {
        drop(cluster);
        Cluster::start_as(&disk, "name = \"web\"\ncommand = \"serve\"\n")
    };
    for task in ["web.0.1", "web.0.1.log", "web.0.0.log"] {
        cluster.harness.reconciled("a", task, TaskState::Running);
    }
    cluster.harness.update("a", "web.0.1.fetch", TaskState::Finished);
    let killed: Vec<_> = killed(&cluster.harness.calls()).into_iter().map(str::to_owned).collect();
    assert_eq!(killed, ["web.0.0.log"]);
    assert_eq!(cluster.harness.scheduler().state().running(), 1);
    cluster.harness.update("a", "web.0.1.log", TaskState::Failed);
    assert_eq!(cluster.harness.scheduler().state().running(), 1, "its own end is told next");
    cluster.harness.update("a", "web.0.1", TaskState::Killed);
    assert_eq!(cluster.harness.scheduler().state().running(), 0);
    assert_eq!(disk.table().placed.len(), 0);
}

#[test]
fn what_is_refused_is_told_and_changes_nothing() {
    let disk = Disk::default();
    let mut cluster = Cluster::start(&disk);
    cluster.harness.message(scale(1001));
    let events: Vec<_> = std::iter::from_fn(|| cluster.events.try_recv().ok()).collect();
    let last = events.last().unwrap().to_string();
    assert_eq!(last, "web: not done: 1001 replicas are more than a service can have, 1000");
    assert_eq!(cluster.harness.scheduler().state().ready().len(), 3);

    let other = Spec { role: "shop".into(), ..Spec::new("shop", ["serve"]) };
    let order = Order::Apply { specs: vec![Arc::new(other)], again: false, dry_run: false };
    let (request, mut answer) = Request::new(order);
    cluster.harness.message(request);
    let refused = answer.try_recv().unwrap().unwrap_err().to_string();
    assert!(
        refused.ends_with("offers are taken for `*`; begin `service serve` with --role shop"),
        "{refused}"
    );
    assert_eq!(disk.table().apps.len(), 1);
}

#[test]
fn what_would_change_is_answered_and_not_done() {
    let disk = Disk::default();
    let mut cluster = Cluster::start(&disk);
    let before = disk.table();
    let specs = vec![Arc::new(Spec::new("db", ["serve"]))];
    let (request, mut answer) =
        Request::new(Order::Apply { specs: specs.clone(), again: false, dry_run: true });
    cluster.harness.message(request);
    let Answer::Applied(applied) = answer.try_recv().unwrap().unwrap() else { panic!() };
    assert_eq!((applied["db"].change, disk.table() == before), (crate::state::Change::New, true));
    let (request, mut answer) = Request::new(Order::Apply { specs, again: false, dry_run: false });
    cluster.harness.message(request);
    assert_eq!(answer.try_recv().unwrap().unwrap(), Answer::Applied(applied));
    assert_eq!(disk.table().apps.len(), 2);
    // Of two nobody knows which is meant.
    let (request, mut unnamed) = Request::new(Order::Scale { service: None, replicas: 7 });
    cluster.harness.message(request);
    assert_eq!(unnamed.try_recv().unwrap(), Err(Refused::Unnamed));
    // What cannot be kept is not answered.
    disk.fill();
    let (request, mut answer) = Request::new(Order::Remove { services: vec!["db".into()] });
    cluster.harness.message(request);
    assert!(answer.try_recv().is_err());
    assert_eq!(cluster.harness.end(), Some(&Ok(Stop::Abort)));
}

#[test]
fn what_cannot_be_stored_is_not_killed() {
    let disk = Disk::default();
    let mut cluster = Cluster::start(&disk);
    cluster.harness.offer("a", "cpus:8;mem:800;ports:[31000-31009]");
    assert_eq!(cluster.launched().len(), 3);
    disk.fill();
    cluster.harness.message(scale(0));
    assert_eq!(killed(&cluster.harness.calls()), [""; 0]);
    let told: Vec<_> = std::iter::from_fn(|| cluster.events.try_recv().ok()).collect();
    assert_eq!(told, [], "nor told");
    assert_eq!(cluster.harness.end(), Some(&Ok(Stop::Abort)));
}

/// A window that begins so long after the beginning of time.
fn window(start: Duration) -> apportion_sdk::Unavailability {
    apportion_sdk::Unavailability { start: Time::ZERO + start, duration: None }
}

#[test]
fn agents_that_are_to_be_left_are_the_last_choice_and_near_their_windows_none() {
    let disk = Disk::default();
    let mut cluster = Cluster::start(&disk);
    let (near, far) = (window(Duration::from_secs(1800)), window(Duration::from_secs(7200)));
    cluster.harness.offer_before("a", "cpus:8;mem:8000;ports:[31000-31009]", near);
    assert_eq!(cluster.launched(), []);
    cluster.harness.offer_before("b", "cpus:1;mem:800;ports:[31000-31009]", far);
    assert_eq!(cluster.launched(), [pair("web.0.1", "b")]);
}

#[test]
fn a_service_asks_to_be_asked_again_before_it_moves() {
    let disk = Disk::default();
    let mut cluster = Cluster::start(&disk);
    cluster.harness.offer("a", "cpus:8;mem:8000;ports:[31000-31009]");
    assert_eq!(cluster.launched().len(), 3);
    for task in ["web.0.1", "web.1.2", "web.2.3"] {
        cluster.harness.update("a", task, TaskState::Running);
    }
    cluster.harness.calls();
    let since = cluster.harness.now().since(Time::ZERO);
    let early =
        cluster.harness.ask_to_leave("a", "cpus:3;mem:300", window(since + Duration::from_secs(3600)));
    let again = Some(Duration::from_secs(3000));
    assert_eq!(
        cluster.harness.calls(),
        [Call::AcceptInverseOffers { inverse_offers: vec![early], refuse: again }]
    );
    let late = cluster.harness.ask_to_leave("a", "cpus:3;mem:300", window(since + Duration::from_secs(500)));
    let calls = cluster.harness.calls();
    assert!(
        calls.contains(&Call::AcceptInverseOffers { inverse_offers: vec![late], refuse: None }),
        "{calls:?}"
    );
    assert_eq!(killed(&calls), [""; 0], "the first is launched elsewhere before it is killed");
    cluster
        .harness
        .offers(&[("a", "cpus:8;mem:8000;ports:[31000-31009]"), ("b", "cpus:1;mem:800;ports:[31000-31009]")]);
    // Nobody plans to take the machine of `a` away any more: it is offered without a window.
    assert_eq!(cluster.launched(), []);
    let start = cluster.harness.now().since(Time::ZERO) + Duration::from_secs(500);
    cluster.harness.ask_to_leave("a", "cpus:3;mem:300", window(start));
    cluster.harness.offer("b", "cpus:1;mem:800;ports:[31000-31009]");
    assert_eq!(cluster.launched(), [pair("web.0.4", "b")]);
    cluster.harness.update("b", "web.0.4", TaskState::Running);
    cluster.harness.calls();
    cluster.harness.advance(Duration::from_secs(11));
    assert_eq!(killed(&cluster.harness.calls()), ["web.0.1"]);
}

#[test]
fn replicas_go_where_the_rules_of_their_service_say() {
    let disk = Disk::default();
    let rules = "[placement]\nrequire = [{ on = 'disk', is = 'ssd' }]\nspread = [{ over = 'rack', places = ['r1', 'r2'] }]\napart = [{}]\n";
    let mut cluster =
        Cluster::start_as(&disk, &format!("{}{rules}", SPEC.replace("replicas = 3", "replicas = 4")));
    let room = "cpus:8;mem:8000;ports:[31000-31009]";
    cluster.harness.offer_with("slow", room, &[("rack", "r1"), ("disk", "hdd")]);
    assert_eq!(cluster.launched(), []);
    cluster.harness.offer_with("a", room, &[("rack", "r1"), ("disk", "ssd")]);
    assert_eq!(cluster.launched(), [pair("web.0.1", "a")], "one on an agent");
    cluster.harness.offer_with("b", room, &[("rack", "r1"), ("disk", "ssd")]);
    assert_eq!(cluster.launched(), [], "its rack has one more than the other already");
    cluster.harness.offer_with("c", room, &[("rack", "r2"), ("disk", "ssd")]);
    assert_eq!(cluster.launched(), [pair("web.1.2", "c")]);
    drop(cluster);
    // Where they are outlives the scheduler.
    let mut cluster =
        Cluster::start_as(&disk, &format!("{}{rules}", SPEC.replace("replicas = 3", "replicas = 4")));
    cluster.harness.offer_with("c", room, &[("rack", "r2"), ("disk", "ssd")]);
    assert_eq!(cluster.launched(), []);
    cluster.harness.offer_with("b", room, &[("rack", "r1"), ("disk", "ssd")]);
    assert_eq!(cluster.launched(), [pair("web.2.3", "b")]);
}
