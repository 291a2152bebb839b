//! Which of several masters leads: the one that made a key in etcd, for as long as its lease lasts.
//!
//! A master that leads knows by its own clock until when it surely does ([`Term`]). Past that it decides nothing and sends nothing, whether or
//! not anybody has told it; what it still writes to the registry is refused there. A process leads once: deposed, it ends.

mod election;
mod stand_by;
mod term;

use std::{fmt, str::FromStr};

pub(crate) use self::{
    election::{Election, Known, Leadership},
    stand_by::serve as stand_by,
    term::Term,
};

/// Who leads, as it stands under the key of the leadership: its address, a space, its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Leader {
    /// Where agents, frameworks and operators reach it, as `host:port`.
    pub(crate) address: String,
    pub(crate) master_id: String,
}

impl fmt::Display for Leader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.address, self.master_id)
    }
}

/// A text that names no leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoLeader;

impl FromStr for Leader {
    type Err = NoLeader;

    fn from_str(text: &str) -> Result<Self, NoLeader> {
        let (address, master_id) = text.split_once(' ').ok_or(NoLeader)?;
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
        if !plain(address) || !plain(master_id) {
            return Err(NoLeader);
        }
        Ok(Self { address: address.to_owned(), master_id: master_id.to_owned() })
    }
}
