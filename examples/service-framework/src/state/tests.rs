use std::collections::BTreeMap;

use apportion_sdk::Findings;
use proptest::prelude::*;

use super::*;

const POLICY: Policy = Policy {
    checked: false,
    restart: Restart {
        min: Duration::from_secs(1),
        max: Duration::from_secs(8),
        stable: Duration::from_secs(60),
    },
    replace_after: Duration::from_secs(30),
};

fn at(seconds: u64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

fn agent(name: &str) -> AgentId {
    AgentId::new(name).unwrap()
}

fn status(id: &TaskId, state: TaskState) -> TaskStatus {
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

fn place(service: &mut ServiceState, number: u32) -> TaskId {
    service.place(number, agent("a1"), "one".into(), vec![31000])
}

/// The service with every replica placed and running, and their tasks.
fn running(wanted: u32) -> (ServiceState, Vec<TaskId>) {
    let mut service = ServiceState::new(wanted, POLICY, Table::new("web"));
    let tasks: Vec<_> = service.ready().into_iter().map(|number| place(&mut service, number)).collect();
    for task in &tasks {
        service.update(&status(task, TaskState::Running), at(0), &mut Vec::new());
    }
    (service, tasks)
}

fn told(service: &mut ServiceState, now: u64, task: &TaskId, state: TaskState) -> Vec<Effect> {
    let mut effects = Vec::new();
    service.update(&status(task, state), at(now), &mut effects);
    effects
}

fn tick(service: &mut ServiceState, now: u64) -> Vec<Effect> {
    let mut effects = Vec::new();
    service.tick(at(now), &mut effects);
    effects
}

#[test]
fn replicas_are_launched_once_and_told_when_complete() {
    let mut service = ServiceState::new(2, POLICY, Table::new("web"));
    assert_eq!(service.ready(), [0, 1]);
    let (first, second) = (place(&mut service, 0), place(&mut service, 1));
    assert_eq!((first.as_str(), second.as_str()), ("web.0.1", "web.1.2"));
    assert!(!service.wants_offers());
    assert_eq!(told(&mut service, 1, &first, TaskState::Running).len(), 1);
    let effects = told(&mut service, 1, &second, TaskState::Running);
    assert!(matches!(
        effects[..],
        [Effect::Tell(Event::Running { replica: 1, .. }), Effect::Tell(Event::Complete { replicas: 2 })]
    ));
    assert_eq!(told(&mut service, 2, &second, TaskState::Running), [], "a repeated update is no news");
    assert_eq!(service.running(), 2);
}

#[test]
fn a_replica_with_a_health_check_counts_only_while_it_is_healthy() {
    let policy = Policy { checked: true, ..POLICY };
    let mut service = ServiceState::new(1, policy, Table::new("web"));
    let task = place(&mut service, 0);
    let mut told = |healthy: Option<bool>| {
        let findings = Findings { healthy, check: None };
        let mut effects = Vec::new();
        let status = TaskStatus { findings, ..status(&task, TaskState::Running) };
        service.update(&status, at(1), &mut effects);
        (service.running(), effects)
    };
    assert_eq!(told(None), (0, Vec::new()), "nobody knows yet");
    assert_eq!(told(Some(false)), (0, Vec::new()), "it was not healthy before either");
    let (running, effects) = told(Some(true));
    assert!(
        matches!(effects[..], [Effect::Tell(Event::Running { .. }), Effect::Tell(Event::Complete { .. })]),
        "{effects:?}"
    );
    assert_eq!(running, 1);
    let (running, effects) = told(Some(false));
    assert!(matches!(effects[..], [Effect::Tell(Event::Unhealthy { replica: 0, .. })]), "{effects:?}");
    assert_eq!((running, told(Some(true)).0, told(None).0), (0, 1, 1));
    // A new scheduler asks, and a new master does not know of its health: what was running counts until its agent says otherwise.
    let mut again = ServiceState::new(1, policy, service.table().clone());
    let found = TaskStatus { source: Source::Master, ..status(&task, TaskState::Running) };
    again.update(&found, at(9), &mut Vec::new());
    assert_eq!(again.running(), 1);
}

#[test]
fn restarts_pause_longer_each_time_until_a_run_was_stable() {
    let (mut service, tasks) = running(1);
    let mut task = tasks[0].clone();
    let mut now = 1;
    for pause in [1, 2, 4, 8, 8] {
        told(&mut service, now, &task, TaskState::Failed);
        assert_eq!(service.next_deadline(), Some(at(now + pause)));
        assert!(!service.wants_offers(), "it pauses");
        now += pause;
        tick(&mut service, now);
        task = place(&mut service, 0);
        told(&mut service, now, &task, TaskState::Running);
    }
    now += 60;
    told(&mut service, now, &task, TaskState::Finished);
    assert_eq!(service.next_deadline(), Some(at(now + 1)), "after a stable run it begins anew");
}

#[test]
fn what_is_lost_with_its_agent_starts_again_without_a_longer_pause() {
    let (mut service, tasks) = running(1);
    told(&mut service, 1, &tasks[0], TaskState::Gone);
    tick(&mut service, 2);
    let next = place(&mut service, 0);
    told(&mut service, 3, &next, TaskState::Dropped);
    assert_eq!(service.next_deadline(), Some(at(4)));
    tick(&mut service, 4);
    let next = place(&mut service, 0);
    let unseen = TaskStatus { reason: Some(Reason::ContainerLost), ..status(&next, TaskState::Failed) };
    service.update(&unseen, at(5), &mut Vec::new());
    assert_eq!(service.next_deadline(), Some(at(6)), "its machine started anew");
    tick(&mut service, 6);
    let next = place(&mut service, 0);
    let drained = TaskStatus { reason: Some(Reason::AgentDraining), ..status(&next, TaskState::Killed) };
    service.update(&drained, at(6), &mut Vec::new());
    assert_eq!(service.next_deadline(), Some(at(7)), "its agent was drained");
    tick(&mut service, 7);
    let next = place(&mut service, 0);
    told(&mut service, 8, &next, TaskState::Failed);
    assert_eq!(service.next_deadline(), Some(at(9)), "none of these ends has counted");
}

#[test]
fn an_unreachable_replica_is_replaced_after_a_while_and_killed_when_it_returns() {
    let (mut service, tasks) = running(1);
    let effects = told(&mut service, 10, &tasks[0], TaskState::Unreachable);
    assert!(matches!(effects[..], [Effect::Tell(Event::Unreachable { replica: 0, replace_ms: 30_000, .. })]));
    assert_eq!(service.running(), 0);
    assert!(!service.wants_offers(), "it may return");
    assert_eq!(tick(&mut service, 39), []);
    assert!(matches!(tick(&mut service, 40)[..], [Effect::Tell(Event::Replaced { replica: 0, .. })]));
    assert!(service.wants_offers());
    let next = place(&mut service, 0);
    let back = told(&mut service, 50, &tasks[0], TaskState::Running);
    assert_eq!(back[0], Effect::Kill(tasks[0].clone()));
    assert_eq!(service.tasks().len(), 2, "until its end it is asked for");
    told(&mut service, 51, &tasks[0], TaskState::Killed);
    let left: Vec<_> = service.tasks().into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [next]);
}

#[test]
fn an_unreachable_replica_that_returns_in_time_stays() {
    let (mut service, tasks) = running(1);
    told(&mut service, 10, &tasks[0], TaskState::Unreachable);
    let effects = told(&mut service, 39, &tasks[0], TaskState::Running);
    assert!(matches!(
        effects[..],
        [Effect::Tell(Event::Running { .. }), Effect::Tell(Event::Complete { .. })]
    ));
    assert_eq!(tick(&mut service, 100), []);
    assert_eq!(service.running(), 1);
}

#[test]
fn a_restarted_scheduler_adopts_what_runs_and_launches_only_what_is_missing() {
    let (mut service, tasks) = running(3);
    told(&mut service, 1, &tasks[1], TaskState::Failed);
    let mut again = ServiceState::new(3, POLICY, service.table().clone());
    assert_eq!(again.ready(), [1]);
    assert_eq!(again.tasks().len(), 2);
    assert_eq!(place(&mut again, 1).as_str(), "web.1.4", "no id is used twice");
    assert!(matches!(
        told(&mut again, 5, &tasks[0], TaskState::Running)[..],
        [Effect::Tell(Event::Running { replica: 0, .. })]
    ));
    told(&mut again, 5, &tasks[2], TaskState::Unknown);
    tick(&mut again, 6);
    assert_eq!(again.ready(), [2], "one that is gone is launched again");
}

#[test]
fn replicas_that_are_not_heard_of_are_told_and_not_replaced() {
    let (service, tasks) = running(3);
    let mut again = ServiceState::new(3, POLICY, service.table().clone());
    again.subscribed(FrameworkId::new("f1").unwrap(), at(100), &mut Vec::new());
    told(&mut again, 101, &tasks[1], TaskState::Running);
    assert_eq!(tick(&mut again, 109), []);
    assert_eq!(tick(&mut again, 110), [Effect::Tell(Event::Silent { replicas: vec![0, 2] })]);
    assert_eq!((tick(&mut again, 1000), again.ready()), (vec![], vec![]));

    let mut again = ServiceState::new(3, POLICY, Table::new("web"));
    again.subscribed(FrameworkId::new("f1").unwrap(), at(100), &mut Vec::new());
    assert_eq!(again.next_deadline(), None, "of a new service nothing is expected");
}

#[test]
fn another_number_of_replicas_is_reached_from_either_side() {
    let (service, tasks) = running(3);
    let mut fewer = ServiceState::new(1, POLICY, service.table().clone());
    let mut effects = Vec::new();
    fewer.subscribed(FrameworkId::new("f1").unwrap(), at(0), &mut effects);
    let killed: Vec<_> = effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Kill(id) => Some(id.clone()),
            Effect::Tell(_) => None,
        })
        .collect();
    assert_eq!(killed, tasks[1..]);
    assert_eq!(told(&mut fewer, 1, &tasks[2], TaskState::Running), [], "that it still runs is no news");
    let effects = told(&mut fewer, 1, &tasks[2], TaskState::Killed);
    assert_eq!(effects, [Effect::Tell(Event::Stopped { replica: 2 })]);
    assert!(!fewer.wants_offers());

    let more = ServiceState::new(5, POLICY, service.table().clone());
    assert_eq!(more.ready(), [3, 4]);
}

fn scale(service: &mut ServiceState, replicas: u32) -> Vec<Effect> {
    let mut effects = Vec::new();
    service.scale(replicas, &mut effects);
    effects
}

#[test]
fn fewer_replicas_are_reached_by_killing_the_highest_numbers() {
    let (mut service, tasks) = running(3);
    let effects = scale(&mut service, 1);
    let killed = effects.iter().filter_map(|effect| match effect {
        Effect::Kill(id) => Some(id),
        Effect::Tell(_) => None,
    });
    assert!(killed.eq(&tasks[1..]), "{effects:?}");
    assert_eq!(effects[0], Effect::Tell(Event::Scaled { replicas: 1 }));
    assert_eq!(effects.last(), Some(&Effect::Tell(Event::Complete { replicas: 1 })));
    assert_eq!(
        told(&mut service, 1, &tasks[1], TaskState::Killed),
        [Effect::Tell(Event::Stopped { replica: 1 })]
    );
    told(&mut service, 1, &tasks[2], TaskState::Killed);
    assert_eq!((tick(&mut service, 1000), service.wants_offers()), (vec![], false), "none is replaced");
    assert_eq!(service.running(), 1);
}

#[test]
fn none_at_all_may_be_wanted_and_more_again() {
    let mut service = ServiceState::new(2, POLICY, Table::new("web"));
    let first = place(&mut service, 0);
    let effects = scale(&mut service, 0);
    assert!(effects.contains(&Effect::Kill(first.clone())), "{effects:?}");
    assert!(effects.contains(&Effect::Tell(Event::Stopped { replica: 1 })), "it had no task: {effects:?}");
    assert!(!service.wants_offers());
    assert_eq!(scale(&mut service, 0).iter().filter(|effect| matches!(effect, Effect::Kill(_))).count(), 0);
    scale(&mut service, 3);
    assert_eq!(service.ready(), [1, 2], "the first has a task until that has ended");
    told(&mut service, 1, &first, TaskState::Running);
    assert_eq!(service.running(), 0, "it is being killed");
    told(&mut service, 2, &first, TaskState::Killed);
    tick(&mut service, 3);
    assert_eq!(service.ready(), [0, 1, 2]);
}

#[test]
fn an_ordered_number_holds_until_the_description_says_another() {
    let (mut service, _) = running(3);
    scale(&mut service, 5);
    let again = ServiceState::new(3, POLICY, service.table().clone());
    assert_eq!(again.ready(), [3, 4], "the same description: the order stands");
    let mut other = ServiceState::new(4, POLICY, service.table().clone());
    assert_eq!((other.ready(), other.table().scaled), (vec![3], None), "another one: it is what counts");
    scale(&mut other, 6);
    scale(&mut other, 4);
    assert_eq!(other.table().scaled, None, "the description's own number is no exception from it");
}

#[test]
fn a_task_that_nobody_knows_is_killed() {
    let (mut service, _) = running(1);
    let forgotten = TaskId::new("web.9.99").unwrap();
    let effects = told(&mut service, 1, &forgotten, TaskState::Running);
    assert_eq!(
        effects,
        [Effect::Kill(forgotten.clone()), Effect::Tell(Event::Unwanted { task_id: forgotten.clone() })]
    );
    assert_eq!(told(&mut service, 2, &forgotten, TaskState::Killed), []);
    assert!(service.table().strays.is_empty());
}

/// What may happen in a cluster.
#[derive(Debug, Clone)]
enum Move {
    /// Offers come: everything that is ready is launched.
    Place,
    /// The scheduler dies between storing its table and launching what it stored.
    PlaceAndDie,
    /// A task tells its state.
    Report(prop::sample::Index),
    /// A task ends by itself.
    Exit(prop::sample::Index),
    /// The master loses the agent of a task.
    Lose(prop::sample::Index),
    /// The agent of a task returns.
    Return(prop::sample::Index),
    /// A kill arrives.
    Die(prop::sample::Index),
    Wait(u64),
    /// The scheduler starts again from what it stored, with another number of replicas.
    Restart(u32),
    /// Another number of replicas is ordered while it runs.
    Scale(u32),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let task = any::<prop::sample::Index>;
    let one = prop_oneof![
        6 => Just(Move::Place),
        1 => Just(Move::PlaceAndDie),
        8 => task().prop_map(Move::Report),
        3 => task().prop_map(Move::Exit),
        2 => task().prop_map(Move::Lose),
        2 => task().prop_map(Move::Return),
        4 => task().prop_map(Move::Die),
        5 => (0u64..50).prop_map(Move::Wait),
        2 => (0u32..6).prop_map(Move::Restart),
        2 => (0u32..6).prop_map(Move::Scale),
    ];
    prop::collection::vec(one, 0..150)
}

/// A task as it truly is.
#[derive(Debug, Clone, Default)]
struct Truth {
    alive: bool,
    lost: bool,
    /// Somebody wished its end.
    killed: bool,
    ended_as: Option<TaskState>,
}

struct World {
    service: ServiceState,
    described: u32,
    wanted: u32,
    now: u64,
    tasks: BTreeMap<TaskId, Truth>,
}

impl World {
    fn new(wanted: u32) -> Self {
        let service = ServiceState::new(wanted, POLICY, Table::new("web"));
        Self { service, described: wanted, wanted, now: 0, tasks: BTreeMap::new() }
    }

    fn obey(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            if let Effect::Kill(id) = effect {
                self.tasks.entry(id).or_default().killed = true;
            }
        }
    }

    fn tell(&mut self, id: &TaskId, state: TaskState) {
        let effects = told(&mut self.service, self.now, id, state);
        self.obey(effects);
    }

    fn report(&mut self, id: &TaskId) {
        let state = match self.tasks.get(id) {
            Some(Truth { lost: true, .. }) => TaskState::Unreachable,
            Some(Truth { alive: true, .. }) => TaskState::Running,
            Some(Truth { ended_as: Some(state), .. }) => *state,
            _ => TaskState::Unknown,
        };
        self.tell(id, state);
    }

    fn place(&mut self) {
        for number in self.service.ready() {
            let id = place(&mut self.service, number);
            let fresh = self.tasks.insert(id.clone(), Truth { alive: true, ..Truth::default() });
            assert!(fresh.is_none(), "{id} was used twice");
        }
    }

    fn end(&mut self, id: &TaskId, state: TaskState) {
        let truth = self.tasks.get_mut(id).unwrap();
        if truth.alive && !truth.lost {
            (truth.alive, truth.ended_as) = (false, Some(state));
            self.tell(id, state);
        }
    }

    /// Starts again, with a description that says so many.
    fn restart(&mut self, described: u32) {
        if described != self.described {
            (self.described, self.wanted) = (described, described);
        }
        self.service = ServiceState::new(described, POLICY, self.service.table().clone());
        let mut effects = Vec::new();
        self.service.subscribed(FrameworkId::new("f1").unwrap(), at(self.now), &mut effects);
        self.obey(effects);
        for (id, _) in self.service.tasks() {
            self.report(&id);
        }
    }

    fn step(&mut self, next: &Move) {
        let pick = |which: &prop::sample::Index| {
            let ids: Vec<_> = self.tasks.keys().cloned().collect();
            (!ids.is_empty()).then(|| which.get(&ids).clone())
        };
        match next {
            Move::Place => self.place(),
            Move::PlaceAndDie => {
                for number in self.service.ready() {
                    place(&mut self.service, number);
                }
                self.restart(self.described);
            }
            Move::Report(which) => _ = pick(which).map(|id| self.report(&id)),
            Move::Exit(which) => _ = pick(which).map(|id| self.end(&id, TaskState::Failed)),
            Move::Lose(which) => {
                if let Some(id) = pick(which).filter(|id| self.tasks[id].alive) {
                    self.tasks.get_mut(&id).unwrap().lost = true;
                    self.report(&id);
                }
            }
            Move::Return(which) => {
                if let Some(id) = pick(which) {
                    self.tasks.get_mut(&id).unwrap().lost = false;
                    self.report(&id);
                }
            }
            Move::Die(which) => {
                if let Some(id) = pick(which).filter(|id| self.tasks[id].killed) {
                    self.end(&id, TaskState::Killed);
                }
            }
            Move::Wait(seconds) => {
                self.now += seconds;
                let effects = tick(&mut self.service, self.now);
                self.obey(effects);
            }
            Move::Restart(described) => self.restart(*described),
            Move::Scale(wanted) => {
                self.wanted = *wanted;
                let effects = scale(&mut self.service, *wanted);
                self.obey(effects);
            }
        }
        self.check();
    }

    fn check(&self) {
        let placed = &self.service.table().placed;
        let mine: BTreeSet<_> = placed.values().map(|placed| placed.task_id.clone()).collect();
        assert_eq!(mine.len(), placed.len(), "one task is two replicas");
        // Whatever is alive is a replica, is being killed, or cannot be reached and will be killed when it is heard of.
        for (id, truth) in &self.tasks {
            if truth.alive && !mine.contains(id) {
                assert!(
                    truth.killed || self.service.table().strays.contains(id),
                    "{id} runs and is forgotten: {truth:?}"
                );
            }
        }
        let surplus = placed
            .range(self.wanted..)
            .filter(|(_, placed)| self.tasks.get(&placed.task_id).is_some_and(|t| t.alive && !t.killed));
        assert_eq!(surplus.count(), 0, "one too many is not being killed");
        assert!(placed.range(..self.wanted).count() <= self.wanted as usize);
    }
}

proptest! {
    #[test]
    fn never_too_many_and_in_the_end_exactly_as_many_as_wanted(wanted in 0u32..6, moves in moves()) {
        let mut world = World::new(wanted);
        for next in &moves {
            world.step(next);
        }
        // From here on the cluster behaves: agents return, kills arrive, what is launched runs.
        for _ in 0..4 {
            for id in world.tasks.keys().cloned().collect::<Vec<_>>() {
                world.tasks.get_mut(&id).unwrap().lost = false;
                world.report(&id);
                if world.tasks[&id].killed {
                    world.end(&id, TaskState::Killed);
                }
            }
            world.step(&Move::Wait(60));
            world.step(&Move::Place);
        }
        for id in world.tasks.keys().cloned().collect::<Vec<_>>() {
            world.report(&id);
        }
        let alive = world.tasks.values().filter(|truth| truth.alive).count();
        prop_assert_eq!(alive, world.wanted as usize);
        prop_assert_eq!(world.service.running(), world.wanted);
        prop_assert!(world.service.table().strays.is_empty());
    }
}

#[test]
fn replicas_are_moved_away_one_after_the_other_while_all_run() {
    let (mut service, tasks) = running(3);
    let moves = |effects: &[Effect]| {
        let kills = effects.iter().filter_map(|effect| match effect {
            Effect::Kill(task_id) => Some(task_id.to_string()),
            Effect::Tell(_) => None,
        });
        kills.collect::<Vec<_>>()
    };
    let mut effects = Vec::new();
    service.leave(agent("a2"), &mut effects);
    assert_eq!(effects, [], "nothing is there");
    service.leave(agent("a1"), &mut effects);
    assert_eq!(moves(&effects), [tasks[0].as_str()]);
    // Asked again, the next one still waits until the first runs elsewhere.
    effects.clear();
    service.leave(agent("a1"), &mut effects);
    assert_eq!(moves(&told(&mut service, 1, &tasks[1], TaskState::Running)), [""; 0]);
    let ended = told(&mut service, 1, &tasks[0], TaskState::Killed);
    assert_eq!((moves(&effects), moves(&ended)), (Vec::new(), Vec::new()));
    tick(&mut service, 2);
    let elsewhere = service.place(0, agent("a3"), "three".into(), Vec::new());
    let running = told(&mut service, 3, &elsewhere, TaskState::Running);
    assert_eq!(moves(&running), [tasks[1].as_str()]);
    assert!(running.iter().any(|effect| matches!(effect, Effect::Tell(Event::Moving { replica: 1, .. }))));
}
