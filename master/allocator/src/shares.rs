//! The shares of roles and frameworks, for listings.

use crate::{Share, hierarchical::Hierarchical, slab::RoleKey};

impl Hierarchical {
    pub(crate) fn shares_below(&self, above: Option<RoleKey>, shares: &mut Vec<Share>) {
        for (rank, allocated) in self.level(above).ranked(&self.capacity) {
            if above == Some(rank.key) {
                continue; // its own frameworks, which stand behind it already
            }
            shares.push(Share {
                role: rank.name.clone(),
                framework: None,
                allocated: self.measure.kinds.resources(allocated),
                dominant_share_ppm: rank.share.ppm(),
                allocations: rank.allocations,
            });
            for (inner, allocated) in self.roles[rank.key].frameworks.ranked(&self.capacity) {
                shares.push(Share {
                    role: rank.name.clone(),
                    framework: Some(inner.name),
                    allocated: self.measure.kinds.resources(allocated),
                    dominant_share_ppm: inner.share.ppm(),
                    allocations: inner.allocations,
                });
            }
            self.shares_below(Some(rank.key), shares);
        }
    }
}
