//! The scheduler of a queue as a master sees it: offers and statuses in, calls out, by the SDK's harness.

use std::collections::BTreeMap;

use apportion_sdk::{TaskState, protocol::Call, store::Memory, testing::Harness};

use super::*;
use crate::{
    job::Submission,
    output::Fetched,
    queue::Full,
    serve::{
        order::{Order, Refused, Snapshot, Submit},
        peer::Peer,
        view::Details,
    },
};

struct Cluster {
    harness: Harness<QueueScheduler>,
    store: Memory,
    news: mpsc::UnboundedReceiver<News>,
    settings: Settings,
    keeping: Keeping,
}

fn wanted(user: &str, priority: i32, lines: &str) -> Submit {
    let text = if lines.contains("command") {
        format!("name = \"j\"\n{lines}")
    } else {
        format!("name = \"j\"\n[task]\ncommand = \"x\"\ncpus = 1\nmemory = 100\n{lines}")
    };
    let submission = Submission {
        file: "job.toml".into(),
        text,
        settings: Vec::new(),
        folder: "/srv".into(),
        found: BTreeMap::new(),
    };
    let job = submission.job().unwrap();
    Submit { user: user.to_owned(), runs_as: None, priority, waits: false, submission, job }
}

fn many(tasks: usize) -> String {
    format!("[array]\nrange = [1, {tasks}]\n")
}

fn root() -> Peer {
    Peer { user: "root".into(), is_operator: true }
}

impl Cluster {
    fn new() -> Self {
        Self::with(Settings::default(), Keeping::default())
    }

    fn with(settings: Settings, keeping: Keeping) -> Self {
        let store = Memory::default();
        let (harness, news) = Self::begin(&store, &settings, &keeping);
        Self { harness, store, news, settings, keeping }
    }

    fn begin(
        store: &Memory,
        settings: &Settings,
        keeping: &Keeping,
    ) -> (Harness<QueueScheduler>, mpsc::UnboundedReceiver<News>) {
        let (sender, news) = mpsc::unbounded_channel();
        let kept = QueueKeeper::open(store.clone(), Time::ZERO).unwrap();
        let scheduler = QueueScheduler::new(settings.clone(), keeping.clone(), kept, sender);
        (Harness::new(scheduler), news)
    }

    /// Another process takes over.
    fn restart(&mut self) {
        (self.harness, self.news) = Self::begin(&self.store, &self.settings, &self.keeping);
    }

    fn ask(&mut self, order: Order) -> Result<Answer, Refused> {
        let (request, mut answer) = Request::new(order);
        self.harness.message(request);
        answer.try_recv().unwrap()
    }

    fn submit(&mut self, user: &str, lines: &str) -> JobId {
        self.submit_at(user, 0, lines)
    }

    fn submit_at(&mut self, user: &str, priority: i32, lines: &str) -> JobId {
        match self.ask(Order::Submit(Box::new(wanted(user, priority, lines)))) {
            Ok(Answer::Taken(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    fn snapshot(&mut self, id: JobId) -> Snapshot {
        self.snapshot_from(id, 0)
    }

    fn snapshot_from(&mut self, id: JobId, position: usize) -> Snapshot {
        match self.ask(Order::Show(id, position)) {
            Ok(Answer::Job(snapshot)) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    fn launched(&mut self) -> Vec<String> {
        self.harness.launched().iter().map(|task| task.task_id.to_string()).collect()
    }

    /// Ends a task, and fetches what it left.
    fn end(&mut self, task: &str, state: TaskState) {
        self.harness.update("a", task, state);
        self.fetch();
    }

    fn fetch(&mut self) {
        self.fetch_as(Fetched { tail: Some("last".into()), ..Fetched::default() });
    }

    fn fetch_as(&mut self, fetched: Fetched) {
        while let Ok(news) = self.news.try_recv() {
            if let News::Fetch { id, position, .. } = news {
                let fetched = fetched.clone();
                self.ask(Order::Fetched(vec![(id, position, fetched)])).unwrap();
            }
        }
    }

    fn phase(&self, id: JobId) -> Option<Phase> {
        self.harness.scheduler().jobs().find(|(other, ..)| *other == id).map(|(_, phase, _)| phase)
    }
}

#[test]
fn users_take_turns_and_priorities_are_of_one_user() {
    let mut cluster = Cluster::new();
    cluster.submit("ann", &many(3));
    cluster.submit_at("ann", 5, &many(1));
    cluster.submit_at("bob", 99, &many(3));
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.launched(), ["2.j-0001", "3.j-0001", "1.j-0001", "3.j-0002"]);
    // What ends makes room for who has less now.
    cluster.end("3.j-0001", TaskState::Finished);
    cluster.harness.offer("a", "cpus:1;mem:4000");
    assert_eq!(cluster.launched(), ["3.j-0003"]);
}

#[test]
fn a_job_is_over_when_its_outputs_are_here() {
    let mut cluster = Cluster::new();
    let id = cluster.submit("ann", "");
    assert_eq!(cluster.phase(id), Some(Phase::Waiting));
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.phase(id), Some(Phase::Running));
    cluster.harness.update("a", "1.j-0001", TaskState::Finished);
    assert_eq!(cluster.phase(id), Some(Phase::Collecting));
    assert!(!cluster.harness.scheduler().is_idle());
    // Whoever takes over asks for it again.
    cluster.restart();
    assert_eq!(cluster.phase(id), Some(Phase::Collecting));
    cluster.fetch();
    assert_eq!(cluster.phase(id), Some(Phase::Succeeded));
    assert!(cluster.harness.scheduler().is_idle());
    let details = Details::new(&cluster.snapshot(id));
    assert_eq!(details.tasks_all[0].output_tail.as_deref(), Some("last"));
}

#[test]
fn a_large_job_is_told_in_parts_that_are_of_one_side_of_its_end() {
    let mut cluster = Cluster::new();
    let id = cluster.submit("ann", &many(2 * Snapshot::TASKS_MAX + 1));
    for (from, tasks) in [(0, Snapshot::TASKS_MAX), (2 * Snapshot::TASKS_MAX, 1), (usize::MAX, 0)] {
        assert_eq!(cluster.snapshot_from(id, from).tasks.len(), tasks, "no callback tells more at once");
    }
    let mut whole = cluster.snapshot(id);
    let mut asked = Vec::new();
    while let Some(from) = whole.next() {
        asked.push(from);
        if asked.len() == 2 {
            cluster.ask(Order::Cancel { job: id, by: root() }).unwrap();
        }
        whole.add(cluster.snapshot_from(id, from));
    }
    let details = Details::new(&whole);
    assert_eq!(asked, [1000, 2000, 0, 1000, 2000], "it ended meanwhile, and is looked at anew");
    let names: Vec<_> = details.tasks_all.iter().map(|task| task.name.clone()).collect();
    assert_eq!((names[0].as_str(), names[2000].as_str()), ("j-0001", "j-2001"));
    assert!(names.is_sorted() && details.tasks_all.iter().all(|task| task.state == "interrupted"));
    assert_eq!(details.stages[0].tasks.failed, 2001);
    assert_eq!(details.job.state, Phase::Cancelled);
}

#[test]
fn everything_is_there_after_a_restart() {
    let mut cluster = Cluster::new();
    let first = cluster.submit("ann", &many(3));
    let second = cluster.submit_at("bob", 7, "");
    cluster.harness.offer("a", "cpus:3;mem:4000");
    assert_eq!(cluster.launched(), ["1.j-0001", "2.j-0001", "1.j-0002"]);
    cluster.end("1.j-0001", TaskState::Finished);
    cluster.ask(Order::Cancel { job: second, by: root() }).unwrap();
    let before = [first, second].map(|id| cluster.snapshot(id));

    cluster.restart();
    for (id, before) in [first, second].into_iter().zip(before) {
        let after = cluster.snapshot(id);
        assert_eq!((after.head, after.outputs), (before.head, before.outputs));
        assert_eq!(after.tasks, before.tasks);
        assert_eq!(*after.job, *before.job);
    }
    let calls = cluster.harness.calls();
    let kills =
        calls.iter().any(|call| matches!(call, Call::Kill { task_id, .. } if task_id.as_str() == "2.j-0001"));
    assert!(kills, "what was cancelled is killed again: {calls:?}");
    cluster.harness.offer("a", "cpus:3;mem:4000");
    assert_eq!(cluster.launched(), ["1.j-0003"], "nothing that runs is launched again");
    assert_eq!(cluster.submit("cyd", ""), JobId(3), "a number is given once");
}

#[test]
fn what_makes_no_sense_is_refused_by_name() {
    let settings = Settings { jobs_per_user: 2, tasks_per_user: 3, ..Settings::default() };
    let mut cluster = Cluster::with(settings, Keeping::default());
    let id = cluster.submit("ann", "");
    let unknown = cluster.ask(Order::Show(JobId(9), 0)).unwrap_err();
    assert_eq!(unknown, Refused::Unknown(JobId(9)));
    assert!(unknown.to_string().contains("`apportion batch ls`"), "{unknown}");
    assert_eq!(cluster.ask(Order::Retry { job: id, by: root() }).unwrap_err(), Refused::Runs(id));
    let bob = Peer { user: "bob".into(), is_operator: false };
    let message = cluster.ask(Order::Cancel { job: id, by: bob }).unwrap_err().to_string();
    assert!(message.starts_with("job 1 is of user `ann`, and `bob` may not change it"), "{message}");
    cluster.submit("ann", "");
    let full = cluster.ask(Order::Submit(Box::new(wanted("ann", 0, "")))).unwrap_err();
    assert_eq!(full, Refused::Full(Full::OfUser { user: "ann".into(), most: 2 }));
    let gang = "[stage.g]\ngang = true\ncommand = \"x\"\narray = { range = [1, 4] }\n";
    let message = cluster.ask(Order::Submit(Box::new(wanted("bob", 0, gang)))).unwrap_err().to_string();
    assert!(message.starts_with("stage `g` is a gang of 4 tasks, and user `bob` may have 3"), "{message}");
    cluster.ask(Order::Cancel { job: id, by: root() }).unwrap();
    assert_eq!(cluster.phase(id), Some(Phase::Cancelled), "nothing of it ran");
    let message = cluster.ask(Order::Cancel { job: id, by: root() }).unwrap_err().to_string();
    assert!(message.starts_with("job 1 has ended (cancelled), so there is nothing to cancel"), "{message}");
}

#[test]
fn tasks_that_have_not_ended_are_limited_at_submit_and_at_retry() {
    let settings = Settings { queued_tasks_max: 6, queued_tasks_per_user: 4, ..Settings::default() };
    let mut cluster = Cluster::with(settings, Keeping::default());
    let submit = |user: &str, tasks| Order::Submit(Box::new(wanted(user, 0, &many(tasks))));
    let first = cluster.submit("ann", &many(3));
    let full = cluster.ask(submit("ann", 2)).unwrap_err();
    assert_eq!(full, Refused::Full(Full::TasksOfUser { user: "ann".into(), queued: 3, more: 2, most: 4 }));
    let full = cluster.ask(submit("bob", 4)).unwrap_err();
    assert_eq!(full, Refused::Full(Full::Tasks { queued: 3, more: 4, most: 6 }));
    cluster.harness.offer("a", "cpus:9;mem:4000");
    cluster.launched();
    cluster.end("1.j-0001", TaskState::Finished);
    cluster.submit("ann", &many(2));
    for task in ["1.j-0002", "1.j-0003"] {
        cluster.end(task, TaskState::Failed);
    }
    cluster.submit("ann", &many(1));
    // Of the three that it has, two would run again.
    let retry = || Order::Retry { job: first, by: root() };
    let full = cluster.ask(retry()).unwrap_err();
    assert_eq!(full, Refused::Full(Full::TasksOfUser { user: "ann".into(), queued: 3, more: 2, most: 4 }));
    cluster.ask(Order::Cancel { job: JobId(3), by: root() }).unwrap();
    assert!(matches!(cluster.ask(retry()), Ok(Answer::Again { tasks: 2, outputs: 0 })));
}

#[test]
fn two_jobs_never_save_outputs_in_one_place() {
    let mut cluster = Cluster::new();
    let saved = |folder: &str| {
        let mut job = wanted("ann", 0, "");
        job.job.output = Some(folder.into());
        Order::Submit(Box::new(job))
    };
    let Ok(Answer::Taken(first)) = cluster.ask(saved("/out/1")) else { panic!("there is no other") };
    let refused = cluster.ask(saved("/out/1")).unwrap_err();
    assert_eq!(refused, Refused::SameOutput { job: first, output: "/out/1".into() });
    assert!(refused.to_string().contains("`output = \"out/${run}\"`"), "{refused}");
    cluster.ask(saved("/out/2")).unwrap();
    cluster.submit("ann", "");
    cluster.ask(Order::Cancel { job: first, by: root() }).unwrap();
    cluster.ask(saved("/out/1")).unwrap();
    let again = cluster.ask(Order::Retry { job: first, by: root() }).unwrap_err();
    assert!(matches!(again, Refused::SameOutput { job: JobId(4), .. }), "{again}");
}

#[test]
fn what_did_not_succeed_runs_again_and_nothing_else() {
    let mut cluster = Cluster::new();
    let id = cluster.submit("ann", &many(2));
    cluster.harness.offer("a", "cpus:4;mem:4000");
    cluster.launched();
    cluster.end("1.j-0001", TaskState::Finished);
    cluster.end("1.j-0002", TaskState::Failed);
    assert_eq!(cluster.phase(id), Some(Phase::Failed));
    let ann = Peer { user: "ann".into(), is_operator: false };
    assert!(matches!(
        cluster.ask(Order::Retry { job: id, by: ann }),
        Ok(Answer::Again { tasks: 1, outputs: 0 })
    ));
    cluster.restart();
    assert_eq!(cluster.phase(id), Some(Phase::Running));
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.launched(), ["1.j-0002.r2"]);
    cluster.end("1.j-0002.r2", TaskState::Finished);
    assert_eq!(cluster.phase(id), Some(Phase::Succeeded));
    assert_eq!(cluster.ask(Order::Retry { job: id, by: root() }).unwrap_err(), Refused::AllSucceeded(id));
}

#[test]
fn an_output_that_could_not_be_fetched_is_fetched_again() {
    let mut cluster = Cluster::new();
    let id = cluster.submit("ann", &many(2));
    cluster.harness.offer("a", "cpus:4;mem:4000");
    cluster.launched();
    cluster.end("1.j-0001", TaskState::Finished);
    cluster.harness.update("a", "1.j-0002", TaskState::Finished);
    cluster.fetch_as(Fetched { error: Some("the agent was away".into()), ..Fetched::default() });
    assert_eq!(cluster.phase(id), Some(Phase::Succeeded));
    let note = cluster.snapshot(id).view.note.expect("there is something to know");
    assert!(note.contains("outputs of 1 tasks are missing"), "{note}");
    cluster.restart();
    assert_eq!(cluster.snapshot(id).view.note, Some(note));
    let again = cluster.ask(Order::Retry { job: id, by: root() });
    assert!(matches!(again, Ok(Answer::Again { tasks: 0, outputs: 1 })), "{again:?}");
    assert_eq!((cluster.phase(id), cluster.snapshot(id).view.note), (Some(Phase::Collecting), None));
    cluster.restart();
    assert_eq!(cluster.phase(id), Some(Phase::Collecting));
    cluster.fetch();
    assert_eq!(cluster.phase(id), Some(Phase::Succeeded));
    assert_eq!(cluster.snapshot(id).outputs[&1].tail.as_deref(), Some("last"));
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.launched(), [""; 0], "what succeeded does not run again");
    assert_eq!(cluster.ask(Order::Retry { job: id, by: root() }).unwrap_err(), Refused::AllSucceeded(id));
}

#[test]
fn what_has_ended_is_kept_for_a_while() {
    let keeping = Keeping { jobs: 2, tasks: 100, time: Duration::from_secs(3600) };
    let mut cluster = Cluster::with(Settings::default(), keeping);
    for number in 1..=3 {
        let id = cluster.submit("ann", "");
        cluster.harness.offer("a", "cpus:4;mem:4000");
        cluster.end(&format!("{id}.j-0001"), TaskState::Finished);
        assert_eq!(cluster.phase(id), Some(Phase::Succeeded), "{number}");
        cluster.harness.advance(Duration::from_secs(60));
    }
    let known =
        |cluster: &Cluster| cluster.harness.scheduler().jobs().map(|(id, ..)| id.0).collect::<Vec<_>>();
    assert_eq!(known(&cluster), [2, 3]);
    cluster.restart();
    assert_eq!(known(&cluster), [2, 3]);
    cluster.harness.advance(Duration::from_secs(4000));
    assert_eq!(known(&cluster), [0; 0]);
    let left: Vec<_> = store_keys(&cluster.store);
    assert_eq!(left, ["queue"], "nothing is left of them");
}

fn store_keys(store: &Memory) -> Vec<String> {
    apportion_sdk::store::Store::load(store).unwrap().records.into_keys().collect()
}

#[test]
fn a_gang_that_has_waited_long_holds_back_what_is_behind_it() {
    let settings = Settings { patience: Duration::from_secs(60), ..Settings::default() };
    let mut cluster = Cluster::with(settings, Keeping::default());
    cluster.submit("bob", &many(9));
    cluster.harness.offer("a", "cpus:2;mem:4000");
    assert_eq!(cluster.launched(), ["1.j-0001", "1.j-0002"]);
    let gang = "[stage.g]\ngang = true\ncommand = \"x\"\nmemory = 100\narray = { range = [1, 4] }\n";
    cluster.submit("ann", gang);
    cluster.harness.offer("a", "cpus:1;mem:4000");
    assert_eq!(cluster.launched(), ["1.j-0003"], "there is no room for all of it, and the other goes on");
    cluster.harness.advance(Duration::from_secs(61));
    cluster.harness.offer("a", "cpus:3;mem:4000");
    assert_eq!(cluster.launched(), [""; 0], "from now on it is waited for");
    cluster.harness.offer("a", "cpus:5;mem:4000");
    assert_eq!(cluster.launched(), ["2.j-g-0001", "2.j-g-0002", "2.j-g-0003", "2.j-g-0004"]);
    cluster.harness.offer("a", "cpus:1;mem:4000");
    assert_eq!(cluster.launched(), ["1.j-0004"]);
}

#[test]
fn a_gang_that_its_users_other_tasks_keep_out_has_its_turn_in_the_end() {
    let patience = Duration::from_secs(60);
    let mut cluster =
        Cluster::with(Settings { patience, tasks_per_user: 3, ..Settings::default() }, Keeping::default());
    cluster.submit("ann", &many(1));
    let gang = "[stage.g]\ngang = true\ncommand = \"x\"\nmemory = 100\narray = { range = [1, 3] }\n";
    cluster.submit("ann", gang);
    cluster.submit("ann", &many(9));
    cluster.submit("bob", &many(2));
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.launched(), ["1.j-0001", "4.j-0001", "3.j-0001", "4.j-0002"]);
    cluster.end("1.j-0001", TaskState::Finished);
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(
        cluster.launched(),
        ["3.j-0002", "3.j-0003"],
        "there is no room for all of the gang below the limit"
    );
    cluster.harness.advance(patience);
    cluster.end("3.j-0001", TaskState::Finished);
    cluster.submit("bob", "");
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.launched(), ["5.j-0001"], "from now on its user waits for it, and nobody else");
    cluster.end("3.j-0002", TaskState::Finished);
    cluster.end("3.j-0003", TaskState::Finished);
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.launched(), ["2.j-g-0001", "2.j-g-0002", "2.j-g-0003"]);
}

#[test]
fn a_job_that_no_agent_can_run_is_given_up_and_says_why() {
    let mut cluster = Cluster::new();
    let id = cluster.submit("ann", "");
    let class = crate::state::Class { stage: 0, step: 0 };
    cluster.ask(Order::Note(id, Some("waiting for a larger agent".into()))).unwrap();
    assert_eq!(cluster.snapshot(id).view.note.as_deref(), Some("waiting for a larger agent"));
    cluster.ask(Order::GiveUp(id, class, "too large".into())).unwrap();
    let snapshot = cluster.snapshot(id);
    assert_eq!(snapshot.tasks[0].end().unwrap().why, "too large");
    assert_eq!(cluster.phase(id), Some(Phase::Failed));
}

#[test]
fn tasks_of_jobs_that_are_forgotten_are_killed() {
    let mut cluster = Cluster::new();
    cluster.harness.calls();
    cluster.harness.update("a", "77.j-0001", TaskState::Running);
    let calls = cluster.harness.calls();
    assert!(calls.iter().any(|call| matches!(call, Call::Kill { .. })), "{calls:?}");
}

#[test]
fn a_job_that_cannot_go_on_is_set_aside_and_the_others_go_on() {
    let mut cluster = Cluster::new();
    let (first, second) = (cluster.submit("ann", ""), cluster.submit("bob", ""));
    cluster.harness.offer("a", "cpus:1;mem:4000");
    assert_eq!(cluster.launched(), ["1.j-0001"]);
    // As a version wrote it that had no bound on it.
    let submission = wanted("ann", 0, "").submission;
    let text = format!("{}timeout = \"{}s\"\n", submission.text, u64::MAX);
    let mut draft = Draft::default();
    draft.file(first, &Submission { text, ..submission });
    QueueKeeper::open(cluster.store.clone(), Time::ZERO).unwrap().0.save(draft).unwrap();

    cluster.restart();
    let (_, kept) = QueueKeeper::open(cluster.store.clone(), Time::ZERO).unwrap();
    let [(aside, why)] = kept.aside.as_slice() else { panic!("{:?}", kept.aside) };
    assert!(*aside == first && why.contains("task.timeout: is longer than"), "{why}");
    assert_eq!((cluster.phase(first), cluster.phase(second)), (None, Some(Phase::Waiting)));
    cluster.harness.offer("a", "cpus:1;mem:4000");
    assert_eq!(cluster.launched(), ["2.j-0001"]);
    assert_eq!(cluster.submit("cyd", ""), JobId(3), "a number is given once");
}

#[test]
fn a_job_that_comes_while_others_wait_is_offered_what_they_refused() {
    let mut cluster = Cluster::new();
    cluster.submit("ann", "[task]\ncommand = \"x\"\ncpus = 8\nmemory = 100\n");
    cluster.harness.offer("a", "cpus:4;mem:4000");
    cluster.harness.calls();
    cluster.submit("bob", "");
    let calls = cluster.harness.calls();
    assert!(calls.iter().any(|call| matches!(call, Call::Revive { .. })), "{calls:?}");
    cluster.harness.offer("a", "cpus:4;mem:4000");
    assert_eq!(cluster.launched(), ["2.j-0001"]);
    assert!(
        !cluster.harness.calls().iter().any(|call| matches!(call, Call::Revive { .. })),
        "there is nothing new"
    );
}
