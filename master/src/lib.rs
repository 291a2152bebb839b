//! The master's shell: around the pure core of `apportion-master-core` it puts a clock, streams, a registry and a port.
//!
//! One task owns the core; what happens is queued to it, what it wants is done in order, and a snapshot of it is published
//! after each batch. Everything that only reads (operators, the HTTP pages, metrics) reads that snapshot.
//!
//! ```no_run
//! # async fn example() -> Result<(), apportion_master::ServeError> {
//! use apportion_master::{Config, Server};
//!
//! let server = Server::bind(Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() }).await?;
//! println!("listening on {}", server.local_addr());
//! server.run(std::future::pending()).await
//! # }
//! ```

mod actor;
mod ask;
mod clock;
mod config;
pub mod etcd;
mod explain;
mod frame;
mod http;
pub mod journal;
mod leader;
mod listener;
mod lists;
mod metrics;
mod outbox;
pub mod registry;
pub mod replay;
mod rpc;
mod server;
mod summary;
mod watch;

pub use apportion_allocator::{QuotaLimit, Weight};
pub use config::{Config, ConfigError, RateLimit, RateLimitError};
pub use server::{ServeError, Server, serve};
