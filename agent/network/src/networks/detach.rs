//! An owner is detached: at once, or again and again in the background until nothing of it is left.

use std::{io, sync::Arc, time::Duration};

use apportion_containerizer::NetworkNamespaces;
use apportion_types::text::chain;
use tokio::time::sleep;

use super::{Networks, lock};
use crate::{
    blocking, chain,
    error::DetachError,
    plugin::{Subject, Verb},
    record::{Folder, Record},
};

/// How often plugins are asked to detach an owner before that has failed.
const TRIES_MAX: u32 = 3;

/// Before the second try; longer before later ones.
const PAUSE: Duration = Duration::from_millis(100);

/// How soon that is begun again once it has failed, at first; twice as long each time.
pub(super) const AGAIN_PAUSE_MIN: Duration = Duration::from_secs(1);

/// The longest such pause.
const AGAIN_PAUSE_MAX: Duration = Duration::from_secs(60);

impl Networks {
    /// An owner is to be detached, by whoever calls [`Networks::detach`] next: who wants a port of its waits for that from now on.
    pub fn leaves(&self, owner: &str) {
        lock(&self.ports).leaves(owner);
        self.letting_go.send_replace(());
    }

    /// Detaches an owner, once its attaching is over; one that is not attached is no error. What fails is said, and tried again in the
    /// background until it is done or the last user of these networks is gone; then the next process does.
    pub async fn detach(self: &Arc<Self>, owner: &str) -> Result<(), DetachError> {
        let detached = self.try_detach(owner).await;
        if detached.is_err() {
            self.detach_again(owner.to_owned(), AGAIN_PAUSE_MIN);
        }
        detached
    }

    /// Detaches an owner in the background, after this pause.
    pub(super) fn detach_again(self: &Arc<Self>, owner: String, mut pause: Duration) {
        if !lock(&self.leaving).insert(owner.clone()) {
            return;
        }
        let networks = Arc::downgrade(self);
        tokio::spawn(async move {
            loop {
                sleep(pause).await;
                let Some(networks) = networks.upgrade() else { return };
                let _permit = networks.again_at_once.acquire().await;
                pause = (pause * 2).clamp(AGAIN_PAUSE_MIN, AGAIN_PAUSE_MAX);
                let Err(error) = networks.try_detach(&owner).await else {
                    lock(&networks.leaving).remove(&owner);
                    return;
                };
                tracing::warn!(owner, error = chain(&error), again_in = ?pause, "a network is not detached yet");
            }
        });
    }

    async fn try_detach(&self, owner: &str) -> Result<(), DetachError> {
        self.leaves(owner);
        let gate = self.gate(owner).await;
        self.finish(owner).await;
        let detached = self.let_go(owner).await;
        drop(gate);
        let mut gates = lock(&self.gates);
        if gates.get(owner).is_some_and(|gate| Arc::strong_count(gate) == 1) {
            gates.remove(owner);
        }
        detached
    }

    /// Waits for the plugins of an earlier process that may still be at an owner.
    pub(super) async fn finish(&self, owner: &str) {
        if !lock(&self.inherited).contains(owner) {
            return;
        }
        let folder = Folder::of(&self.config.dir, owner);
        // What cannot be read is said by whoever detaches it.
        if let Ok(Some(Record { mark, result, .. })) = blocking(move || folder.read()).await {
            // Of one that was attached, what its plugins have left to run for it is theirs to end.
            let verb = (!result.is_null()).then_some(Verb::Del);
            mark.finish(owner, verb, self.config.timeout).await;
        }
        lock(&self.inherited).remove(owner);
    }

    /// Detaches an owner, and lets go of what it held when that is done. The caller has its gate.
    pub(super) async fn let_go(&self, owner: &str) -> Result<(), DetachError> {
        let detached = match self.knows(owner) {
            true => self.detach_now(owner).await,
            false => Ok(()),
        };
        let mut ports = lock(&self.ports);
        match &detached {
            Ok(()) => ports.release(owner),
            Err(error) => ports.stays(owner, chain(error)),
        }
        drop(ports);
        self.letting_go.send_replace(());
        detached
    }

    async fn detach_now(&self, owner: &str) -> Result<(), DetachError> {
        if let Some(change) = self.members.remove(owner) {
            // Before its addresses are another's.
            self.members.know(change).await;
        }
        let _permit = self.at_once.acquire().await;
        let folder = Folder::of(&self.config.dir, owner);
        let state = |source| DetachError::State { path: folder.path().to_owned(), source };
        let known = blocking({
            let folder = folder.clone();
            move || {
                let record = folder.read()?;
                record.is_some().then(|| folder.leave()).transpose()?;
                io::Result::Ok((record, NetworkNamespaces::is_one(&folder.namespace())))
            }
        });
        let (record, is_there) = known.await.map_err(state)?;
        let Some(record) = record else {
            // Nothing was attached yet, or nothing ever.
            return remove_if_there(&folder).await.map_err(state);
        };
        let namespace = folder.namespace();
        // After the machine was started again there is none; plugins then let go of what they keep elsewhere.
        let there = is_there.then_some(&*namespace);
        let Record { network, list, mark, result, .. } = record;
        let subject = Subject { owner, mark: &mark, namespace: there };
        for tries in 1.. {
            let ports = &network.ports;
            match chain::del(&self.plugins, &list, ports, subject, &result).await {
                Ok(()) => break,
                // Of the plugins that everybody has, some get in each other's way in the kernel's tables.
                Err(_) if tries < TRIES_MAX => sleep(PAUSE * tries).await,
                // The namespace stays: without it some plugins do not find what they are to remove.
                Err(source) => return Err(DetachError::Plugin { network: network.name, source }),
            }
        }
        remove_if_there(&folder).await.map_err(state)
    }
}

async fn remove_if_there(folder: &Folder) -> io::Result<()> {
    let folder = folder.clone();
    match blocking(move || folder.remove()).await {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
