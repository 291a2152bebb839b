//! What a role is sure of, and the most that it may have.

use apportion_types::Resources;

use crate::QuotaLimit;

/// A role's quota over the whole cluster, in scalars. Without either part it is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Quota {
    /// Kept for the role while it has less: others are offered only what leaves room for it. Plain scalars. Only that of a role at
    /// the top of the tree is kept.
    pub guarantee: Resources,
    /// The most that it may have; whatever there is when none.
    pub limit: Option<QuotaLimit>,
}
