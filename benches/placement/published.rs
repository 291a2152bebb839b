//! What the authors of the trace measured on it.

/// Weng et al., "Beware of Fragmentation", USENIX ATC 2023: the part of all gpus that stays unallocated, in percent, once as many
/// gpus were asked for as there are, and at the end, when 130 % of them were.
///
/// Means of the ten seeds in `experiments/analysis/expected_results/analysis_allo_discrete.csv`, workload
/// `openb_pod_list_default`, of hkust-adsl/kubernetes-scheduler-simulator at commit 8f3d6417: the results behind figure 9(a).
pub(crate) const UNALLOCATED: [(&str, f64, f64); 6] = [
    ("Random", 13.70, 12.53),
    ("DotProd", 9.38, 9.15),
    ("Clustering", 8.35, 8.12),
    ("Packing", 8.22, 8.00),
    ("BestFit", 7.14, 6.92),
    ("FGD", 4.77, 4.61),
];
