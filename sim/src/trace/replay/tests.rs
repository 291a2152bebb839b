use std::collections::BTreeSet;

use apportion_sdk::{
    Context, Offer, Scheduler, Task as Description, TaskId, TaskState, TaskStatus, async_trait,
};

use super::*;
use crate::trace::{Waits, Wanted, nodes, tasks};

const NODES: &str = "sn,cpu_milli,memory_mib,gpu,model\na,4000,4096,2,T4\nb,4000,8192,0,\n";

const TASKS: &str = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time,scheduled_time\n\
    first,2000,1024,1,500,T4,LS,1000,1060,1000\n\
    second,4000,5120,0,0,,BE,1000,1100,1000\n\
    third,4000,5120,0,0,,BE,1010,1050,1010\n\
    large,9000,1024,0,0,,BE,1010,1050,1010\n\
    last,2000,1024,1,500,T4,LS,1020,1040,1020\n";

/// How a framework breaks its word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    LaunchesTwice,
    NamesOtherwise,
    AsksForMore,
    IgnoresModels,
}

/// Runs as many tasks as are wanted, wherever they fit first.
struct Simple {
    group: Group,
    ends: Ends,
    fault: Fault,
    wanted: u32,
    launched: u32,
    alive: BTreeSet<TaskId>,
}

impl Simple {
    fn missing(&self) -> u32 {
        match self.ends {
            Ends::Itself => self.wanted - self.launched,
            Ends::WhenTold => self.wanted.saturating_sub(self.alive.len() as u32),
        }
    }
}

#[async_trait]
impl Scheduler for Simple {
    type Message = Wanted;

    async fn offers(&mut self, _: &mut Context<'_>, offers: Vec<Offer>) {
        for mut offer in offers {
            let allowed = self.group.models.is_empty()
                || offer.attribute("model").is_some_and(|model| self.group.models.contains(model));
            while self.missing() > 0 && (allowed || self.fault == Fault::IgnoresModels) {
                let prefix = if self.fault == Fault::NamesOtherwise { "mine" } else { &self.group.name };
                let mut resources = self.group.resources.clone();
                if self.fault == Fault::AsksForMore {
                    resources += &"cpus:0.001".parse().unwrap();
                }
                let task = |copy: &str| {
                    let id = format!("{prefix}.{}{copy}", self.launched);
                    Description::new(id).command(["work"]).resources(&resources).build().unwrap()
                };
                let (one, two) = (task(""), task("-again"));
                let id = one.task_id.clone();
                if offer.launch(one).is_err() {
                    break;
                }
                self.launched += 1;
                self.alive.insert(id);
                if self.fault == Fault::LaunchesTwice {
                    _ = offer.launch(two);
                }
            }
        }
    }

    async fn update(&mut self, _: &mut Context<'_>, status: TaskStatus) {
        if status.state.is_terminal() {
            self.alive.remove(&status.task_id);
        }
        assert_ne!(status.state, TaskState::Failed, "{}", status.message);
    }

    async fn message(&mut self, cx: &mut Context<'_>, wanted: Wanted) {
        self.wanted = wanted.now;
        if self.ends == Ends::WhenTold {
            // Those launched last go first, as of a service that numbers its replicas.
            for task in self.alive.iter().rev().take(self.alive.len().saturating_sub(wanted.now as usize)) {
                cx.kill(task, None);
            }
        }
    }

    fn wants_offers(&self) -> bool {
        self.missing() > 0
    }
}

struct Simples {
    ends: Ends,
    fault: Fault,
}

impl Frameworks for Simples {
    type Scheduler = Simple;

    fn kind(&self) -> &'static str {
        "simple"
    }

    fn ends(&self) -> Ends {
        self.ends
    }

    fn wanted_max(&self) -> u32 {
        2
    }

    fn scheduler(&mut self, group: &Group) -> Result<Simple, String> {
        let (group, ends, fault) = (group.clone(), self.ends, self.fault);
        if group.resources.mem_bytes() == 0 {
            return Err("it runs nothing without memory".to_owned());
        }
        Ok(Simple { group, ends, fault, wanted: 0, launched: 0, alive: BTreeSet::new() })
    }

    fn order(&self, wanted: Wanted) -> Wanted {
        wanted
    }
}

fn replayed(tasks: &str, ends: Ends, fault: Fault, seed: u64) -> Result<Report, ReplayError> {
    let nodes = nodes::parse("n", NODES).unwrap();
    let tasks = tasks::parse("t", tasks).unwrap();
    let options = Options { seed, tail: Duration::from_secs(600), ..Options::default() };
    let mut last = None;
    let report = replay(&nodes, &tasks, &options, &mut Simples { ends, fault }, &mut |progress| {
        assert!(last.is_none_or(|last| last <= progress.simulated) && progress.simulated <= progress.end);
        last = Some(progress.simulated);
    })?;
    assert_eq!(
        last.map(|last| last.as_micros()),
        Some(u128::from(report.simulated_us)),
        "progress is told to the end"
    );
    Ok(report)
}

/// In whole seconds.
fn seconds(micros: u64) -> u64 {
    micros / 1_000_000
}

#[test]
fn jobs_wait_for_room_and_run_for_as_long_as_recorded() {
    let report = replayed(TASKS, Ends::Itself, Fault::None, 1).unwrap();
    let counts = TaskCounts { total: 5, rejected: 1, placed: 4, finished: 4, ..TaskCounts::default() };
    assert_eq!((report.tasks, report.framework.as_str(), report.groups), (counts, "simple", 3));
    // `third` waits from 10 s until `second` leaves `b` at 100 s, and runs for 40 s. That nothing is left is seen ten seconds later
    // at most.
    assert!((140..=150).contains(&seconds(report.simulated_us)), "{}", report.simulated_us);
    let be = &report.roles[0];
    let Waits { p50_us, max_us, .. } = be.wait.unwrap();
    assert!(p50_us < 100_000 && seconds(max_us) == 90, "{p50_us} {max_us}");
    assert!(report.roles[1].wait.unwrap().max_us < 100_000);
    // One after the other they hold half of all cpus.
    let expected = 500_000 * 140 / (report.simulated_us / 1_000_000);
    assert!(
        be.dominant_share.mean_ppm.abs_diff(expected) < 10_000,
        "{} {expected}",
        be.dominant_share.mean_ppm
    );
    assert_eq!((report.used.cpus.peak_ppm, report.used.gpus.peak_ppm), (1_000_000, 500_000));
    let offers = &report.offers;
    assert_eq!(offers.accepted, 4);
    assert_eq!(offers.declined_by_reason.values().sum::<u64>(), offers.declined);
    assert_eq!(offers.made, offers.accepted + offers.declined + offers.rescinded);
}

#[test]
fn services_are_scaled_as_tasks_come_and_go() {
    let report = replayed(TASKS, Ends::WhenTold, Fault::None, 1).unwrap();
    // `third` is not wanted any more when there is room: it goes at 50 s, while `second` is all that `be` has.
    let be =
        TaskCounts { total: 3, rejected: 1, placed: 1, finished: 1, withdrawn: 1, ..TaskCounts::default() };
    assert_eq!(report.roles[0].tasks, be);
    let ls = TaskCounts { total: 2, placed: 2, finished: 2, ..TaskCounts::default() };
    assert_eq!(report.roles[1].tasks, ls);
    assert!((100..=110).contains(&seconds(report.simulated_us)), "{}", report.simulated_us);
    let expected = 500_000 * 100 / (report.simulated_us / 1_000_000);
    let mean = report.roles[0].dominant_share.mean_ppm;
    assert!(mean.abs_diff(expected) < 10_000, "{mean} {expected}");
}

#[test]
fn one_seed_gives_one_report() {
    for ends in [Ends::Itself, Ends::WhenTold] {
        let report = |seed| replayed(TASKS, ends, Fault::None, seed).unwrap();
        assert_eq!(report(7), report(7));
        assert_ne!(report(7).wait, report(8).wait, "messages take other times");
    }
}

#[test]
fn a_framework_is_held_to_its_word() {
    for (fault, message) in [
        (Fault::LaunchesTwice, "-again` was launched, and none was waiting; launch each wanted task once"),
        (
            Fault::NamesOtherwise,
            "group `002-be` does not do what a replay relies on: task `mine.0` was launched; begin",
        ),
        (
            Fault::AsksForMore,
            "task `001-ls.0` asks for `cpus:2.001;mem:1024;gpus:0.5`; ask for the group's resources, \
             `cpus:2;mem:1024;gpus:0.5`",
        ),
    ] {
        let error = replayed(TASKS, Ends::Itself, fault, 1).unwrap_err().to_string();
        assert!(error.contains(message), "{fault:?}: {error}");
    }
    let other = TASKS.replace(",T4,", ",A10|T4,").replace("1,500", "0,0");
    let error = replayed(&other, Ends::Itself, Fault::IgnoresModels, 3).unwrap_err().to_string();
    assert!(
        error.ends_with("was placed on node `b`, whose model of gpu the group does not allow"),
        "{error}"
    );
}

#[test]
fn what_frameworks_cannot_do_is_told_before_the_start() {
    let third = format!("{TASKS}more,2000,1024,1,500,T4,LS,1020,1040,1020\n");
    let error = replayed(&third, Ends::Itself, Fault::None, 1).unwrap_err().to_string();
    assert!(
        error.starts_with("group `001-ls` comes to want 3 tasks of one framework, which can have 2;"),
        "{error}"
    );
    let none = format!("{TASKS}none,2000,0,0,0,,LS,1020,1040,1020\n");
    let error = replayed(&none, Ends::Itself, Fault::None, 1).unwrap_err().to_string();
    assert_eq!(error, "no framework can be made for group `004-ls`: it runs nothing without memory");
}
