//! What goes wrong, and when: all of it from the seed, but for who leads at that moment.

use std::{
    fs::{self, File},
    io::Write as _,
    time::Duration,
};

use rustix::process::Signal;

use super::{
    cluster::{AGENTS, Cluster, MASTERS, MEMBERS, SMALL},
    say,
};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Killed; starts again after the time.
    Kill(Who),
    /// Stopped, with all of its connections, for the time.
    Pause(Who),
    /// The second hears nothing of the first.
    Cut(&'static str, &'static str),
    /// Neither hears anything of the other.
    Part(&'static str, &'static str),
    /// Nobody hears it, nor it anybody.
    Unplug(Who),
    /// What it sends is slow.
    Slow(Who),
    /// There is no room on its disk.
    Full(&'static str),
}

/// On whom it falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// The master that leads.
    Leader,
    This(&'static str),
}

/// One fault.
#[derive(Debug, Clone, Copy)]
pub(super) struct Planned {
    pub(super) at: Duration,
    pub(super) fault: Fault,
    pub(super) time: Duration,
}

/// The faults of so much time, in their order.
pub(super) fn plan(dice: &mut fastrand::Rng, length: Duration) -> Vec<Planned> {
    let mut at = Duration::ZERO;
    let mut planned = Vec::new();
    loop {
        at += Duration::from_millis(dice.u64(300..4000));
        if at >= length {
            return planned;
        }
        let one = |dice: &mut fastrand::Rng, names: &[&'static str]| names[dice.usize(..names.len())];
        let anybody = [&MASTERS[..], &MEMBERS, &AGENTS, &["batch", "service"]].concat();
        let (fault, least, most) = match dice.u32(..100) {
            0..10 => (Fault::Kill(Who::Leader), 0, 3000),
            10..14 => (Fault::Kill(Who::This(one(dice, &MASTERS))), 0, 5000),
            14..20 => (Fault::Kill(Who::This(one(dice, &MEMBERS))), 0, 5000),
            20..28 => (Fault::Kill(Who::This(one(dice, &AGENTS))), 0, 4000),
            28..36 => (Fault::Kill(Who::This(one(dice, &["batch", "service"]))), 0, 3000),
            // The lease is three seconds.
            36..46 => (Fault::Pause(Who::Leader), 2000, 9000),
            46..54 => (Fault::Pause(Who::This(one(dice, &anybody))), 1000, 9000),
            54..66 => (Fault::Cut(one(dice, &anybody), one(dice, &anybody)), 1000, 12_000),
            66..74 => (Fault::Part(one(dice, &anybody), one(dice, &anybody)), 1000, 12_000),
            74..80 => (Fault::Unplug(Who::Leader), 1000, 8000),
            80..87 => (Fault::Unplug(Who::This(one(dice, &anybody))), 1000, 12_000),
            87..94 => (Fault::Slow(Who::This(one(dice, &anybody))), 2000, 12_000),
            _ => (Fault::Full(one(dice, &[SMALL, "batch"])), 500, 6000),
        };
        planned.push(Planned { at, fault, time: Duration::from_millis(dice.u64(least..most)) });
    }
}

/// How what has begun is undone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Undo {
    Go(&'static str),
    Mend(&'static str, &'static str),
    Plug(&'static str),
    Even(&'static str),
    Empty(&'static str),
}

impl Planned {
    /// Begins it, and says how it is undone.
    pub(super) fn begin(&self, cluster: &mut Cluster) -> Vec<Undo> {
        let find = |cluster: &Cluster, who: Who| match who {
            Who::This(name) => Some(name),
            Who::Leader => cluster.leader(),
        };
        let said = match self.fault {
            Fault::Kill(who) | Fault::Pause(who) | Fault::Unplug(who) | Fault::Slow(who) => {
                find(cluster, who).map(|name| format!(" ({name})")).unwrap_or_default()
            }
            _ => String::new(),
        };
        say(format_args!("{:7.1} {:?}{said} for {:?}", self.at.as_secs_f64(), self.fault, self.time));
        match self.fault {
            Fault::Kill(who) => {
                if let Some(name) = find(cluster, who) {
                    cluster.kill(name, self.time);
                }
                Vec::new()
            }
            Fault::Pause(who) => {
                let name = find(cluster, who);
                name.map(|name| {
                    cluster.signal(name, Signal::STOP);
                    Undo::Go(name)
                })
                .into_iter()
                .collect()
            }
            Fault::Cut(from, to) => {
                cluster.net.cut(from, to);
                vec![Undo::Mend(from, to)]
            }
            Fault::Part(one, other) => {
                cluster.net.cut(one, other);
                cluster.net.cut(other, one);
                vec![Undo::Mend(one, other), Undo::Mend(other, one)]
            }
            Fault::Unplug(who) => {
                let name = find(cluster, who);
                name.map(|name| {
                    cluster.net.plug(name, false);
                    Undo::Plug(name)
                })
                .into_iter()
                .collect()
            }
            Fault::Slow(who) => {
                let name = find(cluster, who);
                name.map(|name| {
                    cluster.net.slow(name);
                    Undo::Even(name)
                })
                .into_iter()
                .collect()
            }
            Fault::Full(disk) => {
                cluster.full.insert(disk);
                fill(cluster, disk);
                vec![Undo::Empty(disk)]
            }
        }
    }
}

impl Undo {
    pub(super) fn run(self, cluster: &mut Cluster) {
        match self {
            Undo::Go(name) => cluster.signal(name, Signal::CONT),
            Undo::Mend(from, to) => cluster.net.mend(from, to),
            Undo::Plug(name) => cluster.net.plug(name, true),
            Undo::Even(name) => cluster.net.even(name),
            Undo::Empty(disk) => {
                let _ = fs::remove_file(cluster.place.path().join(disk).join("ballast"));
            }
        }
    }
}

/// Takes all the room that there is.
fn fill(cluster: &Cluster, disk: &str) {
    let path = cluster.place.path().join(disk).join("ballast");
    let mut file = File::options().create(true).append(true).open(path).unwrap();
    let block = [0; 1 << 16];
    while file.write(&block).is_ok_and(|written| written > 0) {}
    // To the last byte of the last page.
    while file.write(&block[..512]).is_ok_and(|written| written > 0) {}
}
