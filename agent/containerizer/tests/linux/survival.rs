//! placeholder
use crate::Scenario;
pub fn scenarios() -> Vec<Scenario> { vec![] }
pub fn agent(_: impl Iterator<Item = std::ffi::OsString>) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
