//! What a run keeps is removed under it: it goes on, and says so at once.

use std::{
    future::pending,
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use apportion_sdk::{Handle, store::Presence};
use tokio::sync::watch;

use super::{Program, say};
use crate::{api, front::Front, keep, scheduler::Request};

impl Program {
    /// Says at once when what is kept is removed under the run, and when it is there again; does not end.
    pub(super) async fn watch(
        &self,
        mut leading: watch::Receiver<bool>,
        framework_id: &OnceLock<String>,
        presence: &OnceLock<Presence>,
    ) {
        if leading.wait_for(|leads| *leads).await.is_err() {
            return pending().await;
        }
        // One that cannot be asked for is never seen to go.
        let Ok(found) = self.folder.presence() else { return pending().await };
        let presence = presence.get_or_init(|| found);
        let folder = self.folder.path().display();
        loop {
            keep::changed(presence, true).await;
            let id = framework_id.get().map_or("FRAMEWORK", String::as_str);
            say(
                &self.framework,
                &format!(
                    "{folder} was removed or replaced while this runs: nothing is kept from now on, and no order arrives, so that no later \
                     run can take over; put it back if you have it, or end this framework and its replicas with `apportion teardown \
                     {id}` and begin anew"
                ),
            );
            keep::changed(presence, false).await;
            say(&self.framework, &format!("{folder} is there again, with all that was kept meanwhile"));
        }
    }

    /// Takes orders at a socket, which is made anew when it is removed; ends only when that is not possible.
    pub(super) async fn taking_orders(
        &self,
        socket: &Path,
        scheduler: Handle<Request>,
        front: Arc<Front>,
        presence: &OnceLock<Presence>,
    ) -> io::Result<()> {
        let is_removed = || presence.get().is_some_and(|presence| !presence.is_there());
        let mut listener = api::listen(socket)?;
        loop {
            let made = Presence::at(socket);
            let gone = async {
                match &made {
                    Ok(made) => keep::changed(made, true).await,
                    Err(_) => pending().await,
                }
            };
            tokio::select! {
                served = api::serve(listener, scheduler.clone(), Arc::clone(&front), &self.master) => return served,
                () = gone => {}
            }
            listener = loop {
                // Another run may have begun in the place of a folder that was removed, and the socket there is its own.
                if let Some(presence) = presence.get()
                    && !presence.is_there()
                {
                    keep::changed(presence, false).await;
                }
                match api::listen(socket) {
                    Err(_) if is_removed() => {}
                    listening => break listening?,
                }
            };
            say(&self.framework, &format!("{} was removed, and is made anew", socket.display()));
        }
    }
}
