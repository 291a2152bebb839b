//! A master on a real port, with real clients.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../support/etcd.rs"]
mod etcd;
mod explain;
mod harness;
mod journal;
mod leadership;
mod lifecycle;
mod limits;
mod lists;
mod operations;
mod pages;
mod roles;
mod services;
mod shutdown;
mod watch;
