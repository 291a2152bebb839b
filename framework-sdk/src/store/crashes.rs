//! A store on a disk, when the power fails: at any write, with any of the unsynced ones lost or torn; and when bytes of it change.
//!
//! redb asks of a disk that a byte is written whole or not at all, that what was synced lasts, and that a write changes no byte beside
//! its own ([Assumptions about underlying media](https://github.com/cberner/redb/blob/master/docs/design.md)). The disk of
//! these tests keeps to that; no image that it leaves is left out.

#![expect(clippy::disallowed_types, reason = "what holds a store's lock is a file")]

use std::{fs::File, path::Path};

use apportion_types::FrameworkId;
use redb::Builder;

use super::{
    embedded::{ABOUT, ABOUT_OWNER, ABOUT_VERSION, RECORDS, VERSION, initialize},
    power::{Chance, Crash, Disk},
    power_redb::Storage,
    *,
};

const SEED: u64 = 0;

const OWNER: &str = "job a";

fn open(storage: Storage) -> Result<Embedded, StoreError> {
    Embedded::in_storage(Path::new("folder"), storage, File::open("/dev/null").unwrap(), OWNER)
}

/// Some changes, small and large ones.
fn changes(chance: &mut Chance) -> Changes {
    let mut changes = Changes::default();
    if chance.below(6) == 0 {
        changes.framework_id(Some(FrameworkId::new(format!("f{}", chance.below(100))).unwrap()));
    }
    for _ in 0..=chance.below(4) {
        let key = format!("task/{}", chance.below(12));
        match chance.below(4) {
            0 => changes.remove(key),
            _ => changes.put(key, vec![chance.below(256) as u8; chance.below(2000)]),
        };
    }
    changes
}

/// What schedulers, one after the other, wrote to one file; and what it kept after each save.
fn written(seed: u64) -> (Disk, Vec<Kept>) {
    let (disk, mut chance) = (Disk::default(), Chance(seed));
    initialize(Storage::of(&disk), OWNER).unwrap();
    let mut history = vec![Kept::default()];
    disk.acknowledged(0);
    for round in 0..10 {
        // Some end as they should, some are killed, between two saves or in the midst of one.
        let writes = if round % 2 == 0 { usize::MAX } else { 20 + chance.below(60) };
        let opened = open(Storage::killed_after(&disk, writes));
        // Killed while it opened.
        let Ok(mut store) = opened else { continue };
        let mut kept = store.load().unwrap();
        assert!(kept == history[history.len() - 1] || kept == history[history.len() - 2]);
        // What a scheduler does next builds on this, so it is to stay.
        history.push(kept.clone());
        disk.acknowledged(history.len() - 1);
        for _ in 0..5 {
            let changes = changes(&mut chance);
            kept.apply(changes.clone());
            history.push(kept.clone());
            disk.begun(history.len() - 1);
            if store.save(changes).is_err() {
                break;
            }
            disk.acknowledged(history.len() - 1);
        }
        if round % 4 == 2 {
            // Killed between two saves: nothing is closed.
            std::mem::forget(store);
        }
    }
    (disk, history)
}

/// What some save left is read, and nothing else; it can be opened, written to, and opened again.
fn check(crash: Crash, history: &[Kept], again: bool, seed: u64) {
    let Crash { bytes, commits, when } = crash;
    let disk = Disk::of(bytes);
    let mut store = open(Storage::of(&disk)).unwrap_or_else(|error| panic!("{when}: {error:?}"));
    let kept = store.load().unwrap();
    let found = commits.clone().any(|commit| history[commit] == kept);
    assert!(found, "{when}: what is kept is what none of the saves {commits:?} left");
    if !again {
        return;
    }
    disk.acknowledged(0);
    let changes = changes(&mut Chance(seed));
    let mut after = kept.clone();
    after.apply(changes.clone());
    disk.begun(1);
    store.save(changes).unwrap();
    disk.acknowledged(1);
    assert_eq!(store.load().unwrap(), after, "{when}");
    drop(store);
    let history = [kept, after];
    disk.crashes(seed, |crash| {
        let when = format!("{when}, then {}", crash.when);
        check(Crash { when, ..crash }, &history, false, seed);
    });
}

#[test]
fn a_loss_of_power_leaves_what_was_saved() {
    let (disk, history) = written(SEED);
    assert!(history.len() > 40, "{}", history.len());
    let mut images = 0;
    disk.crashes(SEED, |crash| {
        images += 1;
        check(crash, &history, images % 100 == 0, images);
    });
    assert!(images > 2000, "{images}");
}

/// Saves of the time when they were not counted, and written in one phase.
#[test]
fn an_earlier_save_that_was_cut_off_is_none() {
    let disk = Disk::default();
    let database = Builder::new().create_with_backend(Storage::of(&disk)).unwrap();
    let mut history = vec![Kept::default()];
    for save in 0..10 {
        disk.begun(save);
        let writing = database.begin_write().unwrap();
        {
            let mut about = writing.open_table(ABOUT).unwrap();
            about.insert(ABOUT_VERSION, VERSION).unwrap();
            about.insert(ABOUT_OWNER, OWNER).unwrap();
            let mut records = writing.open_table(RECORDS).unwrap();
            if save > 0 {
                let mut kept = history[save - 1].clone();
                kept.records.insert(save.to_string(), vec![save as u8; 300 * save]);
                records
                    .insert(save.to_string().as_str(), kept.records[&save.to_string()].as_slice())
                    .unwrap();
                history.push(kept);
            }
        }
        writing.commit().unwrap();
        disk.acknowledged(save);
    }
    std::mem::forget(database);
    let (mut images, mut behind) = (0, 0);
    disk.crashes(SEED, |Crash { bytes, commits, when }| {
        let store = open(Storage::of(&Disk::of(bytes))).unwrap_or_else(|error| panic!("{when}: {error:?}"));
        let kept = store.load().unwrap();
        let found = commits.clone().find(|commit| history[*commit] == kept);
        assert!(found.is_some(), "{when}: what is kept is what none of the saves {commits:?} left");
        behind += usize::from(found < Some(*commits.end()));
        images += 1;
    });
    assert!(behind > 10 && images - behind > 10, "{behind} of {images}");
}

/// Whatever a byte becomes, what was saved last is read, or the store is refused. Of the bytes behind the header those are changed whose
/// place, divided by four, leaves this.
fn flip(whole: &[u8], kept: &Kept, rest: usize) {
    const HEADER: usize = 320;
    const FLAGS: usize = 64;
    let masks = [1, 2, 4, 5, 8, 0x40, 0xff];
    let mut refused = 0;
    let told = |at: &usize| *at < HEADER || whole[*at] != 0 && *at % 4 == rest;
    for (count, at) in (0..whole.len()).filter(told).enumerate() {
        for mask in if at < FLAGS { &masks[..] } else { &masks[count % 7..=count % 7] } {
            let mut bytes = whole.to_vec();
            bytes[at] ^= mask;
            let disk = Disk::of(bytes.clone());
            match open(Storage::of(&disk)) {
                Ok(store) => assert_eq!(store.load().unwrap(), *kept, "byte {at} ^ {mask}"),
                Err(_) => {
                    refused += 1;
                    assert_eq!(disk.bytes(), bytes, "byte {at} ^ {mask}: it is left as it is");
                }
            }
        }
    }
    assert!(refused > 0);
}

/// A store that was saved to twice: as its file is then, after it was closed, and what is kept.
fn saved() -> (Vec<u8>, Vec<u8>, Kept) {
    let disk = Disk::default();
    initialize(Storage::of(&disk), OWNER).unwrap();
    let mut store = open(Storage::of(&disk)).unwrap();
    for save in 0..2u8 {
        let mut changes = Changes::default();
        changes.framework_id(Some(FrameworkId::new("f").unwrap())).put(save.to_string(), vec![save; 40]);
        store.save(changes).unwrap();
    }
    let (killed, kept) = (disk.bytes(), store.load().unwrap());
    drop(store);
    let closed = disk.bytes();
    assert_ne!(killed, closed);
    (killed, closed, kept)
}

/// What was before it is still whole in the file.
#[test]
fn a_byte_that_flips_after_a_kill_changes_nothing_unseen() {
    let (killed, _, kept) = saved();
    flip(&killed, &kept, 0);
}

#[test]
fn a_byte_that_flips_after_an_end_in_order_changes_nothing_unseen() {
    let (_, closed, kept) = saved();
    flip(&closed, &kept, 2);
}
