//! The conformance kit held to its word: a right scheduler passes, and of each wrong one exactly its mistake is told.

mod kit;
mod right;
mod wrong;
