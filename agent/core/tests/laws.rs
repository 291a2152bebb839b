//! Random events against the core's laws: a master, a disk and containers that do whatever is allowed, in any order.
//!
//! `AgentCore::check` holds after every event; here are the laws that are seen from outside only.

// All of this is test code.
#![allow(clippy::unwrap_used)]

#[path = "laws/crash.rs"]
mod crash;
#[path = "laws/executors.rs"]
mod executors;
#[path = "laws/steps.rs"]
mod steps;
#[path = "laws/wishes.rs"]
mod wishes;
#[path = "laws/world.rs"]
mod world;

use apportion_agent_core::{Action, AgentCore, Event};
use apportion_types::{
    Time,
    protocol::agent::{MasterMessage, RefuseCode},
};
use proptest::prelude::*;

use steps::step;
use world::{World, config};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn laws_hold_whatever_happens(volumes: bool, steps in proptest::collection::vec(step(), 1..120)) {
        let mut world = World::new();
        if volumes {
            world.with_volumes();
        }
        for step in steps {
            world.step(step);
        }
        world.settle();
    }
}

#[test]
fn a_refusal_ends_everything() {
    let mut core = AgentCore::new(config(), 1, Time::ZERO);
    let mut actions = Vec::new();
    core.handle(Time::ZERO, Event::Connected, &mut actions);
    let refuse = MasterMessage::Refuse { code: RefuseCode::Invalid, message: "no".to_owned() };
    core.handle(Time::ZERO, Event::MasterMessage(refuse), &mut actions);
    assert!(matches!(actions.last(), Some(Action::Fail { .. })));
    actions.clear();
    core.handle(Time::ZERO, Event::Shutdown, &mut actions);
    assert!(actions.is_empty() && core.next_deadline().is_none());
}
