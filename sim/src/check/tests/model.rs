//! The checks of the whole offer model, each broken by what it forbids.

use apportion_agent_core::Record;
use apportion_types::{
    FrameworkId, OperationId, OperationState, OperationStatus, Reason, Resources, TaskInfo, Time, UpdateId,
    protocol::{
        agent::{AgentMessage, AgentOperation, MasterMessage},
        scheduler::{Accept, Call, Claim, ClaimResult, Event, Preemption},
    },
};

use super::*;
use crate::check::{
    Check, claims::Claims, gangs::Gangs, preemptions::Preemptions, reservations::Reservations,
};

const CONN: ConnId = ConnId(u64::MAX);

/// What a check says of some happenings, the last of which breaks it.
fn judged(sim: &Sim, check: &mut dyn Check, happenings: &[Happening<'_>]) -> String {
    let (last, before) = happenings.split_last().unwrap();
    for happening in before {
        check.observe(sim.world(), happening).unwrap();
    }
    check.observe(sim.world(), last).unwrap_err()
}

fn subscribed(framework_id: &FrameworkId) -> Event {
    let (framework_id, heartbeat_interval) = (framework_id.clone(), std::time::Duration::from_secs(1));
    Event::Subscribed { framework_id, heartbeat_interval, master_id: "m1".to_owned() }
}

/// Two tasks, of which the first begins in the decision.
fn begun(sim: &Sim) -> (FrameworkId, Vec<TaskInfo>, Changes) {
    let (key, view) = task(sim);
    let mut staging = TaskView::clone(&view);
    staging.state = TaskState::Staging;
    let other = TaskInfo { task_id: "other".parse().unwrap(), ..TaskInfo::clone(&view.info) };
    let tasks = vec![TaskInfo::clone(&view.info), other];
    let change = Change { key: key.clone(), before: None, after: Some(Arc::new(staging)) };
    (key.0, tasks, Changes { tasks: vec![change], ..Changes::default() })
}

#[test]
fn reservations() {
    let sim = running();
    let changes =
        Changes { offers: vec![added(offer(&sim, "m1-O1", "*", "cpus(eng):1"))], ..Changes::default() };
    let said = judged(&sim, &mut Reservations, &[Happening::MasterDecided(&changes)]);
    assert!(said.contains("is for role *, and some of it is kept for eng"), "{said}");
    let changes =
        Changes { offers: vec![added(offer(&sim, "m1-O1", "eng/ads", "cpus(eng):1"))], ..Changes::default() };
    Reservations.observe(sim.world(), &Happening::MasterDecided(&changes)).unwrap();
}

#[test]
fn gangs() {
    let sim = running();
    let (framework_id, tasks, changes) = begun(&sim);
    let accepts = tasks.into_iter().map(|task| Accept::launch(Vec::new(), vec![task], None)).collect();
    let (event, call) = (subscribed(&framework_id), Call::Gang { accepts });
    let happenings = [
        Happening::MasterTellsScheduler { framework: 0, conn: CONN, event: &event },
        Happening::MasterHearsScheduler { framework: 0, conn: CONN, call: &call },
        Happening::MasterDecided(&changes),
    ];
    let said = judged(&sim, &mut Gangs::default(), &happenings);
    assert!(said.starts_with("1 of the 2 tasks of a gang"), "{said}");
}

#[test]
fn claims() {
    let sim = running();
    let (framework_id, tasks, changes) = begun(&sim);
    let agent_id = changes.tasks[0].after.as_ref().unwrap().agent_id.clone();
    let claim = |task: &TaskInfo| Claim { agent_id: agent_id.clone(), tasks: vec![Ok(task.clone())] };
    let claims: Vec<Claim> = tasks.iter().map(claim).collect();
    let call = Call::Commit { role: "*".parse().unwrap(), claims, all_or_nothing: true };
    let refused = ClaimResult::Refused {
        code: apportion_types::protocol::scheduler::ClaimRefusal::NotFree,
        message: String::new(),
        winner: None,
    };
    let said_of = |claims: Vec<ClaimResult>| {
        let (event, told) = (subscribed(&framework_id), Event::Committed { call_id: 1, claims });
        let happenings = [
            Happening::MasterTellsScheduler { framework: 0, conn: CONN, event: &event },
            Happening::MasterHearsScheduler { framework: 0, conn: CONN, call: &call },
            Happening::MasterTellsScheduler { framework: 0, conn: CONN, event: &told },
            Happening::MasterDecided(&changes),
        ];
        judged(&sim, &mut Claims::default(), &happenings)
    };
    let said = said_of(vec![ClaimResult::Taken, refused.clone()]);
    assert!(said.contains("1 of 2 claims"), "{said}");
    let said = said_of(vec![refused.clone(), refused]);
    assert!(said.contains("is refused, and tasks of it begin"), "{said}");
}

#[test]
fn preemptions() {
    let sim = running();
    let (key, view) = task(&sim);
    let event = subscribed(&key.0);
    let notice = Event::Preempt(Preemption {
        agent_id: view.agent_id.clone(),
        resources: Resources::new(),
        tasks: vec![key.1.clone()],
        at: Time::ZERO,
        for_role: "prod".parse().unwrap(),
    });
    let happenings = [
        Happening::MasterTellsScheduler { framework: 0, conn: CONN, event: &event },
        Happening::MasterTellsScheduler { framework: 0, conn: CONN, event: &notice },
    ];
    let said = judged(&sim, &mut Preemptions::default(), &happenings);
    assert!(said.contains("has priority 0, and is to give way to role prod of 0"), "{said}");
    let (framework_id, task_id) = key;
    let message = MasterMessage::KillTask { framework_id, task_id, grace: None, reason: Reason::Preempted };
    let kill = Happening::MasterTellsAgent { agent: 0, conn: CONN, message: &message };
    let said = judged(&sim, &mut Preemptions::default(), &[kill]);
    assert!(said.contains("without a notice"), "{said}");
}

#[test]
fn operations() {
    let sim = running();
    let status = OperationStatus {
        operation_id: OperationId::new("op").unwrap(),
        agent_id: None,
        state: OperationState::Finished,
        reason: None,
        message: String::new(),
        at: Time::ZERO,
        update_id: Some(UpdateId::new(1, 1)),
    };
    let (framework_id, operation_id) = (task(&sim).0.0, None);
    let operation = apportion_types::Operation::Reserve { resources: "cpus(+eng):1".parse().unwrap() };
    let apply = MasterMessage::Apply { framework_id: Some(framework_id.clone()), operation_id, operation };
    let record = Record::Operation { total: None, outcome: Some(AgentOperation { framework_id, status }) };
    let hears = || Happening::AgentHears { agent: 0, message: &apply };
    let writes = || Happening::Durable { agent: 0, record: &record };
    let check = crate::check::operations::Operations::default;
    let said = judged(&sim, &mut check(), &[writes()]);
    assert!(said.contains("was not told to do"), "{said}");
    let said = judged(&sim, &mut check(), &[hears(), hears(), writes(), writes()]);
    assert!(said.contains("twice"), "{said}");
    let message = AgentMessage::Register {
        info: sim.world().agents[0].config.info.clone(),
        agent_id: None,
        total: "cpus:1".parse().unwrap(),
        tasks: Vec::new(),
        operations: Vec::new(),
    };
    let said = judged(&sim, &mut check(), &[Happening::AgentSays { agent: 0, message: &message }]);
    assert!(said.contains("registers with cpus:1"), "{said}");
}

#[test]
fn volumes() {
    let mut sim = running();
    let (agent, id, key) = container(&sim);
    let machine = &mut sim.world_mut().agents[agent].machine;
    let held = machine.containers.get_mut(&id).unwrap();
    held.resources = "disk(eng)[data=data]:10".parse().unwrap();
    let copy = held.clone();
    let launching = Happening::Launching { agent, container: &id, task: &key };
    let check = &mut crate::check::volumes::Volumes;
    assert!(check.observe(sim.world(), &launching).unwrap_err().contains("whose folder is not there"));
    let machine = &mut sim.world_mut().agents[agent].machine;
    machine.volumes.insert(("eng".parse().unwrap(), "data".parse().unwrap()));
    check.observe(sim.world(), &launching).unwrap();
    sim.world_mut().agents[agent].machine.containers.insert(ContainerId("other".to_owned()), copy);
    assert!(check.observe(sim.world(), &launching).unwrap_err().contains("and so does other"));
}
