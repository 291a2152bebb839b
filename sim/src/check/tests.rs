//! Each check is broken by what it forbids.

mod model;

use std::{sync::Arc, time::Duration};

use apportion_agent_core::{CheckpointId, ContainerId, Record, TaskKey};
use apportion_master_core::{
    ConnId, OperatorCall,
    view::{AgentView, OfferView, TaskView},
};
use apportion_types::{
    AgentId, HealthCheck, Offer, OfferId, Probe, Reason, Resources, Source, Supervision, TaskState,
    TaskStatus, Time, UpdateId,
    protocol::{
        agent::{AgentMessage, MasterMessage, RefuseCode},
        scheduler::{Call, DeclineCode, DeclineReason, Event},
    },
};

use super::{
    Change, Changes, Happening,
    fixture::{broken, container, running},
};
use crate::{Answers, Sim, machine::Stage};

fn task(sim: &Sim) -> (TaskKey, Arc<TaskView>) {
    let (key, task) = sim.world().view().tasks.get_min().expect("there are tasks");
    (key.clone(), Arc::clone(task))
}

fn status(key: &TaskKey, state: TaskState, number: u64) -> TaskStatus {
    TaskStatus {
        task_id: key.1.clone(),
        agent_id: None,
        state,
        reason: None,
        source: Source::Agent,
        message: String::new(),
        at: Time::ZERO,
        update_id: Some(UpdateId::new(u64::MAX, number)),
        container: None,
        findings: Default::default(),
        addresses: Vec::new(),
    }
}

fn update(key: &TaskKey, state: TaskState, number: u64) -> Record {
    Record::Update { framework_id: key.0.clone(), status: status(key, state, number) }
}

fn offer(sim: &Sim, id: &str, role: &str, resources: &str) -> OfferView {
    let resources: Resources = resources.parse().unwrap();
    OfferView {
        offer: Offer {
            unavailability: None,
            offer_id: OfferId::new(id).unwrap(),
            framework_id: task(sim).0.0,
            agent_id: AgentId::new("m1-A0099").unwrap(),
            role: role.parse().unwrap(),
            resources,
            place: Default::default(),
        },
        made_at: Time::ZERO,
        expires_at: Time::ZERO,
    }
}

fn added(view: OfferView) -> Change<OfferId, OfferView> {
    Change { key: view.offer.offer_id.clone(), before: None, after: Some(Arc::new(view)) }
}

/// What the check that is first broken by a happening says.
fn after(happening: &Happening<'_>, check: &str) -> String {
    let mut sim = running();
    sim.world_mut().observe(happening);
    broken(&sim, check)
}

fn after_changes(changes: Changes, check: &str) -> String {
    after(&Happening::MasterDecided(&changes), check)
}

fn at_rest(mut sim: Sim, check: &str) -> String {
    sim.world_mut().check_at_rest();
    broken(&sim, check)
}

#[test]
fn nothing_is_broken_at_rest() {
    let mut sim = running();
    sim.world_mut().check_at_rest();
    assert_eq!(sim.world().violation, None);
}

#[test]
fn supervision_of_one_that_is_well() {
    let sim = running();
    let (agent, _, key) = container(&sim);
    let unhealthy = TaskStatus { reason: Some(Reason::Unhealthy), ..status(&key, TaskState::Killing, 9) };
    let record = Record::Update { framework_id: key.0, status: unhealthy };
    let said = after(&Happening::Durable { agent, record: &record }, "supervision");
    assert!(said.contains("as not healthy, and has always answered well"), "{said}");
}

#[test]
fn supervision_that_ends_nobody() {
    let supervised = |supervision: Supervision, answers: Answers| {
        let mut sim = running();
        let (agent, id, _) = container(&sim);
        let world = sim.world_mut();
        world.now = world.now + Duration::from_secs(600);
        let container = world.agents[agent].machine.containers.get_mut(&id).expect("it runs");
        (container.supervision, container.behaviour.answers) = (supervision, answers);
        at_rest(sim, "supervision")
    };
    let most = Supervision { max_completion: Some(Duration::from_secs(60)), ..Supervision::default() };
    assert!(supervised(most, Answers::Well).contains("runs longer than it may, for ever"));
    let check = Some(Box::new(HealthCheck::new(Probe::Tcp { port: 1 })));
    let asked = Supervision { health_check: check, ..Supervision::default() };
    let said = supervised(asked.clone(), Answers::Badly);
    assert!(said.contains("does not do its work, and is not ended, for ever"), "{said}");
    let said = supervised(asked, Answers::Well);
    assert!(said.contains("is healthy, and is told as None for ever"), "{said}");
}

#[test]
fn offers() {
    let mut sim = running();
    let event = Event::Rescind(OfferId::new("m1-O99999999").unwrap());
    sim.world_mut().observe(&Happening::MasterTellsScheduler {
        framework: 0,
        conn: ConnId(0),
        event: &event,
    });
    sim.world_mut().observe(&Happening::MasterDecided(&Changes::default()));
    assert!(broken(&sim, "offers").contains("is rescinded, and was not outstanding"));
}

#[test]
fn an_offer_that_nobody_is_told() {
    let changes =
        Changes { offers: vec![added(offer(&running(), "m1-O99999999", "*", ""))], ..Changes::default() };
    assert!(after_changes(changes, "offers").contains("is made, and not told"));
}

#[test]
fn answers() {
    let offers = vec![OfferId::new("m1-O99999999").unwrap()];
    let reason = DeclineReason::new(DeclineCode::NoWork);
    let call = Call::Decline { offers, refuse: None, reason };
    assert!(
        after(&Happening::SchedulerCalls { framework: 0, call_id: 0, call: &call }, "answers")
            .contains("does not hold")
    );
}

#[test]
fn updates() {
    let (key, _) = task(&running());
    let message = AgentMessage::StatusUpdate {
        framework_id: key.0.clone(),
        status: status(&key, TaskState::Finished, 1),
        latest_state: TaskState::Finished,
    };
    let what = after(&Happening::AgentSays { agent: 0, message: &message }, "updates");
    assert!(what.contains("which is not on its disk"), "{what}");

    let mut sim = running();
    sim.world_mut().observe(&Happening::Durable { agent: 0, record: &update(&key, TaskState::Finished, 1) });
    assert!(at_rest(sim, "updates").contains("on the disk of agent 0, and not acknowledged"));
}

#[test]
fn accepted() {
    let mut sim = running();
    let (agent, id, _) = container(&sim);
    sim.world_mut().agents[agent].machine.containers.get_mut(&id).unwrap().stage = Stage::Starting;
    assert!(at_rest(sim, "accepted").contains("does not run"));
}

#[test]
fn orphans() {
    let (agent, _, task) = container(&running());
    let other = ContainerId("other".to_owned());
    let what = after(&Happening::Launching { agent, container: &other, task: &task }, "orphans");
    assert!(what.contains("before it is on disk"), "{what}");

    let mut sim = running();
    let (agent, id, _) = container(&sim);
    let containers = &mut sim.world_mut().agents[agent].machine.containers;
    let copy = containers[&id].clone();
    containers.insert(other, copy);
    assert!(at_rest(sim, "orphans").contains("which does not know it"));
}

#[test]
fn what_is_told_to_have_ended_does_not_run() {
    let sim = running();
    let (key, task) = task(&sim);
    let status = TaskStatus {
        agent_id: Some(task.agent_id.clone()),
        update_id: None,
        source: Source::Master,
        reason: Some(Reason::Reconciliation),
        ..status(&key, TaskState::Gone, 1)
    };
    let what = after(&Happening::SchedulerHears { framework: 0, event: &Event::Update(status) }, "orphans");
    assert!(what.contains("which runs on"), "{what}");
}

#[test]
fn moves() {
    let mut sim = running();
    let (agent, _, key) = container(&sim);
    for (number, state) in [(1, TaskState::Failed), (2, TaskState::Running)] {
        sim.world_mut().observe(&Happening::Durable { agent, record: &update(&key, state, number) });
    }
    assert!(broken(&sim, "moves").contains("which was failed"));
}

#[test]
fn a_task_that_is_forgotten() {
    let (key, view) = task(&running());
    let tasks = vec![Change { key, before: Some(view), after: None }];
    let mut sim = running();
    let mut moves = super::moves::Moves::default();
    let changes = Changes { tasks, ..Changes::default() };
    let verdict = super::Check::observe(&mut moves, sim.world_mut(), &Happening::MasterDecided(&changes));
    assert!(verdict.unwrap_err().contains("is forgotten"));
}

#[test]
fn told() {
    let sim = running();
    let (key, view) = task(&sim);
    let lost = TaskView { state: TaskState::Unreachable, ..(*view).clone() };
    let tasks = vec![Change { key, before: Some(view), after: Some(Arc::new(lost)) }];
    let mut told = super::told::Told::default();
    let changes = Changes { tasks, ..Changes::default() };
    let verdict = super::Check::observe(&mut told, sim.world(), &Happening::MasterDecided(&changes));
    assert!(verdict.unwrap_err().contains("and nobody is told"));
}

#[test]
fn kills() {
    let mut sim = running();
    let (key, _) = task(&sim);
    let call = Call::Kill { task_id: key.1, grace: None };
    sim.world_mut().observe(&Happening::SchedulerCalls { framework: 0, call_id: 0, call: &call });
    assert!(at_rest(sim, "kills").contains("was asked to end"));
}

#[test]
fn failover() {
    let (framework_id, task_id) = task(&running()).0;
    let conn = ConnId(u64::MAX);
    let message = MasterMessage::KillTask {
        framework_id: framework_id.clone(),
        task_id,
        grace: None,
        reason: Reason::KilledByFramework,
    };
    let mut failover = super::failover::Failover::default();
    let mut sim = running();
    let agent_id = task(&sim).1.agent_id.clone();
    let registered = MasterMessage::Registered {
        agent_id,
        master_id: String::new(),
        ping_timeout: Default::default(),
        missing_tasks: Vec::new(),
        drain: None,
    };
    let mut tells = |message: &MasterMessage| {
        let happening = Happening::MasterTellsAgent { agent: 0, conn, message };
        super::Check::observe(&mut failover, sim.world_mut(), &happening)
    };
    assert_eq!(tells(&registered), Ok(()));
    assert!(tells(&message).unwrap_err().contains("nobody has asked for it"));
    let removed = tells(&MasterMessage::RemoveFramework { framework_id });
    assert!(removed.unwrap_err().contains("and it is not removed"));
}

#[test]
fn activation() {
    let sim = running();
    let agent_id = task(&sim).1.agent_id.clone();
    let conn = ConnId(u64::MAX);
    let registered = MasterMessage::Registered {
        agent_id: agent_id.clone(),
        master_id: String::new(),
        ping_timeout: Default::default(),
        missing_tasks: Vec::new(),
        drain: Some(Default::default()),
    };
    let see = |seen: &[Happening<'_>]| {
        let mut check = super::activation::Activations::default();
        seen.iter().try_for_each(|happening| super::Check::observe(&mut check, sim.world(), happening))
    };
    let told = Happening::MasterTellsAgent { agent: 0, conn, message: &registered };
    assert!(see(&[told]).unwrap_err().contains("and nobody wished that"));
    let deactivate = OperatorCall::DeactivateAgent { agent_id: agent_id.clone() };
    let decided = Happening::MasterDecided(&Changes::default());
    let answered = Happening::OperatorAnswered { call: &deactivate };
    assert!(see(&[answered, decided]).unwrap_err().contains("is active, and an operator was answered"));
    let gone = OperatorCall::MarkAgentGone { agent_id };
    let decided = Happening::MasterDecided(&Changes::default());
    let answered = Happening::OperatorAnswered { call: &gone };
    assert!(see(&[answered, decided]).unwrap_err().contains("takes part, and is gone"));
    let answered = Happening::OperatorAnswered { call: &gone };
    let told = Happening::MasterTellsAgent { agent: 0, conn, message: &registered };
    assert!(see(&[answered, told]).unwrap_err().contains("is let in, and is gone"));
}

#[test]
fn quotas() {
    let mut sim = running();
    let quotas = &mut sim.world_mut().master.allocator.quotas;
    quotas.entry("*".parse().unwrap()).or_default().limit = Some("cpus:4".parse().unwrap());
    let offers = ["m1-O99999998", "m1-O99999999"].map(|id| added(offer(&sim, id, "*", "cpus:3")));
    let changes = Changes { offers: offers.to_vec(), ..Changes::default() };
    let mut quotas = super::quotas::Quotas::default();
    let verdict = super::Check::observe(&mut quotas, sim.world(), &Happening::MasterDecided(&changes));
    assert!(verdict.unwrap_err().contains("may have 4000 thousandths of cpus"));
}

#[test]
fn fairness() {
    let sim = running();
    let offers = ["m1-O99999998", "m1-O99999999"].map(|id| added(offer(&sim, id, "other", "cpus:3")));
    let (id, agent) = sim.world().view().agents.get_min().unwrap();
    let given =
        AgentView { allocated: Resources::new(), offered: "cpus:6".parse().unwrap(), ..(**agent).clone() };
    let agents = vec![Change { key: id.clone(), before: None, after: Some(Arc::new(given)) }];
    let changes = Changes { agents, offers: offers.to_vec(), ..Changes::default() };
    let mut fairness = super::fairness::Fairness::default();
    let verdict = super::Check::observe(&mut fairness, sim.world(), &Happening::MasterDecided(&changes));
    assert!(verdict.unwrap_err().contains("goes to role other with a share of 0.75"));
}

#[test]
fn queues() {
    let mut queues = super::queues::Queues::default();
    let sim = running();
    let (key, _) = task(&sim);
    let mut verdicts = (1..=1001).map(|number| {
        let record = update(&key, TaskState::Running, number);
        super::Check::observe(&mut queues, sim.world(), &Happening::Durable { agent: 0, record: &record })
    });
    assert!(verdicts.by_ref().take(1000).all(|verdict| verdict.is_ok()));
    assert!(verdicts.next().unwrap().unwrap_err().contains("1001 updates"));
}

#[test]
fn honest() {
    let message = MasterMessage::Refuse { code: RefuseCode::Invalid, message: "no".to_owned() };
    assert!(after(&Happening::AgentHears { agent: 0, message: &message }, "honest").contains("is refused"));
}

#[test]
fn rest() {
    let mut sim = running();
    let (agent, _, key) = container(&sim);
    let pending = &mut sim.world_mut().agents[agent].machine.pending;
    pending.push((CheckpointId(u64::MAX), update(&key, TaskState::Failed, 1)));
    assert!(at_rest(sim, "rest").contains("records wait for the disk"));

    let mut sim = running();
    let mut rest = super::rest::Rest::default();
    let views = &sim.world().view().clone();
    let changes = Changes::between(&Default::default(), views);
    super::Check::observe(&mut rest, sim.world(), &Happening::MasterDecided(&changes)).unwrap();
    // Nothing more happens, and whatever is free stays so.
    sim.world_mut().now = sim.world().now + std::time::Duration::from_secs(2);
    let verdict = super::Check::at_rest(&mut rest, sim.world());
    assert!(verdict.unwrap_err().contains("wants offers and gets none of it"));
}
