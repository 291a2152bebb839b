//! Leases, and watching a key.

use std::time::Duration;

use tokio_stream::StreamExt as _;
use tonic::{Status, Streaming};

use super::{
    Client, Error,
    client::READ_TIMEOUT,
    pb::{self, lease_client::LeaseClient, watch_client::WatchClient},
};

impl Client {
    /// Makes a lease of so many seconds. One that nobody heard of ends by itself, so it may be asked of several.
    pub(crate) async fn grant(&self, ttl: i64) -> Result<pb::LeaseGrantResponse, Error> {
        self.read("a lease", 1, READ_TIMEOUT, |channel| {
            let mut client = LeaseClient::new(channel);
            async move { Ok(client.lease_grant(pb::LeaseGrantRequest { ttl }).await?.into_inner()) }
        })
        .await
    }

    /// Ends a lease, and removes its keys.
    pub(crate) async fn revoke(&self, id: i64) -> Result<(), Error> {
        self.read("the end of a lease", 1, READ_TIMEOUT, |channel| {
            let mut client = LeaseClient::new(channel);
            async move { client.lease_revoke(pb::LeaseRevokeRequest { id }).await.map(drop) }
        })
        .await
    }

    /// Has a lease begin anew, and returns for how many seconds; 0 when it has ended. Each member may take so long, and is asked once.
    pub(crate) async fn keep_alive(&self, id: i64, time: Duration) -> Result<i64, Error> {
        self.read("to keep a lease", 1, time, |channel| {
            let mut client = LeaseClient::new(channel);
            async move {
                let once = tokio_stream::once(pb::LeaseKeepAliveRequest { id });
                let mut answers = client.lease_keep_alive(once).await?.into_inner();
                let answer = answers.message().await?;
                Ok(answer.ok_or_else(|| Status::unavailable("the stream ended without an answer"))?.ttl)
            }
        })
        .await
    }

    /// Watches a key from this revision on, as long as the answer is held.
    pub(crate) async fn watch(
        &self,
        key: &str,
        start_revision: i64,
    ) -> Result<Streaming<pb::WatchResponse>, Error> {
        self.read("to watch a key", 1, READ_TIMEOUT, |channel| {
            let mut client = WatchClient::new(channel);
            let create = pb::WatchCreateRequest { key: key.into(), start_revision };
            let create = pb::WatchRequest { create_request: Some(create) };
            // One that ends would end the watch.
            let requests = tokio_stream::once(create).chain(tokio_stream::pending());
            async move { Ok(client.watch(requests).await?.into_inner()) }
        })
        .await
    }
}
