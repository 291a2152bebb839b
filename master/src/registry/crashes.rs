//! A registry in a file, when the power fails: at any write, with any of the unsynced ones lost or torn.
//!
//! redb asks of a disk that a byte is written whole or not at all, that what was synced lasts, and that a write changes no byte beside
//! its own ([Assumptions about underlying media](https://github.com/cberner/redb/blob/master/docs/design.md)). The disk of
//! these tests keeps to that; no image that it leaves is left out. One that changes what was synced is damage: see the flipped bytes.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
};

use apportion_master_core::{RemovedAgent, view::RoleSettings};
use apportion_types::{AgentCapability, AgentId, AgentInfo, Resources, Role};

use super::{
    embedded::{Store, initialize, judge},
    power::{Chance, Crash, Disk},
    power_redb::Storage,
    *,
};

const SEED: u64 = 1;

fn open(storage: Storage) -> Result<Store, OpenError> {
    Store::open(PathBuf::from("registry"), storage, File::open("/dev/null").unwrap())
}

/// Some changes, small and large ones.
fn ops(chance: &mut Chance) -> Vec<RegistryOp> {
    let agent_id = |chance: &mut Chance| AgentId::new(format!("a{}", chance.below(12))).unwrap();
    let role = |chance: &mut Chance| Role::new(format!("r{}", chance.below(6))).unwrap();
    let op = |chance: &mut Chance| match chance.below(6) {
        0 => RegistryOp::MarkUnreachable { agent_id: agent_id(chance), at: None },
        1 => RegistryOp::SetRole {
            role: role(chance),
            settings: RoleSettings { priority: chance.below(9) as i32, ..RoleSettings::default() },
        },
        2 if chance.below(8) == 0 => {
            RegistryOp::RemoveAgent { agent_id: agent_id(chance), removed: RemovedAgent::default() }
        }
        _ => {
            let info = AgentInfo {
                hostname: "h".to_owned(),
                address: "h:1".to_owned(),
                resources: Resources::new(),
                attributes: BTreeMap::from([("a".to_owned(), "x".repeat(chance.below(3000)))]),
                domain: None,
                unenforced: Vec::new(),
                version: chance.below(1000).to_string(),
                capabilities: AgentCapability::ALL.into(),
                work_dir_id: String::new(),
            };
            RegistryOp::AdmitAgent { agent_id: agent_id(chance), info }
        }
    };
    (0..=chance.below(4)).map(|_| op(chance)).collect()
}

/// What masters, one after the other, wrote to one file; and what it kept after each commit.
fn written(seed: u64) -> (Disk, Vec<Contents>) {
    let (disk, mut chance) = (Disk::default(), Chance(seed));
    initialize(Storage::of(&disk)).unwrap();
    let mut history = vec![Contents::default()];
    disk.acknowledged(0);
    for round in 0..10 {
        // Some end as they should, some are killed, between two commits or in the midst of one.
        let writes = if round % 2 == 0 { usize::MAX } else { 20 + chance.below(60) };
        let opened = open(Storage::killed_after(&disk, writes));
        // Killed while it opened.
        let Ok(store) = opened else { continue };
        let kept = store.contents();
        assert!(kept == history[history.len() - 1] || kept == history[history.len() - 2]);
        // Whoever asks is told this, so it is to stay.
        history.push(kept);
        disk.acknowledged(history.len() - 1);
        for _ in 0..5 {
            let ops = ops(&mut chance);
            let mut contents = store.contents();
            ops.iter().for_each(|op| contents.apply(op.clone()));
            history.push(contents);
            disk.begun(history.len() - 1);
            if store.commit(ops).is_err() {
                break;
            }
            disk.acknowledged(history.len() - 1);
        }
        if round % 4 == 2 {
            // Killed between two commits: nothing is closed.
            std::mem::forget(store);
        }
    }
    (disk, history)
}

/// What some commit left is read, and nothing else; it can be opened, written to, and opened again.
fn check(crash: Crash, history: &[Contents], again: bool, seed: u64) {
    let Crash { bytes, commits, when } = crash;
    let path = Path::new("registry");
    let judged = judge(path, &bytes).unwrap_or_else(|error| panic!("{when}: {error:?}"));
    let found = commits.clone().any(|commit| history[commit] == judged.contents);
    assert!(found, "{when}: what is kept is what none of the commits {commits:?} left");
    if !again && !seed.is_multiple_of(4) {
        return;
    }
    let disk = Disk::of(bytes);
    disk.acknowledged(0);
    let store = open(Storage::of(&disk)).unwrap_or_else(|error| panic!("{when}: {error:?}"));
    assert_eq!(store.contents(), judged.contents, "{when}");
    if !again {
        return;
    }
    disk.acknowledged(0);
    let ops = ops(&mut Chance(seed));
    let mut after = judged.contents.clone();
    ops.iter().for_each(|op| after.apply(op.clone()));
    disk.begun(1);
    store.commit(ops).unwrap();
    disk.acknowledged(1);
    assert_eq!(store.contents(), after, "{when}");
    drop(store);
    let history = [judged.contents, after];
    disk.crashes(seed, |crash| {
        let when = format!("{when}, then {}", crash.when);
        check(Crash { when, ..crash }, &history, false, 1);
    });
}

#[test]
fn a_loss_of_power_leaves_what_was_acknowledged() {
    let (disk, history) = written(SEED);
    assert!(history.len() > 40, "{}", history.len());

    let mut images = 0;
    disk.crashes(SEED, |crash| {
        images += 1;
        check(crash, &history, images % 100 == 0, images);
    });
    assert!(images > 2000, "{images}");
}
