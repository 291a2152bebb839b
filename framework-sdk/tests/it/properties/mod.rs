//! What holds for the driver whatever the master, the network and the scheduler do.

mod master;
mod player;

use std::collections::BTreeSet;

use apportion_sdk::{Stop, TaskId, driver::Input, protocol::Call};
use proptest::{collection::vec, prelude::*};

use self::master::{Stream, World, op};

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_driver_keeps_the_protocol(dice in any::<u64>(), ops in vec(op(), 1..120), stop in any::<bool>()) {
        let mut world = World::new(dice);
        for _ in 0..2 {
            world.progress();
        }
        for op in ops {
            world.op(op);
        }
        // Every task placed was accepted or told as dropped, once all offers are dropped.
        for _ in 0..3 {
            if world.stream != Stream::Subscribed {
                world.progress();
            }
        }
        world.player().kept.clear();
        world.input(Input::Tick);
        prop_assert!(world.offers.is_empty(), "{:?}", world.offers.keys());
        let accepted: BTreeSet<TaskId> = world.live.keys().chain(&world.ended).cloned().collect();
        let player = world.engine.scheduler();
        let told: BTreeSet<TaskId> = accepted.union(&player.dropped).cloned().collect();
        prop_assert_eq!(&told, &player.placed);

        world.stopping = true;
        world.player().stop = Some(if stop { Stop::Disconnect } else { Stop::Teardown });
        world.input(Input::Message(()));
        for _ in 0..4 {
            if world.end.is_none() && world.stream != Stream::Subscribed {
                world.progress();
            }
        }
        if world.end.is_none() {
            prop_assert!(!stop && matches!(world.calls.last(), Some((_, Call::Teardown))), "{:?}", world.calls);
            world.lost();
            world.input(Input::Disconnected { clean: true, why: String::new() });
        }
        prop_assert!(world.end.is_some());
        prop_assert_eq!(world.engine.next_deadline(), None);
        world.input(Input::Message(()));
        prop_assert!(world.calls.is_empty());
    }

    #[test]
    fn equal_inputs_give_equal_calls(dice in any::<u64>(), ops in vec(op(), 1..60)) {
        let run = || {
            let mut world = World::new(dice);
            let mut calls = Vec::new();
            for op in ops.clone() {
                world.op(op);
                calls.append(&mut world.calls);
            }
            (calls, world.now)
        };
        prop_assert_eq!(run(), run());
    }
}
