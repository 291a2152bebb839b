//! A master on a real port, with real clients.
#![allow(clippy::unwrap_used, missing_docs)]

mod harness;
mod journal;
mod lifecycle;
mod limits;
mod pages;
mod services;
mod shutdown;
