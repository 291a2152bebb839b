//! The log, when the power fails: at any write, with any sector of the unsynced ones lost; and when bytes of it change.
//!
//! A log only grows, so a sector that did not get to the disk reads as zeros. A file system that shows old bytes there instead is
//! not covered: what is torn then looks damaged, and the agent says so.

use std::{cell::RefCell, sync::mpsc};

use apportion_agent_core::{CheckpointId, Record};
use apportion_types::TaskState;

use super::{
    frame::HEADER,
    power::{Chance, Crash, Disk},
    tests::*,
    writer::{Storage, Writer},
    *,
};
use crate::paths::Paths;

impl Storage for Disk {
    fn write_all_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write(at as usize, bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync();
        Ok(())
    }
}

/// Some tasks, small and large ones, from their beginning to their end.
fn records(chance: &mut Chance, tasks: u64) -> Vec<Record> {
    let mut records = vec![agent("a1"), process()];
    for number in 0..tasks {
        let id = format!("t{number}");
        let Record::Task(mut of) = task(&id) else { unreachable!() };
        of.info.labels.insert("large".to_owned(), "x".repeat(chance.below(1500)));
        records.extend([Record::Task(of), update(&id, 2 * number, TaskState::Starting)]);
        if chance.below(2) == 0 {
            records.push(acknowledgement(&id, 2 * number));
            records.push(update(&id, 2 * number + 1, TaskState::Failed));
        }
    }
    records
}

/// What an agent wrote, some of it together; and what a next one is to know after each record.
fn written(seed: u64, tasks: u64) -> (Disk, Vec<Recovered>) {
    let (folder, mut chance) = (tempfile::tempdir().unwrap(), Chance(seed));
    let records = records(&mut chance, tasks);
    let mut log = Log::default();
    let mut history = vec![log.recovered()];
    for record in &records {
        log.apply(record.clone()).unwrap();
        history.push(log.recovered());
    }
    let disk = Disk::of(HEADER.to_vec());
    disk.acknowledged(0);
    let (records_in, inbox) = mpsc::channel();
    let left = RefCell::new((Some(records_in), records.into_iter().enumerate(), chance));
    let send = || {
        let (to, records, chance) = &mut *left.borrow_mut();
        for (index, record) in records.by_ref().take(1 + chance.below(5)) {
            disk.begun(index + 1);
            to.as_ref().unwrap().send((CheckpointId(index as u64 + 1), record)).unwrap();
        }
        if records.len() == 0 {
            *to = None;
        }
    };
    let told = |told: Result<CheckpointId, StoreError>| {
        disk.acknowledged(told.unwrap().0 as usize);
        if left.borrow().0.is_some() {
            send();
        }
    };
    send();
    Writer::on(&Paths::new(folder.path()), Box::new(disk.clone())).run(&inbox, &told).unwrap();
    (disk, history)
}

#[test]
fn a_loss_of_power_leaves_what_was_promised() {
    let (_folder, paths) = paths();
    let (mut images, mut torn) = (0, 0);
    for seed in 0..8 {
        let (disk, history) = written(seed, 25);
        disk.crashes(seed, |Crash { bytes, commits, when }| {
            fs::write(paths.log(), &bytes).unwrap();
            let replay = read(&paths.log()).unwrap();
            assert!(!replay.recovered.damaged, "{when}: {commits:?}, {} bytes", replay.unreadable_bytes);
            let found = commits.clone().any(|commit| history[commit] == replay.recovered);
            assert!(found, "{when}: what is read is what none of the records {commits:?} left");
            images += 1;
            torn += usize::from(replay.unreadable_bytes > 0);
            if images % 100 == 0 {
                // The next agent goes on from there.
                write(&paths, 1, vec![task("next")]);
                let again = read(&paths.log()).unwrap();
                assert_eq!(again.recovered.tasks.len(), replay.recovered.tasks.len() + 1, "{when}");
                assert_eq!((again.recovered.damaged, again.unreadable_bytes), (false, 0), "{when}");
            }
        });
    }
    assert!(images > 1000 && torn > 200, "{torn} of {images}");
}

/// Whatever a byte becomes, what is read is what some of the records said, and what is missing is owned up to: but in what was written
/// together at the very end, which cannot be told from a write that was cut off when it looks as if a sector were missing.
#[test]
fn a_flipped_byte_loses_nothing_unseen() {
    let (disk, history) = written(0, 3);
    let (_folder, paths) = paths();
    let whole = disk.bytes();
    let mut unseen = 0;
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= [1, 2, 4, 8, 0x40, 0xff][at % 6];
        fs::write(paths.log(), &bytes).unwrap();
        match read(&paths.log()) {
            Err(StoreError::Version { .. }) => assert!(at < HEADER.len(), "byte {at}"),
            Err(error) => panic!("byte {at}: {error}"),
            Ok(replay) => {
                let recovered = Recovered { damaged: false, ..replay.recovered.clone() };
                assert!(history.contains(&recovered), "byte {at}");
                assert!(recovered != history[history.len() - 1], "byte {at}");
                unseen += usize::from(!replay.recovered.damaged);
            }
        }
    }
    assert!(unseen < 100, "{unseen} of {}", whole.len());
}
