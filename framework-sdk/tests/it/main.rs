//! The driver against scripted masters: pure, and over a real connection.

mod agents_and_operators;
mod link;
mod offers;
mod properties;
mod scenario;
mod server;
