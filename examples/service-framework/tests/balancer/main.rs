//! The balancer on real sockets: clients and replicas are in this process, the ports are whatever is free.
//!
//! - `http`: what is passed on, over each protocol.
//! - `l4`: connections.
//! - `faults`: replicas that die, refuse or are slow, and what the balancer does about it.
//! - `clients`: clients that are slow, wrong or hostile.
//! - `front`: balancers that follow a scheduler.
//! - `rolling`: replicas that come and go under load.
//!
//! [`backend`] is a replica, [`client`] a client. Nothing here sleeps: a test waits for what it wants to see.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod backend;
mod client;
mod clients;
mod faults;
mod front;
mod http;
mod l4;
mod rolling;

use std::time::{Duration, Instant};

use apportion_service::balancer::{Balancer, Listener};

/// Longer than anything takes that works.
const LONG: Duration = Duration::from_secs(30);

/// A listener on a free port.
fn listener(more: &str) -> Listener {
    Listener::from_toml(&format!("address = '127.0.0.1:0'\n{more}")).unwrap()
}

/// A balancer on a free port.
fn start(more: &str) -> Balancer {
    Balancer::start("app", listener(more)).unwrap()
}

/// Waits until something is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < LONG, "it did not come to this: {what}");
        tokio::task::yield_now().await;
    }
}

/// What is awaited, unless it takes too long.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, what).await.expect("it takes too long")
}
