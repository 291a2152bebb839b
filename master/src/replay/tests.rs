use std::collections::VecDeque;

use apportion_allocator::Quota;
use apportion_master_core::{CommitId, ConnId, Event};
use apportion_proto::v1::{self, journal_record::Record as WireRecord};
use apportion_types::{
    FrameworkId, Role, TaskState,
    protocol::{
        agent::{AgentMessage, MasterMessage},
        scheduler::{Accept, Call, DeclineCode, DeclineReason, Event as SchedulerEvent},
    },
};
use proptest::prelude::*;

use super::*;
use crate::journal::tests::{agent_info, framework_info, header, journal, open, record, status, task_info};

/// A master with two agents and two schedulers, which take what they are offered until it has gone on for some time.
struct Run {
    master: Master,
    now: Time,
    events: Vec<(Time, Event)>,
    commits: VecDeque<CommitId>,
    answers: VecDeque<Event>,
    tasks: u64,
}

impl Run {
    fn of(header: &Header) -> Run {
        let master = header.master(Box::new(Hierarchical::new(header.allocator.clone())));
        let (commits, answers) = (VecDeque::new(), VecDeque::new());
        let mut run = Run { master, now: header.started_at, events: Vec::new(), commits, answers, tasks: 0 };
        for conn in 0..4 {
            run.now = run.now + std::time::Duration::from_micros(100 * conn);
            let conn = ConnId(conn);
            run.handle(match conn.0 % 2 {
                0 => Event::AgentMessage {
                    conn,
                    message: AgentMessage::Register {
                        info: agent_info(),
                        agent_id: None,
                        total: agent_info().resources,
                        tasks: Vec::new(),
                        operations: Vec::new(),
                    },
                },
                _ => {
                    let call = Call::Subscribe {
                        info: framework_info(),
                        framework_id: None,
                        suppressed: Vec::new(),
                        options: Box::default(),
                    };
                    Event::SchedulerCall { conn, call_id: 1, call }
                }
            });
        }
        while run.events.len() < 150 {
            run.step();
        }
        // Nothing is heard of a stream that has ended.
        while !(run.commits.is_empty() && run.answers.is_empty()) {
            run.step();
        }
        run.handle(Event::AgentClosed { conn: ConnId(0) });
        run.handle(Event::SchedulerClosed { conn: ConnId(1) });
        run.step();
        run.handle(Event::Shutdown);
        run
    }

    fn step(&mut self) {
        if let Some(commit) = self.commits.pop_front() {
            self.handle(Event::Committed { commit });
        } else if let Some(answer) = self.answers.pop_front() {
            self.handle(answer);
        } else if let Some(deadline) = self.master.next_deadline() {
            self.now = self.now.max(deadline);
            self.handle(Event::Tick);
        }
    }

    fn handle(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.events.push((self.now, event.clone()));
        self.master.handle(self.now, event, &mut actions);
        for action in actions {
            self.answer(action);
        }
    }

    fn answer(&mut self, action: Action) {
        let call = |conn, call| Event::SchedulerCall { conn, call_id: 2, call };
        match action {
            Action::Commit { commit, .. } => self.commits.push_back(commit),
            Action::ToScheduler { conn, event: SchedulerEvent::Offers(offers) } => {
                for offer in offers {
                    self.tasks += 1;
                    let tasks = vec![task_info(&format!("t{}", self.tasks))];
                    let offers = vec![offer.offer_id];
                    self.answers.push_back(call(
                        conn,
                        match self.tasks % 3 {
                            0 => {
                                let reason = DeclineReason::new(DeclineCode::NoWork);
                                Call::Decline { offers, refuse: None, reason }
                            }
                            _ => Call::Accept(Accept::launch(offers, tasks, None)),
                        },
                    ));
                }
            }
            Action::ToScheduler { conn, event: SchedulerEvent::Update(status) } => {
                if let (Some(agent_id), Some(update_id)) = (status.agent_id, status.update_id) {
                    let task_id = status.task_id;
                    self.answers.push_back(call(conn, Call::Acknowledge { agent_id, task_id, update_id }));
                }
            }
            Action::ToAgent { conn, message: MasterMessage::RunTasks { framework_id, tasks, .. } } => {
                for (at, task) in tasks.iter().enumerate() {
                    let state = if at % 2 == 0 { TaskState::Finished } else { TaskState::Running };
                    let status = status(task.task_id.as_str(), state, self.tasks);
                    let framework_id = framework_id.clone();
                    let message = AgentMessage::StatusUpdate { framework_id, status, latest_state: state };
                    self.answers.push_back(Event::AgentMessage { conn, message });
                }
            }
            Action::ToAgent { conn, message: MasterMessage::Ping { sequence } } => {
                let message = AgentMessage::Pong { sequence };
                self.answers.push_back(Event::AgentMessage { conn, message });
            }
            _ => {}
        }
    }

    /// Its records, with a digest at the end.
    fn records(&self) -> Vec<(Time, WireRecord)> {
        let mut records: Vec<_> =
            self.events.iter().map(|(at, event)| (*at, record(event.clone()))).collect();
        let digest = WireRecord::Digest(Digest::of(&self.master.view()).into());
        records.push((self.now, digest));
        records.push((self.now, WireRecord::End(v1::JournalEnd { incomplete: None })));
        records
    }
}

fn replayed(bytes: Vec<u8>, until: Option<Time>) -> (Replay, Result<Ending, ReplayError>) {
    let mut journal = open(bytes).unwrap();
    let mut replay = Replay::new(journal.header());
    let ending = replay.run(&mut journal, until);
    (replay, ending)
}

fn assert_same(one: &View, other: &View) {
    assert_eq!(one.agents, other.agents);
    assert_eq!(one.frameworks, other.frameworks);
    assert_eq!(one.tasks, other.tasks);
    assert_eq!(one.completed, other.completed);
    assert_eq!(one.offers, other.offers);
    assert_eq!(one.counters, other.counters);
    assert_eq!((&one.master_id, one.started_at), (&other.master_id, other.started_at));
}

#[test]
fn a_replay_knows_what_the_master_knew() {
    let run = Run::of(&header());
    assert!(run.master.view().counters.tasks_launched > 10, "{:?}", run.master.view().counters);
    let (replay, ending) = replayed(journal(&header(), &run.records()), None);
    assert_eq!(ending.unwrap(), Ending::Complete);
    assert_same(&replay.view(), &run.master.view());
    assert_eq!((replay.now(), replay.events()), (run.now, run.events.len() as u64));
    assert_eq!(replay.shares(), run.master.shares());
}

#[test]
fn a_replay_stops_at_the_time_that_is_asked_for() {
    let run = Run::of(&header());
    let until = run.events[run.events.len() / 2].0;
    let (replay, ending) = replayed(journal(&header(), &run.records()), Some(until));
    assert_eq!(ending.unwrap(), Ending::Until);
    let before = run.events.iter().filter(|(at, _)| *at <= until).count();
    assert_eq!((replay.now(), replay.events()), (until, before as u64));
}

#[test]
fn the_end_of_a_journal_is_told_apart_from_one_that_is_missing() {
    let mut records = Run::of(&header()).records();
    let (at, _) = records.pop().unwrap();
    assert_eq!(replayed(journal(&header(), &records), None).1.unwrap(), Ending::Open);
    let why = "the disk is full".to_owned();
    records.push((at, WireRecord::End(v1::JournalEnd { incomplete: Some(why.clone()) })));
    let ending = replayed(journal(&header(), &records), None).1.unwrap();
    assert_eq!(ending, Ending::Incomplete(why));
}

#[test]
fn what_cannot_have_happened_is_refused_before_it_gets_to_the_core() {
    let refusal = |events: Vec<Event>| {
        let start = header().started_at;
        let records: Vec<_> = events.into_iter().map(|event| (start, record(event))).collect();
        replayed(journal(&header(), &records), None).1.unwrap_err().to_string()
    };
    let conn = ConnId(1);
    let pong = |conn| Event::AgentMessage { conn, message: AgentMessage::Pong { sequence: 1 } };
    let call = |conn| Event::SchedulerCall { conn, call_id: 1, call: Call::Teardown };
    let committed = |number| Event::Committed { commit: CommitId(number) };
    let register = AgentMessage::Register {
        info: agent_info(),
        agent_id: None,
        total: agent_info().resources,
        tasks: Vec::new(),
        operations: Vec::new(),
    };
    let ask = |number| Event::Operator {
        request: apportion_master_core::RequestId(number),
        call: apportion_master_core::OperatorCall::TeardownFramework {
            framework_id: FrameworkId::new("f").unwrap(),
        },
    };
    for (events, what) in [
        (vec![committed(1)], "write 1 is done and was never asked for"),
        (
            vec![Event::AgentMessage { conn, message: register }, committed(2)],
            "write 2 is done before write 1",
        ),
        (vec![Event::AgentClosed { conn }, pong(conn)], "heard of stream 1, which has ended"),
        (
            vec![Event::AgentClosed { conn }, Event::AgentClosed { conn }],
            "heard of stream 1, which has ended",
        ),
        (vec![pong(conn), call(conn)], "stream 1 is a scheduler's and an agent's"),
        (vec![Event::Tick], "nothing is due"),
        (vec![ask(4), ask(4)], "an operator's request has the number 4 again"),
        (vec![Event::Shutdown, pong(conn)], "after the master has ended"),
    ] {
        let text = refusal(events);
        assert!(text.contains(what) && text.contains("x.journal") && text.contains("at byte "), "{text}");
        assert!(text.contains("damaged or made by hand"), "{text}");
    }
}

#[test]
fn a_replay_that_comes_to_know_something_else_says_so() {
    let run = Run::of(&header());
    let mut records = run.records();
    let at = records.len() - 2;
    let mut digest = v1::JournalDigest::from(Digest::of(&run.master.view()));
    digest.offers ^= 1;
    records[at].1 = WireRecord::Digest(digest);
    let other = Header { version: "0.0.9".into(), ..header() };
    let text = replayed(journal(&other, &records), None).1.unwrap_err().to_string();
    assert!(text.contains("the offers are others; replay it with apportion 0.0.9"), "{text}");
}

#[test]
fn other_settings_are_asked_in_each_cycle_and_change_nothing() {
    let run = Run::of(&header());
    let bytes = journal(&header(), &run.records());
    let none = Quota { limit: Some("cpus:0".parse().unwrap()), ..Quota::default() };
    let other =
        HierarchicalConfig { quotas: [(Role::new("etl").unwrap(), none)].into(), ..header().allocator };
    for (other, differs) in [(header().allocator, false), (other, true)] {
        let (mut replay, what_if) = WhatIf::new(&header(), other);
        let ending = replay.run(&mut open(bytes.clone()).unwrap(), None).unwrap();
        assert_eq!(ending, Ending::Complete);
        assert_same(&replay.view(), &run.master.view());
        let cycles = what_if.cycles();
        assert_eq!(!cycles.is_empty(), differs, "{cycles:?}");
        assert!(cycles.is_sorted_by_key(|cycle| cycle.at) && what_if.cycles().is_empty());
        let roles = by_role(&cycles);
        if differs {
            let etl = &roles[&Role::new("etl").unwrap()];
            assert!(etl.only_real.allocations > 0 && etl.only_real.resources.cpus_milli() > 0, "{etl:?}");
            assert_eq!(etl.only_other, Sum::default(), "it may have nothing");
            assert!(roles[&Role::default()].only_other.allocations > 0, "others get it: {roles:?}");
        }
    }
}

/// Where each record of a journal begins, and where the last ends.
fn offsets(bytes: &[u8]) -> Vec<u64> {
    let mut journal = open(bytes.to_vec()).unwrap();
    let mut offsets: Vec<u64> = journal.by_ref().map(|entry| entry.unwrap().offset).collect();
    offsets.push(bytes.len() as u64);
    offsets
}

#[derive(Debug, Clone)]
enum Change {
    Drop(usize),
    Repeat(usize),
    Swap(usize, usize),
    Later(usize, u64),
}

fn change() -> impl Strategy<Value = Change> {
    let place = || any::<usize>();
    prop_oneof![
        place().prop_map(Change::Drop),
        place().prop_map(Change::Repeat),
        (place(), place()).prop_map(|(one, other)| Change::Swap(one, other)),
        (place(), any::<u64>()).prop_map(|(at, by)| Change::Later(at, by)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400), headed: bool) {
        let mut all = if headed { journal(&header(), &[]) } else { Vec::new() };
        all.extend(bytes);
        if let Ok(mut journal) = open(all) {
            let mut replay = Replay::new(journal.header());
            let _ = replay.run(&mut journal, None);
        }
    }

    #[test]
    fn everything_before_a_cut_is_replayed(share in 0.0..1.0f64) {
        let bytes = journal(&header(), &Run::of(&header()).records());
        let offsets = offsets(&bytes);
        let first = offsets[0] as usize;
        let length = first + ((bytes.len() - first) as f64 * share) as usize;
        let (replay, ending) = replayed(bytes[..length].to_vec(), None);
        let whole = offsets[1..].iter().filter(|end| **end <= length as u64).count();
        let events = whole.min(offsets.len() - 3);
        prop_assert_eq!(replay.events(), events as u64);
        match ending {
            Ok(Ending::Open) => prop_assert_eq!(offsets[whole], length as u64),
            Err(ReplayError::Journal(JournalError::Cut { offset, .. })) => prop_assert_eq!(offset, offsets[whole]),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed(share in 0.0..1.0f64, bit in 0..8u8) {
        let mut bytes = journal(&header(), &Run::of(&header()).records());
        let offsets = offsets(&bytes);
        let first = offsets[0] as usize;
        let at = first + ((bytes.len() - 1 - first) as f64 * share) as usize;
        bytes[at] ^= 1 << bit;
        let begins = *offsets.iter().rfind(|offset| **offset <= at as u64).unwrap();
        let error = replayed(bytes, None).1.unwrap_err();
        match error {
            // A longer length than what is left looks like a cut.
            ReplayError::Journal(JournalError::Damaged { offset, .. } | JournalError::Cut { offset, .. }) => {
                prop_assert_eq!(offset, begins);
            }
            other => prop_assert!(false, "{}", other),
        }
    }

    #[test]
    fn no_order_of_records_breaks_the_core(changes in proptest::collection::vec(change(), 1..6)) {
        let mut records = Run::of(&header()).records();
        for change in changes {
            let count = records.len();
            match change {
                Change::Drop(at) => drop(records.remove(at % count)),
                Change::Repeat(at) => records.insert(at % count, records[at % count].clone()),
                Change::Swap(one, other) => {
                    let (one, other) = (one % count, other % count);
                    let moved = records[one].1.clone();
                    records[one].1 = std::mem::replace(&mut records[other].1, moved);
                }
                Change::Later(at, by) => {
                    for (time, _) in &mut records[at % count..] {
                        *time = *time + std::time::Duration::from_micros(by);
                    }
                }
            }
        }
        // Whatever it says, it says it.
        let _ = replayed(journal(&header(), &records), None);
    }
}
