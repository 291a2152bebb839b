//! The laws, over random clusters, restarts and updates:
//!
//! - There are never more tasks that may live than replicas, surge and canaries together; nothing is launched for what was removed.
//! - Nothing that is done makes fewer replicas ready than may be missing.
//! - An update ends, complete or rolled back, and then there are exactly as many as wanted.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{at, spot, status, stored, web};
use crate::{
    balancer::Listener,
    scale::{Measured, Traffic, spec::ScaleTable},
    spec::{Share, Spec, Update},
    state::*,
};

/// What may happen in a cluster.
#[derive(Debug, Clone)]
enum Move {
    /// Offers come: everything that is to be launched is, on one of three agents.
    Place(u8),
    /// The scheduler dies between storing its table and launching what it stored.
    PlaceAndDie,
    /// A task tells its state.
    Report(prop::sample::Index),
    ReportAll,
    /// A task ends by itself.
    Exit(prop::sample::Index),
    /// The master loses the agent of a task.
    Lose(prop::sample::Index),
    /// The agent of a task returns.
    Return(prop::sample::Index),
    /// A kill arrives.
    Die(prop::sample::Index),
    Wait(u64),
    Restart,
    Scale(u32),
    /// So many requests come, each second.
    Measure(u8),
    /// Another description, whose replicas work or do not.
    Describe(u8, bool, Update),
    RollBack,
    Again,
    Promote,
    Leave(u8),
    Stay(u8),
    Remove,
    /// Clients have finished with a task, be it one that is to end or not.
    Drained(prop::sample::Index),
}

fn updates() -> impl Strategy<Value = Update> {
    let share = || prop_oneof![(0u32..3).prop_map(Share::Count), (0u32..=100).prop_map(Share::Percent)];
    let bounds = (share(), share()).prop_filter("one of them", |(surge, unavailable)| {
        [surge, unavailable].iter().any(|share| !matches!(share, Share::Count(0) | Share::Percent(0)))
    });
    (bounds, prop_oneof![Just(Share::Count(0)), share()], 0u64..20).prop_map(
        |((surge, unavailable), canary, healthy)| Update {
            max_surge: surge,
            max_unavailable: unavailable,
            canary,
            promote_after: Some(Duration::from_secs(30)),
            min_healthy: Duration::from_secs(healthy),
            progress_deadline: Duration::from_secs(100),
            auto_rollback: true,
        },
    )
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let task = any::<prop::sample::Index>;
    let one = prop_oneof![
        8 => (0u8..3).prop_map(Move::Place),
        1 => Just(Move::PlaceAndDie),
        4 => task().prop_map(Move::Report),
        6 => Just(Move::ReportAll),
        2 => task().prop_map(Move::Exit),
        1 => task().prop_map(Move::Lose),
        2 => task().prop_map(Move::Return),
        6 => task().prop_map(Move::Die),
        6 => (0u64..50).prop_map(Move::Wait),
        1 => Just(Move::Restart),
        1 => (1u32..6).prop_map(Move::Scale),
        3 => (0u8..80).prop_map(|load| Move::Measure(load.saturating_sub(20))),
        2 => (0u8..4, prop::bool::weighted(0.7), updates()).prop_map(|(kind, works, update)| Move::Describe(kind, works, update)),
        1 => Just(Move::RollBack),
        1 => Just(Move::Again),
        1 => Just(Move::Promote),
        4 => task().prop_map(Move::Drained),
        1 => (0u8..3).prop_map(Move::Leave),
        1 => (0u8..3).prop_map(Move::Stay),
        1 => prop::bool::weighted(0.2).prop_map(|remove| if remove { Move::Remove } else { Move::ReportAll }),
    ];
    prop::collection::vec(one, 0..120)
}

/// A task as it truly is.
#[derive(Debug, Clone, Default)]
struct Truth {
    alive: bool,
    lost: bool,
    /// Somebody wished its end.
    killed: bool,
    /// Its kind does not work: it ends as soon as it is looked at.
    broken: bool,
    ended_as: Option<TaskState>,
}

/// No more by what is measured.
const REPLICAS_MAX: u32 = 5;

/// Each replica bears ten requests each second. It never sleeps: of none at all every revision is complete, be it ever so broken.
fn scaled(replicas: u32) -> Spec {
    let table = format!(
        "min = 1\nmax = {REPLICAS_MAX}\ndown_after = '30s'\nidle_after = '30s'\n[[rule]]\nmetric = 'requests'\ntarget = 10\n"
    );
    let scale = toml::from_str::<ScaleTable>(&table).unwrap().checked(100).unwrap();
    Spec { scale: Some(scale), ..web(replicas) }
}

struct World {
    services: Services,
    now: u64,
    tasks: BTreeMap<TaskId, Truth>,
}

fn agent(number: u8) -> AgentId {
    AgentId::new(format!("a{number}")).unwrap()
}

impl World {
    fn new(replicas: u32) -> Self {
        let mut world = Self { services: Services::default(), now: 0, tasks: BTreeMap::new() };
        world.services.subscribed(FrameworkId::new("f1").unwrap(), at(0), &mut Vec::new());
        world.describe(Spec { argv: vec!["works".into(), "first".into()], ..scaled(replicas) });
        world
    }

    fn describe(&mut self, spec: Spec) {
        self.told(|services, now, effects| {
            services.apply(vec![Arc::new(spec)], false, now, effects).unwrap();
        });
    }

    /// Tells the services something, and holds what they decide to the laws.
    fn told(&mut self, tell: impl FnOnce(&mut Services, Time, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        let before = self.services.table().placed.clone();
        tell(&mut self.services, at(self.now), &mut effects);
        let table = self.services.table();
        for (task_id, placed) in &table.placed {
            let decided = placed.doomed && before.get(task_id).is_some_and(|placed| !placed.doomed);
            let Some(app) = table.apps.get("web").filter(|_| decided) else { continue };
            let replicas = app.replicas();
            let instance = &self.services.instances[task_id];
            // A replica is ready as long as one of its tasks is.
            let another = table.placed.iter().any(|(id, other)| {
                !other.doomed
                    && other.replica == placed.replica
                    && self.services.instances[id].ready_since.is_some()
            });
            if placed.replica < replicas && instance.ready_since.is_some() && !another {
                let least = replicas - app.described.update.unavailable(replicas);
                let ready = self.services.running();
                assert!(ready >= least, "{task_id} is killed with {ready} of {least} ready");
            }
        }
        for effect in &effects {
            if let Effect::Kill(id) = effect {
                let wanted = self.services.table().placed.get(id).is_some_and(|placed| !placed.doomed);
                assert!(!wanted, "{id} is killed, and was not doomed");
                self.tasks.entry(id.clone()).or_default().killed = true;
            }
        }
        assert_eq!(self.services.view().len(), self.services.table().apps.len());
    }

    fn tell(&mut self, id: &TaskId, state: TaskState) {
        self.told(|services, now, effects| services.update(&status(id, state), now, effects));
    }

    fn report(&mut self, id: &TaskId) {
        let state = match self.tasks.get_mut(id) {
            Some(Truth { lost: true, .. }) => TaskState::Unreachable,
            Some(truth @ Truth { alive: true, broken: true, .. }) => {
                (truth.alive, truth.ended_as) = (false, Some(TaskState::Failed));
                TaskState::Failed
            }
            Some(Truth { alive: true, .. }) => TaskState::Running,
            Some(Truth { ended_as: Some(state), .. }) => *state,
            _ => TaskState::Unknown,
        };
        self.tell(id, state);
    }

    fn report_all(&mut self) {
        for id in self.tasks.keys().cloned().collect::<Vec<_>>() {
            self.report(&id);
        }
    }

    fn place(&mut self, on: u8, launch: bool) {
        let usable = (0..3).map(|more| agent((on + more) % 3)).find(|agent| !self.services.leaves(agent));
        let Some(on) = usable else { return };
        for wanted in self.services.ready() {
            let spec = Arc::clone(self.services.spec(&wanted));
            let id = self.services.place(&wanted, spot(on.as_str()));
            let app = &self.services.table().apps["web"];
            assert!(!app.removed, "{id} is launched for what was removed");
            let most = app.replicas() + app.described.update.surge(app.replicas()) + app.canaries();
            let replicas = app.replicas();
            let wanted = |placed: &&Placed| placed.replica < replicas;
            let living = self.services.table().placed.values().filter(wanted).count();
            assert!(living <= most as usize, "{id} is launched as number {living} of {most}");
            if launch {
                let truth = Truth { alive: true, broken: spec.argv[0] == "broken", ..Truth::default() };
                assert!(self.tasks.insert(id.clone(), truth).is_none(), "{id} was used twice");
            }
        }
        self.told(|services, now, effects| services.settle_all(now, effects));
    }

    fn end(&mut self, id: &TaskId, state: TaskState) {
        let truth = self.tasks.get_mut(id).unwrap();
        if truth.alive && !truth.lost {
            (truth.alive, truth.ended_as) = (false, Some(state));
            self.tell(id, state);
        }
    }

    fn restart(&mut self) {
        self.services = Services::new(Table::load(stored(self.services.table())).unwrap());
        self.told(|services, now, effects| {
            services.subscribed(FrameworkId::new("f1").unwrap(), now, effects);
        });
        for (id, _) in self.services.tasks() {
            self.report(&id);
        }
    }

    fn step(&mut self, next: &Move) {
        let pick = |which: &prop::sample::Index| {
            let ids: Vec<_> = self.tasks.keys().cloned().collect();
            (!ids.is_empty()).then(|| which.get(&ids).clone())
        };
        match next {
            Move::Place(on) => self.place(*on, true),
            Move::PlaceAndDie => {
                self.place(0, false);
                self.restart();
            }
            Move::Report(which) => _ = pick(which).map(|id| self.report(&id)),
            Move::ReportAll => self.report_all(),
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
                let killed: Vec<_> = self
                    .tasks
                    .iter()
                    .filter(|(_, it)| it.killed && it.alive)
                    .map(|(id, _)| id.clone())
                    .collect();
                if !killed.is_empty() {
                    self.end(which.get(&killed), TaskState::Killed);
                }
            }
            Move::Wait(seconds) => self.wait(*seconds),
            Move::Restart => self.restart(),
            Move::Scale(replicas) => {
                self.told(|services, now, effects| _ = services.scale("web", *replicas, now, effects));
            }
            Move::Measure(load) => {
                let load = f64::from(*load);
                let traffic = Traffic { requests_per_second: load, busy: load > 0.0, ..Traffic::default() };
                let measured =
                    [Measured { service: "web".into(), traffic: Some(traffic), ..Measured::default() }];
                let before = self.services.table().apps.get("web").map(App::replicas);
                self.told(|services, now, effects| services.measured(&measured, now, effects));
                let after = self.services.table().apps.get("web").map(App::replicas);
                assert!(before == after || after.is_some_and(|after| after <= REPLICAS_MAX), "{after:?}");
            }
            Move::Describe(kind, works, update) => {
                let replicas = self.services.table().apps.get("web").map_or(2, |app| app.described.replicas);
                let word = if *works { "works" } else { "broken" };
                let argv = vec![word.to_owned(), kind.to_string()];
                // Half of the kinds are led clients to.
                let balancer = (kind % 2 == 0).then(|| Listener::new(([127, 0, 0, 1], 80).into()));
                self.describe(Spec { argv, update: *update, balancer, ..scaled(replicas) });
            }
            Move::RollBack => {
                self.told(|services, now, effects| _ = services.roll_back("web", None, now, effects))
            }
            Move::Again => self.told(|services, now, effects| _ = services.restart("web", now, effects)),
            Move::Promote => self.told(|services, now, effects| _ = services.promote("web", now, effects)),
            Move::Leave(number) => {
                self.told(|services, now, effects| services.leave(agent(*number), now, effects));
            }
            Move::Stay(number) => {
                self.told(|services, now, effects| services.stay(&agent(*number), now, effects));
            }
            Move::Drained(which) => {
                if let Some(id) = pick(which) {
                    self.told(|services, _, effects| services.drained(&id, effects));
                }
            }
            Move::Remove => {
                self.told(|services, now, effects| _ = services.remove(&["web".into()], now, effects))
            }
        }
        self.check();
    }

    fn wait(&mut self, seconds: u64) {
        self.now += seconds;
        self.told(|services, now, effects| services.tick(now, effects));
        let due = self.services.next_deadline();
        assert!(due.is_none_or(|due| due > at(self.now)), "it is not done with {due:?} at {}", self.now);
    }

    /// Whatever is alive is a replica, is being killed, or cannot be reached and will be killed when it is heard of.
    fn check(&self) {
        let table = self.services.table();
        for (id, truth) in self.tasks.iter().filter(|(id, it)| it.alive && !table.placed.contains_key(*id)) {
            assert!(truth.killed || table.strays.contains(id), "{id} runs and is forgotten: {truth:?}");
        }
        for (id, _) in table.placed.iter().filter(|(_, placed)| placed.doomed) {
            assert!(
                self.tasks.get(id).is_none_or(|truth| truth.killed)
                    || self.services.instances[id].drain.due().is_some(),
                "{id} is doomed, and nobody was told"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 150 } else { 2000 }))]

    #[test]
    fn the_laws_hold_whatever_happens(replicas in 1u32..6, moves in moves()) {
        let mut world = World::new(replicas);
        for next in &moves {
            world.step(next);
        }
        // From here on the cluster behaves: agents return, kills arrive, what is launched runs if it works.
        let first_works = world.services.table().apps.get("web").is_none_or(|app| !app.good.is_empty());
        for round in 0..120 {
            for id in world.tasks.keys().cloned().collect::<Vec<_>>() {
                world.tasks.get_mut(&id).unwrap().lost = false;
                if world.tasks[&id].alive || world.services.table().strays.contains(&id) || round == 0 {
                    world.report(&id);
                }
                if world.tasks[&id].killed {
                    world.end(&id, TaskState::Killed);
                }
            }
            world.step(&Move::Wait(10));
            world.step(&Move::Stay(0));
            world.step(&Move::Place(0));
        }
        let alive = world.tasks.values().filter(|truth| truth.alive).count();
        match world.services.table().apps.get("web") {
            None => prop_assert_eq!(alive, 0),
            Some(app) if first_works => {
                prop_assert_eq!(app.phase, Phase::Steady);
                prop_assert_eq!(alive, app.replicas() as usize);
                prop_assert_eq!(world.services.running(), app.replicas());
                prop_assert!(world.services.table().placed.values().all(|placed| placed.revision == app.target));
            }
            // The first one never worked, and there is nothing to go back to.
            Some(_) => {}
        }
        prop_assert!(world.services.table().strays.is_empty());
    }
}
