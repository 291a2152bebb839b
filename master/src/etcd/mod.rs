//! A thin client of etcd: what registry and leadership ask of it, over several members, each request bounded in time.
//!
//! Only what may be asked twice is asked twice. A write that was sent and not answered is [`Error::Unknown`]: it may be done, now or later. Who has to know makes it so
//! that it can be done only once, and asks again.

mod client;
mod endpoints;
mod error;
mod lease;
#[cfg(test)]
#[path = "../../tests/support/etcd.rs"]
pub(crate) mod testing;

/// The messages and services of `master/proto/etcd.proto`.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated; the .proto file says what each is")]
pub(crate) mod pb {
    tonic::include_proto!("etcdserverpb");
}

pub(crate) use self::client::{created_at, delete, put, range, written_at};
pub use self::{
    client::Client,
    endpoints::{Cluster, ClusterError, Endpoints, EndpointsError},
    error::Error,
};
