//! The wire and disk formats of Apportion, generated from the `.proto` files beside this crate. No logic.
//!
//! With the feature `rpc` the gRPC clients and servers are there as well.

#[cfg(feature = "rpc")]
mod codec;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
/// Package `apportion.v1`; the `.proto` files say who sends each message, when, and what must follow.
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/apportion.v1.rs"));
}

/// The compiled descriptors of every file, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
