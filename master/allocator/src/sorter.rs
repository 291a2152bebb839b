//! The children of one node of the tree of roles and frameworks, in order of fairness.
//!
//! Order: dominant share, then fewer allocations, then name (Mesos' DRF sorter). The order is brought up to date only when it
//! is needed: each child that changed is found and placed by binary search; all are sorted anew only when the capacity, or
//! many of them, changed. It is a plain array, for cycles walk it past those who refuse, and a thousand of them take no longer
//! than a few steps in a tree; moving a part of so small an array costs less than keeping a tree in balance.

use std::collections::BTreeSet;

use crate::{
    quantities::{Capacity, Quantities},
    share::DominantShare,
    slab::{Key, NodeKey, Slab},
    weight::Weight,
};

/// Where a child stands among its siblings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank<N, K> {
    pub(crate) share: DominantShare,
    pub(crate) allocations: u64,
    pub(crate) name: N,
    /// What the owner of the sorter knows it by; last, and so without weight among distinct names.
    pub(crate) key: K,
}

#[derive(Debug, Clone)]
struct Node<N, K> {
    weight: Weight,
    allocated: Quantities,
    allocations: u64,
    /// As it stands in the order, or would stand when it was last seen.
    rank: Rank<N, K>,
    /// May be given something; only listed children are kept in order.
    listed: bool,
    in_order: bool,
    stale: bool,
}

/// Children with names `N` that their owner knows by keys `K`.
#[derive(Debug, Clone)]
pub(crate) struct Sorter<N, K> {
    nodes: Slab<NodeKey, Node<N, K>>,
    /// The listed children, as their ranks say.
    order: Vec<(K, NodeKey)>,
    /// Listed children that may stand in the wrong place.
    stale: Vec<NodeKey>,
    version: u64,
}

impl<N, K> Default for Sorter<N, K> {
    fn default() -> Self {
        Self { nodes: Slab::default(), order: Vec::new(), stale: Vec::new(), version: 0 }
    }
}

impl<N: Ord + Clone, K: Key> Sorter<N, K> {
    /// Adds a child with nothing allocated, not listed.
    pub(crate) fn add(&mut self, name: N, key: K, weight: Weight) -> NodeKey {
        self.nodes.insert(Node {
            weight,
            allocated: Quantities::default(),
            allocations: 0,
            rank: Rank { share: DominantShare::NONE, allocations: 0, name, key },
            listed: false,
            in_order: false,
            stale: false,
        })
    }

    pub(crate) fn remove(&mut self, node: NodeKey) {
        self.unlist(node);
        self.nodes.remove(node);
    }

    pub(crate) fn list(&mut self, node: NodeKey) {
        self.nodes[node].listed = true;
        self.touch(node);
    }

    pub(crate) fn unlist(&mut self, node: NodeKey) {
        self.nodes[node].listed = false;
        if self.nodes[node].in_order {
            let index = self.position(node);
            self.order.remove(index);
            self.nodes[node].in_order = false;
        }
    }

    /// Where a child in order stands.
    fn position(&self, node: NodeKey) -> usize {
        let rank = &self.nodes[node].rank;
        let found = self.order.binary_search_by(|&(_, other)| self.nodes[other].rank.cmp(rank));
        found.expect("a child in order is found by its rank")
    }

    pub(crate) fn allocate(&mut self, node: NodeKey, quantities: &Quantities) {
        self.nodes[node].allocated.add(quantities);
        self.touch(node);
    }

    pub(crate) fn unallocate(&mut self, node: NodeKey, quantities: &Quantities) {
        self.nodes[node].allocated.subtract(quantities);
        self.touch(node);
    }

    pub(crate) fn set_weight(&mut self, node: NodeKey, weight: Weight) {
        self.nodes[node].weight = weight;
        self.touch(node);
    }

    /// Counts one more allocation.
    pub(crate) fn count(&mut self, node: NodeKey) {
        self.nodes[node].allocations += 1;
        self.touch(node);
    }

    /// Counts one allocation fewer: it never was.
    pub(crate) fn uncount(&mut self, node: NodeKey) {
        self.nodes[node].allocations -= 1;
        self.touch(node);
    }

    fn touch(&mut self, key: NodeKey) {
        let node = &mut self.nodes[key];
        if node.listed && !node.stale {
            node.stale = true;
            self.stale.push(key);
        }
    }

    /// Brings the order up to date. Call it before [`Sorter::turns`].
    pub(crate) fn refresh(&mut self, capacity: &Capacity) {
        if let (&[(_, only)], true) = (self.order.as_slice(), self.stale.len() <= 1)
            && self.stale.iter().all(|&stale| stale == only)
        {
            return; // One is in order whatever it has; it stays stale until there is another.
        }
        if self.version != capacity.version() || self.stale.len() > self.order.len() / 8 + 1 {
            self.version = capacity.version();
            self.rebuild(capacity);
            return;
        }
        while let Some(key) = self.stale.pop() {
            // It may have been removed or unlisted since; then its flag is gone, or there is nothing to place.
            let Some(node) = self.nodes.find_mut(key).filter(|node| node.stale) else { continue };
            node.stale = false;
            if node.listed {
                self.place(key, capacity);
            }
        }
    }

    fn place(&mut self, key: NodeKey, capacity: &Capacity) {
        let from = self.nodes[key].in_order.then(|| self.position(key));
        let node = &mut self.nodes[key];
        node.rank.share = capacity.dominant_share(&node.allocated, node.weight);
        node.rank.allocations = node.allocations;
        node.in_order = true;
        let rank = &self.nodes[key].rank;
        let before = |&(_, other): &(K, NodeKey)| self.nodes[other].rank < *rank;
        // The child itself is in neither part that is searched, for its rank is a new one.
        match from {
            Some(from) => {
                let later = self.order[from + 1..].partition_point(before);
                if later > 0 {
                    self.order[from..=from + later].rotate_left(1);
                } else {
                    let to = self.order[..from].partition_point(before);
                    self.order[to..=from].rotate_right(1);
                }
            }
            None => {
                let to = self.order.partition_point(before);
                self.order.insert(to, (rank.key, key));
            }
        }
    }

    fn rebuild(&mut self, capacity: &Capacity) {
        self.stale.clear();
        for (key, node) in self.nodes.iter_mut() {
            node.stale = false;
            if node.listed {
                node.rank.share = capacity.dominant_share(&node.allocated, node.weight);
                node.rank.allocations = node.allocations;
                if !node.in_order {
                    node.in_order = true;
                    self.order.push((node.rank.key, key));
                }
            }
        }
        // It is mostly in order, which a merging sort makes use of.
        self.order.sort_by(|&(_, a), &(_, b)| self.nodes[a].rank.cmp(&self.nodes[b].rank));
    }

    /// The listed children in order, once it is refreshed.
    pub(crate) fn order(&self) -> &[(K, NodeKey)] {
        &self.order
    }

    pub(crate) fn is_listed(&self, node: NodeKey) -> bool {
        self.nodes[node].listed
    }

    pub(crate) fn weight(&self, node: NodeKey) -> Weight {
        self.nodes[node].weight
    }

    /// What a child is given.
    pub(crate) fn allocated(&self, node: NodeKey) -> &Quantities {
        &self.nodes[node].allocated
    }

    /// Every child in order of fairness, listed or not, and what it is given; recomputed.
    pub(crate) fn ranked(&self, capacity: &Capacity) -> Vec<(Rank<N, K>, &Quantities)> {
        let mut ranked: Vec<_> = self
            .nodes
            .iter()
            .map(|(_, node)| {
                let share = capacity.dominant_share(&node.allocated, node.weight);
                (Rank { share, allocations: node.allocations, ..node.rank.clone() }, &node.allocated)
            })
            .collect();
        ranked.sort_by(|(a, _), (b, _)| a.cmp(b));
        ranked
    }

    /// Asserts that the order, once refreshed, is what sorting from scratch gives.
    pub(crate) fn check(&self, capacity: &Capacity) {
        let mut refreshed = self.clone();
        refreshed.refresh(capacity);
        let listed = refreshed.nodes.iter().filter(|(_, node)| node.listed).map(|(_, node)| node.rank.key);
        let listed: BTreeSet<K> = listed.collect();
        let ranked = self.ranked(capacity).into_iter().map(|(rank, _)| rank.key);
        let expected: Vec<K> = ranked.filter(|key| listed.contains(key)).collect();
        assert_eq!(refreshed.asked(None), expected, "the order is that of the shares");
    }
}

pub(crate) mod random;
#[cfg(test)]
mod tests;
