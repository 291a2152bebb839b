//! Services told what happens, one thing after the other.

mod drain;
mod scaling;
mod world;

use apportion_sdk::{Findings, Place};

use super::*;
use crate::spec::{Health, Share, Update};

pub(super) fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

/// A place on an agent, with a port.
pub(super) fn spot(on: &str) -> Spot {
    let place = Place { hostname: on.into(), address: "10.0.0.1:5051".into(), ..Place::default() };
    Spot { agent_id: agent(on), place: Arc::new(place), ports: vec![31000] }
}

pub(super) fn status(id: &TaskId, state: TaskState) -> TaskStatus {
    TaskStatus {
        task_id: id.clone(),
        agent_id: None,
        state,
        reason: None,
        source: Source::Agent,
        message: String::new(),
        at: Time::ZERO,
        update_id: None,
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    }
}

/// Replicas that count after ten seconds.
pub(super) fn web(replicas: u32) -> Spec {
    Spec {
        replicas,
        restart: Restart { max: Duration::from_secs(8), ..Restart::default() },
        update: Update { progress_deadline: Duration::from_secs(100), ..Update::default() },
        ..Spec::new("web", ["serve"])
    }
}

/// Replicas that are not those of [`web`].
fn next(spec: &Spec) -> Spec {
    Spec { argv: vec!["serve-better".into()], ..spec.clone() }
}

/// Services on a cluster that does what it is told, at a time of its own.
struct Story {
    services: Services,
    now: u64,
    told: Vec<Effect>,
}

impl Story {
    fn of(spec: Spec) -> Self {
        let mut story = Self { services: Services::default(), now: 0, told: Vec::new() };
        story.services.subscribed(FrameworkId::new("f1").unwrap(), at(0), &mut Vec::new());
        story.apply(spec);
        story
    }

    /// With every replica running for so long that it counts.
    fn running(spec: Spec) -> Self {
        let mut story = Self::of(spec);
        story.launch();
        story.run();
        story.wait(10);
        assert_eq!(story.phase(), Phase::Steady, "{:?}", story.services);
        story
    }

    fn apply(&mut self, spec: Spec) -> Change {
        let name = spec.name.clone();
        let applied = self.services.apply(vec![Arc::new(spec)], false, at(self.now), &mut self.told).unwrap();
        applied[&name].change
    }

    /// Launches what is to be launched, on agent `a1`; gives the ids.
    fn launch(&mut self) -> Vec<String> {
        self.launch_on("a1")
    }

    fn launch_on(&mut self, on: &str) -> Vec<String> {
        let mut ids = Vec::new();
        for launch in self.services.ready() {
            ids.push(self.services.place(&launch, spot(on)).to_string());
        }
        self.services.settle_all(at(self.now), &mut self.told);
        ids
    }

    fn tell(&mut self, task: &str, state: TaskState) {
        self.services.update(&status(&TaskId::new(task).unwrap(), state), at(self.now), &mut self.told);
    }

    /// Has everything run that was launched and is not on its way out.
    fn run(&mut self) {
        for (task, placed) in self.services.table().placed.clone() {
            if !placed.doomed {
                self.tell(task.as_str(), TaskState::Running);
            }
        }
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        self.services.tick(at(self.now), &mut self.told);
    }

    /// What was to be killed since the last time; it ends.
    fn killed(&mut self) -> Vec<String> {
        let told = std::mem::take(&mut self.told);
        let kills = told.into_iter().filter_map(|effect| match effect {
            Effect::Kill(task) => Some(task.to_string()),
            Effect::Tell(_) => None,
        });
        let kills: Vec<_> = kills.collect();
        kills.iter().for_each(|task| self.tell(task, TaskState::Killed));
        kills
    }

    /// What was told since the last time, in short.
    fn events(&mut self) -> Vec<String> {
        let told = std::mem::take(&mut self.told).into_iter().filter_map(|effect| match effect {
            Effect::Tell(told) => Some(told.event.to_string()),
            Effect::Kill(_) => None,
        });
        told.collect()
    }

    fn app(&self) -> &App {
        &self.services.table().apps["web"]
    }

    fn phase(&self) -> Phase {
        self.app().phase
    }

    /// The scheduler dies, and the next one begins; nothing is heard of tasks yet.
    fn restart(&mut self) {
        let kept = Table::load(stored(self.services.table())).unwrap();
        assert_eq!(kept, *self.services.table());
        self.services = Services::new(kept);
        self.services.subscribed(FrameworkId::new("f1").unwrap(), at(self.now), &mut self.told);
    }
}

/// What a store has after this was saved to it.
pub(super) fn stored(table: &Table) -> apportion_sdk::store::Kept {
    use apportion_sdk::store::{Memory, Store};
    let mut store = Memory::default();
    store.save(table.changes_since(&Table::default())).unwrap();
    store.load().unwrap()
}

#[test]
fn replicas_are_launched_once_and_told_when_complete() {
    let mut story = Story::of(web(2));
    assert_eq!(story.launch(), ["web.0.1", "web.1.2"]);
    assert!(!story.services.wants_offers());
    story.events();
    story.tell("web.0.1", TaskState::Running);
    assert_eq!(story.events(), ["replica 0 running on a1:31000 (web.0.1)"]);
    story.tell("web.1.2", TaskState::Running);
    assert_eq!(story.events(), ["replica 1 running on a1:31000 (web.1.2)", "all 2 replicas run"]);
    story.tell("web.1.2", TaskState::Running);
    assert_eq!(story.events(), [""; 0], "a repeated update is no news");
    story.wait(9);
    assert_eq!(story.events(), [""; 0]);
    story.wait(1);
    assert_eq!(story.events(), ["all replicas have revision 1"]);
    assert_eq!(story.services.next_deadline(), None);
}

#[test]
fn a_replica_with_a_health_check_counts_only_while_it_is_healthy() {
    let health = Some(Health::new(crate::spec::Asked::Command(vec!["ask".into()])));
    let mut story = Story::of(Spec { health, ..web(1) });
    let task = TaskId::new(&story.launch()[0]).unwrap();
    let tell = |story: &mut Story, healthy: Option<bool>, source: Source| {
        story.told.clear();
        let findings = Findings { healthy, check: None };
        let status = TaskStatus { findings, source, ..status(&task, TaskState::Running) };
        story.services.update(&status, at(1), &mut story.told);
        (story.services.running(), story.events().len())
    };
    assert_eq!(tell(&mut story, None, Source::Agent), (0, 0), "nobody knows yet");
    assert_eq!(tell(&mut story, Some(false), Source::Agent), (0, 0));
    assert_eq!(tell(&mut story, Some(true), Source::Agent), (1, 2));
    assert_eq!(tell(&mut story, Some(false), Source::Agent), (0, 1));
    assert_eq!(tell(&mut story, Some(true), Source::Agent).0, 1);
    assert_eq!(tell(&mut story, None, Source::Agent).0, 1);
    // A new scheduler asks, and a new master does not know of its health: what was running counts until its agent says otherwise.
    story.restart();
    assert_eq!(tell(&mut story, None, Source::Master).0, 1);
    assert_eq!(tell(&mut story, Some(false), Source::Agent).0, 0);
}

#[test]
fn pauses_grow_and_begin_anew_after_a_stable_run() {
    let mut story = Story::of(web(1));
    for pause in [1, 2, 4, 8, 8] {
        let task = story.launch().remove(0);
        story.tell(&task, TaskState::Running);
        story.tell(&task, TaskState::Failed);
        story.wait(pause - 1);
        assert!(pause == 1 || !story.services.wants_offers(), "{pause}");
        story.wait(1);
        assert!(story.services.wants_offers(), "{pause}");
    }
    let task = story.launch().remove(0);
    story.tell(&task, TaskState::Running);
    story.wait(60);
    story.tell(&task, TaskState::Failed);
    story.wait(1);
    assert!(story.services.wants_offers());
}

#[test]
fn one_that_cannot_be_reached_is_given_up_and_killed_when_it_returns() {
    let mut story = Story::running(web(1));
    story.tell("web.0.1", TaskState::Unreachable);
    story.wait(29);
    story.tell("web.0.1", TaskState::Running);
    story.wait(100);
    assert_eq!(story.services.running(), 1, "it returned in time");
    story.tell("web.0.1", TaskState::Unreachable);
    story.wait(30);
    assert_eq!(story.launch(), ["web.0.2"]);
    story.killed();
    story.tell("web.0.1", TaskState::Running);
    assert_eq!(story.killed(), ["web.0.1"]);
    assert!(story.services.table().strays.is_empty());
}

#[test]
fn a_restarted_scheduler_adopts_what_runs_and_launches_only_what_is_missing() {
    let mut story = Story::running(web(3));
    story.tell("web.1.2", TaskState::Failed);
    story.restart();
    assert_eq!(story.services.tasks().len(), 2);
    assert_eq!(story.launch(), ["web.1.4"], "no id is used twice");
    story.tell("web.0.1", TaskState::Running);
    story.tell("web.2.3", TaskState::Unknown);
    story.wait(1);
    assert_eq!(story.launch(), ["web.2.5"], "one that is gone is launched again");
}

#[test]
fn replicas_that_are_not_heard_of_are_told_and_not_replaced() {
    let mut story = Story::running(web(3));
    story.restart();
    story.tell("web.1.2", TaskState::Running);
    story.events();
    story.wait(9);
    assert_eq!(story.events(), [""; 0]);
    story.wait(1);
    assert!(story.events()[0].starts_with("not heard of yet: replicas 0, 2;"));
    story.wait(1000);
    assert_eq!((story.events(), story.launch()), (vec![], vec![]));
}

#[test]
fn another_number_of_replicas_is_reached_from_either_side() {
    let mut story = Story::running(web(3));
    story.services.scale("web", 1, at(11), &mut story.told).unwrap();
    assert_eq!(story.killed(), ["web.1.2", "web.2.3"]);
    assert_eq!((story.services.running(), story.services.wants_offers()), (1, false));
    story.restart();
    assert_eq!(story.app().replicas(), 1, "the description has not changed: the order stands");
    assert_eq!(story.apply(web(3)), Change::None);
    assert_eq!(story.app().replicas(), 1);
    assert_eq!(story.apply(web(4)), Change::Settings);
    assert_eq!(story.app().replicas(), 4, "it has: it is what counts");
    story.services.scale("web", 0, at(12), &mut story.told).unwrap();
    story.services.scale("web", 2, at(12), &mut story.told).unwrap();
    assert_eq!(story.launch(), ["web.1.4"], "the first has a task until that has ended");
    let refused = story.services.scale("web", 1001, at(12), &mut story.told).unwrap_err();
    assert!(refused.to_string().contains("more than a service can have, 1000"), "{refused}");
}

#[test]
fn a_new_description_replaces_replicas_one_after_the_other_the_new_one_first() {
    let mut story = Story::running(web(3));
    assert_eq!(story.apply(next(&web(3))), Change::Update(2));
    for number in 0..3 {
        assert_eq!(story.killed(), [""; 0]);
        assert_eq!(story.launch(), [format!("web.{number}.{}", number + 4)]);
        assert_eq!(story.launch(), [""; 0], "one at a time");
        story.run();
        story.wait(9);
        assert_eq!(story.killed(), [""; 0], "it has not run for long enough");
        story.wait(1);
        assert_eq!(story.killed(), [format!("web.{number}.{}", number + 1)]);
    }
    assert_eq!((story.phase(), story.app().good.as_slice()), (Phase::Steady, &[1, 2][..]));
    assert_eq!(story.apply(next(&web(3))), Change::None);
    assert_eq!(story.apply(web(3)), Change::Update(1), "what was there before is no new revision");
}

#[test]
fn without_surge_the_old_one_goes_first() {
    let mut spec = web(3);
    spec.update = Update { max_surge: Share::Count(0), max_unavailable: Share::Percent(67), ..spec.update };
    let mut story = Story::running(spec.clone());
    story.apply(next(&spec));
    assert_eq!(story.launch(), [""; 0]);
    assert_eq!(story.killed(), ["web.0.1", "web.1.2"]);
    assert_eq!(story.launch(), ["web.0.4", "web.1.5"]);
    story.run();
    assert_eq!(story.killed(), [""; 0]);
    story.wait(10);
    assert_eq!(story.killed(), ["web.2.3"]);
}

#[test]
fn an_update_that_comes_no_further_is_rolled_back_and_not_tried_again_by_itself() {
    let mut story = Story::running(web(3));
    story.apply(next(&web(3)));
    for _ in 0..40 {
        for task in story.launch() {
            story.tell(&task, TaskState::Running);
            story.tell(&task, TaskState::Failed);
        }
        assert!(story.services.running() == 3, "the old ones are left alone");
        story.wait(4);
    }
    assert_eq!((story.phase(), story.app().target, story.app().rejected), (Phase::Steady, 1, Some(2)));
    assert!(story.events().contains(&"revision 2 is given up; back to revision 1".to_owned()));
    assert_eq!(story.apply(next(&web(3))), Change::Rejected(2));
    assert!(!story.services.wants_offers());
    let again = story.services.apply(vec![Arc::new(next(&web(3)))], true, at(story.now), &mut story.told);
    assert_eq!(again.unwrap()["web"].change, Change::Update(2), "somebody wants it");
}

#[test]
fn a_first_revision_that_comes_no_further_is_told_and_tried_on() {
    let mut story = Story::of(web(1));
    story.wait(100);
    assert!(story.events().iter().any(|line| line.starts_with("revision 1 comes no further for 1m 40s")));
    story.wait(1000);
    assert_eq!(story.events(), [""; 0]);
    story.launch();
    story.run();
    story.wait(10);
    assert_eq!(story.phase(), Phase::Steady);
}

#[test]
fn canaries_are_tried_beside_the_old_ones_and_promoted_or_not() {
    let mut spec = web(3);
    spec.update = Update { canary: Share::Count(2), ..spec.update };
    let mut story = Story::running(spec.clone());
    story.apply(next(&spec));
    assert_eq!(story.launch(), ["web.0.4", "web.1.5"]);
    story.run();
    story.wait(10);
    assert!(story.events().contains(&"2 canaries of revision 2 are healthy".to_owned()));
    story.wait(1000);
    assert_eq!((story.killed().len(), story.phase()), (0, Phase::Canary), "nobody has decided");
    // An old one that ends is replaced by an old one.
    story.tell("web.2.3", TaskState::Failed);
    story.wait(1);
    story.launch();
    assert_eq!(story.services.table().placed[&TaskId::new("web.2.6").unwrap()].revision, 1);
    story.run();
    story.killed();

    story.services.promote("web", at(story.now), &mut story.told).unwrap();
    assert_eq!(story.killed(), ["web.0.1", "web.1.2"]);
    assert_eq!(story.launch(), ["web.2.7"]);
    story.run();
    story.wait(10);
    assert_eq!((story.killed(), story.phase()), (vec!["web.2.6".to_owned()], Phase::Steady));
    let refused = story.services.promote("web", at(story.now), &mut story.told).unwrap_err();
    assert!(refused.to_string().contains("tries no canaries"), "{refused}");

    // One that is not wanted after all goes, and nothing else.
    story.apply(Spec { argv: vec!["third".into()], ..spec });
    story.launch();
    story.run();
    assert_eq!(story.services.roll_back("web", None, at(story.now), &mut story.told), Ok(2));
    assert_eq!(story.killed(), ["web.0.8", "web.1.9"]);
    assert_eq!(story.phase(), Phase::Steady);
}

#[test]
fn all_canaries_at_once_are_blue_green_promoted_after_a_time() {
    let mut spec = web(2);
    spec.update = Update { canary: Share::ALL, promote_after: Some(Duration::from_secs(60)), ..spec.update };
    let mut story = Story::running(spec.clone());
    story.apply(next(&spec));
    assert_eq!(story.launch(), ["web.0.3", "web.1.4"]);
    story.run();
    story.wait(10);
    story.wait(59);
    assert_eq!(story.killed(), [""; 0]);
    story.wait(1);
    assert_eq!(story.killed(), ["web.0.1", "web.1.2"]);
    assert_eq!(story.phase(), Phase::Steady);
}

#[test]
fn replicas_are_moved_by_launching_first() {
    let mut story = Story::running(web(2));
    story.services.leave(agent("a2"), at(20), &mut story.told);
    assert!(!story.services.wants_offers(), "nothing is there");
    story.services.leave(agent("a1"), at(20), &mut story.told);
    for number in 0..2 {
        assert_eq!(story.killed(), [""; 0]);
        assert_eq!(story.launch_on("a3"), [format!("web.{number}.{}", number + 3)]);
        story.run();
        story.wait(10);
        assert_eq!(story.killed(), [format!("web.{number}.{}", number + 1)]);
    }
    assert!(!story.services.wants_offers());
    // One that is to be left no more is not left.
    story.services.leave(agent("a3"), at(50), &mut story.told);
    assert!(story.services.wants_offers());
    story.services.stay(&agent("a3"), at(50), &mut story.told);
    assert!(!story.services.wants_offers());
}

#[test]
fn what_was_decided_is_asked_for_again_and_what_was_not_heard_of_is_not_judged() {
    let mut story = Story::running(web(2));
    story.apply(next(&web(2)));
    story.launch();
    story.run();
    story.wait(10);
    let Some(Effect::Kill(doomed)) =
        story.told.iter().find(|effect| matches!(effect, Effect::Kill(_))).cloned()
    else {
        panic!("{:?}", story.told)
    };
    story.told.clear();
    story.restart();
    assert_eq!(story.told, [Effect::Kill(doomed)]);
    story.wait(90);
    assert_eq!(story.told.len(), 2, "the silent are told of, and none is killed: {:?}", story.told);
}

#[test]
fn a_restart_by_order_replaces_all() {
    let mut story = Story::running(web(1));
    assert_eq!(story.services.restart("web", at(20), &mut story.told), Ok(2));
    story.launch();
    story.run();
    story.wait(10);
    assert_eq!((story.killed(), story.phase()), (vec!["web.0.1".to_owned()], Phase::Steady));
    assert_eq!(story.apply(web(1)), Change::None);
    assert_eq!(story.services.roll_back("web", None, at(40), &mut story.told), Ok(1));
}

#[test]
fn who_goes_back_to_a_revision_that_is_not_there_is_told_which_are() {
    let mut story = Story::running(web(1));
    let mut refused =
        |to| story.services.roll_back("web", to, at(20), &mut Vec::new()).unwrap_err().to_string();
    assert_eq!(refused(Some(7)), "service `web` has no revision 7; it has 1");
    assert_eq!(refused(Some(1)), "service `web` has revision 1 already, or is on the way to it");
    assert!(refused(None).contains("no earlier revision that was complete"));
    story.apply(next(&web(1)));
    let refused = story.services.roll_back("web", Some(9), at(20), &mut Vec::new()).unwrap_err();
    assert_eq!(refused.to_string(), "service `web` has no revision 9; it has 1, 2");
}

#[test]
fn a_service_is_started_when_what_it_comes_after_is_complete() {
    let mut story = Story::of(Spec { name: "db".into(), ..web(1) });
    let after = Spec { after: vec!["db".into()], ..web(1) };
    story.events();
    story.apply(after.clone());
    assert!(story.events().contains(&"started when `db` is complete".to_owned()));
    assert_eq!(story.launch(), ["db.0.1"]);
    story.tell("db.0.1", TaskState::Running);
    assert_eq!(story.launch(), ["web.0.2"]);
    story.tell("db.0.1", TaskState::Failed);
    story.tell("web.0.2", TaskState::Failed);
    story.wait(1);
    assert_eq!(story.launch().len(), 2, "only the first start waits");

    let mut refused = |specs: Vec<Spec>| {
        let before = story.services.table().clone();
        let specs = specs.into_iter().map(Arc::new).collect();
        let refused = story.services.apply(specs, false, at(9), &mut story.told).unwrap_err().to_string();
        assert_eq!(*story.services.table(), before, "nothing has changed");
        refused
    };
    let cycle = Spec { name: "db".into(), after: vec!["web".into()], ..web(1) };
    assert!(
        refused(vec![after.clone(), cycle.clone()]).starts_with("after: `db`, `web` wait for each other")
    );
    let late = Spec { name: "late".into(), after: vec!["web".into()], ..web(1) };
    let told = refused(vec![after, cycle, late]);
    assert!(told.starts_with("after: `db`, `web` wait for each other"), "{told}");
    let missing = Spec { after: vec!["cache".into()], ..web(1) };
    assert!(refused(vec![missing]).contains("comes after `cache`, which is not there"));
    assert!(refused(vec![web(1), web(2)]).contains("described twice"));
    let alike = "name: service `Web` and `web` differ only by case";
    assert!(refused(vec![web(1), Spec { name: "Web".to_owned(), ..web(1) }]).starts_with(alike));
    let needed = story.services.remove(&["db".into()], at(9), &mut story.told).unwrap_err();
    assert!(needed.to_string().starts_with("service `web` comes after `db`"), "{needed}");
}

fn sizes(agents: &[(&str, &str, &str)]) -> Vec<Size> {
    let size = |(host, rack, total): &(&str, &str, &str)| {
        let attributes = [("rack".to_owned(), (*rack).to_owned())].into();
        let place = Place { hostname: (*host).into(), attributes, ..Place::default() };
        Size { place, total: total.parse().unwrap() }
    };
    agents.iter().map(size).collect()
}

#[test]
fn what_fits_no_agent_is_told_once_with_what_there_is() {
    let verdict = |text: &str, agents: &[(&str, &str, &str)]| {
        let text = format!("name = 'web'\ncommand = 'serve'\n{text}");
        let mut story = Story::of(Spec::parse(std::path::Path::new("web.toml"), &text).unwrap());
        story.events();
        story.services.compare(&sizes(agents), &mut story.told);
        story.services.compare(&sizes(agents), &mut story.told);
        assert_eq!(story.events().len(), usize::from(story.app().trouble.impossible.is_some()));
        let told = story.services.view()[0].trouble.impossible.clone();
        story.services.compare(&sizes(&[("big", "nowhere", "cpus:100;mem:100000")]), &mut story.told);
        assert_eq!(story.app().trouble.impossible, None, "it may come");
        told
    };
    let two = [("h1", "r1", "cpus:2;mem:900"), ("h2", "r2", "cpus:1;mem:9000")];
    assert_eq!(
        verdict("cpus = 64", &two).unwrap(),
        "none of the 2 agents could run one: cpus:64 is needed, the most is cpus:2 on h1; ask for less, or add such an agent"
    );
    let nowhere = verdict("[placement]\nrequire = [{ on = 'rack', is = 'nowhere' }]", &two).unwrap();
    assert!(
        nowhere.contains("there is no agent where attribute `rack` is `nowhere`; there are r1, r2; "),
        "{nowhere}"
    );
    assert!(verdict("cpus = 2\nmemory = '2GiB'", &two).unwrap().contains("all of it together"));
    assert_eq!(verdict("cpus = 2", &two), None);
    assert_eq!(verdict("cpus = 64", &[]), None, "they may be about to register");
    let wish = "[placement]\nrequire = [{ on = 'rack', is = 'nowhere', wish = true }]";
    assert_eq!(verdict(wish, &two), None);
}

#[test]
fn why_replicas_ended_is_known_until_a_revision_is_complete_and_why_one_was_given_up_after() {
    let mut story = Story::running(web(1));
    story.apply(next(&web(1)));
    story.launch();
    let task = TaskId::new("web.0.2").unwrap();
    let message = format!("no such file `serve-better`{}", "!".repeat(1000));
    let failed = TaskStatus { message, ..status(&task, TaskState::Failed) };
    story.services.update(&failed, at(11), &mut story.told);
    let end = story.app().trouble.last_end.clone().unwrap();
    assert!(end.what.starts_with("replica 0 ended: no such file `serve-better`!!"), "{}", end.what);
    assert_eq!((end.at_us, end.what.chars().count()), (11_000_000, 301));
    story.restart();
    assert_eq!(story.services.view()[0].trouble.last_end, Some(end));
    story.run();
    story.wait(101);
    let trouble = &story.services.explain("web", at(story.now)).unwrap().trouble;
    assert_eq!(trouble.last_end, None);
    let why = trouble.given_up.as_ref().unwrap();
    assert!(why.starts_with("it came no further for 1m 40s: replica 0 ended: no such file"), "{why}");
}

#[test]
fn a_service_that_is_removed_is_forgotten_when_nothing_of_it_runs() {
    let mut story = Story::running(web(2));
    story.services.remove(&["web".into()], at(20), &mut story.told).unwrap();
    assert!(!story.services.wants_offers());
    assert!(story.services.scale("web", 3, at(20), &mut story.told).is_err());
    let late = Spec { name: "late".into(), after: vec!["web".into()], ..web(1) };
    let refused = story.services.would_apply(&[Arc::new(late)], false).unwrap_err();
    assert!(refused.to_string().contains("comes after `web`, which is not there"), "{refused}");
    story.restart();
    assert_eq!(story.launch(), [""; 0]);
    assert_eq!(story.killed().len(), 4, "each is asked twice to end");
    assert_eq!(story.services.table().apps.len() + story.services.table().placed.len(), 0);
    assert_eq!(story.apply(web(1)), Change::New);
    assert_eq!(story.launch(), ["web.0.3"], "no id is used twice");
}

#[test]
fn a_task_that_nobody_knows_is_killed() {
    let mut story = Story::running(web(1));
    story.tell("web.9.99", TaskState::Running);
    assert_eq!(story.killed(), ["web.9.99"]);
    assert!(story.services.table().strays.is_empty());
}

#[test]
fn records_that_are_not_what_was_written_are_named() {
    let story = Story::running(web(1));
    for (key, record, why) in [
        ("app/web", "{}", "the record `app/web` of the state is damaged: missing field"),
        ("task/web.0.1", "[]", "the record `task/web.0.1`"),
        ("task/web/2", "{}", "the record `task/web/2`"),
        ("services", "{\"version\":3,\"launches\":1}", "version 3 instead of 2"),
        ("other", "", "nothing of this version has such a name"),
    ] {
        let mut kept = stored(story.services.table());
        kept.records.insert(key.to_owned(), record.as_bytes().to_vec());
        let message = Table::load(kept).unwrap_err().to_string();
        assert!(message.contains(why), "{message}");
    }
    let mut kept = stored(story.services.table());
    kept.records.remove("app/web");
    assert!(Table::load(kept).unwrap_err().to_string().contains("there is no revision 1 of service `web`"));
}
