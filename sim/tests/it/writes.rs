//! Processes are killed at writes.

use std::time::Duration;

use apportion_sdk::{Context, Offer, Scheduler, Task, TaskId, TaskState, TaskStatus, async_trait};
use apportion_sim::{Behaviour, Cluster, Framework, Handle, KillAt, Sim, Store, find, find_at_every_write};

use super::support::small;

const HOUR: Duration = Duration::from_secs(3600);

fn history(seed: u64, kill: Option<KillAt>) -> (Vec<String>, u64) {
    let cluster = small().0;
    let cluster = match kill {
        Some(write) => cluster.kill_at(write),
        None => cluster,
    };
    let mut sim = cluster.start_with_history(seed);
    sim.run_until_idle(HOUR).unwrap();
    (sim.history().to_vec(), sim.writes())
}

#[test]
fn up_to_the_write_it_is_the_run_without_it_and_the_same_each_time() {
    let (whole, writes) = history(3, None);
    assert!(writes > 50, "{writes}");
    let mut before = 0;
    for write in [1, writes / 4, writes / 2, writes] {
        for kill in [KillAt::Before(write), KillAt::After(write)] {
            let (killed, _) = history(3, Some(kill));
            assert_eq!(killed, history(3, Some(kill)).0);
            let same = whole.iter().zip(&killed).take_while(|(a, b)| a == b).count();
            assert!(same >= before && same < whole.len(), "{kill}: {same} of {} lines", whole.len());
            assert!(killed[same].contains("fault: crash "), "{kill}: {}", killed[same]);
            before = same;
        }
    }
    assert_eq!(history(3, Some(KillAt::After(1_000_000))).0, whole);
}

/// Stores that it has launched its task, and only then which: dead between the two, it waits for ever.
struct Careless {
    store: Store,
    launched: bool,
    finished: bool,
}

impl Careless {
    fn new(store: &Store) -> Self {
        let is = |name| store.load(name).is_some();
        Self { store: store.clone(), launched: is("launched"), finished: is("finished") }
    }
}

#[async_trait]
impl Scheduler for Careless {
    type Message = ();

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            if !std::mem::replace(&mut self.launched, true) {
                self.store.save("launched", "");
                self.store.save("task", "job");
                offer.launch(Task::new("job").command(["job"]).cpus(1.0).build().unwrap()).unwrap();
            }
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        match status.state {
            TaskState::Finished => {
                self.finished = true;
                self.store.save("finished", "");
            }
            // It was launched, and never was there.
            state if state.is_terminal() => self.launched = false,
            _ => {}
        }
    }

    fn wants_offers(&self) -> bool {
        !self.launched
    }

    fn tasks(&self) -> Vec<(TaskId, Option<apportion_sdk::AgentId>)> {
        let task = self.store.load("task").filter(|_| !self.finished);
        task.map(|_| (TaskId::new("job").unwrap(), None)).into_iter().collect()
    }
}

#[test]
fn a_scheduler_that_must_not_die_between_two_writes_is_found() {
    let build = || {
        let mut cluster = Cluster::new()
            .agents(1, "cpus:1;mem:128")
            .workload(|_, _| Behaviour::succeeds_after(Duration::from_secs(5)));
        let careless = cluster.add(Framework::stored("careless", Careless::new));
        (cluster, careless)
    };
    let story = |sim: &mut Sim, careless: &Handle<Careless>| {
        sim.run_until_idle(HOUR)?;
        match sim.scheduler(*careless).is_some_and(|scheduler| scheduler.finished) {
            true => Ok(()),
            false => Err(sim.failure("the task has not finished")),
        }
    };
    let searched = find([1], build, story).unwrap_or_else(|found| panic!("{found}"));
    assert!(searched.writes > 5, "{searched:?}");
    let found = find_at_every_write([1], build, story).unwrap_err();
    assert_eq!(found.failure.check, "story");
    let told = found.to_string();
    assert!(told.contains("when the process that writes is killed "), "{told}");
    let killed = found.killed.unwrap();
    assert!(
        matches!(killed, KillAt::After(write) | KillAt::Before(write) if write < searched.writes),
        "{killed}"
    );
}
