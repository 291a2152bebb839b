//! Mesos' `LargeAndSmallQuota` and `NonQuotaVsQuota`.

use apportion_allocator::{Allocator, Quota, SorterKind};
use apportion_benches::cpu_timed;
use apportion_types::{Resources, Role};

use crate::{
    Rows,
    cluster::{Cluster, allocator, resources},
};

const AGENT: &str = "cpus:2;mem:2048;disk:2048";
/// Half an agent; two agents.
const SMALL: &str = "cpus:1;mem:1024;disk:1024";
const LARGE: &str = "cpus:4;mem:4096;disk:4096";

/// The names of the three brackets of one case.
struct Case {
    add: &'static str,
    first: &'static str,
    empty: &'static str,
}

const SMALL_AND_LARGE: Case =
    Case { add: "G quotas: add frameworks", first: "G quotas: first cycle", empty: "G quotas: next cycle" };
const DRAWN: Case = Case {
    add: "G quotas, random: add frameworks",
    first: "G quotas, random: first cycle",
    empty: "G quotas, random: next cycle",
};
const WITHOUT: Case = Case {
    add: "G no quota: add frameworks",
    first: "G no quota: first cycle",
    empty: "G no quota: next cycle",
};
const WITH: Case = Case {
    add: "G quota for each: add frameworks",
    first: "G quota for each: first cycle",
    empty: "G quota for each: next cycle",
};

pub(crate) fn all(quick: bool, rows: &mut Rows) {
    for hundreds in if quick { &[1, 10][..] } else { &[1, 10, 100][..] } {
        let (small, large) = (25 * hundreds, 5 * hundreds);
        for (case, sorter) in [(SMALL_AND_LARGE, SorterKind::Drf), (DRAWN, SorterKind::Random { seed: 1 })] {
            let quotas = vec![SMALL; small].into_iter().chain(vec![LARGE; large]).map(Some).collect();
            measure(&case, sorter, small + large, 1, quotas, rows);
        }
    }
    for roles in [10, 100, 1_000] {
        measure(&WITHOUT, SorterKind::Drf, 2 * roles, 2, vec![None; roles], rows);
        measure(&WITH, SorterKind::Drf, 2 * roles, 2, vec![Some(LARGE); roles], rows);
    }
}

/// G: frameworks added, so many to a role; the cycle that hands everything out; the next, that finds nothing. A quota is guarantee and
/// limit, and set outside.
fn measure(
    case: &Case,
    sorter: SorterKind,
    agents: usize,
    per_role: usize,
    quotas: Vec<Option<&str>>,
    rows: &mut Rows,
) {
    let size = (agents, quotas.len() * per_role);
    let mut c = Cluster::new(size.0, size.1);
    c.allocator = allocator(sorter);
    let roles: Vec<Role> =
        (0..quotas.len()).map(|n| format!("role{n:05}").parse().expect("it is a role")).collect();
    for (role, quota) in roles.iter().zip(&quotas) {
        let Some(quota) = quota else { continue };
        let quota = Quota { guarantee: resources(quota), limit: Some(quota.parse().expect("it is a limit")) };
        c.allocator.set_quota(role, quota);
    }
    let (took, ()) = cpu_timed(|| {
        for framework in 0..size.1 {
            c.add_framework(framework, &roles[framework / per_role]);
        }
    });
    rows.note(case.add, size, 0, took);
    let total: Resources = resources(AGENT);
    c.add_agents(&total, None);
    let (took, offers) = c.cycle();
    rows.note(case.first, size, offers.len(), took);
    // What a limit leaves over is looked at once more.
    c.cycle();
    rows.note(case.empty, size, 0, c.empty_cycle());
}
