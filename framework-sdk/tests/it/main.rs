//! The driver against scripted masters: pure, and over a real connection.

// A helper of a test is a test: what fails in it fails the test, here.
#![allow(clippy::unwrap_used)]

mod agents_and_operators;
mod executor;
mod link;
mod offers;
mod properties;
mod scenario;
mod server;
