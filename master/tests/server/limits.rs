use apportion_proto::v1::scheduler_service_client::SchedulerServiceClient;
use apportion_types::{
    AgentId, FrameworkId, Role, TaskId, TaskInfo, TaskState,
    convert::scheduler_request,
    limits,
    protocol::{
        agent::{AgentMessage, AgentTask, MasterMessage},
        scheduler::{Accept, Call, DeclineCode, DeclineReason, ErrorCode, Event},
    },
};
use tonic::Code;

use crate::harness::{Master, agent_info, config, framework, patiently, subscribe, task};

fn task_id(index: usize) -> TaskId {
    TaskId::new(format!("t{index}")).unwrap()
}

#[tokio::test]
async fn a_message_above_the_limit_ends_its_stream_with_the_limit() {
    let master = Master::start(config()).await;
    let mut scheduler = master.scheduler().await;
    scheduler.subscribe(framework("f")).await;
    let detail = "x".repeat(limits::MESSAGE_BYTES_MAX);
    let reason = DeclineReason { code: DeclineCode::Other, detail };
    scheduler.call(Call::Decline { offers: Vec::new(), refuse: None, reason }).await;
    let status = loop {
        match scheduler.event().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert!(status.message().contains("4194304 bytes"), "{status}");
    // Somebody else is served as before.
    master.scheduler().await.subscribe(framework("g")).await;
}

/// An accept that only just fits is more than another accept could be with the framework's description beside it.
#[tokio::test]
async fn a_large_but_allowed_accept_reaches_the_agent_whole() {
    let master = Master::start(config()).await;
    let (mut scheduler, mut agent) = (master.scheduler().await, master.agent().await);
    scheduler.subscribe(framework(&"x".repeat(120_000))).await;
    agent.register("cpus:64;mem:65536").await;
    let offer = scheduler.offer().await;
    let large = |index: usize| {
        let task = task(&format!("t{index}"), "cpus:1;mem:64");
        TaskInfo { name: "x".repeat(100_000), ..task }
    };
    let tasks: Vec<_> = (0..41).map(large).collect();
    scheduler.call(Call::Accept(Accept::launch(vec![offer.offer_id], tasks.clone(), None))).await;
    let MasterMessage::RunTasks { tasks: received, .. } = agent.expect().await else {
        panic!("they are to run")
    };
    assert!(received.iter().map(|info| &**info).eq(&tasks));
}

/// An agent names all its tasks in one message, and a new master must be able to take it.
#[tokio::test]
async fn an_agent_with_many_tasks_can_register() {
    let master = Master::start(config()).await;
    let mut agent = master.agent().await;
    let named = |index: usize| AgentTask {
        framework_id: FrameworkId::new("f").unwrap(),
        role: Role::default(),
        framework_info: framework("f"),
        info: TaskInfo { name: "x".repeat(100_000), ..task(&format!("t{index}"), "cpus:1") },
        state: TaskState::Running,
        unacknowledged: None,
    };
    let tasks: Vec<AgentTask> = (0..60).map(named).collect();
    let agent_id = AgentId::new("of-an-earlier-master").unwrap();
    let info = agent_info("cpus:64");
    let total = info.resources.clone();
    let (id, operations) = (Some(agent_id.clone()), Vec::new());
    agent.send(AgentMessage::Register { info, agent_id: id, total, tasks, operations }).await;
    let MasterMessage::Registered { agent_id: registered, missing_tasks, .. } = agent.expect().await else {
        panic!("it is registered")
    };
    assert_eq!((registered, missing_tasks), (agent_id, Vec::new()));
}

/// The answers to one allowed call are no reason to end whoever reads them.
#[tokio::test]
async fn the_largest_reconciliation_is_answered() {
    const CALLS: usize = 3;
    let master = Master::start(config()).await;
    let mut scheduler = master.scheduler().await;
    scheduler.subscribe(framework("f")).await;
    for call in 0..CALLS {
        let first = call * limits::RECONCILE_TASKS_MAX;
        let tasks =
            (first..first + limits::RECONCILE_TASKS_MAX).map(|index| (task_id(index), None)).collect();
        scheduler.call(Call::Reconcile { tasks }).await;
    }
    for index in 0..CALLS * limits::RECONCILE_TASKS_MAX {
        assert_eq!(scheduler.update(TaskState::Unknown).await.task_id, task_id(index));
    }
}

/// More calls than wait anywhere, by somebody who reads: all are handled, in order.
#[tokio::test]
async fn a_flood_of_calls_is_handled_in_order() {
    const CALLS: usize = 5000;
    let master = Master::start(config()).await;
    let (calls, receiver) = tokio::sync::mpsc::channel(64);
    let mut client = SchedulerServiceClient::new(master.channel().await);
    let subscribe = subscribe(framework("f"));
    calls.send(scheduler_request(0, subscribe)).await.unwrap();
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut events = client.connect(receiver).await.unwrap().into_inner();
    patiently("the subscription", events.message()).await.unwrap().unwrap();
    let flood = calls.clone();
    tokio::spawn(async move {
        for index in 1..=CALLS {
            let kill = Call::Kill { task_id: task_id(index), grace: None };
            flood.send(scheduler_request(index as u64, kill)).await.unwrap();
        }
    });
    let mut next = 1;
    while next <= CALLS {
        let event = patiently("an event", events.message()).await.unwrap().unwrap();
        match Event::try_from(event).unwrap() {
            Event::Update(status) => {
                assert_eq!(status.task_id, task_id(next));
                next += 1;
            }
            Event::Heartbeat => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Every call is answered, and nobody reads the answers.
#[tokio::test]
async fn a_scheduler_that_never_reads_is_ended_and_nobody_else_notices() {
    let master = Master::start(config()).await;
    let mut other = master.scheduler().await;
    other.subscribe(framework("other")).await;

    let subscribe = subscribe(framework("slow"));
    let tasks = (0..limits::RECONCILE_TASKS_MAX).map(|index| (task_id(index), None)).collect();
    let reconcile = scheduler_request(1, Call::Reconcile { tasks });
    let enough = 1 + 2 * limits::OUTBOX_ITEMS_MAX / limits::RECONCILE_TASKS_MAX;
    let (calls, receiver) = tokio::sync::mpsc::channel(1 + enough);
    calls.send(scheduler_request(0, subscribe)).await.unwrap();
    // The least window that HTTP/2 begins with, so that little waits outside of the master.
    let window = 65_535;
    let channel = master.endpoint().initial_stream_window_size(window).initial_connection_window_size(window);
    let mut client = SchedulerServiceClient::new(channel.connect().await.unwrap());
    let receiver = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut events = client.connect(receiver).await.unwrap().into_inner();
    patiently("the subscription", events.message()).await.unwrap().unwrap();
    for _ in 0..enough {
        calls.send(reconcile.clone()).await.unwrap();
    }
    master.metric_reaches("apportion_master_peers_too_slow_total{peer=\"scheduler\"}", 1.0).await;
    // The core has heard of it.
    let inactive = "apportion_master_frameworks{state=\"disconnected\"}";
    master.metric_reaches(inactive, 1.0).await;
    other.call(Call::Kill { task_id: TaskId::new("t").unwrap(), grace: None }).await;
    other.update(TaskState::Unknown).await;

    // It wakes up, reads what was on its way, and why it was ended, and that this is all.
    let mut last = None;
    let mut count = 0;
    while let Ok(Some(event)) = patiently("an event", events.message()).await {
        count += 1;
        last = Some(Event::try_from(event).unwrap());
    }
    let Some(Event::Error { code, message }) = last else { panic!("{last:?} after {count}") };
    assert_eq!(code, ErrorCode::TooSlow);
    assert!(message.contains("subscribe again and reconcile"), "{message}");
    assert!(count < limits::OUTBOX_ITEMS_MAX, "{count} were sent although the queue was given up");
}
