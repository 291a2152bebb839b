//! Free resources taken by a framework that chooses for itself.

use apportion_types::{FrameworkId, protocol::scheduler::ClaimRefusal};

/// Why a claim is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimDenied {
    /// For programs.
    pub code: ClaimRefusal,
    /// For people: what is in the way.
    pub message: String,
    /// Who goes before the claimant, where that is the reason.
    pub winner: Option<FrameworkId>,
}
