//! Removes the sandboxes of tasks that are over: by age, and earlier when the disk fills up.
//!
//! An age counts from when the sandbox was first seen to be over, which a file `.ended-CONTAINER` beside it remembers by its time. It is
//! set and compared by the process's clock, which no step of the machine's moves; one of an earlier process that lies in the future is
//! set anew, so that a clock that was set back keeps a sandbox longer at most.

use std::{
    collections::BTreeSet,
    fs::{self, File, FileTimes},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use apportion_agent_core::{ContainerId, GroupPlan, TaskView, View};
use apportion_content::remove_folder;
use apportion_types::Time;
use rustix::fs::statvfs;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{Sandboxes, remove_file};
use crate::{clock::Clock, paths::Paths};

/// What the file is called that remembers when the sandbox of this name was first seen to be over.
const ENDED: &str = ".ended-";

/// How long sandboxes are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rule {
    /// On a disk that is empty but for the headroom.
    pub(crate) keep: Duration,
    /// What is to stay free of the disk, in thousandths.
    pub(crate) headroom_milli: u64,
}

impl Rule {
    /// How long sandboxes are kept on a disk of which this much is used, in thousandths.
    fn kept(&self, used_milli: u64) -> Duration {
        let left = 1000_u64.saturating_sub(self.headroom_milli.saturating_add(used_milli));
        self.keep.mul_f64(u32::try_from(left).map_or(0.0, |left| f64::from(left) / 1000.0))
    }
}

/// A sandbox that nobody writes to any more.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Over {
    /// The order in which they go.
    since: Time,
    task: PathBuf,
    container: String,
}

/// Collects by turns, as long as there is an agent.
pub(crate) async fn run(
    interval: Duration,
    rule: Rule,
    sandboxes: Arc<Sandboxes>,
    clock: Clock,
    mut view: watch::Receiver<Arc<View>>,
) {
    // Only then it has the tasks of earlier processes.
    if view.changed().await.is_err() {
        return;
    }
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (sandboxes, view) = (sandboxes.clone(), view.clone());
        // A panic of it was told already.
        let _ = tokio::task::spawn_blocking(move || sandboxes.collect(rule, clock.now(), &view)).await;
    }
}

impl Sandboxes {
    fn collect(&self, rule: Rule, now: Time, view: &watch::Receiver<Arc<View>>) {
        let runs = match runs(&self.paths.sandboxes()) {
            Ok(runs) => runs,
            Err(error) => {
                return tracing::warn!(folder = ?self.paths.sandboxes(), %error, "sandboxes cannot be listed; none is removed");
            }
        };
        // Looked at after the listing: the actor publishes a task before its sandbox is made.
        let live: BTreeSet<String> = view.borrow().tasks.values().flat_map(|task| names(task)).collect();
        // What the containerizer keeps may run, also when the log has lost its task.
        let strangers: Vec<ContainerId> = match folders(&self.paths.containers()) {
            Ok(folders) => folders
                .iter()
                .filter_map(|path| name(path))
                .filter(|id| !live.contains(id))
                .map(ContainerId)
                .collect(),
            Err(error) => {
                return tracing::warn!(folder = ?self.paths.containers(), %error, "containers cannot be listed; no sandbox is removed");
            }
        };
        let mut over = Vec::new();
        for (task, containers) in runs {
            if containers.is_empty() {
                self.tidied(&task);
            }
            let is_groups = task.file_name().is_some_and(|name| name == Paths::GROUPS);
            for container in containers {
                let id = ContainerId(container.clone());
                let may_use = |stranger: &ContainerId| {
                    *stranger == id || is_groups && GroupPlan::may_hold(&id, stranger)
                };
                let is_live = live.contains(&container) || strangers.iter().any(may_use);
                match since(&task.join(format!("{ENDED}{container}")), is_live, now) {
                    Ok(None) => {}
                    Ok(Some(since)) => over.push(Over { since, task: task.clone(), container }),
                    Err(error) => {
                        tracing::warn!(folder = ?task, container, %error, "the end of a sandbox's task cannot be noted; it is kept");
                    }
                }
            }
        }
        remove_due(
            over,
            now,
            || rule.kept(used_milli(self.paths.root())),
            |over, age| self.remove(over, age),
        );
    }

    fn remove(&self, over: &Over, age: Duration) {
        let Over { task, container, .. } = over;
        let sandbox = task.join(container);
        let removed = remove_folder(&self.paths.scratch().join(container))
            .and_then(|()| remove_folder(&sandbox))
            .and_then(|()| remove_file(&task.join(format!("{ENDED}{container}"))));
        match removed {
            Ok(()) => {
                tracing::info!(
                    ?sandbox,
                    age_seconds = age.as_secs(),
                    "removed the sandbox of a task that is over"
                );
                self.tidied(task);
            }
            Err(error) => {
                tracing::warn!(?sandbox, %error, "the sandbox of a task that is over cannot be removed; it is tried again");
            }
        }
    }

    fn tidied(&self, task: &Path) {
        if let Err(error) = self.tidy(task) {
            tracing::warn!(folder = ?task, %error, "what is left beside removed sandboxes cannot be removed; it is tried again");
        }
    }
}

/// The folders that a task needs, by the names of containers: its own and what its group shares.
fn names(task: &TaskView) -> impl Iterator<Item = String> {
    let group = GroupPlan::of(&task.container_id, &task.info).map(|group| group.run.0);
    [task.container_id.0.clone()].into_iter().chain(group)
}

/// Removes what is older than is kept, the oldest first, for as long as that is so: each that goes makes room for the others.
fn remove_due(
    mut over: Vec<Over>,
    now: Time,
    kept: impl Fn() -> Duration,
    mut remove: impl FnMut(&Over, Duration),
) {
    over.sort();
    for over in over {
        let age = now.since(over.since);
        if age < kept() {
            return;
        }
        remove(&over, age);
    }
}

/// The folders of all tasks, each with its sandboxes.
fn runs(sandboxes: &Path) -> io::Result<Vec<(PathBuf, Vec<String>)>> {
    let mut runs = Vec::new();
    for framework in folders(sandboxes)? {
        for task in folders(&framework)? {
            let names = folders(&task)?.iter().filter_map(|run| name(run)).collect();
            runs.push((task, names));
        }
    }
    Ok(runs)
}

/// The last part of a path, if it is text.
fn name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// The folders in a folder; none when it is not there.
fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut folders = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.path());
        }
    }
    Ok(folders)
}

/// Since when a sandbox is known to be over: from now on when that was not known. None for one that is not.
fn since(mark: &Path, is_live: bool, now: Time) -> io::Result<Option<Time>> {
    if is_live {
        return Ok(None);
    }
    let known = match fs::symlink_metadata(mark) {
        Ok(mark) => Some(Time::ZERO + mark.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(known) = known.filter(|known| *known <= now) {
        return Ok(Some(known));
    }
    let time: SystemTime = UNIX_EPOCH + now.since(Time::ZERO);
    File::create(mark)?.set_times(FileTimes::new().set_modified(time))?;
    Ok(Some(now))
}

/// How much of a file system is used of what those who are not root may use, in thousandths. Nothing when that cannot be known: age
/// alone decides then.
fn used_milli(path: &Path) -> u64 {
    let Ok(space) = statvfs(path) else { return 0 };
    let used = u128::from(space.f_blocks.saturating_sub(space.f_bfree));
    let all = used + u128::from(space.f_bavail);
    u64::try_from(used * 1000 / all.max(1)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use apportion_types::{Command, FrameworkId, TaskId, TaskInfo};

    use super::*;

    const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn info(name: &str) -> Arc<TaskInfo> {
        Arc::new(TaskInfo {
            task_id: TaskId::new(name).unwrap(),
            name: name.to_owned(),
            resources: Default::default(),
            limits: Default::default(),
            pids_max: None,
            volumes: Vec::new(),
            command: Command { argv: Vec::new(), env: Default::default() },
            kill_grace: None,
            labels: Default::default(),
            container: Default::default(),
            supervision: Default::default(),
            group: None,
            execution: Default::default(),
        })
    }

    #[test]
    fn a_full_disk_keeps_nothing_and_a_fuller_one_keeps_shorter() {
        let rule = Rule { keep: WEEK, headroom_milli: 100 };
        for (used_milli, hundredths) in [(0, 90), (400, 50), (800, 10), (900, 0), (1000, 0), (5000, 0)] {
            let kept = rule.kept(used_milli);
            assert_eq!(kept.as_secs(), WEEK.as_secs() * hundredths / 100, "{used_milli}");
        }
        assert_eq!(Rule { keep: Duration::MAX / 2, headroom_milli: 0 }.kept(1000), Duration::ZERO);
    }

    #[test]
    fn the_oldest_go_first_until_there_is_room() {
        let over =
            |name: &str, since| Over { since: at(since), task: "t".into(), container: name.to_owned() };
        let all = vec![over("c", 70), over("a", 10), over("d", 95), over("b", 40)];
        let removed = |kept: &dyn Fn(usize) -> u64| {
            let gone = Cell::new(0);
            let mut names = Vec::new();
            let kept = || Duration::from_secs(kept(gone.get()));
            remove_due(all.clone(), at(100), kept, |over, age| {
                gone.set(gone.get() + 1);
                names.push((over.container.clone(), age.as_secs()));
            });
            names.into_iter().map(|(name, age)| format!("{name} {age}")).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(removed(&|_| 91), "");
        assert_eq!(removed(&|_| 60), "a 90, b 60");
        assert_eq!(removed(&|_| 0), "a 90, b 60, c 30, d 5");
        // Each makes room, so that more is kept.
        assert_eq!(removed(&|gone| [0, 0, 31][gone]), "a 90, b 60");
    }

    #[test]
    fn an_age_counts_from_the_end_whatever_the_clock_does() {
        let place = tempfile::tempdir().unwrap();
        let mark = place.path().join(".ended-c1");
        assert_eq!(since(&mark, true, at(10)).unwrap(), None);
        assert!(!mark.exists());
        assert_eq!(since(&mark, false, at(20)).unwrap(), Some(at(20)));
        assert_eq!(since(&mark, false, at(90)).unwrap(), Some(at(20)));
        // A later process begins with a clock that was set back.
        assert_eq!(since(&mark, false, at(15)).unwrap(), Some(at(15)));
        assert_eq!(since(&mark, false, at(90)).unwrap(), Some(at(15)));
    }

    #[test]
    fn what_a_group_shares_stays_as_long_as_one_of_it_may_run() {
        let place = tempfile::tempdir().unwrap();
        let paths = Paths::new(place.path());
        let sandboxes = Sandboxes::new(paths.clone());
        let shared = |run: &str| paths.group(&FrameworkId::new("f1").unwrap(), run);
        for run in ["a-5", "a-50", "b-5"] {
            sandboxes.make_group(&shared(run)).unwrap();
        }
        // The log has lost the tasks of the first, of which the first container has ended and the third runs.
        let third = paths.containers().join("a-7");
        fs::create_dir_all(&third).unwrap();
        let (_view, nobody) = watch::channel(Arc::new(View::default()));
        let rule = Rule { keep: WEEK, headroom_milli: 1000 };
        sandboxes.collect(rule, at(1), &nobody);
        assert!(shared("a-5").exists());
        assert!(!shared("a-50").exists() && !shared("b-5").exists());
        fs::remove_dir(third).unwrap();
        sandboxes.collect(rule, at(2), &nobody);
        assert!(!shared("a-5").exists());
    }

    #[test]
    fn only_what_is_over_goes_and_folders_go_with_the_last() {
        let place = tempfile::tempdir().unwrap();
        let paths = Paths::new(place.path());
        let sandboxes = Sandboxes::new(paths.clone());
        let id = |task: &str| (FrameworkId::new("f1").unwrap(), TaskId::new(task).unwrap());
        let task = |name: &str| paths.task(&id(name).0, &id(name).1);
        for (name, container) in [("t1", "c1"), ("t1", "c2"), ("t2", "c3"), ("t3", "c4")] {
            sandboxes.make(&task(name), container).unwrap();
        }
        fs::create_dir_all(paths.scratch().join("c3/root")).unwrap();
        // The log has lost its task, and it runs.
        fs::create_dir_all(paths.containers().join("c4")).unwrap();
        let live = |live: &[(&str, &str)]| {
            let tasks = live.iter().map(|(name, container)| {
                let view = TaskView {
                    role: Default::default(),
                    info: info(name),
                    container_id: ContainerId((*container).to_owned()),
                    state: apportion_types::TaskState::Running,
                    status: None,
                };
                (id(name), Arc::new(view))
            });
            watch::Sender::new(Arc::new(View { tasks: tasks.collect(), ..View::default() })).subscribe()
        };
        // None has room, whatever else is on the disk.
        let rule = Rule { keep: WEEK, headroom_milli: 1000 };
        let patient = Rule { keep: Duration::MAX / 2, headroom_milli: 0 };
        let here = |name: &str, container: &str| task(name).join(container).exists();
        sandboxes.collect(patient, at(1), &live(&[("t1", "c2")]));
        assert!(here("t1", "c1") && here("t2", "c3"), "they are kept");
        sandboxes.collect(rule, at(1), &live(&[("t1", "c2")]));
        assert!(!here("t1", "c1") && here("t1", "c2"));
        assert_eq!(fs::read_link(task("t1").join("latest")).unwrap().to_str(), Some("c2"));
        assert_eq!(fs::read_dir(task("t1")).unwrap().count(), 2, "the sandbox and the link to it");
        assert!(!task("t2").exists() && !paths.scratch().join("c3").exists());
        assert!(here("t3", "c4"));

        fs::remove_dir(paths.containers().join("c4")).unwrap();
        fs::create_dir_all(paths.task(&id("t1").0, &id("empty").1)).unwrap();
        sandboxes.collect(rule, at(2), &live(&[]));
        assert_eq!(fs::read_dir(paths.sandboxes()).unwrap().count(), 0, "the framework's folder went too");
    }
}
