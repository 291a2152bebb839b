//! The conformance kit held to its word: a right scheduler passes, and of each wrong one exactly its mistake is told.

#![allow(clippy::unwrap_used, reason = "a test says what went wrong by failing")]

mod kit;
mod right;
mod wrong;
