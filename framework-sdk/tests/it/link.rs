//! The driver over a real connection, against a scripted master.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use apportion_sdk::{
    Context, Driver, DriverError, FrameworkId, Handle, Offer, Outcome, Scheduler, Stop, Subscription, Task,
    TaskId, TaskState, TaskStatus, async_trait,
    driver::Builder,
    protocol::{Call, ErrorCode, Event},
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::Server;

use crate::server::{LONG, Master, offers, stand_by, stand_by_on, subscribed, update};

/// No test waits for a heartbeat of this interval.
const QUIET: Duration = Duration::from_secs(3600);

/// Calls that are made together with the end of a run.
const BURST: usize = 500;

/// What a callback was told.
#[derive(Debug, PartialEq)]
enum Told {
    Subscribed(bool),
    Offers(usize),
    Update(String),
    Disconnected(String),
    Message(&'static str),
}

/// Tells the test what it is told; launches one task on each offer while it may; obeys messages.
struct Probe {
    told: mpsc::UnboundedSender<Told>,
    launch: bool,
    /// Each update takes one permit.
    pace: Arc<Semaphore>,
    elsewhere: Option<mpsc::UnboundedSender<Offer>>,
}

impl Probe {
    fn new() -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (told, heard) = mpsc::unbounded_channel();
        let pace = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        (Self { told, launch: true, pace, elsewhere: None }, heard)
    }

    fn tell(&self, told: Told) {
        // The test may have heard enough.
        let _ = self.told.send(told);
    }
}

#[async_trait]
impl Scheduler for Probe {
    type Message = &'static str;

    async fn subscribed(&mut self, _cx: &mut Context<'_>, subscription: Subscription) {
        self.tell(Told::Subscribed(subscription.resumed));
    }

    async fn disconnected(&mut self, _cx: &mut Context<'_>, why: String) {
        self.tell(Told::Disconnected(why));
    }

    async fn offers(&mut self, _cx: &mut Context<'_>, offers: Vec<Offer>) {
        self.tell(Told::Offers(offers.len()));
        for mut offer in offers {
            if self.launch {
                let task = Task::new(format!("on-{}", offer.id())).command(["true"]).cpus(1.0).mem_mib(32);
                offer.launch(task.build().unwrap()).unwrap();
            }
            if let Some(elsewhere) = &self.elsewhere {
                elsewhere.send(offer).unwrap();
            }
        }
    }

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        self.pace.acquire().await.unwrap().forget();
        self.tell(Told::Update(format!("{} {}", status.task_id, status.state)));
    }

    async fn message(&mut self, cx: &mut Context<'_>, message: &'static str) {
        self.tell(Told::Message(message));
        match message {
            "panic" => panic!("as asked"),
            "teardown" => cx.stop(Stop::Teardown),
            "burst" => {
                for number in 0..BURST {
                    cx.kill(&TaskId::new(format!("t{number}")).unwrap(), None);
                }
                cx.stop(Stop::Disconnect);
            }
            _ => {}
        }
    }
}

type Run = JoinHandle<Result<Outcome<Probe>, DriverError>>;

fn run(builder: Builder, probe: Probe) -> (Handle<&'static str>, Run) {
    let driver = builder.seed(1).build().unwrap();
    let handle = driver.handle();
    (handle, tokio::spawn(driver.run(probe)))
}

async fn ended(run: Run) -> Result<Outcome<Probe>, DriverError> {
    timeout(LONG, run).await.expect("the run ends").expect("the run does not panic")
}

async fn heard(heard: &mut mpsc::UnboundedReceiver<Told>) -> Told {
    timeout(LONG, heard.recv()).await.expect("something is told").expect("the scheduler lives")
}

#[tokio::test]
async fn a_lost_stream_is_opened_again_with_the_same_id_and_tasks_are_reconciled() {
    let mut master = Master::start().await;
    let (probe, mut told) = Probe::new();
    let (handle, run) = run(Driver::builder("test").master(&master.address), probe);

    let (mut session, id) = master.subscribed(QUIET).await;
    assert_eq!(id, None);
    session.send(offers(&[("o1", "a1")])).await;
    let Call::Accept(accept) = session.call().await else { panic!("an accept") };
    let task = accept.tasks().next().unwrap().as_ref().unwrap();
    assert_eq!((accept.offers[0].as_str(), task.task_id.as_str()), ("o1", "on-o1"));
    drop(session);

    let (mut session, id) = master.subscribed(QUIET).await;
    assert_eq!(id, Some(FrameworkId::new("f1").unwrap()));
    let Call::Reconcile { tasks } = session.call().await else { panic!("a reconciliation") };
    assert_eq!((tasks.len(), tasks[0].0.as_str()), (1, "on-o1"));
    session.send(update("on-o1", TaskState::Running, 1)).await;
    assert!(matches!(session.call().await, Call::Acknowledge { .. }));

    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
    assert_eq!(heard(&mut told).await, Told::Offers(1));
    assert!(matches!(heard(&mut told).await, Told::Disconnected(why) if why.contains(&master.address)));
    assert_eq!(heard(&mut told).await, Told::Subscribed(true));
    assert_eq!(heard(&mut told).await, Told::Update("on-o1 running".to_owned()));

    handle.stop(Stop::Disconnect).await.unwrap();
    assert_eq!(session.next().await, None);
    drop(session);
    let outcome = ended(run).await.unwrap();
    assert_eq!((outcome.stop, outcome.framework_id), (Stop::Disconnect, id));
    assert!(handle.is_ended() && handle.send("late").await.is_err());
}

#[tokio::test]
async fn a_master_that_stands_by_is_left_for_the_leader_that_it_names() {
    let mut master = Master::start().await;
    // The first knows nothing, and names nobody; the leader is not among those that were given.
    let (nothing, last) = (stand_by(None).await, stand_by(Some(&master.address)).await);
    let first = stand_by(Some(&last)).await;
    let (probe, mut told) = Probe::new();
    let builder = Driver::builder("test").master(format!("{nothing}, http://{first}"));
    let (_handle, _run) = run(builder, probe);
    let (session, id) = master.subscribed(QUIET).await;
    assert_eq!(id, None);
    session.send(offers(&[("o1", "a1")])).await;
    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
    assert_eq!(heard(&mut told).await, Told::Offers(1));
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[tokio::test]
async fn a_master_that_names_a_leader_that_is_gone_is_asked_for_the_next_one() {
    let mut master = Master::start().await;
    let (_, gone) = listen().await;
    let (listener, stands_by) = listen().await;
    stand_by_on(listener, Some(&gone), Some(&master.address));
    let (probe, mut told) = Probe::new();
    let (_handle, _run) = run(Driver::builder("test").master(&stands_by), probe);
    let (_session, id) = master.subscribed(QUIET).await;
    assert_eq!(id, None);
    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
}

#[tokio::test]
async fn masters_that_name_no_leader_are_no_endless_chase() {
    // It names itself.
    let (listener, circle) = listen().await;
    stand_by_on(listener, Some(&circle), Some(&circle));
    // It names one that is gone.
    let (_, nobody) = listen().await;
    let gone = stand_by(Some(&nobody)).await;
    for (master, why) in [(circle, "too many masters"), (gone, &format!("cannot connect to {nobody}"))] {
        let (probe, _told) = Probe::new();
        let builder = Driver::builder("test").master(&master).connect_timeout(Duration::from_secs(3));
        let (_handle, run) = run(builder, probe);
        let text = ended(run).await.err().expect("the run fails").to_string();
        assert!(text.contains(why), "{text}");
    }
}

#[tokio::test]
async fn a_silent_master_is_left() {
    let mut master = Master::start().await;
    let (probe, mut told) = Probe::new();
    let (_handle, _run) = run(Driver::builder("test").master(&master.address), probe);
    // Held, so that only silence can be what ends it.
    let (_silent, _) = master.subscribed(Duration::from_millis(20)).await;
    let (_session, id) = master.subscribed(QUIET).await;
    assert_eq!(id, Some(FrameworkId::new("f1").unwrap()));
    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
    assert!(matches!(heard(&mut told).await, Told::Disconnected(why) if why.contains("no sign of life")));
}

#[tokio::test]
async fn errors_that_are_final_end_the_run_and_others_do_not() {
    let final_errors = [
        (ErrorCode::FailedOver, "another scheduler has taken over framework `f1`: the words"),
        (ErrorCode::Removed, "framework `f1` was removed: the words"),
        (ErrorCode::Refused, "the master refused the subscription of framework `f1`: the words"),
    ];
    for (code, text) in final_errors {
        let mut master = Master::start().await;
        let (probe, _told) = Probe::new();
        let (_handle, run) = run(Driver::builder("test").master(&master.address), probe);
        for passing in [ErrorCode::TooSlow, ErrorCode::ShuttingDown] {
            let (session, _) = master.subscribed(QUIET).await;
            session.send(Event::Error { code: passing, message: "again".to_owned() }).await;
        }
        let (session, id) = master.subscribed(QUIET).await;
        assert!(id.is_some());
        session.send(Event::Error { code, message: "the words".to_owned() }).await;
        drop(session);
        let error = ended(run).await.err().expect("the run fails").to_string();
        assert!(error.starts_with(text), "{error}");
    }
}

#[tokio::test]
async fn without_a_master_the_error_names_the_address_and_the_remedy() {
    // A port on which nobody listens: bound, and given up.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let (probe, _told) = Probe::new();
    let builder = Driver::builder("test").master(&address).connect_timeout(Duration::from_millis(500));
    let (_handle, run) = run(builder, probe);
    let error = ended(run).await.err().expect("the run fails");
    assert!(matches!(error, DriverError::Connect { .. }));
    let text = error.to_string();
    assert!(text.contains(&format!("no master answered at {address} within 500ms")), "{text}");
    assert!(text.contains("refused") && text.contains("is a master running there?"), "{text}");
}

#[tokio::test]
async fn a_server_that_is_no_master_is_called_that() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let routes = tonic::service::Routes::default();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let server = tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(incoming));
    let (probe, _told) = Probe::new();
    // Long enough for an answer on a busy machine; the driver tries again and again until then.
    let builder = Driver::builder("test").master(&address).connect_timeout(Duration::from_secs(3));
    let (_handle, run) = run(builder, probe);
    let text = ended(run).await.err().expect("the run fails").to_string();
    assert!(text.contains("does not speak to schedulers"), "{text}");
    server.abort();
}

#[tokio::test]
async fn another_master_is_tried() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    let mut master = Master::start().await;
    let (probe, mut told) = Probe::new();
    let builder = Driver::builder("test").master(nobody).master(format!("http://{}", master.address));
    let (_handle, _run) = run(builder, probe);
    let _session = master.subscribed(QUIET).await;
    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
}

#[tokio::test]
async fn a_panic_of_the_scheduler_is_a_panic_of_the_run() {
    let mut master = Master::start().await;
    let (probe, _told) = Probe::new();
    let (handle, run) = run(Driver::builder("test").master(&master.address), probe);
    let (mut session, _) = master.subscribed(QUIET).await;
    handle.send("panic").await.unwrap();
    let panicked = timeout(LONG, run).await.expect("the run ends").err().expect("it panics");
    assert_eq!(panicked.into_panic().downcast_ref::<&str>(), Some(&"as asked"));
    // And the framework is disconnected by it.
    assert_eq!(session.next().await, None);
}

#[tokio::test]
async fn a_slow_scheduler_hears_everything() {
    const UPDATES: u64 = 3000;
    let mut master = Master::start().await;
    let (mut probe, mut told) = Probe::new();
    let pace = Arc::new(Semaphore::new(0));
    probe.pace = Arc::clone(&pace);
    let (_handle, _run) = run(Driver::builder("test").master(&master.address), probe);
    let (mut session, _) = master.subscribed(QUIET).await;

    // The first update holds the scheduler up, until far more was sent than its queue takes.
    let events = async {
        for number in 0..UPDATES {
            session.send(update(&format!("t{number}"), TaskState::Running, number)).await;
            if number == 600 {
                pace.add_permits(UPDATES as usize);
            }
        }
    };
    timeout(LONG, events).await.expect("all are taken");
    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
    for number in 0..UPDATES {
        assert_eq!(heard(&mut told).await, Told::Update(format!("t{number} running")));
    }
    let mut acknowledged = BTreeSet::new();
    while acknowledged.len() < UPDATES as usize {
        let Call::Acknowledge { update_id, .. } = session.call().await else { panic!("an acknowledgement") };
        assert!(acknowledged.insert(update_id), "{update_id:?} is acknowledged once");
    }
}

#[tokio::test]
async fn an_offer_dropped_by_another_task_is_answered_and_outliving_the_driver_does_no_harm() {
    let mut master = Master::start().await;
    let (mut probe, _told) = Probe::new();
    let (sender, mut elsewhere) = mpsc::unbounded_channel();
    (probe.elsewhere, probe.launch) = (Some(sender), false);
    let (handle, run) = run(Driver::builder("test").master(&master.address), probe);
    let (mut session, _) = master.subscribed(QUIET).await;
    session.send(offers(&[("o1", "a1"), ("o2", "a2")])).await;

    let first = timeout(LONG, elsewhere.recv()).await.unwrap().unwrap();
    let second = timeout(LONG, elsewhere.recv()).await.unwrap().unwrap();
    tokio::task::spawn_blocking(move || first.decline("elsewhere")).await.unwrap();
    let Call::Decline { offers, reason, .. } = session.call().await else { panic!("a decline") };
    assert_eq!((offers.len(), offers[0].as_str(), reason.detail.as_str()), (1, "o1", "elsewhere"));

    handle.stop(Stop::Disconnect).await.unwrap();
    assert_eq!(session.next().await, None);
    drop(session);
    ended(run).await.unwrap();
    drop(second);
}

#[tokio::test]
async fn what_was_decided_is_sent_before_the_end() {
    let mut master = Master::start().await;
    let (probe, mut told) = Probe::new();
    let (handle, run) = run(Driver::builder("test").master(&master.address), probe);
    let (mut session, _) = master.subscribed(QUIET).await;
    session.send(offers(&[("o1", "a1"), ("o2", "a2")])).await;
    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
    assert_eq!(heard(&mut told).await, Told::Offers(2));
    handle.send("burst").await.unwrap();
    assert!(matches!(session.call().await, Call::Accept { .. }));
    assert!(matches!(session.call().await, Call::Accept { .. }));
    for number in 0..BURST {
        let Call::Kill { task_id, .. } = session.call().await else { panic!("a kill") };
        assert_eq!(task_id.as_str(), format!("t{number}"));
    }
    assert_eq!(session.next().await, None);
    drop(session);
    assert_eq!(ended(run).await.unwrap().stop, Stop::Disconnect);
}

#[tokio::test]
async fn a_teardown_ends_with_the_masters_end_of_the_stream() {
    let mut master = Master::start().await;
    let (probe, mut told) = Probe::new();
    let (handle, run) = run(Driver::builder("test").master(&master.address), probe);
    let (mut session, _) = master.subscribed(QUIET).await;
    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
    handle.send("teardown").await.unwrap();
    assert_eq!(session.call().await, Call::Teardown);
    drop(session);
    let outcome = ended(run).await.unwrap();
    assert_eq!(outcome.stop, Stop::Teardown);
    assert!(outcome.scheduler.launch, "the scheduler is given back");
}

#[tokio::test]
async fn a_run_whose_handles_are_gone_runs_on() {
    let mut master = Master::start().await;
    let (probe, mut told) = Probe::new();
    let (handle, _run) = run(Driver::builder("test").master(&master.address), probe);
    let (session, _) = master.subscribed(QUIET).await;
    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
    handle.send("before").await.unwrap();
    drop(handle);
    assert_eq!(heard(&mut told).await, Told::Message("before"));
    session.send(update("t1", TaskState::Running, 1)).await;
    assert_eq!(heard(&mut told).await, Told::Update("t1 running".to_owned()));
}

#[tokio::test]
async fn an_event_that_is_not_understood_is_left_out() {
    let mut master = Master::start().await;
    let (probe, mut told) = Probe::new();
    let (_handle, _run) = run(Driver::builder("test").master(&master.address), probe);
    let mut session = master.session().await;
    session.call().await;
    session.send(subscribed(QUIET)).await;
    session.send_raw(Default::default()).await;
    session.send(update("t1", TaskState::Running, 1)).await;
    assert_eq!(heard(&mut told).await, Told::Subscribed(false));
    assert_eq!(heard(&mut told).await, Told::Update("t1 running".to_owned()));
}

/// Stops the whole thread for longer than silence would be borne.
struct Blocker(mpsc::UnboundedSender<Told>);

#[async_trait]
impl Scheduler for Blocker {
    type Message = &'static str;

    async fn offers(&mut self, _cx: &mut Context<'_>, _offers: Vec<Offer>) {}

    async fn update(&mut self, _cx: &mut Context<'_>, status: TaskStatus) {
        if status.task_id.as_str() == "slow" {
            #[expect(clippy::disallowed_methods, reason = "a scheduler that blocks is what is tested")]
            std::thread::sleep(Duration::from_millis(2500));
        }
        let _ = self.0.send(Told::Update(status.task_id.to_string()));
    }

    async fn message(&mut self, _cx: &mut Context<'_>, message: &'static str) {
        let _ = self.0.send(Told::Message(message));
    }

    async fn disconnected(&mut self, _cx: &mut Context<'_>, why: String) {
        let _ = self.0.send(Told::Disconnected(why));
    }
}

/// On one thread: while the scheduler blocks it, neither the reader nor the master gets on, and that is not the master's fault.
#[tokio::test]
async fn a_scheduler_that_blocks_its_thread_does_not_blame_the_master() {
    let mut master = Master::start().await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let driver = Driver::builder("test").master(&master.address).seed(1).build().unwrap();
    let handle = driver.handle();
    let _run = tokio::spawn(driver.run(Blocker(sender)));
    // Five intervals are two seconds.
    let (session, _) = master.subscribed(Duration::from_millis(400)).await;
    session.send(update("slow", TaskState::Running, 1)).await;
    assert_eq!(heard(&mut told).await, Told::Update("slow".to_owned()));
    // Enough turns of the driver that a deadline that is past would have been met in one of them.
    for _ in 0..30 {
        handle.send("turn").await.unwrap();
        assert_eq!(heard(&mut told).await, Told::Message("turn"));
    }
    session.send(update("next", TaskState::Running, 1)).await;
    assert_eq!(heard(&mut told).await, Told::Update("next".to_owned()));
}
