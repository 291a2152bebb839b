//! Who is attached, and the policies of each: they speak of roles, and are to hold the addresses of whoever has them.
//!
//! Each policy is filled by itself, with all that has changed since it was filled last; so one that cannot be filled holds up nobody
//! else. That one is filled again and again, and nobody waits for it once it has failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use apportion_containerizer::NetworkNamespaces;
use apportion_types::{Role, network::Rule};
use tokio::{
    sync::{Semaphore, watch},
    time::sleep,
};

use crate::{
    networks::{Attached, lock},
    policy::{self, Sets},
    processes::Mark,
};

/// Policies that are filled at once.
const AT_ONCE_MAX: usize = 8;

/// How soon a policy that could not be filled is filled again, at first; twice as long each time.
const AGAIN_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest such pause.
const AGAIN_PAUSE_MAX: Duration = Duration::from_secs(60);

/// The owners that are attached.
#[derive(Debug)]
pub(crate) struct Members {
    namespaces: NetworkNamespaces,
    present: Mutex<Present>,
    at_once: Semaphore,
    /// Told whenever a policy was filled, or could not be.
    filled: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Present {
    members: BTreeMap<String, Member>,
    /// The number of the newest change of who is here.
    change: u64,
}

#[derive(Debug)]
struct Member {
    role: Role,
    policy: Vec<Rule>,
    /// What finds its helpers again.
    mark: Mark,
    attached: Attached,
    /// What the sets of its policy hold; none until they were filled by this process.
    filled: Option<Sets>,
    /// The newest change that they know.
    known: u64,
    /// Why they could not be filled the last time.
    failed: Option<String>,
    /// True while something fills them.
    filling: bool,
}

impl Members {
    pub(crate) fn new(namespaces: NetworkNamespaces) -> Self {
        let (present, at_once) = (Mutex::default(), Semaphore::new(AT_ONCE_MAX));
        Self { namespaces, present, at_once, filled: watch::Sender::default() }
    }

    pub(crate) fn attached(&self, owner: &str) -> Option<Attached> {
        self.present().members.get(owner).map(|member| member.attached.clone())
    }

    /// An owner is attached, or was by an earlier process. Its policy is in force, but does not know who has which role.
    pub(crate) fn insert(
        self: &Arc<Self>,
        owner: &str,
        role: Role,
        policy: Vec<Rule>,
        mark: Mark,
        attached: Attached,
    ) -> Change {
        let (filled, failed) = (None, None);
        let member = Member { role, policy, mark, attached, filled, known: 0, failed, filling: false };
        self.present().members.insert(owner.to_owned(), member);
        self.changed()
    }

    /// An owner is not attached any more; none when it was not.
    pub(crate) fn remove(self: &Arc<Self>, owner: &str) -> Option<Change> {
        self.present().members.remove(owner)?;
        Some(self.changed())
    }

    /// Waits until every policy knows of a change, but for those that cannot be filled.
    pub(crate) async fn know(&self, Change(change): Change) {
        let mut filled = self.filled.subscribe();
        let knows =
            |member: &Member| !member.speaks_of_roles() || member.known >= change || member.failed.is_some();
        let known = |_: &()| self.present().members.values().all(knows);
        // Its sender is here.
        let _ = filled.wait_for(known).await;
    }

    /// Waits until every policy knows of everybody who is here by now, but for those that cannot be filled; says why that of an owner could
    /// not.
    pub(crate) async fn fenced(&self, owner: &str) -> Option<String> {
        let newest = Change(self.present().change);
        self.know(newest).await;
        self.failed(owner)
    }

    fn failed(&self, owner: &str) -> Option<String> {
        self.present().members.get(owner)?.failed.clone()
    }

    fn changed(self: &Arc<Self>) -> Change {
        let mut present = self.present();
        present.change += 1;
        let change = Change(present.change);
        for (owner, member) in &mut present.members {
            if member.speaks_of_roles() && !member.filling {
                member.filling = true;
                tokio::spawn(fill(Arc::downgrade(self), owner.clone()));
            }
        }
        drop(present);
        // Who waited for one that is gone need not any more.
        self.filled.send_replace(());
        change
    }

    /// What the sets of an owner are to hold by now; none when they do, or nobody needs them any more.
    fn wanted(&self, owner: &str) -> Option<Wanted> {
        let mut present = self.present();
        let mut everybody: BTreeMap<&Role, BTreeSet<IpAddr>> = BTreeMap::new();
        for member in present.members.values() {
            everybody.entry(&member.role).or_default().extend(&member.attached.addresses);
        }
        let sets = policy::sets(&present.members.get(owner)?.policy, &everybody);
        let change = present.change;
        let member = present.members.get_mut(owner)?;
        if member.filled.as_ref() != Some(&sets) {
            let (namespace, mark) = (member.attached.namespace.clone(), member.mark.clone());
            return Some(Wanted { namespace, mark, sets, change });
        }
        (member.known, member.failed, member.filling) = (change, None, false);
        None
    }

    fn done(&self, owner: &str, (sets, change): (Sets, u64), done: Result<(), String>) {
        let mut present = self.present();
        let Some(member) = present.members.get_mut(owner) else { return };
        match done {
            Ok(()) => (member.filled, member.known, member.failed) = (Some(sets), change, None),
            Err(why) => {
                tracing::error!(
                    owner,
                    why,
                    "the policy of a network does not know who has which role; that is tried again"
                );
                // What it holds is not known.
                (member.filled, member.failed) = (None, Some(why));
            }
        }
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        lock(&self.present)
    }
}

/// What the sets of an owner are to hold as of a change, and where they are.
struct Wanted {
    namespace: PathBuf,
    mark: Mark,
    sets: Sets,
    change: u64,
}

/// A change of who is here.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change(u64);

impl Member {
    fn speaks_of_roles(&self) -> bool {
        !policy::roles(&self.policy).is_empty()
    }
}

/// Fills the sets of an owner until they hold what they are to hold, or nobody needs them any more.
async fn fill(members: std::sync::Weak<Members>, owner: String) {
    let mut pause = AGAIN_PAUSE_MIN;
    while let Some(members) = members.upgrade() {
        let permit = members.at_once.acquire().await;
        let Some(Wanted { namespace, mark, sets, change }) = members.wanted(&owner) else {
            members.filled.send_replace(());
            return;
        };
        let namespaces = members.namespaces.marked(mark.of_helper());
        let done = policy::apply(&namespaces, &namespace, &policy::fill(&sets)).await;
        drop(permit);
        let failed = done.is_err();
        members.done(&owner, (sets, change), done);
        members.filled.send_replace(());
        drop(members);
        if failed {
            sleep(pause).await;
            pause = (pause * 2).min(AGAIN_PAUSE_MAX);
        }
    }
}
